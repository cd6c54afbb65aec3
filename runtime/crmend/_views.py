"""One image seen several times, turned and mirrored, and the mean of what a network says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RunGraph = Callable[[NDArray[np.float32], bool], NDArray[np.float32]]
"""Takes (1, 1, h, w) of network input and whether it is the last tile; returns
cr_probability of the same shape."""

VIEWS = (1, 2, 4, 8)
"""How many there may be: the image; turned by 180°; by quarters; all of it mirrored, too."""

_QUARTERS = (0, 2, 1, 3)
TURNS = tuple((quarter, mirrored) for mirrored in (False, True) for quarter in _QUARTERS)
"""Quarters by which each view is turned, and whether it is mirrored left to right then."""

_LARGEST_ODDS = 1e6  # single precision knows no probability between 1 - 6e-8 and 1


def in_views(run: RunGraph, views: int) -> RunGraph:
    """Return what runs a detection graph on several views and gives their mean log-odds.

    What differs from view to view is the network's own error; CRs look alike from all sides.

    Parameters
    ----------
    run : callable
        The graph; it takes (1, 1, w, h) as well as (1, 1, h, w).
    views : int
        One of `VIEWS`; with 1 the graph itself is returned.
    """
    if views == 1:
        return run

    def run_views(image: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        total = np.zeros(image.shape, dtype=np.float32)
        for number, (quarter, mirrored) in enumerate(TURNS[:views], start=1):
            seen = np.rot90(image, quarter, axes=(-2, -1))
            seen = np.ascontiguousarray(seen[..., ::-1] if mirrored else seen)
            found = run(seen, last and number == views)
            found = found[..., ::-1] if mirrored else found
            total += log_odds(np.rot90(found, -quarter, axes=(-2, -1)))
        mean: NDArray[np.float32] = 1.0 / (1.0 + np.exp(-total / np.float32(views)))
        return mean

    return run_views


def log_odds(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-odds of probabilities, between ± log 10⁶."""
    with np.errstate(divide="ignore"):
        odds = probability / (1.0 - probability)
    clipped = np.clip(odds, 1.0 / _LARGEST_ODDS, _LARGEST_ODDS)
    logarithm: NDArray[np.float32] = np.log(clipped, out=clipped)
    return logarithm
