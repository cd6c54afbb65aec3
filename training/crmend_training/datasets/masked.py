"""Exposures of any instrument, with masks of their cosmic rays, as frames for detection.

The rule of names: the mask of ``NAME.fits`` is ``NAME_crtruth.fits`` in the folder of masks, as
`crmend-train truth` writes it: a plane ``CRTRUTH``, and one ``UNSURE`` where it is not known
whether a pixel is a cosmic ray; without planes of these names the first image is the mask.
Else the planes ``CRTRUTH`` and ``UNSURE`` of the exposure itself count.  Files of several chips
hold one plane for each, by EXTVER.  Arrays go by the same rule: ``NAME.npy``,
``NAME_crtruth.npy`` and, if there is one, ``NAME_unsure.npy``.  Any of `ENDINGS` will do.
"""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend._fits import check_complete, open_fits
from crmend._implied import Usable, judge_exposure, judge_pixels
from crmend.errors import CrmendWarning, UntrainedWarning
from crmend.exposure import list_images, read_exposure
from crmend_training.datasets.fields import Place, place_of
from crmend_training.datasets.frames import Frame, make_frame
from crmend_training.datasets.mask_places import doubtful_share

ENDINGS = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".npy")
"""Endings of exposures and masks."""

TRUTH, UNSURE = "CRTRUTH", "UNSURE"
"""Planes of a mask; in lower case the ends of the names of files."""

LARGEST_SHARE = 0.5
"""A mask that marks more of its pixels than this is taken for an inverted one (assumed)."""


@dataclass(frozen=True)
class Reading:
    """How exposures are read; as the options of ``crmend clean``.

    Attributes
    ----------
    instrument : str or None
        Profile, or path of one; None = by the header.
    planes : mapping
        Kind of plane to its EXTNAME or HDU number; None = left out.
    gain : float or None
        [e-/ADU], where a profile asks for it and the header lacks it.
    bad_flags : int, "any" or None
        Bits of the flag plane that mark bad pixels; None = the profile's.
    saturation : float or None
        In the image's unit, instead of the header's.
    """

    instrument: str | None = None
    planes: Mapping[str, str | None] = field(default_factory=dict)
    gain: float | None = None
    bad_flags: int | str | None = None
    saturation: float | None = None


@dataclass(frozen=True)
class Masked:
    """One chip of an exposure, and where its mask stands (the same file, or another).

    Attributes
    ----------
    exposure, mask : Path
    chip : int
        From 1.
    extvers : tuple of int
        EXTVER of every chip of the exposure.
    place : int
        Of the chip among those of the file as they follow one another, from 0.
    """

    exposure: Path
    mask: Path
    chip: int = 1
    extvers: tuple[int, ...] = (1,)
    place: int = 0

    @property
    def chips(self) -> int:
        """Return how many chips the exposure has."""
        return len(self.extvers)

    @property
    def name(self) -> str:
        """Return the exposure's name without ending, and the chip where there are several."""
        stem = stem_of(self.exposure)
        return stem if self.chips == 1 else f"{stem} chip {self.chip}"


def stem_of(path: Path) -> str:
    """Return a file's name without its ending."""
    ending = _ending(path)
    return path.name[: len(path.name) - len(ending)]


def find_masked(folder: Path, masks: Path, reading: Reading) -> list[Masked]:
    """Pair every exposure of a folder with its mask, chip by chip, sorted by name.

    Parameters
    ----------
    folder : Path
        Of the exposures; folders below it are not looked into.
    masks : Path
        Of the masks; it may be the same.
    reading : Reading

    Raises
    ------
    FileNotFoundError
        There is no exposure, or one has no mask.
    ValueError
        Two exposures have one name.
    crmend.errors.CrmendError
        An exposure cannot be read.
    """
    for one in (folder, masks):
        if not one.is_dir():
            raise FileNotFoundError(f"{one} is no folder; expected one with exposures or masks")
    paths = [path for path in sorted(folder.iterdir()) if is_exposure(path)]
    if not paths:
        raise FileNotFoundError(
            f"no exposure in {folder}; expected files that end in {', '.join(ENDINGS)}"
        )
    stems = [stem_of(path) for path in paths]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(
            f"several exposures in {folder} are named {', '.join(twice)}, and so share a mask; "
            "expected different names: is one a compressed copy? Keep one of them"
        )
    found = {path: find_mask(path, masks) for path in paths}
    if lonely := [path.name for path, mask in found.items() if mask is None]:
        wanted = f"{stem_of(Path(lonely[0]))}_{TRUTH.lower()}"
        raise FileNotFoundError(
            f"{len(lonely)} of the {len(paths)} exposures in {folder} have no mask of their "
            f"cosmic rays, such as {lonely[0]}; expected {wanted}.fits (or .npy) in {masks}, "
            f"or a plane {TRUTH} in the file. Make masks with `crmend-train truth`, or move "
            "these exposures elsewhere"
        )
    return [
        one
        for path, mask in found.items()
        if mask is not None
        for one in _chips(path, mask, reading)
    ]


def load_masked(one: Masked, reading: Reading) -> Frame:
    """Read an exposure with its mask, and normalise it exactly as the runtime does.

    Cosmic rays have infinite charge in the frame: a mask does not know it, and labels and
    curves ask only whether it is above a limit.

    Raises
    ------
    ValueError
        The mask does not fit the image, or cannot be a mask; flags of an array are asked for.
    crmend.errors.CrmendError
        The exposure cannot be read.

    Warns
    -----
    crmend.errors.CrmendWarning
        What `crmend.read_exposure` warns of, and `crmend.detect` of pixels that nobody named;
        not that no network was trained for the instrument.  That the mask seems not to lie on
        the exposure's cosmic rays.
    """
    with _named_warnings(one):
        if _ending(one.exposure) == ".npy":
            image, place = _load_array(one.exposure).astype(np.float32), Place()
            usable = _judge_array(image, one, reading)
        else:
            exposure = read_exposure(
                one.exposure, instrument=reading.instrument, extver=one.chip,
                gain=reading.gain, saturation=reading.saturation,
                planes=reading.planes, bad_flags=reading.bad_flags,
            )  # fmt: skip
            image, place = exposure.image, place_of(exposure.header, exposure.image.shape)
            usable = judge_exposure(exposure)
    invalid, saturated = usable.invalid, usable.excluded & ~usable.invalid
    mask, unsure = read_mask(one)
    for what, plane in (("mask", mask), ("plane of unsure pixels", unsure)):
        if plane is not None and plane.shape != image.shape:
            raise ValueError(
                f"{one.mask}: the {what} has shape {plane.shape}, {one.name} has "
                f"{image.shape}; expected the same. Make it for the exposure as it is, "
                "overscan included"
            )
    cr = np.where(mask, np.float32(np.inf), np.float32(0.0))
    made = make_frame(image, invalid, saturated, cr, one.name)
    frame = replace(made, unsure=unsure, place=place)
    _warn_of_place(frame, one)
    return frame


def _warn_of_place(frame: Frame, one: Masked) -> None:
    """Warn of a mask that marks what looks like the pixels around it."""
    share = doubtful_share(frame.image, (frame.cr > 0.0) & ~frame.ignore)
    if share is not None:
        warnings.warn(
            f"{one.name}: of the groups of pixels that {one.mask} marks {share:.0%} stand out "
            "of what is around them; expected nearly all. Is it shifted, mirrored or turned, "
            "or the mask of another exposure or chip?",
            CrmendWarning,
            stacklevel=3,
        )


@contextmanager
def _named_warnings(one: Masked) -> Iterator[None]:
    """Put the exposure's name before warnings that do not say it.

    Whether a network suits the instrument is what training is about to change.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CrmendWarning)
        warnings.simplefilter("ignore", UntrainedWarning)
        yield
    for warning in caught:
        text = str(warning.message)
        named = text if text.startswith(one.exposure.name) else f"{one.name}: {text}"
        warnings.warn(named, warning.category, stacklevel=2)


def _judge_array(image: NDArray[np.float32], one: Masked, reading: Reading) -> Usable:
    """Return which pixels of an array cannot be used."""
    if reading.bad_flags is not None:
        raise ValueError(
            f"{one.exposure} is an array and has no flag plane for bad_flags (--bad-flags); "
            "leave that out, and set bad pixels to NaN"
        )
    level = reading.saturation
    return judge_pixels(image, ~np.isfinite(image), None if level is None else image >= level)


def _ending(path: Path) -> str:
    name = path.name.lower()
    return max((end for end in ENDINGS if name.endswith(end)), key=len, default="")


def is_exposure(path: Path) -> bool:
    """Say whether a file may be an exposure: by its ending, and that it is no mask."""
    stem = stem_of(path).lower()
    ends = tuple(f"_{plane.lower()}" for plane in (TRUTH, UNSURE))
    return path.is_file() and _ending(path) != "" and not stem.endswith(ends)


def find_mask(exposure: Path, masks: Path) -> Path | None:
    """Return the file that holds the mask of an exposure, None where there is none."""
    if found := _companion(exposure, masks, TRUTH, ENDINGS):
        return found
    if _ending(exposure) == ".npy":
        return None
    with _open(exposure) as hdus:
        return exposure if TRUTH in hdus else None


def _companion(
    exposure: Path, folder: Path, plane: str, endings: tuple[str, ...]
) -> Path | None:
    """Return NAME_plane of an exposure NAME, by the first ending; all but NAME in any case."""
    stem = stem_of(exposure)
    for ending in endings:
        wanted = f"_{plane}{ending}".lower()
        path = folder / f"{stem}{wanted}"
        if path.is_file():
            return path
        for path in sorted(folder.glob(f"{glob.escape(stem)}_*")):
            if path.name[len(stem) :].lower() == wanted and path.is_file():
                return path
    return None


def _chips(path: Path, mask: Path, reading: Reading) -> list[Masked]:
    """Return every chip of an exposure with its mask."""
    if _ending(path) == ".npy":
        return [Masked(path, mask)]
    images = list_images(path, instrument=reading.instrument, planes=reading.planes)
    extvers = tuple(image.version for image in images)
    followed = sorted(image.index for image in images)
    return [
        Masked(path, mask, chip, extvers, followed.index(image.index))
        for chip, image in enumerate(images, start=1)
    ]


def read_mask(one: Masked) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Return the mask and the unsure pixels, None where nothing is said of them.

    Raises
    ------
    ValueError
        The mask has no plane for the chip, or marks far too much.
    """
    mask: NDArray[Any] | None
    unsure: NDArray[Any] | None = None
    if _ending(one.mask) == ".npy":
        mask = _load_array(one.mask)
        beside = _companion(one.exposure, one.mask.parent, UNSURE, (".npy",))
        unsure = None if beside is None else _load_array(beside)
    else:
        with _open(one.mask) as hdus:
            mask, unsure = _planes(hdus, one)
        if mask is None:
            # Not within the block, where any error is one of the file's format.
            extver = one.extvers[one.chip - 1]
            raise ValueError(
                f"{one.mask} has no plane {TRUTH} for chip {one.chip} of {one.chips}; expected "
                f"a 2-D image of that EXTNAME with EXTVER = {extver}, or as many as chips"
            )
    truth = _as_mask(mask, one.mask)
    if truth.mean() > LARGEST_SHARE:
        raise ValueError(
            f"{one.mask} marks {truth.mean():.0%} of the pixels of {one.name} as cosmic rays; "
            f"expected at most {LARGEST_SHARE:.0%}: above 0 = cosmic ray, 0 = none. Is it "
            "inverted?"
        )
    return truth, None if unsure is None else _as_mask(unsure, one.mask)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a FITS file that is there in full, or say which one is not."""
    check_complete(path)
    with open_fits(path) as hdus:
        yield hdus


def _planes(hdus: Any, one: Masked) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return the mask and the unsure pixels of a chip, None where there are none.

    By EXTVER where every chip has a mask of its own, else in the order of EXTVER, or of the
    file where that repeats.  In a mask's own file without these names the only image is the
    mask.
    """
    truths, unsure = ([h for h in hdus if h.name == name] for name in (TRUTH, UNSURE))
    truths, unsure = ([h for h in found if h.data is not None] for found in (truths, unsure))
    extvers = [hdu.ver for hdu in truths]
    extver = one.extvers[one.chip - 1]
    differ = len(set(extvers)) == len(extvers)
    if differ and set(one.extvers) <= set(extvers):
        number = extvers.index(extver)
    elif len(truths) == one.chips:
        number = extvers.index(sorted(extvers)[one.chip - 1]) if differ else one.place
    elif truths or unsure or one.chips > 1 or one.mask == one.exposure:
        return None, None
    else:
        images = (_two_axes(hdu.data) for hdu in hdus if hdu.data is not None)
        return next((image for image in images if image.ndim == 2), None), None
    truth = truths[number]
    same = [hdu for hdu in unsure if hdu.ver == truth.ver]
    if len(same) != 1:
        same = unsure[number:] if len(unsure) == one.chips else []
    return _two_axes(truth.data), _two_axes(same[0].data) if same else None


def _two_axes(plane: Any) -> NDArray[Any]:
    """Return a plane without axes of length 1 before the last two, as exposures are read."""
    array = np.asarray(plane)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array


def _as_mask(plane: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    if plane.dtype.kind not in "buif" or not np.isfinite(plane).all():
        raise ValueError(
            f"{path}: the mask is of dtype {plane.dtype}"
            f"{' and not finite everywhere' if plane.dtype.kind == 'f' else ''}; expected "
            "numbers, above 0 = cosmic ray, 0 = none"
        )
    return np.asarray(plane > 0)


def _load_array(path: Path) -> NDArray[Any]:
    """Read a 2-D array of numbers."""
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as an array ({error}); expected one that numpy.save wrote"
        ) from error
    if array.ndim != 2 or array.dtype.kind not in "buif":
        raise ValueError(
            f"{path} holds an array of shape {array.shape} and dtype {array.dtype}; expected "
            "two dimensions of numbers"
        )
    return array
