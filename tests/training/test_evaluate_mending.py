import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from astropy.table import Table

from crmend_training import (
    classical_fills,
    mending_frames,
    mending_pixels,
)
from crmend_training import evaluate_mending as measure
from crmend_training import mending_summary as summary


def gaussian(shape, x, y, flux=1000.0, covariance=((2.0, 0.0), (0.0, 2.0))):
    rows, columns = np.indices(shape)
    inverse = np.linalg.inv(covariance)
    dx, dy = columns - x, rows - y
    distance = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2
    peak = flux / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    return (peak * np.exp(-0.5 * distance)).astype(np.float32)


def place(*values):
    return np.array(values, dtype=float)


# --- measurements -----------------------------------------------------------------------


def test_fluxes_of_a_gaussian():
    image = gaussian((64, 64), 32.3, 30.8)
    inside = measure.aperture_fluxes(image, place(32.3), place(30.8))
    assert inside[0] == pytest.approx(1000 * (1 - np.exp(-(5.0**2) / 4.0)), rel=2e-3)
    # A Kron ellipse holds 94 % of a galaxy and more of a Gaussian (Kron 1980).
    kron = measure.kron_fluxes(image, 0.5, place(32.0), place(31.0))
    assert 0.95 * 1000 < kron[0] < 1001
    nowhere = measure.kron_fluxes(image, 0.5, place(10.0), place(10.0))
    assert np.isnan(nowhere).all()


def test_ellipticity_is_that_of_the_weighted_gaussian():
    covariance = np.array([[3.0, 0.6], [0.6, 1.5]])
    image = gaussian((64, 64), 30.4, 33.7, covariance=covariance)
    # Gaussian times Gaussian: the inverse covariances add up.
    weighted = np.linalg.inv(np.linalg.inv(covariance) + np.eye(2) / 2.0**2)
    size = weighted[0, 0] + weighted[1, 1]
    expected = [(weighted[0, 0] - weighted[1, 1]) / size, 2 * weighted[0, 1] / size]
    found = measure.ellipticities(image, place(31.0), place(33.0))
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_coverage_of_gaussian_errors_that_are_twice_too_large(rng):
    result = measure.coverage(rng.normal(0.0, 0.5, 200_000))
    assert result["one"] == pytest.approx(95.45, abs=0.2)
    assert result["two"] == pytest.approx(99.99, abs=0.02)
    assert result["factor_68"] == pytest.approx(0.5, abs=5e-3)
    assert result["factor_95"] == pytest.approx(0.5, abs=5e-3)


def test_spread_counts_what_is_missing():
    result = measure.spread_of(np.array([-1.0, 0.0, 1.0, np.nan]))
    assert (result["n"], result["lost"], result["median"]) == (3, 1, 0.0)
    assert result["scatter"] == pytest.approx(0.68)
    assert result["rms"] == pytest.approx(np.sqrt(2 / 3))


def test_trend_is_the_range_of_the_medians_of_full_bins():
    along = np.repeat([0.5, 1.5, 2.5], [10, 10, 2])
    values = np.repeat([1.0, 4.0, 99.0], [10, 10, 2])
    assert measure.trend(values, along, (0.0, 1.0, 2.0, 3.0)) == {"range": 3.0, "error": 0.0}
    nothing = measure.trend(values, along, (0.0, 1.0))
    assert np.isnan(nothing["range"])


def test_error_of_a_median_is_that_of_many_samples(rng):
    samples = rng.normal(size=(2000, 100))
    errors = [measure.spread_of(sample)["error"] for sample in samples[:200]]
    assert np.mean(errors) == pytest.approx(np.median(samples, axis=1).std(), rel=0.1)


def test_searching_near_sources_only_changes_no_kron_flux(rng):
    image = rng.normal(0.0, 0.5, (200, 200)).astype(np.float32)
    for x, y in ((60.2, 61.0), (140.0, 130.7), (61.0, 140.0)):
        image += gaussian(image.shape, x, y)
    x, y = place(60.0, 140.0), place(61.0, 131.0)
    near = np.zeros(image.shape, bool)
    near[29:94, 28:93] = near[99:164, 108:173] = True
    everywhere = measure.kron_fluxes(image, 0.5, x, y)
    assert np.isfinite(everywhere).all()
    np.testing.assert_array_equal(measure.kron_fluxes(image, 0.5, x, y, near), everywhere)
    assert np.isnan(measure.kron_fluxes(image, 0.5, place(61.0), place(140.0), near)).all()


def test_grown_mask_takes_all_eight_neighbours():
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert measure.grown(mask, 1).sum() == 9
    assert measure.grown(mask, 0).sum() == 1


# --- fills ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", classical_fills.PEERS)
def test_every_fill_restores_a_constant_and_changes_nothing_else(rng, name):
    fills, errors = classical_fills.load_fills([name])
    if errors:
        pytest.skip(errors[name])
    mask = rng.random((40, 50)) < 0.05
    image = np.where(mask, 900.0, 7.0).astype(np.float32)
    image[0, 0] = 8.0
    mask[0, 0] = False
    filled = classical_fills.fill_groups(fills[name], image, mask)
    np.testing.assert_allclose(filled[mask], 7.0, atol=0.6)
    assert np.median(filled[mask]) == pytest.approx(7.0, abs=1e-2)
    np.testing.assert_array_equal(filled[~mask], image[~mask])


def test_groups_are_filled_as_the_whole_frame_is(rng):
    fills, _ = classical_fills.load_fills(["5×5 median"])
    image = rng.normal(size=(60, 60)).astype(np.float32)
    mask = rng.random(image.shape) < 0.03
    grouped = classical_fills.fill_groups(fills["5×5 median"], image, mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        window = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        assert grouped[y, x] == np.median(image[window][~mask[window]])


@pytest.mark.parametrize("name", ["5×5 median", "biharmonic", "maskfill"])
def test_fills_of_some_groups_are_those_of_all(rng, name):
    fills, errors = classical_fills.load_fills([name])
    if errors:
        pytest.skip(errors[name])
    image = rng.normal(size=(60, 60)).astype(np.float32)
    mask = rng.random(image.shape) < 0.01
    near = np.zeros(image.shape, bool)
    near[:20, :20] = True
    only = classical_fills.groups_near(mask, near)
    assert (only & ~mask).sum() == 0
    assert 0 < only.sum() < mask.sum()
    np.testing.assert_array_equal(only[:20, :20], mask[:20, :20])
    everything = classical_fills.fill_groups(fills[name], image, mask)
    some = classical_fills.fill_groups(fills[name], image, mask, only=only)
    np.testing.assert_array_equal(some[only], everything[only])
    np.testing.assert_array_equal(some[~only], image[~only])


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    fills, errors = classical_fills.load_fills(["3×3 median", "OpenCV NS"])
    assert list(fills) == ["3×3 median"]
    assert "cv2" in errors["OpenCV NS"]
    with pytest.raises(ValueError, match="no fill is called 'magic'"):
        classical_fills.load_fills(["magic"])


# --- frames -----------------------------------------------------------------------------


@pytest.fixture
def frame(rng):
    """Four stars of 1000 e-/s, two of them hit: one in its core, one 4 px out."""
    stars = [(40.0, 40.0), (90.0, 40.0), (40.0, 90.0), (90.0, 90.0)]
    clean = rng.normal(0.0, 0.5, (128, 128)).astype(np.float32)
    clean += sum(gaussian(clean.shape, x, y) for x, y in stars)
    truth = np.zeros_like(clean)
    truth[40, 40] = truth[40, 94] = 5000.0
    catalog = Table(
        {
            "id": [1, 2, 3, 4], "type": ["star"] * 4,
            "x": [s[0] for s in stars], "y": [s[1] for s in stars],
            "mag": [17.5] * 4, "flux": [1000.0] * 4, "r_half": [0.0] * 4,
        }
    )  # fmt: skip
    none = np.zeros(clean.shape, bool)
    return mending_frames.HitFrame(
        detector="8", image=clean + truth, clean=clean, truth=truth,
        error=np.full_like(clean, 0.5), invalid=none, saturated=none,
        background=np.zeros_like(clean), noise=0.5, electrons=1.0, zero_point=25.0,
        catalog=catalog,
    )  # fmt: skip


def mended(frame, image, error):
    off = image.copy()
    off[40, 42] += 100.0  # a tenth of the first star's light, 2 px from its centre along x
    images = {"ours": image, "contaminated": frame.image, "off": off}
    method = np.where(frame.true_mask, 2, 0).astype(np.uint8)
    return mending_frames.Mended(frame.true_mask, images, error, method, frame.true_mask)


def test_hit_sources_are_those_with_a_cr_inside_or_outside(frame):
    sources = mending_frames.usable_sources(frame)
    assert len(sources) == 4
    # S/N of 1000 e-: √(998 + 78.5 · 0.25) of noise.
    np.testing.assert_allclose(sources["snr"], 998.1 / np.sqrt(998.1 + 19.6), rtol=0.02)
    # Half the light of a Gaussian lies within √(2 ln 2) of its sigma.
    np.testing.assert_allclose(
        sources["half_light"], np.sqrt(2 * np.log(2)) * np.sqrt(2), rtol=0.1
    )
    done = {"true": mended(frame, frame.clean, frame.error)}
    hits = mending_frames.hit_table(frame, sources)
    rows = mending_frames.score_sources(frame, sources, hits, done)
    assert [(row["x"], row["inside"]) for row in rows] == [(40.0, True), (90.0, False)]
    for row in rows:
        assert row["aperture"]["true: ours"] == row["aperture"]["CR-free"]
        assert row["aperture"]["true: contaminated"] < row["aperture"]["CR-free"] - 1.5
    table = summary.summarise_sources(rows)
    ours = next(r for r in table if r["method"] == "ours" and r["where"] == "all")
    assert ours["aperture"]["ratio"] == 1.0
    assert ours["aperture"]["implied"] == 1.0
    # What another fill leaves without light counts for neither.
    rows[0]["aperture"]["true: off"] = np.nan
    table = summary.summarise_sources(rows)
    ours = next(r for r in table if r["method"] == "ours" and r["where"] == "all")
    assert (ours["aperture"]["change"]["n"], ours["aperture"]["shared"]["n"]) == (2, 1)
    added = [r for r in summary.summarise_shapes(rows) if r["type"] == "star"]
    by_method = {row["method"]: row["e1"] for row in added}
    assert by_method["ours"]["mean"] == 0.0
    assert by_method["off"]["n"] == 2
    assert by_method["off"]["mean"] > 0.01


def test_pulls_know_sky_from_sources(frame):
    truth = frame.truth.copy()
    truth[64, 64] = 100.0  # 34 px from every star
    object.__setattr__(frame, "truth", truth)
    sky = mending_pixels.sky_mask(frame)
    assert sky[64, 64]
    assert not sky[40, 44]
    one = mended(frame, frame.clean + np.float32(1.0), frame.error)
    pulls = mending_pixels.pulls_of(frame, one, sky)
    np.testing.assert_allclose(pulls["pull"], 2.0, rtol=1e-5)
    assert pulls["group"].tolist() == [0, 0, -1]  # in the order of the pixels
    rows = summary.summarise_pulls({"true": [pulls]})
    on_sky = next(row for row in rows if row["place"] == "sky")
    assert (on_sky["n"], on_sky["factor_68"]) == (1, pytest.approx(2.0, rel=1e-5))
    differences = mending_pixels.sky_differences(frame, one, sky)
    np.testing.assert_allclose(differences["ours"], [2.0], rtol=1e-5)


def test_rounds_move_the_cosmic_rays_and_nothing_else(frame, rng):
    first, second = mending_frames.rounds_of(frame, 2, rng)
    assert first is frame
    np.testing.assert_array_equal(second.clean, frame.clean)
    added = second.image - second.clean
    np.testing.assert_allclose(added, second.truth, atol=1e-3)
    assert sorted(second.truth[second.truth > 0]) == [5000.0, 5000.0]
    assert not second.true_mask[frame.true_mask].any()


def test_changes_outside_the_mask_are_counted_bit_by_bit(frame):
    image, error = frame.image.copy(), frame.error.copy()
    image[frame.true_mask] = 0.0
    image[0, 0] = np.nan
    object.__setattr__(frame, "image", np.where(np.isnan(image), image, frame.image))
    same = mended(frame, image, error)
    assert mending_pixels.changed_outside(frame, same) == 0
    image[5, 5] = np.nextafter(image[5, 5], np.float32(np.inf))
    error[6, 6] += 1.0
    assert mending_pixels.changed_outside(frame, mended(frame, image, error)) == 2


def test_fills_near_sources_and_in_tiles_only(frame, rng):
    hits = mending_frames.hit_table(frame, mending_frames.usable_sources(frame))
    near = mending_frames.near_sources(frame, hits)
    assert near[40, 40]
    assert near[40, 94]
    assert not near[100, 40]
    tiles = mending_pixels.sky_tiles(frame, rng, share=0.5)
    blocks = tiles.reshape(2, 64, 2, 64).transpose(0, 2, 1, 3).reshape(4, -1)
    assert all(block.all() or not block.any() for block in blocks)
