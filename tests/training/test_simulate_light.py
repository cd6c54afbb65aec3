"""Sources and PSFs of the simulator against published and analytic values."""

import numpy as np
import pytest
from scipy.special import erf, j0, j1

pytest.importorskip("galsim")

from crmend_training.simulate.catalog import SOURCE_DTYPE, SkyModel, draw_catalog
from crmend_training.simulate.psf import Psf, csst_psfs, encircled_radius
from crmend_training.simulate.scene import Optics, render_scene


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.8])
def test_airy_holds_the_analytic_fraction(fraction):
    x = np.pi * encircled_radius(1.0, 1e-6, fraction)
    # Rayleigh: EE = 1 − J0² − J1².
    assert 1.0 - j0(x) ** 2 - j1(x) ** 2 == pytest.approx(fraction, abs=2e-3)


def test_gaussian_holds_80_per_cent_in_its_analytic_radius():
    # R = sigma sqrt(-2 ln 0.2)
    assert encircled_radius(0.01, 1.0) == pytest.approx(1.794, abs=0.01)


@pytest.mark.parametrize("pivot", [288.0, 479.0, 966.0])
def test_psf_is_as_sharp_as_the_survey_says(pivot):
    for psf in csst_psfs(np.random.default_rng(3), pivot, 0.074, 3):
        assert 0.03 <= psf.jitter * 0.074 <= 0.07
        assert encircled_radius(psf.airy, psf.jitter) * 0.074 <= 0.15 + 1e-3
        assert np.hypot(psf.g1, psf.g2) < 0.08


def test_stamps_move_the_centroid_by_their_phase():
    stamps = Psf(jitter=1.0).stamps()
    offsets = np.arange(49) - 24.0
    for phase in (0, 5, 15):
        stamp = stamps[3, phase].astype(float)
        assert stamp.sum() == pytest.approx(1.0, abs=1e-3)
        x = (stamp.sum(axis=0) * offsets).sum()
        y = (stamp.sum(axis=1) * offsets).sum()
        assert x == pytest.approx((phase + 0.5) / 16 - 0.5, abs=2e-3)
        assert y == pytest.approx(3.5 / 16 - 0.5, abs=2e-3)


def test_star_is_a_pixel_integrated_gaussian():
    star = np.zeros(1, SOURCE_DTYPE)
    star["type"], star["x"], star["y"], star["flux"] = "star", 20.03125, 31.96875, 1000.0
    optics = Optics.from_psfs([Psf(jitter=1.1)])
    image = render_scene(
        np.random.default_rng(0), star, optics, (64, 48), floor=1e-3, faint_galaxies=1.0
    )
    edges_x = (np.arange(49) - 0.5 - 20.03125) / (1.1 * np.sqrt(2.0))
    edges_y = (np.arange(65) - 0.5 - 31.96875) / (1.1 * np.sqrt(2.0))
    expected = 1000.0 * np.outer(np.diff(erf(edges_y)), np.diff(erf(edges_x))) / 4.0
    np.testing.assert_allclose(image, expected, atol=0.05)


def test_wings_continue_the_stamp_without_a_step():
    psf = Psf(airy=1.35, jitter=0.6, aureole=0.005)
    stamp = psf.stamps()[8, 8]
    inside = stamp[24, 46:49].mean()  # 22 to 24 px from the centre, half a phase off
    assert inside == pytest.approx(psf.wings(np.array([23.0]))[0], rel=0.1)


def test_bright_star_keeps_its_flux_and_shows_no_box():
    star = np.zeros(1, SOURCE_DTYPE)
    star["type"], star["x"], star["y"], star["flux"] = "star", 150.0, 150.0, 1e5
    optics = Optics.from_psfs([Psf(airy=0.67, jitter=0.7, aureole=0.005)])
    image = render_scene(
        np.random.default_rng(0), star, optics, (301, 301), floor=1e-3, faint_galaxies=1.0
    )
    assert image.sum() == pytest.approx(1e5, rel=0.01)
    row = image[150, 151:280]
    assert np.all(np.diff(row) < 0.0)


def test_galaxy_has_its_flux_and_half_light_radius():
    galaxy = np.zeros(1, SOURCE_DTYPE)
    galaxy["type"], galaxy["x"], galaxy["y"], galaxy["flux"] = "galaxy", 100.3, 99.6, 400.0
    galaxy["r_half"], galaxy["r_bulge"], galaxy["axis_ratio"] = 8.0, 2.0, 1.0
    optics = Optics.from_psfs([Psf(jitter=0.6)])
    image = render_scene(
        np.random.default_rng(0), galaxy, optics, (201, 201), floor=1e-2, faint_galaxies=1.0
    )
    y, x = np.indices(image.shape)
    inside = np.hypot(x - 100.3, y - 99.6) < 8.0
    assert image.sum() == pytest.approx(400.0, rel=0.02)
    assert image[inside].sum() / image.sum() == pytest.approx(0.5, abs=0.02)


def test_counts_are_the_published_ones():
    sky = SkyModel(zero_point=26.08, faintest=26.0, pixel_scale=0.074)
    catalog = draw_catalog(np.random.default_rng(5), (9232, 9216), sky, margin=0)
    galaxies = catalog[catalog["type"] == "galaxy"]
    # About 4,200 galaxies to r = 25 and 8,800 to r = 26 on a chip.
    assert (galaxies["mag"] < 25.0).sum() == pytest.approx(4200, rel=0.08)
    assert galaxies.size == pytest.approx(8800, rel=0.08)
    stars = catalog[catalog["type"] == "star"]
    # 1186 per deg² and magnitude at mag 20, on 0.0359 deg².
    around_20 = (np.abs(stars["mag"] - 20.0) < 1.0).sum() / 2.0
    assert around_20 == pytest.approx(1186 * 0.0359, rel=0.35)


def test_flux_follows_the_zero_point():
    sky = SkyModel(zero_point=25.0, faintest=24.0, pixel_scale=0.2)
    catalog = draw_catalog(np.random.default_rng(1), (500, 500), sky)
    np.testing.assert_allclose(catalog["flux"], 10 ** (-0.4 * (catalog["mag"] - 25.0)))
    assert np.all(np.diff(catalog["mag"]) >= 0.0)
