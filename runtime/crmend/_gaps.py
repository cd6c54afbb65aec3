"""The first fill of cosmic-ray pixels: medians, and what lies too deep in a hole for one.

The sky of a frame need not be flat.  Its mean level in a deep hole would be a step that looks
like a source, or hides one; what continues the nearest medians is neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._kernels import adaptive_median

SWEEPS = 100
"""Of the over-relaxation that smooths the middle of holes."""

OVER = 1.8
"""Its factor, 1…2."""


def median_fill(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    min_good: int,
    level: float,
    spread: NDArray[np.float32],
) -> None:
    """Replace cosmic-ray pixels by medians of good ones, deep ones harmonically, in place.

    A pixel without a good one in 11×11 gets what continues the medians around it: the
    solution of Laplace's equation, which has no extremum of its own.

    Parameters
    ----------
    image, cr_mask, excluded, min_good, spread
        As `crmend._kernels.adaptive_median`; `image` is written at CR pixels.  The spread of
        deep pixels is that of the medians they continue.
    level : float
        For CR pixels that no good one is near to, over any number of others.
    """
    # Not finite, as no median is: what it marks is told from all others afterwards.
    adaptive_median(image, cr_mask, excluded, min_good, np.nan, image, spread)
    flat = np.flatnonzero(cr_mask)
    order = np.flatnonzero(np.isnan(image.flat[flat]))
    if order.size:
        _peel(image, cr_mask, flat, order, level, spread)
        _relax(image, cr_mask, flat[order])


@njit
def _peel(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    flat: NDArray[np.int64],
    order: NDArray[np.int64],
    level: float,
    spread: NDArray[np.float32],
) -> None:
    """Give gaps the means of their filled neighbours' values and spreads, from the outside in.

    `order` says which of the CR pixels (flat indices) they are.
    """
    ny, nx = image.shape
    left = order.copy()
    values = np.empty((order.size, 2), dtype=np.float32)
    while left.size:
        found = 0
        for i in range(left.size):
            y, x = flat[left[i]] // nx, flat[left[i]] % nx
            total, spreads, count = 0.0, 0.0, 0
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if cr_mask[v, u] and np.isfinite(image[v, u]):
                        total += image[v, u]
                        spreads += spread[np.searchsorted(flat, v * nx + u)]
                        count += 1
            values[i] = np.nan
            if count > 0:
                values[i, 0], values[i, 1] = total / count, spreads / count
                found += 1
        kept = 0
        for i in range(left.size):
            pixel = flat[left[i]]
            if found == 0:
                image[pixel // nx, pixel % nx] = level
            elif np.isfinite(values[i, 0]):
                image[pixel // nx, pixel % nx], spread[left[i]] = values[i]
            else:
                left[kept] = left[i]
                kept += 1
        left = left[:kept]


@njit
def _relax(
    image: NDArray[np.float32], cr_mask: NDArray[np.bool_], gaps: NDArray[np.int64]
) -> None:
    """Move gaps to the mean of their four neighbours among CR pixels, in place, in order."""
    ny, nx = image.shape
    for _ in range(SWEEPS):
        for i in range(gaps.size):
            y, x = gaps[i] // nx, gaps[i] % nx
            total, count = 0.0, 0
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < ny and 0 <= u < nx and cr_mask[v, u]:
                    total += image[v, u]
                    count += 1
            if count > 0:
                image[y, x] += OVER * (total / count - image[y, x])
