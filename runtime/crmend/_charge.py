"""Cosmic rays add charge, so what was observed limits what can have been there without them.

A fill knows nothing of the pixel itself.  Where it is uncertain, or the charge small, the
observed value says more: the truth is below it, and often only just.  Given the fill, its
uncertainty and what charges flagged pixels hold, the mean and the spread of the truth follow
in closed form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx

CHARGES = ((16.0, 1.7), (1.2, 40.0), (0.01, np.inf))
"""Charges of flagged pixels are a sum of exponentials: how frequent each is where charge is
none, and its mean in units of the background noise.  Rims and what was flagged for nothing,
most cosmic rays, and a few of any charge.  Their sum is much the same whatever lies below."""

NO_LIMIT = -5.0
"""A value so far below the fill [sigma] is not that of a pixel with a cosmic ray, unless
detection found one in it: then the fill is wrong."""

_NO_MATTER = 12.0  # sigma above the fill, from where on the observed value says nothing
# The charges were fitted to simulated frames that no report uses; LOG.md, round 13.


def limit_by_observed(
    fill: NDArray[np.float32],
    error: NDArray[np.float32],
    observed: NDArray[np.float32],
    least: NDArray[np.float32],
    noise: float,
    detected: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what mended pixels held without their cosmic ray, and its uncertainty.

    Parameters
    ----------
    fill, error : (n,) float32 arrays
        From everything but the pixels themselves: value and 1-sigma uncertainty.
    observed : (n,) float32 array
        What the pixels held with the cosmic ray; NaN = not known, as is a value that more
        than half of the pixels share, which somebody wrote there.
    least : (n,) float32 array
        Uncertainty that none falls below: a pixel that hardly changes is no better known
        than a median of the sky.
    noise : float
        Background noise of the image, > 0.
    detected : bool
        True = the pixels were chosen by what they hold, which is light and charge: none of
        their values was written there, nor is one so low that it says nothing.

    Returns
    -------
    (n,) float32 arrays
        Values, at most those observed, and 1-sigma uncertainties, at least `least` or
        what they were; `fill` and `error` where the observed value is not known, far above,
        or more than `NO_LIMIT` below.  There `detected` pixels get the observed value, and
        by how much the fill was wrong is no measure of its error: that stays.
    """
    value, sigma = fill.copy(), error.copy()
    with np.errstate(all="ignore"):
        above = (observed.astype(np.float64) - fill) / error
    used = (above > NO_LIMIT) & (above < _NO_MATTER)
    if detected:
        wrong = above <= NO_LIMIT
        value[wrong] = observed[wrong]
    else:
        used &= ~_written_there(observed)
    high = above[used]
    # The truth is normal below what was observed; of an exponential, around `shift`.
    shift = np.stack([error[used] / (noise * charge) for _, charge in CHARGES])
    ratio = _mills(high - shift)
    weights = np.array([[share] for share, _ in CHARGES]) / ratio
    weights /= weights.sum(axis=0)
    means = shift - ratio
    widths = np.maximum(1.0 - ratio * (high - means), 0.0)
    mean = (weights * means).sum(axis=0)
    variance = (weights * (widths + (means - mean) ** 2)).sum(axis=0)
    value[used] = np.minimum(fill[used] + mean * error[used], observed[used])
    floor = np.minimum(error, least)[used]
    sigma[used] = np.maximum(error[used] * np.sqrt(variance), floor)
    return value, sigma


def _mills(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal density at x over the probability below x."""
    ratio: NDArray[np.float64] = np.sqrt(2.0 / np.pi) / erfcx(-x / np.sqrt(2.0))
    return ratio


def _written_there(observed: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say where a value stands that more than half of the pixels have."""
    if observed.size < 2:
        return np.zeros(observed.shape, dtype=bool)
    middle = np.partition(observed, observed.size // 2)[observed.size // 2]
    same: NDArray[np.bool_] = observed == middle
    return same & (2 * np.count_nonzero(same) > same.size)
