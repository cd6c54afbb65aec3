"""Lines that go on: what a cosmic ray hid of sky lines and traces, from the pixels along them.

A line of the sky is the same along the slit, a trace nearly so along the dispersion, and a
network that knows stars and galaxies takes either for one.  Where the image around a cosmic ray
shows such a line on both sides, a sum of products of a column and a row (`_low_rank`) is fitted
to the good pixels around.  It counts only where it foretells the pixels next to the cosmic ray,
from the others, and better than what continues those smoothly: stars and galaxies fail that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._fit import solve_normal
from crmend._holes import DEEP
from crmend._kernels import smooth_fill
from crmend._low_rank import fit_products

CELL = 8
"""Cosmic-ray pixels of squares of so many pixels a side are filled at once [px]."""

AROUND = 10
"""Width of what is seen around such a square [px]."""

LEAST_SNR = 6.0
"""Covariance of the profiles on both sides, in units of what noise makes of it."""

ALIKE = 0.92
"""Their correlation, corrected for noise, at least."""

SWELLS = 2.0
"""Brightness of the middle, over that of both sides, from where on it is a source."""

MOST_SHIFT = 6
"""Shift from one side to the other up to which a leaning line is followed [px]: a third of a
pixel per pixel."""

AGREES = 10.0
"""Mean square of the rim's residuals, of which noise makes one, at most."""

CLEAR = 2.0
"""Where lines are not `COMMON`, the smooth continuation must leave so many times as much of the
rim at least, or as many times as that mean square, and lines must be straight."""

COMMON = 0.3
"""Share of the CR pixels on lines from which on a frame is a spectrum full of them, where it is
enough to be better than the smooth continuation: 0.6 to 0.9 in spectra of the sky, 0.2 at most
in images (training/crmend_training/LOG.md, round 20)."""

RIM = 2
"""Pixels so near to a cosmic ray are foretold [px]."""

FEW = 30
"""Squares with CR pixels, below which a frame does not say whether lines are common."""

_SIDE = CELL + 2 * AROUND
_BAND = _SIDE // 3  # rows on each side that make its profile
_LEVER = _SIDE - _BAND  # between the middles of both sides
_LEAST_COLUMNS = 12  # that a correlation is of
_LEAST_GOOD = 5  # pixels in a row and a column, to know their factors by
_LEAST_RIM = 8
_BLOCK = 256  # cells for a thread at a time


def fill_lines(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what lines say that cosmic-ray pixels held.

    Parameters
    ----------
    image, error : (ny, nx) float32 arrays
        In one unit; CR pixels are not read.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    excluded : (ny, nx) bool array
        True = invalid or saturated: used for no other pixel.
    noise : float
        Background noise of the image, > 0.
    threads : int
        Parts that are filled at the same time.

    Returns
    -------
    values, sigma : (n_cr,) float32 arrays
        In the order of ``np.flatnonzero(cr_mask)``, in the image's unit; `sigma` is the
        1-sigma difference from what would have been measured, noise included.  NaN where no
        line goes on.
    """
    y, x = np.nonzero(cr_mask)
    cells = (y // CELL) * (-(-image.shape[1] // CELL)) + x // CELL
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    ends = np.append(starts[1:], order.size)
    values = np.full(y.size, np.nan, dtype=np.float32)
    sigma = np.full(y.size, np.nan, dtype=np.float32)
    clear = np.zeros(y.size, dtype=np.bool_)

    def fill(first: int) -> None:
        part = np.s_[first : first + _BLOCK]
        _fill_cells(
            image, error, cr_mask, excluded, noise,
            y, x, order, starts[part], ends[part], values, sigma, clear,
        )  # fmt: skip

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(fill, range(0, starts.size, _BLOCK)))
    if starts.size < FEW or np.count_nonzero(np.isfinite(values)) < COMMON * values.size:
        values[~clear] = sigma[~clear] = np.nan
    return values, sigma


@njit
def _fill_cells(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    values: NDArray[np.float32],
    sigma: NDArray[np.float32],
    clear: NDArray[np.bool_],
) -> None:
    """Write values and sigma of some cells, whose pixels are ``order[start:end]``.

    Pixels are `clear` where they count in any frame, not only in spectra.
    """
    data, weight = np.empty((_SIDE, _SIDE)), np.empty((_SIDE, _SIDE))
    model, variance = np.empty_like(data), np.empty_like(data)
    rows, columns = np.empty(CELL * CELL, np.int64), np.empty(CELL * CELL, np.int64)
    offsets = np.zeros(_SIDE, np.int64)
    for start, end in zip(starts, ends):  # noqa: B905 (numba knows no strict)
        pixels = order[start:end]
        top = y[pixels[0]] // CELL * CELL - AROUND
        left = x[pixels[0]] // CELL * CELL - AROUND
        offsets[:] = 0
        _window(image, error, cr_mask, excluded, noise, top, left, False, offsets, data, weight)
        shift, upright = _follow(data, weight)
        if shift > MOST_SHIFT:
            continue
        across = shift != 0 and not upright
        if shift != 0:
            for i in range(_SIDE):
                offsets[i] = round(shift * (i - 0.5 * (_SIDE - 1)) / _LEVER)
            _window(
                image, error, cr_mask, excluded, noise, top, left, across, offsets, data, weight
            )
        level = _take_level(data, weight)
        for k in range(pixels.size):
            rows[k], columns[k] = y[pixels[k]] - top, x[pixels[k]] - left
            if across:
                rows[k], columns[k] = columns[k], rows[k]
            columns[k] -= offsets[rows[k]]
        misfit, share = _rim_misfit(
            data, weight, rows[: pixels.size], columns[: pixels.size], model, variance
        )
        if misfit > AGREES or share > 1.0:
            continue
        is_clear = shift == 0 and share * max(misfit, CLEAR) < 1.0
        is_clear = is_clear and not _is_blob(cr_mask, top + AROUND, left + AROUND)
        fit_products(data, weight, model, variance)
        for k in range(pixels.size):
            i, j = rows[k], columns[k]
            if 0 <= j < _SIDE and _is_known(weight, i, j):
                values[pixels[k]] = noise * (level + model[i, j])
                sigma[pixels[k]] = noise * np.sqrt(max(misfit, 1.0) * variance[i, j])
                clear[pixels[k]] = is_clear


@njit
def _window(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    top: int,
    left: int,
    across: bool,
    offsets: NDArray[np.int64],
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> None:
    """Copy the pixels around a cell, in units of the noise; unknown ones are zeros.

    Row i begins `offsets[i]` pixels further; `across` turns rows into columns first.
    """
    ny, nx = image.shape
    for i in range(_SIDE):
        for j in range(_SIDE):
            y, x = top + i, left + j + offsets[i]
            if across:
                y, x = top + j + offsets[i], left + i
            data[i, j] = weight[i, j] = 0.0
            if not (0 <= y < ny and 0 <= x < nx) or cr_mask[y, x] or excluded[y, x]:
                continue
            if np.isfinite(image[y, x]) and np.isfinite(error[y, x]):
                data[i, j] = image[y, x] / noise
                weight[i, j] = (noise / max(np.float64(error[y, x]), noise)) ** 2


@njit
def _take_level(data: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Subtract the median of a window's known pixels from them; return it."""
    good = np.empty(data.size)
    count = 0
    for i in range(_SIDE):
        for j in range(_SIDE):
            if weight[i, j] > 0.0:
                good[count] = data[i, j]
                count += 1
    level = float(np.median(good[:count])) if count > 0 else 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            if weight[i, j] > 0.0:
                data[i, j] -= level
    return level


@njit
def _follow(data: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[int, bool]:
    """Return by how much the lines of a window lean, and whether they run along columns.

    The shift is that from its upper rows to its lower ones, or from the left to the right; more
    than `MOST_SHIFT` where there are no lines.  Straight ones are looked for first.
    """
    upper, lower = _profile(data, weight, 0), _profile(data, weight, _LEVER)
    # Copies, since each layout of an array would be compiled once more.
    data_t, weight_t = np.ascontiguousarray(data.T), np.ascontiguousarray(weight.T)
    left, right = _profile(data_t, weight_t, 0), _profile(data_t, weight_t, _LEVER)
    most_y, most_x = _structure(upper) * _structure(lower), _structure(left) * _structure(right)
    columns, rows = _likeness(upper, lower, 0, most_y), _likeness(left, right, 0, most_x)
    if columns > ALIKE and not _swells(upper, _profile(data, weight, _BAND), lower):
        return 0, True
    if rows > ALIKE and not _swells(left, _profile(data_t, weight_t, _BAND), right):
        return 0, True
    best, shift, upright = ALIKE, MOST_SHIFT + 1, True
    for one in range(-MOST_SHIFT, MOST_SHIFT + 1):
        columns = _likeness(upper, lower, one, most_y)
        rows = _likeness(left, right, one, most_x)
        if one != 0 and max(columns, rows) > best:
            best, shift, upright = max(columns, rows), one, columns >= rows
    return shift, upright


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


@njit
def _rim_misfit(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    model: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> tuple[float, float]:
    """Return how badly the pixels next to cosmic-ray pixels are foretold by the others.

    That is their mean square residual, and as a share of that of what continues the others
    smoothly; both infinite where there are too few.
    """
    hole = np.zeros((1, _SIDE, _SIDE), np.bool_)
    smooth = np.zeros((1, _SIDE, _SIDE), np.float32)
    beyond = weight.copy()
    for k in range(rows.size):
        for i in range(max(rows[k] - RIM, 0), min(rows[k] + RIM + 1, _SIDE)):
            for j in range(max(columns[k] - RIM, 0), min(columns[k] + RIM + 1, _SIDE)):
                beyond[i, j] = 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            hole[0, i, j] = beyond[i, j] == 0.0
            if not hole[0, i, j]:
                smooth[0, i, j] = data[i, j]
    fit_products(data, beyond, model, variance)
    smooth_fill(smooth, hole)
    ours, theirs, count = 0.0, 0.0, 0
    for i in range(_SIDE):
        for j in range(_SIDE):
            if weight[i, j] > 0.0 and hole[0, i, j]:
                # A hot pixel or an unseen rim says nothing of either.
                ours += min((data[i, j] - model[i, j]) ** 2 / variance[i, j], 25.0)
                theirs += (data[i, j] - smooth[0, i, j]) ** 2 / variance[i, j]
                count += 1
    if count < _LEAST_RIM:
        return np.inf, np.inf
    return ours / count, ours / max(theirs, 1e-9)


@njit
def _is_blob(cr_mask: NDArray[np.bool_], top: int, left: int) -> bool:
    """Tell whether pixels in or next to a cell are deep in a hole, which may hide a galaxy."""
    ny, nx = cr_mask.shape
    for y in range(max(top - CELL, DEEP), min(top + 2 * CELL, ny - DEEP)):
        for x in range(max(left - CELL, DEEP), min(left + 2 * CELL, nx - DEEP)):
            around = cr_mask[y - DEEP : y + DEEP + 1, x - DEEP : x + DEEP + 1]
            if cr_mask[y, x] and around.all():
                return True
    return False


@njit
def _is_known(weight: NDArray[np.float64], row: int, column: int) -> bool:
    """Tell whether enough pixels of a row and a column are good to know their factors by."""
    in_row = in_column = 0
    for k in range(_SIDE):
        in_row += weight[row, k] > 0.0
        in_column += weight[k, column] > 0.0
    return min(in_row, in_column) >= _LEAST_GOOD
