"""Corrected files, read back with astropy alone."""

import gzip
import hashlib
import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from crmend._fits_write import write_primary
from crmend._provenance import Provenance, combine
from crmend.errors import InvalidInputError, OutputError
from crmend.exposure import (
    Corrected,
    read_exposure,
    write_exposure,
    write_exposures,
    write_flag,
)

FLAG = np.array([[0, 1, 2, 4], [8, 16, 32, 64], [128, 3, 0, 9]], np.uint16)
PROVENANCE = Provenance(
    version="0.1.0",
    detect_model="csst_msc/08/detect",
    detect_sha256="ab" * 32,
    inpaint_model="csst_msc/08/inpaint",
    inpaint_sha256="cd" * 32,
    threshold=0.53,
    seed_threshold=0.97,
    views=2,
    provider="CPUExecutionProvider",
    cr_pixels=12,
    cr_events=3,
    cr_rate=1.2345678,
    star_pixels_added=4,
    star_pixels_freed=None,
    rim_pixels_added=0,
    sources_touched=2,
    pixels_network=5,
    pixels_median=7,
    seconds=61.23456,
)
WCS_CARDS = {
    "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CRPIX1": 2.0, "CRPIX2": 1.5,
    "CRVAL1": 60.0, "CRVAL2": -40.0, "CUNIT1": "deg", "CUNIT2": "deg",
    "CD1_1": -8.17e-06, "CD1_2": -1.886e-05, "CD2_1": 1.886e-05, "CD2_2": -8.17e-06,
    "PV1_0": 0.0, "PV1_1": 1.0, "PV1_2": 1e-3, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_2": -1e-3,
}  # fmt: skip


@pytest.fixture
def exposure(level1, image):
    sci = fits.ImageHDU(image)
    sci.header.update(WCS_CARDS)
    sci.header["FILTER"] = "g"
    sci.header.add_history("reduced by the Level 1 pipeline")
    planes = [("SCI", sci), ("WHT", np.full((3, 4), 16.0, "f4")), ("FLAG", FLAG)]
    return read_exposure(level1(planes, {"OBSID": "100000100"}))


@pytest.fixture
def corrected(exposure):
    image = exposure.image.copy()
    image[1, 2] = 0.25
    error = exposure.error.copy()
    error[1, 2] = 1.0
    flag = exposure.flag.copy()
    flag[1, 2] |= 1 << 20
    probability = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    return Corrected(image, error, flag, probability, PROVENANCE)


def test_planes(tmp_path, exposure, corrected):
    write_exposure(tmp_path / "out.fits", exposure, corrected, probability=True)
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "FLAG", "CRPROB"]
        assert [hdus[n].header["BITPIX"] for n in ("SCI", "ERR", "FLAG")] == [-32, -32, 32]
        np.testing.assert_array_equal(hdus["SCI"].data, corrected.image)
        np.testing.assert_array_equal(hdus["ERR"].data, corrected.error)
        np.testing.assert_array_equal(hdus["FLAG"].data, corrected.flag)
        assert hdus["FLAG"].data[1, 2] == 1048576 + 32
        assert isinstance(hdus["CRPROB"], fits.CompImageHDU)
        np.testing.assert_allclose(hdus["CRPROB"].data, corrected.cr_probability, atol=5.1e-5)
    assert (tmp_path / "out.fits").stat().st_size % 2880 == 0


def test_probability_only_when_asked_for(tmp_path, exposure, corrected):
    write_exposure(tmp_path / "out.fits", exposure, corrected)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "FLAG"]


def test_headers_and_wcs_are_kept(tmp_path, exposure, corrected):
    write_exposure(tmp_path / "out.fits", exposure, corrected)
    with fits.open(exposure.path) as before, fits.open(tmp_path / "out.fits") as after:
        assert after[0].header["OBSID"] == "100000100"
        header = after["SCI"].header
        assert {key: header[key] for key in WCS_CARDS} == WCS_CARDS
        assert (header["FILTER"], header["BUNIT"]) == ("g", "e/s")
        assert after["ERR"].header["BUNIT"] == "e/s"
        assert header["HISTORY"][0] == "reduced by the Level 1 pipeline"
        assert header["HISTORY"][1] == "crmend 0.1.0: 3 cosmic rays, 12 pixels flagged"
        assert not {"BSCALE", "BZERO", "BLANK"} & set(after["FLAG"].header)
        sky = [WCS(hdus["SCI"].header).all_pix2world([[3, 2]], 0) for hdus in (before, after)]
        np.testing.assert_array_equal(*sky)


def test_new_planes_lie_where_the_image_does(tmp_path, level1, image, corrected):
    sci = fits.ImageHDU(image)
    sci.header.update({**WCS_CARDS, "WCSAXES": 2, "CRVAL1A": 7.0, "A_0_2": 1e-5, "FILTER": "g"})
    sci.header["INHERIT"] = (True, "of the primary header")
    exposure = read_exposure(level1([("SCI", sci)]))
    write_exposure(tmp_path / "out.fits", exposure, corrected, probability=True)
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[1:]] == ["SCI", "ERR", "FLAG", "CRPROB"]
        for hdu in hdus[2:]:
            header = hdu.header
            assert {key: header[key] for key in WCS_CARDS} == WCS_CARDS
            assert (header["WCSAXES"], header["CRVAL1A"], header["A_0_2"]) == (2, 7.0, 1e-5)
            assert "FILTER" not in header
        assert hdus["SCI"].header["INHERIT"] is True
        assert hdus["SCI"].header.comments["INHERIT"] == "of the primary header"
        assert "INHERIT" not in hdus[0].header
        assert [hdu.header.get("BUNIT") for hdu in hdus[1:]] == ["e/s", "e/s", None, None]


@pytest.mark.parametrize("hdu", [0, "SCI"])
def test_provenance(tmp_path, exposure, corrected, hdu):
    write_exposure(tmp_path / "out.fits", exposure, corrected)
    header = fits.getheader(tmp_path / "out.fits", hdu)
    expected = {
        "STA_CRS": 0, "CRCOUNT": 3, "CRMVERS": "0.1.0", "CRMDETMD": "csst_msc/08/detect",
        "CRMDETSH": "ab" * 32, "CRMINPMD": "csst_msc/08/inpaint", "CRMINPSH": "cd" * 32,
        "CRMTHRES": 0.53, "CRMSEED": 0.97, "CRMPROV": "CPUExecutionProvider",
        "CRMNPIX": 12, "CRMNEVT": 3, "CRMRATE": 1.23457, "CRMNSRC": 2, "CRMNNET": 5,
        "CRMNMED": 7, "CRMSECS": 61.23,
    }  # fmt: skip
    assert {key: header[key] for key in expected} == expected


def test_keywords_stay_clear_of_the_wcs():
    names = [keyword for keyword, _, _ in PROVENANCE.to_cards()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z_]{1,8}", name) for name in names)
    assert not any(name.startswith(("CRPIX", "CRVAL", "CD", "PV")) for name in names)


def test_unknown_figures_are_left_undefined(tmp_path, exposure, corrected):
    unknown = replace(
        PROVENANCE, cr_rate=None, threshold=math.nan, seed_threshold=None, inpaint_model=None
    )
    write_exposure(tmp_path / "out.fits", exposure, replace(corrected, provenance=unknown))
    header = fits.getheader(tmp_path / "out.fits")
    for key in ("CRMRATE", "CRMTHRES", "CRMSEED", "CRMINPMD"):
        assert key in header
        assert header[key] is None


def test_the_input_stays_byte_for_byte(tmp_path, exposure, corrected):
    before = hashlib.sha256(exposure.path.read_bytes()).hexdigest()
    write_exposure(tmp_path / "out.fits", exposure, corrected)
    assert hashlib.sha256(exposure.path.read_bytes()).hexdigest() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frame_L1.fits", "out.fits"]


def test_without_a_result_the_exposure_itself(tmp_path, exposure):
    write_exposure(tmp_path / "out.fits", exposure)
    again = read_exposure(tmp_path / "out.fits")
    np.testing.assert_array_equal(again.image, exposure.image)
    np.testing.assert_array_equal(again.error, np.full((3, 4), 0.25))
    np.testing.assert_array_equal(again.flag, FLAG)
    assert again.detector == "8"


def test_special_values_survive(tmp_path, exposure):
    image = exposure.image.copy()
    image[0] = [np.nan, np.inf, -np.inf, -0.0]
    write_exposure(tmp_path / "out.fits", exposure, Corrected(image))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI"]
        np.testing.assert_array_equal(
            hdus["SCI"].data.astype("<f4").view("<u4"), image.view("u4")
        )


def test_compressed_input_leaves_no_traces(tmp_path, level1, image):
    def pack(data):
        return fits.CompImageHDU(data, compression_type="GZIP_2", quantize_level=0)

    exposure = read_exposure(
        level1([("SCI", pack(image)), ("FLAG", pack(FLAG))], name="a.fits.fz")
    )
    write_exposure(tmp_path / "out.fits", exposure)
    with fits.open(tmp_path / "out.fits", disable_image_compression=True) as hdus:
        for hdu in hdus:
            assert not [key for key in hdu.header if key.startswith(("Z", "TTYPE", "TFORM"))]
        np.testing.assert_array_equal(hdus["FLAG"].data, FLAG)


def test_image_of_the_primary_hdu(tmp_path, image):
    primary = fits.PrimaryHDU((image * 2).astype("u2"))
    primary.header.update(INSTRUME="MSC", DETECTOR="08", EXPTIME=150.0, BUNIT="e/s", CRVAL1=9.0)
    primary.writeto(tmp_path / "a.fits")
    write_exposure(tmp_path / "out.fits", read_exposure(tmp_path / "a.fits"))
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        assert hdus[0].data is None
        assert hdus["SCI"].header["CRVAL1"] == 9.0
        np.testing.assert_array_equal(hdus["SCI"].data, image * 2)


def test_gzipped_output(tmp_path, exposure, corrected):
    write_exposure(tmp_path / "out.fits.gz", exposure, corrected, probability=True)
    with gzip.open(tmp_path / "out.fits.gz") as stream:
        assert stream.read(9) == b"SIMPLE  ="
    np.testing.assert_array_equal(
        fits.getdata(tmp_path / "out.fits.gz", "SCI"), corrected.image
    )


def test_a_gzipped_file_has_its_own_name_in_it(tmp_path, exposure, corrected):
    write_exposure(tmp_path / "out.fits.gz", exposure, corrected)
    header = (tmp_path / "out.fits.gz").read_bytes()[:20]
    assert header[3] == 8  # FNAME alone follows the ten fixed bytes (RFC 1952)
    assert header[10:].split(b"\0")[0] == b"out.fits"


def test_permissions_follow_the_umask(tmp_path, exposure):
    previous = os.umask(0o027)
    try:
        write_exposure(tmp_path / "out.fits", exposure)
    finally:
        os.umask(previous)
    assert (tmp_path / "out.fits").stat().st_mode & 0o777 == 0o640


def test_several_chips(tmp_path, exposure, corrected):
    second = replace(corrected, provenance=replace(PROVENANCE, cr_events=10, detect_model="x"))
    chips = ((exposure, result) for result in (corrected, second))
    write_exposures(tmp_path / "out.fits", chips, probability=True)
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        names = [(hdu.name, hdu.ver) for hdu in hdus[1:]]
        planes = ("SCI", "ERR", "FLAG", "CRPROB")
        assert names == [(name, version) for version in (1, 2) for name in planes]
        assert [hdus["SCI", version].header["CRCOUNT"] for version in (1, 2)] == [3, 10]
        assert (hdus[0].header["CRCOUNT"], hdus[0].header["CRMDETMD"]) == (13, "several")
        np.testing.assert_array_equal(hdus["SCI", 2].data, corrected.image)


@pytest.mark.parametrize("cards", [0, 15, 29, 31])
def test_any_chip_may_bring_the_provenance(tmp_path, exposure, corrected, cards):
    for number in range(cards):
        exposure.primary_header[f"EXTRA{number}"] = number
    items = [(exposure, None), (exposure, corrected), (exposure, None)]
    write_exposures(tmp_path / "out.fits", items)
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        assert [(hdu.name, hdu.ver) for hdu in hdus[1:]] == [
            (name, version) for version in (1, 2, 3) for name in ("SCI", "ERR", "FLAG")
        ]
        assert hdus[0].header["CRMNPIX"] == 12
        assert len(hdus[0].header["EXTRA*"]) == cards
        np.testing.assert_array_equal(hdus["SCI", 1].data, exposure.image)
        np.testing.assert_array_equal(hdus["SCI", 2].data, corrected.image)


def test_a_header_never_runs_into_the_planes(tmp_path):
    path = tmp_path / "a.fits"
    size = write_primary(path, fits.Header(), spare=2880)
    assert size == path.stat().st_size == 5760
    long = fits.Header([(f"CARD{number}", number) for number in range(72)])
    with pytest.raises(OutputError, match="takes 8640 bytes, expected at most the 5760"):
        write_primary(path, long, size)
    assert path.stat().st_size == size
    assert "CARD0" not in fits.getheader(path)


def test_combined_provenance():
    total = combine(
        [PROVENANCE, replace(PROVENANCE, cr_rate=None, cr_pixels=1, provider="CUDA")]
    )
    assert (total.cr_pixels, total.cr_events, total.cr_rate) == (13, 6, 1.2345678)
    assert (total.provider, total.detect_model) == ("several", "csst_msc/08/detect")
    assert combine([PROVENANCE]) == PROVENANCE


def test_flag_alone(tmp_path, exposure, corrected):
    write_flag(
        tmp_path / "flag.fits", exposure, corrected.flag, PROVENANCE, corrected.cr_probability
    )
    with fits.open(tmp_path / "flag.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "FLAG", "CRPROB"]
        np.testing.assert_array_equal(hdus["FLAG"].data, corrected.flag)
        assert hdus["FLAG"].data.dtype == np.dtype(">i4")
        assert hdus[0].header["CRCOUNT"] == 3
        assert "BUNIT" not in hdus["FLAG"].header


def test_wrong_shapes(tmp_path, exposure, corrected):
    small = np.zeros((2, 2), np.float32)
    for name, change in (
        ("SCI", "image"),
        ("ERR", "error"),
        ("FLAG", "flag"),
        ("CRPROB", "cr_probability"),
    ):
        with pytest.raises(InvalidInputError, match=rf"{name} has shape \(2, 2\).*\(3, 4\)"):
            write_exposure(
                tmp_path / "out.fits",
                exposure,
                replace(corrected, **{change: small}),
                probability=True,
            )
    with pytest.raises(InvalidInputError, match="no cr_probability"):
        write_exposure(tmp_path / "out.fits", exposure, probability=True)
    with pytest.raises(InvalidInputError, match="no exposures to write"):
        write_exposures(tmp_path / "out.fits", [])
    assert [p.name for p in tmp_path.iterdir()] == ["frame_L1.fits"]
