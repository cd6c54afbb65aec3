"""Arguments of the Python functions: what is taken, and what is refused in one clear error."""

import dataclasses
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData, StdDevUncertainty, VarianceUncertainty
from astropy.table import MaskedColumn, QTable, Table
from astropy.units import adu, electron, pix

import crmend
from crmend.errors import (
    CrmendWarning,
    InvalidInputError,
    MissingFileError,
    ModelError,
    UnknownDetectorError,
    UntrainedWarning,
)
from crmend.exposure import read_exposure, update_flags, write_flag
from crmend.models import load_model

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
TINY = {"model": "tiny", "threshold": 0.99}


@pytest.fixture(autouse=True)
def _tiny_packs(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))


@pytest.fixture
def exposure(noisy):
    """Return the exposure of `noisy`: image, error and int32 flag."""
    return crmend.read_exposure(noisy())


@pytest.fixture
def image(exposure):
    return exposure.image


# --- catalogues ---------------------------------------------------------------------

POSITIONS = {"x": [80.0, 40.0], "y": [60.0, 30.0]}


@pytest.mark.parametrize(
    "catalog",
    [
        Table(POSITIONS),
        Table(POSITIONS).as_array(),
        QTable({name: values * pix for name, values in POSITIONS.items()}),
        Table({"X_IMAGE": [81, 41], "Y_IMAGE": [61, 31], "flux": ["bright", "faint"]}),
        Table({**POSITIONS, "a": [[1.0, 2.0], [3.0, 4.0]]}),
        Table(
            {
                "x": MaskedColumn([80, 1, 40], mask=[False, True, False]),
                "y": [60, 1, 30],
            }
        ),
    ],
)
def test_a_catalogue_may_be_a_table(image, tmp_path, catalog):
    path = tmp_path / "cat.fits"
    Table(POSITIONS).write(path)
    expected = crmend.clean(image, catalog=path, **TINY)
    result = crmend.clean(image, catalog=catalog, **TINY)
    np.testing.assert_array_equal(result.sources.x, [40.0, 80.0])
    np.testing.assert_array_equal(result.sources.y, [30.0, 60.0])
    np.testing.assert_array_equal(result.image, expected.image)
    mended = crmend.inpaint(image, result.cr_mask, model="tiny", sources=catalog)
    np.testing.assert_array_equal(mended.sources.x, [40.0, 80.0])
    assert mended.method[31, 42] == 2


@pytest.mark.parametrize(
    ("catalog", "match"),
    [
        (np.zeros((3, 2)), "is a ndarray; expected a SourceCatalog"),
        ([(1.0, 2.0)], "is a list; expected a SourceCatalog"),
        (5, "is a int; expected a SourceCatalog"),
        (Table({"mag": [20.0]}), "the source catalogue has no table with positions.*got mag"),
        (Table({"x": ["a"], "y": ["b"]}), "the positions in the source catalogue"),
        (Table({"ra": [150.0], "dec": [2.0]}), "no celestial WCS"),
    ],
)
def test_what_is_no_catalogue(image, catalog, match):
    with pytest.raises(InvalidInputError, match=match):
        crmend.clean(image, catalog=catalog, **TINY)
    with pytest.raises(InvalidInputError, match=match):
        crmend.inpaint(image, image > 1000.0, model="tiny", sources=catalog)


def test_sources_may_be_a_file(image, tmp_path):
    with pytest.raises(MissingFileError, match="no source catalogue"):
        crmend.inpaint(image, image > 1000.0, model="tiny", sources=tmp_path / "none.fits")


# --- names and numbers --------------------------------------------------------------


@pytest.mark.parametrize("model", [5, Path("generic"), b"tiny", ["tiny"]])
def test_a_model_is_a_name(exposure, image, model):
    for call in (
        lambda: crmend.detect(image, model=model),
        lambda: crmend.inpaint(image, image > 1000.0, model=model),
        lambda: crmend.clean(image, model=model),
        lambda: crmend.clean(exposure, model=model),
    ):
        with pytest.raises(InvalidInputError, match=r"model is a \w+; expected the name"):
            call()


def test_a_loaded_model_cannot_do_both(exposure):
    with pytest.raises(InvalidInputError, match="model is a Model; expected the name"):
        crmend.clean(exposure, model=load_model("tiny"))


def test_a_pack_that_is_for_any_detector_has_none(image):
    with pytest.raises(UnknownDetectorError, match="expected 'tiny' alone"):
        crmend.detect(image, model="tiny/99")
    with pytest.raises(ModelError, match="no model pack ''"):
        crmend.detect(image, model="")


@pytest.mark.parametrize("precision", ["abc", "0.5", [0.9], np.array([0.5, 0.9]), 1j, True])
def test_target_precision_is_a_number(image, precision):
    with pytest.raises(InvalidInputError, match=r"target_precision is .*expected a number"):
        crmend.detect(image, model="tiny", target_precision=precision)


@pytest.mark.parametrize("quality", [[], "best", 1])
def test_quality_is_one_of_two(image, quality):
    with pytest.raises(InvalidInputError, match="expected one of reference, fast"):
        crmend.detect(image, model="tiny", quality=quality)


def test_an_error_plane_is_an_array(image):
    with pytest.raises(InvalidInputError, match="error is one number"):
        crmend.inpaint(image, image > 1000.0, model="tiny", error=0.05)
    with pytest.raises(InvalidInputError, match=r"error has shape \(72, 89\) and the image"):
        crmend.inpaint(image, image > 1000.0, model="tiny", error=image[:, 1:])


@pytest.mark.parametrize("rows", [slice(20, 22), slice(None, None, 7)])
def test_infinite_neighbours_do_not_warn(image, rows):
    # Warnings are errors here.
    image[rows, 60:75] = np.inf
    image[rows, 64:66] = -np.inf
    result = crmend.clean(image, **TINY)
    assert result.cr_mask[60, 11]
    assert not result.cr_mask[rows, 60:75].any()
    np.testing.assert_array_equal(result.image[rows, 60:75], image[rows, 60:75])


# --- exposures that were edited -----------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        lambda e: {"image": e.image.astype(np.float64)},
        lambda e: {"image": e.image.astype(">f4")},
        lambda e: {"image": np.asfortranarray(e.image)},
        lambda e: {"error": e.error.astype(">f8")},
        lambda e: {"flag": e.flag.astype(np.uint16)},
        lambda e: {"flag": e.flag.astype(">i2")},
        lambda e: {"flag": e.flag.astype(np.int64)},
    ],
)
def test_planes_of_another_dtype_give_the_same_result(exposure, edit):
    expected = crmend.clean(exposure, **TINY)
    planes = edit(exposure)
    before = {name: plane.copy() for name, plane in planes.items()}
    result = crmend.clean(dataclasses.replace(exposure, **planes), **TINY)
    for name in ("image", "error", "flag", "cr_mask"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        assert getattr(result, name).dtype == getattr(expected, name).dtype
    for name, plane in planes.items():
        np.testing.assert_array_equal(plane, before[name])


def test_an_image_of_integers(exposure):
    whole = np.round(exposure.image)
    expected = crmend.clean(dataclasses.replace(exposure, image=whole), **TINY)
    result = crmend.clean(dataclasses.replace(exposure, image=whole.astype(np.int32)), **TINY)
    np.testing.assert_array_equal(result.image, expected.image)
    assert result.cr_mask[60, 11]


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda e: {"image": e.image[:, 1:]}, r"exposure.error has shape \(72, 90\)"),
        (
            lambda e: {"image": e.image[1:], "error": None},
            r"exposure.flag has shape \(72, 90\)",
        ),
        (lambda e: {"image": e.image.astype(complex)}, "exposure.image has dtype complex"),
        (lambda e: {"flag": e.flag + 0.5}, "flag plane .* holds 0.5"),
        (lambda e: {"error": 0.05}, "exposure.error is one number"),
    ],
)
def test_planes_that_do_not_fit(exposure, edit, match):
    with pytest.raises(InvalidInputError, match=match):
        crmend.clean(dataclasses.replace(exposure, **edit(exposure)), **TINY)


def test_an_exposure_that_was_cleaned_before(exposure, tmp_path):
    result = crmend.clean(exposure, **TINY)
    path = tmp_path / "cleaned.fits"
    crmend.write_exposure(path, exposure, result)
    again = crmend.read_exposure(path)
    match = f"cleaned.fits was cleaned before, by crmend {crmend.__version__}"
    with pytest.warns(CrmendWarning, match=match):
        second = crmend.clean(again, **TINY)
    np.testing.assert_array_equal(second.flag & ~(1 << 20), exposure.flag)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("frame.fits", "image is a str; expected an array"),
        ([[1.0, 2.0], [3.0]], "image is a list that is no array"),
    ],
)
def test_what_is_no_image_is_named(image, message):
    with pytest.raises(InvalidInputError, match=message):
        crmend.detect(image, model="generic")


PIXELS = np.zeros((8, 8))


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("u.fits", "a str; .* read the file with crmend.read_exposure"),
        (Path("u.fits"), "Path; .* read the file with crmend.read_exposure"),
        (None, "a NoneType; .* pass one, or an exposure from crmend.read_exposure"),
        (NDData(PIXELS), r"a NDData; .* pass its \.data, with bad pixels as .*mask=x\.mask"),
        (fits.PrimaryHDU(PIXELS), r"a PrimaryHDU; .* pass its \.data$"),
        (fits.HDUList([fits.PrimaryHDU(PIXELS)]), r"a HDUList; .* such as hdus\[1\]\.data"),
    ],
)
def test_what_clean_cannot_take_is_answered_with_what_to_pass(image, remedy):
    with pytest.raises(InvalidInputError, match=f"^image is .*{remedy}"):
        crmend.clean(image, model="generic")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (StdDevUncertainty(PIXELS), r"a StdDevUncertainty; .* pass its \.array$"),
        (VarianceUncertainty(PIXELS), r"represent_as\(StdDevUncertainty\)\.array$"),
        (fits.ImageHDU(PIXELS), r"a ImageHDU; .* pass its \.data$"),
    ],
)
def test_an_error_that_is_no_array_is_answered_with_what_to_pass(image, error, remedy):
    none = np.zeros(image.shape, bool)
    with pytest.raises(InvalidInputError, match=f"^error is .*{remedy}"):
        crmend.inpaint(image, none, error=error, model="tiny")
    with pytest.raises(InvalidInputError, match=r"^cr_mask is a ImageHDU; .* pass its \.data$"):
        crmend.inpaint(image, fits.ImageHDU(PIXELS), model="tiny")


def test_a_ragged_mask_and_a_million_threads_are_clear_errors():
    image = np.zeros((2, 2))
    with pytest.raises(InvalidInputError, match="cr_mask is a list that is no array"):
        crmend.inpaint(image, [[True, False], [True]], model="generic")
    with pytest.raises(InvalidInputError, match="threads is 1000000; expected a whole number"):
        crmend.detect(image, model="generic", threads=1_000_000)


def test_only_results_with_planes_are_written(tmp_path):
    image = np.zeros((8, 8), dtype=np.float32)
    fits.writeto(tmp_path / "frame.fits", image)
    with pytest.warns(UntrainedWarning):
        exposure = crmend.read_exposure(tmp_path / "frame.fits", instrument="generic")
    found = crmend.Detection(np.zeros((8, 8), dtype=bool), image)
    with pytest.raises(InvalidInputError, match="the result is a Detection; expected what"):
        crmend.write_exposure(tmp_path / "out.fits", exposure, found)
    assert [path.name for path in tmp_path.iterdir()] == ["frame.fits"]


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"gain": "x"}, "gain is 'x', expected a positive number"),
        ({"gain": True}, "gain is True"),
        ({"read_noise": [1]}, r"read_noise is \[1\]"),
        ({"exposure_time": "s"}, "exposure_time is 's'"),
        ({"extver": "a"}, r"extver 'a' is out of range: .*; pass 1 to 1"),
        ({"extver": 1.0}, "extver 1.0 is"),
        ({"instrument": 5}, "instrument is a int; expected the name"),
        ({"detector": 1.08}, "detector is 1.08; expected a name"),
        ({"planes": 5}, "planes is a int; expected a mapping"),
    ],
)
def test_arguments_of_reading(level1, kwargs, match):
    with pytest.raises(InvalidInputError, match=match):
        read_exposure(level1(), **kwargs)


def test_a_profile_may_be_a_path(level1, tmp_path):
    content = resources.files("crmend.instruments").joinpath("csst_msc.toml").read_bytes()
    (tmp_path / "mine.toml").write_bytes(content)
    found = read_exposure(level1(), instrument=tmp_path / "mine.toml")
    assert (found.instrument.name, found.detector) == ("mine", "8")


@pytest.mark.parametrize("function", [crmend.clean, crmend.detect])
def test_progress_is_a_function(image, function):
    with pytest.raises(InvalidInputError, match="progress is 5; expected a function"):
        function(image, model="tiny", device="cpu", progress=5)


def test_only_exposures_are_written(tmp_path, image):
    for call in (
        lambda: crmend.write_exposure(tmp_path / "out.fits", "x"),
        lambda: write_flag(tmp_path / "out.fits", image, np.zeros((3, 4), np.int32)),
        lambda: update_flags(tmp_path / "out.fits", None, np.zeros((3, 4), np.bool_)),
    ):
        with pytest.raises(InvalidInputError, match=r"the exposure is a .*; expected what"):
            call()
    assert not (tmp_path / "out.fits").exists()


@pytest.mark.parametrize("x", [np.nan, 5000.0, -3.0])
def test_a_catalogue_of_another_field(image, x):
    catalog = Table({"x": [x, x], "y": [5.0, 6.0]})
    with pytest.warns(CrmendWarning, match="catalogue has no source on the image of 90 x 72"):
        crmend.clean(image, model="tiny", device="cpu", catalog=catalog)


def test_switches_of_inpainting_are_checked(image):
    for name, value in (("additive", "no"), ("progress", 5)):
        with pytest.raises(InvalidInputError, match=f"{name} is {value!r}; expected"):
            crmend.inpaint(image, image > 1000.0, model="tiny", device="cpu", **{name: value})


def test_an_error_in_another_unit_than_its_image_is_refused(exposure):
    image, error = exposure.image * electron, exposure.error * adu
    mask = np.zeros(image.shape, bool)
    with pytest.raises(InvalidInputError, match="error is in adu and the image in electron"):
        crmend.inpaint(image, mask, error=error, model="tiny")
    with pytest.raises(InvalidInputError, match="error is in adu and the image in electron"):
        crmend.clean(dataclasses.replace(exposure, image=image, error=error), **TINY)
    same = crmend.inpaint(image, mask, error=exposure.error * electron, model="tiny")
    assert np.array_equal(same.image, exposure.image, equal_nan=True)


@pytest.mark.parametrize(
    "others", [{"detector": 8}, {"device": "cpu"}, {"threads": 1}, {"quality": "fast"}]
)
def test_nothing_is_ignored_beside_a_loaded_model(others):
    loaded = load_model("tiny", device="cpu")
    (name,) = others
    with pytest.raises(InvalidInputError, match=rf"^{name}=.* beside the loaded model tiny"):
        crmend.detect(np.zeros((32, 32)), model=loaded, **others)


@pytest.mark.parametrize("name", ["clean", "detect", "inpaint"])
def test_a_detector_that_changes_nothing_is_named(image, name):
    mask = [np.zeros(image.shape, bool)] if name == "inpaint" else []
    with pytest.warns(CrmendWarning, match="detector 8 changes nothing.*'tiny'"):
        getattr(crmend, name)(image, *mask, model="tiny", detector=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(crmend, name)(image, *mask, model="tiny_chips", detector=1)
