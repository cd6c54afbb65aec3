"""Find the image, error and flag planes of an exposure, by name, position or file name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from crmend._fits_planes import (
    Extra,
    FileHeaders,
    Plane,
    classify,
    kind_of,
    of_kind,
    pick,
    scan,
    with_stated_kind,
)
from crmend._instruments import ERROR_KINDS, PLANE_KINDS, Instrument
from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError

# Planes that are never the exposure's own: our output, truths put beside test data, tables
# that a WCS looks up.
_FOREIGN = {"CRPROB", "CRTRUTH", "UNSURE", "WCSDVARR", "D2IMARR"}
_EXTENSIONS = ("", ".gz", ".fz")


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
    extras : tuple of Extra
        All other HDUs of the image's file, but for planes of other chips and our own CRPROB.
    """

    primary: fits.Header
    image: Plane
    error: Plane | None
    flag: Plane | None
    extras: tuple[Extra, ...]


def find_chips(content: FileHeaders, instrument: Instrument) -> list[Plane]:
    """Return the image planes of a file, one per chip, in the order of EXTVER.

    Raises
    ------
    FileFormatError
        If the file has none.
    """
    planes = classify(content.planes, instrument)
    chips = of_kind(planes, "image")
    if not chips:
        unknown = _unknown(planes)
        chips = [p for p in unknown if len(p.shape) == 2][:1] or unknown[:1]
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
        If there is no image plane, it is not 2-D, another plane's shape differs, several
        planes might be the flags or errors of the only image, or a UTYPE is unknown.
    InvalidInputError
        If `extver` is no whole number or out of range.

    Warns
    -----
    CrmendWarning
        If a flag file is missing, planes of a kind belong to none of the images, or images
        beside one that has no name of the profile are left alone.
    """
    chips = find_chips(content, instrument)
    whole = isinstance(extver, int | np.integer) and not isinstance(extver, bool)
    if not whole or not 1 <= extver <= len(chips):
        raise InvalidInputError(
            f"extver {extver!r} is out of range: {content.path} has {len(chips)} image "
            f"plane(s); pass 1 to {len(chips)}"
        )
    image = chips[extver - 1]
    if len(image.shape) != 2 or 0 in image.shape:
        raise FileFormatError(
            f"the image plane {image.label} has shape {image.shape} (ny, nx order), expected "
            "2-D and not empty; save one 2-D plane to a file of its own"
        )
    alone = len(chips) == 1
    flag = _companion(content, instrument, image, ("flag",), alone=alone)
    error = _companion(content, instrument, image, ERROR_KINDS, alone=alone)
    error = None if error is None else with_stated_kind(error, instrument)
    _check_named(content, instrument, image, (flag, error))
    for plane in (flag, error):
        if plane is not None and plane.shape != image.shape:
            raise FileFormatError(
                f"the {plane.kind} plane {plane.label} has shape {plane.shape}, expected "
                f"{image.shape} as the image plane; make the file again, or leave the plane "
                f"out (--plane {plane.kind}=none, planes={{{plane.kind!r}: None}})"
            )
    used = [plane for plane in (image, error, flag) if plane is not None]
    _warn_of_unknown(content, instrument, used)
    return Layout(
        content.primary, image, error, flag, _extras(content, instrument, chips, used)
    )


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


def _companion(
    content: FileHeaders,
    instrument: Instrument,
    image: Plane,
    kinds: tuple[str, ...],
    *,
    alone: bool,
) -> Plane | None:
    """Return the flag or error plane of an image: of its file, else of a sibling."""
    kinds = tuple(kind for kind in kinds if kind not in instrument.left_out)
    if not kinds:
        return None
    planes = [p for p in classify(content.planes, instrument) if p.index != image.index]
    plane = pick(planes, kinds, image.version) or _named(planes, kinds, instrument)
    if plane is None and alone:
        plane = _only(planes, kinds, image)
        plane = plane or _by_position(content.planes, planes, instrument, kinds[0], image)
    plane = plane or _sibling(content.path, instrument, kinds, image)
    if plane is None:
        _warn_of_unmatched(content, instrument, [p for p in planes if p.kind in kinds], image)
    return plane


def _named(planes: list[Plane], kinds: tuple[str, ...], instrument: Instrument) -> Plane | None:
    """Return the one plane that the caller named, which then serves every chip.

    Not one of several, and not one with the EXTVER of another chip, unless the caller gave
    the number of its HDU.
    """
    kind = next((kind for kind in kinds if kind in instrument.named), "")
    found = [plane for plane in planes if kind and plane.kind == kind]
    if len(found) != 1:
        return None
    names = instrument.planes[kind]
    common = found[0].name in names and "EXTVER" not in found[0].header
    return found[0] if common or str(found[0].index) in names else None


def _only(planes: list[Plane], kinds: tuple[str, ...], image: Plane) -> Plane | None:
    """Return the one plane of the best kind there is, whatever its EXTVER.

    Raises
    ------
    FileFormatError
        If there are several.
    """
    if image.name and any(plane.name == image.name for plane in planes):
        # The caller named one image of several: the plane may be another's.
        return None
    found = next((same for kind in kinds if (same := of_kind(planes, kind))), [])
    if len(found) > 1:
        kind = found[0].kind
        raise FileFormatError(
            f"{image.path} has several {kind} planes ({_listed(found)}), and none has the "
            f"EXTVER {image.version} of the image HDU {image.index}; name the right one with "
            f"planes={{{kind!r}: ...}} (--plane {kind}=...)"
        )
    return found[0] if found else None


def _warn_of_unmatched(
    content: FileHeaders, instrument: Instrument, planes: list[Plane], image: Plane
) -> None:
    """Warn where planes of a kind are there, and none for this image."""
    empty = {kind_of(o.name, instrument) for o in content.others if o.version == image.version}
    if not planes or planes[0].kind in empty or planes[0].kind in instrument.named:
        # Without pixels, as HST leaves planes that say nothing; or an error that comes next.
        return
    kind = planes[0].kind
    warnings.warn(
        f"{content.path.name}: no {kind} plane has the EXTVER {image.version} of the image HDU "
        f"{image.index} ({image.name or 'unnamed'}), which is treated without; found "
        f"{_listed(planes)}: mend EXTVER, or name one with planes={{{kind!r}: ...}} "
        f"(--plane {kind}=...)",
        CrmendWarning,
        stacklevel=4,
    )


def _warn_of_unknown(content: FileHeaders, instrument: Instrument, used: list[Plane]) -> None:
    """Warn of 2-D planes that may be images too, where only the first is taken by position."""
    image = used[0]
    if image.kind or instrument.positions != ("image",):
        return
    taken = {plane.index for plane in used if plane.path == content.path}
    planes = _unknown(classify(content.planes, instrument))
    left = [p for p in planes if p.index not in taken and len(p.shape) == 2]
    if not left:
        return
    stem, index = image.name.rstrip("0123456789"), left[0].index
    alike = stem.isalpha() and any(p.name.rstrip("0123456789") == stem for p in left)
    every = f"; with {stem!r} all so named and numbered are chips" if alike else ""
    warnings.warn(
        f"{content.path.name}: HDU {image.index} ({image.name or 'unnamed'}) is taken as the "
        f"image, and the other planes of unknown kind are left as they are: {_listed(left)}; "
        f"choose with planes={{'image': '{index}'}} (--plane image={index}){every}",
        CrmendWarning,
        stacklevel=3,
    )


def _extras(
    content: FileHeaders, instrument: Instrument, chips: list[Plane], used: list[Plane]
) -> tuple[Extra, ...]:
    """Return the HDUs of a file that are planes of none of its chips."""
    image = used[0]
    taken = {plane.index for plane in used if plane.path == content.path}
    elsewhere = {chip.version for chip in chips} - {image.version}
    for kind in PLANE_KINDS:
        numbered = of_kind(classify(content.planes, instrument), kind)
        taken |= {plane.index for plane in numbered if plane.version in elsewhere}
    found = [Extra(p.path, p.index, p.name, p.version) for p in content.planes]
    found += [other for other in content.others if other.index > 0]
    found.sort(key=lambda extra: extra.index)
    return tuple(e for e in found if e.index not in taken and e.name != "CRPROB")


def _unknown(planes: list[Plane]) -> list[Plane]:
    """Return the planes whose names say nothing."""
    return [plane for plane in planes if not plane.kind and plane.name not in _FOREIGN]


def _listed(planes: list[Plane]) -> str:
    """Name planes in a message."""
    return ", ".join(
        f"HDU {p.index} ({p.name or 'unnamed'}, EXTVER {p.version})" for p in planes
    )


def _by_position(
    every: tuple[Plane, ...],
    planes: list[Plane],
    instrument: Instrument,
    kind: str,
    image: Plane,
) -> Plane | None:
    """Return the unnamed plane that stands where the profile expects the kind.

    Planes are counted among those with pixels.  Where the primary HDU holds the image,
    the flag plane may also be the third extension.
    Beside an image with a known name, floats with another name may be anything (a background,
    a model) and are no errors.
    """
    if kind not in instrument.positions or kind in instrument.named:
        return None
    place = instrument.positions.index(kind)
    indices = [every[place].index] if place < len(every) else []
    if every[0].index == 0 and kind == "flag":
        indices.insert(0, place + 1)
    for plane in _unknown(planes):
        other = kind == "error" and image.kind and plane.name
        if plane.index in indices and not other and plane.integer == (kind == "flag"):
            return replace(plane, kind=kind, version=plane.version)
    return None


def _check_named(
    content: FileHeaders,
    instrument: Instrument,
    image: Plane,
    found: tuple[Plane | None, ...],
) -> None:
    """Raise where the caller named a plane that is not there.

    Raises
    ------
    FileFormatError
    """
    kinds = {"image", *(plane.kind for plane in found if plane is not None)}
    kind = next((kind for kind in instrument.named if kind not in kinds), None)
    if kind is None:
        return
    others = [p for p in classify(content.planes, instrument) if p.index != image.index]
    versions = [plane for plane in others if plane.kind == kind]
    if versions:
        why = f"with the EXTVER {image.version} of the image HDU {image.index}"
        expected = f"one of {_listed(versions)}, named by its number (--plane {kind}=NUMBER)"
    else:
        why = "for this image"
        listed = [f"{p.index} ({p.name or 'unnamed'})" for p in others]
        expected = f"one of HDU {', '.join(listed)}" if listed else "another HDU with pixels"
    raise FileFormatError(
        f"{content.path} has no {kind} plane {instrument.planes[kind][0]!r} {why}; expected "
        f"{expected}"
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
        planes = classify(scan(sibling).planes, instrument)
        plane = _counterpart(planes, kind, image)
        if plane is None:
            raise FileFormatError(
                f"{sibling} has no plane (of several) for EXTVER {image.version}, expected "
                f"the {kind} plane of {path.name}; make the file again"
            )
        return replace(plane, kind=kind, version=image.version)
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
        pick(planes, (kind,), image.version)
        or (same[0] if len(same) == 1 else None)
        or pick(planes, ("image",), image.version)
        or next((same[0] for same in (_unknown(planes), planes) if len(same) == 1), None)
    )


def _no_image_message(content: FileHeaders, planes: list[Plane], instrument: Instrument) -> str:
    """Say what was found instead of an image plane."""
    hdus = [(p.index, p.name, f"{p.kind or 'image'}, {p.shape}") for p in planes]
    hdus += [(other.index, other.name, "no image") for other in content.others]
    found = [f"HDU {i} ({name or 'unnamed'}, {what})" for i, name, what in sorted(hdus)]
    wanted = ", ".join(instrument.planes.get("image", ()))
    wanted = f"the HDU {wanted}" if wanted.isdecimal() else f"an extension named {wanted}"
    if planes and all(p.kind in (*ERROR_KINDS, "flag") for p in planes):
        remedy = "give the file with the science image, not its sibling"
    else:
        remedy = "give a file with a 2-D science image, or name its extension or HDU"
    unnamed = " or an unnamed one" if instrument.positions and not instrument.named else ""
    return (
        f"{content.path} has no image plane: found {'; '.join(found) or 'nothing'}, "
        f"expected {wanted}{unnamed}; {remedy}"
    )
