"""Compiled loops that several steps share; modules of one step hold the others.

Each kernel is a plain loop into arrays that the caller allocated.  They are compiled at
the first call (about a second each; `_compiled` keeps them), hold no lock while they run, and
treat NaN and infinity as IEEE does (no fastmath).  The arrays should be C-contiguous float32
and bool; other layouts work and cost one more compilation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._compiled import njit

FILL_HALF_WIDTH = 2
"""Half width of the window that stands in for an invalid pixel (5×5)."""

MAX_HALF_WIDTH = 5
"""Half width of the largest window of the adaptive median (11×11; paper, section 3.2)."""

MIN_GOOD = 5
"""Good pixels below which the adaptive median's window grows: more than half of the
eight neighbours in its smallest window."""

SKY_GOOD = 16
"""The same for what stays filled by a median, which is sky: most of the 24 neighbours in 5×5,
more than 3×3 can hold.  It halves the error (training/crmend_training/LOG.md)."""

FILL_SOFTENING = 10.0
"""Signal [background noise] above which the smooth fill works in the logarithm."""

HARMONIC_SWEEPS = 20
"""Harmonic sweeps of the smooth fill."""

BIHARMONIC_SWEEPS = 60
"""Biharmonic sweeps of the smooth fill: groups up to about 5 px wide converge."""

OVER_RELAXATION = 1.4
"""Over-relaxation of the biharmonic sweeps (1 = none, below 2 converges)."""

FILL_MARGIN = 1.5
"""How far the smooth fill may leave the range of the other pixels, in its asinh units: a
factor of 4.5 for bright ones."""

# Median absolute deviation to sigma of a Gaussian.
_MAD_TO_SIGMA = np.float32(1.482602)
# Small-sample correction of the MAD for n = 0 … 9 values (Croux & Rousseeuw 1992,
# "Time-efficient algorithms for two highly robust estimators of scale"); n / (n - 0.8) above.
_MAD_CORRECTION = np.array(
    [np.nan, np.nan, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107], dtype=np.float32
)


@njit
def _sort(values: NDArray[np.float32], count: int) -> None:
    """Sort values[:count] in place by insertion: the windows hold at most 121 values."""
    for i in range(1, count):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value


@njit
def median(values: NDArray[np.float32], count: int) -> np.float32:
    """Return the median of values[:count], count > 0; sorts them in place."""
    _sort(values, count)
    middle = count // 2
    if count % 2 == 1:
        return np.float32(values[middle])
    # Halved first: the sum of two large values would overflow.
    return np.float32(0.5 * values[middle - 1] + 0.5 * values[middle])


@njit
def robust_sigma(values: NDArray[np.float32], count: int, centre: np.float32) -> np.float32:
    """Return the MAD of values[:count] as a Gaussian sigma; NaN for fewer than two."""
    if count < 2:
        return np.float32(np.nan)
    for i in range(count):
        values[i] = abs(values[i] - centre)
    correction = np.float32(count / (count - 0.8))
    if count < 10:
        correction = _MAD_CORRECTION[count]
    return _MAD_TO_SIGMA * correction * median(values, count)


@njit
def fill_invalid(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    fill_value: float,
    out: NDArray[np.float32],
) -> None:
    """Replace invalid pixels by the median of the valid ones around them.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any unit.
    invalid : (ny, nx) bool array
        True = replace this pixel, and use it for no other.
    fill_value : float
        For pixels without a single valid, finite pixel in their 5×5 window.
    out : (ny, nx) float32 array
        Written everywhere: valid pixels bit for bit, NaN included.  It may be `image`.
    """
    ny, nx = image.shape
    values = np.empty((2 * FILL_HALF_WIDTH + 1) ** 2, dtype=np.float32)
    for y in range(ny):
        for x in range(nx):
            if not invalid[y, x]:
                out[y, x] = image[y, x]
                continue
            count = 0
            for v in range(max(y - FILL_HALF_WIDTH, 0), min(y + FILL_HALF_WIDTH + 1, ny)):
                for u in range(max(x - FILL_HALF_WIDTH, 0), min(x + FILL_HALF_WIDTH + 1, nx)):
                    if not invalid[v, u] and np.isfinite(image[v, u]):
                        values[count] = image[v, u]
                        count += 1
            if count > 0:
                out[y, x] = median(values, count)
            else:
                out[y, x] = fill_value


@njit
def _gather(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    y: int,
    x: int,
    half: int,
    values: NDArray[np.float32],
) -> int:
    """Copy the good pixels of a window, cut at the frame's edges; return how many."""
    ny, nx = image.shape
    count = 0
    for v in range(max(y - half, 0), min(y + half + 1, ny)):
        for u in range(max(x - half, 0), min(x + half + 1, nx)):
            if not cr_mask[v, u] and not invalid[v, u] and np.isfinite(image[v, u]):
                values[count] = image[v, u]
                count += 1
    return count


@njit
def adaptive_median(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    min_good: int,
    fill_value: float,
    out: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> None:
    """Replace cosmic-ray pixels by the median of the good pixels around them.

    The window starts at 3×3 and grows to 5, 7, 9 and 11 only while it holds fewer than
    `min_good` good pixels (paper, section 3.2).  A good pixel is no CR pixel, not
    invalid, and finite.  If 11×11 still holds too few, those few are used.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any unit.
    cr_mask : (ny, nx) bool array
        True = cosmic ray: replace this pixel, and use it for no other.
    invalid : (ny, nx) bool array
        True = use this pixel for no other.
    min_good : int
        See above; `MIN_GOOD` is the choice of this package.
    fill_value : float
        For CR pixels without a single good pixel in 11×11.
    out : (ny, nx) float32 array
        Written at CR pixels only.  It may be `image`.
    spread : float32 array of n_cr or more elements
        Its first n_cr elements are written, one per CR pixel, in the order of
        ``np.flatnonzero(cr_mask)``: the robust standard deviation (MAD, corrected for the
        sample's size) of the good pixels that the median is of; NaN where there were
        fewer than two.
    """
    ny, nx = image.shape
    values = np.empty((2 * MAX_HALF_WIDTH + 1) ** 2, dtype=np.float32)
    spreads = spread.reshape(-1)
    index = 0
    for y in range(ny):
        for x in range(nx):
            if not cr_mask[y, x]:
                continue
            count = 0
            for half in range(1, MAX_HALF_WIDTH + 1):
                count = _gather(image, cr_mask, invalid, y, x, half, values)
                if count >= min_good:
                    break
            if count > 0:
                middle = median(values, count)
                out[y, x] = middle
                spreads[index] = robust_sigma(values, count, middle)
            else:
                out[y, x] = fill_value
                spreads[index] = np.nan
            index += 1


@njit
def _harmonic_sweep(
    field: NDArray[np.float64], ys: NDArray[np.int64], xs: NDArray[np.int64]
) -> None:
    """Set each pixel listed to the mean of its four neighbours, in place, in order."""
    ny, nx = field.shape
    for i in range(ys.size):
        y, x = ys[i], xs[i]
        above, below = max(y - 1, 0), min(y + 1, ny - 1)
        left, right = max(x - 1, 0), min(x + 1, nx - 1)
        field[y, x] = 0.25 * (
            field[above, x] + field[below, x] + field[y, left] + field[y, right]
        )


@njit
def _biharmonic_sweep(
    field: NDArray[np.float64],
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
    least: float,
    most: float,
) -> None:
    """Move each pixel listed towards the biharmonic equation, in place, in order.

    Pixels within two of the edge stay; none leaves least … most.
    """
    ny, nx = field.shape
    for i in range(ys.size):
        y, x = ys[i], xs[i]
        if y < 2 or x < 2 or y >= ny - 2 or x >= nx - 2:
            continue
        near = field[y - 1, x] + field[y + 1, x] + field[y, x - 1] + field[y, x + 1]
        diagonal = (
            field[y - 1, x - 1] + field[y - 1, x + 1]
            + field[y + 1, x - 1] + field[y + 1, x + 1]
        )  # fmt: skip
        far = field[y - 2, x] + field[y + 2, x] + field[y, x - 2] + field[y, x + 2]
        solved = (8.0 * near - 2.0 * diagonal - far) / 20.0
        value = field[y, x] + OVER_RELAXATION * (solved - field[y, x])
        field[y, x] = min(max(value, least), most)


@njit
def smooth_fill(stamps: NDArray[np.float32], cr_mask: NDArray[np.bool_]) -> None:
    """Fill cosmic-ray pixels smoothly from their surroundings, in place.

    In units of asinh(value / `FILL_SOFTENING`), where the wings of a star are nearly
    straight, the filled pixels solve the biharmonic equation (as
    ``skimage.restoration.inpaint_biharmonic`` does on the linear image): on galaxies that
    is almost unbiased, and on a star's core far nearer than a median.  Harmonic
    Gauss-Seidel sweeps come first, then over-relaxed biharmonic ones; a fixed number of
    each, so that large groups stop between the two.  Within two pixels of the stamp's edge
    the fill stays harmonic.

    Parameters
    ----------
    stamps : (n, ny, nx) float32 array
        In units of the background noise, background removed; finite.  CR pixels hold a
        first guess, and are the only ones written.
    cr_mask : (n, ny, nx) bool array
        True = cosmic ray.
    """
    count, ny, nx = stamps.shape
    field = np.empty((ny, nx), dtype=np.float64)
    for k in range(count):
        ys, xs = np.nonzero(cr_mask[k])
        if ys.size == 0:
            continue
        low, high = np.inf, -np.inf
        for y in range(ny):
            for x in range(nx):
                field[y, x] = np.arcsinh(stamps[k, y, x] / FILL_SOFTENING)
                if not cr_mask[k, y, x]:
                    low, high = min(low, field[y, x]), max(high, field[y, x])
        if low > high:
            continue
        for _ in range(HARMONIC_SWEEPS):
            _harmonic_sweep(field, ys, xs)
        for _ in range(BIHARMONIC_SWEEPS):
            _biharmonic_sweep(field, ys, xs, low - FILL_MARGIN, high + FILL_MARGIN)
        for i in range(ys.size):
            stamps[k, ys[i], xs[i]] = FILL_SOFTENING * np.sinh(field[ys[i], xs[i]])


@njit
def assign_nearest(
    row_starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    centre_x: NDArray[np.int64],
    centre_y: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    limit: NDArray[np.float64],
    half: int,
    owner: NDArray[np.int32],
    distance: NDArray[np.float32],
) -> None:
    """Give each cosmic-ray pixel to the nearest source whose cutout holds it.

    Parameters
    ----------
    row_starts : (ny + 1,) int64 array
        Position in `columns` of the first CR pixel of each row, and their number.
    columns : (n_cr,) int32 array
        Column of each CR pixel, rising within a row.
    centre_x, centre_y : (n,) int64 arrays
        Pixel that the cutout is centred on: it spans centre − half … centre + half − 1.
    x, y : (n,) float64 arrays
        Centroids, from which the distance is measured [px].
    limit : (n,) float64 array
        Largest distance at which a source may own a pixel [px].
    half : int
        Half the side of a cutout [px].
    owner : (n_cr,) int32 array
        Written: index of the source; untouched where there is none.
    distance : (n_cr,) float32 array
        Squared distance to the owner [px²]; infinite on entry.
    """
    ny = row_starts.size - 1
    for source in range(x.size):
        low = centre_x[source] - half
        for row in range(max(centre_y[source] - half, 0), min(centre_y[source] + half, ny)):
            first, end = row_starts[row], row_starts[row + 1]
            # Bisection by hand: np.searchsorted takes half a second to compile.
            last = end
            while first < last:
                middle = (first + last) // 2
                if columns[middle] < low:
                    first = middle + 1
                else:
                    last = middle
            for pixel in range(first, end):
                if columns[pixel] >= low + 2 * half:
                    break
                square = np.float32((columns[pixel] - x[source]) ** 2 + (row - y[source]) ** 2)
                if square < distance[pixel] and square <= limit[source] ** 2:
                    distance[pixel] = square
                    owner[pixel] = source
