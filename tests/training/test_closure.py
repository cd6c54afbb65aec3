"""What was put into simulated exposures is found in them, in two bands."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("galsim")

from crmend_training import closure
from crmend_training.apertures import encircled
from crmend_training.simulate import SimulationConfig, simulate_exposure
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.psf import Psf, encircled_radius

R_BAND = SimulationConfig(9, (768, 768), seed=3, field="dense", cr_rate=0.0)
Y_BAND = replace(R_BAND, detector=6)


def make_galaxy(**values):
    galaxy = np.zeros(1, SOURCE_DTYPE)
    galaxy["axis_ratio"] = 1.0
    for name, value in values.items():
        galaxy[name] = value
    return galaxy[0]


# --- the predictions themselves --------------------------------------------------------


def test_light_in_circles_of_a_gaussian():
    radius = np.array([0.5, 1.0, 2.0, 4.0])
    share = encircled(Psf(jitter=0.8), radius, pixels=0)
    np.testing.assert_allclose(share, 1.0 - np.exp(-0.5 * (radius / 0.8) ** 2), atol=1e-4)


def test_the_pixel_widens_by_a_twelfth_of_a_pixel_squared():
    share = encircled(Psf(jitter=2.0), np.array([3.0]), pixels=2)
    assert share[0] == pytest.approx(1.0 - np.exp(-4.5 / (4.0 + 2.0 / 12.0)), abs=1e-4)


def test_light_in_circles_of_an_airy_pattern():
    psf = Psf(airy=1.0, jitter=0.5, aureole=0.01)
    radius = encircled_radius(1.0, 0.5, 0.8, 0.01)
    assert encircled(psf, radius, pixels=0)[0] == pytest.approx(0.8, abs=1e-4)
    # The first dark ring of a diffraction pattern holds 83.8 per cent (Born & Wolf).
    sharp = Psf(airy=10.0, jitter=0.01)
    assert encircled(sharp, 12.197, pixels=0)[0] == pytest.approx(0.838, abs=2e-3)


def test_light_in_circles_of_a_galaxy_is_that_of_drawn_photons(rng):
    galaxy = make_galaxy(
        r_half=9.0, r_bulge=3.0, axis_ratio=0.5, position_angle=0.4, bulge_fraction=0.4
    )
    n = 400_000
    is_bulge = rng.random(n) < 0.4
    # In an r^(1/n) law, b (r / r_half)^(1/n) follows a gamma law of order 2 n.
    bulge = 3.0 * (rng.gamma(8.0, 1.0, n) / 7.66925) ** 4
    disk = 9.0 * rng.gamma(2.0, 1.0, n) / 1.67835
    radius, angle = np.where(is_bulge, bulge, disk), rng.uniform(0.0, 2.0 * np.pi, n)
    u = radius * np.cos(angle) + rng.normal(0.0, 0.8, n)
    v = radius * np.sin(angle) * np.where(is_bulge, 0.75, 0.5) + rng.normal(0.0, 0.8, n)
    for limit in (4.0, 9.0, 22.0):
        drawn = np.mean(np.hypot(u, v) < limit)
        share = encircled(Psf(jitter=0.8), limit, galaxy, pixels=0)[0]
        assert share == pytest.approx(drawn, abs=4.0 * (0.25 / n) ** 0.5)


# --- closure ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[R_BAND, Y_BAND], ids=["r", "y"])
def stars(request):
    return simulate_exposure(replace(request.param, without=("galaxies", "pairs")))


def test_stars_have_the_zero_point(stars):
    estimate = closure.Estimate.median(closure.star_residuals(stars))
    assert estimate.n >= 8
    assert abs(estimate.value) < 0.005 + 2.0 * estimate.error < 0.015


def test_a_wrong_zero_point_is_seen(stars):
    wrong = replace(stars, image_without_cr=1.02 * stars.image_without_cr)
    shift = closure.star_residuals(wrong) - closure.star_residuals(stars)
    np.testing.assert_allclose(shift, -2.5 * np.log10(1.02), atol=1e-4)


def test_stars_are_as_wide_as_their_psf(stars):
    found, wanted, _ = closure.radius_80(stars)
    assert found == pytest.approx(wanted, rel=0.03)


def test_bright_stars_are_as_many_as_the_table_says(stars):
    _, found, wanted = closure.detected_stars([stars]).sum(axis=0)
    assert abs(found - wanted) < 0.05 * wanted + 3.0 * wanted**0.5


def test_pulls_are_normal(stars):
    frame = closure.expose_catalog(stars.config, stars.catalog)
    for pull in closure.pulls(frame):
        assert pull[np.abs(pull) < 5.0].std() == pytest.approx(
            1.0, abs=0.03 + 2.0 * pull.size**-0.5
        )


def test_sky_noise_is_predicted():
    for config in (R_BAND, Y_BAND):
        sim = simulate_exposure(
            replace(config, shape=(512, 512), without=("stars", "galaxies"))
        )
        noise = closure.measured_noise(sim, sim.flag != 0)
        assert noise == pytest.approx(closure.predicted_noise(sim), rel=0.03)


def test_galaxies_have_the_zero_point(rng):
    _, error = closure.galaxy_residuals(rng, replace(R_BAND, shape=(640, 640), field="high"))
    estimate = closure.Estimate.median(error)
    assert estimate.n >= 9
    assert abs(estimate.value) < 0.005 + 2.0 * estimate.error < 0.02


def test_counts_are_the_tables(rng):
    for kind, table in closure.input_counts(rng, replace(R_BAND, field="high"), 15).items():
        _, found, wanted = table.T
        assert np.all(np.abs(found - wanted) < 0.05 * wanted + 3.0 * wanted**0.5), kind
