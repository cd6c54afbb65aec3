"""Cosmic-ray pixels of the sky: weighted means of what is around them.

The adaptive median of sixteen neighbours takes in pixels that touch a cosmic ray, whose faint
rim no mask holds, and has more noise than the sky asks for.  Where there is nothing but sky, a
wide mean of pixels that touch no cosmic ray is nearer to the truth; where there is a faint
source that no list has, a narrow one of all good pixels keeps its light.  Anything brighter
keeps the median.  Means are of what lies above the background, so that its slope is no error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from crmend._background import measure_background
from crmend._compiled import njit
from crmend._kernels import MAX_HALF_WIDTH, SKY_GOOD, median, robust_sigma
from crmend._normalise import Scale

WIDE, NARROW = 2.5, 1.0
"""Standard deviations of the Gaussian weights of both means [px]."""

MATCHED = 2.0
"""Of the weights that look for a faint source [px]."""

LEAST_SNR = 2.0
"""From here on there is one."""

LEAST_DARK = 3.0
"""From here on below the background it is a dark lane of a nebula, say, and as narrow: so rare
by chance that the sky's means stay unbiased."""

CLIPPED = (-3.0, 3.0)
"""Values of the wide mean are cut to this, around the background [noise]."""

CLIPPED_SOURCE = (-5.0, 8.0)
"""The same for the narrow mean and for the search."""

MOST = 5.0
"""Pixels whose median is farther from the background than this are no sky [noise]."""

STRUCTURE_ABOVE = 2.0
"""Spread of the sixteen or more neighbours of a median that noise alone explains, in units of
the noise: measured on simulated sky (training/crmend_training/LOG.md)."""

LEAST_LIGHT = 1.0
"""A narrow mean farther than this from the background shows light that varies from pixel to
pixel [noise]; one pixel of empty sky in some hundreds has it by chance."""

LIGHT_VARIES = 0.65
"""Spread that such light adds, per unit of what it is beyond that, in quadrature: where cosmic
rays hit the outskirts of sources, means of 1 to 4 noises miss by 1.3 to 4 times the error that
the sky has (LOG.md, round 36)."""

_HALF = 6  # half width of the window [px]
_ROWS = 512
_UNUSABLE, _RIM, _GOOD = 0, 1, 2


def fill_sky(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    spread: NDArray[np.float32],
    threads: int = 1,
) -> None:
    """Replace the medians of CR pixels by means of the sky, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
        CR pixels hold the adaptive median; those that are not sky keep it.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    invalid : (ny, nx) bool array
        True = no measurement.
    excluded : (ny, nx) bool array
        True = invalid or saturated: used for no other pixel.
    scale : Scale
        Background and noise of the image.
    spread : (n_cr,) float32 array
        Of the pixels that the medians are of, as `crmend._kernels.adaptive_median` writes it;
        where a median is replaced and noise does not explain it, that of what these hold above
        the background, or what their light lets expect, if that is more.
    threads : int
        Bands of rows that are filled at the same time.
    """
    ny, nx = image.shape
    smooth = measure_background(image, invalid)
    weights = np.exp(
        -0.5 * (np.arange(_HALF + 1)[:, np.newaxis] / np.array([WIDE, NARROW, MATCHED])) ** 2
    )

    def fill(start: int) -> None:
        low, high = max(start - _HALF, 0), min(start + _ROWS + _HALF, ny)
        kinds = np.empty((high - low, nx), dtype=np.uint8)
        _sort_pixels(image, cr_mask, excluded, low, kinds)
        background = smooth.rows(low, high, nx)
        stop = min(start + _ROWS, ny)
        first = np.count_nonzero(cr_mask[:start])
        _mean_around(
            image, cr_mask, background, scale.noise, kinds, low, start, stop, weights,
            spread[first:],
        )  # fmt: skip

    # A band reads good pixels and writes others, so the order does not matter.
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(fill, range(0, ny, _ROWS)))


@njit
def _sort_pixels(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    low: int,
    kinds: NDArray[np.uint8],
) -> None:
    """Say of the pixels of some rows, the first being `low`, what they are good for."""
    ny, nx = image.shape
    for j in range(kinds.shape[0]):
        y = low + j
        for x in range(nx):
            if cr_mask[y, x] or excluded[y, x] or not np.isfinite(image[y, x]):
                kinds[j, x] = _UNUSABLE
                continue
            kind = _GOOD
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if cr_mask[v, u]:
                        kind = _RIM
            kinds[j, x] = kind


@njit
def _mean_around(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    background: NDArray[np.float32],
    noise: float,
    kinds: NDArray[np.uint8],
    low: int,
    start: int,
    stop: int,
    weights: NDArray[np.float64],
    spread: NDArray[np.float32],
) -> None:
    """Write the means of the rows `start` to `stop`, and the spread around them.

    `background` and `kinds` begin with the row `low`, `spread` with the first CR pixel.
    """
    ny, nx = image.shape
    values = np.empty((2 * MAX_HALF_WIDTH + 1) ** 2, dtype=np.float32)
    index = -1
    for y in range(start, stop):
        for x in range(nx):
            if not cr_mask[y, x]:
                continue
            index += 1
            level = background[y - low, x]
            if not abs(image[y, x] - level) <= MOST * noise:
                continue
            wide = wide_weight = narrow = narrow_weight = matched = squares = 0.0
            for v in range(max(y - _HALF, 0), min(y + _HALF + 1, ny)):
                for u in range(max(x - _HALF, 0), min(x + _HALF + 1, nx)):
                    kind = kinds[v - low, u]
                    if kind == _UNUSABLE:
                        continue
                    dy, dx = abs(v - y), abs(u - x)
                    value = (image[v, u] - background[v - low, u]) / noise
                    kept = min(max(value, CLIPPED_SOURCE[0]), CLIPPED_SOURCE[1])
                    weight = weights[dy, 1] * weights[dx, 1]
                    narrow += weight * kept
                    narrow_weight += weight
                    if kind == _GOOD:
                        weight = weights[dy, 2] * weights[dx, 2]
                        matched += weight * kept
                        squares += weight * weight
                        weight = weights[dy, 0] * weights[dx, 0]
                        wide += weight * min(max(value, CLIPPED[0]), CLIPPED[1])
                        wide_weight += weight
            # With hardly anything near, the median of what is farther away stays.
            sigma = np.sqrt(squares)
            if matched > LEAST_SNR * sigma or matched < -LEAST_DARK * sigma:
                if narrow_weight <= 0.1:
                    continue
                image[y, x] = level + noise * narrow / narrow_weight
            elif wide_weight > 0.1:
                image[y, x] = level + noise * wide / wide_weight
            else:
                continue
            if spread[index] > STRUCTURE_ABOVE * noise:
                spread[index] = _spread_around(image, background, kinds, low, y, x, values)
            light = narrow / narrow_weight if narrow_weight > 0.1 else 0.0
            if abs(light) > LEAST_LIGHT:
                beyond = LIGHT_VARIES * np.sqrt(light * light - LEAST_LIGHT * LEAST_LIGHT)
                expected = noise * np.hypot(STRUCTURE_ABOVE, beyond)
                spread[index] = np.fmax(spread[index], np.float32(expected))


@njit
def _spread_around(
    image: NDArray[np.float32],
    background: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    low: int,
    y: int,
    x: int,
    values: NDArray[np.float32],
) -> np.float32:
    """Return the spread above the background of the pixels that a median of the sky is of."""
    ny, nx = image.shape
    count = 0
    for half in range(1, MAX_HALF_WIDTH + 1):
        count = 0
        for v in range(max(y - half, 0), min(y + half + 1, ny)):
            for u in range(max(x - half, 0), min(x + half + 1, nx)):
                if kinds[v - low, u] != _UNUSABLE:
                    values[count] = image[v, u] - background[v - low, u]
                    count += 1
        if count >= SKY_GOOD:
            break
    if count < 2:
        return np.float32(np.nan)
    return robust_sigma(values, count, median(values, count))
