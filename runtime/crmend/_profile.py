"""A source's light as a fitted model: the best first guess for what a hole in it held.

With the frame's PSF (`crmend._psf`) a point and a disk are fitted (`crmend._mixture`), without
it a Moffat profile (`crmend._moffat`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import _njit
from crmend._mixture import DISK, HALF_WIDTH, POINT, N, draw, fit_mixture
from crmend._moffat import fit_moffat, moffat

FADE = (6.0, 9.0)
"""Inside the first radius [px] a hole is filled with the profile, outside the second as
before, and with a mixture in between."""

CEILING = 30.0
"""Largest peak, over the brightest pixel that is not lost, plus ten times the noise."""

STAR = (1.3, 5.0, 3.0)
"""A source is a star if the point's sum of squares is below a × the disk's + b, where points
and disks are mixed half and half; c is how fast that changes.  A point has five numbers less,
and the PSF is not quite the same everywhere (from 36 training frames; LOG.md)."""


@_njit
def fit_profiles(
    stamps: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    psf: NDArray[np.float64],
    profiles: NDArray[np.float32],
) -> None:
    """Fit the source in the middle of each cutout and fill its lost pixels, in place.

    Parameters
    ----------
    stamps : (n, ny, nx) float32 array
        In units of the background noise, background removed, finite; lost pixels hold a
        first guess.  Those around the middle are filled from the profile (`FADE`).
    cr_mask : (n, ny, nx) bool array
        True = lost.
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`: a point and a disk are fitted.  With k = 0 it is not
        known: a Moffat profile is.
    profiles : (n, ny, nx) float32 array
        Filled with the profiles, without background.
    """
    count, ny, nx = stamps.shape
    row, column = ny // 2, nx // 2
    found = np.empty(N)
    point = np.empty((ny, nx), dtype=np.float32)
    for k in range(count):
        profile = profiles[k]
        if psf.shape[0] == 0:
            fit_moffat(stamps[k], cr_mask[k], row, column, found)
            for j in range(ny):
                for i in range(nx):
                    value = moffat(found, float(i - column), float(j - row))
                    profile[j, i] = value - found[7]
            background = found[7]
        else:
            background = _fit_both(stamps[k], cr_mask[k], psf, found, point, profile)
        if not _believable(stamps[k], cr_mask[k], profile):
            profile[:] = 0.0
            continue
        for j in range(ny):
            for i in range(nx):
                radius = math.hypot(float(i - column), float(j - row))
                if cr_mask[k, j, i] and radius < FADE[1]:
                    share = min(1.0, (FADE[1] - radius) / (FADE[1] - FADE[0]))
                    old = stamps[k, j, i]
                    stamps[k, j, i] = share * (profile[j, i] + background) + (1.0 - share) * old


@_njit
def _fit_both(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    psf: NDArray[np.float64],
    found: NDArray[np.float64],
    point: NDArray[np.float32],
    profile: NDArray[np.float32],
) -> float:
    """Write the better of a point and a disk, or their mixture; return the background."""
    as_point = fit_mixture(stamp, lost, psf, POINT, found)
    draw(found, psf, POINT, point)
    background = found[7]
    as_disk = fit_mixture(stamp, lost, psf, DISK, found)
    draw(found, psf, DISK, profile)
    doubt = (as_point - STAR[0] * as_disk - STAR[1]) / STAR[2]
    star = 1.0 / (1.0 + math.exp(min(max(doubt, -50.0), 50.0)))
    for j in range(profile.shape[0]):
        for i in range(profile.shape[1]):
            profile[j, i] = star * point[j, i] + (1.0 - star) * profile[j, i]
    mean: float = star * background + (1.0 - star) * found[7]
    return mean


@_njit
def _believable(
    stamp: NDArray[np.float32], lost: NDArray[np.bool_], profile: NDArray[np.float32]
) -> bool:
    """Say whether a profile is positive, finite, and not far above all that is left."""
    ny, nx = stamp.shape
    row, column = ny // 2, nx // 2
    reach = min(HALF_WIDTH, row, column, ny - 1 - row, nx - 1 - column)
    top = highest = 0.0
    for j in range(row - reach, row + reach + 1):
        for i in range(column - reach, column + reach + 1):
            highest = max(highest, profile[j, i])
            if not lost[j, i]:
                top = max(top, stamp[j, i])
    return bool(0.0 < highest <= CEILING * (top + 10.0))
