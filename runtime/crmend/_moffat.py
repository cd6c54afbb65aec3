"""A source's light as an elliptical Moffat profile on a flat background.

It is fitted to the pixels that are not lost, by damped least squares (Levenberg-Marquardt) with
weak priors on its size, shape and place, so that a source without its core still gives a
sensible answer.  Bright pixels count less than their photons would allow, since no real
source is a Moffat profile, and neighbours little (Cauchy's weights).  Loops stand where numpy
has an expression: they compile in a third of the time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import _njit
from crmend._mixture import HALF_WIDTH, OUTLIER, PHOTONS, solve

ITERATIONS = 20

MISMATCH = 0.02
"""Part of the profile's own value that counts as its error."""

N = 8
"""Numbers of a profile: amplitude, x, y, log a, log c, skew, log beta, background."""

_MEAN = np.array([0.0, 0.0, 0.0, -1.75, -1.75, 0.0, math.log(2.5), 0.0])
_WIDTH = np.array([1e9, 1.0, 1.0, 1.0, 1.0, 0.6, 0.4, 0.3])
# Priors.  The quadratic form a·x² + 2·tanh(skew)·√(ac)·x·y + c·y² of a width of 2.4 px
# (exp(-1.75 / -2)), within a factor of 1.6; exponents around 2.5; assumed, and broad.
_STEP = np.array([1e30, 0.7, 0.7, 0.7, 0.7, 0.5, 0.5, 1e30])


@_njit
def fit_moffat(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    row: int,
    column: int,
    found: NDArray[np.float64],
) -> float:
    """Fit one stamp; write the parameters, return the brightest pixel that is not lost."""
    ny, nx = stamp.shape
    reach = min(HALF_WIDTH, row, column, ny - 1 - row, nx - 1 - column)
    size = 2 * reach + 1
    weight = np.zeros((size, size))
    normal = np.empty((N, N))
    right = np.empty(N)
    slope = np.empty(N)
    trial = np.empty(N)
    top = 0.0
    start = 1.0
    for j in range(-reach, reach + 1):
        for i in range(-reach, reach + 1):
            if not lost[row + j, column + i]:
                top = max(top, stamp[row + j, column + i])
            if abs(i) < 2 and abs(j) < 2:
                start = max(start, stamp[row + j, column + i])
    for m in range(N):
        found[m] = _MEAN[m]
    found[0] = start
    damping = 1e-2
    cost = 0.0
    for step in range(ITERATIONS):
        if step % 4 == 0:
            for j in range(size):
                for i in range(size):
                    if not lost[row - reach + j, column - reach + i]:
                        value = max(moffat(found, float(i - reach), float(j - reach)), 0.0)
                        weight[j, i] = 1.0 / (1.0 + PHOTONS * value + (MISMATCH * value) ** 2)
            cost = _cost(stamp, weight, row - reach, column - reach, found)
        for m in range(N):
            right[m] = 0.0
            for n in range(m + 1):
                normal[m, n] = 0.0
        for j in range(size):
            for i in range(size):
                w = weight[j, i]
                if w == 0.0:
                    continue
                value = _slopes(found, float(i - reach), float(j - reach), slope)
                rest = stamp[row - reach + j, column - reach + i] - value
                w /= 1.0 + rest * rest * w / OUTLIER**2
                for m in range(N):
                    part = w * slope[m]
                    right[m] += part * rest
                    for n in range(m + 1):
                        normal[m, n] += part * slope[n]
        for m in range(1, N):
            normal[m, m] += 1.0 / _WIDTH[m] ** 2
            right[m] -= (found[m] - _MEAN[m]) / _WIDTH[m] ** 2
        better = False
        for _ in range(6):
            solve(normal, right, damping, trial)
            for m in range(N):
                trial[m] = found[m] + min(max(trial[m], -_STEP[m]), _STEP[m])
            new = _cost(stamp, weight, row - reach, column - reach, trial)
            if new < cost:
                better = True
                break
            damping *= 6.0
        gain = cost - new
        if better:
            damping = max(damping * 0.2, 1e-6)
            cost = new
            for m in range(N):
                found[m] = trial[m]
        if (not better or gain < 1e-3) and step >= 4:
            break
    return top


@_njit
def draw_moffat(found: NDArray[np.float64], image: NDArray[np.float32]) -> None:
    """Fill an image with a profile, without its background."""
    ny, nx = image.shape
    for j in range(ny):
        for i in range(nx):
            image[j, i] = moffat(found, float(i - nx // 2), float(j - ny // 2)) - found[7]


@_njit
def moffat(p: NDArray[np.float64], dx: float, dy: float) -> float:
    """Return the model at an offset from the middle."""
    ux, uy = dx - p[1], dy - p[2]
    a, c = math.exp(p[3]), math.exp(p[4])
    u = a * ux * ux + 2.0 * math.tanh(p[5]) * math.sqrt(a * c) * ux * uy + c * uy * uy
    value: float = p[0] * math.exp(-math.exp(p[6]) * math.log1p(u)) + p[7]
    return value


@_njit
def _slopes(p: NDArray[np.float64], dx: float, dy: float, slope: NDArray[np.float64]) -> float:
    """Return the model at an offset, and write its derivatives."""
    ux, uy = dx - p[1], dy - p[2]
    a, c, turn = math.exp(p[3]), math.exp(p[4]), math.tanh(p[5])
    cross = turn * math.sqrt(a * c)
    beta = math.exp(p[6])
    u = a * ux * ux + 2.0 * cross * ux * uy + c * uy * uy
    log = math.log1p(u)
    shape = math.exp(-beta * log)
    inner = -beta * p[0] * shape / (1.0 + u)
    slope[0] = shape
    slope[1] = -2.0 * inner * (a * ux + cross * uy)
    slope[2] = -2.0 * inner * (c * uy + cross * ux)
    slope[3] = inner * ux * (a * ux + cross * uy)
    slope[4] = inner * uy * (c * uy + cross * ux)
    slope[5] = inner * 2.0 * (1.0 - turn * turn) * math.sqrt(a * c) * ux * uy
    slope[6] = -beta * log * p[0] * shape
    slope[7] = 1.0
    value: float = p[0] * shape + p[7]
    return value


@_njit
def _cost(
    stamp: NDArray[np.float32],
    weight: NDArray[np.float64],
    row: int,
    column: int,
    p: NDArray[np.float64],
) -> float:
    """Return the robust sum of squares plus the priors."""
    size = weight.shape[0]
    reach = size // 2
    ux, uy = p[1], p[2]
    a, c = math.exp(p[3]), math.exp(p[4])
    cross = 2.0 * math.tanh(p[5]) * math.sqrt(a * c)
    beta = math.exp(p[6])
    total = 0.0
    for j in range(size):
        dy = j - reach - uy
        for i in range(size):
            w = weight[j, i]
            if w == 0.0:
                continue
            dx = i - reach - ux
            u = a * dx * dx + cross * dx * dy + c * dy * dy
            value = p[0] * math.exp(-beta * math.log1p(u)) + p[7]
            rest = stamp[row + j, column + i] - value
            total += OUTLIER**2 * math.log1p(rest * rest * w / OUTLIER**2)
    for m in range(1, N):
        total += ((p[m] - _MEAN[m]) / _WIDTH[m]) ** 2
    return total
