"""Cosmic-ray events in a mask, counted without a frame of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import _njit


@_njit
def _root(parent: NDArray[np.int32], label: int) -> int:
    """Return the root of a label, and shorten the way there."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@_njit
def count_events(cr_mask: NDArray[np.bool_], parent: NDArray[np.int32]) -> int:
    """Count the 8-connected groups of cosmic-ray pixels.

    Labels are kept for two rows only, so no frame of labels is needed.

    Parameters
    ----------
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    parent : (n,) int32 array
        Work space, at least one element per CR pixel; its content is lost.

    Returns
    -------
    int
    """
    ny, nx = cr_mask.shape
    # One column more on each side, so that every pixel has its three upper neighbours.
    above, current = np.full(nx + 2, -1, np.int32), np.full(nx + 2, -1, np.int32)
    labels = events = 0
    for y in range(ny):
        current[:] = -1
        for x in range(nx):
            if not cr_mask[y, x]:
                continue
            label = -1
            for neighbour in (current[x], above[x], above[x + 1], above[x + 2]):
                if neighbour < 0:
                    continue
                root = _root(parent, neighbour)
                if label < 0:
                    label = root
                elif root != label:
                    parent[max(root, label)] = min(root, label)
                    label = min(root, label)
                    events -= 1
            if label < 0:
                label = labels
                parent[label] = label
                labels += 1
                events += 1
            current[x + 1] = label
        above, current = current, above
    return events
