"""Charge in the detector: the compiled loops against analytic values."""

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("galsim")

from crmend_training.simulate._charge import (
    bleed,
    poisson_from_normal,
    repel,
    trail_columns,
    trail_rows,
)


@pytest.mark.parametrize("mean", [0.3, 6.0, 19.5, 20.5, 130.0, 5000.0])
def test_shot_noise_is_the_poisson_quantile_of_its_deviate(mean):
    deviate = np.random.default_rng(2).standard_normal((200, 500), dtype=np.float32)
    counts = np.full(deviate.shape, mean, np.float32)
    poisson_from_normal(counts, deviate)
    expected = stats.poisson.ppf(stats.norm.cdf(deviate.astype(np.float64)), np.float32(mean))
    assert (counts != expected).mean() < 2e-3
    assert np.abs(counts - expected).max() <= 1


def test_bleeding_conserves_charge_and_fills_the_column_both_ways():
    charge = np.full((101, 5), 1000.0, np.float32)
    charge[50, 2] = 10_000.0 + 9000.0 * 20
    before = charge.sum(dtype=np.float64)
    bleed(charge, 10_000.0)
    assert charge.sum(dtype=np.float64) == pytest.approx(before, rel=1e-6)
    # 20 pixels of 9000 e- room: ten above and ten below.
    expected = np.full(101, 1000.0)
    expected[40:61] = 10_000.0
    np.testing.assert_allclose(charge[:, 2], expected, rtol=1e-5)
    assert np.all(charge[:, [0, 1, 3, 4]] == 1000.0)


def test_two_bleeding_stars_share_a_column_and_lose_at_the_edge_only():
    charge = np.zeros((400, 3), np.float32)
    charge[[150, 190], 1] = 1e5, 3e5
    before = charge.sum(dtype=np.float64)
    bleed(charge, 5000.0)
    assert charge.max() == 5000.0
    assert charge.sum(dtype=np.float64) == pytest.approx(before, rel=1e-6)
    edge = np.zeros((400, 1), np.float32)
    edge[2] = 5000.0 * 101
    bleed(edge, 5000.0)
    # Half of the 100 wells go down, where two fit.
    assert edge.sum(dtype=np.float64) == pytest.approx(5000.0 * (1 + 50 + 2), rel=1e-6)


@pytest.mark.parametrize("upwards", [False, True])
def test_parallel_trail_is_the_analytic_one(upwards):
    release, per_transfer, n = 2.5, 1e-5, 800
    charge = np.zeros((1000, 3), np.float32)
    row = 1000 - n if upwards else n - 1
    charge[row, 1] = 50_000.0
    # With a volume in proportion to the charge every transfer takes the same share.
    traps = np.array([per_transfer * 50_000.0, 50_000.0, 1.0])
    trail_columns(charge, upwards, 1.0, traps, np.exp([-1.0 / release]))
    lost = 50_000.0 * (1.0 - (1.0 - per_transfer) ** n)
    away = -1 if upwards else 1
    trail = charge[row + away :: away, 1][:40].astype(np.float64)
    first = 1.0 - np.exp(-1.0 / release)
    expected = lost * first * np.exp(-np.arange(40) / release)
    assert 50_000.0 - charge[row, 1] == pytest.approx(lost, rel=0.006)
    np.testing.assert_allclose(trail, expected, rtol=0.006)
    assert charge.sum(dtype=np.float64) == pytest.approx(50_000.0, abs=0.02)
    assert not charge[:, [0, 2]].any()


def test_losses_follow_the_packets_volume():
    shares = []
    for amount in (100.0, 10_000.0):
        charge = np.zeros((600, 1), np.float32)
        charge[500] = amount
        trail_columns(charge, False, 1.0, np.array([1e-3, 9e4, 0.5]), np.exp([-0.1]))
        shares.append(1.0 - charge[500, 0] / amount)
    # A packet 100 times larger fills 10 times the volume: a tenth of the share is lost.
    assert shares[0] / shares[1] == pytest.approx(10.0, rel=0.02)
    # 501 pixels on the way, each with traps in sqrt(100 / 9e4) of its volume.
    assert shares[0] == pytest.approx(501 * 1e-3 * np.sqrt(100 / 9e4) / 100.0, rel=0.01)


def test_a_background_keeps_traps_filled():
    lost = []
    for background in (0.0, 200.0):
        charge = np.full((600, 1), background, np.float32)
        charge[500] += 500.0
        with_star = charge.copy()
        charge[500] = background
        for image in (charge, with_star):
            trail_columns(image, False, 1.0, np.array([0.02, 9e4, 0.5]), np.exp([-1e-3]))
        lost.append(500.0 - (with_star - charge)[500, 0])
    assert 0.0 < lost[1] < 0.8 * lost[0]


def test_serial_trail_leaves_along_the_row_and_no_charge_is_made():
    charge = np.random.default_rng(3).uniform(0.0, 1000.0, (30, 400)).astype(np.float32)
    charge[:, 300:] = 0.0
    before = charge.sum(axis=1, dtype=np.float64)
    untrailed = charge.copy()
    trail_rows(charge, 1.0, np.array([0.05, 0.03, 9e4, 0.5]), np.exp([-1.0, -1.0 / 6.0]))
    np.testing.assert_allclose(charge.sum(axis=1, dtype=np.float64), before, rtol=1e-6)
    assert np.all(charge[:, 300] > 0.0)
    assert not np.array_equal(charge, untrailed)


def test_brighter_fatter_conserves_charge_and_widens_by_the_analytic_amount():
    y, x = np.indices((61, 61)) - 30.0
    sigma, strength = 1.5, 2e-6
    growth = []
    for peak in (800.0, 40_000.0):
        spot = peak * np.exp(-(x**2 + y**2) / (2 * sigma**2))
        charge = spot.astype(np.float32)
        repel(charge, strength, 9e4)
        total = spot.sum()
        assert charge.sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)
        growth.append((charge * x**2).sum() / total - (spot * x**2).sum() / total)
        # Summing by parts: half the strength times sum(q²) / sum(q), a quarter of the peak.
        assert growth[-1] == pytest.approx(strength * peak / 4.0, rel=0.02)
    assert growth[1] > 40 * growth[0]
    flat = np.full((20, 30), 3e4, np.float32)
    repel(flat, strength, 9e4)
    assert np.all(flat == 3e4)
