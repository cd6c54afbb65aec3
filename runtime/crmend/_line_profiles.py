"""Whether lines go on through a window of an image, and by how much they lean.

Profiles across the lines, taken on both sides of the window, are then alike but for noise and
a parabola, and its middle is no brighter than they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._fit import solve_normal

WINDOW = 28
"""Side of a window [px]."""

LEAST_SNR = 6.0
"""Covariance of the profiles on both sides, in units of what noise makes of it."""

ALIKE = 0.92
"""Their correlation, corrected for noise, at least."""

ALIKE_FURTHER = 0.8
"""The same of what a line goes on as, beyond the window."""

SWELLS = 2.0
"""Brightness of the middle, over that of both sides, from where on it is a source."""

MOST_SHIFT = 6
"""Shift from one side to the other up to which a leaning line is followed [px]: a third of a
pixel per pixel."""

_BAND = WINDOW // 3  # rows on each side that make its profile
_LEAST_COLUMNS = 12  # that a correlation is of

LEVER = WINDOW - _BAND
"""From the middle of one side to that of the other [px]."""


@njit
def follow(data: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[int, bool]:
    """Return by how much the lines of a window lean, and whether they run along columns.

    The shift is that from its upper rows to its lower ones, or from the left to the right; more
    than `MOST_SHIFT` where there are no lines.  Straight ones are looked for first.
    """
    upper, lower = _profile(data, weight, 0), _profile(data, weight, LEVER)
    # Copies, since each layout of an array would be compiled once more.
    data_t, weight_t = np.ascontiguousarray(data.T), np.ascontiguousarray(weight.T)
    left, right = _profile(data_t, weight_t, 0), _profile(data_t, weight_t, LEVER)
    most_y, most_x = _structure(upper) * _structure(lower), _structure(left) * _structure(right)
    columns, rows = _likeness(upper, lower, 0, most_y), _likeness(left, right, 0, most_x)
    if columns > ALIKE and not _swells(upper, _profile(data, weight, _BAND), lower):
        return 0, True
    if rows > ALIKE and not _swells(left, _profile(data_t, weight_t, _BAND), right):
        return 0, False
    best, shift, upright = ALIKE, MOST_SHIFT + 1, True
    for one in range(-MOST_SHIFT, MOST_SHIFT + 1):
        columns = _likeness(upper, lower, one, most_y)
        rows = _likeness(left, right, one, most_x)
        if one != 0 and max(columns, rows) > best:
            best, shift, upright = max(columns, rows), one, columns >= rows
    return shift, upright


@njit
def are_alike(data: NDArray[np.float64], weight: NDArray[np.float64]) -> bool:
    """Tell whether the profiles of a window's upper and lower rows are nearly alike."""
    upper, lower = _profile(data, weight, 0), _profile(data, weight, LEVER)
    return _likeness(upper, lower, 0, np.inf) > ALIKE_FURTHER


@njit
def _profile(
    data: NDArray[np.float64], weight: NDArray[np.float64], first: int
) -> NDArray[np.float64]:
    """Return (2, nx): weighted means of `_BAND` rows, and their variances (0 = unknown)."""
    profile = np.zeros((2, data.shape[1]))
    for j in range(data.shape[1]):
        total, weights = 0.0, 0.0
        for i in range(first, first + _BAND):
            total += weight[i, j] * data[i, j]
            weights += weight[i, j]
        if weights > 0.0:
            profile[0, j], profile[1, j] = total / weights, 1.0 / weights
    return profile


@njit
def _structure(profile: NDArray[np.float64]) -> float:
    """Return the root of a profile's squares beside a parabola; those of a part are less."""
    count = 0
    kept = np.empty((2, profile.shape[1]))
    for j in range(profile.shape[1]):
        if profile[1, j] > 0.0:
            kept[0, count] = 2.0 * j / profile.shape[1] - 1.0
            kept[1, count] = profile[0, j]
            count += 1
    squares = 0.0
    if count >= _LEAST_COLUMNS:
        rest = _without_parabola(kept[0], kept[1], count)
        for i in range(count):
            squares += rest[i] ** 2
    return float(np.sqrt(squares))


@njit
def _likeness(
    one: NDArray[np.float64], other: NDArray[np.float64], shift: int, most: float
) -> float:
    """Return the correlation of two profiles, of which `other` lies `shift` pixels further.

    Both without what a parabola describes, and corrected for noise; 0 where noise could have
    made it.  Their covariance is `most` at most: of the sky that alone tells it is noise.
    """
    count = 0
    noise = 0.0
    for j in range(max(0, -shift), min(one.shape[1], one.shape[1] - shift)):
        noise += one[1, j] * other[1, j + shift]
    if most <= LEAST_SNR * np.sqrt(noise):
        return 0.0
    kept = np.empty((5, one.shape[1]))
    for j in range(max(0, -shift), min(one.shape[1], one.shape[1] - shift)):
        if one[1, j] > 0.0 and other[1, j + shift] > 0.0:
            kept[0, count] = 2.0 * j / one.shape[1] - 1.0
            kept[1, count], kept[2, count] = one[0, j], other[0, j + shift]
            kept[3, count], kept[4, count] = one[1, j], other[1, j + shift]
            count += 1
    if count < _LEAST_COLUMNS:
        return 0.0
    a = _without_parabola(kept[0], kept[1], count)
    b = _without_parabola(kept[0], kept[2], count)
    covariance = squares_a = squares_b = noise_a = noise_b = 0.0
    for i in range(count):
        covariance += a[i] * b[i]
        squares_a, noise_a = squares_a + a[i] ** 2, noise_a + kept[3, i]
        squares_b, noise_b = squares_b + b[i] ** 2, noise_b + kept[4, i]
    if covariance <= LEAST_SNR * np.sqrt(noise):
        return 0.0
    signal_a = max(squares_a - noise_a, 0.1 * squares_a)
    signal_b = max(squares_b - noise_b, 0.1 * squares_b)
    return float(covariance / np.sqrt(signal_a * signal_b))


@njit
def _swells(
    one: NDArray[np.float64], middle: NDArray[np.float64], other: NDArray[np.float64]
) -> bool:
    """Tell whether the middle is brighter than the profiles on both sides: a star has wings."""
    count = 0
    kept = np.empty((3, one.shape[1]))
    for j in range(one.shape[1]):
        if one[1, j] > 0.0 and middle[1, j] > 0.0 and other[1, j] > 0.0:
            kept[0, count] = 2.0 * j / one.shape[1] - 1.0
            kept[1, count], kept[2, count] = middle[0, j], 0.5 * (one[0, j] + other[0, j])
            count += 1
    if count < _LEAST_COLUMNS:
        return True
    a = _without_parabola(kept[0], kept[1], count)
    b = _without_parabola(kept[0], kept[2], count)
    both = square = 0.0
    for i in range(count):
        both += a[i] * b[i]
        square += b[i] ** 2
    return both > SWELLS * square


@njit
def _without_parabola(
    x: NDArray[np.float64], y: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return the first values of y without the parabola in x that fits them best."""
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for k in range(count):
        for i in range(3):
            right[i] += x[k] ** i * y[k]
            for j in range(i + 1):
                normal[i, j] += x[k] ** (i + j)
    bend, rest = np.empty(3), np.empty(count)
    solve_normal(normal, right, 0.0, bend)
    for k in range(count):
        rest[k] = y[k] - bend[0] - bend[1] * x[k] - bend[2] * x[k] ** 2
    return rest
