"""Planes under odd versions, odd names and odd shapes."""

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError
from crmend.exposure import read_exposure, update_flags, write_exposure

FLAG = np.array([[0, 1, 2, 4], [8, 16, 32, 64], [128, 3, 0, 9]], np.int32)
MASK = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
untrained = pytest.mark.filterwarnings("ignore:.*no network was trained")


def versioned(data, version):
    hdu = fits.ImageHDU(data)
    if version is not None:
        hdu.header["EXTVER"] = version
    return hdu


# --- versions ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, 1, 3, 8])
def test_the_only_planes_whatever_their_version(level1, image, version):
    weight = np.full((3, 4), 16.0, np.float32)
    exposure = read_exposure(
        level1(
            [
                ("SCI", versioned(image, 8)),
                ("WHT", versioned(weight, version)),
                ("FLAG", versioned(FLAG, version)),
            ]
        )
    )
    np.testing.assert_array_equal(exposure.flag, FLAG)
    np.testing.assert_array_equal(exposure.error, np.full((3, 4), 0.25))


def test_several_planes_for_one_image(level1, image):
    flags = [("FLAG", versioned(FLAG * 0, 1)), ("FLAG", versioned(FLAG, 2))]
    path = level1([("SCI", versioned(image, 8)), *flags])
    with pytest.raises(FileFormatError, match=r"several flag planes \(HDU 2 .*EXTVER 2\).*8"):
        read_exposure(path)
    exposure = read_exposure(path, planes={"flag": "3"})
    np.testing.assert_array_equal(exposure.flag, FLAG)


@untrained
@pytest.mark.parametrize("numbers", [(None, None, None), (3, 1, 2)])
def test_planes_without_a_version_are_those_of_the_images_in_their_order(
    level1, image, numbers
):
    order = (3, 1, 2)
    images = [("SCI", versioned(image + version, version)) for version in order]
    flags = [
        ("FLAG", versioned(np.full((3, 4), version, np.int32), number))
        for version, number in zip(order, numbers, strict=True)
    ]
    path = level1(images + flags)
    for chip in (1, 2, 3):
        exposure = read_exposure(path, instrument="generic", extver=chip)
        np.testing.assert_array_equal(exposure.image, image + chip)
        np.testing.assert_array_equal(exposure.flag, np.full((3, 4), chip))


@untrained
@pytest.mark.parametrize("planes", [{"flag": "2"}, {"flag": "WHT"}])
def test_a_plane_is_what_the_caller_calls_it(level1, image, planes):
    path = level1([("SCI", image), ("WHT", FLAG), ("MODEL", image)])
    exposure = read_exposure(path, instrument="generic", planes=planes)
    np.testing.assert_array_equal(exposure.flag, FLAG)
    assert exposure.error is None
    other = read_exposure(path, instrument="generic", planes={"image": "2"})
    np.testing.assert_array_equal(other.image, FLAG)


@pytest.mark.parametrize("name", ["NOPE", "99"])
@pytest.mark.parametrize(("kind", "index"), [("flag", 3), ("error", 2)])
def test_no_plane_is_read_instead_of_one_that_is_not_there(level1, image, kind, index, name):
    noise, bits = np.ones((3, 4), "f4"), np.zeros((3, 4), "i4")
    path = level1([("", image), ("", noise), ("", bits)])
    assert read_exposure(path).planes[kind].index == index
    for named in (kind, "weight"):
        with pytest.raises(FileFormatError, match=name):
            read_exposure(path, planes={named: name})


@untrained
def test_planes_that_belong_to_no_chip(level1, image):
    chips = [("SCI", versioned(image, n)) for n in (8, 9)]
    planes = [("DQ", versioned(FLAG, n)) for n in (1, 9)]
    path = level1([*chips, *planes], {"INSTRUME": "ACS", "DETECTOR": "WFC"}, bunit="ELECTRONS")
    with pytest.warns(CrmendWarning, match=r"no flag plane has the EXTVER 8 .*HDU 3 \(DQ, E"):
        assert read_exposure(path, extver=1).flag is None
    np.testing.assert_array_equal(read_exposure(path, extver=2).flag, FLAG)


@untrained
def test_named_image_takes_no_flags_of_another(level1, image):
    planes = [("SCI", versioned(image, 1)), ("DQ", versioned(FLAG, 1))]
    path = level1([*planes, ("SCI", versioned(image, 2))])
    with pytest.warns(CrmendWarning, match="no flag plane has the EXTVER 2"):
        assert read_exposure(path, instrument="generic", planes={"image": "3"}).flag is None


@untrained
def test_sibling_without_a_plane_for_the_chip(level1, tmp_path, image):
    chips = [("SCI", versioned(image, n)) for n in (1, 2, 3)]
    path = level1(chips, {"INSTRUME": "WFPC2", "ATODGAIN": 7.0}, name="u_c0m.fits", bunit="DN")
    flags = [versioned(FLAG, n) for n in (1, 2)]
    for hdu in flags:
        hdu.header["EXTNAME"] = "DQ"
    fits.HDUList([fits.PrimaryHDU(), *flags]).writeto(tmp_path / "u_c1m.fits")
    np.testing.assert_array_equal(read_exposure(path, extver=2, detector="WF2").flag, FLAG)
    with pytest.raises(FileFormatError, match=r"u_c1m.fits has no plane .*for EXTVER 3"):
        read_exposure(path, extver=3, detector="WF3")


def two_chips(level1, image, *flags):
    """Return a file of SCI 1, SCI 2 (HDU 1 and 2) and these planes."""
    return level1([*(("SCI", versioned(image * n, n)) for n in (1, 2)), *flags])


@untrained
def test_a_plane_named_by_its_number_has_any_version(level1, image, tmp_path):
    flags = [("DQ", versioned(FLAG * (n - 1), n)) for n in (1, 2)]
    path = two_chips(level1, image, *flags)
    exposure = read_exposure(path, instrument="generic", planes={"image": "1", "flag": "4"})
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.flag, FLAG)
    write_exposure(tmp_path / "out.fits", exposure)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "out.fits", "FLAG"), FLAG)


@untrained
@pytest.mark.parametrize("name", ["3", "MASK"])
def test_one_mask_that_is_named_serves_every_chip(level1, image, name):
    path = two_chips(level1, image, ("MASK", FLAG))
    for extver in (1, 2):
        planes = {"flag": name}
        chip = read_exposure(path, instrument="generic", planes=planes, extver=extver)
        np.testing.assert_array_equal(chip.image, image * extver)
        np.testing.assert_array_equal(chip.flag, FLAG)
    second = read_exposure(path, instrument="generic", planes={"image": "2", "flag": name})
    np.testing.assert_array_equal(second.flag, FLAG)


@untrained
def test_one_mask_of_another_chip_is_named_by_its_number(level1, image):
    path = two_chips(level1, image, ("MASK", versioned(FLAG, 1)))
    match = (
        r"no flag plane 'MASK' with the EXTVER 2 of the image HDU 2; expected one of "
        r"HDU 3 \(MASK, EXTVER 1\), named by its number \(--plane flag=NUMBER\)"
    )
    with pytest.raises(FileFormatError, match=match):
        read_exposure(path, instrument="generic", planes={"flag": "MASK"}, extver=2)
    named = read_exposure(path, instrument="generic", planes={"flag": "3"}, extver=2)
    np.testing.assert_array_equal(named.flag, FLAG)


# --- left out ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["error", "weight", "flag"])
def test_planes_that_the_caller_leaves_out(level1, tmp_path, image, kind):
    names = {"error": "ERR", "weight": "WHT", "flag": "FLAG"}
    wrong = (names[kind], np.ones((5, 5), np.uint8))
    good = [("ERR", image), ("FLAG", FLAG)]
    path = level1([("SCI", image), *(plane for plane in good if plane[0] != wrong[0]), wrong])
    exposure = read_exposure(path, planes={kind: None})
    assert (exposure.flag is None) == (kind == "flag")
    assert (exposure.error is None) == (kind == "error")
    write_exposure(tmp_path / "out.fits", exposure)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "out.fits", names[kind]), wrong[1])


def test_flags_of_a_sibling_are_left_out(level1, image):
    path = level1(name="a_img_L1.fits")
    with pytest.warns(CrmendWarning, match="sibling a_flg_L1.fits does not exist"):
        read_exposure(path)
    assert read_exposure(path, planes={"flag": None}).flag is None


def test_an_error_left_out_leaves_the_weight(level1, image):
    weight = np.full((3, 4), 16.0, np.float32)
    path = level1([("SCI", image), ("ERR", image), ("WHT", weight)])
    exposure = read_exposure(path, planes={"error": None})
    np.testing.assert_array_equal(exposure.error, np.full((3, 4), 0.25))
    with pytest.raises(InvalidInputError, match=r"planes\['image'\] is None; expected the EXT"):
        read_exposure(path, planes={"image": None})


def test_flags_that_are_none_can_be_left_out_by_an_option(crmend_cli, noisy, tmp_path):
    path = noisy()
    with fits.open(path) as hdus:
        hdus["FLAG"] = fits.ImageHDU(np.full((72, 90), np.nan, np.float32), name="FLAG")
        hdus.writeto(path, overwrite=True)
    words = ("clean", path, "--model", "tiny", "-o", tmp_path / "out.fits")
    refused = crmend_cli(*words)
    assert refused.code == 3
    assert "HDU 3: the flag plane (float32) holds nan" in refused.err
    assert "--plane flag=none" in refused.err
    done = crmend_cli(*words, "--plane", "flag=none")
    assert (done.code, "has no flag plane" in done.err) == (0, False)
    assert fits.getdata(tmp_path / "out.fits", "FLAG")[60, 11] == 1048576
    assert crmend_cli(*words, "--plane", "image=None").code == 2


# --- names ------------------------------------------------------------------------------


@untrained
def test_images_beside_the_first_are_named(level1, image):
    path = level1([("CCD1", image), ("CCD2", image * 2), ("CCD3", image * 3)])
    with pytest.warns(
        CrmendWarning,
        match=r"HDU 1 \(CCD1\) is taken.*HDU 2 \(CCD2.*HDU 3 \(CCD3.*\(--plane image=2\)",
    ):
        exposure = read_exposure(path, instrument="generic")
    np.testing.assert_array_equal(exposure.image, image)
    second = read_exposure(path, instrument="generic", planes={"image": "CCD2"})
    np.testing.assert_array_equal(second.image, image * 2)


@untrained
def test_first_plane_of_two_axes(level1, image):
    path = level1([("", np.zeros((3, 5, 5), np.uint8)), ("CCD1", image)])
    exposure = read_exposure(path, instrument="generic")
    np.testing.assert_array_equal(exposure.image, image)


def test_wcs_table_is_no_error_plane(tmp_path, image):
    primary = fits.PrimaryHDU(image)
    primary.header.update(INSTRUME="MSC", DETECTOR="08", EXPTIME=150.0, BUNIT="e/s")
    table = fits.ImageHDU(np.ones((2, 2), np.float32), name="WCSDVARR")
    fits.HDUList([primary, table]).writeto(tmp_path / "a.fits")
    assert read_exposure(tmp_path / "a.fits").error is None


@pytest.mark.parametrize("name", ["BACKGROUND", ""])
def test_named_floats_are_no_errors(level1, image, name):
    error = read_exposure(level1([("SCI", image), (name, image)])).error
    assert (error is None) == (name == "BACKGROUND")


# --- shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(1,), (1, 1)])
@pytest.mark.parametrize("packed", [False, True])
def test_axes_of_length_one(tmp_path, level1, image, lead, packed):
    def plane(data):
        data = data.reshape(*lead, 3, 4)
        if not packed:
            return fits.ImageHDU(data)
        tiles = (*lead, 2, 4)
        return fits.CompImageHDU(
            data, compression_type="GZIP_1", quantize_level=0, tile_shape=tiles
        )

    sci = plane(image)
    sci.header["CTYPE3"] = "FREQ"
    path = level1([("SCI", sci), ("ERR", image), ("FLAG", plane(FLAG))])
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.error, image)
    np.testing.assert_array_equal(exposure.flag, FLAG)
    write_exposure(tmp_path / "out.fits", exposure)
    with fits.open(tmp_path / "out.fits") as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus["SCI"].data, image.reshape(*lead, 3, 4))
        np.testing.assert_array_equal(hdus["FLAG"].data, FLAG.reshape(*lead, 3, 4))
        assert hdus["ERR"].shape == (3, 4)
    np.testing.assert_array_equal(read_exposure(tmp_path / "out.fits").image, image)
    update_flags(path, exposure, MASK)
    expected = FLAG + MASK * 1048576
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), expected.reshape(*lead, 3, 4))
