"""List the HDUs of a FITS file, and tell image, error and flag planes by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy.io import fits

from crmend._fits import check_complete, open_fits
from crmend._fits_header import read_value, readable
from crmend._instruments import ERROR_KINDS, PLANE_KINDS, Instrument
from crmend.errors import FileFormatError

# Names that astropy or fpack give to images without one.
_NO_NAME = {"", "PRIMARY", "COMPRESSED_IMAGE"}
_IDENTITY = ("TELESCOP", "INSTRUME", "DETECTOR")
STATED_KINDS = {
    "stddevuncertainty": "error", "std": "error",
    "varianceuncertainty": "variance", "var": "variance",
    "inversevariance": "weight", "ivar": "weight",
}  # fmt: skip
"""What CCDData of astropy writes as UTYPE of its uncertainties, and astropy's short names."""


@dataclass(frozen=True)
class Extra:
    """An HDU that is none of the exposure's planes.

    Attributes
    ----------
    path : Path
        File that holds it.
    index : int
        Number of the HDU, 0 = primary.
    name : str
        EXTNAME in upper case, empty if it has none.
    version : int
        EXTVER.
    """

    path: Path
    index: int
    name: str
    version: int

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"HDU {self.index} ({self.name or 'unnamed'})"


@dataclass(frozen=True)
class Plane(Extra):
    """One image HDU of a file; its version may be the number at the end of names like SCI2.

    Attributes
    ----------
    kind : str
        image, error, weight, variance, flag, or empty while unknown.
    shape : tuple of int
        Axes in numpy's order, without those of length 1 before the last two.
    integer : bool
        Stored as integers.
    header : fits.Header
        As astropy shows it (of the image, where that is tile-compressed).
    """

    kind: str
    shape: tuple[int, ...]
    integer: bool
    header: fits.Header

    @property
    def label(self) -> str:
        """How messages call the plane."""
        return f"{self.path} HDU {self.index} ({self.name or 'unnamed'})"


@dataclass(frozen=True)
class FileHeaders:
    """Primary header and HDUs of one file, without pixels.

    Attributes
    ----------
    path : Path
    primary : fits.Header
    planes : tuple of Plane
        HDUs with an image.
    others : tuple of Extra
        HDUs without.
    """

    path: Path
    primary: fits.Header
    planes: tuple[Plane, ...]
    others: tuple[Extra, ...]

    def identity(self) -> fits.Header:
        """Return the primary header, with keywords of the extensions it does not have."""
        header = readable(self.primary, _IDENTITY, self.path.name)
        for plane in self.planes:
            for key in _IDENTITY:
                value = read_value(plane.header, key)
                if key not in header and value is not None:
                    header[key] = value
        return header


def scan(path: Path) -> FileHeaders:
    """Check that a file is complete and list its image planes.

    Raises
    ------
    MissingFileError, FileFormatError
        See `check_complete`.
    """
    check_complete(path)
    planes, others = [], []
    with open_fits(path) as hdus:
        primary = hdus[0].header.copy()
        for index, hdu in enumerate(hdus):
            if hdu.is_image and hdu.header.get("NAXIS", 0) > 0:
                planes.append(_plane(path, index, hdu))
            else:
                others.append(Extra(path, index, *name_and_version(path, hdu.header)))
    return FileHeaders(path, primary, tuple(planes), tuple(others))


def classify(planes: Iterable[Plane], instrument: Instrument) -> list[Plane]:
    """Return the planes with kind (and version, for names like SCI2 or DET11.SCI) filled in."""
    result = []
    for plane in planes:
        numbered = re.fullmatch(r"([A-Z]+)[ _,-]?(\d+)", plane.name)
        kind = kind_of(str(plane.index), instrument) or kind_of(plane.name, instrument)
        version = plane.version
        if not kind and numbered:
            kind = kind_of(numbered.group(1), instrument)
            version = int(numbered.group(2)) if kind else version
        result.append(replace(plane, kind=kind, version=version))
    return _in_order_of_images(_of_named_chips(result, instrument))


def _in_order_of_images(planes: list[Plane]) -> list[Plane]:
    """Return planes of which those without versions have that of the image of their place.

    Where images say SCI,3 SCI,1 SCI,2 the first FLAG of three that have no EXTVER is that of
    SCI,3.
    """
    images = [plane.version for plane in planes if plane.kind == "image"]
    if len(set(images)) < len(images):
        return planes  # All are counted.
    versions: dict[int, int] = {}
    for kind in {plane.kind for plane in planes} - {"image", None}:
        own = [plane for plane in planes if plane.kind == kind]
        if len({plane.version for plane in own}) < len(own) == len(images):
            versions |= {p.index: image for p, image in zip(own, images, strict=True)}
    return [replace(p, version=versions.get(p.index, p.version)) for p in planes]


def _of_named_chips(planes: list[Plane], instrument: Instrument) -> list[Plane]:
    """Return planes of which those named CHIP.SCI, CHIP.RMS … have kind and version, too.

    Euclid names them so (1-1.E.SCI, DET11.DQ).  The version counts the chips in the file's
    order.  Where an image has a plain name, or the caller's, other chips are left alone.
    """
    chips: dict[str, int] = {}
    whole = any(plane.kind == "image" for plane in planes)
    result = []
    for plane in planes:
        chip, _, name = plane.name.rpartition(".")
        kind = plane.kind or kind_of(name, instrument)
        if chip and kind and (plane.kind or not (whole and kind == "image")):
            number = chips.setdefault(chip, len(chips) + 1)
            result.append(replace(plane, kind=kind, version=number))
        else:
            result.append(plane)
    return result


def kind_of(name: str, instrument: Instrument) -> str:
    """Return the plane kind that an EXTNAME stands for, or an empty string.

    What the caller named goes before what the profile calls so.
    """
    kinds = (*instrument.named, *PLANE_KINDS)
    return next((k for k in kinds if name and name in instrument.planes.get(k, ())), "")


def with_stated_kind(plane: Plane, instrument: Instrument) -> Plane:
    """Return an error plane with the kind that its UTYPE states, if it does.

    What the caller named goes before UTYPE, and UTYPE before the name of the HDU.  The data
    models of the Virtual Observatory write UTYPE with dots or colons, which say nothing here.

    Raises
    ------
    FileFormatError
        If UTYPE is none of astropy's.
    """
    stated = str(read_value(plane.header, "UTYPE") or "").strip()
    named = plane.kind in instrument.named
    if plane.kind not in ERROR_KINDS or named or not stated or re.search("[.:]", stated):
        return plane
    if stated.lower() not in STATED_KINDS:
        raise FileFormatError(
            f"the {plane.kind} plane {plane.label} has UTYPE {stated!r}, expected "
            "StdDevUncertainty, VarianceUncertainty or InverseVariance; mend UTYPE, or say "
            f"what the plane holds with planes={{'error': '{plane.index}'}} "
            f"(--plane error={plane.index}; error, variance or weight)"
        )
    return replace(plane, kind=STATED_KINDS[stated.lower()])


def of_kind(planes: Iterable[Plane], kind: str) -> list[Plane]:
    """Return the planes of a kind by version; where versions repeat, count them instead."""
    found = sorted((p for p in planes if p.kind == kind), key=lambda p: (p.version, p.index))
    if len({plane.version for plane in found}) < len(found):
        found.sort(key=lambda p: p.index)
        found = [replace(p, kind=kind, version=i) for i, p in enumerate(found, 1)]
    return found


def pick(planes: Iterable[Plane], kinds: tuple[str, ...], version: int) -> Plane | None:
    """Return the plane of the first kind present with that version."""
    planes = list(planes)
    return next(
        (p for kind in kinds for p in of_kind(planes, kind) if p.version == version), None
    )


def _plane(path: Path, index: int, hdu: Any) -> Plane:
    """Describe one image HDU."""
    header = hdu.header
    name, version = name_and_version(path, header)
    shape = tuple(int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1))
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return Plane(
        path=path,
        index=index,
        name=name,
        kind="",
        version=version,
        shape=shape,
        integer=int(header["BITPIX"]) > 0,
        header=header.copy(),
    )


def name_and_version(path: Path, header: fits.Header) -> tuple[str, int]:
    """Return EXTNAME in upper case, empty if there is none, and EXTVER."""
    values = readable(header, ("EXTNAME", "EXTVER"), path.name)
    name = str(values.get("EXTNAME", "")).strip().upper()
    version = values.get("EXTVER", 1)
    return "" if name in _NO_NAME else name, version if isinstance(version, int) else 1
