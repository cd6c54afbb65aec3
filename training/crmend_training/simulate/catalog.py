"""Random skies: stars and galaxies drawn from measured counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SOURCE_DTYPE = np.dtype(
    [
        ("id", np.int32),
        ("type", "U6"),
        ("x", np.float64),
        ("y", np.float64),
        ("mag", np.float64),
        ("flux", np.float64),
        ("r_half", np.float64),
        ("axis_ratio", np.float64),
        ("position_angle", np.float64),
        ("bulge_fraction", np.float64),
        ("r_bulge", np.float64),
    ]
)
"""Columns of an input catalogue: x, y 0-based [px]; mag AB; flux [e-/s]; r_half and r_bulge
(half-light radii of the disk and the bulge before the PSF, along the major axis) [px];
position_angle from the x axis [rad]."""

# Stars per mag per deg² at b = 50°, at whole magnitudes; the ends go on with the end slopes.
_STAR_MAGS = np.arange(14.0, 26.0)
_STAR_COUNTS = np.array(
    [141, 244, 385, 571, 782, 1003, 1186, 1510, 1882, 2114, 2238, 2695], dtype=float
)
# Galaxies per mag per deg², r band, at the middle of each magnitude bin.
_GALAXY_MAGS = np.arange(18.5, 27.0)
_GALAXY_COUNTS = np.array(
    [275, 725, 2050, 5325, 13700, 30575, 63100, 127825, 229950], dtype=float
)
_BRIGHTEST_STAR, _BRIGHTEST_GALAXY = 11.0, 15.0
_DISK_HALF_LIGHT = 1.678  # half-light radius over scale length of an exponential disk


@dataclass(frozen=True)
class SkyModel:
    """How densely the sky is filled, and how bright things look.

    Attributes
    ----------
    zero_point : float
        Magnitude of 1 e-/s.
    faintest : float
        Magnitude down to which sources are drawn.
    pixel_scale : float
        Arcseconds per pixel.
    star_density, galaxy_density : float
        Relative to b = 50° and to the r-band counts.
    star_colour, galaxy_colour : float
        Band − r of stars, band − i of galaxies [mag].
    size_factor : float
        Scales all galaxies.
    cluster : str or None
        ``"stars"`` or ``"galaxies"``.
    """

    zero_point: float
    faintest: float
    pixel_scale: float
    star_density: float = 1.0
    galaxy_density: float = 1.0
    star_colour: float = 0.0
    galaxy_colour: float = 0.3
    size_factor: float = 1.0
    cluster: str | None = None


def draw_catalog(
    rng: np.random.Generator, shape: tuple[int, int], sky: SkyModel, margin: int = 64
) -> NDArray[np.void]:
    """Draw the stars and galaxies in and just around a frame.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
        Rows, columns.
    sky : SkyModel
    margin : int
        Sources up to so many pixels outside the frame are drawn too.

    Returns
    -------
    structured array of `SOURCE_DTYPE`, brightest first
    """
    parts = [_draw_stars(rng, shape, sky, margin), _draw_galaxies(rng, shape, sky, margin)]
    if sky.cluster == "stars":
        parts.append(_draw_globular(rng, shape, sky))
    elif sky.cluster == "galaxies":
        parts.append(_draw_galaxy_cluster(rng, shape, sky))
    catalog = np.concatenate(parts)
    catalog["flux"] = 10.0 ** (0.4 * (sky.zero_point - catalog["mag"]))
    catalog = catalog[np.argsort(catalog["mag"], kind="stable")]
    catalog["id"] = np.arange(1, catalog.size + 1)
    return catalog


def _draw_stars(rng, shape, sky, margin):
    """Draw field stars, evenly spread."""
    table = _cumulative(
        _STAR_MAGS + sky.star_colour, _STAR_COUNTS, _BRIGHTEST_STAR, sky.faintest
    )
    n = rng.poisson(sky.star_density * table[1][-1] * _area(shape, sky, margin))
    stars = np.zeros(n, dtype=SOURCE_DTYPE)
    stars["type"] = "star"
    stars["mag"] = _invert(rng, table, n)
    stars["axis_ratio"] = 1.0
    _spread(rng, stars, shape, margin)
    return stars


def _draw_galaxies(rng, shape, sky, margin):
    """Draw field galaxies, evenly spread."""
    table = _cumulative(_GALAXY_MAGS, _GALAXY_COUNTS, _BRIGHTEST_GALAXY, sky.faintest)
    n = rng.poisson(sky.galaxy_density * table[1][-1] * _area(shape, sky, margin))
    galaxies = np.zeros(n, dtype=SOURCE_DTYPE)
    galaxies["type"] = "galaxy"
    galaxies["mag"] = _invert(rng, table, n)
    _spread(rng, galaxies, shape, margin)
    _draw_shapes(rng, galaxies, sky)
    galaxies["bulge_fraction"] = rng.beta(1.0, 3.0, n)
    return galaxies


def _draw_shapes(rng, galaxies, sky):
    """Fill in sizes and axis ratios (Miller et al. 2013 for the disks), in place."""
    n = galaxies.size
    i_mag = galaxies["mag"] - sky.galaxy_colour
    log_scale = -1.145 - 0.269 * (i_mag - 23.0) + rng.normal(0.0, 0.3, n)
    disk = np.exp(log_scale) * sky.size_factor / sky.pixel_scale
    galaxies["r_half"] = np.clip(_DISK_HALF_LIGHT * disk, 0.3, 150.0)
    # Bulges are smaller than their disks; the ratio is assumed.
    bulge = 0.35 * galaxies["r_half"] * np.exp(rng.normal(0.0, 0.3, n))
    galaxies["r_bulge"] = np.clip(bulge, 0.2, 60.0)
    galaxies["axis_ratio"] = np.clip(1.0 - rng.rayleigh(0.3, n), 0.2, 1.0)
    galaxies["position_angle"] = rng.uniform(0.0, np.pi, n)


def _draw_globular(rng, shape, sky):
    """Draw a globular cluster: a Plummer sphere, fainter stars more numerous."""
    area = _area(shape, sky, 0) / 0.0359  # chips
    n = rng.poisson(40000 * min(area, 1.0) + 400)
    radius = rng.uniform(0.05, 0.12) * max(shape)
    stars = np.zeros(n, dtype=SOURCE_DTYPE)
    stars["type"] = "star"
    # Number per magnitude grows like 10^(0.25 m) below the tip of the giant branch.
    bright = 14.5 + sky.star_colour
    span = 10.0 ** (0.25 * (sky.faintest - bright)) - 1.0
    stars["mag"] = bright + np.log10(1.0 + span * rng.random(n)) / 0.25
    stars["axis_ratio"] = 1.0
    u = rng.uniform(0.0, 0.95, n)
    r = radius * np.sqrt(u / (1.0 - u))
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    centre = rng.uniform(0.2, 0.8, 2)
    stars["x"] = centre[1] * shape[1] + r * np.cos(angle)
    stars["y"] = centre[0] * shape[0] + r * np.sin(angle)
    return stars


def _draw_galaxy_cluster(rng, shape, sky):
    """Draw a rich cluster: bulge-dominated members around a bright central galaxy."""
    n = rng.poisson(250)
    galaxies = np.zeros(n + 1, dtype=SOURCE_DTYPE)
    galaxies["type"] = "galaxy"
    bright = 17.5 + sky.galaxy_colour
    faint = max(bright + 1.0, min(24.5 + sky.galaxy_colour, sky.faintest))
    galaxies["mag"] = bright + (faint - bright) * np.sqrt(rng.random(n + 1))
    galaxies["mag"][0] = bright - 0.5
    _draw_shapes(rng, galaxies, sky)
    galaxies["bulge_fraction"] = rng.beta(3.0, 1.5, n + 1)
    u = rng.uniform(0.0, 0.9, n + 1)
    r = 700.0 * np.sqrt(u / (1.0 - u)) * min(1.0, min(shape) / 2000.0)
    r[0] = 0.0
    angle = rng.uniform(0.0, 2.0 * np.pi, n + 1)
    centre = rng.uniform(0.3, 0.7, 2)
    galaxies["x"] = centre[1] * shape[1] + r * np.cos(angle)
    galaxies["y"] = centre[0] * shape[0] + r * np.sin(angle)
    return galaxies


def _spread(rng, sources, shape, margin):
    """Place sources evenly over the frame and its margin, in place."""
    sources["x"] = rng.uniform(-0.5 - margin, shape[1] - 0.5 + margin, sources.size)
    sources["y"] = rng.uniform(-0.5 - margin, shape[0] - 0.5 + margin, sources.size)


def _area(shape, sky, margin):
    """Return the area of the frame with its margin [deg²]."""
    return (shape[0] + 2 * margin) * (shape[1] + 2 * margin) * (sky.pixel_scale / 3600.0) ** 2


def _cumulative(mags, counts, brightest, faintest):
    """Return magnitudes and the number per deg² brighter, counts log-linear between."""
    grid = np.arange(brightest, max(faintest, brightest + 0.1) + 0.01, 0.02)
    log = np.log(counts)
    density = np.interp(grid, mags, log)
    low, high = grid < mags[0], grid > mags[-1]
    density[low] = log[0] + (grid[low] - mags[0]) * (log[1] - log[0]) / (mags[1] - mags[0])
    slope = (log[-1] - log[-2]) / (mags[-1] - mags[-2])
    density[high] = log[-1] + (grid[high] - mags[-1]) * slope
    steps = 0.5 * (np.exp(density[1:]) + np.exp(density[:-1])) * np.diff(grid)
    return grid, np.concatenate([[0.0], np.cumsum(steps)])


def _invert(rng, table, n):
    """Draw n magnitudes from a cumulative table."""
    grid, cumulative = table
    return np.interp(rng.random(n) * cumulative[-1], cumulative, grid)
