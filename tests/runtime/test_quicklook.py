"""The quick-look picture: what is shown where, on small frames."""

import numpy as np
import pytest

from crmend import _quicklook
from crmend._normalise import Scale

SCALE = Scale(background=10.0, noise=2.0)


def _frame(shape=(130, 200), seed=3):
    return np.random.default_rng(seed).normal(10.0, 2.0, shape).astype(np.float32)


def _chip(after, method, before=None):
    before = after if before is None else before
    kept = _quicklook.keep_before(before, SCALE)
    return _quicklook.Chip(kept, after, method, "frame.fits", ("some facts", "more facts"))


def test_kept_copy_is_in_noise_units_and_half_the_size():
    image = np.array([[10.0, 14.0, np.nan], [6.0, np.inf, 1e30]], dtype=np.float32)
    kept = _quicklook.keep_before(image, SCALE)
    assert kept.values.nbytes * 2 == image.nbytes
    np.testing.assert_array_equal(kept.values[0, :2], [0.0, 2.0])
    assert kept.values[1, 0] == -2.0
    assert np.isnan(kept.values[0, 2])
    assert np.isnan(kept.values[1, 1])
    assert np.isfinite(kept.values[1, 2])  # too bright for float16, but no gap


def test_kept_copy_does_not_follow_the_image():
    image = _frame()
    kept = _quicklook.keep_before(image, SCALE)
    expected = kept.values.copy()
    image[:] = 0.0
    np.testing.assert_array_equal(kept.values, expected)


@pytest.mark.parametrize("shape", [(7, 9), (64, 64), (481, 130), (966, 2100), (1, 1)])
def test_any_shape_gives_a_picture_of_one_width(shape):
    picture = _quicklook.draw_chip(_chip(_frame(shape), np.zeros(shape, np.uint8)))
    assert picture.width == 1512
    assert picture.mode == "RGB"


def test_a_single_pixel_stays_visible_in_a_reduced_mask():
    method = np.zeros((2000, 1501), dtype=np.uint8)
    method[1203, 77] = _quicklook.NETWORK
    reduced = _quicklook._reduce_max(method, 5)
    assert reduced.shape == (400, 301)
    assert np.argwhere(reduced).tolist() == [[240, 15]]
    assert reduced[240, 15] == _quicklook.NETWORK


def test_mean_reduction_leaves_out_gaps():
    values = np.array(
        [[1.0, 3.0, 5.0], [np.nan, 2.0, np.nan], [4.0, 6.0, np.nan]], dtype=np.float32
    )
    reduced = _quicklook._reduce_mean(values, 2, None)
    np.testing.assert_array_equal(reduced, [[2.0, 5.0], [5.0, np.nan]])


def test_origin_is_at_the_lower_left():
    values = np.zeros((10, 12), dtype=np.float32)
    values[0, 0] = 100.0
    pixels = np.asarray(_quicklook._grey(values, (0.0, 100.0, 1.0)))
    assert pixels.shape == (10, 12, 3)
    assert pixels[-1, 0].tolist() == [255, 255, 255]
    assert pixels[:-1].max() == 0


def test_gaps_have_a_colour_of_their_own():
    values = np.full((4, 4), np.nan, dtype=np.float32)
    pixels = np.asarray(_quicklook._grey(values, _quicklook._limits(values)))
    assert np.all(pixels == _quicklook._NO_DATA)


def test_cutouts_show_the_network_first_then_the_most_hit():
    method = np.zeros((400, 400), dtype=np.uint8)
    method[40:44, 40:44] = _quicklook.NETWORK
    method[300:310, 300:310] = _quicklook.MEDIAN
    method[200:203, 60:63] = _quicklook.MEDIAN
    centres = _quicklook.choose_cutouts(method, _frame((400, 400)), SCALE)
    assert len(centres) == 3
    for centre, expected in zip(centres, [(42, 42), (305, 305), (201, 61)], strict=True):
        assert np.hypot(*np.subtract(centre, expected)) < 8


def test_no_cosmic_rays_no_cutouts():
    method = np.zeros((70, 70), dtype=np.uint8)
    assert _quicklook.choose_cutouts(method, _frame((70, 70)), SCALE) == []
    assert _quicklook.draw_chip(_chip(_frame((70, 70)), method)).width == 1512


def test_cutouts_at_the_edge_stay_inside():
    assert _quicklook.cutout_view((100, 300), 2, 298) == (slice(0, 64), slice(236, 300))
    assert _quicklook.cutout_view((40, 64), 20, 5) == (slice(0, 40), slice(0, 64))


def test_before_and_after_differ_only_where_the_mask_is():
    after = _frame((64, 64))
    before, method = after.copy(), np.zeros((64, 64), dtype=np.uint8)
    before[30, 10:50] += 200.0
    method[30, 10:50] = _quicklook.MEDIAN
    panels = _quicklook._cutout_panels(_chip(after, method, before), 32, 32)
    first, mask, last = (np.asarray(panel)[::-1] for panel in panels)
    differs = np.any(first != last, axis=2)
    np.testing.assert_array_equal(differs, method > 0)
    np.testing.assert_array_equal(mask.any(axis=2), method > 0)


def test_several_chips_stand_below_each_other():
    block = _quicklook.draw_chip(_chip(_frame((64, 64)), np.zeros((64, 64), np.uint8)))
    picture = np.asarray(_quicklook.stack([block, block]))
    np.testing.assert_array_equal(picture[: block.height], block)
    np.testing.assert_array_equal(picture[block.height :], block)


def test_a_full_mask_keeps_its_contrast():
    method = np.zeros((400, 400), dtype=np.uint8)
    method[::10, ::10] = _quicklook.MEDIAN  # one pixel in every square
    method[200:204, 200:230] = _quicklook.MEDIAN
    shown = _quicklook._visibility(method, 10)
    assert shown[20, 20:23].min() > 1.5 * shown[5, 5] > 0.3


def test_bright_sources_are_shown_before_faint_ones():
    method = np.zeros((500, 500), dtype=np.uint8)
    method[40:46, 40:46] = method[200:206, 200:206] = method[400:403, 400:403] = 2
    after = _frame((500, 500))
    after[390:410, 390:410] += 500.0
    first, _ = _quicklook.choose_cutouts(method, after, SCALE)
    assert first == (401, 401)
