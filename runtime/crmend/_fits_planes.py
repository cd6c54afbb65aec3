"""Find the image, error and flag planes of an exposure, by name or by position."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits

from crmend._fits import check_complete, open_fits
from crmend._instruments import ERROR_KINDS, PLANE_KINDS, Instrument
from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError

# Names that astropy or fpack give to images without one.
_NO_NAME = {"", "PRIMARY", "COMPRESSED_IMAGE"}
# Planes that are never the exposure's own: our output, and truths put beside test data.
_FOREIGN = {"CRPROB", "CRTRUTH", "UNSURE"}
_EXTENSIONS = ("", ".gz", ".fz")


@dataclass(frozen=True)
class Plane:
    """One image HDU of a file.

    Attributes
    ----------
    path : Path
        File that holds it.
    index : int
        Number of the HDU, 0 = primary.
    name : str
        EXTNAME in upper case, empty if it has none.
    kind : str
        image, error, weight, variance, flag, or empty while unknown.
    version : int
        EXTVER, or the number at the end of names like SCI2.
    shape : tuple of int
        Axes in numpy's order.
    integer : bool
        Stored as integers.
    header : fits.Header
        As astropy shows it (of the image, where that is tile-compressed).
    """

    path: Path
    index: int
    name: str
    kind: str
    version: int
    shape: tuple[int, ...]
    integer: bool
    header: fits.Header

    @property
    def label(self) -> str:
        """How messages call the plane."""
        return f"{self.path} HDU {self.index} ({self.name or 'unnamed'})"


@dataclass(frozen=True)
class FileHeaders:
    """Primary header and image planes of one file, without pixels."""

    path: Path
    primary: fits.Header
    planes: tuple[Plane, ...]
    others: tuple[str, ...]

    def identity(self) -> fits.Header:
        """Return the primary header, with keywords of the extensions it does not have."""
        header = self.primary.copy()
        for plane in self.planes:
            for key in ("TELESCOP", "INSTRUME", "DETECTOR"):
                if key not in header and key in plane.header:
                    header[key] = plane.header[key]
        return header


@dataclass(frozen=True)
class Layout:
    """The planes of one exposure (one chip).

    Attributes
    ----------
    primary : fits.Header
        Primary header of the image's file.
    image : Plane
    error : Plane or None
        Of kind error, weight or variance.
    flag : Plane or None
    """

    primary: fits.Header
    image: Plane
    error: Plane | None
    flag: Plane | None


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
                others.append(hdu.name or "unnamed")
    return FileHeaders(path, primary, tuple(planes), tuple(others))


def find_chips(content: FileHeaders, instrument: Instrument) -> list[Plane]:
    """Return the image planes of a file, one per chip, in the order of EXTVER.

    Raises
    ------
    FileFormatError
        If the file has none.
    """
    planes = _classify(content.planes, instrument)
    chips = _of_kind(planes, "image")
    if not chips:
        chips = [plane for plane in planes if not plane.kind and plane.name not in _FOREIGN][:1]
        if "image" not in instrument.positions or "image" in instrument.named:
            chips = []
    if not chips:
        raise FileFormatError(_no_image_message(content, planes, instrument))
    return chips


def locate(content: FileHeaders, instrument: Instrument, extver: int) -> Layout:
    """Find the planes of one exposure in a file and its siblings.

    Parameters
    ----------
    content : FileHeaders
        The file with the image plane.
    instrument : Instrument
    extver : int
        Number of the chip, from 1, in the order of EXTVER.

    Raises
    ------
    FileFormatError
        If there is no image plane, it is not 2-D, or another plane's shape differs.
    InvalidInputError
        If `extver` is out of range.
    """
    chips = find_chips(content, instrument)
    if not 1 <= extver <= len(chips):
        raise InvalidInputError(
            f"extver {extver} is out of range: {content.path} has {len(chips)} image plane(s); "
            f"pass 1 to {len(chips)}"
        )
    image = chips[extver - 1]
    if len(image.shape) != 2 or 0 in image.shape:
        raise FileFormatError(
            f"the image plane {image.label} has shape {image.shape} (ny, nx order), expected "
            "2-D and not empty; save one 2-D plane to a file of its own"
        )
    planes = [p for p in _classify(content.planes, instrument) if p.index != image.index]
    flag = _pick(planes, ("flag",), image.version)
    error = _pick(planes, ERROR_KINDS, image.version)
    if len(chips) == 1:
        flag = flag or _by_position(content.planes, planes, instrument, "flag")
        error = error or _by_position(content.planes, planes, instrument, "error")
    flag = flag or _sibling(content.path, instrument, ("flag",), image)
    error = error or _sibling(content.path, instrument, ERROR_KINDS, image)
    _check_named(content, instrument, flag, error)
    for plane in (flag, error):
        if plane is not None and plane.shape != image.shape:
            raise FileFormatError(
                f"the {plane.kind} plane {plane.label} has shape {plane.shape}, expected "
                f"{image.shape} as the image plane; make the file again"
            )
    return Layout(content.primary, image, error, flag)


def sibling_path(path: Path, tags: Mapping[str, str], kind: str) -> Path | None:
    """Return the name of a sibling of an ``_img_`` file, existing or not.

    The sibling may be packed differently (.gz, .fz); a name that exists is preferred.
    None if the file's name has no image tag.
    """
    if "image" not in tags or kind not in tags:
        return None
    pattern = re.compile(rf"(?<=_){re.escape(tags['image'])}(?=[_.])", re.IGNORECASE)
    matches = list(pattern.finditer(path.name))
    if not matches:
        return None
    last = matches[-1]
    tag = tags[kind].upper() if last.group().isupper() else tags[kind]
    name = path.name[: last.start()] + tag + path.name[last.end() :]
    stem = re.sub(r"\.(gz|fz)$", "", name, flags=re.IGNORECASE)
    names = [name, *(stem + extension for extension in _EXTENSIONS)]
    return next(
        (path.with_name(n) for n in names if path.with_name(n).is_file()), path.with_name(name)
    )


def _plane(path: Path, index: int, hdu: Any) -> Plane:
    """Describe one image HDU."""
    header = hdu.header
    name = str(header.get("EXTNAME", "")).strip().upper()
    version = header.get("EXTVER", 1)
    return Plane(
        path=path,
        index=index,
        name="" if name in _NO_NAME else name,
        kind="",
        version=version if isinstance(version, int) else 1,
        shape=tuple(int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1)),
        integer=int(header["BITPIX"]) > 0,
        header=header.copy(),
    )


def _classify(planes: Iterable[Plane], instrument: Instrument) -> list[Plane]:
    """Return the planes with kind (and version, for names like SCI2) filled in."""
    result = []
    for plane in planes:
        numbered = re.fullmatch(r"([A-Z]+)[ _,-]?(\d+)", plane.name)
        kind = _kind(plane.name, instrument) or _kind(str(plane.index), instrument)
        version = plane.version
        if not kind and numbered:
            kind = _kind(numbered.group(1), instrument)
            version = int(numbered.group(2)) if kind else version
        result.append(_replace(plane, kind=kind, version=version))
    return result


def _kind(name: str, instrument: Instrument) -> str:
    """Return the plane kind that an EXTNAME stands for, or an empty string."""
    return next(
        (kind for kind in PLANE_KINDS if name and name in instrument.planes.get(kind, ())), ""
    )


def _of_kind(planes: Iterable[Plane], kind: str) -> list[Plane]:
    """Return the planes of a kind by version; where versions repeat, count them instead."""
    found = sorted((p for p in planes if p.kind == kind), key=lambda p: (p.version, p.index))
    if len({plane.version for plane in found}) < len(found):
        found.sort(key=lambda p: p.index)
        found = [_replace(p, kind=kind, version=i) for i, p in enumerate(found, 1)]
    return found


def _pick(planes: Iterable[Plane], kinds: tuple[str, ...], version: int) -> Plane | None:
    """Return the plane of the first kind present with that version."""
    planes = list(planes)
    return next(
        (p for kind in kinds for p in _of_kind(planes, kind) if p.version == version), None
    )


def _by_position(
    every: tuple[Plane, ...], planes: list[Plane], instrument: Instrument, kind: str
) -> Plane | None:
    """Return the unnamed plane that stands where the profile expects the kind.

    Planes are counted among those with pixels.  Where the primary HDU holds the image,
    the flag plane may also be the third extension.
    """
    if kind not in instrument.positions:
        return None
    place = instrument.positions.index(kind)
    indices = [every[place].index] if place < len(every) else []
    if every[0].index == 0 and kind == "flag":
        indices.insert(0, place + 1)
    for plane in planes:
        unknown = not plane.kind and plane.name not in _FOREIGN
        if plane.index in indices and unknown and plane.integer == (kind == "flag"):
            return _replace(plane, kind=kind, version=plane.version)
    return None


def _check_named(
    content: FileHeaders, instrument: Instrument, flag: Plane | None, error: Plane | None
) -> None:
    """Raise where the caller named a plane that is not there.

    Raises
    ------
    FileFormatError
    """
    found = {plane.kind for plane in (flag, error) if plane is not None}
    missing = [k for k in instrument.named if k != "image" and k not in found]
    if missing:
        kind = missing[0]
        has = [f"{p.index} ({p.name or 'unnamed'})" for p in content.planes]
        raise FileFormatError(
            f"{content.path} has no {kind} plane {instrument.planes[kind][0]!r} for this "
            f"image; expected one of HDU {', '.join(has)}"
        )


def _sibling(
    path: Path, instrument: Instrument, kinds: tuple[str, ...], image: Plane
) -> Plane | None:
    """Return the plane of a sibling file, or None where there is no such file."""
    candidates = [(kind, sibling_path(path, instrument.siblings, kind)) for kind in kinds]
    named = [(kind, sibling) for kind, sibling in candidates if sibling is not None]
    for kind, sibling in named:
        if not sibling.is_file():
            continue
        planes = _classify(scan(sibling).planes, instrument)
        plane = _counterpart(planes, kind, image)
        if plane is None:
            raise FileFormatError(
                f"{sibling} has no image plane, expected the {kind} plane of {path.name}; "
                "make the file again"
            )
        return _replace(plane, kind=kind, version=image.version)
    if named and kinds == ("flag",):
        warnings.warn(
            f"{path.name} has no flag plane and its sibling {named[0][1].name} does not exist: "
            "bad and saturated pixels are not known",
            CrmendWarning,
            stacklevel=2,
        )
    return None


def _counterpart(planes: list[Plane], kind: str, image: Plane) -> Plane | None:
    """Return the plane of a sibling file that belongs to an image.

    By its kind; else, since many siblings name their planes as the image's file does, by the
    image's own name or its number among the images.
    """
    same = [plane for plane in planes if plane.name and plane.name == image.name]
    return (
        _pick(planes, (kind,), image.version)
        or (same[0] if len(same) == 1 else None)
        or _pick(planes, ("image",), image.version)
        or next((p for p in planes if not p.kind and p.name not in _FOREIGN), None)
        or next(iter(planes), None)
    )


def _replace(plane: Plane, *, kind: str, version: int) -> Plane:
    """Return the plane with another kind and version, sharing the header."""
    return Plane(
        plane.path, plane.index, plane.name, kind, version,
        plane.shape, plane.integer, plane.header,
    )  # fmt: skip


def _no_image_message(content: FileHeaders, planes: list[Plane], instrument: Instrument) -> str:
    """Say what was found instead of an image plane."""
    found = [f"{p.name or 'unnamed'} ({p.kind or 'image'}, {p.shape})" for p in planes]
    found += [f"{name} (no image)" for name in content.others]
    wanted = ", ".join(instrument.planes.get("image", ()))
    if planes and all(p.kind in (*ERROR_KINDS, "flag") for p in planes):
        remedy = "give the file with the science image, not its sibling"
    else:
        remedy = "give a file with a 2-D science image, or name its extension"
    unnamed = " or an unnamed one" if instrument.positions and not instrument.named else ""
    return (
        f"{content.path} has no image plane: found {'; '.join(found) or 'nothing'}, "
        f"expected an extension named {wanted}{unnamed}; {remedy}"
    )
