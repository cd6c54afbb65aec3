"""What masks leave of cosmic rays: charge in the good pixels beside them.

It looks like the wings of a star below a cosmic ray.  How much there may be is measured on the
image's own cosmic rays, away from sources: on a simulation whose masks hold all charge next to
nothing, on real exposures 0.02 to 0.15 of the charge beside it (LOG.md, round 36).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit

TYPICAL_RIM = 0.08
"""Where an image has too few cosmic rays to tell."""

TAIL = 5.0
"""Of what 99 in 100 of an image's rim pixels do not exceed: what passes for a star is the worst
that some thousand cosmic rays leave."""

LEAST_CHARGE = 30.0
"""Rims beside less than this tell noise, not how far charge spreads [noise]."""

LEAST_RIMS = 500
"""Rim pixels that tell it."""

UNKNOWN_CHARGE = 100.0
"""Of a CR pixel whose value is NaN [noise]; that of a faint cosmic ray."""

_MOST = 200_000  # CR pixels whose rims are looked at
_QUANTILE = 0.99
_NOISE = 3.0  # What noise alone reaches [noise]


def measure_rim(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    levels: NDArray[np.float32],
    noise: float,
    candidates: NDArray[np.int64],
) -> float:
    """Return which part of the charge beside it a good pixel may hold.

    Parameters
    ----------
    image : (ny, nx) float32 array
        CR pixels hold what was observed, NaN = not known.
    cr_mask, excluded : (ny, nx) bool arrays
        True = cosmic ray; True = invalid or saturated: takes no part.
    levels : (m,) float32 array
        Background at the candidates, in the image's unit.
    noise : float
        Of the background, in the image's unit.
    candidates : (m,) int64 array
        Flat indices of CR pixels away from sources.

    Returns
    -------
    float
        Error of a good pixel per `charge_beside` it.
    """
    step = max(candidates.size // _MOST, 1)
    rims, owners = rims_of(cr_mask, excluded, candidates[::step])
    parts = _parts(image, cr_mask, excluded, levels[::step][owners], noise, rims)
    if parts.size < LEAST_RIMS:
        return TYPICAL_RIM
    return TAIL * float(np.quantile(parts, _QUANTILE))


@njit
def rims_of(
    cr_mask: NDArray[np.bool_], excluded: NDArray[np.bool_], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the good pixels beside CR pixels, each once, and beside which of those chosen.

    Flat indices, and indices of `chosen`; a pixel belongs to the first one that it touches.
    """
    ny, nx = cr_mask.shape
    rims = np.empty(8 * chosen.size, dtype=np.int64)
    owners = np.empty(8 * chosen.size, dtype=np.int64)
    count = 0
    for k in range(chosen.size):
        row, column = chosen[k] // nx, chosen[k] % nx
        for y in range(max(row - 1, 0), min(row + 2, ny)):
            for x in range(max(column - 1, 0), min(column + 2, nx)):
                if cr_mask[y, x] or excluded[y, x]:
                    continue
                if first_beside(cr_mask, y, x) == chosen[k]:
                    rims[count], owners[count] = y * nx + x, k
                    count += 1
    return rims[:count], owners[:count]


@njit
def charge_beside(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    y: int,
    x: int,
    level: float,
    noise: float,
) -> float:
    """Return the charge of the CR pixels that touch a pixel, corners half [noise]."""
    ny, nx = image.shape
    charge = 0.0
    for v in range(max(y - 1, 0), min(y + 2, ny)):
        for u in range(max(x - 1, 0), min(x + 2, nx)):
            if cr_mask[v, u] and not excluded[v, u]:
                value = (image[v, u] - level) / noise
                if math.isnan(value):
                    value = UNKNOWN_CHARGE
                charge += max(value, 0.0) * (1.0 if v == y or u == x else 0.5)
    return charge


@njit
def _parts(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    levels: NDArray[np.float32],
    noise: float,
    rims: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return which part of the charge beside them rim pixels hold, of those that tell.

    It is the error per charge that makes a pixel's value three times its error, 0 where noise
    alone does.  The value is that above what goes on beyond the rim, as stars' light does.
    """
    nx = image.shape[1]
    parts = np.empty(rims.size, dtype=np.float32)
    count = 0
    for k in range(rims.size):
        y, x = rims[k] // nx, rims[k] % nx
        base = _clear_beside(image, cr_mask, excluded, y, x)
        if math.isnan(base):
            continue
        charge = charge_beside(image, cr_mask, excluded, y, x, levels[k], noise)
        if charge > LEAST_CHARGE:
            value = max(image[y, x] - max(base, levels[k]), 0.0) / noise / _NOISE
            parts[count] = math.sqrt(max(value * value - 1.0, 0.0)) / charge
            count += 1
    return parts[:count]


@njit
def _clear_beside(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    y: int,
    x: int,
) -> float:
    """Return the mean of the good neighbours that touch no CR pixel; NaN without any."""
    ny, nx = image.shape
    total, count = 0.0, 0
    for v in range(max(y - 1, 0), min(y + 2, ny)):
        for u in range(max(x - 1, 0), min(x + 2, nx)):
            if not excluded[v, u] and first_beside(cr_mask, v, u) < 0:
                total += image[v, u]
                count += 1
    return total / count if count else math.nan


@njit
def first_beside(cr_mask: NDArray[np.bool_], y: int, x: int) -> int:
    """Return the flat index of the first CR pixel that touches a pixel: each counts once."""
    ny, nx = cr_mask.shape
    for v in range(max(y - 1, 0), min(y + 2, ny)):
        for u in range(max(x - 1, 0), min(x + 2, nx)):
            if cr_mask[v, u]:
                return int(v * nx + u)
    return -1
