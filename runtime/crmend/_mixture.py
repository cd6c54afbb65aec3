"""A source's light as sums of Gaussians: a star or a galaxy, seen with the frame's own PSF.

The PSF (`crmend._psf`) is a sum of Gaussians, and so is an exponential disk, so that their
convolution is one too and costs no more than evaluating it (Hogg & Lang 2013, PASP 125, 719).
Two models are fitted to the pixels that are left of a source, by damped least squares
(Levenberg-Marquardt) with weak priors: a point, and a point in the middle of a disk.
Loops stand where numpy has an expression: they compile in a third of the time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import _njit

HALF_WIDTH = 6
"""The fit sees a square of 13 × 13 pixels."""

DRAWN = 20
"""Half width of the square that a model is drawn in [px]."""

ITERATIONS = 16

MISMATCH = 0.01
"""Part of the model's own value that counts as its error."""

PHOTONS = 0.1
"""Photon noise: variance [background noise²] per signal [background noise]; that of a
background noise of 10 e-."""

OUTLIER = 5.0
"""Residual [sigma] at which a pixel has lost half of its weight."""

DISK_SIGMAS = (0.25, 0.5, 1.0, 2.0)
DISK_WEIGHTS = (0.0130, 0.0528, 0.3582, 0.5760)
"""An exponential disk as Gaussians: standard deviations in scale lengths, and parts of the
light; from a non-negative fit weighted by the light, good to 2 % at 0.2 to 5 scale lengths."""

POINT, DISK = 0, 1
"""The two models."""

N = 8
"""Numbers of a model: flux, x, y, log scale length, two of the shape, logit of the point's part
of the light, background."""

_MEAN = np.array([0.0, 0.0, 0.0, 0.6, 0.0, 0.0, -1.5, 0.0])
_WIDTH = np.array([1e9, 1.0, 1.0, 0.7, 0.5, 0.5, 1.5, 0.3])
# Priors: a scale length of 1.8 px within a factor of two, axis ratios above 0.4, a fifth of the
# light in the middle; assumed, and broad.
_STEP = np.array([1e30, 0.7, 0.7, 0.5, 0.4, 0.4, 1.0, 1e30])
_SETS = len(DISK_SIGMAS)


@_njit
def fit_mixture(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    psf: NDArray[np.float64],
    kind: int,
    found: NDArray[np.float64],
) -> float:
    """Fit one model to the source in the middle of a stamp.

    Parameters
    ----------
    stamp : (ny, nx) float32 array
        In units of the background noise, background removed, finite.
    lost : (ny, nx) bool array
        True = not looked at.
    psf : (k, 4) float64 array
        Part of the light, variance in x, covariance, and variance in y [px²].
    kind : int
        `POINT` or `DISK`.
    found : (8,) float64 array
        Filled with the numbers of the model.

    Returns
    -------
    float
        Robust sum of squares, with the priors.
    """
    ny, nx = stamp.shape
    row, column = ny // 2, nx // 2
    reach = min(HALF_WIDTH, row, column, ny - 1 - row, nx - 1 - column)
    size = 2 * reach + 1
    weight = np.zeros((size, size))
    normal = np.empty((N, N))
    right = np.empty(N)
    slope = np.empty(N)
    trial = np.empty(N)
    count = psf.shape[0]
    parts = np.empty((count * (1 + _SETS), 5))
    turns = np.empty((3, 3))
    start = 0.0
    for j in range(-2, 3):
        for i in range(-2, 3):
            start += stamp[row + j, column + i]
    for m in range(N):
        found[m] = _MEAN[m]
    found[0] = max(start, 5.0)
    damping = 1e-2
    cost = 0.0
    for step in range(ITERATIONS):
        shares(found, psf, kind, parts)
        if step % 4 == 0:
            for j in range(size):
                for i in range(size):
                    if not lost[row - reach + j, column - reach + i]:
                        x, y = float(i - reach) - found[1], float(j - reach) - found[2]
                        value = max(found[0] * _light(parts, x, y), 0.0)
                        weight[j, i] = 1.0 / (1.0 + PHOTONS * value + (MISMATCH * value) ** 2)
            cost = _cost(stamp, weight, row - reach, column - reach, found, parts, kind)
        _shape_slopes(found, turns)
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
                value = _slopes(found, parts, turns, count, kind, x, y, slope)
                rest = stamp[row - reach + j, column - reach + i] - value
                w /= 1.0 + rest * rest * w / OUTLIER**2
                for m in range(N):
                    part = w * slope[m]
                    right[m] += part * rest
                    for n in range(m + 1):
                        normal[m, n] += part * slope[n]
        for m in range(1, N):
            normal[m, m] += 1.0 / _WIDTH[m] ** 2
            right[m] -= (found[m] - _MEAN[m]) / _WIDTH[m] ** 2
        better = False
        new = cost
        for _ in range(6):
            solve(normal, right, damping, trial)
            for m in range(N):
                trial[m] = found[m] + min(max(trial[m], -_STEP[m]), _STEP[m])
            shares(trial, psf, kind, parts)
            new = _cost(stamp, weight, row - reach, column - reach, trial, parts, kind)
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


@_njit
def shares(
    p: NDArray[np.float64], psf: NDArray[np.float64], kind: int, parts: NDArray[np.float64]
) -> None:
    """Write the Gaussians of a model of flux 1.

    Columns of `parts`: height, the inverse covariance (xx, xy, yy), and the variance in units
    of the disk's shape; first the point's, then the disk's.
    """
    count = psf.shape[0]
    point = 1.0
    if kind == DISK:
        point = 1.0 / (1.0 + math.exp(-p[6]))
    xx = yy = 1.0
    xy = 0.0
    if kind == DISK:
        xx, xy, yy = _shape(p)
    for k in range(parts.shape[0]):
        own = k % count
        height = psf[own, 0] * point
        t = 0.0
        if k >= count:
            if kind == POINT:
                parts[k, 0] = 0.0
                continue
            which = k // count - 1
            t = DISK_SIGMAS[which] ** 2
            height = psf[own, 0] * (1.0 - point) * DISK_WEIGHTS[which]
        cxx, cxy, cyy = psf[own, 1] + t * xx, psf[own, 2] + t * xy, psf[own, 3] + t * yy
        det = cxx * cyy - cxy * cxy
        parts[k, 0] = height / (2.0 * math.pi * math.sqrt(det))
        parts[k, 1] = cyy / det
        parts[k, 2] = -cxy / det
        parts[k, 3] = cxx / det
        parts[k, 4] = t


@_njit
def _shape(p: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the disk's covariance: a size times the exponential of a traceless matrix."""
    size = math.exp(2.0 * p[3])
    r = math.hypot(p[4], p[5])
    q = math.sinh(r) / r if r > 1e-6 else 1.0
    c = math.cosh(r)
    return size * (c + q * p[4]), size * q * p[5], size * (c - q * p[4])


@_njit
def _shape_slopes(p: NDArray[np.float64], turns: NDArray[np.float64]) -> None:
    """Write how xx, xy and yy of `_shape` change with its three numbers, a row each."""
    size = math.exp(2.0 * p[3])
    r = math.hypot(p[4], p[5])
    q = math.sinh(r) / r if r > 1e-6 else 1.0
    c = math.cosh(r)
    s = (c - q) / (r * r) if r > 1e-3 else 1.0 / 3.0
    turns[0, 0] = 2.0 * size * (c + q * p[4])
    turns[0, 1] = 2.0 * size * q * p[5]
    turns[0, 2] = 2.0 * size * (c - q * p[4])
    for m in range(2):
        u = p[4 + m]
        turns[1 + m, 0] = size * (q * u + s * u * p[4])
        turns[1 + m, 1] = size * s * u * p[5]
        turns[1 + m, 2] = size * (q * u - s * u * p[4])
    turns[1, 0] += size * q
    turns[1, 2] -= size * q
    turns[2, 1] += size * q


@_njit
def _light(parts: NDArray[np.float64], x: float, y: float) -> float:
    """Return a model of flux 1 at an offset from its centre."""
    total = 0.0
    for k in range(parts.shape[0]):
        if parts[k, 0] == 0.0:
            continue
        q = parts[k, 1] * x * x + 2.0 * parts[k, 2] * x * y + parts[k, 3] * y * y
        if q < 60.0:
            total += parts[k, 0] * math.exp(-0.5 * q)
    return total


@_njit
def _slopes(
    p: NDArray[np.float64],
    parts: NDArray[np.float64],
    turns: NDArray[np.float64],
    count: int,
    kind: int,
    x: float,
    y: float,
    slope: NDArray[np.float64],
) -> float:
    """Return the model at an offset from its centre, and write its derivatives."""
    point = disk = gx = gy = txx = txy = tyy = 0.0
    for k in range(parts.shape[0]):
        if parts[k, 0] == 0.0:
            continue
        vx = parts[k, 1] * x + parts[k, 2] * y
        vy = parts[k, 2] * x + parts[k, 3] * y
        q = vx * x + vy * y
        if q >= 60.0:
            continue
        value = parts[k, 0] * math.exp(-0.5 * q)
        gx += value * vx
        gy += value * vy
        if k < count:
            point += value
            continue
        disk += value
        value *= parts[k, 4]
        txx += value * (vx * vx - parts[k, 1])
        txy += value * (vx * vy - parts[k, 2])
        tyy += value * (vy * vy - parts[k, 3])
    for m in range(3, 7):
        slope[m] = 0.0
    slope[0] = point + disk
    slope[1] = p[0] * gx
    slope[2] = p[0] * gy
    slope[7] = 1.0
    if kind == DISK:
        for m in range(3):
            turned = turns[m, 0] * txx + 2.0 * turns[m, 1] * txy + turns[m, 2] * tyy
            slope[3 + m] = 0.5 * p[0] * turned
        share = 1.0 / (1.0 + math.exp(-p[6]))
        # Of share·a + (1 − share)·b, where point = share·a.
        slope[6] = p[0] * (point * (1.0 - share) - disk * share)
    total: float = p[0] * (point + disk) + p[7]
    return total


@_njit
def _cost(
    stamp: NDArray[np.float32],
    weight: NDArray[np.float64],
    row: int,
    column: int,
    p: NDArray[np.float64],
    parts: NDArray[np.float64],
    kind: int,
) -> float:
    """Return the robust sum of squares plus the priors."""
    size = weight.shape[0]
    reach = size // 2
    total = 0.0
    for j in range(size):
        for i in range(size):
            w = weight[j, i]
            if w == 0.0:
                continue
            light = _light(parts, float(i - reach) - p[1], float(j - reach) - p[2])
            rest = stamp[row + j, column + i] - p[0] * light - p[7]
            total += OUTLIER**2 * math.log1p(rest * rest * w / OUTLIER**2)
    for m in range(1, N):
        total += ((p[m] - _MEAN[m]) / _WIDTH[m]) ** 2
    return total


@_njit
def draw(
    found: NDArray[np.float64],
    psf: NDArray[np.float64],
    kind: int,
    image: NDArray[np.float32],
) -> None:
    """Fill an image with a model, without its background; far out (`DRAWN`) with nothing."""
    parts = np.empty((psf.shape[0] * (1 + _SETS), 5))
    shares(found, psf, kind, parts)
    ny, nx = image.shape
    image[:] = 0.0
    for j in range(max(0, ny // 2 - DRAWN), min(ny, ny // 2 + DRAWN + 1)):
        for i in range(max(0, nx // 2 - DRAWN), min(nx, nx // 2 + DRAWN + 1)):
            x, y = float(i - nx // 2) - found[1], float(j - ny // 2) - found[2]
            image[j, i] = found[0] * _light(parts, x, y)


@_njit
def solve(
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
