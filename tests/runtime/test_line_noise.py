"""Lines whose light was subtracted keep their noise."""

import numpy as np
import pytest

import crmend
from crmend._line_noise import even_noise
from crmend._normalise import measure_scale

SHAPE = (400, 300)


def noisy_lines(lean: float = 0.0) -> np.ndarray:
    """Return (ny, nx) noise: 6 and, on every fifteenth column and two beside it, 45."""
    rng = np.random.default_rng(5)
    y, x = np.indices(SHAPE)
    sigma = np.where(np.round(x + lean * y) % 15 < 3, 45.0, 6.0)
    return rng.normal(100.0, sigma).astype(np.float32)


def even(image: np.ndarray, invalid: np.ndarray | None = None):
    invalid = np.zeros(image.shape, bool) if invalid is None else invalid
    return even_noise(image, invalid, measure_scale(image, invalid))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("lean", [0.0, 0.03])
def test_noisy_lines_become_as_noisy_as_the_others(lean, turned):
    image = noisy_lines(lean)
    image = np.ascontiguousarray(image.T) if turned else image
    before = image.copy()
    evened, scale = even(image)
    np.testing.assert_array_equal(image, before)
    assert scale.noise == pytest.approx(6.0, rel=0.15)
    assert np.mean(np.abs(image - 100.0) > 30.0) > 0.08
    assert np.mean(np.abs(evened - 100.0) > 30.0) < (1e-4 if lean == 0.0 else 0.01)


def test_cosmic_rays_are_found_between_and_on_them():
    image = noisy_lines()
    truth = np.zeros(SHAPE, bool)
    for row in range(20, 390, 37):
        truth[row, 40:52] = True
    image[truth] += 900.0
    found = crmend.detect(image, model="generic").cr_mask
    assert found[truth].mean() > 0.9
    assert np.count_nonzero(found & ~truth) < 10


def test_an_even_image_is_returned_itself():
    image = np.random.default_rng(1).normal(100.0, 6.0, SHAPE).astype(np.float32)
    assert even(image)[0] is image


def test_bright_lines_are_light_and_left_alone():
    image = noisy_lines()
    bright = np.arange(SHAPE[1]) % 15 < 3
    image[:, bright] += 2000.0
    assert even(image)[0] is image


def test_noise_that_does_not_go_on_is_left_alone():
    rng = np.random.default_rng(2)
    spots = rng.random((SHAPE[0] // 20, SHAPE[1] // 20)) < 0.1
    sigma = np.where(np.kron(spots, np.ones((20, 20))), 45.0, 6.0)
    image = rng.normal(100.0, sigma).astype(np.float32)
    assert even(image)[0] is image


def test_pixels_without_a_value_stay_so():
    image = noisy_lines()
    invalid = np.zeros(SHAPE, bool)
    invalid[:, 100:103] = invalid[50:90] = True
    image[invalid] = np.nan
    evened, _ = even(image, invalid)
    assert evened is not image
    np.testing.assert_array_equal(np.isnan(evened), invalid)


def test_a_column_without_any_value_is_left_out():
    image = noisy_lines()
    image[:, 150] = np.inf
    invalid = ~np.isfinite(image)
    evened, scale = even(image, invalid)
    assert np.isfinite(evened[~invalid]).all()
    assert scale.noise == pytest.approx(6.0, rel=0.15)
