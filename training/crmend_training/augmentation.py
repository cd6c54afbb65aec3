"""What training does to a crop: turn it, mirror its border, add what its frame lacks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.cosmic_rays import Sharp, draw_sharp
from crmend_training.simulate.psf_models import log_uniform

SHARP_EVENTS = (2e-5, 4e-4)
"""Sharp events that are added, per pixel: 1 to 20 in a crop of 128² and its border."""

SHARP_DIFFUSION = (0.02, 0.35)
"""Their sigma [px]."""

STRAIGHT_EVENTS = (3e-5, 2e-4)
"""Straight tracks that are added, per pixel: 1 to 6 in a crop of 128² and its border."""

STRAIGHT_SPREAD = 0.5
"""How far they are off the rows or columns, standard deviation [degree]: a track of 40 px
stays in one or two of them."""

WIDEST_POINTS = 0.5
"""Sigma up to which points are added, too [px], as wider ones are like stars."""

LINE_LEVEL = (3.0, 3e4)
"""Level of lines that are added: bad columns and bleeding [noise]."""

LINE_WIDTHS = (1, 1, 1, 2, 3)
"""Their widths [px], one drawn at random."""

HOT_DENSITY = (1e-4, 1e-2)
"""How many hot pixels are added per pixel, log-uniform."""

HOT_LEVEL = (3.0, 3e3)
"""Their charge, log-uniform [noise]: 0.2 to 150 e-/s of CSST's exposures."""


def turning(rng: np.random.Generator):
    """Return a function that applies one random element of the square's symmetries."""
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
    return lambda array: turned(array, quarter, flip)


def turned(array: NDArray, quarter: int, flip: bool) -> NDArray:
    """Return an array turned by quarters, then mirrored left to right."""
    array = np.rot90(array, quarter, axes=(-2, -1))
    return array[..., ::-1] if flip else array


def with_sharp_events(
    image: NDArray, mask: NDArray, kind: Sharp, label: float, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Return a crop [noise units] and its mask after some sharp cosmic rays more.

    A pixel that gets more than `label` of charge [noise] counts as hit.
    """
    added = draw_sharp(rng, image.shape, kind)
    return image + added, mask | (added > label)


def sharp_events(charge: tuple[float, float], points: float, rng: np.random.Generator) -> Sharp:
    """Draw how many sharp events a crop gets, and how wide they are.

    `charge` (per pixel of path, log-uniform [noise]) and `points` (a share) are those of
    `simulate.cosmic_rays.Sharp`.
    """
    return Sharp(
        log_uniform(rng, *SHARP_EVENTS), log_uniform(rng, *SHARP_DIFFUSION), charge, points
    )


def straight_tracks(charge: tuple[float, float], rng: np.random.Generator) -> Sharp:
    """Draw how many tracks along rows and columns a crop gets, and how wide they are.

    `charge` is that of `sharp_events`.
    """
    events, wide = log_uniform(rng, *STRAIGHT_EVENTS), log_uniform(rng, *SHARP_DIFFUSION)
    return Sharp(events, wide, charge, points=0.0, aligned=1.0, spread=STRAIGHT_SPREAD)


def wide_tracks(
    charge: tuple[float, float],
    diffusion: tuple[float, float],
    points: float,
    shortest: float,
    rng: np.random.Generator,
) -> Sharp:
    """Draw how many tracks of much diffused charge a crop gets, and how wide they are.

    `charge` and `points` are those of `sharp_events`, `diffusion` is log-uniform [px],
    `shortest` the least length of the tracks [px].
    """
    events, wide = log_uniform(rng, *SHARP_EVENTS), log_uniform(rng, *diffusion)
    points = points if wide < WIDEST_POINTS else 0.0
    return Sharp(events, wide, charge, points, aligned=0.1, shortest=shortest)


def with_line(
    image: NDArray, mask: NDArray, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Return a crop [noise units] and its mask after one more bad column or trail of bleeding.

    It runs along the first axis, through all of the crop or from its end to somewhere.  A bad
    column adds charge; bleeding hides what was fainter, cosmic rays included.
    """
    level = log_uniform(rng, *LINE_LEVEL)
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


def hot_pixels(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the charge of hot pixels alone, float32 of `shape` [noise].

    All of it is in single pixels: unlike a cosmic ray's, it does not diffuse.
    """
    charge = np.zeros(shape, dtype=np.float32)
    where = rng.random(shape) < log_uniform(rng, *HOT_DENSITY)
    low, high = np.log(HOT_LEVEL)
    charge[where] = np.exp(rng.uniform(low, high, int(where.sum())))
    return charge


def mirrored(array: NDArray, beyond: int) -> NDArray:
    """Return an array whose first rows are replaced by a mirror image of the next ones.

    The border row is not repeated, as in `crmend._tiling.reflect`.
    """
    return np.pad(array[beyond:], ((beyond, 0), (0, 0)), mode="reflect")
