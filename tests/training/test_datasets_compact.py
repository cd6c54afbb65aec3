"""Compact detection sets: their error, their size, their splits and their batches."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")

from crmend._background import Surface
from crmend.cutouts import plan_cutouts
from crmend.errors import OutputError
from crmend.sources import SourceCatalog
from crmend_training import datasets
from crmend_training.datasets import compact, inpainting
from crmend_training.datasets.fields import Place, group_fields, place_of


def frame_of(image, cr=None, **more):
    image = np.asarray(image, np.float32)
    nothing = np.zeros(image.shape, bool)
    cr = np.zeros_like(image) if cr is None else cr
    return datasets.Frame(image, cr, nothing, nothing, more.pop("name", "frame"), **more)


def test_the_codes_are_exact_to_a_small_part_of_the_noise(rng):
    """Noise of the background is 1; of v, with 10 e- of noise, sqrt(1 + v / 10)."""
    values = np.concatenate([rng.normal(0, 1, 20_000), 10.0 ** rng.uniform(0, 3.9, 20_000)])
    values = values.astype(np.float32)
    error = np.abs(compact.decode(compact.encode(values)) - values)
    noise = np.sqrt(1.0 + np.maximum(values, 0.0) / 10.0)
    assert (error / noise).max() < 0.08
    assert error[np.abs(values) < 3].max() < 0.0011
    assert compact.decode(compact.encode(np.float32([1e6, -40.0, 0.0]))) == pytest.approx(
        [1e6, -40.0, 0.0], rel=2.5e-4
    )


@pytest.mark.parametrize("size", [64, 50])
def test_what_was_written_is_read_back(tmp_path, rng, size):
    image = rng.normal(0, 1, (150, 210)).astype(np.float32)
    cr = np.where(rng.random(image.shape) < 0.1, 30.0, 0.5).astype(np.float32)
    datasets.build_detection_set([frame_of(image, cr)], tmp_path, stamp=size)
    stored = datasets.load_column(tmp_path, "detect/image")
    mask = datasets.load_column(tmp_path, "detect/mask")
    columns = 210 // size
    assert stored.shape == mask.shape == (150 // size * columns, size, size)
    second_row = np.s_[size : 2 * size, :size]
    np.testing.assert_allclose(stored[columns], image[second_row], atol=0.002)
    window = np.s_[columns, 5:29, 11:40]
    np.testing.assert_array_equal(mask[window], (cr[second_row] > 1)[5:29, 11:40])
    np.testing.assert_array_equal(np.asarray(mask)[columns], cr[second_row] > 1)
    assert mask.sum() == np.asarray(mask).sum()


def test_a_full_training_set_is_less_than_a_gigabyte(tmp_path, rng):
    info = datasets.build_detection_set(
        [frame_of(rng.normal(size=(256, 512)))], tmp_path, stamp=128
    )
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    per_pixel = on_disk / (info["counts"]["detect/image"] * 128**2)
    from crmend_training.datasets.detection import STAMPS_PER_FRAME

    assert per_pixel * 16 * STAMPS_PER_FRAME * 256**2 < 1e9


def test_stamps_are_chosen_by_the_seed(tmp_path, rng):
    frames = [frame_of(rng.normal(size=(320, 320)))]
    made = [
        datasets.build_detection_set(
            frames, tmp_path / str(i), stamp=32, stamps_per_frame=10, seed=seed
        )
        for i, seed in enumerate([4, 4, 5])
    ]
    assert made[0]["counts"]["detect/image"] == 10
    assert made[0]["fingerprint"] == made[1]["fingerprint"] != made[2]["fingerprint"]


def test_frames_of_one_pointing_are_on_one_side(tmp_path, rng):
    """Twelve fields, each seen twice, the second time moved by less than the frame."""
    fields = [Place("mid", 20.0 * i, 10.0, 0.01) for i in range(12)]
    again = [Place("mid", p.ra + 0.01, 10.0, 0.01) for p in fields]
    frames = [
        frame_of(rng.normal(size=(32, 32)), name=str(i), place=place)
        for i, place in enumerate(fields + again)
    ]
    info = datasets.build_detection_set(frames, tmp_path, stamp=32)
    training, held = datasets.split_frames(info)
    assert sorted(training + held) == list(range(24))
    assert {i % 12 for i in held}.isdisjoint(i % 12 for i in training)
    assert held


def test_places_come_from_the_header():
    header = fits.Header({"OBJECT": "mid", "OBSID": "17", "RA": "18:15:29", "DEC": "-25:17:06"})
    place = place_of(header, (512, 512))
    assert (place.ra, place.dec) == pytest.approx((273.8708, -25.285), abs=1e-3)
    wcs = {
        "CTYPE1": "RA---TPV",
        "CRVAL1": 10.0,
        "CRVAL2": 60.0,
        "CRPIX1": 1000.0,
        "CRPIX2": 0.0,
    }
    scale = 0.074 / 3600
    wcs |= {"CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale}
    place = place_of(fits.Header(wcs), (0, 0))
    assert place.ra == pytest.approx(10.0 + 1000 * scale / 0.5, abs=1e-5)
    assert group_fields([Place("a"), Place("b"), Place("a"), Place(""), Place("")]) == [
        0, 1, 0, 2, 3,
    ]  # fmt: skip


def test_one_field_alone_cannot_be_split():
    with pytest.raises(ValueError, match="another field"):
        datasets.split_frames({"frames": ["a", "b"], "fields": [0, 0]})


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_depend_on_seed_and_number_only(workers):
    def make(rng):
        return rng.random(4).sum()

    def draw(**how):
        return list(itertools.islice(datasets.prefetch(make, 9, **how), 6))

    reference = [np.random.default_rng([9, k]).random(4).sum() for k in range(8)]
    assert draw(workers=workers) == reference[:6]
    assert draw(workers=workers, first=2) == reference[2:8]


def test_cutouts_at_the_edge_are_those_of_the_runtime(rng):
    y, x = np.mgrid[:160, :160]
    image = rng.normal(0, 1, (160, 160))
    for cy, cx in ((6, 80), (80, 80), (84, 92), (150, 152)):
        image += 300 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8.0)
    frame = frame_of(image)
    cutouts = inpainting.find_cutouts(frame)
    kinds = sorted(c.kind for c in cutouts if c.kind != "faint")
    assert kinds == ["edge", "edge", "neighbour", "neighbour"]
    for cutout in cutouts:
        cr = np.zeros(image.shape, bool)
        cr[round(cutout.y), round(cutout.x)] = True
        one = np.array([1.0])
        source = SourceCatalog(
            np.array([cutout.x]), np.array([cutout.y]), one, one, one, one, one, one
        )
        plan = plan_cutouts(cr, source)
        background = Surface(np.zeros(6))
        (batch,) = plan.batches(frame.image, cr, np.zeros_like(cr), background, 1)
        np.testing.assert_array_equal(batch.image[0], cutout.image)
    assert len(datasets.source_cutouts(frame)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_with_the_file_that_it_holds_up(tmp_path):
    folder = tmp_path / "set"
    (folder / "detect").mkdir(parents=True)
    (folder / "detect" / "image.draft").symlink_to("/dev/full")
    frames = [frame_of(np.ones((64, 64)))]
    with pytest.raises(OutputError, match=r"image\.npy cannot be written: No space left"):
        datasets.build_detection_set(frames, folder, stamp=64)
    assert not folder.exists()


def test_detection_sets_hold_what_the_runtime_shows_a_network(rng):
    """Light of 300 noises goes, its noise becomes the sky's; a plain sky is left alone."""
    shape = (256, 256)
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = 300.0 * np.exp(-((y - 128) ** 2 + (x - 128) ** 2) / (2 * 60.0**2))
    noise = rng.normal(size=shape)
    bright = frame_of(noise * np.sqrt(1.0 + light) + light)
    shown = datasets.shown_to_detection(bright)
    middle = np.s_[64:192, 64:192]
    assert np.median(shown.image[middle]) < 10.0
    assert shown.image[middle].std() < 4.0
    assert bright.image[middle].std() > 50.0
    assert shown.cr is bright.cr
    plain = frame_of(noise)
    assert datasets.shown_to_detection(plain) is plain
