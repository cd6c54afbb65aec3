"""How much of a cosmic ray's charge the masks of an image leave beside them."""

import numpy as np
import pytest
from scipy import ndimage

from crmend._rims import LEAST_RIMS, TAIL, TYPICAL_RIM, charge_beside, measure_rim

NOISE = 2.0
SQUARE = np.ones((3, 3))


def rays(part, number=300, seed=0):
    """Return an image of sky 50 with hits of one masked pixel, and the mask.

    In every tenth of them `part` of the charge is in the pixel to the right.
    """
    rng = np.random.default_rng(seed)
    image = rng.normal(50.0, NOISE, (200, 300))
    places = rng.permutation([(y, x) for y in range(3, 198, 6) for x in range(3, 295, 6)])[
        :number
    ]
    mask = np.zeros(image.shape, bool)
    for i, (y, x) in enumerate(places):
        charge = rng.uniform(100.0, 300.0) * NOISE
        image[y, x] += charge
        mask[y, x] = True
        if i % 10 == 0:
            image[y, x + 1] += part * charge
    return image.astype(np.float32), mask


def measure(image, mask, excluded=None):
    excluded = np.zeros(image.shape, bool) if excluded is None else excluded
    candidates = np.flatnonzero(mask & ~excluded)
    levels = np.full(candidates.size, 50.0, np.float32)
    return measure_rim(image, mask, excluded, levels, NOISE, candidates)


def test_masks_that_hold_all_charge_leave_nothing():
    assert measure(*rays(0.0)) < 0.005


@pytest.mark.parametrize("part", [0.05, 0.2])
def test_the_rim_is_the_part_that_one_pixel_in_eighty_holds(part):
    """Such a pixel holds three times its error, so that the error is a third of its part."""
    assert measure(*rays(part)) == pytest.approx(TAIL * part / 3.0, rel=0.35)


def test_light_that_goes_on_beyond_the_rim_is_no_charge():
    """Stars of 30 noises beside every tenth cosmic ray: a crowded field."""
    image, mask = rays(0.0)
    rows, columns = np.indices(image.shape)
    for y, x in np.argwhere(mask)[::10]:
        light = np.exp(-0.5 * ((rows - y - 2) ** 2 + (columns - x - 2) ** 2) / 1.5**2)
        image += (30.0 * NOISE * light).astype(np.float32)
    assert measure(image, mask) < 0.05
    assert measure(image + rays(0.2)[0] - rays(0.0)[0], mask) > 0.2


def test_few_cosmic_rays_tell_nothing():
    image, mask = rays(0.0, number=LEAST_RIMS // 9)
    assert measure(image, mask) == TYPICAL_RIM
    image, mask = rays(0.0)
    assert measure(image, np.zeros_like(mask)) == TYPICAL_RIM


def test_faint_hits_and_bad_pixels_take_no_part():
    image, mask = rays(0.2)
    faint = np.where(mask, np.float32(50.0), image)
    assert measure(faint, mask) == TYPICAL_RIM
    beside = ndimage.binary_dilation(mask, SQUARE) & ~mask
    image[beside] = np.nan
    assert measure(image, mask, beside) == TYPICAL_RIM


def test_charge_is_that_of_masked_neighbours():
    image = np.full((5, 5), 50.0, np.float32)
    mask, excluded = np.zeros((2, 5, 5), bool)
    mask[1, 1:4] = True
    image[1, 1:4] = 50.0 + NOISE * np.array([10.0, 100.0, -5.0])
    assert charge_beside(image, mask, excluded, 2, 2, 50.0, NOISE) == pytest.approx(105.0)
    image[1, 1] = np.nan
    assert charge_beside(image, mask, excluded, 2, 2, 50.0, NOISE) == pytest.approx(150.0)
    assert charge_beside(image, mask, excluded, 4, 0, 50.0, NOISE) == 0.0
    excluded[1, 2] = True
    assert charge_beside(image, mask, excluded, 2, 2, 50.0, NOISE) == pytest.approx(50.0)
