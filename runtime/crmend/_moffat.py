"""An elliptical Moffat profile; `crmend._fit` fits it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit

MOFFAT = 2
"""The model; see `crmend._fit`."""


@njit
def moffat_parts(p: NDArray[np.float64], parts: NDArray[np.float64]) -> None:
    """Write the quadratic form (xx, twice xy, yy) and the exponent of a profile."""
    a, c = math.exp(p[3]), math.exp(p[4])
    parts[0, 0] = a
    parts[0, 1] = 2.0 * math.tanh(p[5]) * math.sqrt(a * c)
    parts[0, 2] = c
    parts[0, 3] = math.exp(p[6])


@njit
def moffat_light(parts: NDArray[np.float64], x: float, y: float) -> float:
    """Return a profile of amplitude 1 at an offset from its centre."""
    u = parts[0, 0] * x * x + parts[0, 1] * x * y + parts[0, 2] * y * y
    return math.exp(-parts[0, 3] * math.log1p(u))


@njit
def moffat_slopes(
    p: NDArray[np.float64],
    parts: NDArray[np.float64],
    x: float,
    y: float,
    slope: NDArray[np.float64],
) -> float:
    """Return the model at an offset from its centre, and write its derivatives."""
    a, cross, c, beta = parts[0, 0], 0.5 * parts[0, 1], parts[0, 2], parts[0, 3]
    turn = math.tanh(p[5])
    u = a * x * x + 2.0 * cross * x * y + c * y * y
    log = math.log1p(u)
    shape = math.exp(-beta * log)
    inner = -beta * p[0] * shape / (1.0 + u)
    slope[0] = shape
    slope[1] = -2.0 * inner * (a * x + cross * y)
    slope[2] = -2.0 * inner * (c * y + cross * x)
    slope[3] = inner * x * (a * x + cross * y)
    slope[4] = inner * y * (c * y + cross * x)
    slope[5] = inner * 2.0 * (1.0 - turn * turn) * math.sqrt(a * c) * x * y
    slope[6] = -beta * log * p[0] * shape
    slope[7] = 1.0
    value: float = p[0] * shape + p[7]
    return value
