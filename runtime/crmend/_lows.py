"""Parts of an image below its background, raised to it before a network sees them, and gaps.

Networks see an image above one background level.  Amplifiers or tiles of another level, dark
corners and bowls around bright sources lie below it, where the asinh of the preprocessing makes
faint stars sharp.  What lies above is left to `crmend._light`; but where light fills the frame
(nebulae, twilight), there is no one level, and a surface below it is taken off.
Gaps of one value below the background, as mosaics and turned frames have them, hold nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    grey_opening,
    map_coordinates,
    maximum_filter,
    minimum_filter,
    uniform_filter,
)

from crmend._normalise import Scale, mesh_medians

_MESH = 32  # px
_MAX_SAMPLES = 4_000_000
_DEPTH = 1.0
"""So far below the background nothing is raised [noise]: levels are not known better."""

_NEAR = 3.0
_FEW, _MUCH, _STEEP = 0.5, 0.1, 0.5
"""Light fills a frame where fewer than such a share of its meshes lies near the background
[`_NEAR` noises], more than such a share lower than that, and half of the steps from one mesh
to the next, along rows or columns, are larger than so much [noise].  Amplifiers of other levels
are flat."""

_ABOVE = 3.0
"""So far above the lowest mesh around it lies the surface that is taken off, at most [noise].
Of 0, 3, 6 and 12, 3 loses nowhere (LOG, round 21)."""

_LEAST = 0.125
"""Part of a mesh that is valid, at least: then its median is known to a fifth of the noise."""

_EDGE = 12.0
"""Meshes that touch and differ by so much stand on either side of an edge [noise]; in between
the background is smooth."""

_BOX = 7
"""Side of the boxes that tell on which side of an edge a pixel lies [px]."""

_SOURCE = 25
"""What is bright and narrower than that is a source, not the other side of an edge [px]."""

_WIDE, _SHARE = 4, 0.65
"""A sharp edge holds such a share of its step within so many pixels."""

_BESIDE, _ALONG = 3, 15
_BETWEEN, _CROSSED = 3.0, 0.1
"""An edge crosses pixels where more than such a share of those next to it (in boxes of so many
pixels across and along it) is so far from the levels of both sides [noise].  A cosmic ray is a
smaller share."""

_BEYOND = 3.0  # beyond the levels around, values count so far in such a box [noise]
_ALIKE = 5  # px

_BAND = 8 * _MESH  # rows at a time
_MARGIN = _BOX + 2 * _SOURCE  # rows beside them that boxes and openings see


def raise_lows(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return an image whose parts below the background are raised to it, edges kept sharp.

    Where there is no one background, a surface that light stands on is taken off first.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    invalid : (ny, nx) bool array
        True = leave the pixel out.
    scale : Scale
        Of the image.

    Returns
    -------
    (ny, nx) float32 array
        `image` itself where no part of it is low, else a new one.
    (ny, nx) bool array
        `invalid` itself where there is no gap, else with the gaps' pixels.
    """
    levels = _mesh_levels(image, invalid, scale)
    if levels.min() >= -_DEPTH:
        return image, invalid
    level, noise = np.float32(scale.background), np.float32(scale.noise)
    # Left as they are, gaps would make light of the noise at their edges, and raised to the sky
    # they would cut stars off there.
    missing = _gaps(image, level - np.float32(_DEPTH) * noise)
    missing |= invalid
    levels = _mesh_levels(image, missing, scale)
    if levels.min() >= -_DEPTH:
        return image, missing
    if _fills_the_frame(levels):
        image = _without_surface(image, levels, scale)
        levels = _mesh_levels(image, missing, scale)
    low, high = minimum_filter(levels, 3), maximum_filter(levels, 3)
    raised = image.copy()
    ny, nx = image.shape
    columns = np.arange(nx) // _MESH
    for first in range(0, ny, _BAND):
        last = min(first + _BAND, ny)
        if low[first // _MESH : -(-last // _MESH)].min() >= -_DEPTH:
            continue
        above, below = max(first - _MARGIN, 0), min(last + _MARGIN, ny)
        window = np.ix_(np.arange(above, below) // _MESH, columns)
        lowest, highest = low[window], high[window]
        own = _smooth(levels, above, below, nx)
        at_edge = highest - lowest > _EDGE
        if at_edge.any():
            with np.errstate(over="ignore"):
                values = (image[above:below] - level) / noise
            unknown = missing[above:below] | ~np.isfinite(values)
            values[unknown] = own[unknown]
            np.clip(values, lowest - _BEYOND, highest + _BEYOND, out=values)
            own = np.where(at_edge, np.clip(_along_edges(values), lowest, highest), own)
        lift = noise * np.maximum(-own - np.float32(_DEPTH), 0.0)
        here = slice(first - above, last - above)
        raised[first:last] += np.where(missing[first:last], np.float32(0.0), lift[here])
    return raised, missing


def _fills_the_frame(levels: NDArray[np.float32]) -> bool:
    """Say whether meshes of these levels have no background in common."""
    steep = (
        np.median(np.abs(np.diff(levels, axis=axis)))
        for axis in (0, 1)
        if levels.shape[axis] > 1
    )
    return bool(
        np.mean(np.abs(levels) < _NEAR) < _FEW
        and np.mean(levels <= -_NEAR) > _MUCH
        and max(steep, default=0.0) > _STEEP
    )


def _without_surface(
    image: NDArray[np.float32], levels: NDArray[np.float32], scale: Scale
) -> NDArray[np.float32]:
    """Return an image from which a surface below its meshes' levels was taken [its unit].

    It follows what is wider than three meshes and lies nowhere far above the lowest of the
    meshes around, so that light next to a dark part keeps standing above it.
    """
    lowest = minimum_filter(levels, 3)
    surface = uniform_filter(np.minimum(grey_opening(levels, 3), lowest + _ABOVE), 3)
    ny, nx = image.shape
    flat = image.copy()
    for first in range(0, ny, _BAND):
        last = min(first + _BAND, ny)
        flat[first:last] -= _smooth(surface, first, last, nx) * np.float32(scale.noise)
    return flat


def _along_edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the level around each pixel, without sources.

    At an edge that is sharp it is that of one side or the other: what lies between would be a
    rim along the edge, brighter or fainter than either side; where the edge crosses pixels,
    the rim is theirs, and they count as their own level.  Across an edge that is not sharp, as
    of a field stop out of focus, it follows the values closely.
    """
    levels: NDArray[np.float32] = grey_opening(uniform_filter(values, _BOX), _SOURCE)
    low, high = minimum_filter(levels, _BOX + 2), maximum_filter(levels, _BOX + 2)
    step, close = high - low, uniform_filter(values, 3)
    sharp = step > 0.5 * _EDGE
    if not sharp.any():
        return levels
    base = grey_opening(close, _SOURCE)
    change, upper = _change(base), 2 * levels > low + high
    # Steps as wide as all that the changes around span: slopes that grow steeper are no edge.
    wide = _BOX + 2 + _WIDE
    span = maximum_filter(levels, wide) - minimum_filter(levels, wide)
    soft = sharp & (maximum_filter(change, _BOX + 2) < _SHARE * span)
    # Of pixels that an edge crosses only what is brighter than its upper side stands out.
    crossed = sharp & ~soft & (change > 0.5 * _EDGE) & _half_lit(values, low, high, upper)
    found: NDArray[np.float32] = np.select(
        (crossed, soft, sharp & upper, sharp),
        (np.clip(values, low, high), base, high, low),
        levels,
    )
    return found


def _half_lit(
    values: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    upper: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Say where the pixels along an edge belong to neither side of it.

    So it is along a round or tilted edge, and one that falls over two or three pixels, not
    where one amplifier ends and the next begins.
    """
    border = maximum_filter(upper, _BESIDE) & ~minimum_filter(upper, _BESIDE)
    between = border & (values > low + _BETWEEN) & (values < high - _BETWEEN)
    share = uniform_filter(between.astype(np.float32), _ALONG)
    found: NDArray[np.bool_] = share > _CROSSED * uniform_filter(
        border.astype(np.float32), _ALONG
    )
    return found


def _change(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much values change within `_WIDE` px of each, in the steepest direction."""
    change, half = np.zeros_like(values), _WIDE // 2
    for axis in (0, 1):
        along, inside = values.swapaxes(0, axis), change.swapaxes(0, axis)[half:-half]
        np.hypot(inside, along[_WIDE:] - along[:-_WIDE], out=inside)
    return change


def _smooth(levels: NDArray[np.float32], low: int, high: int, nx: int) -> NDArray[np.float32]:
    """Return the levels of meshes in rows low…high−1, linear between the meshes' centres."""
    y, x = ((np.arange(*ends) + 0.5) / _MESH - 0.5 for ends in ((low, high), (nx,)))
    places = np.meshgrid(y, x, indexing="ij")
    smooth: NDArray[np.float32] = map_coordinates(levels, places, order=1, mode="nearest")
    return smooth


def _gaps(image: NDArray[np.float32], level: np.float32) -> NDArray[np.bool_]:
    """Say where a pixel lies in a square of `_ALIKE` px of one value below a level."""
    gaps = np.empty(image.shape, dtype=np.bool_)
    # A few rows at a time: the filters would need as much memory again as the frame.
    for first in range(0, len(image), _BAND):
        above = max(first - _ALIKE, 0)
        some = image[above : first + _BAND + _ALIKE]
        alike = maximum_filter(some, _ALIKE) == minimum_filter(some, _ALIKE)
        rows = gaps[first : first + _BAND]
        rows[:] = maximum_filter(alike, _ALIKE)[first - above : first - above + len(rows)]
        rows &= image[first : first + _BAND] < level
    return gaps


def _mesh_levels(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> NDArray[np.float32]:
    """Return the median of each mesh above the background [noise].

    Where a mesh has too few valid pixels, it is that of the nearest one that has, or 0.
    """
    step = 1
    while image.size > _MAX_SAMPLES * step**2 and step < _MESH // 8:
        step *= 2
    side = _MESH // step
    chosen, count = mesh_medians(image[::step, ::step], invalid[::step, ::step], side)
    levels: NDArray[np.float32] = (chosen - np.float32(scale.background)) / np.float32(
        scale.noise
    )
    unknown = count < _LEAST * side**2
    if unknown.all():
        return np.zeros_like(levels)
    if unknown.any():
        nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        levels = levels[tuple(nearest)]
    return levels
