"""Lines that go on: what a cosmic ray hid of sky lines and traces, from the pixels along them.

A line of the sky is the same along the slit, a trace nearly so along the dispersion, and a
network that knows stars and galaxies takes either for one.  Where the image around a cosmic ray
shows such a line on both sides, a sum of products of a column and a row (`_low_rank`) is fitted
to the good pixels around.  It counts only where it foretells the pixels next to the cosmic ray,
from the others, and better than what continues those smoothly: stars and galaxies fail that.
Where few lines of a frame go on further still, it must be one of these, since stars line up.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._holes import DEEP
from crmend._kernels import smooth_fill
from crmend._line_profiles import LEVER, MOST_SHIFT, WINDOW, are_alike, follow
from crmend._low_rank import fit_products

CELL = 8
"""Cosmic-ray pixels of squares of so many pixels a side are filled at once [px]."""

AROUND = (WINDOW - CELL) // 2
"""Width of what is seen around such a square [px]."""

AGREES = 10.0
"""Mean square of the rim's residuals, of which noise makes one, at most."""

CLEAR = 2.0
"""Where lines are not `COMMON`, the smooth continuation must leave so many times as much of the
rim at least, or as many times as that mean square, and lines must be straight."""

COMMON = 0.2
"""Share of the CR pixels on lines that go on beyond their window from which on a frame is a
spectrum full of them, where it is enough to be better than the smooth continuation: 0.03 to 0.9
in spectra, 0.014 at most in images (training/crmend_training/LOG.md, round 23)."""

RIM = 2
"""Pixels so near to a cosmic ray are foretold [px]."""

FEW = 30
"""Squares with CR pixels, below which a frame does not say whether lines are common."""

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
    goes_on, clear = np.zeros((2, y.size), dtype=np.bool_)

    def fill(first: int) -> None:
        part = np.s_[first : first + _BLOCK]
        _fill_cells(
            image, error, cr_mask, excluded, noise,
            y, x, order, starts[part], ends[part], values, sigma, goes_on, clear,
        )  # fmt: skip

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(fill, range(0, starts.size, _BLOCK)))
    if starts.size < FEW or np.count_nonzero(goes_on) < COMMON * values.size:
        left = ~(clear & goes_on)
        values[left] = sigma[left] = np.nan
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
    goes_on: NDArray[np.bool_],
    clear: NDArray[np.bool_],
) -> None:
    """Write values and sigma of some cells, whose pixels are ``order[start:end]``.

    Their line `goes_on` beyond the window; `clear` ones of these count in any frame, not only
    in spectra.
    """
    data, weight = np.empty((WINDOW, WINDOW)), np.empty((WINDOW, WINDOW))
    model, variance = np.empty_like(data), np.empty_like(data)
    rows, columns = np.empty(CELL * CELL, np.int64), np.empty(CELL * CELL, np.int64)
    offsets = np.zeros(WINDOW, np.int64)
    for start, end in zip(starts, ends):  # noqa: B905 (numba knows no strict)
        pixels = order[start:end]
        top = y[pixels[0]] // CELL * CELL - AROUND
        left = x[pixels[0]] // CELL * CELL - AROUND
        offsets[:] = 0
        _window(image, error, cr_mask, excluded, noise, top, left, False, offsets, data, weight)
        shift, upright = follow(data, weight)
        if shift > MOST_SHIFT:
            continue
        across = shift != 0 and not upright
        if shift != 0:
            for i in range(WINDOW):
                offsets[i] = round(shift * (i - 0.5 * (WINDOW - 1)) / LEVER)
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
            if 0 <= j < WINDOW and _is_known(weight, i, j):
                values[pixels[k]] = noise * (level + model[i, j])
                sigma[pixels[k]] = noise * np.sqrt(max(misfit, 1.0) * variance[i, j])
                clear[pixels[k]] = is_clear
        goes_on[pixels] = ~np.isnan(values[pixels]) & _goes_on(
            image, error, cr_mask, excluded, noise,
            top, left, shift, not upright, offsets, data, weight,
        )  # fmt: skip


@njit
def _goes_on(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    top: int,
    left: int,
    shift: int,
    across: bool,
    offsets: NDArray[np.int64],
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> bool:
    """Tell whether lines go on before and behind a window, or on one side at a border.

    Writes to offsets, data and weight.
    """
    length = image.shape[1] if across else image.shape[0]
    begin = left if across else top
    known = False
    for further in (-LEVER, LEVER):
        if begin + further < 0 or begin + further + WINDOW > length:
            continue
        for i in range(WINDOW):
            offsets[i] = round(shift * (i + further - 0.5 * (WINDOW - 1)) / LEVER)
        y, x = (top, left + further) if across else (top + further, left)
        _window(image, error, cr_mask, excluded, noise, y, x, across, offsets, data, weight)
        if not are_alike(data, weight):
            return False
        known = True
    return known


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
    for i in range(WINDOW):
        for j in range(WINDOW):
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
    for i in range(WINDOW):
        for j in range(WINDOW):
            if weight[i, j] > 0.0:
                good[count] = data[i, j]
                count += 1
    level = float(np.median(good[:count])) if count > 0 else 0.0
    for i in range(WINDOW):
        for j in range(WINDOW):
            if weight[i, j] > 0.0:
                data[i, j] -= level
    return level


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
    hole = np.zeros((1, WINDOW, WINDOW), np.bool_)
    smooth = np.zeros((1, WINDOW, WINDOW), np.float32)
    beyond = weight.copy()
    for k in range(rows.size):
        for i in range(max(rows[k] - RIM, 0), min(rows[k] + RIM + 1, WINDOW)):
            for j in range(max(columns[k] - RIM, 0), min(columns[k] + RIM + 1, WINDOW)):
                beyond[i, j] = 0.0
    for i in range(WINDOW):
        for j in range(WINDOW):
            hole[0, i, j] = beyond[i, j] == 0.0
            if not hole[0, i, j]:
                smooth[0, i, j] = data[i, j]
    fit_products(data, beyond, model, variance)
    smooth_fill(smooth, hole)
    ours, theirs, count = 0.0, 0.0, 0
    for i in range(WINDOW):
        for j in range(WINDOW):
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
    for k in range(WINDOW):
        in_row += weight[row, k] > 0.0
        in_column += weight[k, column] > 0.0
    return min(in_row, in_column) >= _LEAST_GOOD
