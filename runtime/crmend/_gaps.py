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

    `order` says which of the CR pixels (flat indices) they are.  Each is looked at once, since
    a mask may cover half of a frame.
    """
    ny, nx = image.shape
    queue = np.empty(order.size, dtype=np.int64)
    values = np.empty((order.size, 2), dtype=np.float32)
    queued = np.zeros(flat.size, dtype=np.bool_)
    first = last = 0
    for k in order:
        if _known_around(image, cr_mask, flat, spread, flat[k])[2] > 0:
            queue[last], queued[k] = k, True
            last += 1
    while first < last:
        # A whole layer before the next, so that the order within it does not matter.
        for i in range(first, last):
            total, spreads, count = _known_around(image, cr_mask, flat, spread, flat[queue[i]])
            values[i, 0], values[i, 1] = total / count, spreads / count
        end = last
        for i in range(first, end):
            y, x = flat[queue[i]] // nx, flat[queue[i]] % nx
            image[y, x], spread[queue[i]] = values[i]
        for i in range(first, end):
            y, x = flat[queue[i]] // nx, flat[queue[i]] % nx
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if cr_mask[v, u] and np.isnan(image[v, u]):
                        k = np.searchsorted(flat, v * nx + u)
                        if not queued[k]:
                            queue[last], queued[k] = k, True
                            last += 1
        first = end
    for k in order:
        if not queued[k]:
            image[flat[k] // nx, flat[k] % nx] = level


@njit
def _known_around(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    flat: NDArray[np.int64],
    spread: NDArray[np.float32],
    pixel: int,
) -> tuple[float, float, int]:
    """Return sums of values and spreads of filled CR pixels around one, and their number."""
    ny, nx = image.shape
    y, x = pixel // nx, pixel % nx
    total, spreads, count = 0.0, 0.0, 0
    for v in range(max(y - 1, 0), min(y + 2, ny)):
        for u in range(max(x - 1, 0), min(x + 2, nx)):
            if cr_mask[v, u] and np.isfinite(image[v, u]):
                total += image[v, u]
                spreads += spread[np.searchsorted(flat, v * nx + u)]
                count += 1
    return total, spreads, count


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
