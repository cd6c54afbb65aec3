"""Sources that no profile describes: what surrounds a hole in them says more, if it is smooth.

Defocused stars, bright galaxies with knots or arms and the spikes of stars are none of the
models of `_fit`.  A model that does not even agree with the pixels beside a hole says little of
what the hole held; where these follow better from the pixels beyond them, it counts no more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend._fit import MISMATCH, MOFFAT, PHOTONS
from crmend._kernels import smooth_fill
from crmend._profile import FADE

RIM = 1
"""Width of what is beside a hole [px]."""

PEAK = 1.5
"""Where a hole hides a peak that is so many times what is seen beside it, nothing smooth can
say so, and the profile is believed."""

AGREES = 10.0
"""Mean square of the residuals there, of which noise makes one, up to which a profile is
believed (training/crmend_training/LOG.md, round 34)."""

_MOST = 100.0  # of a single square: a neighbour's core says little of this source
_LEAST = 8  # pixels beside a hole that tell anything
_HALF = 16  # half width of what is looked at around a source [px]


def misfit_of_continued(
    stamps: NDArray[np.float32],
    lost: NDArray[np.bool_],
    profiles: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return how badly smooth fills foretell pixels beside holes, where profiles are worse yet.

    Parameters
    ----------
    stamps : (n, ny, nx) float32 array
        At least 32 × 32, in units of the background noise; not changed.
    lost : (n, ny, nx) bool array
        True = not looked at: cosmic rays, and what is saturated.
    profiles : (n, ny, nx) float32 array
        What `crmend._profile.fit_profiles` took the source in the middle for; 0 where none was
        believed.

    Returns
    -------
    (n,) float32 array
        Mean square of the residuals, of which noise makes one; NaN = the profile does better,
        or well enough.
    """
    row, column = (n // 2 for n in stamps.shape[1:])
    window = np.s_[:, row - _HALF : row + _HALF, column - _HALF : column + _HALF]
    stamps, lost, profiles = stamps[window], lost[window], profiles[window]
    near = np.hypot(*np.ogrid[-_HALF:_HALF, -_HALF:_HALF]) < FADE[1]
    rim = ndimage.maximum_filter(lost & near, (1, 2 * RIM + 1, 2 * RIM + 1)) & ~lost & near
    chosen = np.flatnonzero(np.count_nonzero(rim, axis=(1, 2)) >= _LEAST)
    misfit = np.full(len(stamps), np.nan, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = photon_variance(stamps[chosen]) + (MISMATCH[MOFFAT] * profiles[chosen]) ** 2
        ours = _misfit(stamps[chosen] - profiles[chosen], variance, rim[chosen])
        hidden = np.max(profiles[chosen], axis=(1, 2), where=(lost & near)[chosen], initial=0.0)
        seen = np.max(stamps[chosen], axis=(1, 2), where=rim[chosen], initial=0.0)
        poor = (ours > AGREES) & (hidden < PEAK * seen)
        chosen, variance, ours = chosen[poor], variance[poor], ours[poor]
        if not chosen.size:
            return misfit
        unknown = lost[chosen] | rim[chosen]
        level = _median(stamps[chosen], ~unknown)[:, np.newaxis, np.newaxis]
        filled = np.where(unknown, level, stamps[chosen])
        smooth_fill(filled, unknown)
        theirs = _misfit(stamps[chosen] - filled, variance, rim[chosen])
    misfit[chosen] = np.where(theirs < ours, theirs, np.float32(np.nan))
    return misfit


def photon_variance(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the variance of light above the background, of any shape; both in its noise."""
    variance: NDArray[np.float32] = 1.0 + np.float32(PHOTONS) * np.maximum(light, 0.0)
    return variance


def _median(values: NDArray[np.float32], of: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the median of some pixels of each cutout, (n,); 0 where there are none."""
    medians = [float(np.median(one[these])) if these.any() else 0.0
               for one, these in zip(values, of, strict=True)]  # fmt: skip
    return np.array(medians, dtype=np.float32)


def _misfit(
    rest: NDArray[np.float32], variance: NDArray[np.float32], rim: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the mean square of residuals beside the holes of each cutout, (n,)."""
    squares = np.minimum(rest**2 / variance, _MOST)
    mean: NDArray[np.float32] = np.sum(squares, axis=(1, 2), where=rim) / np.count_nonzero(
        rim, axis=(1, 2)
    )
    return mean
