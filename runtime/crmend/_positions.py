"""Positions of sources: columns of a catalogue, in pixels or on the sky."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from crmend._quiet import without_astropy_warnings
from crmend.errors import FileFormatError, InvalidInputError

# Corrections of fractions of a pixel, whose tables stand in other extensions (HST).
_LOOKUP_CARDS = re.compile(r"(CPDIS|CPERR|DP|CQDIS|CQERR|DQ)\d|D2IM|AXISCORR")


SKY = (
    ("ra", "dec"), ("alpha_j2000", "delta_j2000"), ("alphawin_j2000", "deltawin_j2000"),
)  # fmt: skip
"""Columns of positions that need the WCS of the image: the last are SExtractor's."""

_PAIRS = (("x", "y"), ("x_image", "y_image"), *SKY)
_DEGREES = {
    "degrees": 1.0, "hour": 15.0, "hours": 15.0, "hr": 15.0, "h": 15.0,
    "radian": np.rad2deg(1.0), "radians": np.rad2deg(1.0),
}  # fmt: skip
"""Degrees of units whose names astropy does not know, or takes for times."""


def pair_of(columns: Collection[str]) -> tuple[str, str] | None:
    """Return the two columns, by names in small letters, that hold the positions, if any."""
    return next((pair for pair in _PAIRS if all(name in columns for name in pair)), None)


def positions_of(
    table: Any, columns: dict[str, str], header: fits.Header | None, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return x and y counted from 0, or None if the table has no positions."""
    pair = pair_of(columns)
    if pair is None:
        return None
    first, second = (numbers_in(table, columns[key]) for key in pair)
    if first is None or second is None:
        raise FileFormatError(
            f"the positions in {name} are not numbers; expected one number per row in the "
            f"columns {columns[pair[0]]} and {columns[pair[1]]}"
        )
    if pair in SKY:
        first, second = (
            values * _degrees(table, columns[key], name)
            for key, values in zip(pair, (first, second), strict=True)
        )
        return _to_pixels(first, second, header, name)
    origin = 1.0 if pair == ("x_image", "y_image") else 0.0
    return first - origin, second - origin


def numbers_in(table: Any, column: str) -> NDArray[np.float64] | None:
    """Return a column, masked and null (TNULL) rows as NaN; None if others hold no number."""
    try:
        values = np.ma.array(table[column], mask=_nulls_of(table, column), keep_mask=True)
    except (TypeError, ValueError, LookupError):
        # Bytes that are no text or no number.
        return None
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        return None
    return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))


def _nulls_of(table: Any, column: str) -> NDArray[np.bool_] | np.bool_:
    """Return the rows of a FITS table that hold the TNULL of their column, True = no number.

    TNULL counts before TSCAL and TZERO (FITS standard 4.0, section 7.3.2); it is a text in
    ASCII tables (section 7.2.2), and means nothing for floats.
    """
    null = getattr(getattr(table, "columns", {column: None})[column], "null", None)
    if null is None:
        return np.ma.nomask
    stored = table.view(np.ndarray)[column]
    if stored.dtype.kind == "S":
        return np.asarray(np.char.strip(stored) == str(null).strip().encode())
    return np.asarray(stored == null) if stored.dtype.kind in "iu" else np.ma.nomask


def _degrees(table: Any, column: str, name: str) -> float:
    """Return the degrees of one unit of a column: 1 where it names none that is known.

    Raises
    ------
    FileFormatError
        It is a unit of something else than angles.
    """
    described = getattr(table, "columns", None)  # of FITS and astropy tables
    text = "" if described is None else str(described[column].unit or "").strip()
    if text.lower() in _DEGREES:
        return float(_DEGREES[text.lower()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        unit = units.Unit(text, parse_strict="silent")
    if not text or isinstance(unit, units.UnrecognizedUnit):
        return 1.0
    try:
        return float(unit.to(units.deg))
    except units.UnitConversionError:
        raise FileFormatError(
            f"the column {column} of {name} is in {text} (TUNIT), expected an angle, such as "
            "deg, rad or hourangle: mend the unit, or give x and y in pixels"
        ) from None


def _to_pixels(
    ra: NDArray[np.float64], dec: NDArray[np.float64], header: fits.Header | None, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn sky coordinates [deg] into x and y by the WCS of the image."""
    cards = [] if header is None else header.cards
    try:
        with without_astropy_warnings():
            wcs = WCS(fits.Header([c for c in cards if not _LOOKUP_CARDS.match(c.keyword)]))
            celestial = wcs.celestial if wcs.has_celestial else None
            if celestial is not None:
                x, y = celestial.all_world2pix(ra, dec, 0, quiet=True)
                return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    except Exception as error:  # astropy and wcslib raise classes of many kinds
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"{name} gives RA and DEC only, and the WCS of the image cannot turn them into "
            f"pixels ({reason}); give a catalogue with the columns x and y"
        ) from error
    raise InvalidInputError(
        f"{name} gives RA and DEC only, and the image has no celestial WCS to turn "
        "them into pixels; give a catalogue with the columns x and y"
    )
