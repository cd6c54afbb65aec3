"""A model of a source's light fitted to the pixels that are left of it.

Damped least squares (Levenberg-Marquardt) with weak priors on size, shape and place, so that a
source without its core still gives a sensible answer.  Bright pixels count less than their
photons would allow, since no real source is one of these models, and neighbours little
(Cauchy's weights).  Loops stand where numpy has an expression: they compile in a third of the
time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._mixture import (
    DISK,
    POINT,
    SETS,
    mixture_light,
    mixture_parts,
    mixture_slopes,
    shape_slopes,
)
from crmend._moffat import MOFFAT, moffat_light, moffat_parts, moffat_slopes

__all__ = ["DISK", "MOFFAT", "POINT", "draw_source", "fit_source"]

HALF_WIDTHS = (7, 7, 6)
"""Half width of the square that a fit sees [px], of `POINT`, `DISK` and `MOFFAT`, at least;
the next tables go by model, too."""

LEAST_SEEN = 0.5
"""Part of the pixels of that square that are not lost, at least: below a large hole the square
grows until it has so many."""

DRAWN = 20
"""Half width of the square that a point or a disk is drawn in [px]."""

PHOTONS = 0.1
"""Photon noise: variance [background noise²] per signal [background noise]; that of a
background noise of 10 e-."""

OUTLIER = 5.0
"""Residual [sigma] at which a pixel has lost half of its weight."""

COUNTS = (1.0, 1.0, 0.0)
"""Sources of flux f are taken to be as many as f ** -COUNTS (really 1.5 to 2): one of which
nearly nothing is left is not thought to be very bright.  Moffat profiles, whose shape is
freer, would all be too faint."""

ITERATIONS = (16, 16, 20)
"""At most."""

MISMATCH = (0.01, 0.01, 0.02)
"""Part of the model's own value that counts as its error."""

SKY = 0.3
"""Standard deviation of the background that is left on a sky that is flat [noise]."""

N = 8
"""Numbers of a model: flux (of `MOFFAT` amplitude), x, y, four of its own, background.  The
four are log scale length, two of the shape and the logit of the bulge's part of the light; of
`MOFFAT` log a, log c, skew and log beta of (1 + a·x² + 2·tanh(skew)·√(ac)·x·y + c·y²)^-beta; a
`POINT` has none."""

_DISK_MEAN = (0.0, 0.0, 0.0, 1.1, 0.0, 0.0, -1.5, 0.0)
_DISK_WIDTH = (1e9, 1.0, 1.0, 0.7, 0.3, 0.3, 1.5, SKY)
_DISK_STEP = (1e30, 0.7, 0.7, 0.5, 0.4, 0.4, 1.0, 1e30)
_MEAN = np.array(
    [_DISK_MEAN, _DISK_MEAN, (0.0, 0.0, 0.0, -1.75, -1.75, 0.0, math.log(2.5), 0.0)]
)
_WIDTH = np.array([_DISK_WIDTH, _DISK_WIDTH, (1e9, 1.0, 1.0, 1.0, 1.0, 0.6, 0.4, SKY)])
_STEP = np.array([_DISK_STEP, _DISK_STEP, (1e30, 0.7, 0.7, 0.7, 0.7, 0.5, 0.5, 1e30)])
# Priors and longest steps, assumed and broad.  A scale length of 3 px within a factor of two,
# axis ratios above 0.5, a fifth of the light in the bulge; of Moffat profiles a width of
# 2.4 px (exp(-1.75 / -2)) within a factor of 1.6, and exponents around 2.5.


@njit
def fit_source(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    psf: NDArray[np.float64],
    kind: int,
    found: NDArray[np.float64],
    sky: float,
) -> float:
    """Fit one model to the source in the middle of a stamp.

    Parameters
    ----------
    stamp : (ny, nx) float32 array
        In units of the background noise, background removed, finite; at least 5 × 5.
    lost : (ny, nx) bool array
        True = not looked at.
    psf : (k, 4) float64 array
        Part of the light, variance in x, covariance, and variance in y [px²]; of `MOFFAT`
        not looked at.
    kind : int
        `POINT`, `DISK` or `MOFFAT`.
    found : (8,) float64 array
        Filled with the numbers of the model.
    sky : float
        How well it is known that there is no background left: standard deviation.

    Returns
    -------
    float
        Robust sum of squares, with the priors.
    """
    ny, nx = stamp.shape
    row, column = ny // 2, nx // 2
    reach = _reach(lost, HALF_WIDTHS[kind])
    size = 2 * reach + 1
    weight = np.zeros((size, size))
    normal = np.empty((N, N))
    right = np.empty(N)
    slope = np.empty(N)
    trial = np.empty(N)
    width = _WIDTH[kind].copy()
    width[7] = sky
    parts = np.empty((max(1, psf.shape[0] * SETS), 5))
    turns = np.empty((2, 3, 3))
    total, brightest = 0.0, 1.0
    for j in range(-2, 3):
        for i in range(-2, 3):
            total += stamp[row + j, column + i]
            if abs(i) < 2 and abs(j) < 2:
                brightest = max(brightest, stamp[row + j, column + i])
    for m in range(N):
        found[m] = _MEAN[kind, m]
    found[0] = brightest if kind == MOFFAT else max(total, 5.0)
    damping = 1e-2
    cost = 0.0
    for step in range(ITERATIONS[kind]):
        _prepare(found, psf, kind, parts)
        if step % 4 == 0:
            for j in range(size):
                for i in range(size):
                    if not lost[row - reach + j, column - reach + i]:
                        x, y = float(i - reach) - found[1], float(j - reach) - found[2]
                        value = max(found[0] * _light(parts, kind, x, y), 0.0)
                        error = MISMATCH[kind] * value
                        weight[j, i] = 1.0 / (1.0 + PHOTONS * value + error**2)
            cost = _cost(stamp, weight, row - reach, column - reach, found, parts, kind, width)
        if kind == DISK:
            shape_slopes(found, turns[0], 1.0)
            shape_slopes(found, turns[1], 0.5)
        for m in range(N):
            right[m] = 0.0
            for n in range(m + 1):
                normal[m, n] = 0.0
        for j in range(size):
            for i in range(size):
                w = weight[j, i]
                if w == 0.0:
                    continue
                x, y = float(i - reach) - found[1], float(j - reach) - found[2]
                if kind == MOFFAT:
                    value = moffat_slopes(found, parts, x, y, slope)
                else:
                    value = mixture_slopes(found, parts, turns, psf.shape[0], kind, x, y, slope)
                rest = stamp[row - reach + j, column - reach + i] - value
                w /= 1.0 + rest * rest * w / OUTLIER**2
                for m in range(N):
                    part = w * slope[m]
                    right[m] += part * rest
                    for n in range(m + 1):
                        normal[m, n] += part * slope[n]
        for m in range(1, N):
            normal[m, m] += 1.0 / width[m] ** 2
            right[m] -= (found[m] - _MEAN[kind, m]) / width[m] ** 2
        if found[0] > 1.0:
            normal[0, 0] += COUNTS[kind] / found[0] ** 2
            right[0] -= COUNTS[kind] / found[0]
        better = False
        new = cost
        for _ in range(6):
            solve_normal(normal, right, damping, trial)
            for m in range(N):
                trial[m] = found[m] + min(max(trial[m], -_STEP[kind, m]), _STEP[kind, m])
            _prepare(trial, psf, kind, parts)
            new = _cost(stamp, weight, row - reach, column - reach, trial, parts, kind, width)
            if new < cost:
                better = True
                break
            damping *= 6.0
        gain = cost - new
        if better:
            damping = max(damping * 0.2, 1e-6)
            cost = new
            for m in range(N):
                found[m] = trial[m]
        if (not better or gain < 1e-3) and step >= 4:
            break
    return cost


@njit
def _reach(lost: NDArray[np.bool_], least: int) -> int:
    """Return the half width of the square around the middle that a fit sees."""
    ny, nx = lost.shape
    row, column = ny // 2, nx // 2
    largest: int = min(row, column, ny - 1 - row, nx - 1 - column)
    reach: int = min(least, largest)
    while reach < largest:
        seen = 0
        for j in range(row - reach, row + reach + 1):
            for i in range(column - reach, column + reach + 1):
                seen += not lost[j, i]
        if seen >= LEAST_SEEN * (2 * least + 1) ** 2:
            break
        reach += 1
    return reach


@njit
def draw_source(
    found: NDArray[np.float64],
    psf: NDArray[np.float64],
    kind: int,
    image: NDArray[np.float32],
) -> None:
    """Fill an image with a model, without its background; points and disks end at `DRAWN`."""
    parts = np.empty((max(1, psf.shape[0] * SETS), 5))
    _prepare(found, psf, kind, parts)
    ny, nx = image.shape
    reach = max(ny, nx) if kind == MOFFAT else DRAWN
    image[:] = 0.0
    for j in range(max(0, ny // 2 - reach), min(ny, ny // 2 + reach + 1)):
        for i in range(max(0, nx // 2 - reach), min(nx, nx // 2 + reach + 1)):
            x, y = float(i - nx // 2) - found[1], float(j - ny // 2) - found[2]
            image[j, i] = found[0] * _light(parts, kind, x, y)


@njit
def _prepare(
    p: NDArray[np.float64], psf: NDArray[np.float64], kind: int, parts: NDArray[np.float64]
) -> None:
    """Write what a model needs at every pixel."""
    if kind == MOFFAT:
        moffat_parts(p, parts)
    else:
        mixture_parts(p, psf, kind, parts)


@njit
def _light(parts: NDArray[np.float64], kind: int, x: float, y: float) -> float:
    """Return a model of flux (amplitude) 1 at an offset from its centre."""
    return moffat_light(parts, x, y) if kind == MOFFAT else mixture_light(parts, x, y)


@njit
def _cost(
    stamp: NDArray[np.float32],
    weight: NDArray[np.float64],
    row: int,
    column: int,
    p: NDArray[np.float64],
    parts: NDArray[np.float64],
    kind: int,
    width: NDArray[np.float64],
) -> float:
    """Return the robust sum of squares plus the priors."""
    counts = COUNTS[kind]
    size = weight.shape[0]
    reach = size // 2
    total = 0.0
    for j in range(size):
        for i in range(size):
            w = weight[j, i]
            if w == 0.0:
                continue
            light = _light(parts, kind, float(i - reach) - p[1], float(j - reach) - p[2])
            rest = stamp[row + j, column + i] - p[0] * light - p[7]
            total += OUTLIER**2 * math.log1p(rest * rest * w / OUTLIER**2)
    for m in range(1, N):
        total += ((p[m] - _MEAN[kind, m]) / width[m]) ** 2
    return total + 2.0 * counts * math.log(max(p[0], 1.0))


@njit
def solve_normal(
    normal: NDArray[np.float64],
    right: NDArray[np.float64],
    damping: float,
    out: NDArray[np.float64],
) -> None:
    """Solve damped normal equations by Cholesky's factors; the lower half is read."""
    size = right.size
    factor = np.zeros((size, size))
    for m in range(size):
        for n in range(m + 1):
            total = normal[m, n]
            if m == n:
                total *= 1.0 + damping
            for k in range(n):
                total -= factor[m, k] * factor[n, k]
            if m == n:
                factor[m, m] = math.sqrt(max(total, 1e-12 * (1.0 + normal[m, m])))
            else:
                factor[m, n] = total / factor[n, n]
    for m in range(size):
        total = right[m]
        for k in range(m):
            total -= factor[m, k] * out[k]
        out[m] = total / factor[m, m]
    for m in range(size - 1, -1, -1):
        total = out[m]
        for k in range(m + 1, size):
            total -= factor[k, m] * out[k]
        out[m] = total / factor[m, m]
