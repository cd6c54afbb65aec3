"""Parts of an image below its background: raised to it, with sharp edges, and stars kept."""

import numpy as np
import pytest

import crmend
from crmend import _lows
from crmend._lows import raise_lows
from crmend._normalise import Scale, measure_scale

NOISE = 5.0
SHAPE = (300, 333)


@pytest.fixture
def sky():
    return np.random.default_rng(1).normal(100.0, NOISE, SHAPE).astype(np.float32)


def raised(image, invalid=None):
    image = image.astype(np.float32)
    unusable = ~np.isfinite(image) if invalid is None else invalid
    return raise_lows(image, unusable, measure_scale(image, unusable))[0]


def test_what_is_not_below_stays_as_it_is(sky):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for above in (0.0, 50.0 * np.exp(-((x - 90) ** 2 + (y - 90) ** 2) / 2 / 30**2)):
        image = (sky + above).astype(np.float32)
        nothing = np.zeros(SHAPE, bool)
        found, missing = raise_lows(image, nothing, measure_scale(image, nothing))
        assert found is image
        assert missing is nothing


@pytest.mark.parametrize("step", [5.0, 10.0, 40.0, 400.0])
def test_an_amplifier_of_a_lower_level_is_raised_up_to_its_edge(sky, step):
    image = sky.copy()
    image[:, :150] -= step * NOISE
    flat = raised(image)
    # A level is known to a noise, and is left as much lower.
    low = flat[:, :120] - sky[:, :120]
    assert np.median(low) == pytest.approx(-NOISE, abs=0.1 * NOISE)
    profile = (flat - sky).mean(axis=0) / NOISE
    if step > _lows._EDGE:
        assert np.abs(profile[:147] + 1.0).max() < 0.6
        assert np.abs(profile[154:]).max() < 0.6
    else:
        assert np.abs(profile).max() < 0.8 * step
    assert (flat[:, 250:] == image[:, 250:]).all()


def test_slopes_and_bowls_become_flat(sky):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bowl = -20.0 * NOISE * np.exp(-((x - 160) ** 2 + (y - 150) ** 2) / 2 / 60**2)
    slope = 20.0 * NOISE * (x / SHAPE[1] - 0.5)
    for change, depth in ((bowl, 5.0), (slope, 2.5)):
        left = (raised(sky + change) - sky)[20:-20, 20:-20]
        # Away from the frame's border, where meshes end.
        assert left.min() > -depth * NOISE
        assert (sky + change - sky).min() < -9.0 * NOISE


def test_sources_in_a_low_part_keep_their_light(sky):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = 400.0 * np.exp(-((x - 70) ** 2 + (y - 140) ** 2) / 2 / 2.0**2)
    image = sky - np.where(x < 150, 20.0 * NOISE, 0.0)
    with_star, without = raised(image + star), raised(image)
    np.testing.assert_allclose(with_star - without, star, atol=0.2 * NOISE)


def test_gaps_of_one_value_stay(sky):
    image = sky.copy()
    image[:, 100:160] = 0.0
    image[250:, :] -= 20.0 * NOISE
    image[:, 100:160] = 0.0
    found = raised(image)
    assert (found[:, 100:160] == 0.0).all()
    assert (found[:200] == image[:200]).all()
    assert np.median(found[260:, 170:] - sky[260:, 170:]) == pytest.approx(-NOISE, abs=1.0)
    only = sky.copy()
    only[:, 100:160] = 0.0
    nothing = np.zeros(SHAPE, bool)
    found, missing = raise_lows(only, nothing, measure_scale(only, nothing))
    assert found is only
    np.testing.assert_array_equal(missing, only == 0.0)
    assert not nothing.any()


def test_bands_make_no_difference(sky, monkeypatch):
    image = sky.copy()
    image[100:, :150] -= 30.0 * NOISE
    image[200:, 200:] -= 5.0 * NOISE
    image[30:70, 100:160] = 0.0
    whole = raised(image)
    monkeypatch.setattr(_lows, "_BAND", _lows._MESH)
    np.testing.assert_allclose(raised(image), whole, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (33, 31), (64, 1)])
def test_small_images_and_such_without_a_valid_pixel(shape):
    image = np.random.default_rng(2).normal(0.0, 1.0, shape).astype(np.float32)
    for level in (0.0, 50.0):
        found, _ = raise_lows(image, np.zeros(shape, bool), Scale(level, 1.0))
        assert found.shape == shape
        assert np.isfinite(found).all()
    hidden, _ = raise_lows(image, np.ones(shape, bool), Scale(50.0, 1.0))
    assert hidden is image


def test_missing_and_huge_pixels_tell_nothing(sky):
    image = sky.copy()
    image[:, :150] -= 30.0 * NOISE
    plain = raised(image)
    image[50:60, 50:60] = np.nan
    image[200, 100] = 3e38
    image[201, 100] = -3e38
    invalid = ~np.isfinite(image)
    found, _ = raise_lows(image, invalid, measure_scale(sky, invalid))
    usual = np.isfinite(found) & (np.abs(found) < 1e6)
    assert np.count_nonzero(~usual) == 102
    np.testing.assert_allclose(found[usual], plain[usual], atol=0.5 * NOISE)


def test_stars_of_a_lower_amplifier_are_no_cosmic_rays():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:320, :320]
    light = np.zeros(x.shape)
    for _ in range(70):
        at_x, at_y = rng.uniform(8, 312, 2)
        flux = 10.0 ** rng.uniform(2.5, 4.3)
        light += flux / 11.3 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 2 / 1.2**2)
    flat = rng.normal(100.0 + light, np.sqrt(125.0 + light))
    flat[200, 100:104] += 800.0
    base = crmend.detect(flat, model="generic").cr_mask
    for step in (100.0, 400.0):
        for low in (x < 160, (x < 160) & (y < 160), x > 200):
            found = crmend.detect(flat - step * low, model="generic").cr_mask
            assert found[200, 100:104].all()
            # Seen above one level, 8 to 119 pixels of stars are flagged.
            assert np.count_nonzero(found & ~base) <= 2


def test_an_edge_that_is_not_sharp_makes_no_ridge(sky):
    # A field stop out of focus: the light falls to nothing over some pixels.
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = 1.0 / (1.0 + np.exp((np.hypot(y - 150, x - 160) - 145.0) / 1.5))
    image = (sky - 60.0 * NOISE * (1.0 - inside)).astype(np.float32)
    found = raised(image)
    assert np.count_nonzero(found - 100.0 > 6.0 * NOISE) < 60
    assert np.median(found[:20, :20]) == pytest.approx(100.0 - NOISE, abs=0.3 * NOISE)
    # Taken for a sharp edge, it makes a ring of 1,891 pixels.
    mask = crmend.detect(image, model="generic", views=1).cr_mask
    assert np.count_nonzero(mask) < 150


@pytest.mark.parametrize("sky_light", [3000.0, 30_000.0])
def test_stars_on_a_slope_that_grows_steeper_are_no_cosmic_rays(sky_light):
    # The penumbra of a round field stop, exponential where it ends.
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:500, :500]
    inside = 1.0 / (1.0 + np.exp((np.hypot(y - 250, x - 250) - 240.0) / 6.0))
    light = np.full(inside.shape, sky_light)
    for y0, x0 in rng.uniform(0, 500, (300, 2)):
        peak = 10.0 ** rng.uniform(1.5, 3.5) * np.sqrt(sky_light) / 30.0
        square = (y - y0) ** 2 + (x - x0) ** 2
        light += peak * (1.0 + square / 2.5**2) ** -3.0
    image = rng.poisson(inside * light) + rng.normal(0.0, NOISE, inside.shape)
    mask = crmend.detect(image, model="generic", views=1).cr_mask
    # Taken for an edge that crosses pixels, the slope leaves 116 and 822.
    assert np.count_nonzero(mask) < 60


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_an_edge_that_crosses_pixels_makes_no_chain_of_them(width):
    # A field stop in focus, or nearly so: its edge falls over one to five pixels.
    rng = np.random.default_rng(2)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = 1.0 / (
        1.0 + np.exp(np.clip((np.hypot(y - 150, x - 160) - 140.0) / width, -90, 90))
    )
    image = rng.poisson(3000.0 * inside) + rng.normal(0.0, NOISE, SHAPE)
    # Some pixels inside of the edge, and some beyond it.
    image[150, 22:26] += 1000.0
    image[294:298, 163] += 1000.0
    mask = crmend.detect(image, model="generic", views=1).cr_mask
    assert mask[150, 23:26].all()
    assert mask[295:298, 163].all()
    # Where each pixel has the level of one side or the other, it is 46 to 1,315.
    assert np.count_nonzero(mask) < 25


def test_gaps_at_tilted_edges_hold_nothing_and_make_no_cosmic_rays(sky):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    gap = np.abs(x - 100 - 0.07 * y) < 12
    image = np.where(gap, 0.0, sky).astype(np.float32)
    y0, x0 = 150, 200
    image[y0, x0 : x0 + 5] += 40 * NOISE
    with pytest.warns(crmend.errors.CrmendWarning, match="exactly 0"):
        found = crmend.detect(image, model="generic", views=1)
    assert found.cr_mask[y0, x0 : x0 + 5].all()
    assert np.count_nonzero(found.cr_mask) < 20
    assert not found.cr_probability[gap].any()
