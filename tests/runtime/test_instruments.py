import errno
from pathlib import Path

import pytest

from crmend._instruments import available_instruments, load_instrument, match_instrument
from crmend.errors import (
    CrmendError,
    FileFormatError,
    MissingFileError,
    UnknownInstrumentError,
)


def test_profiles_present():
    assert available_instruments() == (
        "csst_msc", "decam", "generic", "hst_acs", "hst_stis", "hst_wfc3_uvis", "hst_wfpc2",
    )  # fmt: skip


def test_csst_profile():
    csst = load_instrument("csst_msc")
    assert csst.trained
    assert csst.model_pack == "csst_msc"
    assert csst.cr_bit == 2**20
    assert csst.invalid_flags == 1 | 2
    assert csst.saturated_flags == 8
    assert csst.pixel_size_um == 10.0
    assert len(csst.detectors) == 18
    assert not {"10", "21"} & set(csst.detectors)
    by_band = {
        band: sorted(int(d) for d, b in csst.bands.items() if b == band) for band in "ugrizy"
    }
    assert by_band == {
        "u": [14, 17], "g": [8, 23], "r": [9, 22], "i": [7, 24], "z": [11, 20],
        "y": [6, 15, 16, 25],
    }  # fmt: skip
    assert [d for d, b in csst.bands.items() if b == "NUV"] == ["12", "13", "18", "19"]


@pytest.mark.parametrize("name", ["hst_acs", "hst_wfc3_uvis"])
def test_hst_profiles(name):
    hst = load_instrument(name)
    assert not hst.trained
    assert hst.model_pack == "generic"
    assert hst.cr_bit == 4096
    assert hst.saturated_flags == 256 | 2048
    assert hst.invalid_flags & (4 | 16) == 4 | 16
    assert not hst.invalid_flags & (4096 | 8192 | 256 | 2048)


def test_pixel_size_follows_the_detector():
    acs = load_instrument("hst_acs")
    assert acs.for_detector("WFC").pixel_size_um == 15.0
    assert acs.for_detector("HRC").pixel_size_um == 21.0


@pytest.mark.parametrize("name", available_instruments())
def test_flag_bits_are_single_bits(name):
    bits = list(load_instrument(name).flags.values())
    assert all(bit & (bit - 1) == 0 and bit > 0 for bit in bits)
    assert len(set(bits)) == len(bits)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"INSTRUME": "MSC"}, "csst_msc"),
        ({"INSTRUME": "ACS   ", "DETECTOR": "wfc"}, "hst_acs"),
        ({"INSTRUME": "ACS", "DETECTOR": "HRC"}, "hst_acs"),
        ({"INSTRUME": "WFC3", "DETECTOR": "UVIS"}, "hst_wfc3_uvis"),
    ],
)
def test_match_by_header(header, name):
    assert match_instrument(header).name == name


def test_match_by_file_name_only_without_instrume():
    name = "CSST_MSC_MS_SCI_20270810081950_20270810082220_100000100_08_L1_V01.fits"
    assert match_instrument({}, name).name == "csst_msc"
    with pytest.raises(UnknownInstrumentError):
        match_instrument({"INSTRUME": "OTHER"}, name)


@pytest.mark.parametrize(
    "header", [{"INSTRUME": "WFC3", "DETECTOR": "IR"}, {"INSTRUME": "STE3 CCD"}, {}]
)
def test_unknown_instrument_names_choices_and_remedy(header):
    with pytest.raises(UnknownInstrumentError, match="--instrument generic") as caught:
        match_instrument(header, "x.fits")
    message = str(caught.value)
    assert ", ".join(available_instruments()) in message
    assert str(header.get("INSTRUME", "no TELESCOP")) in message
    assert "Name one by instrument='generic' (--instrument generic)" in message
    assert isinstance(caught.value, CrmendError)
    assert isinstance(caught.value, LookupError)


def test_unknown_name():
    with pytest.raises(UnknownInstrumentError, match=r"'hubble'; available: csst_msc"):
        load_instrument("hubble")


OWN = """
title = "mine"
model_pack = "generic"
trained = false
default_unit = "ADU"
gain_required = false
[planes]
image = ["sci"]
[keywords]
unit = ["BUNIT"]
exposure_time = ["EXPTIME"]
[flags]
cr = 2
[flag_roles]
invalid = []
saturated = []
cosmic_ray = "cr"
"""


def test_own_profile(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    mine = load_instrument(str(path))
    assert (mine.name, mine.cr_bit, mine.planes["image"]) == ("mine", 2, ("SCI",))


def test_own_profile_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN, encoding="utf-8-sig")
    assert load_instrument(str(path)).cr_bit == 2


def test_the_bit_of_cosmic_rays_means_nothing_else(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN.replace("cr = 2", "cr = 2\nhot = 2").replace("= []", "= ['hot']", 1))
    with pytest.raises(FileFormatError, match=r"flags.hot is 2, expected another bit .*own"):
        load_instrument(str(path))


def test_two_names_of_one_bit_are_that_bit(tmp_path):
    path = tmp_path / "mine.toml"
    flags = "cr = 2\nhot = 1\nwarm = 1"
    path.write_text(OWN.replace("cr = 2", flags).replace("= []", "= ['hot', 'warm']", 1))
    assert load_instrument(str(path)).invalid_flags == 1


@pytest.mark.parametrize("entry", ["unknown", "cr_bit", "named", "name"])
def test_unknown_entries_of_own_profiles(tmp_path, entry):
    path = tmp_path / "mine.toml"
    path.write_text(f"{entry} = 4\n{OWN}")
    with pytest.raises(FileFormatError, match=rf"'{entry}', .*Known entries: .*flag_roles"):
        load_instrument(str(path))


def test_own_profile_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FileFormatError, match="cannot be read: Permission denied; check its"):
        load_instrument(str(path))


@pytest.mark.parametrize("content", ["not toml [", "", 'title = "x"\nunknown = 1\n'])
def test_unusable_own_profile(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_text(content)
    with pytest.raises(FileFormatError, match="not a usable instrument profile"):
        load_instrument(str(path))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('title = "mine"', "", "title is missing, expected text in quotes; add it"),
        ("trained = false", "", "trained is missing, expected true or false; add it"),
        ('unit = ["BUNIT"]', "", r"keywords.unit is missing, expected a list"),
        ('exposure_time = ["EXPTIME"]', "", r"keywords.exposure_time is missing"),
        ("gain_required = false", "gain_required = true", r"keywords.gain is missing"),
        ("gain_required = false", "gain_required = 1", "gain_required is 1, expected true or"),
        ('"ADU"', "5", "default_unit is 5, expected text"),
        ('["sci"]', '"sci"', "planes.image is 'sci', expected a list"),
        ("[planes]", "[planes]\nsky = []", "kind of a plane is 'sky', expected one of image"),
        ("[keywords]", "[keywords]\ngain = [1]", r"keywords.gain is \[1\], expected a list"),
        *(
            ("cr = 2", f"cr = {value}", f"flags.cr is {value}, expected {what}")
            for value, what in (
                (4294967296, "a whole"), (-1, "a whole"), (0, "a whole"), (1.5, "a whole"),
                ("'x'", "a whole"), (3, "one bit"),
            )
        ),
        ("saturated = []", "saturated = ['full']", "name of a flag is 'full', expected one"),
        ("saturated = []", "", "flag_roles.saturated is missing"),
        ("[flags]", "saturaton = ['MAX']\n[flags]", "of keywords is 'saturaton', expected one"),
        ("saturated = []", "saturated = []\nbad = []", "flag_roles is 'bad', expected one"),
        ("cr = 2", "cr = 2\nbad = 6", "flags.bad is 6, expected one bit: a power of 2; give"),
        ("invalid = []", "invalid = ['cr']", "flags.cr is 2, expected another bit than cosmic"),
        ("saturated = []", "saturated = ['cr']", "flags.cr is 2, .*saturated pixels are never"),
        *(
            ("[flags]", f"[flag_codes]\n{key} = 'cr'\n[flags]",
             f"a key of flag_codes is '{key}', expected a whole number from 1 to 65535")
            for key in ("-3", "99999999999", "65536", "x", "0")
        ),
        ('"cr"', "['cr']", r"name of a flag is \['cr'\]"),
        *(
            ("[planes]", f"pixel_size_um = {value}\n[planes]", "expected a number above 0")
            for value in ('"a"', -5, "nan", "inf", "true")
        ),
        ("[planes]", "pixel_sizes_um = {a = 0}\n[planes]", "pixel_sizes_um.a is 0"),
        ("[planes]", "file_pattern = '('\n[planes]", "expected a regular expression"),
        ("[planes]", "detector_digits = 0\n[planes]", "detector_digits is 0, expected a whole"),
    ],
)  # fmt: skip
def test_entries_of_an_own_profile(tmp_path, old, new, match):
    path = tmp_path / "mine.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=match) as caught:
        load_instrument(str(path))
    assert str(caught.value).startswith(f"{path} is not a usable instrument profile: ")


def test_missing_own_profile(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        load_instrument(str(tmp_path / "none.toml"))
