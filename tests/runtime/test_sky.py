"""Cosmic-ray pixels of the sky filled by weighted means."""

import numpy as np
import pytest
from scipy import ndimage

from crmend import _sky
from crmend._background import measure_background
from crmend._kernels import SKY_GOOD, adaptive_median
from crmend._normalise import Scale
from crmend._sky import fill_sky

SHAPE = (150, 170)
NOISE = 3.0


@pytest.fixture
def sky():
    """Return a noisy sky of 50 without CRs, a mask, invalid and all excluded pixels."""
    rng = np.random.default_rng(8)
    image = rng.normal(50.0, NOISE, SHAPE).astype(np.float32)
    cr_mask = rng.random(SHAPE) < 0.02
    invalid = rng.random(SHAPE) < 0.003
    saturated = rng.random(SHAPE) < 0.003
    image[invalid] = np.nan
    image[saturated & ~invalid] = 9e3
    return image, cr_mask & ~invalid, invalid, invalid | saturated


def filled(image, cr_mask, invalid, excluded, spread=None, **options):
    """Return the image with CR pixels as `fill_sky` leaves them; before, they are 51."""
    image = np.where(cr_mask, np.float32(51.0), image)
    spread = np.zeros(np.count_nonzero(cr_mask), np.float32) if spread is None else spread
    fill_sky(image, cr_mask, invalid, excluded, Scale(50.0, NOISE), spread, **options)
    return image


def expected_means(image, cr_mask, invalid, excluded):
    """Return both means and the S/N of a source by numpy, for every pixel."""
    start = np.where(cr_mask, np.float32(51.0), image)
    level = measure_background(start, invalid).rows(0, *image.shape)
    good = ~cr_mask & ~excluded
    clear = good & ~ndimage.binary_dilation(cr_mask, np.ones((3, 3)))
    value = np.where(good, (image - level) / NOISE, 0.0)

    def sums(weights, kept, low, high):
        arrays = np.where(kept, np.clip(value, low, high), 0.0), kept.astype(float)
        return [ndimage.convolve(array, weights, mode="constant") for array in arrays]

    def gaussian(sigma):
        return np.exp(-0.5 * np.add.outer(*[np.arange(-6, 7) ** 2] * 2) / sigma**2)

    means = [
        level + NOISE * np.divide(*sums(gaussian(sigma), kept, *clip))
        for sigma, kept, clip in ((2.5, clear, (-3, 3)), (1.0, good, (-5, 8)))
    ]
    matched, _ = sums(gaussian(2.0), clear, -5, 8)
    _, squares = sums(gaussian(2.0) ** 2, clear, -5, 8)
    return *means, matched / np.sqrt(squares)


@pytest.mark.parametrize("rows", [512, 11])
@pytest.mark.parametrize("threads", [1, 3])
def test_means_are_those_of_numpy(sky, rows, threads, monkeypatch):
    monkeypatch.setattr(_sky, "_ROWS", rows)
    image, cr_mask, *_ = sky
    found = filled(*sky, threads=threads)
    wide, narrow, snr = expected_means(*sky)
    expected = np.where((snr > 2.0) | (snr < -3.0), narrow, wide)
    assert np.count_nonzero(snr[cr_mask] < -3.0) < np.count_nonzero(cr_mask) / 100
    assert 5 < np.count_nonzero(snr[cr_mask] > 2.0) < np.count_nonzero(cr_mask) / 5
    np.testing.assert_allclose(found[cr_mask], expected[cr_mask], rtol=1e-5)
    np.testing.assert_array_equal(found[~cr_mask], image[~cr_mask])


def test_the_rim_of_a_cosmic_ray_takes_no_part(sky):
    image, cr_mask, invalid, excluded = sky
    cr_mask[:], excluded[:], invalid[:] = False, False, False
    image[:] = np.nan_to_num(image, nan=50.0)
    image[image > 1e3] = 50.0
    cr_mask[70:73, 80:84] = True
    lit = image.copy()
    lit[69:74, 79:85] += 2.0 * NOISE
    plain, bright = (filled(one, cr_mask, invalid, excluded) for one in (image, lit))
    np.testing.assert_allclose(bright[cr_mask], plain[cr_mask], rtol=1e-4)


def test_a_faint_source_keeps_its_light(sky):
    image, cr_mask, invalid, excluded = sky
    y, x = 70, 80
    near = np.s_[y - 6 : y + 7, x - 6 : x + 7]
    for plane in (cr_mask, invalid, excluded):
        plane[near] = False
    image[near] = 50.0
    yy, xx = np.indices(SHAPE)
    image += (4.0 * NOISE * np.exp(-0.5 * np.hypot(yy - y, xx - x) ** 2 / 1.5**2)).astype("f4")
    cr_mask[y, x] = True
    value = filled(image, cr_mask, invalid, excluded)[y, x]
    assert 50.0 + 2.0 * NOISE < value < 50.0 + 4.0 * NOISE


def test_a_dark_lane_stays_dark(sky):
    """Of a nebula, 3 px wide: a wide mean would fill it in."""
    image, cr_mask, invalid, excluded = sky
    lane = -12.0 * np.exp(-0.5 * ((np.arange(SHAPE[1]) - 80.3) / 1.5) ** 2)
    cr_mask = np.zeros(SHAPE, bool)
    cr_mask[10:-10:7, 79:83] = True
    cr_mask &= ~invalid
    found = filled(image + lane.astype(np.float32), cr_mask, invalid, excluded)
    error = (found - 50.0 - lane)[cr_mask]
    assert abs(np.median(error)) < 0.7 * NOISE
    assert np.sqrt(np.mean(error**2)) < 1.2 * NOISE


def test_what_is_no_sky_keeps_its_median(sky):
    image, cr_mask, invalid, excluded = sky
    cr_mask[70, 80] = True
    image = np.where(cr_mask, np.float32(51.0), image)
    image[70, 80] = 50.0 + 6.0 * NOISE
    spread = np.full(np.count_nonzero(cr_mask), 7.0, np.float32)
    fill_sky(image, cr_mask, invalid, excluded, Scale(50.0, NOISE), spread)
    assert image[70, 80] == np.float32(50.0 + 6.0 * NOISE)
    assert spread[np.count_nonzero(cr_mask.ravel()[: 70 * SHAPE[1] + 80])] == 7.0


@pytest.mark.parametrize("rows", [512, 11])
def test_the_spread_is_that_above_the_background(sky, rows, monkeypatch):
    monkeypatch.setattr(_sky, "_ROWS", rows)
    image, cr_mask, invalid, excluded = sky
    expected, found = (np.full(np.count_nonzero(cr_mask), 7.0, "f4") for _ in range(2))
    found[::3] = 1.9 * NOISE
    start = np.where(cr_mask, np.float32(51.0), image)
    above = start - measure_background(start, invalid).rows(0, *SHAPE)
    adaptive_median(above, cr_mask, excluded, SKY_GOOD, 0.0, above, expected)
    filled(*sky, spread=found)
    expected[::3] = 1.9 * NOISE  # which noise explains
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_faint_light_raises_the_spread_and_empty_sky_does_not(sky):
    image, cr_mask, invalid, excluded = sky
    rows, columns = np.indices(SHAPE)
    sources = np.zeros(SHAPE)
    hit = np.zeros(SHAPE, bool)
    for y in range(20, SHAPE[0] - 15, 25):
        for x in range(20, SHAPE[1] - 15, 25):
            sources += np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / 1.5**2)
            hit[y : y + 2, x - 1 : x + 1] = True
    cr_mask = (cr_mask | hit) & ~invalid
    spread = np.zeros(np.count_nonzero(cr_mask), np.float32)
    filled(image + 4.0 * NOISE * sources, cr_mask, invalid, excluded, spread)
    raised = spread > _sky.STRUCTURE_ABOVE * NOISE
    assert raised[hit[cr_mask]].mean() > 0.8
    assert raised[sources[cr_mask] < 0.01].mean() < 0.02


def test_far_from_every_good_pixel_the_median_stays(sky):
    image, cr_mask, invalid, excluded = sky
    cr_mask[60:80, 70:90] = True
    found = filled(image, cr_mask, invalid, excluded)
    assert found[70, 80] == 51.0
    assert found[60, 70] != 51.0


@pytest.mark.parametrize("shape", [(1153, 1537), (1030, 1100), (300, 333)])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_the_background_holds_up_to_the_last_row_whatever_the_size(shape, slope):
    rows, columns = np.indices(shape)
    true = 100.0 + slope * (columns + rows)
    image = (true + np.random.default_rng(1).normal(size=shape)).astype(np.float32)
    measured = measure_background(image, np.zeros(shape, bool))
    # Noises; 160 at the corner of (1153, 1537) in meshes of 128.
    assert np.abs(measured.rows(0, *shape) - true).max() < 2.5
    assert np.abs(measured.surface().at(*map(np.arange, shape)) - true).max() < 1.5
