"""Error planes: what they hold, in which unit, and on which scale."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty

import crmend
from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError
from crmend.exposure import read_exposure, write_exposure

pytestmark = pytest.mark.filterwarnings("ignore:.*no network was trained")
SHAPE = (3, 4)


def plane(value, **keywords):
    """Return an image extension of one value."""
    hdu = fits.ImageHDU(np.full(SHAPE, value, np.float32))
    hdu.header.update(keywords)
    return hdu


# --- UTYPE ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uncertainty", [StdDevUncertainty(0.2), VarianceUncertainty(0.04), InverseVariance(25.0)]
)
def test_uncertainties_of_astropy(tmp_path, image, uncertainty):
    full = type(uncertainty)(np.full(SHAPE, uncertainty.array))
    CCDData(image, unit="adu", uncertainty=full).write(tmp_path / "a.fits")
    exposure = read_exposure(tmp_path / "a.fits", instrument="generic")
    np.testing.assert_allclose(exposure.error, 0.2, rtol=1e-6)
    write_exposure(tmp_path / "out.fits", exposure)
    again = read_exposure(tmp_path / "out.fits", instrument="generic")
    np.testing.assert_array_equal(again.error, exposure.error)


def test_short_names_and_names_of_the_caller(level1, image):
    path = level1([("SCI", image), ("UNCERT", plane(0.25, UTYPE="ivar"))])
    for planes, expected in [
        (None, 2.0),
        ({"error": "UNCERT"}, 0.25),
        ({"variance": "2"}, 0.5),
    ]:
        exposure = read_exposure(path, instrument="generic", planes=planes)
        np.testing.assert_array_equal(exposure.error, np.full(SHAPE, expected))


@pytest.mark.parametrize(
    ("utype", "error"), [("InverseVariance", 0.02), ("VarianceUncertainty", 50.0)]
)
def test_unnamed_plane_with_utype(level1, utype, error):
    """Beside noise of 0.02 both look like a weight."""
    noise = np.random.default_rng(1).normal(0.0, 0.02, SHAPE).astype(np.float32)
    path = level1([("", noise), ("", plane(2500.0, UTYPE=utype))])
    np.testing.assert_allclose(read_exposure(path).error, error, rtol=1e-6)


def test_unknown_utype(level1, image):
    path = level1([("SCI", image), ("UNCERT", plane(0.25, UTYPE="UnknownUncertainty"))])
    with pytest.raises(FileFormatError, match=r"UTYPE 'UnknownUncertainty', .*--plane error=2"):
        read_exposure(path, instrument="generic")
    named = read_exposure(path, instrument="generic", planes={"error": "2"})
    np.testing.assert_array_equal(named.error, np.full(SHAPE, 0.25))


def test_utype_of_a_data_model_says_nothing(level1, image):
    stated = plane(0.25, UTYPE="Spectrum.Data.FluxAxis.Accuracy.StatError")
    exposure = read_exposure(level1([("SCI", image), ("ERR", stated)]))
    np.testing.assert_array_equal(exposure.error, np.full(SHAPE, 0.25))


# --- units ------------------------------------------------------------------------------


def generic(level1, image, name, hdu, bunit):
    """Read an image with one further plane."""
    return read_exposure(
        level1([("SCI", image), (name, hdu)], bunit=bunit), instrument="generic"
    )


@pytest.mark.parametrize(
    ("bunit", "name", "own", "expected"),
    [
        ("ELECTRONS/S", "ERR", "ELECTRONS", "the same unit"),
        ("electron", "ERR", "adu", "the same unit"),
        ("Jy", "ERR", "MJy/sr", "the same unit"),
        ("electron/s", "VAR", "electron2", "its square"),
        ("Jy", "WHT", "Jy2", "its inverse square"),
        ("electron/s", "WHT", "s", "its inverse square"),
    ],
)
def test_errors_in_another_unit(level1, image, bunit, name, own, expected):
    match = (
        rf"plane .*\({name}\) is in {own} and the image in {bunit}; expected {expected}: con"
    )
    with pytest.raises(InvalidInputError, match=match):
        generic(level1, image, name, plane(4.0, BUNIT=own), bunit)


@pytest.mark.parametrize(
    ("bunit", "name", "own", "expected"),
    [
        ("Jy", "ERR", "mJy", 0.004),
        ("mJy", "VAR", "Jy2", 2000.0),
        ("Jy", "WHT", "mJy-2", 0.0005),
    ],
)
def test_errors_off_by_a_factor_are_converted(
    tmp_path, level1, image, bunit, name, own, expected
):
    exposure = generic(level1, image, name, plane(4.0, BUNIT=own), bunit)
    assert exposure.error.dtype == np.float32
    np.testing.assert_allclose(exposure.error, expected, rtol=1e-6)
    write_exposure(tmp_path / "out.fits", exposure)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert hdus["ERR"].header["BUNIT"] == bunit
        np.testing.assert_allclose(hdus["ERR"].data, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("bunit", "name", "own"),
    [
        ("ELECTRONS/S", "ERR", "e-/sec"),
        ("counts", "ERR", "DN"),
        ("counts/s", "VAR", "DN2 / s2"),
        ("e/s/pix", "VAR", "electron2 / (s2 pix2)"),
        ("10**-17 erg/(s cm2 Angstrom)", "WHT", "10**+34 (s2 cm4 Angstrom2) / erg2"),
        # The image's own, as many programs write it.
        ("ELECTRONS/S", "VAR", "ELECTRONS/S"),
        ("electron", "WHT", "ELECTRONS"),
        # What cannot be parsed, or says nothing.
        ("ELECTRONS", "VAR", "ELECTRONS**2"),
        ("nanomaggies", "ERR", "Jy"),
        ("electron", "WHT", "UNITLESS"),
        ("electron", "ERR", "1"),
        ("Jy", "ERR", "mag(AB)"),
        ("", "ERR", "electron"),
        ("electron", "ERR", ""),
    ],
)
def test_units_that_are_believed(level1, image, bunit, name, own):
    error = generic(level1, image, name, plane(0.25, BUNIT=own), bunit).error
    expected = {"ERR": 0.25, "VAR": 0.5, "WHT": 2.0}[name]
    np.testing.assert_array_equal(error, np.full(SHAPE, expected))


# --- scale ------------------------------------------------------------------------------


def sky(noise=11.4, shape=(50, 60)):
    """Return a noisy sky, bright everywhere."""
    return np.random.default_rng(4).normal(900.0, noise, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "value", "kind", "error"),
    [
        ("WHT", 1.0, "weight", 1.0),
        ("WHT", 1e-5, "weight", 316),
        ("ERR", 130.0, "error", 130),
        ("VAR", 11.4**4, "variance", 130),
        ("ERR", 0.0, "error", 0),
    ],
)
def test_errors_far_off_the_noise(level1, name, value, kind, error):
    values = np.full((50, 60), value, np.float32)
    path = level1([("SCI", sky()), (name, values)])
    match = rf"{kind} plane HDU 2 \({name}\) gives errors of {error:g} .* is 11.*--plane error="
    with pytest.warns(CrmendWarning, match=match):
        exposure = read_exposure(path, instrument="generic")
    assert exposure.error[0, 0] == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("value", [11.4 / 3, 11.4, 11.4 * 3])
def test_errors_near_the_noise(level1, value):
    """Drizzled frames and crowded fields are off by so much."""
    path = level1([("SCI", sky()), ("ERR", np.full((50, 60), value))])
    assert read_exposure(path).error[0, 0] == np.float32(value)


def test_a_wrong_kind_named_right(level1):
    path = level1([("SCI", sky()), ("ERR", np.full((50, 60), 130.0))])
    error = read_exposure(path, planes={"variance": "ERR"}).error
    np.testing.assert_allclose(error, 130.0**0.5, rtol=1e-6)


def test_bad_pixels_and_weights_of_zero_do_not_count(level1):
    image, error = sky(), np.full((50, 60), 11.4)
    flag = np.zeros((50, 60), np.int32)
    flag[:20], error[:20], image[:20] = 1, 1e4, 0.0
    read_exposure(level1([("SCI", image), ("ERR", error), ("FLAG", flag)]))
    weight = np.where(flag == 1, 0.0, 11.4**-2)
    read_exposure(level1([("SCI", image), ("WHT", weight)]))


@pytest.mark.parametrize("turned", [False, True])
def test_spectral_orders_are_no_noise(level1, turned):
    """Light that varies from pixel to pixel along one axis, and hardly along the other."""
    orders = sky(1.0) + 300.0 * np.sin(np.arange(60, dtype=np.float32))
    image = orders.T if turned else orders
    path = level1([("SCI", image), ("ERR", np.ones_like(image))])
    assert (read_exposure(path).error == 1.0).all()


@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (3, 900), (900, 2)])
def test_scale_of_narrow_images(level1, shape):
    """As far as it can be measured, which is no reason to fail."""
    path = level1([("SCI", sky(shape=shape)), ("ERR", np.full(shape, 130.0, np.float32))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrmendWarning)
        assert (read_exposure(path).error == 130.0).all()


# --- errors below zero ------------------------------------------------------------------


def with_negative(level1, keywords=None, flag=None):
    """Return a file whose first error is -1, and whose second is 0."""
    error = np.full(SHAPE, 2.0, np.float32)
    error[0, :2] = -1.0, 0.0
    flags = np.zeros(SHAPE, np.int32)
    flags[0, 0] = flag or 0
    image = np.arange(12.0, 0.0, -1.0, np.float32).reshape(SHAPE)
    planes = [("SCI", image), ("ERR", error), *([] if flag is None else [("FLAG", flags)])]
    return level1(planes, keywords)


@pytest.mark.parametrize("flag", [None, 0, 4])
def test_errors_below_zero_are_refused(level1, flag):
    expected = r"ERR\) is -1 somewhere, at 1 pixel\(s\) .*; expected 1-sigma, .*error=none"
    with pytest.raises(InvalidInputError, match=expected):
        read_exposure(with_negative(level1, flag=flag))
    left_out = read_exposure(with_negative(level1, flag=flag), planes={"error": None})
    assert left_out.error is None


@pytest.mark.parametrize(
    ("keywords", "flag"), [({}, 1), ({}, 8), ({"SATURATE": 12.0}, None)], ids=str
)
def test_errors_below_zero_are_kept_where_nothing_is_used(level1, keywords, flag):
    exposure = read_exposure(with_negative(level1, keywords, flag))
    np.testing.assert_array_equal(exposure.error[0, :3], [-1.0, 0.0, 2.0])


@pytest.mark.parametrize("value", [130.0, 0.3, 0.0])
def test_errors_of_arrays_far_off_the_noise(value):
    error = np.full((50, 60), value)
    match = rf"^error gives errors of {value:g} .* is 11.*expected 1-sigma .*np.sqrt"
    for work in (crmend.clean, inpainted):
        with pytest.warns(CrmendWarning, match=match):
            result = work(sky(), error=error, model="generic")
        assert result.error[0, 0] == np.float32(value)
    with pytest.warns(CrmendWarning, match=r"^image\.uncertainty gives errors of"):
        crmend.clean(
            CCDData(sky(), unit="adu", uncertainty=StdDevUncertainty(error)), model="generic"
        )


def test_errors_of_arrays_near_the_noise():
    error = np.full((50, 60), 11.4 * 2)
    error[:40] = 0.0
    image = sky()
    image[0, :5], error[1, :5] = np.nan, np.nan
    assert crmend.clean(image, error=error, model="generic").error[-1, -1] == np.float32(22.8)


def inpainted(image, **options):
    return crmend.inpaint(image, image > 940.0, **options)
