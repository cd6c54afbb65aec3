"""Checks of a whole exposure before its cosmic rays are looked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from crmend._arrays import own_copy, own_plane
from crmend._fits_header import read_value
from crmend._fits_layout import sibling_path
from crmend._fits_planes import kind_of
from crmend._inputs import check_error, check_shape, check_unit
from crmend.errors import CrmendWarning, InvalidInputError
from crmend.exposure import Exposure, unused_pixels
from crmend.flags import to_int32
from crmend.sources import SourceCatalog, is_of_pixels


def own_planes(exposure: Exposure) -> Exposure:
    """Return an exposure with copies of its planes, as the pipeline wants them.

    The planes may come from elsewhere than a file: of any real dtype and byte order.

    Raises
    ------
    InvalidInputError
        A plane has the wrong dtype, or not the shape or the unit of the image, or errors are
        below zero on pixels that are used.
    """
    image = own_copy(exposure.image, "exposure.image")
    error, flag = exposure.error, exposure.flag
    if error is not None:
        check_unit(error, exposure.image, "exposure.error")
        error = own_plane(error, image.shape, "exposure.error")
    if flag is not None:
        flag = to_int32(flag)
        check_shape(flag, image.shape, "exposure.flag")
    own = replace(exposure, image=image, error=error, flag=flag)
    if error is not None:
        remedy = "leave the errors out, dataclasses.replace(exposure, error=None)"
        check_error(error, lambda: unused_pixels(own), "exposure.error", remedy)
    return own


def check_unused(**planes: object) -> None:
    """Raise where planes are given beside an exposure, which has its own.

    Raises
    ------
    InvalidInputError
        One is not None.
    """
    name = next((name for name, plane in planes.items() if plane is not None), None)
    if name is None:
        return
    remedy = {
        "invalid": "read_exposure(bad_flags=...), or NaN in exposure.image",
        "saturated": "read_exposure(saturation=...)",
    }.get(name, "dataclasses.replace(exposure, error=...)")
    raise InvalidInputError(
        f"{name} is given beside an exposure, which has its own; expected it with arrays only: "
        f"use {remedy}, or pass exposure.image and all that belongs to it"
    )


def warn_if_cleaned(exposure: Exposure) -> None:
    """Warn where the header says that crmend wrote this exposure.

    Warns
    -----
    CrmendWarning
        It did.
    """
    if "CRMVERS" not in exposure.header:
        return
    before = read_value(exposure.header, "CRMVERS") or "of unknown version"
    name = "the exposure" if exposure.path is None else exposure.path.name
    warnings.warn(
        f"{name} was cleaned before, by crmend {before} (CRMVERS): its mended pixels now count "
        "as measured ones and their flags stay, so counts and CR rate are of what is left; "
        "clean the original file for a full result",
        CrmendWarning,
        stacklevel=4,
    )


def warn_if_elsewhere(catalog: SourceCatalog, shape: tuple[int, ...]) -> None:
    """Warn where none of a catalogue's sources is on the image.

    Warns
    -----
    CrmendWarning
        None is; rows without a position are none.
    """
    ny, nx = shape
    on_image = (catalog.x > -0.5) & (catalog.x < nx - 0.5)
    on_image &= (catalog.y > -0.5) & (catalog.y < ny - 0.5)
    if on_image.any():
        return
    warnings.warn(
        f"the catalogue has no source on the image of {nx} x {ny} px (positions elsewhere: "
        f"{len(catalog)}), so the network mends nothing; expected x and y in pixels, or RA and "
        "DEC in degrees, of this field: give its catalogue, or none to have sources found",
        CrmendWarning,
        stacklevel=4,
    )


def warn_if_of_one_chip(catalog: str | Path, file_name: str, chips: int) -> None:
    """Warn where positions in pixels, which are those of one chip, are used for several.

    Warns
    -----
    CrmendWarning
        They are.

    Raises
    ------
    MissingFileError, FileFormatError
        The catalogue cannot be read.
    """
    if chips < 2 or not is_of_pixels(catalog):
        return
    warnings.warn(
        f"{file_name} holds {chips} chips, and the positions in {Path(catalog).name} are "
        "pixels, which are taken for those of every chip; expected RA and DEC: give a "
        "catalogue of these alone, or treat one chip with its own (--plane image=1, say)",
        CrmendWarning,
        stacklevel=3,
    )


def warn_if_no_flags(exposure: Exposure) -> None:
    """Warn where a file lacks the flag plane whose bits its profile knows.

    A missing sibling file has been named on reading, and the caller may want none.

    Warns
    -----
    CrmendWarning
        It does.
    """
    profile, path = exposure.instrument, exposure.path
    known = profile.invalid_flags | profile.saturated_flags
    if exposure.flag is not None or path is None or not known or "flag" in profile.left_out:
        return
    # Without pixels, as HST leaves planes that say nothing.
    empty = any(kind_of(extra.name, profile) == "flag" for extra in exposure.extras)
    if empty or sibling_path(path, profile.siblings, "flag") is not None:
        return
    warnings.warn(
        f"{path.name} has no flag plane, expected one named "
        f"{', '.join(profile.planes.get('flag', ()))}: bad and saturated pixels are not known; "
        "name it by planes={'flag': 'MASK'} (--plane flag=MASK) if there is one",
        CrmendWarning,
        stacklevel=4,
    )
