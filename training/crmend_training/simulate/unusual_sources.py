"""Rare sources that `unusual` adds: rotating galaxies on a slit, clusters on nuclei."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.simulate.psf_models import log_uniform

_SIGMA = 2.3548


def add_rotating(
    rng: np.random.Generator, view: NDArray[np.float32], noise: float, fwhm: float
) -> None:
    """Add emission lines of rotating galaxies, long across the slit and bent, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    view : (n_space, n_wave) float32 array
        e-/s per pixel; the dispersion runs along the second axis.
    noise : float
        1 sigma of a pixel of empty sky [e-/s].
    fwhm : float
        Of the PSF [px].
    """
    n_space, n_wave = view.shape
    width = max(fwhm, 1.2) / _SIGMA
    space, wave = np.arange(n_space), np.arange(n_wave)[None, :]
    for _ in range(int(rng.integers(1, 4))):
        place, extent = rng.uniform(0, n_space), log_uniform(rng, 3.0, 100.0)
        # All lines of one galaxy bend alike: a rise, then a flat part.
        turnover = extent * log_uniform(rng, 0.05, 2.0)
        speed = rng.choice([-1.0, 1.0]) * log_uniform(rng, 0.5, 60.0)
        across = (space - place) / extent
        shift = speed * np.tanh((space - place) / turnover)
        galaxy = np.zeros(view.shape)
        for _ in range(1 + rng.poisson(n_wave / 100.0)):
            light = np.exp(-np.abs(across)) if rng.random() < 0.5 else np.exp(-0.5 * across**2)
            if rng.random() < 0.6:
                light = light * _clumps(rng, n_space, width)
            peak = log_uniform(rng, 2.0, 1000.0) * noise
            own = width * (1.0 + rng.uniform(0.0, 1.0) * (rng.random() < 0.3))
            middle = rng.uniform(0, n_wave) + shift[:, None]
            galaxy += peak * light[:, None] * np.exp(-0.5 * ((wave - middle) / own) ** 2)
        view += ndimage.gaussian_filter1d(galaxy, width, axis=0).astype(np.float32)


def _clumps(rng, n_space, width):
    """Return how bright the regions of star formation along a slit are, the brightest 1."""
    knots = rng.lognormal(0.0, rng.uniform(0.5, 2.0), n_space)
    knots = ndimage.gaussian_filter1d(knots, width * log_uniform(rng, 1.0, 4.0), mode="reflect")
    return knots / knots.max()


def nuclei(
    rng: np.random.Generator, shape: tuple[int, int], fwhm: float
) -> NDArray[np.float64]:
    """Return one to three large galaxies with star clusters, knots and dust [noise].

    Clusters lie as the light does, so most of them near the nucleus.
    """
    light = np.zeros(shape)
    sigma = max(fwhm, 1.2) / _SIGMA
    for _ in range(int(rng.integers(1, 4))):
        middle = rng.uniform(0.1, 0.9, 2) * shape
        y, x = np.mgrid[: shape[0], : shape[1]] - middle[:, None, None]
        turn, axes = rng.uniform(0.0, np.pi), rng.uniform(0.3, 1.0)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        radius = np.hypot(np.hypot(along, across / axes), 0.3)
        index, size = rng.uniform(0.7, 4.5), log_uniform(rng, 8.0, 150.0)
        # Ciotti & Bertin (1999, A&A 352, 447), to first order.
        scale = 2.0 * index - 1.0 / 3.0
        galaxy = np.exp(-scale * ((radius / size) ** (1.0 / index) - 1.0))
        galaxy *= log_uniform(rng, 3.0, 300.0)
        galaxy /= 1.0 + galaxy / log_uniform(rng, 300.0, 20000.0)  # a core
        if rng.random() < 0.4:
            galaxy *= 1.0 - rng.uniform(0.2, 0.8) * _dust(rng, along, across, size)
        if rng.random() < 0.4:
            waves = rng.integers(1, 4) * 2 * np.arctan2(across, along)
            arms = np.cos(waves - rng.uniform(2.0, 8.0) * np.log(radius))
            galaxy *= 1.0 + rng.uniform(0.0, 0.7) * arms
        light += ndimage.gaussian_filter(galaxy, sigma) + _clusters(rng, galaxy, radius, sigma)
    return light


def _dust(rng, along, across, size):
    """Return how dark a lane of dust is, 0 to 1."""
    width = size * log_uniform(rng, 0.02, 0.2)
    bent = across - rng.normal(0.0, 0.3) * along**2 / size - rng.normal(0.0, 0.2) * size
    return np.exp(-0.5 * (bent / width) ** 2) * (np.abs(along) < size * rng.uniform(0.5, 2.0))


def _clusters(rng, galaxy, radius, sigma):
    """Return star clusters, a little wider than the PSF at most, where a galaxy's light is."""
    weight = np.minimum(galaxy, 300.0) / np.maximum(radius, 1.0) ** rng.uniform(0.0, 1.0)
    total = np.cumsum(weight)
    count = rng.poisson(log_uniform(rng, 10.0, 300.0))
    places = np.searchsorted(total, rng.uniform(0.0, total[-1], count))
    light = np.zeros_like(galaxy)
    brightest = log_uniform(rng, 30.0, 3000.0)
    half = int(np.ceil(12.0 * sigma)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    for place in np.minimum(places, galaxy.size - 1):
        row, column = divmod(int(place), galaxy.shape[1])
        own = sigma * (1.0 + rng.uniform(0.0, 0.6) * (rng.random() < 0.5))
        away = (y - rng.uniform(-0.5, 0.5)) ** 2 + (x - rng.uniform(-0.5, 0.5)) ** 2
        # The brighter the fewer, as clusters are: 1/flux each octave.
        peak = min(3.0 / rng.random(), brightest)
        # β = 3.5: between a Gaussian and the wings of an obstructed mirror.
        stamp = peak * (1.0 + away / (2.0 * own**2) * 0.438) ** -3.5
        add_stamp(light, stamp, row - half, column - half)
    return light


def add_stamp(
    light: NDArray[np.float64], stamp: NDArray[np.float64], low: int, left: int
) -> None:
    """Add what of a stamp lies inside, its corner at (low, left), in place."""
    rows, columns = stamp.shape
    part = light[max(low, 0) : max(low + rows, 0), max(left, 0) : max(left + columns, 0)]
    at = max(-low, 0), max(-left, 0)
    part += stamp[at[0] : at[0] + part.shape[0], at[1] : at[1] + part.shape[1]]
