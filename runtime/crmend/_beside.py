"""Bright pixels that a network leaves out beside its own mask.

Where tracks cross or end, a network may leave a pixel of ten noises as what could be a star.
A star lights more than one pixel, though: what towers above all its neighbours that are no
cosmic ray is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BRIGHT = 3.0
"""What a pixel beside a mask has above the background, to be judged at all [noise]."""

SHARP = 5.0
"""What one that needs no second opinion has [noise]."""

SHARP_LEAST = 0.02
"""And which cr_probability."""

MOST_BESIDE = 0.3
"""Its brightest neighbour outside the mask has less than this part of it.  119 of 127 such
pixels held charge in the 30 frames that chose these numbers, no report's (LOG, round 39)."""

LEAST_BESIDE = 2
"""So many neighbours outside the mask tell."""

AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
"""Neighbours of a pixel, and itself."""


def bright_beside(
    cr_mask: NDArray[np.bool_],
    cr_probability: NDArray[np.float32],
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    background: float,
    noise: float,
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the bright pixels that touch a mask, and which of them no star explains.

    Parameters
    ----------
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    cr_probability : (ny, nx) float32 array
        0 at excluded pixels.
    image : (ny, nx) float32 array
    invalid : (ny, nx) bool array
        True = its value means nothing.
    background, noise : float
        Of the image.

    Returns
    -------
    (n,) intp array
        Flat indices, ascending.
    (n,) bool array
        True = it towers above its neighbours outside the mask.
    """
    (ny, nx), flat = image.shape, image.reshape(-1)
    pixels = np.flatnonzero((cr_probability >= SHARP_LEAST) & ~cr_mask)
    pixels = pixels[(flat[pixels] - background) / noise >= BRIGHT]
    rows, columns = np.divmod(pixels, nx)
    touches = np.zeros(pixels.size, dtype=bool)
    count = np.zeros(pixels.size, dtype=np.int8)
    brightest = np.full(pixels.size, -np.inf, dtype=np.float32)
    for dy, dx in AROUND:
        inside = (rows + dy >= 0) & (rows + dy < ny) & (columns + dx >= 0) & (columns + dx < nx)
        at = np.where(inside, pixels + dy * nx + dx, pixels)
        masked = cr_mask.reshape(-1)[at]
        touches |= inside & masked
        if dy or dx:
            tells = inside & ~masked & ~invalid.reshape(-1)[at]
            count += tells
            brightest[tells] = np.maximum(brightest[tells], flat[at[tells]])
    height = flat[pixels] - background
    sharp = (height >= SHARP * noise) & (count >= LEAST_BESIDE)
    sharp &= brightest - background < MOST_BESIDE * height
    return pixels[touches], sharp[touches]
