"""Cosmic rays of the simulator against laws and analytic values."""

from math import erf, sqrt

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("galsim")

from crmend_training.simulate._tracks import (
    add_paper_events,
    deposit,
    path_charge,
    stopping_power,
)
from crmend_training.simulate.cosmic_rays import (
    EVENT_DTYPE,
    SUBPIXEL,
    PaperLaw,
    Sharp,
    Slab,
    draw_cosmic_rays,
)
from crmend_training.statistics import (
    event_rate,
    intensity_histograms,
    label_events,
    pixel_fractions,
)

THIN = Slab(20.0, electrons=0.0, ions=0.0)


def draw(seed, shape, law, *args):
    return draw_cosmic_rays(np.random.default_rng(seed), shape, law, *args)


def test_packet_keeps_its_charge_and_width():
    charge, book = np.zeros((41, 43), np.float32), np.zeros(6)
    deposit(charge, book, 20.25, 18.5, 1e4, 1.5)
    _, x = np.indices(charge.shape)
    assert charge.sum() == pytest.approx(1e4, rel=1e-4)
    assert book[0] == pytest.approx(1e4, rel=1e-4)
    assert book[1] / book[0] == pytest.approx(20.25, abs=1e-3)
    assert book[2] / book[0] == pytest.approx(18.5, abs=1e-3)
    variance = (charge * (x - 20.25) ** 2).sum() / charge.sum()
    # The pixel adds 1/12 to the variance of the packet.
    assert variance == pytest.approx(1.5**2 + 1 / 12, rel=1e-3)


@pytest.mark.parametrize("sigma", [0.2, 0.45])
def test_diffusion_shares_the_charge_as_the_error_function(sigma):
    charge = np.zeros((9, 9), np.float32)
    deposit(charge, np.zeros(6), 4.1, 4.0, 1.0, sigma)

    def inside(low, high):
        return 0.5 * (erf(high / sigma / sqrt(2)) - erf(low / sigma / sqrt(2)))

    assert charge[4, 4] == pytest.approx(inside(-0.6, 0.4) * inside(-0.5, 0.5), rel=1e-4)
    assert charge[4, 5] == pytest.approx(inside(0.4, 1.4) * inside(-0.5, 0.5), rel=1e-4)


@pytest.mark.parametrize("on_grid", [True, False])
def test_paper_events_deposit_their_energy(on_grid):
    charge, n = np.zeros((600, 600), np.float32), 900
    lengths, energies, book = np.full(n, 4.0), np.full(n, 2000.0), np.zeros((n, 6))
    add_paper_events(np.random.default_rng(2), charge, book, lengths, energies, 0.2, on_grid)
    # Events fall on an area that is 100 px wider and higher than the frame.
    expected = n * 2000.0 * (600 / 700) ** 2
    assert charge.sum() == pytest.approx(expected, rel=0.05)
    assert book[:, 0].max() == pytest.approx(2000.0, rel=1e-4)


@pytest.mark.parametrize("law", ["paper", "physical"])
def test_charge_is_the_sum_of_the_event_energies(law):
    rays = draw(3, (512, 384), law, 0.01)
    assert rays.events.dtype == EVENT_DTYPE
    assert np.array_equal(rays.charge, np.rint(rays.charge))
    difference = rays.charge.sum(dtype=float) - rays.events["energy"].sum()
    # Each pixel within reach of an event is rounded by half an electron, or cut by one.
    near = 4 * np.count_nonzero(rays.charge)
    assert abs(difference) < 0.25 * near
    assert abs(difference) < 2e-3 * rays.events["energy"].sum()


@pytest.mark.parametrize("paper", [PaperLaw(), SUBPIXEL])
def test_paper_law_affects_2_to_3_per_cent_of_pixels(paper):
    charge = draw(4, (1024, 1024), "paper", None, None, paper).charge
    fractions = pixel_fractions(charge)
    assert 0.02 < fractions.above_0 < 0.03
    assert 0.07 < fractions.one_electron < 0.13
    assert fractions.above_1 == pytest.approx((charge > 1).mean())


def test_sharp_events_come_on_top_and_leave_the_others_as_they_are():
    shape = (900, 800)
    without = draw(5, shape, "physical", 0.003, THIN)
    rays = draw(5, shape, "physical", 0.003, THIN, None, Sharp(5e-4, 0.05))
    added = rays.charge - without.charge
    assert added.min() > -1.5  # each sum is rounded
    sharp = rays.events[len(without.events) :]
    assert np.array_equal(rays.events[: len(without.events)], without.events)
    assert len(sharp) == pytest.approx(5e-4 * 900 * 800, rel=0.25)
    per_pixel = sharp["energy"] / np.maximum(sharp["length"], 1.0)
    assert per_pixel.max() < 2.01e5
    assert np.median(per_pixel[sharp["length"] < 1]) == pytest.approx(
        np.sqrt(100 * 2e5), rel=0.5
    )
    # Half of the points fill one pixel: that is what few of the laws' events do.
    assert np.mean(sharp["length"] < 1.0) == pytest.approx(0.5, abs=0.08)
    off_axis = np.abs(np.degrees(sharp["angle"]) % 90.0 - 45.0)
    assert np.mean(off_axis > 39.0) == pytest.approx(0.4 + 0.6 * 12 / 90, abs=0.08)


def test_tracks_fade_from_the_paper_law_beyond_a_few_electrons():
    charge = draw(4, (1024, 1024), "paper").charge
    every, tracks = intensity_histograms(charge, np.array([0.5, 2.5, 5.5, 20.5]))
    share = tracks / every
    # Paper, section 4.1: "a rapid decline in the ratio of track-like CRs" at 6–20 e-.
    assert share[0] > 0.6
    assert share[2] < 0.2
    assert share[0] > share[1] > share[2]


def test_paper_law_has_the_paper_lengths_energies_and_angles():
    events = draw(5, (1500, 1500), "paper", 0.004).events
    inside = events[(abs(events["x"] - 750) < 690) & (abs(events["y"] - 750) < 690)]
    law = stats.beta(*PaperLaw().length_shape)
    assert stats.kstest(inside["length"] / 100.0, law.cdf).pvalue > 1e-3
    energy = stats.norm(3.3, 0.6 / (2 * sqrt(2 * np.log(2))))
    assert stats.kstest(np.log10(inside["energy"]), energy.cdf).pvalue > 1e-3
    assert stats.kstest(inside["angle"] / (2 * np.pi), "uniform").pvalue > 1e-3
    assert set(events["kind"]) == {"track"}


def test_physical_law_is_isotropic():
    events = draw(6, (1500, 1500), "physical", 0.02, THIN).events
    inside = events[(abs(events["x"] - 750) < 590) & (abs(events["y"] - 750) < 590)]
    # cos² of the angle to the normal is uniform for an isotropic flux through a plane.
    cosine2 = 1.0 / (1.0 + (inside["length"] * 10.0 / 20.0) ** 2)
    assert stats.kstest(cosine2, "uniform").pvalue > 1e-3
    assert stats.kstest(inside["angle"] / (2 * np.pi), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("path", [16.0, 100.0])
def test_a_path_frees_80_electrons_per_micrometre_most_probably(path):
    rng = np.random.default_rng(7)
    charges = np.array([path_charge(rng, path, 1.0) for _ in range(40_000)]) / path
    counts, edges = np.histogram(charges, np.arange(40.0, 160.0, 4.0))
    top = counts.argmax() + np.arange(-4, 5)
    middle = 0.5 * (edges[:-1] + edges[1:])[top]
    parabola = np.polynomial.Polynomial.fit(middle, counts[top], 3)
    peak = middle[0] + np.argmax(parabola(np.linspace(middle[0], middle[-1], 400))) * 32 / 399
    assert peak == pytest.approx(80.0, abs=3.0)
    # The Moyal law leans to the right: its mean lies 1.27 widths above the peak.
    assert np.mean(charges) > 80.0 * 1.08


def test_crossings_of_a_slab_carry_the_charge_of_their_path():
    events = draw(8, (1500, 1500), "physical", 0.004, THIN).events
    straight = events[events["kind"] == "track"]
    path = np.hypot(straight["length"] * 10.0, 20.0)
    counts, edges = np.histogram(straight["energy"] / path, np.arange(30.0, 250.0, 10.0))
    assert 70.0 <= edges[counts.argmax()] <= 90.0


def test_electrons_lose_energy_as_bethe_says():
    """Berger and Seltzer 1982: collision loss of electrons, silicon with I = 173 eV."""
    for energy in (10.0, 50.0, 100.0, 500.0):
        t = energy / 511.0
        b2 = t * (t + 2) / (t + 1) ** 2
        f = 1 - b2 + (t**2 / 8 - (2 * t + 1) * np.log(2)) / (t + 1) ** 2
        bracket = np.log(t**2 * (t + 2) / (2 * (0.173 / 511.0) ** 2)) + f
        bethe = 0.1535 * 14 / 28.085 * 2.33 * 0.1 / b2 * bracket
        assert stopping_power(energy) == pytest.approx(bethe, rel=0.15), energy


@pytest.mark.parametrize(("thickness", "rate"), [(16.0, 0.001), (40.0, 0.01)])
def test_physical_law_meets_its_rate(thickness, rate):
    shape, slab = (700, 800), Slab(thickness)
    hits = [(draw(k, shape, "physical", rate, slab).charge > 0).mean() for k in range(12)]
    # A particle's footprint scatters by about 1.3 times its mean: over n of them the mean
    # scatters by √(1 + 1.3²) / √n; 3 % are for the law's own mean footprint.
    n_events = 12 * rate * 700 * 800 / 25
    assert np.mean(hits) == pytest.approx(rate, rel=0.03 + 3.5 * sqrt(2.7 / n_events))


def test_hst_like_slab_has_the_events_of_hst():
    """Miles et al. 2021: median 7 px and 2700 e- per event, above the noise."""
    charge = draw(9, (1500, 1500), "physical", 0.004, Slab(15.0, 15.0, (0.2, 0.4))).charge
    _, events = label_events(charge, 20.0)
    assert 5 <= np.median(events["size"]) <= 9
    assert np.median(events["energy"]) == pytest.approx(2700.0, rel=0.25)


@pytest.mark.parametrize(("law", "rate"), [("paper", 2e-4), ("physical", 8e-4)])
def test_event_table_agrees_with_connected_pixels(law, rate):
    rays = draw(10, (1200, 1200), law, rate)
    labels, found = label_events(rays.charge)
    events = rays.events
    at = np.rint(np.stack([events["y"], events["x"]])).astype(int).clip(0, 1199)
    label = labels[tuple(at)]
    alone = (label > 0) & (np.bincount(label, minlength=len(found) + 1)[label] == 1)
    alone &= (abs(events["x"] - 600) < 500) & (abs(events["y"] - 600) < 500)
    assert alone.sum() > 15
    pixels, table = found[label[alone] - 1], events[alone]
    close = np.abs(pixels["energy"] / table["energy"] - 1.0) < 0.02
    # A few events touch a neighbour or come in two pieces.
    assert close.mean() > 0.85
    np.testing.assert_allclose(pixels["x"][close], table["x"][close], atol=0.6)
    np.testing.assert_allclose(pixels["y"][close], table["y"][close], atol=0.6)


def test_kinds_can_be_switched_off():
    kinds = set(draw(11, (900, 900), "physical", 0.02, Slab(30.0, ions=0.03)).events["kind"])
    assert kinds == {"track", "delta", "electron", "ion"}
    assert set(draw(11, (900, 900), "physical", 0.02, THIN).events["kind"]) <= {
        "track",
        "delta",
    }


@pytest.mark.parametrize("law", ["paper", "physical"])
def test_same_seed_same_bits(law):
    one, two, other = (draw(seed, (200, 300), law, 0.01) for seed in (1, 1, 2))
    assert one.charge.tobytes() == two.charge.tobytes()
    assert one.events.tobytes() == two.events.tobytes()
    assert one.charge.tobytes() != other.charge.tobytes()


@pytest.mark.parametrize("law", ["paper", "physical"])
def test_no_cosmic_rays_at_rate_zero(law):
    rays = draw(0, (80, 90), law, 0.0)
    assert not rays.charge.any()
    assert rays.events.size == 0


def test_component_of_a_straight_line_has_its_length():
    charge = np.zeros((30, 30), np.float32)
    charge[4, 5:17] = 3.0
    charge[20:23, 20:23] = 1.0
    _, events = label_events(charge)
    np.testing.assert_allclose(events["length"], [12.0, 3.0], rtol=1e-6)
    np.testing.assert_array_equal(events["size"], [12, 9])
    np.testing.assert_allclose(events["energy"], [36.0, 9.0])
    np.testing.assert_allclose(events[["x", "y"]].tolist(), [(10.5, 4.0), (21.0, 21.0)])


def test_event_rate_is_per_square_centimetre_and_second():
    # 1000 × 1000 px of 10 µm are 1 cm².
    assert event_rate(300, 10**6, 150.0) == pytest.approx(2.0)
