"""Cosmic rays that a mask misses altogether, on tiny scenes counted by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from crmend_training.evaluate_detection import Tally, pooled_tally
from crmend_training.evaluate_events import EventCounts, size_names, sky_error
from crmend_training.evaluate_report import events_table


def rays():
    """Return truth: by size two of 1, one of 2, one of 5, one of 8 px, three out."""
    cr = np.zeros((30, 40), np.float32)
    cr[2, 2] = cr[2, 6] = 200.0
    cr[6, 2] = cr[7, 3] = 100.0  # corners that touch
    cr[12, 2:7] = 50.0
    cr[18, 2:10] = 50.0
    cr[18, 10:14] = 4.0  # charge below the limit of recall is no part of it
    cr[24, 2] = 149.0  # fainter than 15 noises
    cr[24, 20:24] = 100.0  # one pixel of it is left out
    cr[28, 2:12] = 4.9
    return cr


def test_rays_without_a_flagged_pixel_are_counted_by_their_size():
    cr = rays()
    ignore = np.zeros(cr.shape, bool)
    ignore[24, 21] = True
    mask = np.zeros(cr.shape, bool)
    mask[2, 2] = mask[12, 6] = mask[18, 12] = mask[6, 3] = True  # the last two touch only
    counts = EventCounts()
    counts.add(mask, cr, ignore, 10.0)
    assert counts.total.tolist() == [2, 1, 1, 1]
    assert counts.missed.tolist() == [1, 1, 0, 1]
    twice = counts + counts
    assert (twice.total.tolist(), twice.missed.tolist()) == ([4, 2, 2, 2], [2, 2, 0, 2])
    assert counts.total.tolist() == [2, 1, 1, 1]


def test_frames_without_an_error_plane_have_no_events():
    exposure = SimpleNamespace(error=None, electrons_per_unit=1.0)
    counts = EventCounts()
    cr = rays()
    counts.add(cr > 0, cr, cr < 0, sky_error(exposure))
    assert counts.total.sum() == 0


def test_the_skys_noise_is_in_electrons_and_leaves_invalid_pixels_out():
    error = np.full((9, 9), 3.0, np.float32)
    invalid = np.zeros(error.shape, bool)
    invalid[:6], error[:6] = True, 1e6
    exposure = SimpleNamespace(error=error, electrons_per_unit=2.0, invalid=invalid)
    assert sky_error(exposure) == 6.0


def test_the_report_names_sizes_and_their_shares():
    assert size_names() == ["1", "2–3", "4–6", "≥ 7"]
    tallies = [Tally(events=EventCounts(np.array(t), np.array(m))) for t, m in (
        ([10, 0, 4, 2], [1, 0, 0, 0]), ([10, 0, 4, 2], [0, 0, 1, 0]),
    )]  # fmt: skip
    text = events_table(pooled_tally(tallies).events)
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if " | " in line]
    rows = {name: cells for name, *cells in lines}
    assert rows["without a flagged pixel"] == ["1", "0", "1", "0", "2"]
    assert rows["%"] == ["5.000", "–", "12.500", "0.000", "6.250"]
