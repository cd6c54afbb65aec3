"""Broad light above the background: what stands on it is seen as on a dark sky."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, map_coordinates

import crmend
from crmend import _probability
from crmend._light import ABOVE, MESH, Light, find_light
from crmend._normalise import Scale, measure_scale
from crmend._tiling import make_grid

SKY, READ_NOISE, SIDE = 150.0, 5.0, 448


def galaxy() -> np.ndarray:
    """Return an elliptical galaxy of de Vaucouleurs' profile, as wide as the frame [e-]."""
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    radius = np.hypot(y, x / 0.85)
    return 1500.0 * np.exp(-7.67 * ((np.sqrt(radius**2 + 4.0) / 150.0) ** 0.25 - 1.0))


def with_clusters(light: np.ndarray, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return light with star clusters on it, and the pixels of their peaks."""
    rng = np.random.default_rng(2)
    y, x = np.indices(light.shape)
    places = []
    for angle in np.arange(0.0, 60.0, 0.9):
        distance = 30.0 + 2.6 * angle
        y0, x0 = SIDE / 2 + distance * np.sin(angle), SIDE / 2 + distance * np.cos(angle)
        row, column = round(y0), round(x0)
        peak = rng.uniform(15.0, 60.0) * np.sqrt(light[row, column] + SKY)
        square = (y - y0) ** 2 + (x - x0) ** 2
        width = 0.5 * fwhm / np.sqrt(2.0 ** (1 / 3.0) - 1.0)
        light = light + peak * (1.0 + square / width**2) ** -3.0
        places.append((row, column))
    return light, np.array(places)


def exposed(light: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    noisy = rng.poisson(light + SKY) + rng.normal(0.0, READ_NOISE, light.shape)
    return noisy.astype(np.float32)


def struck(image: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with short tracks of ten noises of the light, and where they are."""
    truth = np.zeros(image.shape, bool)
    for number, row in enumerate(range(20, SIDE - 20, 24)):
        for column in range(20 + 7 * (number % 3), SIDE - 30, 36):
            truth[row, column : column + 6] = True
    return image + np.where(truth, 10.0 * np.sqrt(light + SKY), 0.0).astype(np.float32), truth


def flagged(mask: np.ndarray, places: np.ndarray) -> int:
    return sum(mask[y - 1 : y + 2, x - 1 : x + 2].any() for y, x in places)


@pytest.mark.parametrize(
    ("chosen", "now", "before"), [({"model": "generic"}, 4, 20), ({"detector": 8}, 5, 25)]
)
def test_star_clusters_on_a_galaxy_are_no_cosmic_rays(monkeypatch, chosen, now, before):
    image, places = with_clusters(galaxy(), fwhm=2.0)
    image = exposed(image)
    assert flagged(crmend.detect(image, views=1, **chosen).cr_mask, places) <= now
    monkeypatch.setattr(_probability, "find_light", lambda *args: None)
    # CSST's fast network alone: DeepCR knows half of them for what they are, light or not.
    alone = chosen | ({"seed_threshold": 0.8} if "detector" in chosen else {})
    assert flagged(crmend.detect(image, views=1, **alone).cr_mask, places) >= before


def test_cosmic_rays_on_a_galaxy_are_found(monkeypatch):
    light = galaxy()
    image, truth = struck(exposed(light), light)
    bright = truth & (light > 2000.0)
    found = crmend.detect(image, model="generic", views=1).cr_mask
    assert found[bright].mean() > 0.92
    assert np.count_nonzero(found & ~binary_dilation(truth, iterations=2)) < 10
    monkeypatch.setattr(_probability, "find_light", lambda *args: None)
    assert crmend.detect(image, model="generic", views=1).cr_mask[bright].mean() < 0.85


@pytest.mark.parametrize("detector", [7, 8])
def test_tiles_do_not_show(detector):
    image = exposed(galaxy())
    whole = crmend.detect(image, detector=detector, views=1, tile=512).cr_probability
    tiled = crmend.detect(image, detector=detector, views=1, tile=100).cr_probability
    assert np.abs(whole - tiled).max() <= 1e-6


def test_one_pixel_that_is_not_measured_moves_nothing_far_away():
    light = galaxy()
    image, _ = struck(exposed(light), light)
    whole = crmend.detect(image, detector=8, views=1)
    for place in ((224, 224), (180, 260), (300, 150)):
        one = image.copy()
        one[place] = np.nan
        found = crmend.detect(one, detector=8, views=1)
        y, x = np.nonzero(found.cr_mask != whole.cr_mask)
        assert np.all(np.maximum(np.abs(y - place[0]), np.abs(x - place[1])) <= 48)


def measured(image):
    invalid = ~np.isfinite(image)
    return find_light(image, invalid, Scale(SKY, np.sqrt(SKY + READ_NOISE**2)))


def test_sources_are_no_broad_light():
    image = np.random.default_rng(1).normal(SKY, 13.0, (300, 340)).astype(np.float32)
    assert measured(image) is None
    y, x = np.indices(image.shape)
    for width in (1.5, 4.0, 8.0):
        square = (y - 150) ** 2 + (x - 170) ** 2
        source = 4000.0 * np.exp(-square / (2.0 * width**2))
        assert measured((image + source).astype(np.float32)) is None
    assert measured(np.where(np.hypot(y - 150, x - 170) < 16, np.nan, image)) is None
    broad = 4000.0 * np.exp(-square / (2.0 * 60.0**2))
    assert measured((image + broad).astype(np.float32)) is not None


@pytest.mark.parametrize("crowded", [False, True])
def test_what_is_left_has_the_noise_of_the_sky(crowded):
    light = np.full((SIDE, SIDE), 20_000.0)
    light[:, :200] = 0.0
    if crowded:
        rng = np.random.default_rng(7)
        light[rng.random(light.shape) < 0.02] += 3000.0
    scale = Scale(SKY, np.sqrt(SKY + READ_NOISE**2))
    image = exposed(light)
    found = find_light(image, np.zeros(image.shape, bool), scale)
    assert found.photons == pytest.approx(1.0 / scale.noise, rel=0.25)
    rows, columns = np.arange(100, 300), np.arange(260, 420)
    dark = found.taken_off(image[100:300, 260:420], rows, columns, scale)
    assert np.median(dark) == pytest.approx(
        SKY + ABOVE * scale.noise / np.sqrt(1 + found.photons * 20_000.0 / scale.noise),
        abs=scale.noise,
    )
    spread = 1.4826 * np.median(np.abs(dark - np.median(dark)))
    assert spread == pytest.approx(scale.noise, rel=0.25)
    sky = image[:, :150]
    assert found.taken_off(sky, np.arange(SIDE), np.arange(150), scale) is sky


def test_levels_are_linear_between_meshes_and_mirrored_with_the_tile():
    rng = np.random.default_rng(3)
    shape = (150, 170)
    levels = rng.uniform(0.0, 50.0, [-(-n // MESH) for n in shape]).astype(np.float32)
    image = rng.normal(0.0, 1.0, shape).astype(np.float32)
    scale = Scale(0.0, 1.0)
    places = np.meshgrid(*((np.arange(n) + 0.5) / MESH - 0.5 for n in shape), indexing="ij")
    expected = image - map_coordinates(levels, places, order=1, mode="nearest")
    grid = make_grid(shape, 64, 8, 2)
    for origin in grid.origins:
        found = Light(levels, 0.0).taken_off(
            grid.read(image, origin), *grid.places(origin), scale
        )
        np.testing.assert_allclose(found, grid.read(expected, origin), rtol=0, atol=2e-5)


def test_a_frame_smaller_than_a_mesh_and_one_without_valid_pixels():
    image = np.full((9, 12), 1e4, dtype=np.float32)
    found = find_light(image, np.zeros(image.shape, bool), Scale(0.0, 1.0))
    assert found.photons == 0.0
    assert find_light(image, np.ones(image.shape, bool), Scale(0.0, 1.0)) is None
    huge = np.full((64, 64), 3e38, dtype=np.float32)
    huge[:, ::2] *= -1
    scale = measure_scale(huge, np.zeros(huge.shape, bool))
    assert find_light(huge, np.zeros(huge.shape, bool), scale) is None
