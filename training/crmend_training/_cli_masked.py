"""Options for exposures of any instrument with masks: ``--masks`` and how they are read."""

from __future__ import annotations

import argparse
from pathlib import Path

from crmend._cli_options import contradiction, flag_bits, plane, positive_number
from crmend_training.datasets.masked import Masked, Reading, find_masked


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what says that exposures come with masks, and how they are read."""
    group = command.add_argument_group(
        "exposures of any instrument",
        "With --masks the folder holds exposures NAME.fits (or .npy) of any instrument. The "
        "mask of each is NAME_crtruth.fits (or .npy) in the folder of masks, as `crmend-train "
        "truth` writes it, else the plane CRTRUTH of the exposure itself: above 0 = cosmic "
        "ray. Pixels of a plane UNSURE (or of NAME_unsure.npy) take no part.",
    )
    group.add_argument(
        "--masks", metavar="FOLDER", help="folder of masks; may be that of the exposures"
    )
    add_reading(group, "by the header; 'generic' reads any 2-D image")
    group.add_argument(
        "--gain", type=positive_number, metavar="G", help="e-/ADU, instead of the header's"
    )
    group.add_argument(
        "--saturation",
        type=positive_number,
        metavar="LEVEL",
        help="in the files' unit, instead of the header's; saturated pixels take no part",
    )


def add_reading(group: argparse._ActionsContainer, default: str) -> None:
    """Add ``--instrument``, whose help names the default, ``--plane`` and ``--bad-flags``."""
    group.add_argument(
        "--instrument",
        metavar="NAME",
        help=f"profile, or the path of a .toml of your own (default: {default})",
    )
    group.add_argument(
        "--plane",
        type=plane,
        action="append",
        default=[],
        metavar="KIND=NAME",
        help="as in crmend clean, such as flag=MASK or image=2; may be repeated",
    )
    group.add_argument(
        "--bad-flags",
        type=flag_bits,
        metavar="BITS",
        help="bits of the flag plane that mark bad pixels, such as 1,4,64, or any "
        "(default: as the profile says; generic: none); bad pixels take no part",
    )


def find(folder: str, options: argparse.Namespace) -> tuple[list[Masked], Reading]:
    """Return the exposures with masks that the options name, and how they are read."""
    reading = Reading(
        options.instrument, dict(options.plane), options.gain, options.bad_flags,
        options.saturation,
    )  # fmt: skip
    return find_masked(Path(folder), Path(options.masks), reading), reading


def check(options: argparse.Namespace) -> None:
    """Refuse what only exposures with masks use, where there are none.

    Raises
    ------
    ValueError
        Such an option was given without ``--masks``, or a plane twice.
    """
    if twice := contradiction(options):
        raise ValueError(twice)
    given = {
        "--instrument": options.instrument,
        "--plane": options.plane,
        "--gain": options.gain,
        "--bad-flags": options.bad_flags,
        "--saturation": options.saturation,
    }
    for name, value in given.items():
        if value and options.masks is None:
            raise ValueError(
                f"{name} is for exposures of any instrument and needs --masks FOLDER; without "
                "it, frames are CSST pairs whose headers say everything"
            )
