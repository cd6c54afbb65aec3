"""Which frames show the same piece of sky, so that a split can keep them on one side.

A frame's place is its position on the sky and the radius of the circle around it, from the
WCS of its header (CRVAL, CRPIX, CD or CDELT), else RA and DEC.  Frames whose circles overlap,
directly or through others, are one field.  A header without a position falls back on OBJECT,
then OBSID, and a frame without any of them is a field of its own.  The simulator's OBJECT
names a kind of sky ("mid"), not a place, which is why the position comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from astropy import units
from astropy.coordinates import Angle
from astropy.io import fits

_UNKNOWN_RADIUS = 0.25
"""Radius of a frame with RA and DEC but no scale [deg]: assumed, about that of a CSST chip
(0.19° × 0.19°) with room for dithers."""


@dataclass(frozen=True)
class Place:
    """Where on the sky a frame lies.

    Attributes
    ----------
    name : str
        Decides where there is no position; "" = a field of its own.
    ra, dec : float or None
        Centre of the frame [deg].
    radius : float
        Of the circle around the frame [deg].
    """

    name: str = ""
    ra: float | None = None
    dec: float | None = None
    radius: float = 0.0


def place_of(header: fits.Header, shape: tuple[int, ...]) -> Place:
    """Return the place of a frame of this shape (ny, nx) from its merged header."""
    name = str(header.get("OBJECT") or header.get("OBSID") or "").strip()
    scale = _scale(header)
    if scale and "RA-" in str(header.get("CTYPE1", "")) and "CRVAL2" in header:
        ra, dec = float(header["CRVAL1"]), float(header["CRVAL2"])
        # The reference pixel may lie off the chip (one WCS for the whole focal plane).
        dy = shape[0] / 2.0 - float(header.get("CRPIX2", shape[0] / 2.0))
        dx = shape[1] / 2.0 - float(header.get("CRPIX1", shape[1] / 2.0))
        xi, eta = _offset(header, dx, dy)
        dec = min(max(dec + eta, -90.0), 90.0)
        ra = (ra + xi / max(math.cos(math.radians(dec)), 1e-3)) % 360.0
        return Place(name, ra, dec, 0.5 * scale * math.hypot(*shape[-2:]))
    ra, dec = _angle(header.get("RA"), units.hourangle), _angle(header.get("DEC"), units.deg)
    if ra is None or dec is None:
        return Place(name)
    return Place(name, ra, dec, _UNKNOWN_RADIUS)


def group_fields(places: Sequence[Place]) -> list[int]:
    """Return the field number of each place, counted from 0 in order of appearance."""
    owner = list(range(len(places)))

    def root(i: int) -> int:
        while owner[i] != i:
            i = owner[i]
        return i

    for i, one in enumerate(places):
        for j in range(i):
            if _same_sky(one, places[j]):
                first, last = sorted((root(i), root(j)))
                owner[last] = first
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(places))]


def _same_sky(a: Place, b: Place) -> bool:
    if a.ra is None or b.ra is None:
        return bool(a.name) and a.name == b.name
    return _separation(a, b) < a.radius + b.radius


def _separation(a: Place, b: Place) -> float:
    """Return the angle between two places [deg] (haversine formula)."""
    ra_a, dec_a, ra_b, dec_b = (math.radians(v or 0.0) for v in (a.ra, a.dec, b.ra, b.dec))
    half = (
        math.sin((dec_a - dec_b) / 2) ** 2
        + math.cos(dec_a) * math.cos(dec_b) * math.sin((ra_a - ra_b) / 2) ** 2
    )
    return math.degrees(2.0 * math.asin(min(1.0, math.sqrt(half))))


def _scale(header: fits.Header) -> float:
    """Return the pixel scale [deg/px], 0 = not known."""
    if "CD1_1" in header:
        return math.hypot(float(header["CD1_1"]), float(header.get("CD2_1", 0.0)))
    return abs(float(header.get("CDELT1", 0.0)))


def _offset(header: fits.Header, dx: float, dy: float) -> tuple[float, float]:
    """Return the tangent-plane offset of (dx, dy) pixels [deg]."""
    if "CD1_1" in header:
        cd = [float(header.get(f"CD{i}_{j}", 0.0)) for i in (1, 2) for j in (1, 2)]
        return cd[0] * dx + cd[1] * dy, cd[2] * dx + cd[3] * dy
    return float(header.get("CDELT1", 0.0)) * dx, float(header.get("CDELT2", 0.0)) * dy


def _angle(value: object, sexagesimal: units.Unit) -> float | None:
    """Return degrees from a number of degrees or a sexagesimal string."""
    if value is None:
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    try:
        return float(Angle(str(value), unit=sexagesimal).deg)
    except (TypeError, ValueError):
        return None
