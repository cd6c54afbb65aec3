"""Holes that large cosmic rays leave: filled smoothly, so that sources below them show.

The median of a hole's middle knows hardly more than the sky; a galaxy that a heavy ion covers
would be a ring around nothing, and not be found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend._compiled import njit
from crmend._kernels import smooth_fill
from crmend._normalise import Scale

DEEP = 3
"""A pixel is deep in a hole where the square of so many pixels around it has no good one."""

LEAST_SNR = 3.0
"""Of the light within two pixels of a hole, at least: noise, continued, would make sources."""

_RIM = 2
_MARGIN = 32
# Width of what is cut out around a deep pixel [px]; longer holes are filled piece by piece.
_LEAST_SKY = 100
_CONNECTED = np.ones((3, 3), dtype=bool)


def fill_holes(image: NDArray[np.float32], cr_mask: NDArray[np.bool_], scale: Scale) -> None:
    """Continue the light around deep holes into them, in place (`smooth_fill`).

    Parameters
    ----------
    image : (ny, nx) float32 array
        CR pixels hold a first guess; written in holes with a deep pixel and light around
        them only.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    scale : Scale
        Background and noise of the image.
    """
    deep = _deep_pixels(cr_mask, np.flatnonzero(cr_mask))
    filled: set[int] = set()
    for seed in deep:
        if int(seed) in filled:
            continue
        y, x = divmod(int(seed), image.shape[1])
        top, left = max(y - _MARGIN, 0), max(x - _MARGIN, 0)
        window = np.s_[top : y + _MARGIN + 1, left : x + _MARGIN + 1]
        mask = np.ascontiguousarray(cr_mask[window])
        groups, _ = ndimage.label(mask, _CONNECTED)
        hole = groups == groups[y - top, x - left]
        level = _level(image[window], mask, scale)
        stamp = (image[window] - np.float32(level)) / np.float32(scale.noise)
        stamp[~np.isfinite(stamp)] = 0.0
        rim = stamp[ndimage.binary_dilation(hole, _CONNECTED, iterations=_RIM) & ~mask]
        if rim.sum() > LEAST_SNR * np.sqrt(rim.size):
            smooth_fill(stamp[np.newaxis], mask[np.newaxis])
            image[window][hole] = stamp[hole] * scale.noise + level
        rows, columns = np.nonzero(hole)
        filled.update(((rows + top) * image.shape[1] + columns + left).tolist())


def _level(stamp: NDArray[np.float32], cr_mask: NDArray[np.bool_], scale: Scale) -> float:
    """Return the sky around a hole: the sky of a frame need not be flat."""
    good = stamp[np.isfinite(stamp) & ~ndimage.binary_dilation(cr_mask, _CONNECTED, _RIM)]
    return float(np.median(good)) if good.size >= _LEAST_SKY else scale.background


@njit
def _deep_pixels(cr_mask: NDArray[np.bool_], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the CR pixels (flat indices) that are deep in a hole."""
    ny, nx = cr_mask.shape
    deep = np.empty(pixels.size, dtype=np.int64)
    count = 0
    for pixel in pixels:
        y, x = pixel // nx, pixel % nx
        inside = True
        for v in range(max(y - DEEP, 0), min(y + DEEP + 1, ny)):
            for u in range(max(x - DEEP, 0), min(x + DEEP + 1, nx)):
                if not cr_mask[v, u]:
                    inside = False
                    break
            if not inside:
                break
        if inside:
            deep[count] = pixel
            count += 1
    return deep[:count]
