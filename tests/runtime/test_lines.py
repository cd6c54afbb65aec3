"""Cosmic-ray pixels on lines filled from the pixels along them."""

import numpy as np
import pytest

from crmend._fit import solve_normal
from crmend._lines import CELL, fill_lines
from crmend._low_rank import fit_products

SHAPE = (90, 110)
NOISE = 3.0
LINES = ((20.0, 300.0), (44.5, 80.0), (71.0, 1500.0), (90.3, 150.0))
"""Column and peak."""


def slit(lean=0.0, trace=0.0):
    """Return lines along columns, leaning by so many px per px, and a trace along a row."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    light = np.full(SHAPE, 100.0)
    for column, peak in LINES:
        light += peak * np.exp(-0.5 * ((x - column - lean * (y - 45)) / 1.4) ** 2)
    return light + trace * np.exp(-0.5 * ((y - 40) / 1.8) ** 2) * (1.0 + 0.3 * np.sin(x / 20))


def faint(light):
    """Return a tenth of the light: leaning lines are followed by whole pixels only."""
    return 100.0 + 0.1 * (light - 100.0)


def stars():
    """Return round stars on a flat sky, on which lie the same cosmic rays."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    light, rng = np.full(SHAPE, 100.0), np.random.default_rng(11)
    for row, column, peak in rng.uniform((0, 0, 50), (*SHAPE, 1500), (50, 3)):
        light += peak * np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2) / 1.4**2)
    return light


def rays():
    """Return a mask of short tracks, on lines and beside them."""
    mask = np.zeros(SHAPE, dtype=bool)
    for row in range(10, 80, 14):
        for column in (20, 44, 58, 71, 90):
            for step in range(5):
                mask[row + step, column - 2 + step] = mask[row + step, column - 1 + step] = True
    return mask


def filled(light, mask, **options):
    """Return values and sigma at CR pixels that hold 1e4 more, and what they were without."""
    image = np.random.default_rng(3).normal(light, NOISE).astype(np.float32)
    hit = np.where(mask, image + np.float32(1e4), image)
    error = np.full(SHAPE, NOISE, dtype=np.float32)
    none = np.zeros(SHAPE, dtype=bool)
    excluded = options.pop("excluded", none)
    values, sigma = fill_lines(hit, error, mask, excluded, NOISE, **options)
    return values, sigma, image[mask]


@pytest.mark.parametrize(
    ("light", "share", "rms"),
    [
        (slit(), 0.9, 1.2), (slit().T[:90, :90], 0.9, 1.2), (slit(trace=400.0), 0.7, 1.2),
        (faint(slit(lean=0.12)), 0.7, 2.0), (faint(slit(lean=-0.12)), 0.7, 2.0),
    ],
    ids=["columns", "rows", "crossed", "leaning", "leaning back"],
)  # fmt: skip
def test_lines_are_continued(light, share, rms):
    light = np.pad(light, [(0, SHAPE[i] - light.shape[i]) for i in (0, 1)], mode="edge")
    values, sigma, truth = filled(light, rays())
    known = np.isfinite(values)
    assert known.mean() > share
    # What is left is the noise of the pixel itself, and some of the fit's.
    left = (values - truth)[known]
    assert np.sqrt(np.mean(left**2)) < rms * NOISE
    assert 0.6 < np.mean(np.abs(left) < sigma[known]) < 0.9


@pytest.mark.parametrize("light", [stars(), np.full(SHAPE, 100.0)], ids=["stars", "sky"])
def test_what_is_no_line_is_left(light):
    values, sigma, _ = filled(light, rays())
    assert np.isfinite(values).mean() < 0.05
    assert np.array_equal(np.isnan(values), np.isnan(sigma))


def test_a_star_on_a_line_is_no_line():
    light = slit()
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light += 900.0 * np.exp(-0.5 * ((x - 20) ** 2 + (y - 54) ** 2) / 2.0**2)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[53:56, 19:22] = True
    values, _, truth = filled(light, mask)
    # Left to what knows stars, or fitted: never the line without its star.
    assert np.all(np.isnan(values) | (np.abs(values - truth) < 60.0))


def test_a_star_as_wide_as_a_line_is_none():
    """A Gaussian star is a product of a column and a row, and has wings on both sides."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = 100.0 + 900.0 * np.exp(-((x - 54.0) ** 2 + (y - 45.0) ** 2) / 12.0)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[46, 52:58] = True
    assert np.isnan(filled(light, mask)[0]).all()


def test_stars_that_line_up_are_none():
    """Their wings are alike on both sides of a window, and not further on."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    light, rng = np.full(SHAPE, 100.0), np.random.default_rng(2)
    for row, column, peak in rng.uniform((0, 0, 50), (*SHAPE, 3000), (20, 3)):
        light += peak * (1.0 + ((x - column) ** 2 + (y - row) ** 2) / 4.0) ** -2.5
    assert np.isnan(filled(light, rays())[0]).all()


def test_one_cosmic_ray_on_a_line():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[40, 68:74] = True
    values, _, truth = filled(slit(), mask)
    assert np.abs(values - truth).max() < 5.0 * NOISE


def test_excluded_pixels_are_used_for_nothing():
    light, mask = slit(), rays()
    excluded = np.zeros(SHAPE, dtype=bool)
    excluded[5::9, 3::7] = True
    excluded &= ~mask
    expected = filled(light, mask, excluded=excluded)[:2]
    spoilt = np.where(excluded, np.nan, light)
    for one, other in zip(filled(spoilt, mask, excluded=excluded)[:2], expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("crmend._lines._BLOCK", 3)
    one, two = (filled(slit(), rays(), threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_a_row_that_is_lost_is_not_guessed():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[40, 4:100] = True
    values, _, _ = filled(slit(), mask)
    assert np.isnan(values[30:60]).all()


def test_no_cosmic_ray():
    values, sigma, _ = filled(slit(), np.zeros(SHAPE, dtype=bool))
    assert values.size == sigma.size == 0


@pytest.mark.parametrize("side", [3, CELL, 20])
def test_small_images(side):
    mask = np.zeros((side, side), dtype=bool)
    mask[side // 2, side // 2] = True
    image = np.ones((side, side), dtype=np.float32)
    values, _ = fill_lines(image, image, mask, np.zeros_like(mask), 1.0)
    assert np.isnan(values).all()


def test_products_are_those_of_an_exact_window():
    rng = np.random.default_rng(1)
    u, v = rng.normal(0, 1, (2, 28)), rng.normal(0, 200.0, (2, 28))
    data = np.einsum("ky,kx->yx", u, v)
    weight = np.ones((28, 28))
    weight[9:15, 11:14] = 0.0
    model, variance = np.empty_like(data), np.empty_like(data)
    fit_products(np.where(weight > 0, data, 0.0), weight, model, variance)
    assert np.abs(model - data).max() < 0.05 * data.std()


def test_noise_is_shrunk():
    data = np.random.default_rng(2).normal(0.0, 1.0, (28, 28))
    model, variance = np.empty_like(data), np.empty_like(data)
    fit_products(data, np.ones_like(data), model, variance)
    # Without a prior the two largest singular values would be fitted.
    largest = np.linalg.svd(data, compute_uv=False)[:2]
    assert np.sum(model**2) < 0.5 * np.sum(largest**2)
    assert variance.mean() == pytest.approx(1.0, abs=0.25)


def test_variance_grows_with_light():
    rng = np.random.default_rng(4)
    light = np.outer(np.ones(28), 400.0 * np.exp(-0.5 * ((np.arange(28) - 14) / 3.0) ** 2))
    data = rng.normal(light, np.sqrt(1.0 + 0.5 * light))
    model, variance = np.empty_like(data), np.empty_like(data)
    fit_products(data, np.ones_like(data), model, variance)
    peak = np.s_[:, 12:17]
    assert variance[peak].mean() == pytest.approx((1.0 + 0.5 * light)[peak].mean(), rel=0.3)


def test_normal_equations_are_solved_as_numpy_solves_them():
    rng = np.random.default_rng(5)
    for n in (1, 2, 3):
        root = rng.normal(size=(n, n + 2))
        matrix, right = root @ root.T, rng.normal(size=n)
        expected = np.linalg.solve(matrix, right)
        found = np.empty(n)
        solve_normal(matrix, right, 0.0, found)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
