import numpy as np
import pytest

pytest.importorskip("torch")

from crmend._limits import Limits
from crmend_training import calibrate, evaluate


def test_curve_counts_recall_above_5_and_precision_above_0_electrons():
    probability = np.array([[0.9, 0.8, 0.7, 0.2, 0.95]])
    cr = np.array([[100.0, 3.0, 0.0, 50.0, 80.0]])
    ignore = np.array([[False, False, False, False, True]])
    counter = evaluate.CurveCounter()
    counter.add(probability, cr, ignore)
    curve = counter.curve()
    # At 0.5: of the bright pixels (100, 50) one is found; of three flagged two are CRs.
    recall, precision = curve.at_threshold(0.5)
    assert recall == pytest.approx(0.5)
    assert precision == pytest.approx(2 / 3)
    assert curve.at_recall(1.0)[0] == pytest.approx(0.2, abs=0.01)
    threshold, recall = curve.at_precision(0.99)
    assert 0.69 < threshold < 0.8
    assert recall == pytest.approx(0.5)
    # Flagging 0.9 and 0.8 has recall 0.5 and precision 1; all four, recall 1 and 3/4.
    assert calibrate.best_f1(evaluate.pooled_curve([counter, counter])) < 0.201


def test_of_flat_f1_the_middle_counts():
    threshold = np.array([0.1, 0.2, 0.5, 0.8, 0.95])
    recall = np.array([0.99, 0.91, 0.90, 0.89, 0.5])
    precision = np.array([0.5, 0.89, 0.90, 0.91, 0.99])
    curve = evaluate.Curve(threshold, recall, precision)
    # 0.2 and 0.8 are as far from 0.5 in log-odds.
    assert calibrate.middle_of_best(curve, 0.002) == pytest.approx(0.5)
    assert calibrate.best_f1(curve) == pytest.approx(0.5)
    only = evaluate.Curve(threshold[:2], recall[:2], precision[:2])
    assert calibrate.middle_of_best(only, 0.002) == pytest.approx(0.2)
    ends = evaluate.Curve(np.array([0.0, 1.0]), np.full(2, 0.5), np.full(2, 0.5))
    assert calibrate.middle_of_best(ends, 0.002) == pytest.approx(0.5)


def two_groups(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probability, CR charge and ignored pixels of noisy groups of pixels."""
    probability = rng.random((60, 70), np.float32) ** 2
    cr = np.where(rng.random((60, 70)) < probability, rng.exponential(20.0, (60, 70)), 0.0)
    return probability, cr, rng.random((60, 70)) < 0.1


def test_seed_thresholds_are_scored_as_the_runtime_applies_them(rng):
    counters, frames = [], [two_groups(rng) for _ in range(2)]
    for frame in frames:
        counters.append(evaluate.GroupCounter())
        counters[-1].add(*frame)
    seeds = (0.5, 0.9, 0.99)
    recall, precision = evaluate.pooled_groups(counters).scores(0.5, seeds)
    for seed, found in zip(seeds, zip(recall, precision, strict=True), strict=True):
        rows = [
            # The runtime's probability is 0 where a pixel is ignored.
            evaluate.mask_scores(Limits(0.5, seed).mask(np.where(ignore, 0, p)), cr, ignore)
            for p, cr, ignore in frames
        ]
        assert found == pytest.approx(evaluate.pooled(rows))
    assert recall[0] > recall[1] > recall[2]
    with pytest.raises(ValueError, match=r"threshold is 0\.01; expected at least 0\.02"):
        counters[0].scores(0.01, seeds)


def test_the_seed_threshold_is_the_highest_that_costs_little_recall():
    probability = np.zeros((1, 30), np.float32)
    probability[0, ::3] = [0.65, 0.95, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96]
    cr = np.where(probability > 0.65, 100.0, 0.0)  # the group that 0.65 makes holds no CR
    groups = evaluate.GroupCounter()
    groups.add(probability, cr, np.zeros(cr.shape, bool))
    assert calibrate.choose_seed(groups, 0.5) == 0.95
    assert calibrate.choose_seed(groups, 0.955) is None


def test_pooled_scores_weigh_pixels_not_frames():
    ignore = np.zeros((1, 4), bool)
    cr = np.array([[10.0, 10.0, 0.0, 0.0]])
    rows = [
        evaluate.mask_scores(np.array([[True, False, True, False]]), cr, ignore),
        evaluate.mask_scores(np.array([[True, True, False, False]]), cr, ignore),
    ]
    assert evaluate.pooled(rows) == (pytest.approx(3 / 4), pytest.approx(3 / 4))


def test_masked_median_ignores_masked_neighbours():
    image = np.ones((5, 5), np.float32)
    image[2, 2] = image[2, 3] = 100.0
    mask = image > 50
    np.testing.assert_array_equal(evaluate.masked_median(image, mask), np.ones((5, 5)))


def test_aperture_magnitude_of_a_known_flux():
    y, x = np.mgrid[:41, :41]
    star = (
        1000.0 / (2 * np.pi * 1.2**2) * np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / (2 * 1.2**2))
    )
    magnitude = evaluate.aperture_magnitudes(
        star + 7.0, 7.0, np.array([20.0]), np.array([20.0])
    )
    inside = 1 - np.exp(-(5.0**2) / (2 * 1.2**2))
    assert magnitude[0] == pytest.approx(-2.5 * np.log10(1000.0 * inside), abs=2e-3)


def test_summary_of_a_known_spread():
    values = np.linspace(-1.0, 1.0, 2001)
    result = evaluate.summary(values)
    assert result["bias"] == pytest.approx(0.0, abs=1e-12)
    assert result["median_abs"] == pytest.approx(0.5, abs=1e-3)
    assert result["scatter"] == pytest.approx(0.68, abs=1e-3)


def test_astroscrappy_finds_a_bright_track_and_the_grid_has_no_repeats(rng):
    pytest.importorskip("astroscrappy")
    image = rng.normal(100.0, 10.0, (64, 64)).astype(np.float32)
    image[30, 20:40] += 3000.0
    mask = evaluate.run_astroscrappy(
        image, np.zeros((64, 64), bool), sigclip=4.5, sigfrac=0.3, objlim=5.0
    )
    assert mask[30, 20:40].all()
    grid = [tuple(sorted(settings.items())) for settings in evaluate.astroscrappy_grid()]
    assert len(set(grid)) == len(grid) == 36
