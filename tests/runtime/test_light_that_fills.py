"""Frames without one background: nebulae that fill them, twilight."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import crmend
from crmend._lows import raise_lows
from crmend._normalise import measure_scale

SHAPE = (400, 360)


def nebula(seed: int) -> np.ndarray:
    """Return the light of a nebula [e-], with structure from 1.5 to 50 px."""
    rng = np.random.default_rng(seed)
    clouds = np.zeros(SHAPE)
    for size in (1.5, 3, 6, 12, 25, 50):
        smooth = gaussian_filter(rng.normal(size=SHAPE), size)
        clouds += smooth / smooth.std() * size**0.7
    return 2000.0 * np.exp(0.9 * clouds / clouds.std())


def exposed(light: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(100 + seed)
    return rng.normal(100.0 + light, np.sqrt(25.0 + light)).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_filaments_of_a_nebula_are_no_cosmic_rays(seed):
    image = exposed(nebula(seed), seed)
    assert np.count_nonzero(crmend.detect(image, model="generic").cr_mask) < 10


def test_cosmic_rays_on_a_nebula_are_found():
    light = nebula(2)
    image = exposed(light, 2)
    truth = np.zeros(SHAPE, bool)
    for row in range(15, 390, 31):
        truth[row, 100:112] = True
    image[truth] += 10.0 * np.sqrt(light[truth] + 25.0)
    found = crmend.detect(image, model="generic").cr_mask
    assert found[truth].mean() > 0.6
    assert np.count_nonzero(found & ~truth) < 30


def test_a_slope_through_a_frame_becomes_flat_and_sources_stay():
    y, x = np.indices(SHAPE)
    noise = np.random.default_rng(3).normal(0.0, 10.0, SHAPE)
    star = 500.0 * np.exp(-((y - 200) ** 2 + (x - 60) ** 2) / (2 * 1.5**2))
    image = (1000.0 + 5.0 * x + star + noise).astype(np.float32)
    before = image.copy()
    nothing = np.zeros(SHAPE, bool)
    flat, invalid = raise_lows(image, nothing, measure_scale(image, nothing))
    np.testing.assert_array_equal(image, before)
    assert not invalid.any()
    columns = np.median(flat, axis=0)[32:-32]
    assert np.ptp(columns) < 150.0  # of 1,500
    sky = np.median(flat[150:250, 40:80])
    assert flat[200, 60] - sky == pytest.approx(500.0, abs=60.0)
