"""Rims: charge of cosmic rays that the mask of a network leaves beside itself.

In silicon charge spreads, and in which way differs from one detector to the next.  A network
that was trained on another's cosmic rays leaves pixels of three noises and more beside its
mask: of real cosmic rays on simulated CSST frames one in ten (LOG.md, round 37).  Whether an
image's masks do so is counted on the image itself: as often as pixels beside them stand out of
what is around, more often than beside the same masks put elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit
from crmend._normalise import Scale
from crmend._rims import charge_beside, first_beside, rims_of

STANDS_OUT = 3.0
"""What a rim pixel has above the mean of the good pixels around it, of their scatter."""

MOST_OF_CHARGE = 0.5
"""Of the charge beside it a rim pixel holds less than this part."""

MOST_BEYOND = (2.0, 0.25)
"""The brightest good pixel that touches a rim pixel, above the mean of those around: less than
so many noises and this part of the rim pixel's.  A star goes on there."""

MOST_ALONG = (math.inf, 1.0)
"""The mean of the other rim pixels within `_HALF`, above that of the good ones there, is less
[noise]: the second where `MOST_CHANCE` asks for it, since stars light several."""

MOST_OF_RIM = 0.3
"""Of the rim pixels within `_WIDE` of one, fewer than this part stand out: light on all sides
of a mask is a star's below it."""

SURE = 4.0
"""What counts where it is asked whether masks leave rims: noise alone hardly reaches it."""

LEAST_SHARE = 0.002
"""Of the rim pixels that are judged, at least so many are sure where masks leave rims (of
`crmend_training.simulate` up to 0.0014, of real cosmic rays on CSST's kind 0.012 to 0.039)."""

MOST_CHANCE = 0.05
"""And beside the same masks put elsewhere no more than this part of that: in fields full of
stars their wings beside a mask look like rims, and are all that is left of them."""

LEAST_SURE = 30
"""And at least so many rim pixels are: fewer may be beside one thing that is no cosmic ray."""

_ELSEWHERE = ((8, 3), (-3, 8), (-8, -3), (3, -8))  # y, x [px]
_SAMPLE = 50_000  # CR pixels whose rims tell whether masks leave any
_HALF, _WIDE = 2, 4  # half widths of what is around: good pixels, and the rim [px]
_LEAST_AROUND = 4  # good pixels there


def grow_rims(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
) -> int:
    """Add to the cr_mask, in place, the pixels beside it that hold charge; return how many.

    Nothing is added where the image's masks leave no more than chance explains.

    Parameters
    ----------
    image : (ny, nx) float32 array
        CR pixels hold what was observed; NaN only where `excluded`.
    cr_mask, excluded : (ny, nx) bool arrays
        True = cosmic ray; True = invalid or saturated: never becomes one.
    scale : Scale
        Background and noise of the image.
    """
    flat = np.flatnonzero(cr_mask)
    if flat.size == 0:
        return 0
    level, noise = float(scale.background), float(scale.noise)
    planes = image, cr_mask, excluded
    sample, _ = rims_of(cr_mask, excluded, flat[:: max(flat.size // _SAMPLE, 1)])
    for along in MOST_ALONG:
        units = level, noise, along
        sure, judged = _count_sure(*planes, sample, (0, 0), *units)
        elsewhere = [_count_sure(*planes, sample, step, *units) for step in _ELSEWHERE]
        chance, tried = np.sum(elsewhere, axis=0)
        share = sure / max(judged, 1)
        if sure < LEAST_SURE or share < LEAST_SHARE:
            return 0
        if chance <= MOST_CHANCE * share * tried:
            rims = np.sort(rims_of(cr_mask, excluded, flat)[0])
            found = _excess(*planes, rims, 0, 0, *units) > STANDS_OUT
            grown = rims[_few_around(rims, found, image.shape[1])]
            cr_mask.flat[grown] = True
            return int(grown.size)
    return 0


def _count_sure(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    rims: NDArray[np.int64],
    step: tuple[int, int],
    level: float,
    noise: float,
    along: float,
) -> tuple[int, int]:
    """Return how many rim pixels stand out surely, and how many can be judged."""
    excess = _excess(image, cr_mask, excluded, rims, *step, level, noise, along)
    return int(np.count_nonzero(excess > SURE)), int(np.count_nonzero(~np.isnan(excess)))


@njit
def _excess(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    rims: NDArray[np.int64],
    dy: int,
    dx: int,
    level: float,
    noise: float,
    most_along: float,
) -> NDArray[np.float32]:
    """Return what rim pixels have above the good pixels around, of their scatter.

    0 for what is no rim of a cosmic ray, NaN for what cannot be judged.  With a step (dy, dx)
    the pixels so far from them are judged, as if the masks lay there.
    """
    ny, nx = image.shape
    excess = np.full(rims.size, np.nan, dtype=np.float32)
    moved = dy != 0 or dx != 0
    for k in range(rims.size):
        row, column = rims[k] // nx, rims[k] % nx
        y, x = row + dy, column + dx
        if not (0 <= y < ny and 0 <= x < nx) or excluded[y, x]:
            continue
        if moved and first_beside(cr_mask, y, x) >= 0:
            continue
        total, squares, count, beyond = 0.0, 0.0, 0, -math.inf
        others, along = 0.0, 0
        for v in range(max(y - _HALF, 0), min(y + _HALF + 1, ny)):
            for u in range(max(x - _HALF, 0), min(x + _HALF + 1, nx)):
                if excluded[v, u] or cr_mask[v, u]:
                    continue
                beside = first_beside(cr_mask, v, u) >= 0
                if moved and 0 <= v - dy < ny and 0 <= u - dx < nx:
                    if cr_mask[v - dy, u - dx]:
                        continue
                    beside = beside or first_beside(cr_mask, v - dy, u - dx) >= 0
                value = (image[v, u] - level) / noise
                if beside:
                    if v != y or u != x:
                        others += value
                        along += 1
                    continue
                total += value
                squares += value * value
                count += 1
                if abs(v - y) <= 1 and abs(u - x) <= 1:
                    beyond = max(beyond, value)
        if count < _LEAST_AROUND:
            continue
        mean = total / count
        scatter = math.sqrt(max(squares / count - mean * mean, 1.0))
        own = (image[y, x] - level) / noise
        charge = charge_beside(image, cr_mask, excluded, row, column, level, noise)
        star = beyond - mean >= MOST_BEYOND[0] + MOST_BEYOND[1] * (own - mean)
        star = star or others - along * mean > most_along * along
        if star or own >= MOST_OF_CHARGE * charge:
            excess[k] = 0.0
        else:
            excess[k] = (own - mean) / scatter
    return excess


@njit
def _few_around(
    rims: NDArray[np.int64], found: NDArray[np.bool_], nx: int
) -> NDArray[np.bool_]:
    """Return which of those found have few others around them; the rims are sorted."""
    kept = np.zeros(rims.size, dtype=np.bool_)
    for k in range(rims.size):
        if not found[k]:
            continue
        column = rims[k] % nx
        first, last = max(column - _WIDE, 0), min(column + _WIDE, nx - 1)
        near = others = 0
        for row in range(rims[k] // nx - _WIDE, rims[k] // nx + _WIDE + 1):
            i = np.searchsorted(rims, row * nx + first)
            while i < rims.size and rims[i] <= row * nx + last:
                near += 1
                others += found[i]
                i += 1
        kept[k] = others < MOST_OF_RIM * near
    return kept
