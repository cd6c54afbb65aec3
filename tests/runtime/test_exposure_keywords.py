"""Detector, unit, gain and exposure time, from the header or elsewhere."""

import re
import warnings

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import (
    CrmendWarning,
    FileFormatError,
    InvalidInputError,
    UnknownDetectorError,
    UnknownInstrumentError,
)
from crmend.exposure import count_extvers, read_exposure, write_exposure

OFFICIAL = "CSST_MSC_MS_SCI_20270810081950_20270810082220_100000100_24_L1_V01.fits"
OLDER = "CSST_MSC_MS_SCI_20270810081950_20270810082220_100000100_24_img_L1.fits"


@pytest.mark.parametrize(
    ("value", "name", "band"),
    [
        ("08", "8", "g"),
        ("CHIP-25", "25", "y"),
        ("MSC08", "8", "g"),
        (6, "6", "y"),
        ("12", "12", "NUV"),
    ],
)
def test_detector_from_its_last_two_characters(level1, value, name, band):
    exposure = read_exposure(level1(keywords={"DETECTOR": value}))
    assert (exposure.detector, exposure.band) == (name, band)


@pytest.mark.parametrize("keywords", [{"DETECTOR": None}, {"DETECTOR": None, "INSTRUME": None}])
def test_detector_from_the_official_name(level1, keywords):
    assert read_exposure(level1(keywords=keywords, name=OFFICIAL)).detector == "24"


@pytest.mark.filterwarnings("ignore:.*no flag plane")
def test_detector_from_the_older_name(level1):
    assert read_exposure(level1(keywords={"DETECTOR": None}, name=OLDER)).detector == "24"


@pytest.mark.parametrize("detector", [9, "9", "09"])
def test_detector_given_wins(level1, detector):
    exposure = read_exposure(level1(), detector=detector)
    assert (exposure.detector, exposure.band) == ("9", "r")


@pytest.mark.parametrize("detector", [10, 0, 26, -8, "-08", "108", "WFC"])
def test_unknown_detector(level1, detector):
    with pytest.raises(UnknownDetectorError, match=r"expected one of 6, 7, 8.*detector="):
        read_exposure(level1(), detector=detector)


def test_unknown_detector_in_the_header(level1):
    with pytest.raises(UnknownDetectorError, match=r"'21' \(DETECTOR = 'CHIP21'\)"):
        read_exposure(level1(keywords={"DETECTOR": "CHIP21"}))


def test_no_detector_anywhere(level1):
    with pytest.raises(UnknownDetectorError, match="names no detector"):
        read_exposure(level1(keywords={"DETECTOR": None}))


@pytest.mark.parametrize(
    "unit", ["e/s", "e-/s", "electrons/s", "electron/s", "e- / s", "electron s-1", "E-/SEC"]
)
def test_units_per_second(level1, unit):
    exposure = read_exposure(level1(bunit=unit))
    assert exposure.unit == unit
    assert exposure.electrons_per_unit == 150.0


@pytest.mark.parametrize("unit", ["ELECTRONS", "electron", "e-", "e"])
def test_electrons(level1, unit):
    assert read_exposure(level1(bunit=unit)).electrons_per_unit == 1.0


@pytest.mark.parametrize("unit", ["ADU", "adu", "DN", "COUNTS", "count"])
@pytest.mark.parametrize("keyword", ["GAIN1", "GAIN"])
def test_adu_with_gain(level1, unit, keyword):
    exposure = read_exposure(level1(keywords={keyword: 1.1}, bunit=unit))
    assert exposure.electrons_per_unit == 1.1


def test_adu_per_second(level1):
    exposure = read_exposure(level1(keywords={"GAIN1": 2.0}, bunit="counts/s"))
    assert exposure.electrons_per_unit == 300.0


@pytest.mark.parametrize(
    "keywords", [{}, {"GAIN1": 0.0}, {"GAIN1": -1.0}, {"GAIN1": "unknown"}]
)
def test_adu_without_gain(level1, keywords):
    path = level1(keywords=keywords, bunit="ADU")
    with pytest.raises(
        InvalidInputError, match=r"in ADU and has no gain: GAIN1, GAIN .*pass gain="
    ):
        read_exposure(path)
    assert read_exposure(path, gain=1.5).electrons_per_unit == 1.5


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_unusable_gain(level1, gain):
    with pytest.raises(InvalidInputError, match="expected a positive number"):
        read_exposure(level1(bunit="ADU"), gain=gain)


def test_no_unit_is_the_profiles(level1):
    exposure = read_exposure(level1(bunit=None))
    assert (exposure.unit, exposure.electrons_per_unit) == ("e/s", 150.0)


def test_foreign_unit(level1):
    with pytest.raises(
        FileFormatError, match=r"BUNIT is 'MJy/sr', expected e/s.*--instrument generic"
    ):
        read_exposure(level1(bunit="MJy/sr"))


@pytest.mark.parametrize("value", [0.0, -150.0, "NaN", "", True])
def test_exposure_time_not_positive(level1, value):
    with pytest.raises(InvalidInputError, match=r"EXPTIME is .*expected a positive number"):
        read_exposure(level1(keywords={"EXPTIME": value}))


def test_exposure_time_missing(level1):
    with pytest.raises(FileFormatError, match="no exposure time: EXPTIME missing"):
        read_exposure(level1(keywords={"EXPTIME": None}))


def test_exposure_time_does_not_matter_for_electrons(level1):
    with pytest.warns(CrmendWarning, match="EXPTIME is 0.0, expected a number above 0"):
        exposure = read_exposure(level1(keywords={"EXPTIME": 0.0}, bunit="ELECTRONS"))
    assert (exposure.exposure_time, exposure.electrons_per_unit) == (None, 1.0)


def test_read_noise_and_saturation(level1):
    assert read_exposure(level1()).read_noise == 5.0
    exposure = read_exposure(level1(keywords={"RDNOISE1": 4.5, "SATURATE": 477.0}))
    assert (exposure.read_noise, exposure.saturation) == (4.5, 477.0)


def test_generic_falls_back(level1):
    path = level1(
        keywords={"INSTRUME": "STE3 CCD", "DETECTOR": None, "EXPTIME": None}, bunit=None
    )
    with pytest.warns(CrmendWarning, match="any 2-D FITS image"):
        exposure = read_exposure(path, instrument="generic")
    assert (exposure.unit, exposure.electrons_per_unit) == ("", None)
    assert (exposure.detector, exposure.exposure_time) == (None, None)


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_a_unit_that_nobody_gave_is_not_written(level1, image, tmp_path):
    weight = fits.ImageHDU(image + 1.0)
    weight.header["BUNIT"] = "(s/e)**2"
    path = level1([("SCI", image), ("WHT", weight)], {"GAIN": 2.5}, bunit=None)
    exposure = read_exposure(path, instrument="generic")
    assert exposure.electrons_per_unit == 2.5
    write_exposure(tmp_path / "out.fits", exposure)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [hdu.header.get("BUNIT") for hdu in hdus] == [None] * 3


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_gain_setting_of_a_cmos_camera(level1):
    path = level1(keywords={"INSTRUME": "X", "GAIN": 120, "EGAIN": 0.25}, bunit="ADU")
    assert read_exposure(path, instrument="generic").electrons_per_unit == 0.25


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_generic_units(level1):
    path = level1(keywords={"INSTRUME": "X", "EGAIN": 1.4}, bunit=None)
    assert read_exposure(path, instrument="generic").electrons_per_unit == 1.4
    path = level1(keywords={"INSTRUME": "X"}, bunit="MJy/sr")
    assert read_exposure(path, instrument="generic").electrons_per_unit is None
    path = level1(keywords={"INSTRUME": "X", "EXPTIME": None}, bunit="e/s")
    assert read_exposure(path, instrument="generic").electrons_per_unit is None


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize(
    ("unit", "electrons"),
    [
        ("adu pix-1 s-1", 300.0),
        ("adu / (pix s)", 300.0),
        ("ADU / s / pix", 300.0),
        ("adu pix-1", 2.0),
        ("adu / pix", 2.0),
        ("electron / pix", 1.0),
        ("e-/pixel/s", 150.0),
        ("electron.s**-1.pixel**-1", 150.0),
    ],
)
def test_units_may_be_per_pixel(level1, unit, electrons):
    path = level1(keywords={"INSTRUME": "X"}, bunit=unit)
    assert read_exposure(path, instrument="generic", gain=2.0).electrons_per_unit == electrons


@pytest.mark.parametrize("instrument", ["generic", None])
@pytest.mark.parametrize(
    "unit", ["mag", "mag/arcsec2", "mag(AB)", "ABmag", "dex(Jy)", "log10 Jy"]
)
def test_logarithms_are_refused(level1, unit, instrument):
    path = level1(bunit=unit)
    before = path.read_bytes()
    expected = (
        rf"BUNIT is {re.escape(repr(unit))}, a logarithm, expected a linear unit.*convert"
    )
    with pytest.raises(FileFormatError, match=expected):
        read_exposure(path, instrument=instrument)
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize("unit", ["nanomaggies", "maggy", "image units", "Mdb"])
def test_names_like_those_of_logarithms(level1, unit):
    assert read_exposure(level1(bunit=unit), instrument="generic").unit == unit


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize("unit", ["electron / h", "adu pix-2", "mJy"])
def test_a_gain_that_the_unit_leaves_no_use_for_is_said(level1, unit):
    path = level1(keywords={"INSTRUME": "X"}, bunit=unit)
    with pytest.warns(CrmendWarning, match=f"BUNIT is '{unit}', so that the gain .*mend BUNIT"):
        assert read_exposure(path, instrument="generic", gain=2.0).electrons_per_unit is None


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("SATURATE", "2000 ADU", "the saturation is not known"),
        ("GAIN", "1,9", "the gain is taken as 2.5"),
        ("EXPTIME", "300 s", "the exposure time is not known"),
        ("RDNOISE", "5e", "the read noise is not known"),
    ],
)
def test_a_keyword_whose_number_cannot_be_read_is_said(level1, key, value, instead):
    keywords = {"INSTRUME": "X", "GAIN1": 2.5, key: value}
    path = level1(keywords=keywords, bunit="ADU")
    match = f"frame_L1.fits: {key} is '{value}', expected a number alone; .* {instead}: mend"
    with pytest.warns(CrmendWarning, match=match):
        assert read_exposure(path, instrument="generic").electrons_per_unit == 2.5


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize(
    ("key", "value"),
    [("GAIN", 0), ("GAIN", -1), ("GAIN", True), ("EXPTIME", 0.0), ("SATURATE", -1)],
)
def test_numbers_that_no_keyword_can_have_are_said(level1, key, value):
    path = level1(keywords={"INSTRUME": "X", key: value}, bunit="ADU")
    match = f"frame_L1.fits: {key} is {value}, expected a number above 0; .* is not known: mend"
    with pytest.warns(CrmendWarning, match=match):
        read_exposure(path, instrument="generic")


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize("keywords", [{"EGAIN": 1.9, "GAIN": 0}, {"GAIN": 1.9, "RDNOISE": 0}])
def test_numbers_that_may_be_meant_are_not_said(level1, keywords):
    path = level1(keywords={"INSTRUME": "X", **keywords}, bunit="ADU")
    assert read_exposure(path, instrument="generic").electrons_per_unit == 1.9


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize("value", ["", "N/A", "2000.0", fits.card.UNDEFINED])
def test_a_keyword_that_says_nothing_is_not_said(level1, value):
    path = level1(keywords={"INSTRUME": "X", "SATURATE": value}, bunit="ADU")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*no network was trained")
        exposure = read_exposure(path, instrument="generic")
    assert exposure.saturation == (2000.0 if value == "2000.0" else None)


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_a_gain_that_does_not_matter_is_not_said(level1):
    path = level1(keywords={"INSTRUME": "X", "GAIN": "HIGH"}, bunit="e/s")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*no network was trained")
        read_exposure(path, instrument="generic")
        read_exposure(level1(keywords={"EXPTIME": "300 s"}, bunit="e"), exposure_time=300.0)


def test_unknown_instrument(level1):
    path = level1(keywords={"INSTRUME": "NIRCAM"})
    with pytest.raises(
        UnknownInstrumentError, match=r"INSTRUME='NIRCAM'.*--instrument generic"
    ):
        read_exposure(path)
    with pytest.raises(UnknownInstrumentError):
        count_extvers(path)


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_every_real_exposure_is_read(shared_data):
    paths = sorted(shared_data.rglob("*.fits*"))
    assert paths
    for path in paths:
        name = None if path.name.startswith(("acs", "wfc3")) else "generic"
        for extver in range(1, count_extvers(path, instrument=name) + 1):
            exposure = read_exposure(path, instrument=name, extver=extver)
            assert exposure.image.dtype == np.float32
            assert exposure.image.ndim == 2
            assert np.isfinite(exposure.image).any()


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_real_hst_figures(shared_data):
    raw = read_exposure(shared_data / "hst" / "acs_hrc_j8bt05njq_raw.fits.fz")
    assert (raw.unit, raw.electrons_per_unit, raw.exposure_time) == ("COUNTS", 2.0, 60.0)
    assert (raw.detector, raw.band, raw.instrument.pixel_size_um) == ("HRC", "F555W", 21.0)
    uvis = read_exposure(shared_data / "hst" / "wfc3_uvis_ibo821kvq_flt.fits.fz")
    assert (uvis.band, uvis.exposure_time, uvis.electrons_per_unit) == ("F606W", 479.0, 1.0)
    assert uvis.read_noise == pytest.approx(3.08, abs=0.01)
    wfpc2 = shared_data / "hst" / "wfpc2_u40x010hm_c0f.fits.fz"
    assert count_extvers(wfpc2, instrument="generic") == 4


@pytest.mark.parametrize(
    ("key", "value", "mosaic"),
    [
        ("BAYERPAT", "RGGB", True),
        ("COLORTYP", "gbrg ", True),
        ("CFAPAT", "BGGR", True),
        ("BAYERPAT", "NONE", False),
        ("COLORTYP", "Mono", False),
        ("CFAPAT", 1, False),
    ],
)
def test_a_mosaic_of_colours_is_said(level1, key, value, mosaic):
    path = level1(keywords={key: value})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_exposure(path)
    said = [str(warning.message) for warning in caught]
    if mosaic:
        assert len(said) == 1
        assert said[0].startswith(f"frame_L1.fits is a raw colour frame ({key} = ")
        assert "split it into its four colour planes first" in said[0]
    else:
        assert said == []


@pytest.mark.parametrize(
    ("keywords", "asinh"),
    [
        ({"BSOFTEN": 4.2, "BOFFSET": 0.5}, True),
        ({"BSOFTEN": 4.2}, False),
        ({"BSOFTEN": "NaN", "BOFFSET": "NaN"}, False),
    ],
)
def test_asinh_magnitudes_are_said(level1, keywords, asinh):
    path = level1(keywords=keywords)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_exposure(path)
    said = [str(warning.message) for warning in caught]
    assert len(said) == asinh
    if asinh:
        assert said[0].startswith("frame_L1.fits has BSOFTEN = 4.2 and BOFFSET = 0.5")
        assert "BOFFSET + 2 BSOFTEN sinh(0.4 ln(10) v)" in said[0]
