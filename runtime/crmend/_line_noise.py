"""Noise that differs from line to line, made even before a network sees an image.

Where the sky was subtracted from a spectrum, its lines are gone and their photon noise is left.
A network that is told one noise takes it for cosmic rays.  So do columns of a chip that are
noisier than others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._normalise import MAD_TO_SIGMA, Scale, measure_scale, median_of_known

_LENGTH = 48
"""Pixels along a line that its noise is measured on: to a sixth.  Lines may lean by a pixel in
ten or so."""

_MAX_SAMPLES = 4_000_000
_HIGH = 1.5
"""So noisy [median noise of all lines] is a line that counts."""

_LEAST = 1.2
"""What is measured below is left as it is [median noise of all lines]."""

_SHIFT = 3
"""By so much a line may lean from one length to the next [px]."""

_SHARE, _DARK, _GO_ON = 0.02, 0.85, 0.7
"""At least such a part of the image is that noisy; such a part of that lies at the background,
which light does not; and such a part of that goes on along the line."""


def even_noise(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> tuple[NDArray[np.float32], Scale]:
    """Return an image whose noisy rows or columns are as noisy as the others, and its scale.

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
        `image` itself where no lines of the background are noisy, else a new one.  What
        stands above the background shrinks like the noise.
    Scale
        Of the image returned.
    """
    votes = [
        _vote(image.swapaxes(0, axis), invalid.swapaxes(0, axis), scale) for axis in (0, 1)
    ]
    best = int(votes[1] > votes[0])
    if not votes[best] > 0.0:
        return image, scale
    evened = image.copy()
    _divide(evened.swapaxes(0, best), invalid.swapaxes(0, best), scale)
    return evened, measure_scale(evened, invalid)


def _vote(image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale) -> float:
    """Return which part of an image is noisy columns; 0 = they do not look like it."""
    ny, nx = image.shape
    pairs = min(ny // (2 * _LENGTH), max(_MAX_SAMPLES // (2 * _LENGTH * nx), 1))
    if pairs < 1 or ny < 3 * _LENGTH:
        return 0.0
    first = np.linspace(0, ny - 2 * _LENGTH, pairs).astype(int)
    starts = np.stack([first, first + _LENGTH], axis=1).ravel()
    noise, level = _measure(image, invalid, starts)
    usual = float(np.nanmedian(noise)) if np.isfinite(noise).any() else 0.0
    if not usual > 0.0:
        return 0.0
    high = noise > _HIGH * usual
    dark = high & (np.abs(level - scale.background) < noise)
    if np.mean(dark) < _SHARE or np.sum(dark) < _DARK * np.sum(high):
        return 0.0
    near = high.copy()
    for shift in range(1, _SHIFT + 1):
        near[:, shift:] |= high[:, :-shift]
        near[:, :-shift] |= high[:, shift:]
    goes_on = np.sum(dark[::2] & near[1::2]) + np.sum(dark[1::2] & near[::2])
    return float(np.mean(dark)) if goes_on > _GO_ON * np.sum(dark) else 0.0


def _measure(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], starts: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return noise and median of parts of columns, `_LENGTH` px long; NaN = not known."""
    noise = np.empty((len(starts), image.shape[1]), dtype=np.float32)
    level = np.empty_like(noise)
    for number, start in enumerate(starts):
        rows = slice(start, start + _LENGTH)
        values = image[rows].astype(np.float32)
        values[invalid[rows] | ~np.isfinite(values)] = np.nan
        differences = np.abs(np.diff(values, axis=0))
        noise[number] = _median(differences) * np.float32(MAD_TO_SIGMA / np.sqrt(2.0))
        level[number] = _median(values)
    return noise, level


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each column, or NaN where fewer than half of it is known."""
    median, count = median_of_known(values, axis=0)
    median[2 * count < len(values)] = np.nan
    return median


def _divide(image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale) -> None:
    """Divide noisy columns by how much noisier they are than the others, in place."""
    ny = len(image)
    starts = np.arange(0, ny - _LENGTH + 1, _LENGTH)
    noise, _ = _measure(image, invalid, starts)
    relative = noise / np.nanmedian(noise)
    relative = np.where(relative > _LEAST, relative, np.float32(1.0))
    # Linear between the middles of the parts.
    place = np.clip((np.arange(ny) - 0.5 * (_LENGTH - 1)) / _LENGTH, 0, len(starts) - 1)
    low = place.astype(int)
    high = np.minimum(low + 1, len(starts) - 1)
    background = np.float32(scale.background)
    for row in range(ny):
        part = np.float32(place[row] - low[row])
        factor = relative[low[row]] * (1 - part) + relative[high[row]] * part
        image[row] = (image[row] - background) / factor + background
