"""``crmend-train truth``: masks of cosmic rays from exposures of one field."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from crmend._cli_options import contradiction, positive_number
from crmend.errors import CrmendWarning, UntrainedWarning
from crmend.exposure import Exposure, count_extvers, list_extvers, read_exposure
from crmend_training import _cli_masked, datasets
from crmend_training._results import add_overwrite, refuse_existing, whole_file

if TYPE_CHECKING:
    from crmend_training.datasets.multi_exposure import Comparison

_ODD, _ODD_PIXELS = 2.5, 100
"""An exposure that has so many times, and so many more, CR pixels than others is odd: what
is turned by 180° or mirrored has 3 to 15 times as many in simulated fields of 25 stars."""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``truth`` to the parser."""
    command = commands.add_parser("truth", help="CR truth from exposures of one field")
    command.add_argument("exposures", nargs="+", help="three or more FITS files")
    _cli_masked.add_reading(command, "generic, which reads any 2-D image")
    command.add_argument(
        "--gain",
        type=positive_number,
        metavar="G",
        help="e- per unit of the image, times the seconds where it is per second "
        "(default 1, whatever the header says)",
    )
    command.add_argument(
        "--saturation",
        type=positive_number,
        metavar="LEVEL",
        help="in the files' unit; pixels at or above it, and what touches them, are unsure "
        "(default: by the header, if it says)",
    )
    command.add_argument("--out", required=True, help="folder for the masks")
    add_overwrite(command)
    command.set_defaults(run=_truth)


def _truth(options: argparse.Namespace) -> None:
    from crmend_training.datasets.multi_exposure import (
        MultiExposureSettings,
        compare_exposures,
    )

    if twice := contradiction(options):
        raise ValueError(twice)
    paths = [Path(path) for path in options.exposures]
    stems = [datasets.stem_of(path) for path in paths]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(
            f"several exposures are named {', '.join(twice)}, and so would their masks be; "
            "expected different names"
        )
    targets = [Path(options.out) / f"{stem}_crtruth.fits" for stem in stems]
    for target in targets:
        refuse_existing(target, options)
    chosen = {"instrument": options.instrument or "generic", "planes": dict(options.plane)}
    chips = {count_extvers(path, **chosen) for path in paths}
    if len(chips) > 1:
        raise ValueError(f"the exposures hold {sorted(chips)} images; expected as many in each")
    reading = chosen | {"gain": options.gain, "bad_flags": options.bad_flags}
    limit = np.inf if options.saturation is None else options.saturation
    settings = MultiExposureSettings(gain=options.gain or 1.0)
    masks = []
    for chip in range(1, chips.pop() + 1):
        exposures = [_read(path, extver=chip, **reading) for path in paths]
        masks.append(
            compare_exposures(
                [e.image for e in exposures],
                [e.invalid | e.saturated | (e.image >= limit) for e in exposures],
                settings,
            )
        )
    counts: list[int] = []
    for target, path, own in zip(targets, paths, zip(*masks, strict=True), strict=True):
        _write_truth(target, list_extvers(path, **chosen), own)
        counts.append(sum(int(one.mask.sum()) for one in own))
        print(f"{target}: {counts[-1]} CR pixels")
    _warn_of_odd(paths, counts)


def _warn_of_odd(paths: Sequence[Path], counts: Sequence[int]) -> None:
    """Warn of an exposure with far more or far fewer CR pixels: it may not be alike."""
    for number, (path, count) in enumerate(zip(paths, counts, strict=True)):
        others = float(np.median([*counts[:number], *counts[number + 1 :]]))
        if count > max(_ODD * others, others + _ODD_PIXELS):
            reason = (
                "longer: is it of another field, turned or mirrored, or are there rings of "
                "false pixels round saturated stars? Look at its mask"
            )
        elif others > max(_ODD * count, count + _ODD_PIXELS):
            reason = (
                "shorter: is it far noisier than the others, or of another field? Those may "
                "then have false pixels: look at their masks"
            )
        else:
            continue
        print(
            f"warning: {path} has {count} CR pixels and the others have {others:g}; expected "
            f"about as many, unless it was exposed much {reason}, and make all masks again "
            "without an odd exposure",
            file=sys.stderr,
        )


def _read(path: Path, **reading: Any) -> Exposure:
    """Read a chip; whether a network suits the instrument does not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CrmendWarning)
        warnings.simplefilter("ignore", UntrainedWarning)
        return read_exposure(path, **reading)


def _write_truth(path: Path, extvers: Sequence[int], chips: Sequence[Comparison]) -> None:
    """Write the masks of an exposure's chips, with the EXTVER of each."""
    hdus = [fits.PrimaryHDU()]
    for ver, one in zip(extvers, chips, strict=True):
        hdus += [
            fits.ImageHDU(one.mask.astype(np.uint8), name="CRTRUTH", ver=ver),
            fits.ImageHDU(one.unsure.astype(np.uint8), name="UNSURE", ver=ver),
            fits.ImageHDU(one.charge.astype(np.float32), name="CHARGE", ver=ver),
        ]
    with whole_file(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)
