from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("torch")

from crmend._tiling import reflect
from crmend_training import augmentation
from crmend_training.simulate.cosmic_rays import draw_sharp


def test_a_mirrored_border_is_the_one_that_the_runtime_makes():
    image = np.arange(12.0).reshape(4, 3)
    rows = augmentation.mirrored(np.vstack([np.zeros((2, 3)), image]), 2)
    np.testing.assert_array_equal(rows, image[reflect(np.arange(-2, 4), 4)])


def test_sharp_events_are_added_and_labelled(rng):
    image = rng.normal(0.0, 1.0, (128, 128)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[5, 5] = True
    draw = np.random.default_rng(6)
    kind = augmentation.sharp_events((20.0, 20.0), 0.0, draw)
    more, both = augmentation.with_sharp_events(image, mask, kind, 0.15, draw)
    added = more - image
    assert both[5, 5]
    assert 0 < both.sum() < 0.1 * both.size
    assert added.min() >= 0.0
    assert 15.0 < added.max() < 100.0
    # Float rounding of bright pixels aside, what is labelled is what was added.
    np.testing.assert_array_equal(both & ~mask, (added > 0.15) & ~mask)
    assert (mask.sum(), image.max() < 10.0) == (1, True)


def test_straight_tracks_run_along_rows_and_columns():
    shapes = set()
    for seed in range(40):
        draw = np.random.default_rng(seed)
        kind = augmentation.straight_tracks((50.0, 50.0), draw)
        nothing = np.zeros((128, 128), np.float32)
        _, mask = augmentation.with_sharp_events(nothing, nothing > 0, kind, 10.0, draw)
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(labels):
            tall, wide = rows.stop - rows.start, columns.stop - columns.start
            if max(tall, wide) > 12 and count < 4:
                assert min(tall, wide) <= 3
                shapes.add(tall > wide)
    assert shapes == {True, False}


def test_wide_tracks_are_wide_and_too_long_for_stars():
    widths, shortest = [], []
    for seed in range(30):
        draw = np.random.default_rng(seed)
        kind = augmentation.wide_tracks((50.0, 50.0), (0.3, 0.75), 0.3, 5.0, draw)
        assert 0.3 <= kind.diffusion <= 0.75
        assert (kind.points > 0.0) == (kind.diffusion < augmentation.WIDEST_POINTS)
        charge = draw_sharp(
            draw, (256, 256), replace(kind, events=2e-4, points=0.0, aligned=1.0)
        )
        labels, _ = ndimage.label(charge > 1.0, np.ones((3, 3)))
        for window in ndimage.find_objects(labels):
            light = charge[window].astype(float)
            cut = any(v.start == 0 or v.stop == 256 for v in window)
            if 1 in light.shape or cut:
                continue
            tall, wide = light.shape
            across = light.sum(axis=0 if tall > wide else 1)
            at = np.arange(across.size)
            middle = np.average(at, weights=across)
            widths.append(
                np.sqrt(np.average((at - middle) ** 2, weights=across)) / kind.diffusion
            )
            shortest.append(max(tall, wide))
    assert 0.9 < np.median(widths) < 1.8  # a pixel is 0.29 px wide, and tracks lean
    assert min(shortest) >= 5.0


def test_a_line_that_is_added_is_no_cosmic_ray():
    image = np.zeros((64, 64), np.float32)
    image[30:34, :] = 1e6
    mask = image > 0
    kinds = set()
    for seed in range(40):
        more, left = augmentation.with_line(image, mask, np.random.default_rng(seed))
        rows, columns = np.nonzero(more != image)
        assert rows.max() == 63
        assert np.ptp(columns) + 1 in augmentation.LINE_WIDTHS
        assert not (left & ~mask).any()
        assert left[30:34].all()  # brighter than any trail of bleeding
        kinds.add((bool(rows.min() == 0), bool((more[mask] > 1e6).any())))
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_bleeding_hides_what_is_fainter():
    image = np.full((64, 64), 2.0, np.float32)
    mask = np.ones(image.shape, bool)
    hidden = 0
    for seed in range(20):
        more, left = augmentation.with_line(image, mask, np.random.default_rng(seed))
        np.testing.assert_array_less(more[~left], 3.1e4)
        np.testing.assert_array_equal(more[left & (more == image)], 2.0)
        hidden += not left.all()
    assert 0 < hidden < 20
