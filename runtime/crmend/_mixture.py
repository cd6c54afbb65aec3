"""A point and a disk seen with the frame's own PSF, as sums of Gaussians.

The PSF (`crmend._psf`) is a sum of Gaussians, and so is an exponential disk, so that their
convolution is one too and costs no more than evaluating it (Hogg & Lang 2013, PASP 125, 719).
The disk has a point in its middle, for its bulge.  `crmend._fit` fits them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import _njit

DISK_SIGMAS = (0.25, 0.5, 1.0, 2.0)
DISK_WEIGHTS = (0.0130, 0.0528, 0.3582, 0.5760)
"""An exponential disk as Gaussians: standard deviations in scale lengths, and parts of the
light; from a non-negative fit weighted by the light, good to 2 % at 0.2 to 5 scale lengths."""

POINT, DISK = 0, 1
"""The two models; see `crmend._fit`."""

SETS = len(DISK_SIGMAS)
"""Gaussians of the disk for one of the PSF."""


@_njit
def mixture_parts(
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
def shape_slopes(p: NDArray[np.float64], turns: NDArray[np.float64]) -> None:
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
def mixture_light(parts: NDArray[np.float64], x: float, y: float) -> float:
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
def mixture_slopes(
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
