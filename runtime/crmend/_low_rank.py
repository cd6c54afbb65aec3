"""Windows of an image as sums of products of a column and a row, fitted to their good pixels.

Lines across a slit, traces along the dispersion, and what both make where they cross, are such
products: ``data[y, x] = sum_k u[k, y] v[k, x]``.  Rows and columns are fitted in turn
(alternating least squares).  Each has a Gaussian prior whose mean and width are those of its
own numbers (a probabilistic matrix factorisation: Salakhutdinov & Mnih 2008), so that what a
window does not hold shrinks away instead of fitting its noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._fit import solve_normal

RANK = 2
"""Products in the sum: a line that bends or leans a little is two, and so is a line that
crosses a trace.  Three are no better (training/crmend_training/LOG.md, round 20)."""

ROUNDS = 4
"""Rounds of rows and columns after each further product."""

CLIPPED = 4.0
"""Residual from where on a pixel weighs less, as if it lay there [sigma]."""

BRIGHT = 5.0
"""Light from where on pixels tell how their variance grows with it [noise]."""

_LEAST_BRIGHT = 20  # pixels that tell it
_TINY = 1e-9
_MEDIAN_SQUARE = 0.454937  # median of the square of a normal deviate


@njit
def fit_products(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    model: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """Fit a window.

    Parameters
    ----------
    data : (ny, nx) float64 array
        In units of the noise, above some level of the window.
    weight : (ny, nx) float64 array
        Inverse variance by the errors; 0 = unknown.  Outliers get less, in a copy.
    model : (ny, nx) float64 array
        Written: the sum of products, everywhere.
    variance : (ny, nx) float64 array
        Written: variance of a pixel around the model.  By the errors, more where the
        residuals or those of bright pixels say so.
    """
    ny, nx = data.shape
    # Copies, since each layout of an array would be compiled once more.
    data_t = np.ascontiguousarray(data.T)
    weights = weight.copy()
    u, v = np.zeros((RANK, ny)), np.zeros((RANK, nx))
    mean_u, mean_v = np.zeros(RANK), np.zeros(RANK)
    precision_u, precision_v = np.ones(RANK), np.full(RANK, _TINY)
    u[0] = 1.0
    model[:] = 0.0
    for rank in range(1, RANK + 1):
        if rank > 1:
            _start(data, weights, model, v[rank - 1])
            precision_u[rank - 1], precision_v[rank - 1] = 0.1, 1.0
            _solve_rows(
                data_t, np.ascontiguousarray(weights.T),
                v[:rank], u[:rank], precision_u[:rank], mean_u[:rank],
            )  # fmt: skip
        for _ in range(ROUNDS):
            for k in range(rank):
                # What one factor has more the other has less: the first has unit rms.
                size = _normalise(u[k])
                mean_u[k] /= size
                precision_u[k] *= size**2
                v[k] *= size
                mean_v[k] *= size
                precision_v[k] /= size**2
            _solve_rows(data, weights, u[:rank], v[:rank], precision_v[:rank], mean_v[:rank])
            _solve_rows(
                data_t, np.ascontiguousarray(weights.T),
                v[:rank], u[:rank], precision_u[:rank], mean_u[:rank],
            )  # fmt: skip
            _multiply(u[:rank], v[:rank], model)
            _reweigh(data, weight, model, weights, variance)


@njit
def _normalise(values: NDArray[np.float64]) -> float:
    """Divide values by their rms, in place, and return that."""
    total = 0.0
    for i in range(values.size):
        total += values[i] ** 2
    size = np.sqrt(total / values.size) + _TINY
    for i in range(values.size):
        values[i] /= size
    return float(size)


@njit
def _multiply(
    u: NDArray[np.float64], v: NDArray[np.float64], model: NDArray[np.float64]
) -> None:
    """Write the sum of the products of columns u and rows v."""
    for y in range(model.shape[0]):
        for x in range(model.shape[1]):
            total = 0.0
            for k in range(u.shape[0]):
                total += u[k, y] * v[k, x]
            model[y, x] = total


@njit
def _solve_rows(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    known: NDArray[np.float64],
    wanted: NDArray[np.float64],
    precision: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> None:
    """Fit one factor of every product, given the other; both (rank, n), in place.

    `known` belongs to the rows of `data`, `wanted` to its columns.  Its prior is used, and
    then measured.
    """
    ny, nx = data.shape
    rank = known.shape[0]
    normal, right = np.empty((rank, rank)), np.empty(rank)
    found = np.empty(rank)
    posterior = np.zeros(rank)
    for x in range(nx):
        normal[:] = 0.0
        right[:] = 0.0
        for y in range(ny):
            w = weight[y, x]
            if w > 0.0:
                for i in range(rank):
                    right[i] += w * known[i, y] * data[y, x]
                    for j in range(i + 1):
                        normal[i, j] += w * known[i, y] * known[j, y]
        for i in range(rank):
            normal[i, i] += precision[i]
            right[i] += precision[i] * mean[i]
            posterior[i] += 1.0 / normal[i, i]
        solve_normal(normal, right, 0.0, found)
        for i in range(rank):
            wanted[i, x] = found[i]
    for i in range(rank):
        total = squares = 0.0
        for x in range(nx):
            total += wanted[i, x]
        mean[i] = total / nx
        for x in range(nx):
            squares += (wanted[i, x] - mean[i]) ** 2
        precision[i] = 1.0 / ((squares + posterior[i]) / nx + _TINY)


@njit
def _start(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    model: NDArray[np.float64],
    row: NDArray[np.float64],
) -> None:
    """Write the row of residuals that has most of them, at unit rms."""
    ny, nx = data.shape
    most, best = -1.0, 0
    for y in range(ny):
        total, count = 0.0, 0
        for x in range(nx):
            if weight[y, x] > 0.0:
                total += weight[y, x] * (data[y, x] - model[y, x]) ** 2
                count += 1
        if count > nx // 2 and total > most * count:
            most, best = total / count, y
    for x in range(nx):
        row[x] = data[best, x] - model[best, x] if weight[best, x] > 0.0 else 0.0
    _normalise(row)


@njit
def _reweigh(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    model: NDArray[np.float64],
    weights: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """Write weights and variances by the residuals.

    The variance by the errors is raised to that of the fainter half of the pixels, and by what
    grows with the light, since errors may know nothing of photons.
    """
    ny, nx = data.shape
    squares, light = np.empty(ny * nx), np.empty(ny * nx)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if weight[y, x] > 0.0:
                squares[count] = weight[y, x] * (data[y, x] - model[y, x]) ** 2 / _MEDIAN_SQUARE
                light[count] = weight[y, x] * model[y, x]
                count += 1
    if count == 0:
        variance[:] = 1.0
        return
    middle = np.median(light[:count])
    chosen, faint, bright = np.empty(count), 0, 0
    for i in range(count):
        if light[i] <= middle:
            chosen[faint] = squares[i]
            faint += 1
    base = max(1.0, float(np.median(chosen[:faint])))
    for i in range(count):
        if light[i] > BRIGHT + max(middle, 0.0):
            chosen[bright] = (squares[i] - base) / light[i]
            bright += 1
    slope = max(float(np.median(chosen[:bright])), 0.0) if bright >= _LEAST_BRIGHT else 0.0
    for y in range(ny):
        for x in range(nx):
            w = weight[y, x]
            known = w if w > 0.0 else 1.0
            variance[y, x] = base / known + slope * max(model[y, x], 0.0)
            if w > 0.0:
                square = (data[y, x] - model[y, x]) ** 2 / variance[y, x]
                weights[y, x] = 1.0 / variance[y, x]
                if square > CLIPPED**2:
                    weights[y, x] *= CLIPPED**2 / square
