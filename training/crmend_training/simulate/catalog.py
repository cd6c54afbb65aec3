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
position_angle from the x axis [rad].  type is ``star`` or ``galaxy``; `artefacts` adds rows of
``moving`` and ``trail``, whose r_half is half the length of the streak [px]."""

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
_PAIR_SEPARATION = (0.5, 6.0)  # px
_PAIR_RANKS = 0.3  # partners differ by at most so much of the list in rank of brightness
_LARGE_RADIUS = (10.0, 40.0)  # arcsec, half-light radius of the large galaxy
_LARGE_OF_FRAME = (0.04, 0.14)  # the same, of the frame's shorter side, where that is smaller
_LARGE_BRIGHTNESS = 21.3  # r mag/arcsec² within the half-light radius


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
    richness : float
        Scales the number of members of the cluster; 0 leaves it empty.
    core_radius : (float, float)
        Range of a globular cluster's scale radius, of the frame's longer side; near 1 the
        frame shows nothing but the crowded core.
    close_pairs : float
        Fraction of the field stars, and of the galaxies, that get a neighbour at 0.5–6 px;
        0 for none but those of chance.  Neighbours are moved, not added: the counts stay.
        0.1 is about the share of binaries at 40–400 au, that is, 0.04–0.4 arcsec at 1 kpc
        (Raghavan et al. 2010: 44 % multiple, log P normal); of galaxies assumed.
    large_galaxy : float
        Probability of one nearby galaxy in the frame, half-light radius 10–40 arcsec, less
        in frames too small for it; 0 for none.
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
    richness: float = 1.0
    core_radius: tuple[float, float] = (0.05, 0.12)
    close_pairs: float = 0.0
    large_galaxy: float = 0.0


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
    # One child per effect: switching one leaves the draws of the others as they are.
    for_stars, for_galaxies, for_cluster, for_pairs, for_large = rng.spawn(5)
    parts = [
        _draw_stars(for_stars, shape, sky, margin),
        _draw_galaxies(for_galaxies, shape, sky, margin),
    ]
    if sky.close_pairs > 0.0:
        for part in parts:
            _make_pairs(for_pairs, part, sky.close_pairs)
    if sky.cluster == "stars":
        parts.append(_draw_globular(for_cluster, shape, sky))
    elif sky.cluster == "galaxies":
        parts.append(_draw_galaxy_cluster(for_cluster, shape, sky))
    if for_large.random() < sky.large_galaxy:
        parts.append(_draw_large_galaxy(for_large, shape, sky))
    catalog = np.concatenate(parts)
    catalog["flux"] = 10.0 ** (0.4 * (sky.zero_point - catalog["mag"]))
    catalog = catalog[np.argsort(catalog["mag"], kind="stable")]
    catalog["id"] = np.arange(1, catalog.size + 1)
    return catalog


def _draw_stars(rng, shape, sky, margin):
    """Draw field stars, evenly spread."""
    mags = _STAR_MAGS + sky.star_colour
    brightest = _BRIGHTEST_STAR + sky.star_colour
    table = _cumulative(mags, _STAR_COUNTS, brightest, sky.faintest)
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


def _make_pairs(rng, sources, fraction):
    """Move sources next to others of like brightness, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    sources : structured array of `SOURCE_DTYPE`
    fraction : float
        Of the sources that get a neighbour.
    """
    n_pairs = int(rng.binomial(sources.size // 2, min(2.0 * fraction, 1.0)))
    by_brightness = np.argsort(sources["mag"], kind="stable")
    # Sorting a list by its ranks with errors, then taking its neighbours in twos, gives
    # pairs of like brightness in which nobody stands twice.
    errors = rng.uniform(0.0, _PAIR_RANKS * sources.size, sources.size)
    order = by_brightness[np.argsort(np.arange(sources.size) + errors, kind="stable")]
    twos = order[: 2 * (sources.size // 2)].reshape(-1, 2)
    chosen = twos[rng.permutation(len(twos))[:n_pairs]]
    separation = rng.uniform(*_PAIR_SEPARATION, n_pairs)
    # Galaxies touch at about their own size.
    separation += rng.uniform(0.0, 2.0, n_pairs) * sources["r_half"][chosen[:, 0]]
    angle = rng.uniform(0.0, 2.0 * np.pi, n_pairs)
    sources["x"][chosen[:, 1]] = sources["x"][chosen[:, 0]] + separation * np.cos(angle)
    sources["y"][chosen[:, 1]] = sources["y"][chosen[:, 0]] + separation * np.sin(angle)


def _draw_large_galaxy(rng, shape, sky):
    """Draw one nearby disk galaxy, centred on or near the frame.

    The surface brightness (r, mean within the half-light radius) follows from Freeman's
    (1970) central B = 21.65 with B − r = 1.1 and 1.12 mag from the centre to the mean,
    brightened by 0.4 mag for the bulge; the scatter is assumed.
    """
    galaxy = np.zeros(1, dtype=SOURCE_DTYPE)
    limits = [
        min(radius / sky.pixel_scale, part * min(shape))
        for radius, part in zip(_LARGE_RADIUS, _LARGE_OF_FRAME, strict=True)
    ]
    galaxy["type"] = "galaxy"
    galaxy["r_half"] = np.exp(rng.uniform(*np.log(limits)))
    galaxy["axis_ratio"] = np.clip(rng.uniform(0.15, 1.0), 0.2, 1.0)
    galaxy["position_angle"] = rng.uniform(0.0, np.pi)
    galaxy["bulge_fraction"] = rng.beta(1.5, 5.0)
    galaxy["r_bulge"] = galaxy["r_half"] * rng.uniform(0.1, 0.25)
    area = 2.0 * np.pi * (galaxy["r_half"] * sky.pixel_scale) ** 2 * galaxy["axis_ratio"]
    # An i magnitude is 0.3 brighter than r, as in the mean colour of `bands`.
    i_brightness = _LARGE_BRIGHTNESS - 0.3 + rng.normal(0.0, 0.4)
    galaxy["mag"] = i_brightness + sky.galaxy_colour - 2.5 * np.log10(area)
    galaxy["x"] = rng.uniform(0.1, 0.9) * shape[1]
    galaxy["y"] = rng.uniform(0.1, 0.9) * shape[0]
    return galaxy


def _draw_globular(rng, shape, sky):
    """Draw a globular cluster: a Plummer sphere, fainter stars more numerous."""
    area = _area(shape, sky, 0) / 0.0359  # chips
    n = rng.poisson(sky.richness * (40000 * min(area, 1.0) + 400))
    radius = rng.uniform(*sky.core_radius) * max(shape)
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
    # A frame smaller than the cluster shows a part of its members.
    part = min(1.0, min(shape) / 2000.0)
    n = rng.poisson(250 * part * sky.richness)
    if sky.richness == 0.0:
        return np.zeros(0, dtype=SOURCE_DTYPE)
    galaxies = np.zeros(n + 1, dtype=SOURCE_DTYPE)
    galaxies["type"] = "galaxy"
    bright = 17.5 + sky.galaxy_colour
    faint = max(bright + 1.0, min(24.5 + sky.galaxy_colour, sky.faintest))
    galaxies["mag"] = bright + (faint - bright) * np.sqrt(rng.random(n + 1))
    galaxies["mag"][0] = bright - 0.5
    _draw_shapes(rng, galaxies, sky)
    galaxies["bulge_fraction"] = rng.beta(3.0, 1.5, n + 1)
    u = rng.uniform(0.0, 0.9, n + 1)
    r = 700.0 * np.sqrt(u / (1.0 - u)) * part
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
    """Return magnitudes and the number per deg² brighter than each.

    `counts` are those of the bins of one magnitude around `mags`, and are met exactly in
    every whole bin; inside, the density is log-linear between the middles of the bins, and
    beyond the ends it goes on with the end slopes.
    """
    faintest = max(faintest, brightest + 0.1)
    edges = np.append(mags - 0.5, mags[-1] + 0.5)
    ends = [min(brightest, edges[0]), max(faintest, edges[-1])]
    grid = np.unique(np.round(np.concatenate([np.arange(*ends, 0.02), ends, edges]), 9))
    log = np.log(counts)
    density = np.interp(grid, mags, log)
    low, high = grid < mags[0], grid > mags[-1]
    density[low] = log[0] + (grid[low] - mags[0]) * (log[1] - log[0])
    density[high] = log[-1] + (grid[high] - mags[-1]) * (log[-1] - log[-2])
    steps = 0.5 * (np.exp(density[1:]) + np.exp(density[:-1])) * np.diff(grid)
    which = np.searchsorted(edges, grid[:-1] + 1e-6) - 1
    # The integral of a steep law over a bin exceeds its value in the middle by a few per cent.
    for number, count in enumerate(counts):
        steps[which == number] *= count / steps[which == number].sum()
    table = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.clip(grid, brightest, faintest)
    cumulative = np.interp(wanted, grid, table)
    return wanted, cumulative - cumulative[0]


def _invert(rng, table, n):
    """Draw n magnitudes from a cumulative table."""
    grid, cumulative = table
    return np.interp(rng.random(n) * cumulative[-1], cumulative, grid)
