"""What was observed limits what is mended: closed forms, and values that say nothing."""

import numpy as np
import pytest
from scipy import integrate, stats

from crmend._charge import CHARGES, NO_LIMIT, limit_by_observed


def limited(above, error=1.0, noise=1.0, fill=0.0, least=0.01):
    above, error, fill, least = (
        np.asarray(np.broadcast_to(x, np.shape(above)), np.float32)
        for x in (above, error, fill, least)
    )
    return limit_by_observed(fill, error, fill + above * error, least, noise)


def integrals(above, error, noise):
    """Return mean and standard deviation [error] of a normal value below what was observed."""

    def density(t):
        charge = (above - t) * error / noise
        return stats.norm.pdf(t) * sum(n * np.exp(-charge / mean) for n, mean in CHARGES)

    low = min(above, 0.0) - 12.0
    moments = [
        integrate.quad(lambda t, k=k: density(t) * t**k, low, above, epsabs=1e-12, limit=200)[0]
        for k in range(3)
    ]
    mean = moments[1] / moments[0]
    return mean, np.sqrt(moments[2] / moments[0] - mean**2)


@pytest.mark.parametrize("error", [1.0, 1.3, 6.0])
@pytest.mark.parametrize("above", [-4.0, -1.5, 0.0, 0.7, 2.0, 4.5, 9.0])
def test_closed_forms_are_the_integrals(above, error):
    value, sigma = limited(np.array([above]), error, noise=1.0)
    mean, spread = integrals(above, error, noise=1.0)
    assert value[0] / error == pytest.approx(mean, abs=1e-5)
    assert sigma[0] / error == pytest.approx(spread, rel=1e-4)


def test_fills_that_know_nothing_leave_finite_values_below_what_was_observed():
    above = np.array([-4.0, 0.5, 11.9])
    for error in (500.0, 1e6):
        value, sigma = limited(above, error)
        assert (value <= (above * error).astype(np.float32)).all()
        assert np.isfinite(value).all()
        assert (sigma > 0).all()


def test_values_stay_below_what_was_observed_and_grow_with_it():
    above = np.linspace(NO_LIMIT + 0.01, 12.0, 400)
    for error in (1.0, 3.0, 40.0):
        value, sigma = limited(above, error, fill=1000.0)
        assert (value <= np.float32(1000.0) + (above * error).astype(np.float32)).all()
        assert (sigma > 0).all()
    value, _ = limited(above[above < 1.0])
    assert (np.diff(value) > 0).all()


def test_errors_are_not_below_the_least():
    _, sigma = limited(np.linspace(-4.0, 11.0, 50), error=1.2, least=0.9)
    assert sigma.min() == pytest.approx(0.9)
    # Nor is an error raised that was below them to begin with.
    _, sigma = limited(np.array([-2.0, 0.0]), error=0.5, least=0.9)
    np.testing.assert_array_equal(sigma, np.float32(0.5))


@pytest.mark.parametrize("above", [np.nan, np.inf, -np.inf, 13.0, 1e30, NO_LIMIT - 0.1, -1e30])
def test_what_says_nothing_changes_nothing(above):
    observed = np.array([above, -1.0], dtype=np.float32)
    fill, error = np.zeros(2, np.float32), np.ones(2, np.float32)
    value, sigma = limit_by_observed(fill, error, observed, error, 1.0)
    assert (value[0], sigma[0]) == (0.0, 1.0)
    assert value[1] < -1.0  # while the other pixel is limited


def test_what_detection_found_is_never_raised():
    above = np.array([-1e30, -300.0, NO_LIMIT - 0.1, NO_LIMIT + 0.1, 1.0, 20.0, np.nan])
    fill, error = np.full(7, 50.0, np.float32), np.full(7, 2.0, np.float32)
    observed = (fill + above * error).astype(np.float32)
    value, sigma = limit_by_observed(fill, error, observed, error, 1.0, detected=True)
    np.testing.assert_array_equal(value[:3], observed[:3])
    assert (value[:6] <= observed[:6]).all()
    np.testing.assert_array_equal(value[5:], fill[5:])
    np.testing.assert_array_equal(sigma[[0, 1, 2, 5, 6]], error[:5])
    # As low a value as the noise of photons makes it many times.
    same = np.full(7, 49.0, np.float32)
    assert (limit_by_observed(fill, error, same, error, 1.0, detected=True)[0] < 49.0).all()


def test_a_value_that_most_pixels_share_was_written_there():
    rng = np.random.default_rng(1)
    fill, error = rng.normal(0.0, 0.15, 300).astype(np.float32), np.ones(300, np.float32)
    observed = np.where(np.arange(300) < 200, np.float32(0.0), np.float32(0.5))
    value, _ = limit_by_observed(fill, error, observed, error, 1.0)
    np.testing.assert_array_equal(value[:200], fill[:200])
    assert (value[200:] <= 0.5).all()
    assert (value[200:] != fill[200:]).all()
    nothing = np.empty(0, np.float32)
    assert limit_by_observed(nothing, nothing, nothing, nothing, 1.0)[0].size == 0


def test_draws_from_the_model_are_nearer_to_the_truth_and_their_errors_hold():
    rng = np.random.default_rng(2)
    n = 200_000
    error = rng.uniform(1.0, 4.0, n).astype(np.float32)
    fill = rng.normal(50.0, 20.0, n).astype(np.float32)
    truth = fill + error * rng.normal(0.0, 1.0, n)
    # Charges in the assumed shares; those of any charge are flat up to `top`.
    top = 300.0
    longest = np.array([min(mean, top) for _, mean in CHARGES])
    pixels = np.array([share for share, _ in CHARGES]) * longest
    kind = rng.choice(len(CHARGES), n, p=pixels / pixels.sum())
    flat = np.isinf([mean for _, mean in CHARGES])[kind]
    charge = longest[kind] * np.where(flat, rng.random(n), rng.exponential(1.0, n))
    observed = (truth + charge).astype(np.float32)
    value, sigma = limit_by_observed(fill, error, observed, np.full(n, 0.01, np.float32), 1.0)
    off = value - truth
    limits = observed < fill + 12.0 * error
    near = observed < fill + 2.0 * error
    before, after = (np.sqrt(np.mean((x / error)[near] ** 2)) for x in (fill - truth, off))
    assert after < 0.75 * before
    assert abs(np.mean((off / error)[limits])) < 0.01
    assert np.mean(np.abs(off) < sigma) == pytest.approx(0.69, abs=0.02)
    assert np.mean(np.abs(off) < 2 * sigma) == pytest.approx(0.95, abs=0.01)
