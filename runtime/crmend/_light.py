"""Broad light above the background, taken off before a network sees an image.

Networks learn sources on a dark sky, and are told one background and one noise.  On galaxies
wider than their crops, on nebulae and between lit and dark parts of a frame the noise is that
of the light, and asinh leaves little of what stands on it: stars there were flagged, and cosmic
rays were not.  So such light is taken off, and its noise made the sky's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import grey_opening

from crmend._normalise import MAD_TO_SIGMA, Scale, median_of_known, mesh_medians

MESH = 16
"""Side of a mesh [px]."""

_NARROW = 3
"""What is narrower than so many meshes is a source and stays."""

ABOVE = 5.0
"""So much of the light stays [noise]: what networks know, and all that most frames have."""

_LEAST = 0.25
"""Part of a mesh that is valid, at least; else its light is taken for none."""

_MAX_SAMPLES = 20_000_000
_BAND = 16  # rows of meshes at a time
_NOISE_MESHES = 4096
_QUANTILE = 0.25
"""Of the meshes' noise, weighted by their light: in the others stars may stand close."""

_MOST_PHOTONS = 1.0
"""Of a frame with a noise of one electron, in which photons alone make the noise of light."""


@dataclass(frozen=True, eq=False)
class Light:
    """Broad light of an image.

    Attributes
    ----------
    levels : (my, mx) float32 array
        How much of it is taken off at the centres of meshes of `MESH` px [noise], >= 0.
    photons : float
        Variance that a level of one noise adds, in units of its square.
    """

    levels: NDArray[np.float32]
    photons: float

    def taken_off(
        self,
        pixels: NDArray[np.float32],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        scale: Scale,
    ) -> NDArray[np.float32]:
        """Return pixels without the light, and with the noise of the sky.

        Parameters
        ----------
        pixels : (n, m) float32 array
            In the image's unit.
        rows, columns : (n,), (m,) int arrays
            Where they lie in the image.
        scale : Scale
            Of the image.

        Returns
        -------
        (n, m) float32 array
            `pixels` itself where there is no such light.
        """
        (top, below, down), (left, right, across) = (
            _between(places, length)
            for places, length in zip((rows, columns), self.levels.shape, strict=True)
        )
        if not self.levels[top.min() : below.max() + 1, left.min() : right.max() + 1].any():
            return pixels
        # Value by value, so that it does not depend on the tile.
        down = down[:, np.newaxis]
        lines = self.levels[top] + (self.levels[below] - self.levels[top]) * down
        level = lines[:, left] + (lines[:, right] - lines[:, left]) * across
        noise, background = np.float32(scale.noise), np.float32(scale.background)
        louder = np.sqrt(np.float32(self.photons) * level + np.float32(1.0))
        with np.errstate(over="ignore"):
            dark = pixels - background - noise * level
        result: NDArray[np.float32] = dark / louder + background
        return result


def find_light(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> Light | None:
    """Find light that is broad and far above the background; None = there is none.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    invalid : (ny, nx) bool array
        True = leave the pixel out.
    scale : Scale
        Of the image.
    """
    # Rounded, so that one pixel more or less hardly ever changes them.
    levels = np.round(grey_opening(_mesh_levels(image, invalid, scale), _NARROW))
    bright = levels > ABOVE
    if not bright.any():
        return None
    photons = _photons(image, invalid, scale, levels, bright)
    return Light(np.maximum(levels - np.float32(ABOVE), 0), photons)


def _between(
    places: NDArray[np.intp], meshes: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the meshes before and after pixels, and the share of the latter."""
    where = np.clip((places + 0.5) / MESH - 0.5, 0, meshes - 1)
    before = where.astype(np.intp)
    after = np.minimum(before + 1, meshes - 1)
    return before, after, (where - before).astype(np.float32)


def _mesh_levels(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> NDArray[np.float32]:
    """Return the median of each mesh above the background [noise], 0 where it is not known."""
    step = 1
    while image.size > _MAX_SAMPLES * step**2 and step < MESH // 4:
        step *= 2
    side = MESH // step
    rows = []
    for first in range(0, len(image), _BAND * MESH):
        band = np.s_[first : first + _BAND * MESH : step, ::step]
        median, count = mesh_medians(image[band], invalid[band], side)
        with np.errstate(over="ignore"):
            levels = (median - np.float32(scale.background)) / np.float32(scale.noise)
        rows.append(np.where((count < _LEAST * side**2) | ~np.isfinite(levels), 0, levels))
    return np.concatenate(rows).astype(np.float32)


def _photons(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    scale: Scale,
    levels: NDArray[np.float32],
    bright: NDArray[np.bool_],
) -> float:
    """Return by how much variance grows with light, from bright meshes."""
    if min(image.shape) < MESH:
        return 0.0
    stamps, bad = (
        sliding_window_view(plane, (MESH, MESH))[::MESH, ::MESH] for plane in (image, invalid)
    )
    y, x = np.nonzero(bright[: stamps.shape[0], : stamps.shape[1]])
    chosen = np.s_[:: -(-y.size // _NOISE_MESHES) or 1]
    y, x = y[chosen], x[chosen]
    values = stamps[y, x].astype(np.float64)
    values[bad[y, x] | ~np.isfinite(values)] = np.nan
    # Of three pixels in a row, so that a slope counts for nothing.
    bends = np.abs(np.diff(values, n=2, axis=-1)).reshape(y.size, MESH * (MESH - 2))
    median, count = median_of_known(bends, axis=-1)
    variance = (MAD_TO_SIGMA * median / scale.noise) ** 2 / 6.0
    known = np.isfinite(variance) & (count >= _LEAST * bends.shape[1])
    if not known.any():
        return 0.0
    weight = levels[y, x][known].astype(np.float64)
    photons = (variance[known] - 1.0) / weight
    order = np.argsort(photons)
    total = np.cumsum(weight[order])
    middle = photons[order][np.searchsorted(total, _QUANTILE * total[-1])]
    return float(f"{np.clip(middle, 0.0, _MOST_PHOTONS):.1e}")
