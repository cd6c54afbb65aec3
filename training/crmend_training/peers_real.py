"""Real exposures of any folder, with truth from their own planes or from one another."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import crmend
from crmend._normalise import measure_scale
from crmend.errors import CrmendError, CrmendWarning
from crmend.exposure import Exposure, list_extvers
from crmend.flags import has_flag
from crmend_training import datasets
from crmend_training.classical_fills import prepared
from crmend_training.datasets import Masked, masked
from crmend_training.datasets.multi_exposure import compare_exposures
from crmend_training.evaluate_real import INSTRUMENTS, Instrument, RealFrame, read_instrument

READ_NOISE = 5.0
"""Assumed where the header has none of `_READ_NOISE` [e-]."""

FWHM = 3.0
"""Of a star, assumed for instruments that `evaluate_real` does not know [px]."""

_READ_NOISE = ("RDNOISE", "READNOIS", "RON", "READNSEA")
_GAIN = ("GAIN", "EGAIN", "CCDGAIN", "ATODGAIN", "GAINA")


def real_sets(folder: Path) -> Iterator[tuple[Instrument, list[RealFrame], str]]:
    """Yield instrument, exposures and where the truth is from, or why there is none.

    First the instruments that `evaluate_real` knows, then every other folder of FITS files:
    those with a plane ``CRTRUTH`` or a file ``NAME_crtruth.fits`` beside them
    (`datasets.masked`), those whose flag plane holds cosmic rays, and three or more exposures
    of one shape, which are compared with one another.  Every chip of a file is an exposure.
    The list of exposures is empty where there is no truth.
    """
    known: set[Path] = set()
    for instrument in INSTRUMENTS:
        paths = set(Path(folder).glob(instrument.pattern))
        if paths:
            known |= paths
            yield instrument, read_instrument(folder, instrument), "CRTRUTH"
    rest = [path for path in Path(folder).rglob("*.fits*") if path not in known]
    rest = sorted(filter(masked.is_exposure, rest), key=lambda path: (path.parent, path.name))
    for parent, paths in itertools.groupby(rest, key=lambda path: path.parent):
        yield from _sets_of(list(paths), str(parent.relative_to(folder)))


def _sets_of(paths: list[Path], name: str) -> Iterator[tuple[Instrument, list[RealFrame], str]]:
    """Yield what the unknown files of one folder give, chip by chip."""
    exposures: dict[Masked, Exposure] = {}
    marked: dict[Masked, Exposure] = {}
    for path in paths:
        try:
            mask, extvers = masked.find_mask(path, path.parent), _extvers_of(path)
            for chip in range(1, len(extvers) + 1):
                one = Masked(path, mask or path, chip, extvers)
                (exposures if mask is None else marked)[one] = _read(one)
        except (CrmendError, OSError, ValueError) as error:
            yield _instrument(path.name, None), [], f"{path.name}: {error}"
    frames = []
    for one, exposure in marked.items():
        try:
            frames.append(_marked_frame(one, exposure))
        except ValueError as error:
            yield _instrument(one.name, None), [], str(error)
    if frames:
        first = next(iter(marked.items()))
        yield _instrument(name, *first), [f for f in frames if f is not None], "CRTRUTH"
    for one, exposure in list(exposures.items()):
        if _flagged(exposure) is not None:
            frame = _flagged_frame(one, exposure)
            label = f"{one.name}, as its pipeline flags it"
            why = "flag plane: what a pipeline found, which may be little of what is there"
            yield _instrument(label, one, exposure), [frame], why
            del exposures[one]
    yield from _compared(exposures, name)


def _compared(
    exposures: dict[Masked, Exposure], name: str
) -> Iterator[tuple[Instrument, list[RealFrame], str]]:
    """Yield exposures of one shape compared with one another; what cannot be is said."""
    # Chips of one file show different parts of the sky.
    kinds = sorted({(one.image.shape, key.chip) for key, one in exposures.items()})
    for shape, chip in kinds:
        own = {
            key: one
            for key, one in exposures.items()
            if (one.image.shape, key.chip) == (shape, chip)
        }
        first = next(iter(own))
        label = f"{name}, {shape[0]}×{shape[1]}" + (f", chip {chip}" if chip > 1 else "")
        if len(own) < 3:
            why = f"{len(own)} exposure(s) without truth; three of one field would give it"
            yield _instrument(label, None), [], why
            continue
        try:
            frames = _compare(own)
        except (CrmendError, ValueError) as error:
            yield _instrument(label, None), [], f"{type(error).__name__}: {error}"
            continue
        yield _instrument(label, first, own[first]), frames, f"{len(own)} exposures compared"


def _extvers_of(path: Path) -> tuple[int, ...]:
    """Return the EXTVER of a file's chips, by the instrument that it names or by any."""
    try:
        return list_extvers(path)
    except CrmendError:
        return list_extvers(path, instrument="generic")


def _read(one: Masked) -> Exposure:
    """Read a chip by the instrument that the file names, or else by any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrmendWarning)
        try:
            return crmend.read_exposure(one.exposure, extver=one.chip)
        except CrmendError:
            return datasets.read_any(one.exposure, extver=one.chip)


def _marked_frame(one: Masked, exposure: Exposure) -> RealFrame | None:
    """Return an exposure with its mask; None where that fits nothing, or says nothing."""
    truth, unsure = masked.read_mask(one)
    unsure = np.zeros(truth.shape, bool) if unsure is None else unsure
    if truth.shape != exposure.image.shape or unsure.all():
        return None
    return _frame(one, exposure, truth, unsure)


def _flagged(exposure: Exposure) -> NDArray[np.bool_] | None:
    """Return the pixels that the flag plane calls cosmic rays, None where there is none."""
    if exposure.flag is None or exposure.instrument.name == "generic":
        return None
    mask = has_flag(exposure.flag, exposure.instrument.cr_bit)
    return mask if mask.any() else None


def _flagged_frame(one: Masked, exposure: Exposure) -> RealFrame:
    truth = _flagged(exposure)
    assert truth is not None
    return _frame(one, exposure, truth, np.zeros(truth.shape, bool))


def _compare(exposures: dict[Masked, Exposure]) -> list[RealFrame]:
    """Return exposures of one field with the truth that they give together."""
    images = [one.image for one in exposures.values()]
    bad = [one.invalid | one.saturated for one in exposures.values()]
    found = compare_exposures(images, bad)
    return [
        _frame(key, exposure, one.mask, one.unsure & ~one.mask)
        for (key, exposure), one in zip(exposures.items(), found, strict=True)
    ]


def _frame(
    one: Masked, exposure: Exposure, truth: NDArray[np.bool_], unsure: NDArray[np.bool_]
) -> RealFrame:
    gain = np.float32(exposure.electrons_per_unit or 1.0)
    image = np.ascontiguousarray(exposure.image * gain)
    invalid, saturated = exposure.invalid, exposure.saturated
    read_noise = exposure.read_noise or _first(exposure.header, _READ_NOISE) or READ_NOISE
    image -= np.float32(bias_of(image, invalid | saturated | truth, read_noise))
    filled = prepared(image, invalid, float(np.nanmedian(image)))
    ignore = invalid | saturated | unsure
    return RealFrame(one.name, image, filled, invalid, saturated, truth, ignore)


def bias_of(
    image: NDArray[np.float32], excluded: NDArray[np.bool_], read_noise: float
) -> float:
    """Return the bias level that is still in an image [e-].

    Where the sky's noise is less than half of what its level would make as light, in
    variance, the rest of the level is bias: programs that reckon with photons would take
    the image for far noisier than it is.  0 elsewhere.

    Parameters
    ----------
    image : (ny, nx) float32 array
        [e-]
    excluded : (ny, nx) bool array
        True = bad, saturated or a cosmic ray.
    read_noise : float
        [e-]
    """
    scale = measure_scale(image, excluded | ~np.isfinite(image))
    light = max(scale.noise**2 - read_noise**2, 0.0)
    if scale.noise**2 >= 0.5 * (max(scale.background, 0.0) + read_noise**2):
        return 0.0
    return float(scale.background - light)


def _instrument(name: str, one: Masked | None, exposure: Exposure | None = None) -> Instrument:
    """Return what a header says of an instrument; images are in electrons already."""
    header: Sequence | fits.Header = fits.Header()
    if one is not None:
        exposure = exposure or _read(one)
        header = exposure.header
    noise = (exposure.read_noise if exposure else None) or _first(header, _READ_NOISE)
    adu = _first(header, _GAIN) or 1.0
    full = (exposure.saturation if exposure else None) or np.inf
    return Instrument(name, "", 1.0, 0.0, noise or READ_NOISE, adu, full, FWHM, False)


def _first(header, names: Sequence[str]) -> float | None:
    """Return the first of these keywords that holds a positive number."""
    for name in names:
        value = header.get(name)
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None
