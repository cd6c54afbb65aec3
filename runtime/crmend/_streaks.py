"""Parts of lines along rows or columns that pass for tracks: a streak of readout, a bad column.

A track ends where its flagged pixels end.  What goes on beyond them, as bright and as straight,
is a line of the detector, of which a network that looks some 50 px around saw one end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit

LEAST = 8
"""Flagged pixels in a row from which on it is asked whether they are a part of a line."""

AHEAD = 8
"""A line goes on for twice as many pixels, which are judged in two halves."""

SHARE = 0.5
"""Each half is at least so bright as the flagged part, and at most its inverse."""

SIGMAS = 3.0
"""And stands out by so many standard deviations of its mean."""

MOST_BESIDE = 0.2
"""Of the pixels two beside a flagged part so many may be flagged: lines are thin."""

_BESIDE = (-4, -3, -2, 2, 3, 4)  # px: what a line's own level is measured against


def free_streaks(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
) -> None:
    """Take parts of lines along rows and columns out of a mask, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    cr_mask : (ny, nx) bool array
        True = cosmic ray; parts of lines, and what is flagged beside them, become False.
    excluded : (ny, nx) bool array
        True = no measurement, or saturated.
    noise : float
        Standard deviation of the image's sky.
    """
    for y, x, length, along_row in _find_parts(image, cr_mask, excluded, noise):
        before, after = max(y - 1, 0), max(x - 1, 0)
        rows = slice(before, y + 2 if along_row else y + length + 1)
        columns = slice(after, x + length + 1 if along_row else x + 2)
        cr_mask[rows, columns] = False


@njit
def _find_parts(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
) -> list[tuple[int, int, int, bool]]:
    """Return y, x of the first pixel, length and direction (True = along its row) of parts."""
    ny, nx = cr_mask.shape
    parts = [(0, 0, 0, True) for _ in range(0)]
    down = np.zeros(nx + 1, dtype=np.int64)
    for y in range(ny + 1):
        right = 0
        for x in range(nx + 1):
            flagged = y < ny and x < nx and cr_mask[y, x]
            if flagged:
                right += 1
                down[x] += 1
                continue
            row, column = (y, x - right, 0, 1), (y - down[x], x, 1, 0)
            if right >= LEAST and _goes_on(image, cr_mask, excluded, noise, row, right):
                parts.append((y, x - right, right, True))
            if down[x] >= LEAST and _goes_on(image, cr_mask, excluded, noise, column, down[x]):
                parts.append((y - down[x], x, down[x], False))
            right = down[x] = 0
    return parts


@njit
def _goes_on(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    line: tuple[int, int, int, int],
    length: int,
) -> bool:
    """Tell whether a line of flagged pixels, (y, x, dy, dx), goes on where none is flagged."""
    ny, nx = cr_mask.shape
    y, x, dy, dx = line
    beside = 0
    for k in range(length):
        for far in (-2, 2):
            v, u = y + k * dy + far * dx, x + k * dx + far * dy
            if 0 <= v < ny and 0 <= u < nx and cr_mask[v, u]:
                beside += 1
    if beside > MOST_BESIDE * length:
        return False
    own = _level(image, cr_mask, excluded, line, 0, length)
    if not own > 0.0:
        return False
    least, most = max(SHARE * own, SIGMAS * noise / np.sqrt(AHEAD)), own / SHARE
    # The pixel next to the flagged ones may be half of one.
    for start, step in ((length + 1, AHEAD), (-1 - AHEAD, -AHEAD)):
        halves = 0
        for half in (start, start + step):
            if _is_free(cr_mask, excluded, line, half, half + AHEAD):
                level = _level(image, cr_mask, excluded, line, half, half + AHEAD)
                halves += least <= level <= most
        if halves == 2:
            return True
    return False


@njit
def _is_free(
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    line: tuple[int, int, int, int],
    first: int,
    end: int,
) -> bool:
    """Tell whether pixels of a line lie in the frame, unflagged, and most are measured."""
    ny, nx = cr_mask.shape
    y, x, dy, dx = line
    unknown = 0
    for k in range(first, end):
        v, u = y + k * dy, x + k * dx
        if not (0 <= v < ny and 0 <= u < nx) or cr_mask[v, u]:
            return False
        unknown += excluded[v, u]
    return 2 * unknown < end - first


@njit
def _level(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    line: tuple[int, int, int, int],
    first: int,
    end: int,
) -> float:
    """Return how far pixels of a line lie above those beside it, in the mean; NaN = unknown."""
    ny, nx = cr_mask.shape
    y, x, dy, dx = line
    total, count, around, others = 0.0, 0, 0.0, 0
    for k in range(first, end):
        v, u = y + k * dy, x + k * dx
        if not excluded[v, u]:
            total += image[v, u]
            count += 1
        for far in _BESIDE:
            v, u = y + k * dy + far * dx, x + k * dx + far * dy
            inside = 0 <= v < ny and 0 <= u < nx
            if inside and not cr_mask[v, u] and not excluded[v, u]:
                around += image[v, u]
                others += 1
    if count == 0 or others == 0:
        return np.nan
    return total / count - around / others
