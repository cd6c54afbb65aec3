"""Bands, chips and fields: the numbers the simulator stands on.

Zero points, pivots, skies and limits come from the throughput curves of
sarashenyy/starcat (MIT licence); the chip layout from csster/csst ``backbone.py``.
Numbers marked *assumed* are choices made here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """One filter of the survey camera.

    Attributes
    ----------
    name : str
    zero_point : float
        AB magnitude of 1 e-/s.
    pivot : float
        Pivot wavelength [nm].
    sky_low, sky_high : float
        Range of the sky level [e-/s/px].
    limit : float
        5 sigma point-source limit in 150 s [AB mag].
    galaxy_factor : float
        Galaxy counts at a given magnitude, relative to the r band.  g and i from
        published counts; the other bands *assumed* by following the mean colour.
    galaxy_colour : float
        Mean galaxy colour band − i [mag], *assumed*; it turns a magnitude into the
        i magnitude that the size law wants.
    star_colour : float
        Mean star colour band − r [mag], *assumed* (a G/K dwarf mix).
    """

    name: str
    zero_point: float
    pivot: float
    sky_low: float
    sky_high: float
    limit: float
    galaxy_factor: float
    galaxy_colour: float
    star_colour: float


BANDS = {
    band.name: band
    for band in (
        Band("NUV", 24.80, 288.0, 0.0035, 0.0118, 24.55, 0.20, 2.4, 3.0),
        Band("u", 25.21, 360.0, 0.018, 0.0706, 24.94, 0.35, 1.7, 1.8),
        Band("g", 26.29, 479.0, 0.14, 0.573, 25.89, 0.70, 0.8, 0.5),
        Band("r", 26.08, 617.0, 0.17, 0.767, 25.56, 1.00, 0.3, 0.0),
        Band("i", 25.91, 763.0, 0.18, 0.810, 25.38, 1.30, 0.0, -0.3),
        Band("z", 25.25, 903.0, 0.10, 0.487, 24.76, 1.50, -0.2, -0.4),
        Band("y", 23.90, 966.0, 0.03, 0.146, 23.57, 1.60, -0.3, -0.5),
    )
}

_CHIPS_OF_BAND = {
    "NUV": (12, 13, 18, 19),
    "u": (14, 17),
    "g": (8, 23),
    "r": (9, 22),
    "i": (7, 24),
    "z": (11, 20),
    "y": (6, 15, 16, 25),
}

DETECTOR_BANDS = {chip: name for name, chips in _CHIPS_OF_BAND.items() for chip in chips}
"""Band of each of the 18 imaging chips."""

FULL_SHAPE = (9232, 9216)
"""Rows and columns of one chip."""

PIXEL_SCALE = 0.074
"""Arcseconds per pixel."""


@dataclass(frozen=True)
class Field:
    """A kind of sky.

    Attributes
    ----------
    star_density : float
        Star counts relative to galactic latitude 50°.
    cluster : str or None
        ``"stars"`` adds a globular cluster, ``"galaxies"`` a rich galaxy cluster.
    """

    star_density: float
    cluster: str | None = None


FIELDS = {
    "pole": Field(0.55),
    "high": Field(1.0),
    "mid": Field(2.2),
    "low": Field(6.0),
    "plane": Field(15.0),
    "dense": Field(40.0),
    "globular": Field(2.2, cluster="stars"),
    "cluster": Field(1.0, cluster="galaxies"),
}
"""Eight fields of different density, as in the paper; factors beyond ``mid`` are assumed."""
