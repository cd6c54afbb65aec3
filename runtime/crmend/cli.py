"""Command line: ``crmend clean | detect | models | demo``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from crmend._cards import QUALITIES
from crmend._cli_clean import run_clean, run_detect
from crmend._cli_demo import run_demo
from crmend._cli_models import run_info, run_list, run_verify
from crmend._cli_options import (
    memory,
    plane,
    positive_count,
    positive_number,
    probability,
)
from crmend.errors import (
    CrmendError,
    CrmendWarning,
    DeviceError,
    FileFormatError,
    InvalidInputError,
    MissingFileError,
    MissingRuntimeError,
    ModelError,
    OutputError,
    UnknownDetectorError,
    UnknownInstrumentError,
)

UNEXPECTED, INTERRUPTED = 1, 130

EXIT_CODES: dict[type[Exception], int] = {
    MissingFileError: 3,
    FileFormatError: 3,
    InvalidInputError: 3,
    UnknownInstrumentError: 4,
    UnknownDetectorError: 4,
    ModelError: 4,
    OutputError: 5,
    MissingRuntimeError: 6,
    DeviceError: 6,
}
"""Exit code of each error; 0 is success and 2 (argparse's) a wrong command line."""

_EPILOG = """\
images and masks:
  Images stay in the file's unit (CSST Level 1: e-/s). Only cosmic-ray pixels change.
  Masks: set = cosmic ray. In FLAG the bit is 2^20 = 1048576 (HST: 4096).
  Probabilities run from 0 to 1; --threshold is the smallest of a cosmic ray.

exit codes:
  0  done
  1  unexpected error (--debug shows the traceback)
  2  wrong command line
  3  input: file missing, truncated, not FITS, no image, unusable pixels or units
  4  unknown instrument or detector; model pack unknown, damaged or swapped
  5  output: exists, is the input, folder read-only, disk full
  6  onnxruntime missing, or device not granted

Results go to stdout, messages to stderr. --json prints one JSON object, on success or
failure, and nothing else on stdout.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str, optional
        As on the command line, without the program's name.

    Returns
    -------
    int
        Exit code, see the epilog of ``crmend --help``.
    """
    options = _parser().parse_args(arguments)
    if threading.current_thread() is not threading.main_thread():
        return _run(options)
    # A pipeline that ends a job with SIGTERM leaves no temporary file behind either.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(options: argparse.Namespace) -> int:
    """Run the command; print its answer or its error; return the exit code."""
    messages: list[str] = []
    try:
        with _short_warnings(messages, debug=options.debug):
            answer = options.run(options)
    except KeyboardInterrupt:
        return _fail(options, "interrupted", "KeyboardInterrupt", INTERRUPTED)
    except CrmendError as error:
        return _fail(options, str(error), type(error).__name__, _exit_code(error))
    except MemoryError as error:
        text = f"out of memory ({error}); try --memory or --threads 1"
        return _fail(options, text, "MemoryError", UNEXPECTED)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error}; run again with --debug, report it"
        return _fail(options, text, type(error).__name__, UNEXPECTED)
    if options.json:
        print(json.dumps(answer.as_dict() | {"warnings": messages}, allow_nan=False))
    else:
        print(answer.as_text())
    return int(answer.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _exit_code(error: CrmendError) -> int:
    """Return the exit code of the first class that fits."""
    return next(
        (code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), UNEXPECTED
    )


def _fail(options: argparse.Namespace, text: str, kind: str, code: int) -> int:
    """Report an error in one line, and to machines as JSON; return the exit code."""
    line = " ".join(text.split())
    if options.debug:
        traceback.print_exc()
    print(f"crmend: {line}", file=sys.stderr)
    if options.json:
        print(json.dumps({"error": {"type": kind, "message": line, "exit_code": code}}))
    return code


@contextmanager
def _short_warnings(messages: list[str], *, debug: bool) -> Iterator[None]:
    """Print each `CrmendWarning` once, as one line; other warnings only for --debug."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        line = " ".join(str(message).split())
        if line in messages:
            return
        messages.append(line)
        print(f"crmend: warning: {line}", file=sys.stderr)

    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", CrmendWarning)
        warnings.showwarning = show
        yield


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    command.set_defaults(run=run)
    return command


def _add_clean(commands: Any) -> None:
    command = _command(
        commands, "clean", "find and mend the cosmic rays of an exposure", run_clean
    )
    _add_input(command, "corrected file (default: FRAME_crmend.fits beside the input)")
    command.add_argument(
        "--catalog",
        metavar="CAT.fits",
        help="sources from this FITS table instead of finding them",
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
        "frame", metavar="FRAME.fits", help="exposure: .fits, .fits.fz, .fits.gz"
    )
    command.add_argument("-o", "--output", metavar="OUT.fits", help=output_help)
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
        "--gain", type=positive_number, metavar="G", help="e-/ADU, if the header lacks it"
    )
    command.add_argument(
        "--exposure-time",
        type=positive_number,
        metavar="S",
        help="seconds, if the header lacks them (CR rate, images per second)",
    )
    command.add_argument(
        "--plane",
        type=plane,
        action="append",
        default=[],
        metavar="KIND=NAME",
        help="EXTNAME or HDU number of the image, error, weight, variance or flag plane, such "
        "as flag=MASK or image=2; may be repeated (default: by the profile)",
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
        help="smallest probability of a cosmic ray, 0 to 1 (default: the model card's)",
    )
    limit.add_argument(
        "--target-precision",
        type=probability,
        metavar="P",
        help="choose the threshold so that this share of the flagged pixels holds cosmic rays, "
        "by the curve on the model card",
    )
    command.add_argument(
        "--quality",
        choices=tuple(QUALITIES),
        help="network that finds cosmic rays; fast takes a fraction of the time "
        "(default: the model card's)",
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
        "--threads", type=positive_count, metavar="N", help="CPU threads (default: all)"
    )


def _add_models(commands: Any) -> None:
    models = commands.add_parser("models", help="list, describe or verify the model packs")
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
        "--out", metavar="FOLDER", default="crmend_demo", help="default: ./crmend_demo"
    )
    _add_device(command)


if __name__ == "__main__":
    sys.exit(main())
