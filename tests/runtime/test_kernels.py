"""The compiled loops against literal arrays and against plain numpy twins."""

import numpy as np
import pytest
from scipy import ndimage

from crmend._events import count_events
from crmend._kernels import MIN_GOOD, adaptive_median, fill_invalid, smooth_fill

NAN = np.nan


def good_in_window(image, good, y, x, half):
    rows = slice(max(y - half, 0), y + half + 1)
    columns = slice(max(x - half, 0), x + half + 1)
    return image[rows, columns][good[rows, columns]]


def fill_invalid_twin(image, invalid, fill_value):
    good = ~invalid & np.isfinite(image)
    out = image.copy()
    for y, x in zip(*np.nonzero(invalid), strict=True):
        values = good_in_window(image, good, y, x, 2)
        out[y, x] = np.median(values) if values.size else fill_value
    return out


def adaptive_median_twin(image, cr_mask, invalid, min_good, fill_value):
    good = ~cr_mask & ~invalid & np.isfinite(image)
    out = image.copy()
    mads = []
    for y, x in zip(*np.nonzero(cr_mask), strict=True):
        for half in (1, 2, 3, 4, 5):
            values = good_in_window(image, good, y, x, half)
            if values.size >= min_good:
                break
        out[y, x] = np.median(values) if values.size else fill_value
        mads.append(np.median(np.abs(values - np.median(values))) if values.size > 1 else NAN)
    return out, np.array(mads)


def run_adaptive_median(image, cr_mask, invalid=None, min_good=5, fill_value=-1.0):
    out = image.copy()
    spread = np.empty(np.count_nonzero(cr_mask), dtype=np.float32)
    unusable = np.zeros_like(cr_mask) if invalid is None else invalid
    adaptive_median(image, cr_mask, unusable, min_good, fill_value, out, spread)
    return out, spread


@pytest.fixture
def noisy():
    rng = np.random.default_rng(5)
    image = rng.normal(10.0, 2.0, (37, 41)).astype(np.float32)
    cr_mask = rng.random(image.shape) < 0.1
    cr_mask[5:12, 20:29] = True
    cr_mask[:3, :3] = True
    invalid = rng.random(image.shape) < 0.05
    image[rng.random(image.shape) < 0.03] = NAN
    image[20, 20] = np.inf
    return image, cr_mask, invalid


def test_fill_invalid_takes_the_median_of_the_valid_neighbours():
    image = np.array([[1, 2, 3, 40, 50], [6, 999, 8, 41, 51]], dtype=np.float32)
    invalid = image == 999
    out = np.empty_like(image)
    fill_invalid(image, invalid, 0.0, out)
    # The window reaches two columns to the right: 1 2 3 6 8 and 40, 41.
    assert out[1, 1] == 6.0
    np.testing.assert_array_equal(out[~invalid], image[~invalid])


def test_fill_invalid_uses_the_fill_value_when_nothing_is_valid():
    image = np.full((1, 1), NAN, dtype=np.float32)
    out = np.empty_like(image)
    fill_invalid(image, np.ones((1, 1), dtype=bool), 7.5, out)
    assert out[0, 0] == 7.5


def test_fill_invalid_equals_its_twin_also_in_place(noisy):
    image, _, invalid = noisy
    invalid[25:33, 5:15] = True
    expected = fill_invalid_twin(image, invalid, 3.0)
    out = np.empty_like(image)
    fill_invalid(image, invalid, 3.0, out)
    np.testing.assert_array_equal(out, expected)
    fill_invalid(image, invalid, 3.0, image)
    np.testing.assert_array_equal(image, expected)


def test_fill_invalid_keeps_the_bits_of_a_valid_nan():
    image = np.zeros((3, 3), dtype=np.float32)
    image.view(np.uint32)[1, 1] = 0x7FC12345
    out = np.empty_like(image)
    fill_invalid(image, np.zeros((3, 3), dtype=bool), 0.0, out)
    assert out.view(np.uint32)[1, 1] == 0x7FC12345


def test_adaptive_median_in_the_smallest_window():
    image = np.array([[1, 2, 3], [4, 500, 6], [7, 8, 30]], dtype=np.float32)
    out, spread = run_adaptive_median(image, image == 500)
    assert out[1, 1] == 5.0
    # |1 2 3 4 6 7 8 30 - 5| has the median (2 + 3) / 2; correction for eight values 1.129.
    assert spread == pytest.approx([2.5 * 1.482602 * 1.129])


def test_adaptive_median_window_grows_only_where_too_few_are_good():
    image = np.arange(49, dtype=np.float32).reshape(7, 7)
    cr_mask = np.zeros((7, 7), dtype=bool)
    cr_mask[2:5, 2:5] = True
    cr_mask[2, 2] = False
    out, _ = run_adaptive_median(image, cr_mask, min_good=5)
    # The centre sees one good pixel in 3×3, then 17 in 5×5: its ring and (2, 2) = 16.
    ring = [*range(8, 13), *range(36, 41), 15, 22, 29, 19, 26, 33, 16]
    assert out[3, 3] == np.median(ring)
    # (2, 4) sees 10 11 12 19 26 in 3×3, which is enough.
    assert out[2, 4] == 12.0


def test_adaptive_median_stops_at_eleven_and_takes_what_is_there():
    image = np.full((15, 15), 9.0, dtype=np.float32)
    cr_mask = np.ones((15, 15), dtype=bool)
    cr_mask[2, 2] = False
    image[2, 2] = 4.0
    out, spread = run_adaptive_median(image, cr_mask, fill_value=-1.0)
    assert out[7, 7] == 4.0
    assert out[8, 7] == -1.0
    assert np.isnan(spread).all()


@pytest.mark.parametrize("min_good", [5, MIN_GOOD])
def test_adaptive_median_equals_its_twin_also_in_place(noisy, min_good):
    image, cr_mask, invalid = noisy
    expected, _ = adaptive_median_twin(image, cr_mask, invalid, min_good, -1.0)
    out, _ = run_adaptive_median(image, cr_mask, invalid, min_good)
    np.testing.assert_array_equal(out, expected)
    spread = np.empty(np.count_nonzero(cr_mask), dtype=np.float32)
    adaptive_median(image, cr_mask, invalid, min_good, -1.0, image, spread)
    np.testing.assert_array_equal(image, expected)


def test_spread_follows_the_mad_in_the_order_of_the_pixels(noisy):
    image, cr_mask, invalid = noisy
    _, mads = adaptive_median_twin(image, cr_mask, invalid, 5, -1.0)
    _, spread = run_adaptive_median(image, cr_mask, invalid)
    # The corrections of Croux & Rousseeuw lie between 1 and 1.206 for five or more.
    ratio = spread / (1.482602 * mads)
    assert ratio.min() > 0.999
    assert ratio.max() < 1.207


@pytest.mark.parametrize(("width", "count"), [(2, 1), (3, 2), (2, 3), (3, 5), (3, 8)])
def test_spread_is_the_sigma_of_the_noise_for_any_sample_size(width, count):
    rng = np.random.default_rng(11)
    trials = 4000
    sigmas = []
    for _ in range(trials):
        image = rng.normal(0.0, 3.0, (3, width)).astype(np.float32)
        invalid = np.ones(image.shape, dtype=bool)
        cr_mask = np.zeros(image.shape, dtype=bool)
        cr_mask[1, 1] = True
        others = [i for i in range(image.size) if i != width + 1][:count]
        invalid.flat[others] = False
        sigmas.append(run_adaptive_median(image, cr_mask, invalid)[1][0])
    if count == 1:
        assert np.isnan(sigmas).all()
    else:
        assert np.mean(sigmas) == pytest.approx(3.0, rel=0.05)


def test_no_cosmic_rays_no_change():
    image = np.array([[NAN, 1.0]], dtype=np.float32)
    out, spread = run_adaptive_median(image, np.zeros((1, 2), dtype=bool))
    np.testing.assert_array_equal(out, image)
    assert spread.size == 0


def test_spread_may_be_larger_than_needed_and_of_any_shape(noisy):
    image, cr_mask, invalid = noisy
    _, expected = run_adaptive_median(image, cr_mask, invalid)
    spread = np.full(image.shape, -1.0, dtype=np.float32)
    adaptive_median(image, cr_mask, invalid, 5, -1.0, image.copy(), spread)
    np.testing.assert_array_equal(spread.ravel()[: expected.size], expected)
    assert (spread.ravel()[expected.size :] == -1.0).all()


def events_in(text):
    mask = np.array([[c == "#" for c in row] for row in text.split()])
    return count_events(mask, np.empty(max(mask.sum(), 1), dtype=np.int32))


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("...", 0),
        ("#", 1),
        ("#.#", 2),
        ("#.. .#. ..#", 1),
        ("..# .#. #..", 1),
        ("#.# #.# ###", 1),
        ("#.#.# #.#.# ####.", 1),
        ("### #.# ###", 1),
        (".#.#. #.#.# .....  #####", 2),
        ("#...# .#.#. ..#..", 1),
        ("#....# ...... #....#", 4),
    ],
)
def test_events_are_eight_connected_groups(text, events):
    assert events_in(text) == events


def test_events_agree_with_scipy():
    rng = np.random.default_rng(2)
    for density in (0.02, 0.2, 0.4, 0.6):
        mask = rng.random((150, 170)) < density
        expected = ndimage.label(mask, np.ones((3, 3)))[1]
        assert count_events(mask, np.empty(mask.sum(), dtype=np.int32)) == expected


def biharmonic_twin(field, cr_mask):
    """Solve the biharmonic equation on masked pixels directly, as a linear system."""
    stencil = np.zeros((5, 5))
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    for (y, x), weight in np.ndenumerate(laplacian):
        stencil[y : y + 3, x : x + 3] += weight * laplacian
    places = {tuple(place): i for i, place in enumerate(np.argwhere(cr_mask))}
    matrix, right = np.zeros((len(places), len(places))), np.zeros(len(places))
    for (y, x), i in places.items():
        for (v, u), weight in np.ndenumerate(stencil):
            neighbour = (y + v - 2, x + u - 2)
            if neighbour in places:
                matrix[i, places[neighbour]] += weight
            else:
                right[i] -= weight * field[neighbour]
    solved = field.copy()
    solved[cr_mask] = np.linalg.solve(matrix, right)
    return solved


def test_smooth_fill_solves_the_biharmonic_equation_of_the_asinh():
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.normal(0.0, 8.0, (40, 40)), 2.0)
    cr_mask = np.zeros(field.shape, dtype=bool)
    cr_mask[10:13, 8:12] = True
    cr_mask[np.arange(20, 30), np.arange(15, 25)] = True
    stamps = (10.0 * np.sinh(field))[np.newaxis].astype(np.float32)
    expected = 10.0 * np.sinh(biharmonic_twin(np.arcsinh(stamps[0] / 10.0), cr_mask))
    before = stamps.copy()
    stamps[0][cr_mask] = 0.0
    smooth_fill(stamps, cr_mask[np.newaxis])
    np.testing.assert_array_equal(stamps[0][~cr_mask], before[0][~cr_mask])
    np.testing.assert_allclose(stamps[0][cr_mask], expected[cr_mask], rtol=2e-3, atol=0.02)


def test_smooth_fill_continues_a_star_where_a_median_does_not():
    y, x = np.mgrid[-20:20, -20:20]
    star = (3000.0 * np.exp(-0.5 * (x**2 + y**2) / 1.5**2)).astype(np.float32)
    cr_mask = (abs(x - 1) <= 1) & (abs(y) <= 1)
    filled, _ = run_adaptive_median(star, cr_mask)
    smooth = filled[np.newaxis].copy()
    smooth_fill(smooth, cr_mask[np.newaxis])
    assert abs(smooth.sum() / star.sum() - 1) < 0.03
    assert abs(filled.sum() / star.sum() - 1) > 0.2


def test_smooth_fill_stays_in_bounds_at_edges_and_without_a_good_pixel():
    rng = np.random.default_rng(4)
    stamps = rng.normal(0.0, 1.0, (3, 16, 16)).astype(np.float32)
    stamps[0, 8, 8] = 1e5
    cr_mask = np.zeros(stamps.shape, dtype=bool)
    cr_mask[0, :6, :6] = cr_mask[0, 9:, 2:] = True
    cr_mask[1] = True
    before = stamps.copy()
    smooth_fill(stamps, cr_mask)
    assert np.isfinite(stamps).all()
    assert np.abs(stamps[0]).max() < 1e5 * np.exp(1.6)
    np.testing.assert_array_equal(stamps[1:], before[1:])
