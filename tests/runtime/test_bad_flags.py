"""Bits that mark bad pixels, where the profile does not know them."""

import json

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend.cli import main
from crmend.errors import (
    CrmendWarning,
    FileFormatError,
    InvalidInputError,
    UntrainedWarning,
)

pytestmark = pytest.mark.filterwarnings("ignore::crmend.errors.UntrainedWarning")

CR_BIT = 1 << 20


@pytest.fixture
def frame(tmp_path):
    """Return a file with a plane BPM: 3 in a bad column, 8 in one pixel, a CR in another."""
    rng = np.random.default_rng(1)
    image = rng.normal(100.0, 5.0, (64, 64)).astype(np.float32)
    bpm = np.zeros((64, 64), dtype=np.uint8)
    image[:, 20], bpm[:, 20] = 400.0, 3
    image[40, 40], bpm[40, 40] = 900.0, 8
    image[10, 50:54] = 800.0
    planes = [fits.ImageHDU(image, name="SCI"), fits.ImageHDU(bpm, name="BPM")]
    path = tmp_path / "frame.fits"
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(path)
    return path


def read(path, bits):
    return crmend.read_exposure(path, instrument="generic", bad_flags=bits)


def test_without_them_no_flag_of_the_generic_profile_marks_a_bad_pixel(frame):
    assert read(frame, None).invalid.sum() == 0


@pytest.mark.parametrize(("bits", "count"), [(1, 64), (2, 64), (8, 1), (9, 65), (4, 0)])
def test_pixels_with_one_of_the_bits_are_bad(frame, bits, count):
    assert read(frame, bits).invalid.sum() == count


def test_any_bit_but_that_of_cosmic_rays(frame):
    with fits.open(frame, mode="update") as hdus:
        hdus["BPM"].data = hdus["BPM"].data.astype(np.int32)
        hdus["BPM"].data[5, 5] = CR_BIT
    assert read(frame, "any").invalid.sum() == 65


def test_any_is_the_highest_bit_of_unsigned_planes_too(frame):
    with fits.open(frame) as hdus:
        bits = hdus["BPM"].data.astype(np.uint32)
        bits[30, 30] = 2**31
        planes = [hdus["SCI"].copy(), fits.ImageHDU(bits, name="BPM")]
        path = frame.with_name("long.fits")
        fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(path)
    invalid = read(path, "any").invalid
    assert invalid[30, 30]
    assert np.count_nonzero(invalid) == 66


def test_bits_may_be_numpys(frame):
    np.testing.assert_array_equal(read(frame, np.int64(4)).invalid, read(frame, 4).invalid)


def test_a_chip_without_flags_is_named(tmp_path):
    image = np.ones((16, 16), np.float32)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI", ver=1)]
    hdus += [fits.ImageHDU(image.astype("i2"), name="DQ", ver=1)]
    hdus += [fits.ImageHDU(image, name="SCI", ver=2)]
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    told = pytest.raises(FileFormatError, match="beside the image HDU 3 of chip 2; expected")
    with pytest.warns(CrmendWarning, match="no flag plane has the EXTVER 2"), told:
        crmend.read_exposure(
            tmp_path / "two.fits", instrument="generic", extver=2, bad_flags="any"
        )


@pytest.mark.parametrize("bits", [0, -1, 2**31, CR_BIT, CR_BIT + 1, "all", True, 1.0])
def test_bits_that_cannot_be(frame, bits):
    with pytest.raises(InvalidInputError, match=r"bad_flags is .*; expected a sum of bits"):
        read(frame, bits)


def test_a_file_without_flags_has_no_bad_ones(tmp_path):
    fits.writeto(tmp_path / "frame.fits", np.ones((16, 16), dtype=np.float32))
    with pytest.raises(FileFormatError, match="no flag plane for bad_flags"):
        read(tmp_path / "frame.fits", "any")


def test_the_command_leaves_bad_pixels_alone(frame, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    words = ["clean", str(frame), "-o", str(tmp_path / "out.fits"), "--instrument", "generic"]
    assert main([*words, "--bad-flags", "1,0x8", "--json"]) == 0
    assert "error" not in json.loads(capsys.readouterr().out)
    with fits.open(frame) as before, fits.open(tmp_path / "out.fits") as after:
        bad = before["BPM"].data != 0
        assert np.array_equal(after["SCI"].data[bad], before["SCI"].data[bad])
        flagged = (after["FLAG"].data & CR_BIT) != 0
        assert not flagged[bad].any()
        assert flagged[10, 50:54].all()
        assert np.array_equal(after["FLAG"].data & 15, before["BPM"].data)


@pytest.mark.parametrize("text", ["", "0", "one", "1,", "-1", "4294967296"])
def test_words_that_are_no_bits(frame, text, capsys):
    assert main(["clean", str(frame), "--bad-flags", text]) == 2
    assert "is no list of bits; expected such as 1,4,64" in capsys.readouterr().err


def test_the_warning_that_nothing_was_trained_stays(frame):
    with pytest.warns(UntrainedWarning):
        read(frame, 1)


# --- files without flags ------------------------------------------------------------


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_a_file_without_flags_is_named(crmend_cli, level1, noisy, command):
    frame = level1([("SCI", fits.getdata(noisy(), "SCI"))])
    words = (command, frame, "--model", "tiny", "--threshold", "0.99", "--json")
    done = crmend_cli(*words)
    assert done.code == 0
    assert len(done.json["warnings"]) == 1
    assert "frame_L1.fits has no flag plane, expected one named" in done.json["warnings"][0]
    words += ("--instrument", "generic", "--overwrite")
    assert crmend_cli(*words).json["warnings"] == []


def test_a_missing_flag_file_is_named_once(crmend_cli, level1, noisy):
    frame = level1([("SCI", fits.getdata(noisy(), "SCI"))], name="CSST_MSC_x_08_img_L1.fits")
    done = crmend_cli("clean", frame, "--model", "tiny", "--threshold", "0.99", "--json")
    assert len(done.json["warnings"]) == 1
    assert "its sibling CSST_MSC_x_08_flg_L1.fits does not exist" in done.json["warnings"][0]


def test_flags_without_pixels_are_as_good_as_zeros(crmend_cli, level1, noisy):
    """HST leaves planes that say nothing empty."""
    empty = fits.ImageHDU(name="DQ")
    keywords = {"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC"}
    frame = level1(
        [("SCI", fits.getdata(noisy(), "SCI")), ("DQ", empty)], keywords, bunit="ELECTRONS"
    )
    words = ("clean", frame, "--model", "tiny", "--threshold", "0.99", "--json")
    assert crmend_cli(*words).json["warnings"] == []


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_saturation_in_a_wrong_unit_is_noticed(crmend_cli, noisy, command):
    frame = noisy(keywords={"SATURATE": 9.0})
    done = crmend_cli(command, frame, "--model", "tiny", "--threshold", "0.99", "--json")
    assert done.code == 0
    assert len(done.json["warnings"]) == 1
    assert "% of the pixels are excluded" in done.json["warnings"][0]
