"""Cosmic rays and the detector of the simulator against analytic values."""

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("galsim")

from crmend_training.simulate._kernels import bleed, deposit
from crmend_training.simulate._tracks import add_paper_events
from crmend_training.simulate.cosmic_rays import Slab, draw_cosmic_rays
from crmend_training.simulate.detector import Camera, expose, make_chip

PLAIN = {"defect_rate": 0.0, "pattern": 0.0, "prnu": 0.0, "bias_residual": 0.0}


def test_packet_keeps_its_charge_and_width():
    charge = np.zeros((41, 43), np.float32)
    deposit(charge, 20.25, 18.5, 1e4, 1.5)
    _, x = np.indices(charge.shape)
    assert charge.sum() == pytest.approx(1e4, rel=1e-4)
    assert (charge * x).sum() / charge.sum() == pytest.approx(20.25, abs=1e-3)
    variance = (charge * (x - 20.25) ** 2).sum() / charge.sum()
    # The pixel adds 1/12 to the variance of the packet.
    assert variance == pytest.approx(1.5**2 + 1 / 12, rel=1e-3)


def test_paper_events_deposit_their_energy():
    charge = np.zeros((600, 600), np.float32)
    energies = np.full(900, 2000.0)
    add_paper_events(np.random.default_rng(2), charge, np.full(900, 4.0), energies, 0.2)
    # Events fall on an area that is 100 px wider and higher than the frame.
    assert charge.sum() == pytest.approx(900 * 2000.0 * (600 / 700) ** 2, rel=0.05)


def test_paper_law_affects_2_to_3_per_cent_of_pixels():
    charge = draw_cosmic_rays(np.random.default_rng(4), (1024, 1024), "paper")
    assert 0.02 < (charge > 0).mean() < 0.03
    assert 0.05 < (charge == 1).sum() / (charge > 0).sum() < 0.15
    assert np.array_equal(charge, np.rint(charge))


def test_paper_law_has_the_paper_energies():
    charge = draw_cosmic_rays(np.random.default_rng(4), (1500, 1500), "paper", rate=2e-4)
    labels, n = ndimage.label(charge > 0, np.ones((3, 3)))
    energies = np.log10(ndimage.sum(charge, labels, np.arange(1, n + 1)))
    assert np.median(energies) == pytest.approx(3.3, abs=0.1)
    low, high = np.percentile(energies, [15.87, 84.13])
    assert (high - low) / 2 == pytest.approx(0.6 / 2.3548, rel=0.3)


@pytest.mark.parametrize("rate", [0.001, 0.02])
def test_physical_law_meets_its_rate(rate):
    charge = draw_cosmic_rays(np.random.default_rng(8), (700, 800), "physical", rate)
    assert (charge >= 1.0).mean() == pytest.approx(rate, rel=0.35 if rate < 0.01 else 0.1)


def test_physical_law_frees_80_electrons_per_micrometre():
    slab = Slab(thickness=30.0)
    charge = draw_cosmic_rays(np.random.default_rng(8), (2000, 2000), "physical", 0.006, slab)
    labels, n = ndimage.label(charge > 0, np.ones((3, 3)))
    energies = ndimage.sum(charge, labels, np.arange(1, n + 1))
    counts, edges = np.histogram(energies / 30.0, bins=np.arange(40.0, 300.0, 16.0))
    # Isotropic paths are up to 1.4 times the thickness for half of the particles.
    assert 75.0 < edges[counts.argmax()] + 8.0 < 125.0


def test_no_cosmic_rays_at_rate_zero():
    for law in ("paper", "physical"):
        assert not draw_cosmic_rays(np.random.default_rng(0), (80, 90), law, 0.0).any()


def test_bleed_fills_the_column_up_and_down():
    charge = np.full((101, 5), 1000.0, np.float32)
    charge[50, 2] = 10_000.0 + 9000.0 * 20
    before = charge.sum()
    bleed(charge, 10_000.0)
    assert charge.sum() == pytest.approx(before, rel=1e-5)
    # 20 pixels of 9000 e- room: ten above and ten below.
    expected = np.full(101, 1000.0)
    expected[40:61] = 10_000.0
    np.testing.assert_allclose(charge[:, 2], expected, rtol=1e-5)
    assert np.all(charge[:, [0, 1, 3, 4]] == 1000.0)


def test_noise_is_poisson_plus_read_out():
    camera = Camera(gain_spread=0.0, read_noise_spread=0.0, gain_residual=0.0, dark=0.0)
    camera = Camera(**{**vars(camera), **PLAIN, "flat_residual": 0.0})
    rng = np.random.default_rng(6)
    chip = make_chip(rng, camera, (400, 400))
    scene = np.full((400, 400), 2.0, np.float32)
    readout = expose(rng, scene, np.zeros((400, 400), np.float32), camera, chip, 150.0)
    electrons = readout.image.astype(float) * 150.0
    assert electrons.mean() == pytest.approx(300.0, rel=2e-3)
    # Photons, read noise, and the rounding to 1.1 e-.
    assert electrons.var() == pytest.approx(300.0 + 25.0 + 1.1**2 / 12, rel=0.02)
    assert np.median(readout.error) * 150.0 == pytest.approx(np.sqrt(325.0), rel=0.02)


def test_converter_clips_and_flags():
    camera = Camera(**{**PLAIN, "gain_spread": 0.0})
    rng = np.random.default_rng(6)
    chip = make_chip(rng, camera, (64, 64))
    scene = np.full((64, 64), 1.0, np.float32)
    rays = np.zeros((64, 64), np.float32)
    rays[30, 31] = 80_000.0
    readout = expose(rng, scene, rays, camera, chip, 150.0)
    # 65535 − 500 ADU at 1.1 e-: 71.5 ke-, in 150 s 477 e-/s.
    assert readout.image[30, 31] == pytest.approx(477.0, rel=0.01)
    assert readout.flag[30, 31] == 8
    assert (readout.flag > 0).sum() == 1


def test_defects_come_at_their_rate_and_are_flagged():
    chip = make_chip(np.random.default_rng(1), Camera(bad_columns=0.0), (1500, 1500))
    expected = 5e-5 * 1500**2
    assert ((chip.flag & 1) > 0).sum() == pytest.approx(expected, abs=5 * np.sqrt(expected))
    known_hot = ((chip.flag & 6) > 0).sum()
    assert known_hot == pytest.approx(0.98 * expected, abs=5 * np.sqrt(expected))
    low, high = np.percentile(chip.response, [15.87, 84.13])
    assert (high - low) / 2 == pytest.approx(0.01, rel=0.02)
