"""A frame's own point-spread function, from its stars, as a sum of Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from crmend._fit import MISMATCH, MOFFAT, PHOTONS, POINT, SKY, N, fit_source
from crmend._normalise import MAD_TO_SIGMA, Scale, to_noise_units
from crmend.sources import SourceCatalog

HALF = 8
"""Half width of the stamps of stars [px]."""

FITTED = 6
"""Half width of what is fitted of them: few stars have no neighbour in 13 × 13 pixels."""

LEAST_PEAK = 20.0
"""Highest pixel of a star [background noise], at least."""

MOST = 400
"""Sources that are looked at, the brightest."""

MOST_STARS = 80
"""Of those that are stars so many make the PSF."""

LEAST_STARS = 6
"""With fewer there is no PSF."""

BRIGHT = 100.0
"""Stars with higher peaks than this are dimmed to it where their widths are compared
[background noise]."""

LADDER = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Standard deviations of the Gaussians, over that of a Gaussian with the stars' width."""

MOST_WINGS = 0.15
"""Part of the light beyond `_FAR`: what has more is a galaxy (of a cluster, say, where stars
are few), or a star with a halo, which only how alike they are tells from it."""

HALO_STARS, HALO_WINGS = 30, 0.5
"""So many stars may have up to so much there: fields of HST, 33 to 76 stars, have 0.26 to 0.39
(groups of galaxies in simulated CSST frames: 0.25 to 0.36, 14 galaxies at most)."""

HALO_SCATTER = 0.17
"""Their shapes scatter by so little (HST: 0.15 at most; those groups: 0.19 at least)."""

ALIKE = (0.1, 0.03)
"""Few stars may have as much if their shapes and widths scatter by less than this: stars of
simulated CSST frames by 0.065 and 0.023 at most, galaxies in frames without stars by 0.07 to
0.2 and 0.024 to 0.077 (never both below)."""

_FLAT = 0.6  # a flat top: 1.6 of a Gaussian less 0.6 of the next narrower; see `_basis`
_MISFIT = 2.5  # sum of squares of a star over the median of all, at most
_FAR = 3.0  # [standard deviations of a Gaussian with the stars' width]
_SAME = 0.08  # stars: widths that differ by so little from the most common one [part]
_COMMON = 0.15  # density of stars over that of the most common width, at least
_KERNEL = 0.04  # smoothing of the widths' distribution [part]


def measure_psf(
    image: NDArray[np.float32],
    lost: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    sources: SourceCatalog,
) -> NDArray[np.float64] | None:
    """Return what a point looks like: the first of `psf_and_wings`, which see."""
    return psf_and_wings(image, lost, excluded, scale, sources)[0]


def psf_and_wings(
    image: NDArray[np.float32],
    lost: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    sources: SourceCatalog,
) -> tuple[NDArray[np.float64] | None, float]:
    """Find the stars among the sources of a frame, and what a point looks like.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Cosmic rays filled in any way.
    lost : (ny, nx) bool array
        True = cosmic ray: not looked at.
    excluded : (ny, nx) bool array
        True = invalid or saturated: no star may have such a pixel.
    scale : Scale
        Background and noise of the image.
    sources : SourceCatalog

    Returns
    -------
    (k, 4) float64 array, or None
        Of each Gaussian the part of the light, and the covariance in x², xy and y² [px²];
        the pixel is in it.  None = there are too few stars.
    float
        Part of the light beyond three standard deviations of a Gaussian of that width.
    """
    stamps, masks = _candidates(image, lost, excluded, scale, sources)
    if len(stamps) < LEAST_STARS:
        return None, 0.0
    # Of all alike: the rings of a bright star's diffraction pattern would narrow its profile.
    peaks = stamps[:, HALF, HALF, np.newaxis, np.newaxis]
    dimmed = stamps / np.maximum(peaks / BRIGHT, np.float32(1.0))
    fits, _ = _fit_all(dimmed, masks, np.empty((0, 4)), MOFFAT)
    width, shapes = _widths_and_shapes(fits)
    star = np.abs(np.log(width) - _locus(np.log(width))) < _SAME
    if star.sum() < LEAST_STARS:
        return None, 0.0
    chosen = np.flatnonzero(star)[:MOST_STARS]
    stamps, masks = stamps[chosen], masks[chosen]
    shapes = shapes[chosen]
    shape = np.median(shapes, axis=0)
    sigma = float(np.median(width[chosen]))
    psf = np.array([[1.0, *(sigma**2 * shape)]])
    for _ in range(3):
        found, costs = _fit_all(stamps, masks, psf, POINT)
        kept = (costs < _MISFIT * np.median(costs)) & (found[:, 0] > 0.0)
        if kept.sum() < LEAST_STARS:
            return None, 0.0
        psf = _solve_ladder(stamps[kept], masks[kept], found[kept], sigma, shape)
        if len(psf) == 0:
            # None of these widths fits: the "stars" of an image that was clipped, say.
            return None, 0.0
    wings = psf[:, 0] @ np.exp(-0.5 * (_FAR * sigma) ** 2 / np.sqrt(_determinants(psf)))
    scatter = MAD_TO_SIGMA * np.median(np.abs(shapes - shape), axis=0)[:2].sum()
    logs = np.log(width[chosen])
    spread = MAD_TO_SIGMA * np.median(np.abs(logs - np.median(logs)))
    many = kept.sum() >= HALO_STARS and scatter < HALO_SCATTER
    alike = scatter < ALIKE[0] and spread < ALIKE[1]
    most = HALO_WINGS if many or alike else MOST_WINGS
    return psf if wings < most else None, float(wings)


def _fit_all(
    stamps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    psf: NDArray[np.float64],
    kind: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit one model to the inside of every stamp; return its numbers and sums of squares."""
    inside = np.s_[:, HALF - FITTED : HALF + FITTED + 1, HALF - FITTED : HALF + FITTED + 1]
    stamps, masks = np.ascontiguousarray(stamps[inside]), np.ascontiguousarray(masks[inside])
    found = np.empty((len(stamps), N))
    costs = [
        fit_source(stamp, mask, psf, kind, fit, SKY)
        for stamp, mask, fit in zip(stamps, masks, found, strict=True)
    ]
    return found, np.array(costs)


def _widths_and_shapes(
    fits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return of Moffat profiles the width [px], and the covariance over its determinant's root.

    The width is the half width at half maximum over that of a Gaussian: its standard deviation.
    """
    a, c = np.exp(fits[:, 3]), np.exp(fits[:, 4])
    cross = np.tanh(fits[:, 5]) * np.sqrt(a * c)
    half = np.sqrt(2.0 ** np.exp(-fits[:, 6]) - 1.0)
    width = half / (a * c - cross**2) ** 0.25 / np.sqrt(2.0 * np.log(2.0))
    shapes = np.stack([c, -cross, a], axis=1) / np.sqrt(a * c - cross**2)[:, np.newaxis]
    return width, shapes


def _determinants(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the determinant of every Gaussian's covariance."""
    return np.asarray(psf[:, 1] * psf[:, 3] - psf[:, 2] ** 2)


def _candidates(
    image: NDArray[np.float32],
    lost: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    sources: SourceCatalog,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return stamps [noise] and masks of bright sources, the brightest first."""
    ny, nx = image.shape
    x, y = (np.floor(v + 0.5).astype(np.int64) for v in (sources.x, sources.y))
    inside = (x >= HALF) & (y >= HALF) & (x < nx - HALF) & (y < ny - HALF)
    x, y = x[inside], y[inside]
    stamps: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    for i in np.argsort(-image[y, x], kind="stable"):
        window = np.s_[y[i] - HALF : y[i] + HALF + 1, x[i] - HALF : x[i] + HALF + 1]
        # What overflows is not finite, and no star.
        with np.errstate(over="ignore"):
            stamp = to_noise_units(image[window], scale)
        if not stamp[HALF, HALF] > LEAST_PEAK or len(stamps) == MOST:
            break
        lost_core = lost[window][HALF - 2 : HALF + 3, HALF - 2 : HALF + 3].any()
        if lost_core or excluded[window].any() or not np.isfinite(stamp).all():
            continue
        stamps.append(stamp)
        masks.append(lost[window])
    if not stamps:
        return np.empty((0, 1, 1), np.float32), np.empty((0, 1, 1), np.bool_)
    return np.stack(stamps), np.stack(masks)


def _locus(values: NDArray[np.float64]) -> float:
    """Return the smallest value that several have: galaxies are wider than stars."""
    grid = np.sort(values)
    density = np.exp(-0.5 * ((grid[:, None] - values[None]) / _KERNEL) ** 2).sum(axis=1)
    first = int(np.argmax(density > max(LEAST_STARS / 2.0, _COMMON * density.max())))
    near = np.flatnonzero(grid - grid[first] < 2.0 * _KERNEL)
    near = near[near >= first]
    return float(grid[near][np.argmax(density[near])])


def _solve_ladder(
    stamps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    found: NDArray[np.float64],
    sigma: float,
    shape: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the Gaussians whose sum fits all stars best, by non-negative least squares."""
    side = np.arange(-HALF, HALF + 1, dtype=np.float64)
    dx = side[np.newaxis, np.newaxis] - found[:, 1, np.newaxis, np.newaxis]
    dy = side[np.newaxis, :, np.newaxis] - found[:, 2, np.newaxis, np.newaxis]
    dx, dy = np.broadcast_arrays(dx, dy)
    flux = found[:, 0, np.newaxis, np.newaxis]
    rest = stamps - found[:, 7, np.newaxis, np.newaxis]
    light = np.maximum(rest, 0.0)
    weight = 1.0 / np.sqrt(1.0 + PHOTONS * light + (2.0 * MISMATCH[POINT] * light) ** 2)
    weight = np.where(masks, 0.0, weight)
    xx, xy, yy = shape
    q = yy * dx**2 - 2.0 * xy * dx * dy + xx * dy**2  # det(shape) = 1
    variances = (sigma * np.array(LADDER)) ** 2
    columns = [
        (weight * flux * np.exp(-0.5 * q / v) / (2.0 * np.pi * v)).ravel() for v in variances
    ]
    design = np.stack(columns, axis=1)
    basis = _basis()
    # The same solution from few numbers.
    factor = np.linalg.qr(design @ basis.T)
    shares, _ = nnls(factor.R, factor.Q.T @ (weight * rest).ravel())
    parts = shares @ basis
    kept = np.abs(parts) > 1e-3
    parts, variances = parts[kept] / parts[kept].sum(), variances[kept]
    return np.column_stack([parts, *(part * variances for part in shape)])


def _basis() -> NDArray[np.float64]:
    """Return what is summed with non-negative parts: Gaussians, and such with a flat top.

    A pixel is flat, and so is the core of a diffraction pattern.
    """
    plain = np.eye(len(LADDER))
    flat = (1.0 + _FLAT) * plain[1:4] - _FLAT * plain[:3]
    return np.concatenate([plain, flat])
