"""What a star's light explains of a stamp, and what stands out of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._fit import POINT, SKY, N, draw_source, fit_source
from crmend._normalise import Scale
from crmend._psf import LEAST_PEAK

HALF = 6
"""Half width of what is fitted of a star [px]."""

CORE = 2
"""Pixels so far from the middle, along rows and columns, are judged [px]."""

FOUND = 6.0
"""A star with a pixel so far above the fit [sigma] has a cosmic ray; with n pixels, the highest
must be n - 1 times so far."""

ALSO_FOUND = 4.5
"""Further pixels of it, at least [sigma]."""

MOST_FOUND = 4
"""With more it is no cosmic ray on a star, but something that is no star."""

MOST_MISFIT = 1.6
"""Root mean square of what is left around the core [sigma]: what has more is no single star."""

SHARPNESS = 0.5
"""A star's second-faintest neighbour pixel has at least a part of its peak; of a cosmic ray's
it is below so much of that part (0.04 and less at most, where companions have 0.2 to 0.4)."""

MISMATCH = 0.02
"""Error of the PSF, as part of the star's light in a pixel."""

PHOTONS = 0.25
"""Variance [background noise²] per signal [background noise], where the gain is not known: that
of a background noise of 4 e-, on the safe side for most images."""

PHOTON_LIMITS = (0.01, 1.0)
"""Of the same from a header: noises of 100 e- and of 1 e-."""

PAIR = 0.35
"""By how much two stars must fit worse than one with a cosmic ray, as part of the cosmic ray's
own sum of squares (close pairs of stars: 0.3 at most; nearly all cosmic rays: 0.5 and more)."""

_SURROUNDINGS = 3  # half width of where the fit must be good [px]
_LEAST_GOOD = 20  # pixels of those 49
_ROUNDS = 4  # of fitting two stars in turn
_COMPANION = 4  # half width of the square that the second is fitted in [px]
# The constants above were chosen on 102 simulated frames that no report uses; LOG.md, round 11.


def photons_of(scale: Scale, electrons_per_unit: float | None) -> float:
    """Return the variance of a signal of one background noise, in units of its square."""
    if electrons_per_unit is None:
        return PHOTONS
    low, high = PHOTON_LIMITS
    return min(max(1.0 / (scale.noise * electrons_per_unit), low), high)


def least_neighbour(psf: NDArray[np.float64]) -> float:
    """Return what the second-faintest neighbour of a star's peak has of it, at least.

    Parameters
    ----------
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`.
    """
    return float(np.sort(_neighbours(psf), axis=0)[1].min())


def opposite_neighbours(
    psf: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the greatest product of two opposite neighbours of a star's peak.

    In units of the peak squared: of a Gaussian it is the same wherever in its pixel the star
    lies.

    Parameters
    ----------
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`.

    Returns
    -------
    two (2,) float64 arrays
        Of the pixels above and below, and of those left and right.
    """
    up, left, right, down = _neighbours(psf)
    products = np.stack([up * down, left * right])
    return products.min(axis=1), products.max(axis=1)


def _neighbours(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the neighbours of a star's peak over it, (4, 25), at 25 places within a pixel.

    In the order up, left, right, down; 0 where the star is far narrower than a pixel.
    """
    point = np.empty((5, 5), dtype=np.float32)
    model = np.eye(1, N)[0]
    shares = []
    for model[2] in np.linspace(-0.5, 0.5, 5):
        for model[1] in np.linspace(-0.5, 0.5, 5):
            draw_source(model, psf, POINT, point)
            around = point[[1, 2, 2, 3], [2, 1, 3, 2]]
            shares.append(around / point[2, 2] if point[2, 2] > 0.0 else np.zeros(4))
    return np.stack(shares, axis=1).astype(np.float64)


def judge_star(
    stamp: NDArray[np.float32],
    gone: NDArray[np.bool_],
    psf: NDArray[np.float64],
    photons: float,
    sharp: float,
    most_found: int = MOST_FOUND,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]] | None:
    """Fit a star, take away what stands out of it, and fit again.

    Parameters
    ----------
    stamp : (13, 13) float32 array
        In units of the background noise, background removed, finite.
    gone : (13, 13) bool array
        True = not looked at.
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`.
    photons : float
        Variance per signal, as `PHOTONS`.
    sharp : float
        Of a cosmic ray's peak, what the second-faintest neighbour has at most.
    most_found : int
        Where more pixels stand out it is no star.

    Returns
    -------
    (13, 13) bool array and (13, 13) float64 array, or None
        Cosmic rays that were found, and image − star [sigma]; None = it is no single star.
    """
    model, fit = np.empty_like(stamp), np.empty(N)
    found = np.zeros_like(gone)
    core, surroundings = square(CORE), square(_SURROUNDINGS)
    while True:
        fit_source(stamp, gone | found, psf, POINT, fit, SKY)
        draw_source(fit, psf, POINT, model)
        light = np.maximum(model, 0.0, dtype=np.float64)
        sigma = np.sqrt(1.0 + photons * light + (MISMATCH * light) ** 2)
        rest = (stamp - fit[7] - model) / sigma
        left = np.where(core & ~gone & ~found, rest, -np.inf)
        if left.max() < (ALSO_FOUND if found.any() else FOUND):
            break
        if np.count_nonzero(found) == most_found:
            return None
        found.flat[np.argmax(left)] = True
    good = rest[surroundings & ~gone & ~found]
    if good.size < _LEAST_GOOD or math.sqrt(float(np.mean(good**2))) > MOST_MISFIT:
        return None
    if model.max() < LEAST_PEAK:
        return None
    if found.any():
        peak = divmod(int(np.argmax(np.where(found, rest, -np.inf))), stamp.shape[1])
        # Faint and wide is what a PSF leaves that is not quite the star's.
        if rest[peak] < FOUND * (np.count_nonzero(found) - 1):
            return None
        if not _is_sharp(rest * sigma, gone, peak, sharp):
            return None
        as_pair = _pair_misfit(stamp, gone, psf, fit[7] + model, peak, sigma)
        if as_pair - float(np.sum(good**2)) < PAIR * float(np.sum(rest[found] ** 2)):
            return None
    return found, rest


def _is_sharp(
    excess: NDArray[np.float64],
    gone: NDArray[np.bool_],
    peak: tuple[int, int],
    sharp: float,
) -> bool:
    """Say whether the highest of the found pixels stands out as no star's peak does."""
    y, x = peak
    around = [(y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
    known = sorted(excess[place] for place in around if not gone[place])
    return not known or known[min(1, len(known) - 1)] < sharp * excess[y, x]


def _pair_misfit(
    stamp: NDArray[np.float32],
    gone: NDArray[np.bool_],
    psf: NDArray[np.float64],
    first: NDArray[np.float32],
    peak: tuple[int, int],
    sigma: NDArray[np.float64],
) -> float:
    """Fit two stars, the second at the highest found pixel; return the sum of squares [sigma²].

    They are fitted in turn, each to what the other leaves; `first` is where to begin.
    """
    window = tuple(slice(p - _COMPANION, p + _COMPANION + 1) for p in peak)
    lost = np.ascontiguousarray(gone[window])
    fit, star, second = np.empty(N), np.empty_like(stamp), np.zeros_like(stamp)
    part = np.empty(lost.shape, dtype=np.float32)
    for _ in range(_ROUNDS):
        fit_source((stamp - first)[window].astype(np.float32), lost, psf, POINT, fit, SKY)
        draw_source(fit, psf, POINT, part)
        second[window] = part
        fit_source(stamp - second, gone, psf, POINT, fit, SKY)
        draw_source(fit, psf, POINT, star)
        first = star + np.float32(fit[7])
    inside = square(_SURROUNDINGS) & ~gone
    return float(np.sum(((stamp - first - second) / sigma)[inside] ** 2))


def square(half: int) -> NDArray[np.bool_]:
    """Return the pixels of a stamp that are at most so far from its middle."""
    square = np.zeros((2 * HALF + 1, 2 * HALF + 1), dtype=bool)
    square[HALF - half : HALF + half + 1, HALF - half : HALF + half + 1] = True
    return square
