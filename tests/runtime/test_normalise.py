"""The shared normalisation against known backgrounds and noise."""

import numpy as np
import pytest

from crmend._normalise import (
    Scale,
    measure_least_scale,
    measure_scale,
    to_detect_input,
    to_noise_units,
)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(3).normal(100.0, 5.0, (400, 300)).astype(np.float32)


def valid(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, bool)


def test_noise_and_background_of_plain_noise(noise):
    scale = measure_scale(noise, valid(noise))
    assert scale.background == pytest.approx(100.0, abs=0.1)
    assert scale.noise == pytest.approx(5.0, rel=0.01)


def test_stars_cosmic_rays_and_a_gradient_hardly_count(noise):
    rng = np.random.default_rng(4)
    image = noise + np.linspace(0, 20, noise.shape[1], dtype=np.float32)
    image[rng.random(image.shape) < 0.02] += 3000.0
    scale = measure_scale(image, valid(image))
    assert scale.noise == pytest.approx(5.0, rel=0.05)
    assert scale.background == pytest.approx(110.0, abs=1.5)


def test_invalid_pixels_are_left_out(noise):
    image = noise.copy()
    invalid = valid(image)
    invalid[:, ::7] = True
    image[invalid] = np.nan
    scale = measure_scale(image, invalid)
    assert scale.noise == pytest.approx(5.0, rel=0.02)
    assert scale.background == pytest.approx(100.0, abs=0.1)


@pytest.mark.parametrize("gain", [1e-18, 0.25, 1e6])
def test_the_unit_does_not_matter(noise, gain):
    first = to_noise_units(noise, measure_scale(noise, valid(noise)))
    scaled = noise * np.float32(gain)
    second = to_noise_units(scaled, measure_scale(scaled, valid(scaled)))
    # The scale is rounded to three digits, hence not closer.
    assert np.abs(first - second).max() < 0.05


@pytest.mark.parametrize("gain", [2.0, 4.0, 6.0])
def test_coarse_digits_after_a_flat_field_are_not_the_noise(gain):
    rng = np.random.default_rng(3)
    electrons = rng.normal(300.0, 1.5, (400, 400))
    flat = rng.normal(1.0, 2e-4, electrons.shape)
    image = (np.rint(electrons / gain) * gain / flat).astype(np.float32)
    scale = measure_scale(image, np.zeros(image.shape, bool))
    # Rounding adds gain² / 12 to the variance where digits are finer than the noise.
    assert scale.noise == pytest.approx(image.std(), rel=0.1)


@pytest.mark.parametrize("scale", [1.0, 0.37, 64.0])
@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.23])
def test_digits_coarser_than_the_noise_are_the_noise(sigma, scale):
    rng = np.random.default_rng(3)
    sky = rng.normal(5.0, sigma, (300, 300))
    stars = rng.choice(sky.size, 900, replace=False)
    sky.flat[stars] += rng.pareto(1.0, stars.size)
    image = (np.rint(sky) * scale).astype(np.float32)
    found = measure_scale(image, valid(image))
    assert found.noise == pytest.approx(scale, rel=0.01)
    assert found.background == pytest.approx(5.0 * scale, abs=0.01 * scale)


@pytest.mark.parametrize(("step", "zero"), [(1.0, 0.0), (1.0, 7.0), (0.37, -3.0)])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.15])
def test_few_counted_photons_have_a_noise_of_one(rate, step, zero):
    counts = np.random.default_rng(3).poisson(rate, (400, 400))
    image = (counts * step + zero).astype(np.float32)
    scale = measure_scale(image, valid(image))
    assert scale.noise == pytest.approx(step, rel=0.01)
    assert scale.background == pytest.approx(zero, abs=0.01 * step)
    assert scale.digit
    one = np.minimum(counts, 1).astype(np.float32)
    assert measure_scale(one, valid(one)).noise == 1.0


def test_two_levels_are_digits_only_where_they_are_counts():
    image = np.full((100, 100), 5.0, np.float32)
    image[40, 40:60] = 500.0
    assert measure_scale(image, valid(image)).noise < 1.0
    assert not measure_scale(image, valid(image)).digit
    image[60, 40:60] = 900.0
    assert measure_scale(image, valid(image)).noise < 1.0


def test_a_noise_that_is_measured_is_no_digit():
    rng = np.random.default_rng(3)
    sky, counts = rng.normal(5.0, 1.0, (300, 300)), rng.poisson(0.5, (300, 300))
    for image in (sky, counts, np.ones((9, 9))):
        image = image.astype(np.float32)
        assert not measure_scale(image, valid(image)).digit
    # A gap that was filled, in an image of whole numbers.
    image = np.rint(rng.normal(100.0, 5.0, (300, 300))).astype(np.float32)
    image[:200] = 0.0
    assert not measure_scale(image, valid(image)).digit


def test_equal_neighbours_alone_are_no_digits():
    """Two thirds of a frame are a gap that was filled; the rest has values of any kind."""
    image = np.full((300, 300), 0.0, np.float32)
    image[:100] = np.random.default_rng(3).normal(100.0, 5.0, (100, 300))
    assert measure_scale(image, image == 0.0).noise == pytest.approx(5.0, rel=0.02)
    assert measure_scale(image, valid(image)).noise < 20.0


def test_spectra_along_either_axis_have_one_noise(noise):
    columns = np.arange(noise.shape[1])
    traces = (200.0 * np.exp(-0.5 * ((columns % 8 - 4) / 1.5) ** 2)).astype(np.float32)
    image = noise + traces
    assert measure_scale(image, valid(image)).noise > 20.0
    along, turned = (measure_least_scale(one, valid(one)) for one in (image, image.T))
    assert along == turned == measure_scale(image.T, valid(image.T))
    assert along.noise == pytest.approx(5.0, rel=0.03)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (2, 2)])
def test_lines_and_points_have_one_noise(noise, shape):
    image = noise[: shape[0], : shape[1]].copy()
    scales = [measure_least_scale(image, valid(image)), measure_scale(image, valid(image))]
    assert scales[0].noise > 0
    assert scales[0] == scales[1] or shape == (2, 2)


def test_noise_without_a_direction_is_measured_along_rows(noise):
    for image in (noise, noise.T):
        assert measure_least_scale(image, valid(image)) == measure_scale(image, valid(image))


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_constant_image_becomes_zero(value):
    image = np.full((20, 30), value, np.float32)
    scale = measure_scale(image, valid(image))
    assert scale.noise > 0
    assert np.abs(to_detect_input(image, scale)).max() < 1e-3


def test_one_pixel_has_a_scale():
    image = np.array([[5.0]], np.float32)
    scale = measure_scale(image, valid(image))
    assert np.isfinite(to_detect_input(image, scale)).all()


def test_the_detection_input_is_asinh_of_a_third_of_the_noise_units():
    scale = Scale(background=10.0, noise=2.0)
    image = np.array([[10.0, 10.0 + 6.0 * np.sinh(1.0), 10.0 - 6.0 * np.sinh(2.0)]], np.float32)
    before = image.copy()
    assert to_detect_input(image, scale) == pytest.approx(
        np.array([[0.0, 1.0, -2.0]]), abs=1e-6
    )
    assert np.array_equal(image, before)


def test_noise_units():
    scale = Scale(background=10.0, noise=2.0)
    image = np.array([[10.0, 16.0, 4.0]], np.float32)
    assert to_noise_units(image, scale).tolist() == [[0.0, 3.0, -3.0]]
