"""The whole story, with the tiny pack; and with the real graphs where they are exported."""

import dataclasses
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage

import crmend
from crmend._cutout_network import run_network
from crmend._memory import PLANE_BYTES, plan_work
from crmend._star_cores import check_star_cores
from crmend.detect import default_tile, detect_into
from crmend.errors import CrmendError, InvalidInputError, MissingFileError
from crmend.inpaint import NETWORK
from crmend.models import available_packs, load_model
from crmend.pipeline import CleanOptions, clean_in_place

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
CR_BIT = 1 << 20


@pytest.fixture(autouse=True)
def _tiny_packs(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))


@pytest.fixture
def image():
    """Return a smooth sky of 100 with two stars and three cosmic rays, noise 2."""
    rng = np.random.default_rng(12)
    image = rng.normal(100.0, 2.0, (190, 210)).astype(np.float32)
    yy, xx = np.indices(image.shape)
    for x, y in ((50.0, 40.0), (150.0, 130.0)):
        image += (400.0 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 12.0)).astype(np.float32)
    image[43, 52] += 5000.0
    image[100, 20] += 8000.0
    image[101, 21] += 8000.0
    return image


@pytest.fixture
def exposure(image, tmp_path):
    """Return a Level 1 exposure of chip 08 with error and flag planes."""
    flag = np.zeros(image.shape, dtype=np.int16)
    flag[5, 5], flag[100, 20], flag[43, 52] = 1, 4, 32
    image[5, 5] = 9e4
    primary = fits.PrimaryHDU()
    primary.header.update(INSTRUME="MSC", DETECTOR="CHIP08", EXPTIME=150.0)
    planes = [
        fits.ImageHDU(image, name="SCI"),
        fits.ImageHDU(np.full(image.shape, 2.0, dtype=np.float32), name="ERR"),
        fits.ImageHDU(flag, name="FLAG"),
    ]
    planes[0].header["BUNIT"] = "e/s"
    path = tmp_path / "CSST_MSC_MS_SCI_20270101000000_20270101000230_10100000000_08_L1_V01.fits"
    fits.HDUList([primary, *planes]).writeto(path)
    return crmend.read_exposure(path)


def test_an_array_in_a_result_out(image):
    before = image.copy()
    result = crmend.clean(image, model="tiny")
    np.testing.assert_array_equal(image, before)
    assert result.cr_mask[43, 52]
    assert result.cr_mask[100, 20]
    np.testing.assert_array_equal(result.image[~result.cr_mask], image[~result.cr_mask])
    np.testing.assert_array_equal(result.flag == CR_BIT, result.cr_mask)
    assert result.flag.dtype == np.int32
    assert abs(result.image[100, 20] - 100.0) < 6.0
    np.testing.assert_array_equal(result.method > 0, result.cr_mask)
    assert result.method[43, 52] == 2


def test_clean_is_detect_then_inpaint(image):
    result = crmend.clean(image, model="tiny")
    found = crmend.detect(image, model="tiny")
    done = crmend.inpaint(image, found.cr_mask, model="tiny")
    np.testing.assert_array_equal(result.cr_probability, found.cr_probability)
    np.testing.assert_array_equal(result.cr_mask, found.cr_mask)
    np.testing.assert_array_equal(result.image, done.image)
    np.testing.assert_array_equal(result.error, done.error)
    np.testing.assert_array_equal(result.method, done.method)


def test_nothing_on_sources_is_mended_to_more_than_it_held(image, monkeypatch):
    def too_much(*arguments):
        values, sigma = run_network(*arguments)
        return values + np.float32(1e6), sigma

    monkeypatch.setattr(sys.modules["crmend.inpaint"], "run_network", too_much)
    result = crmend.clean(image, model="tiny")
    mended = result.method == NETWORK
    assert mended.any()
    np.testing.assert_array_equal(result.image[mended], image[mended])
    assert np.isfinite(result.error[mended]).all()
    # Of a mask that anybody made, values so low say nothing.
    own = crmend.inpaint(image, result.cr_mask, model="tiny")
    assert (own.image[mended] > image[mended] + 1e5).all()


def test_looking_for_sources_counts_with_the_judgement_of_stars(image, monkeypatch):
    def slow(*args, **options):
        time.sleep(0.5)
        return check_star_cores(*args, **options)

    monkeypatch.setattr("crmend.pipeline.check_star_cores", slow)
    assert crmend.clean(image, model="tiny").stats.seconds["sources"] > 0.5


def test_stats_count_what_the_planes_show(image):
    result = crmend.clean(image, model="tiny", threshold=0.9)
    stats = result.stats
    assert stats.cr_pixels == result.cr_mask.sum()
    assert stats.cr_events == ndimage.label(result.cr_mask, np.ones((3, 3)))[1]
    assert stats.pixels_network == (result.method == 2).sum()
    assert stats.pixels_median == (result.method == 1).sum()
    assert stats.sources_found == len(result.sources)
    assert 1 <= stats.sources_touched <= stats.sources_found
    assert stats.cr_rate is None
    assert stats.threshold == 0.9
    assert stats.detect_model == "tiny/detect"
    assert len(stats.inpaint_sha256) == 64
    assert list(stats.seconds) == ["detect", "sources", "median", "network", "total"]
    stages = sum(stats.seconds[stage] for stage in ("detect", "median", "sources", "network"))
    assert stages <= stats.seconds["total"]


def test_an_exposure_keeps_its_own_planes(exposure):
    image, flag, error = exposure.image.copy(), exposure.flag.copy(), exposure.error.copy()
    result = crmend.clean(exposure, model="tiny")
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.flag, flag)
    np.testing.assert_array_equal(exposure.error, error)
    assert not np.shares_memory(result.image, exposure.image)
    np.testing.assert_array_equal(result.flag & ~CR_BIT, flag)
    np.testing.assert_array_equal((result.flag & CR_BIT) != 0, result.cr_mask)
    assert result.flag[43, 52] == CR_BIT | 32
    assert not result.cr_mask[5, 5]
    assert result.image[5, 5] == np.float32(9e4)
    np.testing.assert_array_equal(result.error[~result.cr_mask], 2.0)
    assert (result.error[result.cr_mask] > 2.0).all()


def test_rate_of_an_exposure(exposure):
    stats = crmend.clean(exposure, model="tiny").stats
    # 190 × 210 pixels of 10 µm in 150 s.
    assert stats.cr_rate == pytest.approx(stats.cr_events / (190 * 210 * 1e-6 * 150.0))


def test_in_place_writes_to_the_arrays_of_the_exposure(exposure):
    expected = crmend.clean(exposure, model="tiny")
    result = clean_in_place(exposure, CleanOptions(model="tiny"))
    assert result.image is exposure.image
    assert result.error is exposure.error
    assert result.flag is exposure.flag
    np.testing.assert_array_equal(result.image, expected.image)
    np.testing.assert_array_equal(result.error, expected.error)
    np.testing.assert_array_equal(result.flag, expected.flag)


@pytest.mark.parametrize("kept", [True, False])
def test_probabilities_that_nobody_wants_do_not_stay_in_memory(exposure, monkeypatch, kept):
    expected = crmend.clean(exposure, model="tiny")
    planes, alive = [], []

    def detecting(*args, **options):
        found = detect_into(*args, **options)
        planes.append(weakref.ref(found.cr_probability))
        return found

    monkeypatch.setattr("crmend.pipeline.detect_into", detecting)
    options = CleanOptions(
        model="tiny",
        probability=kept,
        progress=lambda stage, *_: alive.extend(
            plane() is not None for plane in planes if stage == "network"
        ),
    )
    result = clean_in_place(exposure, options)
    assert alive
    assert set(alive) == {kept}
    assert result.cr_probability.dtype == np.float32
    chances = expected.cr_probability if kept else np.full(expected.image.shape, np.nan)
    np.testing.assert_array_equal(result.cr_probability, chances)
    np.testing.assert_array_equal(result.cr_mask, expected.cr_mask)
    np.testing.assert_array_equal(result.image, expected.image)


def test_detector_and_pack_come_from_the_exposure(exposure):
    with pytest.raises(CrmendError, match="'8'"):
        crmend.clean(dataclasses.replace(exposure), model="tiny_chips")
    stats = crmend.clean(exposure, model="tiny_chips", detector=2).stats
    assert stats.detect_model == "tiny_chips/02/detect_fast"
    assert crmend.clean(exposure, model="tiny_chips/01").stats.inpaint_model == (
        "tiny_chips/01/inpaint"
    )


def test_a_catalogue_replaces_the_search(image, tmp_path):
    path = tmp_path / "catalog.fits"
    Table({"x": [22.0], "y": [98.0]}).write(path)
    result = crmend.clean(image, model="tiny", catalog=path)
    assert result.stats.sources_found == 1
    assert result.method[100, 20] == 2
    assert result.method[130, 150] in (0, 1)
    again = crmend.clean(image, model="tiny", catalog=result.sources)
    np.testing.assert_array_equal(again.image, result.image)
    with pytest.raises(MissingFileError, match="no source catalogue"):
        crmend.clean(image, model="tiny", catalog=tmp_path / "none.fits")


def test_a_memory_limit_changes_sizes_but_not_the_result(image):
    expected = crmend.clean(image, model="tiny")
    small = crmend.clean(image, model="tiny", memory=PLANE_BYTES * image.size)
    np.testing.assert_allclose(small.cr_probability, expected.cr_probability, atol=1e-6)
    np.testing.assert_array_equal(small.cr_mask, expected.cr_mask)
    np.testing.assert_allclose(small.image, expected.image, rtol=1e-6)


def test_work_shrinks_with_the_memory():
    frame = (9232, 9216)
    model = load_model("generic", kind="detect_fast")
    default = plan_work(frame, None, model)
    assert default.tile is None
    assert plan_work(frame, "4GB", model) == default
    tight = plan_work(frame, "1.75 GB", model)
    assert (tight.tile, tight.batch) == (128, 1)
    middle = plan_work(frame, int(2.12e9), model)
    assert 128 < middle.tile < default_tile(model)
    assert 1 < middle.batch < default.batch


@pytest.mark.parametrize("memory", ["1GB", 10**9, "800 MB", "0.5GiB"])
def test_less_memory_than_the_planes_is_an_error(memory):
    with pytest.raises(InvalidInputError, match=r"take 1\.7 GB"):
        plan_work((9232, 9216), memory, load_model("generic", kind="detect_fast"))


@pytest.mark.parametrize("memory", ["much", "", "2 PB", -1, 0, True, 1.5])
def test_memory_that_is_no_size(memory):
    with pytest.raises(InvalidInputError, match="expected bytes, or a size"):
        plan_work((10, 10), memory, load_model("generic", kind="detect_fast"))


def test_progress_names_the_stage(image):
    calls = []
    crmend.clean(image, model="tiny", progress=lambda *call: calls.append(call))
    assert {stage for stage, _, _ in calls} == {"detect", "network"}
    for stage in ("detect", "network"):
        done = [call[1:] for call in calls if call[0] == stage]
        assert done[-1][0] == done[-1][1]


def test_all_nan_is_an_error():
    with pytest.raises(InvalidInputError, match="no pixel of the image is valid"):
        crmend.clean(np.full((20, 20), np.nan), model="tiny")


def test_provenance_repeats_the_stats(image):
    result = crmend.clean(image, model="tiny")
    provenance = result.provenance
    assert provenance.version == crmend.__version__
    assert provenance.cr_events == result.stats.cr_events
    assert provenance.detect_sha256 == result.stats.detect_sha256
    assert provenance.seconds == result.stats.seconds["total"]


def test_a_written_result_reads_back(exposure, tmp_path):
    result = crmend.clean(exposure, model="tiny")
    path = tmp_path / "cleaned.fits"
    crmend.write_exposure(path, exposure, result)
    again = crmend.read_exposure(path)
    np.testing.assert_array_equal(again.image, result.image)
    np.testing.assert_array_equal(again.flag, result.flag)


def test_trained_graphs_find_and_mend_a_cosmic_ray(exposure, monkeypatch):
    monkeypatch.delenv("CRMEND_MODELS")
    if "csst_msc" not in available_packs():
        pytest.skip("the graphs of csst_msc are not exported yet")
    track = (np.arange(60, 75), np.arange(90, 105))
    exposure.image[track] += 600.0
    result = crmend.clean(exposure)
    assert result.stats.detect_model == "csst_msc/08/detect_fast"
    assert result.cr_mask[track].mean() > 0.8
    assert result.cr_mask.mean() < 0.02
    found = result.cr_mask[track]
    assert np.abs(result.image[track][found] - 100.0).max() < 20.0
    assert not result.cr_mask[38:43, 48:53].all()
