"""How far what a graph gives is from what it should."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def relative_difference(
    values: NDArray[np.float32], expected: NDArray[np.float32], cr_mask: NDArray[np.float32]
) -> float:
    """Return the largest |Δ| of an inpainted pixel: the only pixels that are ever used.

    It is relative to |expected|, or to one noise unit if larger; infinite where shapes differ.

    Parameters
    ----------
    values, expected : (n, 1, h, w) float32 arrays
        In units of the noise.
    cr_mask : (n, 1, h, w) float32 array
        Above 0 = inpainted.
    """
    if values.shape != expected.shape:
        return float("inf")
    difference = np.abs(values - expected) / np.maximum(np.abs(expected), 1.0)
    return float(np.max(difference, where=cr_mask > 0, initial=0.0))


def largest_difference(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest |Δ| of two arrays; infinite where shapes differ."""
    if values.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(values - expected)))
