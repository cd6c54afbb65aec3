"""Headers: nobody else's values, and cards that FITS does not allow."""

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import CrmendWarning, FileFormatError, UnknownInstrumentError
from crmend.exposure import read_exposure, update_flags, write_exposure


def spoil(path, card, keyword="SPOILED"):
    """Replace the card of a keyword by raw text."""
    content = path.read_bytes()
    start = content.index(f"{keyword:<8}=".encode())
    path.write_bytes(content[:start] + f"{card:<80}".encode() + content[start + 80 :])
    return path


@pytest.fixture
def spoiled(level1, image):
    """Return a writer of Level 1 files with one raw card in SCI: spoiled(card)."""

    def write(card, **kwargs):
        hdu = fits.ImageHDU(image)
        hdu.header["SPOILED"] = 1
        return spoil(level1([("SCI", hdu)], **kwargs), card)

    return write


def test_each_header_keeps_its_values(tmp_path, level1, image):
    hdu = fits.ImageHDU(image)
    hdu.header.update(OBJECT="of SCI", EXPTIME=99.0, DATE="2032-02-02")
    hdu.header.append(("DUPL", 1), end=True)
    hdu.header.append(("DUPL", 2), end=True)
    primary = {"OBJECT": "of primary", "DATE": "2031-01-01", "DUPL": 0}
    exposure = read_exposure(level1([("SCI", hdu)], primary))
    assert [exposure.header[key] for key in ("OBJECT", "EXPTIME")] == ["of SCI", 99.0]
    assert (exposure.header["DUPL", 0], exposure.header["DUPL", 1]) == (1, 2)
    write_exposure(tmp_path / "out.fits", exposure)
    for header in (exposure.primary_header, fits.getheader(tmp_path / "out.fits")):
        values = [header[key] for key in ("OBJECT", "EXPTIME", "DATE", "DUPL")]
        assert values == ["of primary", 150.0, "2031-01-01", 0]
    header = fits.getheader(tmp_path / "out.fits", "SCI")
    assert [header[key] for key in ("OBJECT", "EXPTIME", "DATE")] == [
        "of SCI",
        99,
        "2032-02-02",
    ]
    assert [card.value for card in header.cards if card.keyword == "DUPL"] == [1, 2]


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_real_primary_headers_stay(shared_data):
    path = shared_data / "hst" / "acs_hrc_j8bt06nyq_flt.fits.fz"
    expected = fits.getheader(path)
    found = read_exposure(path).primary_header
    assert "IRAF-TLM" in expected
    assert [str(card) for card in found.cards] == [str(card) for card in expected.cards]


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("DATE-OBS= 2032-01-01T00:00:00 / start", "2032-01-01T00:00:00"),
        ("CCDTEMP = 12:00", "12:00"),
        ("HIERARCH ESO X = NaN", "NaN"),
    ],
)
def test_unparsable_cards_are_copied(tmp_path, spoiled, card, value):
    exposure = read_exposure(spoiled(card))
    assert exposure.electrons_per_unit == 150.0
    write_exposure(tmp_path / "out.fits", exposure)
    header = fits.getheader(tmp_path / "out.fits", "SCI")
    assert header[card.split("=")[0].removeprefix("HIERARCH ").strip()] == value


def test_unparsable_saturation_counts_as_absent(spoiled):
    with pytest.warns(CrmendWarning, match=r"frame_L1.fits: the value of SATURATE cannot be"):
        assert read_exposure(spoiled("SATURATE= NaN")).saturation is None


def test_unparsable_unit_is_the_profiles(tmp_path, spoiled):
    with pytest.warns(CrmendWarning, match="the value of BUNIT cannot be parsed"):
        exposure = read_exposure(spoiled("BUNIT   = e-/s", bunit=None))
    assert (exposure.unit, exposure.electrons_per_unit) == ("e/s", 150.0)
    write_exposure(tmp_path / "out.fits", exposure)
    assert fits.getheader(tmp_path / "out.fits", "SCI")["BUNIT"] == "e/s"


def test_unparsable_exposure_time_is_missing(spoiled):
    path = spoiled("EXPTIME = 12:00")
    warns = pytest.warns(CrmendWarning, match="the value of EXPTIME cannot be parsed")
    with warns, pytest.raises(FileFormatError, match="no exposure time: EXPTIME missing"):
        read_exposure(path)
    with pytest.warns(CrmendWarning, match="EXPTIME"):
        assert read_exposure(path, exposure_time=60.0).electrons_per_unit == 60.0


def test_unparsable_instrument(level1):
    path = spoil(level1(), "INSTRUME= MSC", keyword="INSTRUME")
    warns = pytest.warns(CrmendWarning, match="the value of INSTRUME cannot be parsed")
    with warns, pytest.raises(UnknownInstrumentError, match="DETECTOR='CHIP08'"):
        read_exposure(path)
    with pytest.warns(CrmendWarning, match="INSTRUME"):
        assert read_exposure(path, instrument="csst_msc").detector == "8"


def test_unparsable_name_of_an_extension(level1, image):
    path = spoil(level1(), "EXTNAME = SCI", keyword="EXTNAME")
    with pytest.warns(CrmendWarning, match="the value of EXTNAME cannot be parsed"):
        np.testing.assert_array_equal(read_exposure(path).image, image)


@pytest.mark.filterwarnings("ignore:.*no network was trained")
@pytest.mark.parametrize("keyword", ["FILTER", "BUNIT", "EXPTIME"])
def test_keywords_without_a_value_are_absent(level1, image, keyword):
    hdu = fits.ImageHDU(image)
    hdu.header[keyword] = fits.card.Undefined()
    path = level1([("SCI", hdu)], bunit=None)
    exposure = read_exposure(path, instrument="generic")
    assert (exposure.band, exposure.unit) == (None, "")
    assert exposure.exposure_time == (None if keyword == "EXPTIME" else 150.0)
    np.testing.assert_array_equal(exposure.image, image)


@pytest.mark.parametrize("card", ["SPOILED = 'lo\tw'", "SPOILED = 'lo\0w'"])
def test_control_characters_are_dropped_and_named(tmp_path, spoiled, card):
    exposure = read_exposure(spoiled(card))
    with pytest.warns(CrmendWarning, match=r"not carried over .* SPOILED with a tab"):
        write_exposure(tmp_path / "out.fits", exposure)
    header = fits.getheader(tmp_path / "out.fits", "SCI")
    assert "SPOILED" not in header
    assert header["BUNIT"] == "e/s"


def test_control_characters_in_the_primary_and_the_flag_plane(tmp_path, level1, image):
    hdu = fits.ImageHDU(np.zeros((3, 4), np.int32))
    hdu.header["SPOILED"] = 1
    path = level1([("SCI", image), ("FLAG", hdu)], {"OBSERVER": "me"})
    spoil(spoil(path, "SPOILED = 'lo\tw'"), "OBSERVER= 'm\te'", "OBSERVER")
    exposure = read_exposure(path)
    with pytest.warns(CrmendWarning) as caught:
        write_exposure(tmp_path / "out.fits", exposure)
    said = " ".join(str(one.message) for one in caught)
    assert "OBSERVER with a tab" in said
    assert "SPOILED with a tab" in said
    with pytest.warns(CrmendWarning, match="SPOILED with a tab"):
        update_flags(path, exposure, np.ones((3, 4), np.bool_))
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), 1 << 20)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("SPOILED = 'low     '           / of\tC\0\0", "SPOILED = 'low     '           / of C"),
        ("HISTORY a\tb\0", "HISTORY a b"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_control_characters_of_comments_become_blanks(tmp_path, spoiled, card, expected):
    path = spoil(spoiled(card, keywords={"OBSERVER": "me"}), card, keyword="OBSERVER")
    write_exposure(tmp_path / "out.fits", read_exposure(path))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [str(hdu.header).count(f"{expected:<80}") for hdu in hdus] == [1, 1]
        hdus.verify("exception")
