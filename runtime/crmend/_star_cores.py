"""Cosmic rays on the cores of stars, judged by the image's own point-spread function.

A network hardly dares to flag the peak of a bright star, and where it does, it is often wrong.
Once the PSF is known from all stars of an image, the rest of a star says what its core should
be: a pixel far above is a cosmic ray, unless its neighbours say that it is another star; a
flagged pixel that is as it should be is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from crmend._fit import POINT, SKY, N, draw_source, fit_source
from crmend._gaps import median_fill
from crmend._holes import fill_holes
from crmend._kernels import MIN_GOOD
from crmend._normalise import Scale, measure_scale, to_noise_units
from crmend._psf import LEAST_PEAK, MOST_WINGS, psf_and_wings
from crmend.sources import BAND_ROWS, SourceCatalog, find_sources

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

FREED = (-4.0, 1.0)
"""A flagged pixel between these [sigma] is as the star's light says."""

MOST_MISFIT = 1.6
"""Root mean square of what is left around the core [sigma]: what has more is no single star."""

SHARPNESS = 0.5
"""A star's second-faintest neighbour pixel has at least a part of its peak; of a cosmic ray's
it is below so much of that part (0.04 and less at most, where companions have 0.2 to 0.4)."""

LEAST_NEIGHBOUR = 0.1
"""That part itself, at least.  A PSF so undersampled that a second-faintest neighbour has less
does not tell stars from cosmic rays (simulated CSST frames: 0.15 to 0.4)."""

MOST_STRUCK = 0.1
"""Part of the judged stars that may have a cosmic ray which the network missed (simulated CSST
frames: 0.06 at most); where more have, or more than `_FEW`, they are not like the PSF."""

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
_FEW = 2
_ROUNDS = 4  # of fitting two stars in turn
_COMPANION = 4  # half width of the square that the second is fitted in [px]
# The constants above were chosen on 102 simulated frames that no report uses; LOG.md, round 11.


@dataclass(frozen=True, eq=False)
class StarCores:
    """What was learnt on the way, and how many pixels changed.

    Attributes
    ----------
    sources : SourceCatalog
        Stars and galaxies of the image.
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`; k = 0 where there are too few stars to tell it.
    added, freed : int
        Pixels that became cosmic rays, and that are none any more.
    """

    sources: SourceCatalog
    psf: NDArray[np.float64]
    added: int
    freed: int


def check_star_cores(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    *,
    sources: SourceCatalog | None = None,
    electrons_per_unit: float | None = None,
    band_rows: int = BAND_ROWS,
    threads: int = 1,
) -> StarCores:
    """Look at the cores of all stars, and mend the cr_mask there, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Native and C-contiguous.  It is written to meanwhile, and in the end as it was.
    cr_mask : (ny, nx) bool array
        True = cosmic ray; changed in the cores of stars.
    invalid, excluded : (ny, nx) bool arrays
        As in `crmend.detect.detect_into`.
    sources : SourceCatalog or None
        None = find them.
    electrons_per_unit : float or None
        Multiply the image by this to have electrons; None = not known.
    band_rows : int
        Rows that are searched for sources at once.
    threads : int
        Stars that are fitted at the same time.

    Returns
    -------
    StarCores
        Nothing changed where the image has too few stars to tell its PSF, where that has a
        halo, or too many do not look like it.
    """
    scale = measure_scale(image, excluded | cr_mask)
    with _filled(image, cr_mask, excluded, scale):
        if sources is None:
            sources = find_sources(
                image, invalid=invalid, noise=scale.noise, band_rows=band_rows
            )
        psf, wings = psf_and_wings(image, cr_mask, excluded, scale, sources)
        places = _bright(image, excluded, scale, sources)
    if psf is None:
        return StarCores(sources, np.empty((0, 4)), 0, 0)
    neighbour = least_neighbour(psf)
    # A sum of few Gaussians is near enough to a halo to mend from, not to judge by: LOG.md.
    if neighbour < LEAST_NEIGHBOUR or wings >= MOST_WINGS or len(places) == 0:
        return StarCores(sources, psf, 0, 0)
    judge = partial(
        _judge_place, image, cr_mask, excluded, scale, psf,
        _photons(scale, electrons_per_unit), SHARPNESS * neighbour,
    )  # fmt: skip
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        judged = [one for one in pool.map(judge, *places.T) if one is not None]
    struck = sum(found.size > 0 for found, _ in judged)
    if not judged or struck > max(_FEW, MOST_STRUCK * len(judged)):
        return StarCores(sources, psf, 0, 0)
    found, freed = (np.unique(np.concatenate(pixels)) for pixels in zip(*judged, strict=True))
    cr_mask.flat[found] = True
    cr_mask.flat[freed] = False
    return StarCores(sources, psf, int(found.size), int(freed.size))


@contextmanager
def _filled(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
) -> Iterator[None]:
    """Let the CR pixels of an image hold medians meanwhile, those of holes what continues."""
    flat = np.flatnonzero(cr_mask)
    own = image.flat[flat]
    spread = np.empty(flat.size, dtype=np.float32)
    try:
        median_fill(image, cr_mask, excluded, MIN_GOOD, scale.background, spread)
        fill_holes(image, cr_mask, scale)
        yield
    finally:
        image.flat[flat] = own


def _bright(
    image: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    scale: Scale,
    sources: SourceCatalog,
) -> NDArray[np.int64]:
    """Return (n, 2) x and y of the sources that are bright, whole and not saturated."""
    ny, nx = image.shape
    with np.errstate(invalid="ignore"):
        places = np.floor(np.column_stack([sources.x, sources.y]) + 0.5)
    inside = (places >= HALF).all(axis=1) & (places < (nx - HALF, ny - HALF)).all(axis=1)
    places = places[inside].astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        peak = to_noise_units(image[places[:, 1], places[:, 0]], scale)
    bright = (peak > LEAST_PEAK) & np.isfinite(peak)
    kept = [
        not excluded[y - CORE : y + CORE + 1, x - CORE : x + CORE + 1].any()
        for x, y in places[bright]
    ]
    whole: NDArray[np.int64] = places[bright][np.array(kept, dtype=bool)]
    return whole


def _photons(scale: Scale, electrons_per_unit: float | None) -> float:
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
    point = np.empty((5, 5), dtype=np.float32)
    model = np.eye(1, N)[0]
    least = 1.0
    for model[2] in np.linspace(-0.5, 0.5, 5):
        for model[1] in np.linspace(-0.5, 0.5, 5):
            draw_source(model, psf, POINT, point)
            if point[2, 2] == 0.0:  # far narrower than a pixel
                return 0.0
            around = np.sort(point[[1, 2, 2, 3], [2, 1, 3, 2]])
            least = min(least, float(around[1] / point[2, 2]))
    return least


def _judge_place(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    psf: NDArray[np.float64],
    photons: float,
    sharp: float,
    x: int,
    y: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the flat indices of the pixels to add and to free; None = no single star."""
    window = np.s_[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
    with np.errstate(over="ignore", invalid="ignore"):
        stamp = to_noise_units(image[window], scale)
    lost = cr_mask[window]
    usable = np.isfinite(stamp)
    gone = lost | excluded[window] | ~usable
    judged = judge_star(np.where(usable, stamp, np.float32(0.0)), gone, psf, photons, sharp)
    if judged is None:
        return None
    found, rest = judged
    freed = lost & usable & ~excluded[window] & _square(CORE)
    freed &= (rest > FREED[0]) & (rest < FREED[1])
    corner = (y - HALF) * image.shape[1] + (x - HALF)
    indices = [
        corner + rows * image.shape[1] + columns
        for rows, columns in (np.nonzero(found), np.nonzero(freed))
    ]
    return indices[0], indices[1]


def judge_star(
    stamp: NDArray[np.float32],
    gone: NDArray[np.bool_],
    psf: NDArray[np.float64],
    photons: float,
    sharp: float,
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

    Returns
    -------
    (13, 13) bool array and (13, 13) float64 array, or None
        Cosmic rays that were found, and image − star [sigma]; None = it is no single star.
    """
    model, fit = np.empty_like(stamp), np.empty(N)
    found = np.zeros_like(gone)
    core, surroundings = _square(CORE), _square(_SURROUNDINGS)
    while True:
        fit_source(stamp, gone | found, psf, POINT, fit, SKY)
        draw_source(fit, psf, POINT, model)
        light = np.maximum(model, 0.0, dtype=np.float64)
        sigma = np.sqrt(1.0 + photons * light + (MISMATCH * light) ** 2)
        rest = (stamp - fit[7] - model) / sigma
        left = np.where(core & ~gone & ~found, rest, -np.inf)
        if left.max() < (ALSO_FOUND if found.any() else FOUND):
            break
        if np.count_nonzero(found) == MOST_FOUND:
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
    inside = _square(_SURROUNDINGS) & ~gone
    return float(np.sum(((stamp - first - second) / sigma)[inside] ** 2))


def _square(half: int) -> NDArray[np.bool_]:
    """Return the pixels of a stamp that are at most so far from its middle."""
    square = np.zeros((2 * HALF + 1, 2 * HALF + 1), dtype=bool)
    square[HALF - half : HALF + half + 1, HALF - half : HALF + half + 1] = True
    return square
