"""Detection's evaluation on tiny scenes, against counts made by hand or by plain loops."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

pytest.importorskip("torch")

from crmend_training import evaluate_detection as detection
from crmend_training import evaluate_lookalikes as lookalikes
from crmend_training import evaluate_peers as peers
from crmend_training import evaluate_real as real
from crmend_training import evaluate_report as report
from crmend_training.evaluate_figures import busiest_window


def scene(cr, error=1.0, saturated=None, catalog=None):
    cr = np.asarray(cr, np.float32)
    full = np.zeros(cr.shape, bool) if saturated is None else saturated
    exposure = SimpleNamespace(
        error=np.full(cr.shape, error, np.float32), electrons_per_unit=2.0, saturated=full,
        invalid=np.zeros(cr.shape, bool),
    )  # fmt: skip
    return detection.Scene(exposure, cr, full, detection.track_pixels(cr), catalog)


def found(mask):
    mask = np.asarray(mask, bool)
    return SimpleNamespace(cr_mask=mask, cr_probability=np.where(mask, 0.9, 0.1))


def test_a_track_is_six_pixels_long_along_an_axis_or_a_diagonal():
    cr = np.zeros((20, 20), np.float32)
    cr[1, 1:7] = 50.0  # six in a row
    cr[np.arange(10, 16), np.arange(2, 8)] = 50.0  # six along a diagonal
    cr[3:8, 12:17] = 50.0  # a blob of five by five
    cr[18, 2:12] = 0.9  # long, but no label
    expected = np.zeros(cr.shape, bool)
    expected[1, 1:7] = True
    expected[np.arange(10, 16), np.arange(2, 8)] = True
    np.testing.assert_array_equal(detection.track_pixels(cr), expected)


def test_missed_pixels_are_counted_by_charge_over_error():
    # The error is 5 units of 2 electrons: S/N is charge / 10.
    cr = [[4.0, 6.0, 12.0, 25.0, 45.0, 80.0]]
    tally = detection.Tally()
    tally.add(scene(cr, error=5.0), found([[False, False, True, False, True, True]]))
    np.testing.assert_array_equal(tally.bright, [0, 1, 1, 1, 1, 1])  # 4 e- is not counted
    np.testing.assert_array_equal(tally.missed, [0, 1, 0, 1, 0, 0])
    assert tally.row()["recall"] == pytest.approx(3 / 5)
    assert tally.row()["precision"] == 1.0
    assert tally.row()["cr_share"] == 1.0


def test_recall_by_intensity_keeps_tracks_and_points_apart():
    cr = np.zeros((40, 40), np.float32)
    cr[::3] = 25.0  # rows: 14 tracks of 40 px
    mask = cr > 0
    mask[0] = False
    tally = detection.Tally()
    tally.add(scene(cr), found(mask))
    place = np.searchsorted(detection.INTENSITIES, 25.0) - 1
    assert tally.recall_by_intensity("tracks")[place] == pytest.approx(13 / 14)
    assert np.isnan(tally.recall_by_intensity("points")[place])
    both = detection.pooled_tally([tally, tally])
    assert both.total[0, place] == 2 * 14 * 40
    assert both.row()["frames"] == 2


def test_largest_drop_looks_within_its_charges():
    recall = np.linspace(0.5, 1.0, len(detection.INTENSITIES) - 1)
    assert detection.largest_drop(recall) == 0.0
    at_30 = detection.INTENSITIES.index(30.0)
    recall[at_30] = recall[at_30 - 1] - 0.03
    assert detection.largest_drop(recall) == pytest.approx(0.03)
    assert detection.largest_drop(recall, 1.0, 20.0) == 0.0
    recall[at_30] = np.nan
    assert detection.largest_drop(recall) == 0.0


def test_star_cores_count_flags_that_no_cosmic_ray_explains():
    catalog = Table(
        {
            "x": [5.0, 15.2, 25.0, 5.0, 15.0, 0.0, 25.0],
            "y": [5.0, 4.8, 5.0, 15.0, 15.0, 20.0, 25.0],
            "mag": [18.5, 18.5, 18.5, 18.5, 21.5, 18.5, 21.5],
            "type": ["star", "star", "star", "galaxy", "star", "star", "star"],
        }
    )
    mask, saturated, cr = (np.zeros((30, 30), bool) for _ in range(3))
    mask[4, 4] = True  # star 1: wrong, at the corner of its core
    mask[5, 15] = cr[6, 16] = True  # star 2: beside a CR
    mask[5, 25] = saturated[6, 25] = True  # star 3: saturated
    mask[15, 5] = True  # a galaxy
    mask[15, 17] = True  # star 5: outside its core
    mask[25, 24:28] = cr[25, 28] = True  # star 7: the mask of a CR reaches its core
    stars, wrong, alone, *seen = lookalikes.star_cores(
        catalog, mask, cr.astype(np.float32), saturated
    )
    at_18, at_21 = (int(np.digitize(m, lookalikes.MAGNITUDES)) for m in (18.5, 21.5))
    assert (stars[at_18], wrong[at_18]) == (2, 1)  # the last star's core leaves the frame
    assert (stars[at_21], wrong[at_21]) == (2, 1)
    assert (stars.sum(), alone[at_18], alone[at_21]) == (4, 1, 0)
    for every, bright in zip((stars, wrong, alone), seen, strict=True):
        np.testing.assert_array_equal(every, bright)


def test_stars_above_their_bands_limit_are_counted_beside_all():
    catalog = Table(
        {
            "x": [5.0, 15.0, 25.0], "y": [5.0, 15.0, 25.0],
            "mag": [18.5, 26.5, 25.5], "type": ["star"] * 3,
        }
    )  # fmt: skip
    mask = np.zeros((30, 30), bool)
    mask[5, 5] = mask[15, 15] = True
    tally = detection.Tally()
    tally.add(replace(scene(0.0 * mask, catalog=catalog), limit=25.56), found(mask))
    assert (tally.stars.sum(), tally.wrong_stars.sum(), tally.lone_stars.sum()) == (3, 2, 2)
    assert (tally.seen_stars.sum(), tally.seen_wrong_stars.sum()) == (2, 1)
    text = report.stars_text("paper", {"08": tally, "09": tally}, "fast")
    assert "brighter than the limit of their band" in text
    (line,) = (row for row in text.splitlines() if row.startswith("| **all**"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == ["6", "4", "66.667", "4", "4", "2", "50.000", "2"]
    tally.add(replace(scene(0.0 * mask, catalog=catalog), limit=10.0), found(mask))
    assert (tally.stars.sum(), tally.seen_stars.sum()) == (6, 2)


def test_the_zoo_leaves_out_excluded_pixels():
    labels = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
    mask = np.array([[True, False, True], [False, True, True]])
    excluded = np.array([[False, False, False], [False, False, True]])
    tally = lookalikes.ZooTally()
    tally.add(labels, mask, excluded)
    assert tally.pixels[:3].tolist() == [2, 2, 1]
    assert tally.flagged[:3].tolist() == [1, 1, 1]
    assert tally.per_million == pytest.approx(1e6 * 3 / 5)


def real_frame(truth, ignore=None, image=None):
    none = np.zeros(truth.shape, bool)
    pixels = np.zeros(truth.shape, np.float32) if image is None else image
    ignored = none if ignore is None else ignore
    return real.RealFrame("frame", pixels, pixels, none, none, truth, ignored)


def test_ranking_agrees_with_trying_every_threshold(rng):
    truth = rng.random((30, 40)) < 0.1
    ignore = rng.random(truth.shape) < 0.2
    # Few values, so that there are ties.
    probability = (np.rint(20 * (0.4 * truth + 0.6 * rng.random(truth.shape))) / 20).astype(
        np.float32
    )
    found = real.rank([real_frame(truth, ignore)], [probability]).at_recall(0.9)
    for threshold in np.unique(probability)[::-1]:
        flagged = (probability >= threshold) & ~ignore
        recall = (flagged & truth).sum() / (truth & ~ignore).sum()
        if recall >= 0.9:
            break
    assert found["threshold"] == pytest.approx(threshold)
    assert found["recall"] == pytest.approx(recall)
    assert found["precision"] == pytest.approx((flagged & truth).sum() / flagged.sum())


def test_false_pixels_beside_a_truth_pixel_are_edges():
    truth, mask = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[4, 4] = mask[4, 4] = mask[5, 5] = mask[0, 0] = True
    row = real.mask_row([real_frame(truth)], [mask])
    assert row["recall"] == 1.0
    assert row["precision"] == pytest.approx(1 / 3)
    assert row["precision_loose"] == pytest.approx(1 / 2)


def test_an_empty_mask_has_no_precision():
    truth = np.eye(4, dtype=bool)
    row = real.mask_row([real_frame(truth)], [np.zeros_like(truth)])
    assert row["recall"] == 0.0
    assert np.isnan(row["precision"])


def test_fixed_pixels_stand_out_in_many_frames(rng):
    frames = [rng.normal(100.0, 1.0, (20, 20)).astype(np.float32) for _ in range(6)]
    for frame in frames[:2]:
        frame[5, 5] += 500.0  # hot in a third of the frames
    frames[0][9, 9] += 500.0  # a cosmic ray
    for frame in frames:
        frame[15, 14:16] += 500.0  # two pixels wide: not a single one
    hot = real.fixed_pixels(frames, 5.0)
    assert np.argwhere(hot).tolist() == [[5, 5]]


def test_an_instrument_is_cut_to_its_sure_pixels(tmp_path):
    image = np.full((12, 10), 120, np.uint16)
    truth, unsure = np.zeros((2, 12, 10), np.uint8)
    truth[5, 5] = unsure[8, 5] = 1
    unsure[:2], unsure[:, 7:] = 1, 1  # an overscan below and to the right
    planes = [("SCI", image), ("CRTRUTH", truth), ("UNSURE", unsure)]
    hdus = [fits.ImageHDU(data, name=name) for name, data in planes]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "one.fits")
    instrument = real.Instrument("x", "*.fits", 2.0, 20.0, 5.0, 2.0, 60_000.0, 3.0)
    (frame,) = real.read_instrument(tmp_path, instrument)
    assert frame.image.shape == (10, 7)
    assert np.all(frame.image == 200.0)  # (120 − 20) ADU of 2 e-
    assert np.argwhere(frame.truth).tolist() == [[3, 5]]
    assert np.argwhere(frame.ignore).tolist() == [[6, 5]]
    assert real.read_instrument(tmp_path / "nothing", instrument) == []


def test_deepcr_sees_a_mirrored_frame_in_its_own_unit():
    class Copy:
        """Returns what it was given."""

        def clean(self, image, binary, segment):
            assert not binary
            assert not segment
            assert all(n % 4 == 0 for n in image.shape)
            self.edge = image[-1, 0]
            return image

    image = np.arange(5 * 8, dtype=np.float32).reshape(5, 8)
    model = Copy()
    frame = real_frame(np.zeros(image.shape, bool), image=image)
    out = peers.deepcr_probability(model, frame, scale=2.0, offset=4.0)
    np.testing.assert_array_equal(out, (image - 4.0) / 2.0)
    assert model.edge == (image[1, 0] - 4.0) / 2.0  # row 7 mirrors row 1 about row 4


def test_astroscrappy_is_chosen_in_its_favour():
    rows = [
        {"recall": 0.95, "precision": 0.1},
        {"recall": 0.91, "precision": 0.3},
        {"recall": 0.70, "precision": 0.9},
        {"recall": 0.0, "precision": float("nan")},
    ]
    assert real.nearest_recall(rows) == rows[1]
    assert real.nearest_recall(rows[2:]) == rows[2]
    assert real.best_f1(rows) == rows[2]


def test_the_busiest_window_holds_the_cosmic_rays():
    mask = np.zeros((100, 60), bool)
    mask[70:75, 30:40] = True
    rows, columns = busiest_window(mask, 32)
    assert mask[rows, columns].sum() == 50
    assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
