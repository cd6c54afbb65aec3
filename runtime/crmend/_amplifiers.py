"""Amplifiers and tiles of a higher level than the rest of an image, lowered to it.

What lies above the background is light, unless it begins within one pixel, all along a row or
a column, and goes on flat: no optics make such an edge.  Networks see an image above one level,
and find little high above it.  Parts of a lower level are those of `crmend._lows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crmend._normalise import MAD_TO_SIGMA, measure_scale, median_of_known

_STEP = 4.0
"""A higher level begins so far above the background, and an edge with such a step [noise]."""

_SHARP, _FLAT = 0.85, 0.2
"""Of the step such a share lies between two pixels, and all lines but one on either side lie
within such a share of it of their level.  What optics blur has less than 0.7 there (a PSF with
a FWHM of 1.5 px)."""

_LEFT = 0.5
"""Such a share of its height a part's median is off the background once it is lowered, at
most: else it is the edge of something narrow, such as a spectrum's line through a wide slit."""

_CLEAR = 6.0
"""So much is an edge's step, at least [usual step from one line to the next, 1 sigma]."""

_SIDE = 16
"""Pixels on either side that tell the step."""

_BANDS, _LEAST_ROWS, _MOST_ROWS = 8, 16, 32
"""Rows are looked at in so many bands, of at least so many rows each, of which at most so many
are used: their median is known to a quarter of the noise."""

_SHARE = 0.25
"""Such a share of the bands shows an edge at one place; where four amplifiers read a frame,
half of them do."""

_MOST_EDGES = 32  # a frame with more is left as it is


@dataclass(frozen=True, eq=False)
class Parts:
    """Rectangles of an image, and how far each lies above the background.

    Attributes
    ----------
    rows, columns : (m,) and (n,) intp arrays
        Where they begin, and behind the last one where the image ends [px].
    heights : (m - 1, n - 1) float64 array
        In the image's unit; 0 = not above, or not for sure.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    heights: NDArray[np.float64]

    def lowered(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image with all parts at one level: itself where none is higher."""
        if not self.heights.any():
            return image
        lowered = image.copy()
        for (i, j), height in np.ndenumerate(self.heights):
            window = np.s_[
                self.rows[i] : self.rows[i + 1], self.columns[j] : self.columns[j + 1]
            ]
            lowered[window] -= np.float32(height)
        return lowered

    def put_back(
        self,
        lowered: NDArray[np.float32],
        image: NDArray[np.float32],
        cr_mask: NDArray[np.bool_],
    ) -> None:
        """Write the cosmic-ray pixels of a lowered image to the image, each at its level."""
        if lowered is image:
            return
        y, x = np.nonzero(cr_mask)
        i, j = (
            np.searchsorted(starts, place, side="right") - 1
            for starts, place in ((self.rows, y), (self.columns, x))
        )
        image[y, x] = lowered[y, x] + self.heights[i, j].astype(np.float32)


def find_parts(image: NDArray[np.float32], unusable: NDArray[np.bool_]) -> Parts:
    """Find the rectangles of a higher level than the background.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    unusable : (ny, nx) bool array
        True = leave the pixel out.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of pixels of ±3e38
        rows, columns = (
            _edges(image.swapaxes(0, axis), unusable.swapaxes(0, axis)) for axis in (1, 0)
        )
    heights = np.zeros((len(rows) - 1, len(columns) - 1))
    if 4 < len(rows) + len(columns) <= _MOST_EDGES + 4:
        heights = _heights(image, unusable, rows, columns)
    return Parts(rows, columns, heights)


def _edges(image: NDArray[np.float32], unusable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the columns at which parts of an image begin, the first one's 0, and its width."""
    ny, nx = image.shape
    bands = min(_BANDS, ny // _LEAST_ROWS)
    votes = np.zeros(nx + 1)
    for low, high in pairwise(np.linspace(0, ny, bands + 1).astype(int)):
        rows = slice(low, high, -(-(high - low) // _MOST_ROWS))
        values = image[rows].astype(np.float32)
        values[unusable[rows]] = np.nan
        noise = MAD_TO_SIGMA * _median_of(np.abs(np.diff(values[::4], axis=1))) / np.sqrt(2.0)
        profile, count = median_of_known(values, axis=0)
        profile[2 * count < len(values)] = np.nan
        votes[_sharp_steps(profile, _STEP * noise)] += 1
    votes[[0, nx]] = bands + 1
    return np.flatnonzero(votes >= max(_SHARE * bands, 1))


def _sharp_steps(profile: NDArray[np.float32], least: float) -> NDArray[np.intp]:
    """Return where another level begins from one value to the next, NaN = not known.

    Steps are larger than `least`, and than most from one value to the next.
    """
    if profile.size < 2 * _SIDE:
        return np.empty(0, dtype=np.intp)
    windows = sliding_window_view(profile, _SIDE)
    level = np.median(windows, axis=1)
    spread = np.sort(np.abs(windows - level[:, np.newaxis]), axis=1)[:, -2]
    jumps = np.diff(profile)
    least = max(least, _CLEAR * MAD_TO_SIGMA * _median_of(np.abs(jumps)))
    step = level[_SIDE:] - level[:-_SIDE]
    height = np.abs(step)
    sharp = np.abs(jumps[_SIDE - 1 : 1 - _SIDE] - step) <= (1.0 - _SHARP) * height
    flat = np.maximum(spread[_SIDE:], spread[:-_SIDE]) <= _FLAT * height
    return np.flatnonzero(sharp & flat & (height > least)) + _SIDE


def _heights(
    image: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return how far each rectangle lies above the background; 0 = not above, or not clear."""
    scale = measure_scale(image, unusable)
    right = _steps(image, unusable, rows, columns)
    down = _steps(image.T, unusable.T, columns, rows).T
    # From the first rectangle to each, along rows or along columns first.
    heights = right + down[:, :1]
    if np.ptp(heights - down - right[:1]) > _STEP * scale.noise:
        return np.zeros_like(heights)
    levels = [
        [
            _median(image, unusable, np.s_[top:bottom:4, low:high:4])
            for low, high in pairwise(columns)
        ]
        for top, bottom in pairwise(rows)
    ]
    above, least = np.array(levels) - scale.background, _STEP * scale.noise
    # The background may lie between two parts, if both are as large.
    not_high = np.where(above < least, above, -np.inf)
    chosen = np.argmax(not_high) if not_high.max() > -np.inf else np.nanargmin(above)
    heights -= heights.flat[chosen]
    heights[heights < least] = 0.0
    left = np.abs(above - above.flat[chosen] - heights)
    if (left > _LEFT * heights)[heights > 0.0].any():
        return np.zeros_like(heights)
    return heights


def _steps(
    image: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return, for each rectangle, the sum of the steps from the first one of its row to it."""
    steps = np.zeros((len(rows) - 1, len(columns) - 1))
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, edge in enumerate(columns[1:-1], start=1):
            before, after = (
                _median(image, unusable, np.s_[top:bottom, low : low + _SIDE // 2])
                for low in (edge - _SIDE // 2, edge)
            )
            steps[i, j] = np.nan_to_num(after - before)
    return np.cumsum(steps, axis=1)


def _median(
    image: NDArray[np.float32], unusable: NDArray[np.bool_], window: tuple[slice, slice]
) -> float:
    """Return the median of the usable pixels of a window, or NaN."""
    return _median_of(image[window][~unusable[window]])


def _median_of(values: NDArray[np.float32]) -> float:
    """Return the median of what is finite, or NaN."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan
