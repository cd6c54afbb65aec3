import json

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

pytest.importorskip("torch")

from crmend_training import cli, datasets, simulate
from crmend_training.recipe import load_recipe
from crmend_training.simulate.setups import generic_setup

NAME = "CSST_MSC_MS_{kind}_20280101000000_20280101000230_10100000001_08_L{level}_V01.fits"


def level1(image, flag=None):
    planes = [fits.PrimaryHDU()]
    planes[0].header.update({"INSTRUME": "MSC", "DETECTOR": "CHIP08", "EXPTIME": 150.0})
    science = fits.ImageHDU(image.astype(">f4"), name="SCI")
    science.header["BUNIT"] = "e-/s"
    planes += [science, fits.ImageHDU(np.full_like(image, 0.05), name="ERR")]
    planes.append(
        fits.ImageHDU(np.zeros(image.shape, "i4") if flag is None else flag, name="FLAG")
    )
    return fits.HDUList(planes)


@pytest.fixture
def pair_folder(tmp_path, rng):
    """Write a foreign Level 1 + truth pair: noise, one galaxy-like blob, one track."""
    y, x = np.mgrid[:192, :192]
    sky = rng.normal(1.0, 0.05, (192, 192))
    blob = 20.0 * np.exp(-((y - 80) ** 2 + (x - 90) ** 2) / (2 * 3.0**2))
    truth = np.zeros((192, 192), np.float32)
    truth[140, 110:130] = 300.0
    truth[141, 110:130] = 1.0
    flag = np.zeros((192, 192), np.int32)
    flag[10, 10], flag[10, 12] = 1, 8
    level1(sky + blob + truth / 150.0, flag).writeto(
        tmp_path / NAME.format(kind="SCI", level=1)
    )
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(truth)]).writeto(
        tmp_path / NAME.format(kind="CRS", level=0)
    )
    return tmp_path


def test_pairs_from_any_origin_become_frames_in_noise_units(pair_folder):
    (pair,) = datasets.find_pairs(pair_folder)
    frame = datasets.load_frame(pair)
    assert np.median(frame.image) == pytest.approx(0.0, abs=0.05)
    assert frame.image[:50, :50].std() == pytest.approx(1.0, rel=0.05)
    assert frame.image[80, 90] == pytest.approx(20.0 / 0.05, rel=0.05)
    assert frame.ignore.sum() == 2


def test_detection_labels_are_pixels_above_one_electron(pair_folder, tmp_path):
    frames = [datasets.load_frame(p) for p in datasets.find_pairs(pair_folder)]
    info = datasets.build_detection_set(frames, tmp_path / "set", stamp=64)
    mask = datasets.load_column(tmp_path / "set", "detect/mask")
    assert mask.shape == (9, 64, 64)
    assert mask.sum() == 20
    assert datasets.load_column(tmp_path / "set", "detect/ignore").sum() == 2
    again = datasets.build_detection_set(frames, tmp_path / "again", stamp=64)
    assert again["fingerprint"] == info["fingerprint"]
    assert json.loads((tmp_path / "set" / "set.json").read_text()) == info


def test_inpainting_cutouts_are_centred_on_the_source_and_free_of_the_track(pair_folder):
    (pair,) = datasets.find_pairs(pair_folder)
    frame = datasets.load_frame(pair)
    cutouts = datasets.source_cutouts(frame)
    brightest = max(cutouts, key=np.max)
    assert brightest.shape == (64, 64)
    peak = np.unravel_index(np.argmax(brightest), brightest.shape)
    assert np.hypot(peak[0] - 32, peak[1] - 32) <= 1.5
    values, masks = datasets.cosmic_ray_cutouts(frame)
    assert len(values) == 1
    assert masks[0].sum() == 20
    assert values[0][masks[0]].mean() == pytest.approx(300.0 / 150.0 / 0.05, rel=0.05)


def test_a_level1_file_without_truth_is_named(pair_folder):
    (pair_folder / NAME.format(kind="CRS", level=0)).unlink()
    with pytest.raises(FileNotFoundError, match="has no CR truth"):
        datasets.find_pairs(pair_folder)


def test_split_puts_a_frame_on_one_side_only():
    info = {"frames": [str(i) for i in range(40)]}
    training, held = datasets.split_frames(info)
    assert sorted(training + held) == list(range(40))
    assert len(held) == 4


def test_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no Level 1 file"):
        datasets.find_pairs(tmp_path)


def test_labels_of_other_instruments_can_follow_the_noise():
    plain, noisy = (datasets.generic_frame(7, (128, 128), sigma) for sigma in (0.0, 3.0))
    np.testing.assert_array_equal(plain.image, noisy.image)
    assert plain.label == datasets.LABEL_THRESHOLD
    # The frame is in units of its noise, the truth in e-: bright hits give the ratio.
    assert noisy.label > 3.0
    few, many = (
        sum(mask.sum() for _, mask, _ in datasets.detection_stamps(frame, 64))
        for frame in (noisy, plain)
    )
    assert 0 < few < many
    assert few == sum(
        (noisy.cr[y : y + 64, x : x + 64] > noisy.label).sum() for y in (0, 64) for x in (0, 64)
    )


def test_labels_of_other_instruments_can_be_what_a_comparison_finds():
    plain, measured = (
        datasets.generic_frame(7, (128, 128), measured=flag) for flag in (False, True)
    )
    np.testing.assert_array_equal(plain.image, measured.image)
    marked = measured.cr > measured.label
    assert 0 < marked.sum() < (plain.cr > 1.0).sum()
    # What reaches Level 1: the charge but for gain, response and rounding.
    own = marked & (plain.cr > 100.0)
    np.testing.assert_allclose(np.median(measured.cr[own] / plain.cr[own]), 1.0, atol=0.05)
    assert not (marked & measured.unsure).any()
    # Of the CR pixels only those far below the noise are left without a word on them.
    silent = (plain.cr > 0) & ~marked & ~measured.ignore
    assert silent.any()
    assert plain.cr[silent].max() < plain.cr[marked].min()
    # Where a bright star's noise hides a charge, it is not marked; beside a bright pixel, less
    # is needed than alone.
    assert plain.cr[measured.unsure].max() > plain.cr[marked].min()


def test_tight_labels_say_that_rims_are_no_cosmic_rays(monkeypatch):
    def drawn(edge):
        monkeypatch.setattr(datasets.frames, "_EDGES", (edge, edge))
        return datasets.generic_frame(16150002, (128, 128), measured=True, tight=True)

    loose = datasets.generic_frame(16150002, (128, 128), measured=True)
    tight, tighter = drawn(datasets.frames.MEASURED_EDGE), drawn(4.0)
    np.testing.assert_array_equal(loose.image, tight.image)
    np.testing.assert_array_equal(loose.cr, tight.cr)
    rim = loose.unsure & ~tight.unsure
    beside = ndimage.binary_dilation(loose.cr > loose.label, np.ones((3, 3)))
    assert rim.any()
    assert beside[rim].all()
    assert not (tight.unsure & ~loose.unsure).any()
    # Whole cosmic rays that are too faint to be seen stay unsure.
    assert tight.unsure.any()
    # A higher edge leaves fewer pixels, of the same cosmic rays.
    marks, fewer = (frame.cr > frame.label for frame in (tight, tighter))
    assert 0 < fewer.sum() < marks.sum()
    assert not (fewer & ~marks).any()
    lost = marks & ~fewer & ~tighter.unsure
    assert lost.any()


def test_tight_labels_need_measured_ones(tmp_path):
    recipe = tmp_path / "tight.toml"
    recipe.write_text(
        "[dataset.generic]\nseed = 3\nframes = 2\nshape = [64, 64]\ntight = true\n"
    )
    with pytest.raises(ValueError, match="measured false"):
        load_recipe(recipe)


def test_few_hot_pixels_without_a_flag_teach_nothing(monkeypatch):
    sim = simulate.generic_exposure(np.random.default_rng(4), (128, 128))
    hot = sim.unknown_hot
    assert hot[0].size > 5
    assert not (sim.flag[hot] & 6).any()
    for most, unsure in ((1.0, True), (0.0, False)):  # as if few, as if many
        monkeypatch.setattr(datasets.frames, "_MANY_HOT", most)
        frame = datasets.generic_frame(4, (128, 128), measured=True)
        assert frame.ignore[hot].all() == unsure
        assert (frame.cr[hot] > frame.label).mean() < 0.1


def test_bad_columns_may_be_unmapped(monkeypatch):
    frames = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(datasets.frames, "_UNMAPPED", share)
        frames.append(datasets.generic_frame(17, (128, 128), measured=True))
    mapped, unmapped = (frame.invalid for frame in frames)
    bad = mapped & ~unmapped
    assert bad.any()
    assert not (unmapped & ~mapped).any()
    # What nobody mapped is dark, and no cosmic ray.
    assert np.median(frames[1].image[bad]) < 0.0
    assert (frames[1].cr[bad] > 0.0).mean() < 0.05


def test_half_of_the_other_cameras_trail():
    setups = [generic_setup(np.random.default_rng(seed), (64, 64)) for seed in range(60)]
    trailing = [setup.camera.transfers != (0, 0) for setup in setups]
    assert 0.3 < np.mean(trailing) < 0.7


def test_marks_of_a_comparison_need_a_seed_and_a_charge():
    excess = np.full((5, 7), 0.0, np.float32)
    excess[1, 1:4] = 2.5, 4.5, 1.5
    excess[3, 5] = 3.5  # no seed
    excess[2, 2] = 3.0  # touches, but no charge
    excess[4, 0] = 9.0  # far out by chance
    charge = np.zeros((5, 7), np.float32)
    charge[1, 1:4] = charge[3, 5] = 2.0
    marked = datasets.frames.measured_mask(excess, charge)
    assert sorted(zip(*np.nonzero(marked), strict=True)) == [(1, 1), (1, 2)]


def test_a_set_needs_no_frames_of_ours(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[dataset.detect]\nstamp = 64\n"
        "[dataset.generic]\nseed = 3\nframes = 2\nshape = [64, 64]\nlabel_sigma = 1.5\n"
    )
    out = tmp_path / "set"
    cli.main(["dataset", "detect", "--recipe", str(recipe), "--jobs", "1", "--out", str(out)])
    assert datasets.load_info(out)["frames"] == ["generic 3", "generic 4"]
    code = cli.main(["dataset", "inpaint", "--recipe", str(recipe), "--out", str(out)])
    assert code != 0
