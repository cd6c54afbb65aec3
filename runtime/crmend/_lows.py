"""Parts of an image below its background, raised to it before a network sees them.

Networks see an image above one background level.  Amplifiers or tiles of another level, dark
corners and bowls around bright sources lie below it, where the asinh of the preprocessing makes
faint stars sharp.  What lies above is left as it is, since there sources are.
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

from crmend._normalise import Scale

_MESH = 32  # px
_MAX_SAMPLES = 4_000_000
_DEPTH = 1.0
"""So far below the background nothing is raised [noise]: levels are not known better."""

_LEAST = 0.125
"""Part of a mesh that is valid, at least: then its median is known to a fifth of the noise."""

_EDGE = 12.0
"""Meshes that touch and differ by so much stand on either side of an edge [noise]; in between
the background is smooth."""

_BOX = 7
"""Side of the boxes that tell on which side of an edge a pixel lies [px]."""

_SOURCE = 25
"""What is bright and narrower than that is a source, not the other side of an edge [px]."""

_BEYOND = 3.0  # beyond the levels around, values count so far in such a box [noise]
_ALIKE = 5  # px

_BAND = 8 * _MESH  # rows at a time
_MARGIN = _BOX + 2 * _SOURCE  # rows beside them that boxes and openings see


def raise_lows(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> NDArray[np.float32]:
    """Return an image whose parts below the background are raised to it, edges kept sharp.

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
    """
    levels = _mesh_levels(image, invalid, scale)
    if levels.min() >= -_DEPTH:
        return image
    # Gaps hold one value.  Raised to the sky, they would cut stars at their edges off.
    gap = _written(image)
    levels = _mesh_levels(image, invalid | gap, scale)
    low, high = minimum_filter(levels, 3), maximum_filter(levels, 3)
    if low.min() >= -_DEPTH:
        return image
    raised = image.copy()
    level, noise = np.float32(scale.background), np.float32(scale.noise)
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
            missing = (invalid | gap)[above:below] | ~np.isfinite(values)
            values[missing] = own[missing]
            np.clip(values, lowest - _BEYOND, highest + _BEYOND, out=values)
            here = grey_opening(uniform_filter(values, _BOX), _SOURCE)
            own = np.where(at_edge, np.clip(_with_sharp_edges(here), lowest, highest), own)
        lacking = np.minimum(own + np.float32(_DEPTH), 0.0)[first - above : last - above]
        raised[first:last] -= np.where(gap[first:last], np.float32(0.0), lacking * noise)
    return raised


def _with_sharp_edges(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return levels that were averaged in boxes, each where it changes fast one or the other.

    What lies between would be a rim along the edge, brighter or fainter than either side.
    """
    low, high = minimum_filter(levels, _BOX + 2), maximum_filter(levels, _BOX + 2)
    sharp: NDArray[np.float32] = np.where(2 * levels > low + high, high, low)
    return np.where(high - low > 0.5 * _EDGE, sharp, levels)


def _smooth(levels: NDArray[np.float32], low: int, high: int, nx: int) -> NDArray[np.float32]:
    """Return the levels of meshes in rows low…high−1, linear between the meshes' centres."""
    y, x = ((np.arange(*ends) + 0.5) / _MESH - 0.5 for ends in ((low, high), (nx,)))
    places = np.meshgrid(y, x, indexing="ij")
    smooth: NDArray[np.float32] = map_coordinates(levels, places, order=1, mode="nearest")
    return smooth


def _written(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say where a pixel lies in a square of `_ALIKE` px of one value, as no noise leaves it."""
    written = np.empty(image.shape, dtype=np.bool_)
    # A few rows at a time: the filters would need as much memory again as the frame.
    for first in range(0, len(image), _BAND):
        above = max(first - _ALIKE, 0)
        some = image[above : first + _BAND + _ALIKE]
        alike = maximum_filter(some, _ALIKE) == minimum_filter(some, _ALIKE)
        rows = written[first : first + _BAND]
        rows[:] = maximum_filter(alike, _ALIKE)[first - above : first - above + len(rows)]
    return written


def _mesh_levels(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> NDArray[np.float32]:
    """Return the median of each mesh above the background [noise].

    Where a mesh has too few valid pixels, it is that of the nearest one that has, or 0.
    """
    step = 1
    while image.size > _MAX_SAMPLES * step**2 and step < _MESH // 8:
        step *= 2
    sample = image[::step, ::step].astype(np.float32)
    sample[invalid[::step, ::step] | ~np.isfinite(sample)] = np.nan
    side = _MESH // step
    ny, nx = (-(-n // side) for n in sample.shape)
    sample = np.pad(
        sample,
        ((0, ny * side - sample.shape[0]), (0, nx * side - sample.shape[1])),
        constant_values=np.nan,
    )
    meshes = sample.reshape(ny, side, nx, side).swapaxes(1, 2).reshape(ny, nx, side * side)
    # NaN sort last, so the median of the others stands in their middle.
    meshes.sort(axis=-1)
    count = np.count_nonzero(~np.isnan(meshes), axis=-1)
    middle = np.maximum(count - 1, 0) // 2
    chosen = np.take_along_axis(meshes, middle[..., np.newaxis], axis=-1)[..., 0]
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
