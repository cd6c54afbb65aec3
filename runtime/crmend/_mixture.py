"""A point, and a galaxy of disk and bulge, seen with the frame's own PSF: sums of Gaussians.

The PSF (`crmend._psf`) is a sum of Gaussians, and so are an exponential disk and a de
Vaucouleurs bulge, so that their convolution is one too and costs no more than evaluating it
(Hogg & Lang 2013, PASP 125, 719).  `crmend._fit` fits them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit

DISK_SIGMAS = (0.25, 0.5, 1.0, 2.0)
DISK_WEIGHTS = (0.0130, 0.0528, 0.3582, 0.5760)
"""An exponential disk as Gaussians: standard deviations in scale lengths, and parts of the
light; from a non-negative fit weighted by the light, good to 2 % at 0.2 to 5 scale lengths."""

BULGE_SIGMAS = (0.05, 0.2, 0.6, 1.7)
BULGE_WEIGHTS = (0.050, 0.215, 0.305, 0.430)
"""A de Vaucouleurs bulge as Gaussians: standard deviations in half-light radii, and parts of
the light; from the same kind of fit, good to 5 % out to 2.5 half-light radii (the light
beyond, a tenth, is not in it)."""

BULGE_SIZE = 0.587
"""Half-light radius of the bulge, in scale lengths of the disk: the mean of the simulated
galaxies (their half-light radii differ by a factor of 0.35, assumed).  0.3 or 0.45 are hardly
worse.  The bulge is half as flat as the disk, in the logarithm of its axis ratio."""

POINT, DISK = 0, 1
"""The two models; see `crmend._fit`."""

SETS = len(DISK_SIGMAS) + len(BULGE_SIGMAS)
"""Gaussians of the disk and its bulge for one of the PSF."""

_OF_DISK = len(DISK_SIGMAS)


@njit
def mixture_parts(
    p: NDArray[np.float64], psf: NDArray[np.float64], kind: int, parts: NDArray[np.float64]
) -> None:
    """Write the Gaussians of a model of flux 1.

    Columns of `parts`: height, the inverse covariance (xx, xy, yy), and the variance in units
    of the disk's or the bulge's shape; first the disk's (or the point's), then the bulge's.
    """
    count = psf.shape[0]
    xx = yy = bxx = byy = 1.0
    xy = bxy = 0.0
    share = 0.0
    if kind == DISK:
        xx, xy, yy = _shape(p, 1.0)
        bxx, bxy, byy = _shape(p, 0.5)
        share = 1.0 / (1.0 + math.exp(-p[6]))
    for k in range(parts.shape[0]):
        own = k % count
        which = k // count
        if kind == POINT:
            if k >= count:
                parts[k, 0] = 0.0
                continue
            height, t = psf[own, 0], 0.0
            cxx, cxy, cyy = psf[own, 1], psf[own, 2], psf[own, 3]
        elif which < _OF_DISK:
            height = psf[own, 0] * (1.0 - share) * DISK_WEIGHTS[which]
            t = DISK_SIGMAS[which] ** 2
            cxx, cxy, cyy = psf[own, 1] + t * xx, psf[own, 2] + t * xy, psf[own, 3] + t * yy
        elif which < SETS:
            height = psf[own, 0] * share * BULGE_WEIGHTS[which - _OF_DISK]
            t = (BULGE_SIZE * BULGE_SIGMAS[which - _OF_DISK]) ** 2
            cxx, cxy, cyy = psf[own, 1] + t * bxx, psf[own, 2] + t * bxy, psf[own, 3] + t * byy
        else:
            parts[k, 0] = 0.0
            continue
        det = cxx * cyy - cxy * cxy
        parts[k, 0] = height / (2.0 * math.pi * math.sqrt(det))
        parts[k, 1] = cyy / det
        parts[k, 2] = -cxy / det
        parts[k, 3] = cxx / det
        parts[k, 4] = t


@njit
def _shape(p: NDArray[np.float64], part: float) -> tuple[float, float, float]:
    """Return a covariance: size times the exponential of a part of the traceless shape."""
    size = math.exp(2.0 * p[3])
    u, v = part * p[4], part * p[5]
    r = math.hypot(u, v)
    q = math.sinh(r) / r if r > 1e-6 else 1.0
    c = math.cosh(r)
    return size * (c + q * u), size * q * v, size * (c - q * u)


@njit
def shape_slopes(p: NDArray[np.float64], turns: NDArray[np.float64], part: float) -> None:
    """Write how xx, xy and yy of `_shape` change with its three numbers, a row each."""
    size = math.exp(2.0 * p[3])
    e = (part * p[4], part * p[5])
    r = math.hypot(e[0], e[1])
    q = math.sinh(r) / r if r > 1e-6 else 1.0
    c = math.cosh(r)
    s = (c - q) / (r * r) if r > 1e-3 else 1.0 / 3.0
    turns[0, 0] = 2.0 * size * (c + q * e[0])
    turns[0, 1] = 2.0 * size * q * e[1]
    turns[0, 2] = 2.0 * size * (c - q * e[0])
    for m in range(2):
        u = part * e[m]
        turns[1 + m, 0] = size * (q * u + s * u * e[0])
        turns[1 + m, 1] = size * s * u * e[1]
        turns[1 + m, 2] = size * (q * u - s * u * e[0])
    turns[1, 0] += part * size * q
    turns[1, 2] -= part * size * q
    turns[2, 1] += part * size * q


@njit
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


@njit
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
    """Return the model at an offset from its centre, and write its derivatives.

    `turns` holds the `shape_slopes` of the disk and of the bulge.
    """
    disk = bulge = gx = gy = txx = txy = tyy = bxx = bxy = byy = 0.0
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
        if k < _OF_DISK * count:
            disk += value
            value *= parts[k, 4]
            txx += value * (vx * vx - parts[k, 1])
            txy += value * (vx * vy - parts[k, 2])
            tyy += value * (vy * vy - parts[k, 3])
        else:
            bulge += value
            value *= parts[k, 4]
            bxx += value * (vx * vx - parts[k, 1])
            bxy += value * (vx * vy - parts[k, 2])
            byy += value * (vy * vy - parts[k, 3])
    for m in range(3, 7):
        slope[m] = 0.0
    slope[0] = bulge + disk
    slope[1] = p[0] * gx
    slope[2] = p[0] * gy
    slope[7] = 1.0
    if kind == DISK:
        for m in range(3):
            of_disk, of_bulge = turns[0, m], turns[1, m]
            turned = of_disk[0] * txx + 2.0 * of_disk[1] * txy + of_disk[2] * tyy
            turned += of_bulge[0] * bxx + 2.0 * of_bulge[1] * bxy + of_bulge[2] * byy
            slope[3 + m] = 0.5 * p[0] * turned
        share = 1.0 / (1.0 + math.exp(-p[6]))
        # Of share·a + (1 − share)·b, where bulge = share·a.
        slope[6] = p[0] * (bulge * (1.0 - share) - disk * share)
    total: float = p[0] * (bulge + disk) + p[7]
    return total
