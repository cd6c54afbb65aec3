"""Amplifiers of a higher level are lowered, and what light makes is left."""

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend._amplifiers import find_parts
from crmend.cli import main

NOISE = 5.0
SHAPE = (300, 330)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


@pytest.fixture
def sky():
    return np.random.default_rng(1).normal(100.0, NOISE, SHAPE).astype(np.float32)


def parts_of(image):
    image = np.asarray(image, np.float32)
    return find_parts(image, ~np.isfinite(image))


@pytest.mark.parametrize("step", [6.0, 20.0, 100.0, 1000.0, 1e5])
@pytest.mark.parametrize(
    "high",
    [X >= 201, X < 117, Y >= 220, (X >= 165) & (Y < 150), (X >= 110) & (X < 220)],
)
def test_a_higher_part_is_lowered_up_to_its_edge(sky, high, step):
    image = (sky + step * NOISE * high).astype(np.float32)
    lowered = parts_of(image).lowered(image)
    off = lowered - sky
    rounding = 4.0 * np.finfo(np.float32).eps * step * NOISE
    assert np.abs(off[high] - off[high][0]).max() <= rounding + 1e-4
    assert np.abs(off[high]).max() < 0.5 * NOISE
    assert (off[~high] == 0.0).all()


def test_each_part_has_its_own_level(sky):
    steps = np.array([[0.0, 30.0], [300.0, -40.0]])
    image = sky + NOISE * steps[(Y >= 200).astype(int), (X >= 221).astype(int)]
    parts = parts_of(image)
    assert (parts.rows.tolist(), parts.columns.tolist()) == ([0, 200, 300], [0, 221, 330])
    # What is lower is left to `crmend._lows`.
    np.testing.assert_allclose(parts.heights / NOISE, np.maximum(steps, 0.0), atol=0.5)


def test_two_halves(sky):
    image = sky + 1000.0 * NOISE * (X >= 165)
    assert parts_of(image).heights[0] / NOISE == pytest.approx([0.0, 1000.0], abs=0.5)


def nebula():
    return 400.0 * np.exp(-((X - 90) ** 2 + (Y - 90) ** 2) / 2 / 30**2)


def blurred(step, fwhm):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(step.astype(float), fwhm / 2.355)


@pytest.mark.parametrize(
    "light",
    [
        0.0 * X,
        nebula(),
        0.5 * X,
        40.0 * NOISE * (X == 100),  # a bad column
        40.0 * NOISE * ((X >= 100) & (X < 104)),
        12.0 * NOISE * ((X >= 100) & (X < 106)),  # lines through a wide slit
        12.0 * NOISE * ((X % 66 >= 50) & (X % 66 < 57)),
        12.0 * NOISE * ((X >= 150) & (X < 170)) * np.clip((170 - X) / 10.0, 0.0, 1.0),
        200.0 * NOISE * blurred(X >= 150, 1.5),  # slitlets, field stops, lines
        200.0 * NOISE * blurred((Y >= 100) & (Y < 140), 1.5),
        200.0 * NOISE * blurred((Y // 40) % 2, 2.0),
        200.0 * NOISE * blurred(X % 30 < 3, 1.5),
        100.0 * NOISE * (np.hypot(X - 165, Y - 150) < 100),
        100.0 * NOISE * (X + 0.05 * Y > 150),
        40.0 * NOISE * ((Y > 100) & (Y < 120) & (X > 100) & (X < 120)),
        2.0 * NOISE * (X >= 201),
        -20.0 * NOISE * (X < 100),  # lower
        -500.0 * (X >= 310),  # overscan
    ],
)
def test_light_and_what_is_lower_stay(sky, light):
    image = (sky + light).astype(np.float32)
    assert parts_of(image).lowered(image) is image
    digits = np.round(image)
    assert parts_of(digits).lowered(digits) is digits


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (33, 31), (64, 1)])
def test_small_images_and_such_without_a_valid_pixel(shape):
    image = np.random.default_rng(2).normal(0.0, 1.0, shape).astype(np.float32)
    for unusable in (np.zeros(shape, bool), np.ones(shape, bool)):
        assert find_parts(image, unusable).lowered(image) is image


def test_missing_and_huge_pixels_tell_nothing(sky):
    image = (sky + 50.0 * NOISE * (X >= 201)).astype(np.float32)
    image[50:60, 190:210] = np.nan
    image[200, 100:300:7], image[201, 100:300:7] = 3e38, -3e38
    assert parts_of(image).heights[0] / NOISE == pytest.approx([0.0, 50.0], abs=0.5)


@pytest.mark.parametrize("step", [20.0, 1000.0])
def test_cosmic_rays_are_found_and_mended_there_as_elsewhere(step, tmp_path):
    rng = np.random.default_rng(5)
    light = np.zeros(SHAPE)
    places, fluxes = rng.uniform(8, 292, (60, 2)), 10.0 ** rng.uniform(2.5, 4.5, 60)
    for (x, y), flux in zip(places, fluxes, strict=True):
        r2 = (X - x) ** 2 + (Y - y) ** 2
        light += flux / 7.5 / (1.0 + r2 / 3.0) ** 3
    flat = rng.normal(100.0 + light, np.sqrt(25.0 + light))
    for y, x in rng.integers(5, 290, (60, 2)):
        flat[y, x : x + 4] += 800.0
    high = step * NOISE * (X >= 201)
    base = crmend.clean(flat, model="generic")
    found = crmend.clean(flat + high, model="generic")
    assert np.count_nonzero(found.cr_mask != base.cr_mask) <= 2
    both = found.cr_mask & base.cr_mask
    np.testing.assert_allclose((found.image - high)[both], base.image[both], atol=NOISE)
    np.testing.assert_allclose(found.error[both], base.error[both], rtol=0.1)
    kept = (flat + high).astype(np.float32)[~found.cr_mask]
    assert (found.image[~found.cr_mask] == kept).all()
    same = crmend.detect(flat + high, model="generic")
    np.testing.assert_array_equal(same.cr_mask, found.cr_mask)
    fits.PrimaryHDU((flat + high).astype("f4")).writeto(tmp_path / "frame.fits")
    options = ["--instrument", "generic", "-o", str(tmp_path / "flags.fits")]
    assert main(["detect", str(tmp_path / "frame.fits"), *options]) == 0
    np.testing.assert_array_equal(
        fits.getdata(tmp_path / "flags.fits", "FLAG") > 0, found.cr_mask
    )
    mended = crmend.inpaint(flat + high, base.cr_mask, model="generic")
    np.testing.assert_allclose((mended.image - high)[both], base.image[both], atol=NOISE)
