"""Charge that masks leave beside cosmic rays joins them, where an image's masks leave any."""

import numpy as np
import pytest

import crmend
from crmend._normalise import Scale
from crmend._rim_growth import STANDS_OUT, grow_rims
from crmend.models import load_card

NOISE, LEVEL = 2.0, 50.0
SCALE = Scale(LEVEL, NOISE)


def rays(part, number=400, seed=0):
    """Return sky with hits of two masked pixels, the mask, and the charge [noise].

    In every third of them `part` of the charge is in the pixel to the right, too.
    """
    rng = np.random.default_rng(seed)
    charge = np.zeros((240, 240))
    mask = np.zeros(charge.shape, bool)
    places = [(y, x) for y in range(4, 235, 9) for x in range(4, 235, 9)]
    for i, k in enumerate(rng.permutation(len(places))[:number]):
        y, x = places[k]
        charge[y, x : x + 2] = rng.uniform(60.0, 300.0)
        mask[y, x : x + 2] = True
        if i % 3 == 0:
            charge[y, x + 2] = part * charge[y, x]
    image = LEVEL + NOISE * (charge + rng.normal(size=charge.shape))
    return image.astype(np.float32), mask, charge


def stars(shape, number, peak, seed=1):
    """Return the light of stars, 2.4 px wide (FWHM) [noise]."""
    rng = np.random.default_rng(seed)
    light = np.zeros(shape)
    rows, columns = np.indices((11, 11)) - 5
    for y, x in rng.integers(6, np.array(shape) - 6, (number, 2)):
        light[y - 5 : y + 6, x - 5 : x + 6] += peak * np.exp(-0.5 * (rows**2 + columns**2))
    return light


def grown(image, mask, excluded=None):
    """Return the pixels that join the mask."""
    excluded = np.zeros(mask.shape, bool) if excluded is None else excluded
    own, before = mask.copy(), image.copy()
    count = grow_rims(image, own, excluded, SCALE)
    assert np.array_equal(image, before, equal_nan=True)
    assert not (mask & ~own).any()
    assert count == np.count_nonzero(own & ~mask)
    return own & ~mask


def test_pixels_that_hold_charge_join_the_mask():
    image, mask, charge = rays(0.1)
    added = grown(image, mask)
    left = (charge > STANDS_OUT + 3.0) & ~mask
    assert np.count_nonzero(left) > 100
    assert added[left].mean() > 0.98
    assert np.count_nonzero(added & (charge == 0.0)) < 0.1 * np.count_nonzero(added)


def test_masks_that_leave_nothing_stay_as_they_are():
    assert not grown(*rays(0.0)[:2]).any()


def test_few_rims_are_chance():
    """Of 400 cosmic rays two have charge beside them: that says nothing of the others."""
    image, mask, _ = rays(0.0)
    for y, x in np.argwhere(mask)[[0, 100]]:
        image[y - 1, x] += 10.0 * NOISE
    assert not grown(image, mask).any()


def test_no_cosmic_ray_no_rim():
    image = rays(0.0)[0]
    assert not grown(image, np.zeros(image.shape, bool)).any()


def test_bad_and_saturated_pixels_never_join():
    image, mask, charge = rays(0.1)
    excluded = (charge > 0.0) & ~mask & (np.indices(mask.shape)[0] < 120)
    image[excluded] = np.nan
    added = grown(image, mask, excluded)
    assert not (added & excluded).any()
    assert added.any()


@pytest.mark.parametrize(("number", "least"), [(15, 0.95), (300, 0.8), (1500, 0.6)])
def test_wings_of_stars_beside_masks_do_not_join(number, least):
    """They look like rims; where there are many the rest of the rim must be dark."""
    light = NOISE * stars((240, 240), number, 12.0)
    image, mask, charge = rays(0.1)
    added = grown((image + light).astype(np.float32), mask)
    left = (charge > STANDS_OUT + 3.0) & ~mask
    assert added[left].mean() > least
    assert np.count_nonzero(added & (charge == 0.0)) < 0.1 * np.count_nonzero(added)
    image, mask, _ = rays(0.0)
    assert not grown((image + light).astype(np.float32), mask).any()


def test_light_on_all_sides_of_a_mask_is_a_star():
    image, mask, _ = rays(0.1)
    y, x = 4 + 9 * 12, 4 + 9 * 12
    window = np.s_[y - 8 : y + 9, x - 8 : x + 9]
    rng = np.random.default_rng(5)
    image[window], mask[window] = LEVEL + NOISE * rng.normal(size=(17, 17)), False
    mask[y, x : x + 2] = True
    rows, columns = np.indices(mask.shape)
    beside = (abs(rows - y) <= 1) & (columns >= x - 1) & (columns <= x + 2)
    image[beside & ~mask] += 12.0 * NOISE
    image[mask & beside] += 100.0 * NOISE
    assert np.count_nonzero(beside & ~mask) == 10  # all of them stand out
    added = grown(image, mask)
    assert added.any()
    assert not added[window].any()


def test_slopes_are_no_rims():
    """A sky that rises by 40 noises over the image."""
    image, mask, charge = rays(0.1)
    slope = np.linspace(0.0, 40.0 * NOISE, image.shape[1], dtype=np.float32)
    added = grown(image + slope, mask)
    left = (charge > STANDS_OUT + 3.0) & ~mask
    assert added[left].mean() > 0.95
    assert not grown(rays(0.0)[0] + slope, mask).any()


def tracks(seed=3):
    """Return a frame of sky and tracks [e-], and the charge, of which a tenth goes farther."""
    rng = np.random.default_rng(seed)
    side = 512
    charge = np.zeros((side, side))
    for _ in range(160):
        y, x = rng.uniform(20, side - 20, 2)
        length, angle = rng.uniform(4.0, 20.0), rng.uniform(0.0, np.pi)
        along = np.linspace(-0.5, 0.5, int(40 * length)) * length
        diffusion = np.where(rng.uniform(size=along.size) < 0.1, 0.9, 0.25)
        packets = rng.normal(0.0, diffusion, (2, along.size))
        rows = np.round(y + along * np.sin(angle) + packets[0]).astype(int)
        columns = np.round(x + along * np.cos(angle) + packets[1]).astype(int)
        np.add.at(charge, (rows, columns), 4000.0 / 40.0)
    frame = rng.poisson(charge + 80.0) + rng.normal(0.0, 5.0, charge.shape)
    return frame, charge


def test_detection_grows_rims_of_a_detector_it_does_not_know():
    frame, charge = tracks()
    lit = charge > 5.0 * np.sqrt(80.0 + 25.0)
    one = {"seed_threshold": load_card("csst_msc", 8).finder.seed_threshold}
    for network_alone, least in ((one, 0.05), ({}, 0.02)):
        network, found = (
            crmend.detect(frame, detector=8, star_cores=cores, **network_alone).cr_mask
            for cores in (False, None)
        )
        assert not (network & ~found).any()
        assert found[lit].mean() > network[lit].mean() + least
        assert found[lit].mean() > 0.96
    added = found & ~network
    assert np.count_nonzero(added & (charge == 0.0)) < 0.1 * np.count_nonzero(added)
    cleaned = crmend.clean(frame, detector=8)
    assert np.array_equal(cleaned.cr_mask, found)
    assert cleaned.stats.rim_pixels_added == np.count_nonzero(added)
    assert crmend.clean(frame, detector=8, star_cores=False).stats.rim_pixels_added is None
