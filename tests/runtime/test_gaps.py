"""The first fill of cosmic-ray pixels, and a sky that is not flat."""

import numpy as np
import pytest

import crmend
from crmend._background import measure_background
from crmend._gaps import median_fill
from crmend._kernels import MIN_GOOD, adaptive_median

NOISE = 6.0


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def plane(slope, shape=(256, 256)):
    rows, columns = np.indices(shape)
    return 200.0 + slope * (columns - 128.0) + 0.5 * slope * (rows - 128.0)


def squares(shape, width, step=64):
    mask = np.zeros(shape, bool)
    for y in range(32, shape[0] - width, step):
        for x in range(32, shape[1] - width, step):
            mask[y : y + width, x : x + width] = True
    return mask


def filled(image, mask, excluded=None, level=-1.0):
    image, excluded = (
        image.astype(np.float32),
        np.zeros_like(mask) if excluded is None else excluded,
    )
    spread = np.empty(mask.sum(), np.float32)
    median_fill(image, mask, excluded, MIN_GOOD, level, spread)
    return image, spread


@pytest.mark.parametrize("width", [1, 5, 10])
def test_small_holes_hold_the_adaptive_median(rng, width):
    mask = squares((256, 256), width)
    sky = (plane(0.2) + rng.normal(0.0, NOISE, mask.shape)).astype(np.float32)
    expected, spread = sky.copy(), np.empty(mask.sum(), np.float32)
    adaptive_median(expected, mask, np.zeros_like(mask), MIN_GOOD, -1.0, expected, spread)
    found, own = filled(sky, mask)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own, spread)


@pytest.mark.parametrize("width", [15, 25, 41])
def test_deep_holes_continue_a_plane(rng, width):
    mask = squares((256, 256), width)
    truth = plane(1.0)
    found, spread = filled(np.where(mask, 9e4, truth), mask)
    # A median of one side of a plane is off by some pixels' slope.
    assert np.abs(found - truth)[mask].max() < 6.0
    assert np.isfinite(spread).all()
    np.testing.assert_array_equal(found[~mask], truth[~mask].astype(np.float32))


def test_what_is_excluded_around_a_hole_is_not_continued(rng):
    mask = squares((256, 256), 25)
    excluded = np.zeros_like(mask)
    excluded[32:57, 26:32] = True
    image = np.where(excluded, 6e4, 200.0)
    assert np.abs(filled(image, mask, excluded)[0] - 200.0)[mask].max() < 1e-3


def test_without_a_good_pixel_the_level_is_left():
    mask = np.ones((40, 30), bool)
    found, spread = filled(np.full(mask.shape, 7.0), mask, level=3.0)
    np.testing.assert_array_equal(found, 3.0)
    assert np.isnan(spread).all()


# --- the whole of mending ------------------------------------------------------------


@pytest.mark.parametrize("stars", [False, True])
def test_wide_holes_on_a_tilted_sky_hold_sky_and_true_errors(rng, stars):
    """Their middle once held the frame's mean level, which passed for a source."""
    truth = plane(0.25, (512, 512))
    if stars:
        rows, columns = np.indices(truth.shape)
        for y, x in [(y, x) for y in range(20, 512, 64) for x in range(14, 512, 64)]:
            truth += 800.0 * np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / 1.1**2)
    sky = truth + rng.normal(0.0, NOISE, truth.shape)
    mask = squares(truth.shape, 25, 128)
    done = crmend.inpaint(np.where(mask, 9e4, sky), mask, model="generic", threads=1)
    off = np.abs(done.image - truth)[mask]
    assert off.max() < 8.0 * NOISE
    assert np.median(off) < 0.5 * NOISE
    assert (off < 5.0 * done.error[mask]).all()


def test_a_glow_is_no_source_below_a_wide_hole(rng):
    rows, columns = np.indices((512, 512))
    truth = 200.0 + 2000.0 * np.exp(-0.5 * np.hypot(rows - 256, columns - 256) ** 2 / 60.0**2)
    sky = truth + rng.normal(0.0, NOISE, truth.shape)
    mask = np.zeros(truth.shape, bool)
    mask[244:269, 288:313] = mask[288:313, 228:253] = True
    done = crmend.inpaint(np.where(mask, 9e4, sky), mask, model="generic", threads=1)
    # One invented peak was three times as high as the glow.
    assert np.abs(done.image - truth)[mask].max() < 0.35 * 2000.0


# --- the surface below sources -------------------------------------------------------


@pytest.mark.parametrize("shape", [(700, 900), (2600, 2500)])
def test_the_surface_follows_the_sky_and_not_a_cluster(rng, shape):
    rows, columns = np.indices(shape)
    y, x = rows / shape[0], columns / shape[1]
    sky = 100.0 + 40.0 * x + 20.0 * y * y - 30.0 * x * y
    cluster = 500.0 * np.exp(-0.5 * ((rows - 300) ** 2 + (columns - 400) ** 2) / 50.0**2)
    image = (sky + cluster + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    surface = measure_background(image, np.zeros(shape, bool)).surface()
    found = surface.at(np.arange(0, shape[0], 10), np.arange(0, shape[1], 10))
    np.testing.assert_allclose(found, sky[::10, ::10], atol=5.0)
    pixel = surface.of(np.array([17, 80]), np.array([300, 5]))
    np.testing.assert_allclose(
        pixel, surface.at(np.array([17, 80]), np.array([300, 5])).diagonal()
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64), (300, 300)])
def test_small_images_have_a_level_or_a_plane(shape):
    image = np.full(shape, 50.0, np.float32)
    surface = measure_background(image, np.zeros(shape, bool)).surface()
    rows, columns = (np.arange(n) for n in shape)
    np.testing.assert_allclose(surface.at(rows, columns), 50.0, rtol=1e-5)
