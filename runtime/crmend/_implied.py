"""What nobody said of pixels: areas filled with one value are invalid, flat tops saturated.

Noise makes no area of one value, so such a one holds no measurement: gaps of a mosaic, what
lies beyond a turned frame.  But where a star saturates it has a flat top, which is light.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from crmend._background import measure_background
from crmend._fits_keywords import first_positive
from crmend._normalise import measure_scale
from crmend._saturated import saturated_by_rays
from crmend.errors import CrmendWarning
from crmend.exposure import Exposure
from crmend.flags import has_flag

_ALIKE, _RUN = 5, 8
"""Side of the squares of one value that an area consists of, beyond which by as much its ragged
edge reaches; and pixels in a row that an area has somewhere [px]."""

_LEAST_PIXELS, _LEAST_REST = 100, 0.01
"""Of an area, and of the frame beside it (part): with less the frame is constant."""

_VALUES = 4  # that are looked at, the most common first

_COARSE, _FAR = 0.2, 10.0
"""Where more than such a share of the other pixels equals its neighbour (digits above 0.7 of
the noise, counted photons, what was clipped), sky has areas of one value, and only values so
far from it are none [noise]."""

_OFF, _MIXED = 1.5, 0.05
"""The pixels around an area are so far from its value [noise, median], or such a share of them
lies below and above it: else it is what they fade into, as without noise."""

_FLANK, _FLANKS = 0.3, 0.02
"""Around saturated stars more than such a share of pixels reaches such a part of the value."""

_PLATEAU = 5
"""Pixels of a square of 3 px at the maximum that saturation alone explains, and as many around
that reach such a part of it."""

_TRAIL = 10
"""Pixels of one row or column at the maximum that no track saturates: a star bleeds there."""

_HIGH, _MOST = 50.0, 0.1
"""So far above the background it lies [noise], and so much of the frame it is, at most."""

_BAND = 256  # rows at a time


@dataclass(frozen=True, eq=False)
class Usable:
    """Which pixels of a frame are none to use.

    Attributes
    ----------
    invalid : (ny, nx) bool array
        True = no measurement.
    excluded : (ny, nx) bool array
        The invalid and the saturated pixels; it may be the same array.
    saturation : float or None
        The level that was found on the image, in its unit; None = known, or there is none.
    """

    invalid: NDArray[np.bool_]
    excluded: NDArray[np.bool_]
    saturation: float | None = None


def judge_pixels(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    saturated: NDArray[np.bool_] | None,
    cr_mask: NDArray[np.bool_] | None = None,
    doubt: str = "",
) -> Usable:
    """Say which pixels are invalid or saturated, those that nobody named included.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    invalid : (ny, nx) bool array
        True = no measurement; holds every pixel that is not finite.  Pixels of filled areas
        are added in place.
    saturated : (ny, nx) bool array or None
        True = saturated; None = nobody knows, and a level is looked for.
    cr_mask : (ny, nx) bool array or None
        True = known to be a cosmic ray, which is never filled or saturated.
    doubt : str
        Why `saturated` tells nothing where it marks no valid pixel, for the message; a level is
        then looked for.  Empty = it is believed.

    Warns
    -----
    CrmendWarning
        Areas of one value were found, or a saturation level.
    """
    known = invalid.copy() if cr_mask is None else invalid | cr_mask
    for value in _repeated_values(image, known):
        _add_area(image, known, invalid, value)
    if saturated is not None and not (doubt and not np.any(saturated, where=~invalid)):
        return Usable(invalid, invalid | saturated)
    found = _saturated(image, known)
    if found is None:
        return Usable(invalid, invalid)
    full, level = found
    warnings.warn(
        f"{np.count_nonzero(full)} pixels are exactly {level:g}, the maximum of the image, "
        f"where stars have flat tops{doubt}: they count as saturated; if they are not, or "
        "others are, say which (saturated=, read_exposure(saturation=...), --saturation)",
        CrmendWarning,
        stacklevel=3,
    )
    full |= invalid
    return Usable(invalid, full, level)


def judge_exposure(exposure: Exposure) -> Usable:
    """Do so for an exposure, whose file may say which pixels are saturated.

    A flag plane without a saturated pixel tells nothing of saturation, nor does a level of the
    header that no pixel reaches: it may be in another unit.  One that the caller gave is
    believed.
    """
    level = exposure.saturation
    flagged = exposure.flag is not None and exposure.instrument.saturated_flags != 0
    if level is None and not flagged:
        return judge_pixels(exposure.image, exposure.invalid, None)
    doubts = []
    if flagged:
        doubts.append(", and the flag plane marks none as saturated")
    if level is not None:
        doubts.append(f", and none reaches the header's saturation level, {level:g}")
    believed = _flags_saturated(exposure) or (level is not None and not _is_headers(exposure))
    return judge_pixels(
        exposure.image,
        exposure.invalid,
        exposure.saturated,
        doubt="" if believed else "".join(doubts),
    )


def _flags_saturated(exposure: Exposure) -> bool:
    """Return whether the flag plane marks a pixel as saturated."""
    flag, bits = exposure.flag, exposure.instrument.saturated_flags
    if flag is None:
        return False
    return any(has_flag(flag[i : i + _BAND], bits).any() for i in range(0, len(flag), _BAND))


def _is_headers(exposure: Exposure) -> bool:
    """Return whether the saturation level is the one that the header has."""
    keys = exposure.instrument.keywords.get("saturation", ())
    return exposure.saturation == first_positive(exposure.header, keys)


def _repeated_values(image: NDArray[np.float32], known: NDArray[np.bool_]) -> list[float]:
    """Return the values of which runs of pixels lie one above the other."""
    sample, skip = image[:: _ALIKE - 1], known[:: _ALIKE - 1]
    equal = _equal(sample, skip)
    nx = image.shape[1] - _RUN + 1
    if nx < 1:
        return []
    run = equal[:, :nx].copy()
    for i in range(1, _RUN - 1):
        run &= equal[:, i : i + nx]
    values = sample[:-1, :nx][run[:-1] & run[1:] & (sample[:-1, :nx] == sample[1:, :nx])]
    values, counts = np.unique(values, return_counts=True)
    return [float(v) for v in values[np.argsort(-counts, kind="stable")][:_VALUES]]


def _equal(image: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where pixels equal their right neighbour, neither of them known to be useless."""
    equal: NDArray[np.bool_] = image[:, 1:] == image[:, :-1]
    equal &= ~known[:, 1:]
    equal &= ~known[:, :-1]
    return equal


def _add_area(
    image: NDArray[np.float32],
    known: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    value: float,
) -> None:
    """Add the areas that a value fills to both masks, in place, if they hold no measurement."""
    area = _area(image, known, np.float32(value))
    count = int(np.count_nonzero(area))
    rest = area.size - int(np.count_nonzero(known)) - count
    if count < _LEAST_PIXELS or rest < _LEAST_REST * area.size:
        return
    known |= area
    if not _is_filled(image, known, area, value):
        known &= ~area
        return
    invalid |= area
    warnings.warn(
        f"{100.0 * count / area.size:.4g} % of the pixels lie in areas that are exactly "
        f"{value:g}, as noise is not: gaps that were filled, which count as invalid; set such "
        "pixels to NaN, or mark them in the flag plane (bad_flags) or by invalid=",
        CrmendWarning,
        stacklevel=4,
    )


def _area(
    image: NDArray[np.float32], known: NDArray[np.bool_], value: np.float32
) -> NDArray[np.bool_]:
    """Say where a pixel of a value lies in or next to a square of `_ALIKE` px of it."""
    area = np.zeros(image.shape, dtype=np.bool_)
    # A few rows at a time: the filters would need as much memory again as the frame.
    for first in range(0, len(image), _BAND):
        above = max(first - 2 * _ALIKE, 0)
        rows = slice(above, first + _BAND + 2 * _ALIKE)
        alike = (image[rows] == value) & ~known[rows]
        if alike.any():
            near = maximum_filter(minimum_filter(alike, _ALIKE), 3 * _ALIKE)
            near &= alike
            own = area[first : first + _BAND]
            own[:] = near[first - above : first - above + len(own)]
    return area


def _is_filled(
    image: NDArray[np.float32],
    known: NDArray[np.bool_],
    area: NDArray[np.bool_],
    value: float,
) -> bool:
    """Tell a filled area from a sky of coarse digits, from one without noise and from stars."""
    scale = measure_scale(image, known)
    above = (value - scale.background) / scale.noise
    step = max(1, -(-image.size // 1_000_000))
    sample, skip = image[::step], known[::step]
    pairs = np.count_nonzero(~skip[:, 1:] & ~skip[:, :-1])
    coarse = np.count_nonzero(_equal(sample, skip)) > _COARSE * pairs
    if coarse and abs(above) < _FAR:
        return False
    ring = _around(image, known, area)
    if ring.size == 0:
        return True
    off = (ring - value) / scale.noise
    mixed = min(np.mean(off > 0.0), np.mean(off < 0.0))
    if abs(np.median(off)) < _OFF and mixed < _MIXED:
        return False
    flank = scale.background + _FLANK * (value - scale.background)
    return above < _FAR or bool(np.mean(ring > flank) <= _FLANKS)


def _around(
    image: NDArray[np.float32], known: NDArray[np.bool_], area: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the usable pixels that touch an area."""
    found = [np.empty(0)]
    for first in range(0, len(image), _BAND):
        above = max(first - 1, 0)
        near = maximum_filter(area[above : first + _BAND + 1], 3)
        rows = slice(first, first + _BAND)
        near = near[first - above : first - above + len(image[rows])] & ~known[rows]
        found.append(image[rows][near].astype(np.float64))
    return np.concatenate(found)


def _saturated(
    image: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], float] | None:
    """Return the pixels at the maximum, if some of them are the flat top of a star, and it.

    Small groups with nothing around are left out, unless they are straight: there a cosmic ray
    saturates.
    """
    bands = [slice(first, first + _BAND) for first in range(0, len(image), _BAND)]
    top = max(image[rows].max(where=~known[rows], initial=-np.inf) for rows in bands)
    full = image == top
    full &= ~known
    if not _PLATEAU <= np.count_nonzero(full) <= _MOST * full.size:
        return None
    unusable = known | full
    scale = measure_scale(image, unusable)
    if top - scale.background < _HIGH * scale.noise:
        return None
    surface = measure_background(image, unusable).surface()
    flat = np.flatnonzero(full)
    lines = flat[_in_lines(flat, image.shape)]
    full.flat[lines] = False
    rays = saturated_by_rays(image, full, known, unusable, surface, scale.noise)
    full.flat[rays] = False
    full.flat[lines] = True
    flank = scale.background + _FLANK * (top - scale.background)
    if np.count_nonzero(_around(image, known | full, full) > flank) < _PLATEAU:
        return None
    y, x = np.nonzero(full)
    framed = np.pad(full, 1)
    square = [framed[y + j, x + i] for j in range(3) for i in range(3)]
    if np.sum(square, axis=0).max(initial=0) < _PLATEAU:
        return None
    return full, float(top)


def _in_lines(flat: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Say which of some pixels (flat indices) lie in long lines of them, along either axis."""
    y, x = np.divmod(flat, shape[1])
    found = np.zeros(flat.size, dtype=np.bool_)
    for place in (y + x * (shape[0] + 1), x + y * (shape[1] + 1)):
        order = np.argsort(place)
        starts = np.flatnonzero(np.diff(place[order], prepend=-2) != 1)
        lengths = np.diff(starts, append=flat.size)
        found[order] |= np.repeat(lengths >= _TRAIL, lengths)
    return found
