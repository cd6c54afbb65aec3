"""Cosmic-ray events, groups of pixels that touch, without a frame of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit


@njit
def _root(parent: NDArray[np.int32], label: int) -> int:
    """Return the root of a label, and shorten the way there."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit
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


@njit
def keep_seeded(
    cr_mask: NDArray[np.uint8], cr_probability: NDArray[np.float32], seed_threshold: float
) -> None:
    """Drop the 8-connected groups of which no pixel is probable enough.

    Groups are grown from the pixels that are, so that only those wait in memory.

    Parameters
    ----------
    cr_mask : (ny, nx) uint8 array
        1 = cosmic ray, 0 = none; changed in place, without a second plane.
    cr_probability : (ny, nx) float32 array
    seed_threshold : float
        A group stays where the largest cr_probability is at least this.
    """
    ny, nx = cr_mask.shape
    limit = np.float32(seed_threshold)
    kept = np.uint8(2)
    waiting = np.empty(1024, np.int64)
    for first in range(ny * nx):
        y, x = first // nx, first % nx
        if cr_mask[y, x] != 1 or cr_probability[y, x] < limit:
            continue
        cr_mask[y, x] = kept
        waiting[0], count = first, 1
        while count > 0:
            count -= 1
            y, x = waiting[count] // nx, waiting[count] % nx
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if cr_mask[v, u] != 1:
                        continue
                    cr_mask[v, u] = kept
                    if count == waiting.size:
                        waiting = np.append(waiting, np.empty_like(waiting))
                    waiting[count] = v * nx + u
                    count += 1
    for y in range(ny):
        for x in range(nx):
            cr_mask[y, x] = cr_mask[y, x] == kept
