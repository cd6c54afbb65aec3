"""Structural similarity of two images or of two curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter

K1, K2 = 0.01, 0.03
"""Of the two stabilising constants (K · data_range)² (Wang et al. 2004, section III B)."""

WINDOW = 7
"""Side of the window in which means and variances are taken, as scikit-image's default."""


def structural_similarity(
    first: ArrayLike, second: ArrayLike, data_range: float, window: int = WINDOW
) -> float:
    """Return the mean structural similarity index (SSIM) of two arrays.

    Windows of equal weight, variances of samples (n − 1), and the mean over the places where
    the whole window lies inside: scikit-image's ``structural_similarity``.

    Parameters
    ----------
    first, second : array-like
        Of one shape, with any number of axes, each at least `window` long.
    data_range : float
        Largest − smallest value that is expected, > 0.
    window : int
        Odd.

    Returns
    -------
    float
        1 = identical.

    Raises
    ------
    ValueError
        The shapes differ, an axis is too short, or `data_range` is not positive.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.shape != b.shape or min(a.shape, default=0) < window:
        raise ValueError(
            f"shapes are {a.shape} and {b.shape}; expected one shape with axes of at least "
            f"{window}"
        )
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}; expected more than 0")
    count = window**a.ndim
    sample = count / (count - 1)
    mean_a, mean_b = uniform_filter(a, window), uniform_filter(b, window)
    var_a = sample * (uniform_filter(a * a, window) - mean_a**2)
    var_b = sample * (uniform_filter(b * b, window) - mean_b**2)
    covariance = sample * (uniform_filter(a * b, window) - mean_a * mean_b)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    edge = window // 2
    return float(index[(slice(edge, -edge),) * a.ndim].mean())
