"""Light that is no source: ghosts of bright stars, satellite trails; and moving objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from crmend_training.simulate._light import add_disc, add_line
from crmend_training.simulate.bands import FULL_SHAPE, PIXEL_SCALE
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.optics import Optics

TRAIL, GHOST = 32, 64
"""Bits of the FLAG plane (2022 pipeline)."""

_GHOST_SEED = 31_415_926
_PROFILE_STEP = 0.25  # px, of the tabulated profile across a trail
_FAINTEST_GHOST = 0.05  # of the noise: fainter ones are not drawn


@dataclass(frozen=True)
class Artefacts:
    """How many artefacts a frame has, and what the frame is like.

    Attributes
    ----------
    ghosts : int
        Ghosts of every bright star; 0 for none.  Each ghost path of a chip has its own
        strength, size and place, the same in every exposure.
    ghost_share : (float, float)
        Range of a ghost's light relative to its star's, log-uniform.  Assumed between the
        1e-6 of one reflection in Euclid VIS (Euclid DPDD) and the 1.5e-3 of the field
        flattener of WFPC2 (WFPC2 handbook, section 5.9).
    ghost_radius : (float, float)
        Range of the radius of the defocused pupil [px]; Euclid NISP masks ghosts of stars
        brighter than mag 10 with 20–40 px (Euclid Collaboration: Paterson et al. 2025).
    ghost_hole : float
        Inner over outer radius of the pupil; 0 for the unobstructed one of CSST.
    trails : float
        Mean number of satellite trails per full frame; smaller frames get theirs in
        proportion to their perimeter.  0 for none.  About one in ten Hubble exposures has one
        (STScI release 2023-017), of a field a third as wide as a chip, exposed four
        times longer.
    trail_peak : (float, float)
        Range of the peak brightness, in units of `noise`, log-uniform (assumed).
    flashes : float
        Probability that a trail flashes, as a tumbling satellite does (assumed).
    moving_objects : float
        Mean number per full frame down to `faintest`; 0 for none.  On the ecliptic there are
        210 asteroids per deg² to R = 23 (Gladman et al. 2009), 8 per chip; the survey
        mostly looks elsewhere, so that a fifth of it is assumed.
    motion : (float, float)
        Range of the apparent motion [arcsec/h], log-uniform: Kuiper belt to main belt.
    zero_point, faintest : float
        Magnitude of 1 e-/s; magnitude of the faintest moving object.
    noise : float
        1 sigma of a pixel of empty sky [e-/s].
    flag_limit : float
        Pixels are flagged where an artefact exceeds so many `noise`.  Half a sigma per
        pixel is plain to see in something that covers hundreds of pixels.
    exposure_time, pixel_scale : float
        s; arcsec.
    detector : int
        Chip; it settles the ghost paths.
    """

    ghosts: int = 2
    ghost_share: tuple[float, float] = (1e-5, 1e-4)
    ghost_radius: tuple[float, float] = (12.0, 45.0)
    ghost_hole: float = 0.0
    trails: float = 0.1
    trail_peak: tuple[float, float] = (0.5, 200.0)
    flashes: float = 0.2
    moving_objects: float = 1.6
    motion: tuple[float, float] = (0.5, 60.0)
    zero_point: float = 26.08
    faintest: float = 25.5
    noise: float = 0.06
    flag_limit: float = 0.5
    exposure_time: float = 150.0
    pixel_scale: float = PIXEL_SCALE
    detector: int = 0


def add_artefacts(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    catalog: NDArray[np.void],
    optics: Optics,
    settings: Artefacts,
) -> tuple[NDArray[np.int32] | None, NDArray[np.void]]:
    """Add ghosts, satellite trails and moving objects to a scene, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    scene : (ny, nx) float32 array
        e-/s per pixel.
    catalog : structured array of `catalog.SOURCE_DTYPE`
    optics : Optics
    settings : Artefacts

    Returns
    -------
    flag : (ny, nx) int32 array or None
        Bits 32 (satellite trail) and 64 (ghost) where one exceeds `flag_limit`; None where
        neither is switched on.
    rows : structured array of `catalog.SOURCE_DTYPE`
        Moving objects and trails; id 0.
    """
    for_trails, for_movers = rng.spawn(2)
    flag = None
    rows = [np.zeros(0, dtype=SOURCE_DTYPE)]
    if settings.ghosts > 0 or settings.trails > 0.0:
        flag = np.zeros(scene.shape, dtype=np.int32)
        _add_ghosts(scene, flag, catalog[catalog["type"] == "star"], settings)
        rows.append(_add_trails(for_trails, scene, flag, optics, settings))
    if settings.moving_objects > 0.0:
        rows.append(_add_moving_objects(for_movers, scene, optics, settings))
    return flag, np.concatenate(rows)


def ghost_paths(settings: Artefacts) -> NDArray[np.float64]:
    """Return the ghost paths of a chip, one row each.

    Columns: share of the star's light, radius [px], scale of the displacement from the
    centre, offset in x and y [px], tilt of the brightness along x and y.  The first path is
    mirrored through the centre of the frame; further ones lie at a fixed offset from the
    star, as reflections inside a tilted filter do (WFPC2 handbook, section 5.9).
    """
    rng = np.random.default_rng([_GHOST_SEED, settings.detector])
    paths = np.zeros((settings.ghosts, 7))
    for number, path in enumerate(paths):
        path[0] = np.exp(rng.uniform(*np.log(settings.ghost_share)))
        path[1] = np.exp(rng.uniform(*np.log(settings.ghost_radius)))
        path[2] = rng.uniform(-1.4, -0.6) if number == 0 else 1.0
        away = rng.uniform(2.0, 6.0) * path[1] if number else rng.uniform(0.0, 30.0)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        path[3:5] = away * np.cos(angle), away * np.sin(angle)
        path[5:] = rng.uniform(-0.25, 0.25, 2)
    return paths


def _add_ghosts(scene, flag, stars, settings):
    """Add the ghosts of all stars bright enough to show them, in place."""
    ny, nx = scene.shape
    centre_x, centre_y = 0.5 * (nx - 1), 0.5 * (ny - 1)
    limit = settings.flag_limit * settings.noise
    for share, radius, scale, off_x, off_y, *tilt in ghost_paths(settings):
        area = np.pi * radius**2 * (1.0 - settings.ghost_hole**2)
        bright = stars[stars["flux"] * share / area > _FAINTEST_GHOST * settings.noise]
        for star in bright:
            x = centre_x + scale * (star["x"] - centre_x) + off_x
            y = centre_y + scale * (star["y"] - centre_y) + off_y
            shape = (x, y, radius, settings.ghost_hole, np.array(tilt))
            add_disc(scene, flag, *shape, star["flux"] * share, limit, GHOST)


def _add_trails(rng, scene, flag, optics, settings):
    """Draw satellites that cross the whole frame; return their catalogue rows."""
    ny, nx = scene.shape
    expected = settings.trails * (ny + nx) / sum(FULL_SHAPE)
    rows = np.zeros(rng.poisson(expected), dtype=SOURCE_DTYPE)
    kept = []
    for row in rows:
        # Lines even in direction and in distance from the centre cross evenly.
        angle, radius = rng.uniform(0.0, np.pi), 0.5 * float(np.hypot(nx, ny))
        reach = 0.5 * (nx * np.sin(angle) + ny * abs(np.cos(angle)))
        offset = rng.uniform(-1.0, 1.0) * reach
        direction = np.array([np.cos(angle), np.sin(angle)])
        middle = np.array([0.5 * (nx - 1), 0.5 * (ny - 1)])
        middle += offset * np.array([-direction[1], direction[0]])
        start = middle - 1.5 * radius * direction
        across = trail_profile(rng, optics.psfs[0].fwhm, settings.pixel_scale)
        peak = np.exp(rng.uniform(*np.log(settings.trail_peak))) * settings.noise
        along = _brightness_along(rng, int(3.0 * radius), settings.flashes)
        along *= peak / across[0]
        limit = settings.flag_limit * settings.noise
        add_line(scene, flag, start, direction, along, across, _PROFILE_STEP, limit, TRAIL)
        inside = _inside(start, direction, along.size, scene.shape)
        if inside.any():
            _describe(
                row, settings, start, direction, np.flatnonzero(inside), along[inside].sum()
            )
            row["axis_ratio"] = min(1.0, _half_width(across) / row["r_half"])
            kept.append(row)
    return np.array(kept, dtype=SOURCE_DTYPE)


def trail_profile(
    rng: np.random.Generator, fwhm: float, pixel_scale: float, aperture: float = 2.0
) -> NDArray[np.float64]:
    """Return the profile across a trail, its integral over both sides 1.

    A satellite at a distance d is out of focus: its image is the pupil, aperture / d wide,
    and the trail's profile the chord through it, √(1 − t²); to it come the satellite's own
    size and the PSF.  Distances of 200–3000 km and sizes of 1–5 m are assumed.

    Parameters
    ----------
    rng : numpy.random.Generator
    fwhm : float
        Of the PSF [px].
    pixel_scale : float
        Arcseconds per pixel.
    aperture : float
        [m].

    Returns
    -------
    (n,) float64 array
        At steps of a quarter pixel from the middle; [1/px].
    """
    distance = np.exp(rng.uniform(np.log(2e5), np.log(3e6)))
    size = rng.uniform(1.0, 5.0)
    pixels = 206264.8 / pixel_scale / distance  # per metre
    half = 0.5 * aperture * pixels
    # The satellite itself is narrower than its defocus or about as wide: a Gaussian will do.
    sigma = np.hypot(max(fwhm, 1.0) / 2.3548, 0.25 * size * pixels)
    reach = half + 5.0 * sigma + 1.0
    n = int(reach / _PROFILE_STEP) + 2
    t = np.arange(-n, n + 1) * _PROFILE_STEP
    profile = np.sqrt(np.clip(1.0 - (t / half) ** 2, 0.0, None)) if half > 0.5 else 0.0 * t
    if profile.sum() == 0.0:
        profile[n] = 1.0
    profile = gaussian_filter1d(profile, sigma / _PROFILE_STEP, mode="constant")
    profile /= profile.sum() * _PROFILE_STEP
    return np.ascontiguousarray(profile[n:])


def _brightness_along(rng, n, flashes):
    """Return the relative brightness along a trail: slow changes, sometimes flashes."""
    s = np.arange(n + 2.0)
    along = 1.0 + rng.uniform(0.0, 0.3) * np.sin(2.0 * np.pi * (s / n * rng.uniform(0.3, 3.0)))
    if rng.random() < flashes:
        period, width = n * rng.uniform(0.03, 0.3), n * rng.uniform(0.002, 0.02)
        distance = (s + rng.uniform(0.0, period)) % period - 0.5 * period
        along += rng.uniform(1.0, 10.0) * np.exp(-0.5 * (distance / width) ** 2)
    return along


def _add_moving_objects(rng, scene, optics, settings):
    """Draw asteroids as short streaks of PSFs; return their catalogue rows."""
    ny, nx = scene.shape
    expected = settings.moving_objects * ny * nx / (FULL_SHAPE[0] * FULL_SHAPE[1])
    rows = np.zeros(rng.poisson(expected), dtype=SOURCE_DTYPE)
    for row in rows:
        # Numbers grow like 10^(0.27 m) (Gladman et al. 2009), here over eight magnitudes.
        part = 1.0 - rng.random() * (1.0 - 10.0 ** (-0.27 * 8.0))
        flux = 10.0 ** (0.4 * (settings.zero_point - settings.faintest)) * part ** (-0.4 / 0.27)
        rate = np.exp(rng.uniform(*np.log(settings.motion)))
        length = rate / 3600.0 * settings.exposure_time / settings.pixel_scale
        angle = rng.uniform(0.0, np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        start = rng.random(2) * (nx, ny) - 0.5 - 0.5 * length * direction
        n = int(np.ceil(8.0 * length)) + 1
        steps = (np.arange(n) + 0.5) / n * length
        parts = np.full(n, flux / n)
        place = start[:, None] + direction[:, None] * steps
        # Each step is faint; the sum must reach the floor of a star of the whole flux.
        optics.add_points(scene, *place, parts, 0.01 * settings.noise / n)
        _describe(row, settings, start, direction, np.array([0.0, length]), flux)
        row["axis_ratio"] = min(1.0, optics.psfs[0].fwhm / max(length, 1e-3))
        row["type"] = "moving"
    return rows


def _describe(row, settings, start, direction, span, flux):
    """Fill in a catalogue row of something straight, in place."""
    row["type"] = "trail"
    middle = start + 0.5 * (span[0] + span[-1]) * direction
    row["x"], row["y"] = middle
    row["flux"] = flux
    row["mag"] = settings.zero_point - 2.5 * np.log10(flux)
    row["r_half"] = max(0.5 * (span[-1] - span[0]), 0.5)
    row["position_angle"] = np.arctan2(direction[1], direction[0]) % np.pi


def _inside(start, direction, n, shape):
    """Return which whole steps along a line lie on the frame."""
    x, y = start[:, None] + direction[:, None] * np.arange(n)
    return (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)


def _half_width(across):
    """Return the half width at half maximum of a trail [px]."""
    return _PROFILE_STEP * float(np.count_nonzero(across > 0.5 * across[0]))
