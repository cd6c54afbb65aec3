"""The arguments of ``crmend clean | detect | models | demo``."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from typing import Any, NoReturn

from crmend._cards import QUALITIES
from crmend._cli_clean import run_clean, run_detect
from crmend._cli_demo import run_demo
from crmend._cli_models import run_info, run_list, run_verify
from crmend._cli_options import (
    contradiction,
    flag_bits,
    memory,
    plane,
    positive_number,
    probability,
    thread_count,
)
from crmend._cli_output import CommandLineError
from crmend._views import VIEWS

_EPILOG = """\
images and masks:
  Images stay in the file's unit (CSST Level 1: e-/s). Only cosmic-ray pixels change.
  Masks: set = cosmic ray. In FLAG the bit is 2^20 = 1048576 (HST: 4096, but STIS: 8192;
  DECam: 32).
  Probabilities run from 0 to 1; --threshold is the smallest of a cosmic ray.

exit codes:
  0  done
  1  unexpected error (--debug shows the traceback), or out of memory (--memory, --threads 1)
  2  wrong command line
  3  input: file missing, truncated, not FITS, no image, unusable pixels or units
  4  unknown instrument or detector; model pack unknown, damaged or swapped
  5  output: exists, is the input, folder read-only, disk full
  6  onnxruntime missing, or device not granted
  129, 130, 143  stopped by SIGHUP (closed terminal), Ctrl-C (SIGINT) or SIGTERM; no
     half-written file is left
  141  done, but nobody reads stdout (a closed pipe)

environment:
  CRMEND_MODELS  folders with more model packs, searched first (separated as in PATH)
  CRMEND_CACHE   folder for compiled code (default: ~/.cache/crmend), or off
  NUMBA_NUM_THREADS must be a whole number >= 1 where it is set, else exit code 3

Results go to stdout, messages to stderr. --json prints one JSON object, on success or
failure, and nothing else on stdout.

several frames:
  A line of text (or one JSON object) for each as soon as it is done. What fails is reported,
  the others are done all the same; the exit code is that of the first that failed, but
  that of a signal or a closed pipe (above 128) where one ended it all.
"""


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with."""

    def error(self, message: str) -> NoReturn:
        if sys.stderr is not None:
            self.print_usage(sys.stderr)
        raise CommandLineError(f"{message}; see {self.prog} --help")


def parse(words: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Raises
    ------
    CommandLineError
        It is wrong; the usage has been printed to stderr.
    SystemExit
        The help or the version was asked for, and printed to stdout.
    """
    # argparse would name unknown options with the usage of all commands, not of this one.
    options, unknown = _parser().parse_known_args(words)
    command: argparse.ArgumentParser = options.command
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    if problem := contradiction(options):
        command.error(problem)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="crmend",
        description="Find and mend cosmic rays in single exposures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"crmend {version('crmend')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_clean(commands)
    _add_detect(commands)
    _add_models(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    """Add a command with the options that every command has."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="print one JSON object instead")
    command.add_argument(
        "--debug", action="store_true", help="show tracebacks and all warnings"
    )
    command.set_defaults(run=run, command=command)
    return command


def _add_clean(commands: Any) -> None:
    command = _command(
        commands, "clean", "find and mend the cosmic rays of an exposure", run_clean
    )
    _add_input(command, "corrected file (default: FRAME_crmend.fits beside the input)")
    command.add_argument(
        "--catalog",
        metavar="CAT.fits",
        help="sources from this FITS table instead of finding them: columns x and y (first "
        "pixel = 0), X_IMAGE and Y_IMAGE (= 1), or RA and DEC, or ALPHA_J2000 and "
        "DELTA_J2000 (needed with several chips), in the columns' unit, else degrees",
    )
    command.add_argument(
        "--quicklook", action="store_true", help="also draw before and after, OUT.png"
    )
    _add_running(command)


def _add_detect(commands: Any) -> None:
    command = _command(
        commands, "detect", "find cosmic rays and write the flag plane only", run_detect
    )
    _add_input(
        command,
        "file with the FLAG plane (default: FRAME_flag.fits beside the input; none with "
        "--update-flags)",
    )
    _add_running(command)


def _add_input(command: argparse.ArgumentParser, output_help: str) -> None:
    command.add_argument(
        "frames",
        metavar="FRAME.fits",
        nargs="+",
        help="exposure: .fits, .fits.fz, .fits.gz; of several each is treated by itself",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT.fits",
        help=f"{output_help}; or a folder that exists, for results of these names",
    )
    command.add_argument("--overwrite", action="store_true", help="replace results that exist")
    command.add_argument(
        "--update-flags",
        action="store_true",
        help="also OR the cosmic-ray bit into the input's own flag plane",
    )
    command.add_argument(
        "--save-probability", action="store_true", help="also write the plane CRPROB (0 to 1)"
    )
    command.add_argument(
        "--instrument",
        metavar="NAME",
        help="profile, or the path of a .toml of your own "
        "(default: by the header; 'generic' reads any 2-D image)",
    )
    command.add_argument(
        "--detector", metavar="N", help="detector, such as 8 (default: by the header)"
    )
    command.add_argument(
        "--gain", type=positive_number, metavar="G", help="e-/ADU, instead of the header's"
    )
    command.add_argument(
        "--exposure-time",
        type=positive_number,
        metavar="S",
        help="seconds, instead of the header's (CR rate, images per second)",
    )
    command.add_argument(
        "--saturation",
        type=positive_number,
        metavar="LEVEL",
        help="in the image's unit; pixels at or above it never become cosmic rays (default: by "
        "the header, or the image's maximum where stars have flat tops)",
    )
    command.add_argument(
        "--plane",
        type=plane,
        action="append",
        default=[],
        metavar="KIND=NAME",
        help="EXTNAME or HDU number of the image, error, weight, variance or flag plane, such "
        "as flag=MASK or image=2; flag=none leaves that plane out; may be repeated (default: "
        "by the profile)",
    )
    command.add_argument(
        "--bad-flags",
        type=flag_bits,
        metavar="BITS",
        help="bits of the flag plane that mark bad pixels, such as 1,4,64, or any "
        "(default: the profile's)",
    )
    command.add_argument(
        "--model",
        metavar="PACK",
        help="model pack, or PACK/DETECTOR (default: the instrument's)",
    )


def _add_running(command: argparse.ArgumentParser) -> None:
    limit = command.add_mutually_exclusive_group()
    limit.add_argument(
        "--threshold",
        type=probability,
        metavar="T",
        help="smallest probability of a cosmic-ray pixel, above 0 and below 1 (default: "
        "the model card's)",
    )
    limit.add_argument(
        "--target-precision",
        type=probability,
        metavar="P",
        help="choose the threshold so that this share of the flagged pixels holds cosmic rays, "
        "by the curve on the model card",
    )
    command.add_argument(
        "--seed-threshold",
        type=probability,
        metavar="S",
        help="smallest probability of the best of the pixels that touch, T to 1 (default: "
        "the model card's, none with --threshold or --target-precision)",
    )
    command.add_argument(
        "--quality",
        choices=tuple(QUALITIES),
        help="network that finds cosmic rays; fast takes less time per view "
        "(default: the model card's)",
    )
    command.add_argument(
        "--views",
        type=int,
        choices=VIEWS,
        help="see the frame so many times, turned and mirrored, and average: more find better "
        "and take as many times as long (default: the model card's)",
    )
    command.add_argument(
        "--star-cores",
        action=argparse.BooleanOptionalAction,
        help="judge the cores of bright stars by the PSF of the frame's own stars, lines along "
        "rows and columns, and rims beside cosmic rays (default: yes, but not with deepCR's "
        "networks)",
    )
    _add_device(command)
    command.add_argument(
        "--memory", type=memory, metavar="SIZE", help="aim to stay below, such as 2GB"
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes CUDA where it works (default: auto)",
    )
    command.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        help="CPU threads, at most one per CPU (default: all)",
    )


def _add_models(commands: Any) -> None:
    text = "list, describe or verify the model packs"
    models = commands.add_parser("models", help=text, description=f"{text.capitalize()}.")
    actions = models.add_subparsers(required=True, metavar="list|info|verify")
    _command(actions, "list", "list the model packs", run_list)
    info = _command(actions, "info", "describe one model", run_info)
    info.add_argument("model", metavar="PACK[/DETECTOR]", help="such as csst_msc/08 or generic")
    verify = _command(
        actions,
        "verify",
        "check hashes, and that stored outputs are reproduced here",
        run_verify,
    )
    verify.add_argument(
        "models", nargs="*", metavar="PACK[/DETECTOR]", help="default: every pack"
    )
    _add_device(verify)


def _add_demo(commands: Any) -> None:
    command = _command(
        commands, "demo", "clean the bundled frame and draw the result", run_demo
    )
    command.add_argument(
        "--out",
        metavar="FOLDER",
        default="crmend_demo",
        help="default: ./crmend_demo; the results of an earlier demo there are replaced",
    )
    _add_device(command)
