"""Bright pixels beside a mask, against loops and by hand."""

import numpy as np
import pytest

from crmend._beside import (
    BRIGHT,
    LEAST_BESIDE,
    MOST_BESIDE,
    SHARP,
    SHARP_LEAST,
    bright_beside,
)


def by_loops(mask, p, image, invalid, background, noise):
    """Return the flat indices and what is sharp, pixel by pixel."""
    ny, nx = image.shape
    pixels, sharp = [], []
    for y in range(ny):
        for x in range(nx):
            height = float(image[y, x]) - background
            if mask[y, x] or p[y, x] < SHARP_LEAST or height / noise < BRIGHT:
                continue
            around = [
                (v, u)
                for v in range(max(y - 1, 0), min(y + 2, ny))
                for u in range(max(x - 1, 0), min(x + 2, nx))
                if (v, u) != (y, x)
            ]
            if not any(mask[place] for place in around):
                continue
            beside = [
                float(image[place]) - background
                for place in around
                if not mask[place] and not invalid[place]
            ]
            pixels.append(y * nx + x)
            sharp.append(
                height >= SHARP * noise
                and len(beside) >= LEAST_BESIDE
                and max(beside) < MOST_BESIDE * height
            )
    return np.array(pixels, int), np.array(sharp, bool)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (2, 2), (47, 61)])
def test_as_by_loops(shape):
    rng = np.random.default_rng(39)
    mask = rng.random(shape) < 0.15
    p = rng.uniform(0.0, 0.1, shape).astype(np.float32)
    image = rng.normal(50.0, 2.0, shape).astype(np.float32)
    image[rng.random(shape) < 0.1] += 40.0
    invalid = rng.random(shape) < 0.05
    p[invalid] = 0.0
    image[invalid] = np.nan
    pixels, sharp = bright_beside(mask, p, image, invalid, 50.0, 2.0)
    wanted, towers = by_loops(mask, p, image, invalid, 50.0, 2.0)
    assert np.array_equal(pixels, wanted)
    assert np.array_equal(sharp, towers)
    if shape == (47, 61):
        assert 0 < sharp.sum() < sharp.size


def scene():
    """Return a track's mask, a probability, and a sky of noise 1 with one pixel beside it."""
    mask = np.zeros((15, 15), bool)
    mask[7, 2:7] = True
    p = np.full(mask.shape, 0.05, np.float32)
    image = np.zeros(mask.shape, np.float32)
    image[mask] = 100.0
    image[7, 7] = 12.0
    return mask, p, image


def test_a_pixel_alone_is_sharp_and_the_wing_of_a_star_is_not():
    mask, p, image = scene()
    invalid = np.zeros(mask.shape, bool)
    pixels, sharp = bright_beside(mask, p, image, invalid, 0.0, 1.0)
    assert pixels.tolist() == [7 * 15 + 7]
    assert sharp.all()
    # A star's light goes on: the next pixel has more than 0.3 of it.
    image[7, 8] = 5.0
    assert not bright_beside(mask, p, image, invalid, 0.0, 1.0)[1][0]
    # Of a saturated neighbour the network says nothing, but it is bright.
    image[7, 8], image[6, 8], p[6, 8] = 0.0, 5000.0, 0.0
    assert not bright_beside(mask, p, image, invalid, 0.0, 1.0)[1][0]


def test_what_is_no_candidate():
    mask, p, image = scene()
    invalid = np.zeros(mask.shape, bool)
    apart = np.roll(mask, 3, axis=0)
    assert bright_beside(apart, p, image, invalid, 0.0, 1.0)[0].size == 0
    assert bright_beside(mask, p * 0.1, image, invalid, 0.0, 1.0)[0].size == 0
    assert bright_beside(mask, p, image / 5.0, invalid, 0.0, 1.0)[0].size == 0
    faint = image / 3.0
    assert bright_beside(mask, p, faint, invalid, 0.0, 1.0)[0].size == 1
    assert not bright_beside(mask, p, faint, invalid, 0.0, 1.0)[1][0]
