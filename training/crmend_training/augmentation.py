"""What training does to a crop: turn it, mirror its border, add what its frame lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.cosmic_rays import Sharp, draw_sharp

SHARP_EVENTS = (2e-5, 4e-4)
"""Sharp events that are added, per pixel: 1 to 20 in a crop of 128² and its border."""

SHARP_DIFFUSION = (0.02, 0.35)
"""Their sigma [px]."""

SHARP_LABEL = 0.15
"""Charge from which a pixel of theirs counts as hit [noise]: about 1 e- of CSST's noise."""

LINE_LEVEL = (3.0, 3e4)
"""Level of lines that are added: bad columns and bleeding [noise]."""

LINE_WIDTHS = (1, 1, 1, 2, 3)
"""Their widths [px], one drawn at random."""


def turning(rng: np.random.Generator):
    """Return a function that applies one random element of the square's symmetries."""
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
    return lambda array: turned(array, quarter, flip)


def turned(array: NDArray, quarter: int, flip: bool) -> NDArray:
    """Return an array turned by quarters, then mirrored left to right."""
    array = np.rot90(array, quarter, axes=(-2, -1))
    return array[..., ::-1] if flip else array


def with_sharp_events(
    image: NDArray,
    mask: NDArray,
    charge: tuple[float, float],
    points: float,
    rng: np.random.Generator,
) -> tuple[NDArray, NDArray]:
    """Return a crop [noise units] and its mask after some sharp cosmic rays more.

    `charge` (per pixel of path, log-uniform [noise]) and `points` (a share) are those of
    `simulate.cosmic_rays.Sharp`.
    """
    few, many = np.log(SHARP_EVENTS)
    narrow, wide = np.log(SHARP_DIFFUSION)
    sharp = Sharp(
        events=np.exp(rng.uniform(few, many)),
        diffusion=np.exp(rng.uniform(narrow, wide)),
        charge=charge,
        points=points,
    )
    added = draw_sharp(rng, image.shape, sharp)
    return image + added, mask | (added > SHARP_LABEL)


def with_line(
    image: NDArray, mask: NDArray, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Return a crop [noise units] and its mask after one more bad column or trail of bleeding.

    It runs along the first axis, through all of the crop or from its end to somewhere.  A bad
    column adds charge; bleeding hides what was fainter, cosmic rays included.
    """
    low, high = np.log(LINE_LEVEL)
    level = float(np.exp(rng.uniform(low, high)))
    width = int(rng.choice(LINE_WIDTHS))
    first = int(rng.integers(image.shape[1] - width + 1))
    start = int(rng.integers(-image.shape[0], image.shape[0]))
    line = np.s_[max(start, 0) :, first : first + width]
    image, mask = image.copy(), mask.copy()
    if rng.random() < 0.5:
        image[line] += level
    else:
        mask[line] &= image[line] > level
        image[line] = np.maximum(image[line], level)
    return image, mask


def mirrored(array: NDArray, beyond: int) -> NDArray:
    """Return an array whose first rows are replaced by a mirror image of the next ones.

    The border row is not repeated, as in `crmend._tiling.reflect`.
    """
    return np.pad(array[beyond:], ((beyond, 0), (0, 0)), mode="reflect")
