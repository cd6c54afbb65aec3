"""Every layout in which a Level 1 exposure may come."""

import gzip
import shutil

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import CrmendWarning
from crmend.exposure import count_extvers, read_exposure

WEIGHT = np.array([[4.0, 16.0, 100.0, 0.0]] * 3, np.float32)
ERROR_OF_WEIGHT = [[0.5, 0.25, 0.1, np.inf]] * 3
FLAG = np.array([[0, 1, 2, 4], [8, 16, 32, 64], [128, 3, 0, 9]])


def assert_native(array, dtype):
    assert array.dtype == dtype
    assert array.dtype.isnative
    assert array.flags.owndata


@pytest.mark.parametrize(
    "names", [("SCI", "ERR", "FLAG"), ("IMG", "WHT", "FLG"), ("sci", "wht", "dq")]
)
@pytest.mark.parametrize("flag_type", ["u2", "i4", "i2", "u1"])
def test_planes_by_name(level1, image, names, flag_type):
    second = WEIGHT if names[1].upper() == "WHT" else np.full((3, 4), 0.25, np.float32)
    path = level1([(names[2], FLAG.astype(flag_type)), (names[1], second), (names[0], image)])
    fits.setval(path, "BUNIT", value="e-/s", ext=3)
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, image)
    expected = ERROR_OF_WEIGHT if names[1].upper() == "WHT" else np.full((3, 4), 0.25)
    np.testing.assert_allclose(exposure.error, expected, rtol=1e-6)
    np.testing.assert_array_equal(exposure.flag, FLAG)
    assert_native(exposure.image, np.float32)
    assert_native(exposure.error, np.float32)
    assert_native(exposure.flag, np.int32)
    assert (exposure.detector, exposure.band, exposure.unit) == ("8", "g", "e-/s")
    assert exposure.electrons_per_unit == 150.0
    assert exposure.exposure_time == 150.0
    assert exposure.instrument.name == "csst_msc"


def test_planes_by_position(level1, image):
    path = level1([("", image), ("", np.full((3, 4), 0.5, "f4")), ("", FLAG.astype("u2"))])
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.error, np.full((3, 4), 0.5))
    np.testing.assert_array_equal(exposure.flag, FLAG)


@pytest.mark.parametrize("second", ["error", "weight"])
def test_second_plane_without_a_name(level1, second):
    noise = np.random.default_rng(5).normal(0.2, 0.05, (50, 60)).astype(np.float32)
    values = {"error": 0.05, "weight": 400.0}[second]
    path = level1(
        [("", noise), ("", np.full((50, 60), values, "f4")), ("", np.zeros((50, 60), "i4"))]
    )
    np.testing.assert_allclose(read_exposure(path).error, 0.05, rtol=1e-6)


def test_flag_by_position_beside_a_named_image(level1, image):
    path = level1([("SCI", image), ("", np.full((3, 4), 0.5, "f4")), ("", FLAG.astype("i4"))])
    np.testing.assert_array_equal(read_exposure(path).flag, FLAG)


def test_float_plane_is_never_taken_as_flag(level1, image):
    path = level1([("", image), ("", image), ("", image)])
    assert read_exposure(path).flag is None


@pytest.mark.parametrize("extensions", [2, 3])
def test_image_in_the_primary_hdu(tmp_path, image, extensions):
    primary = fits.PrimaryHDU(image)
    primary.header.update(INSTRUME="MSC", DETECTOR="23", EXPTIME=150.0, BUNIT="electrons/s")
    error = [fits.ImageHDU(np.full((3, 4), 0.5, "f4")) for _ in range(extensions - 1)]
    fits.HDUList([primary, *error, fits.ImageHDU(FLAG.astype("i4"))]).writeto(
        tmp_path / "a.fits"
    )
    exposure = read_exposure(tmp_path / "a.fits")
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.error, np.full((3, 4), 0.5))
    np.testing.assert_array_equal(exposure.flag, FLAG)
    assert exposure.detector == "23"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_three_sibling_files(tmp_path, image, suffix):
    stem = "CSST_MSC_MS_SCI_20270810081950_20270810082220_100000100_08_{}_L1.fits" + suffix
    primary = fits.PrimaryHDU(image)
    primary.header.update(INSTRUME="MSC", EXPTIME=150.0, BUNIT="e/s")
    primary.writeto(tmp_path / stem.format("img"))
    fits.PrimaryHDU(WEIGHT).writeto(tmp_path / stem.format("wht"))
    flag = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(FLAG.astype("u2"))])
    flag.writeto(tmp_path / stem.format("flg"))
    exposure = read_exposure(tmp_path / stem.format("img"))
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_allclose(exposure.error, ERROR_OF_WEIGHT, rtol=1e-6)
    np.testing.assert_array_equal(exposure.flag, FLAG)
    assert exposure.detector == "8"
    assert exposure.planes["flag"].path.name == stem.format("flg")


def test_missing_flag_sibling_warns(level1):
    path = level1(name="CSST_MSC_x_08_img_L1.fits")
    with pytest.warns(CrmendWarning, match=r"sibling CSST_MSC_x_08_flg_L1.fits does not exist"):
        assert read_exposure(path).flag is None


def test_sibling_packed_differently(level1, tmp_path):
    path = level1(name="CSST_MSC_x_08_img_L1.fits")
    packed = fits.CompImageHDU(FLAG.astype("i4"))
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "CSST_MSC_x_08_flg_L1.fits.fz")
    np.testing.assert_array_equal(read_exposure(path).flag, FLAG)


@pytest.mark.parametrize("tile_shape", [(1, 4), (3, 4), (2, 3)])
def test_tile_compressed(level1, image, tile_shape):
    def pack(array):
        return fits.CompImageHDU(
            array, compression_type="GZIP_1", tile_shape=tile_shape, quantize_level=0
        )

    planes = [("SCI", pack(image)), ("ERR", pack(image / 4)), ("FLAG", pack(FLAG.astype("i4")))]
    exposure = read_exposure(level1(planes, name="a.fits.fz"))
    np.testing.assert_array_equal(exposure.image, image)
    np.testing.assert_array_equal(exposure.error, image / 4)
    np.testing.assert_array_equal(exposure.flag, FLAG)


def test_gzipped_under_any_name(level1, tmp_path, image):
    plain = level1()
    for name in ("b.fits.gz", "b.fits"):
        with plain.open("rb") as source, gzip.open(tmp_path / name, "wb") as out:
            shutil.copyfileobj(source, out)
        np.testing.assert_array_equal(read_exposure(tmp_path / name).image, image)


@pytest.mark.parametrize(
    ("stored", "scale", "zero"),
    [("i2", 0.5, 100.0), ("i2", 1.0, 32768.0), ("u1", 2.0, -3.0), ("i4", 0.25, 0.0)],
)
def test_scaled_integers(level1, stored, scale, zero):
    raw = np.arange(12).reshape(3, 4).astype(stored)
    hdu = fits.ImageHDU(raw)
    path = level1([("SCI", hdu)])
    # Scaling keywords set behind astropy's back: the raw integers stay as they are.
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[1].header["BSCALE"], hdus[1].header["BZERO"] = scale, zero
    np.testing.assert_array_equal(read_exposure(path).image, raw * scale + zero)


def test_blank_becomes_nan(level1):
    path = level1([("SCI", np.array([[1, 2], [3, -99]], np.int16))])
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[1].header["BLANK"] = -99
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(exposure.invalid, [[False, False], [False, True]])


@pytest.mark.parametrize("dtype", [">f8", "<f8", ">f4", ">i4", "u2", ">i8"])
def test_any_pixel_type(level1, dtype):
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    exposure = read_exposure(level1([("SCI", values)]))
    assert_native(exposure.image, np.float32)
    np.testing.assert_array_equal(exposure.image, [[1, 2, 3], [4, 5, 6]])


def test_several_chips_by_extver(level1, image):
    planes = []
    for version in (1, 2):
        for name, data in (
            ("SCI", image * version),
            ("ERR", image / version),
            ("DQ", FLAG.astype("i2") * version),
        ):
            hdu = fits.ImageHDU(data)
            hdu.header["EXTVER"] = version
            planes.append((name, hdu))
    path = level1(planes, {"INSTRUME": "ACS", "DETECTOR": "WFC"}, bunit="ELECTRONS")
    assert count_extvers(path) == 2
    with pytest.warns(CrmendWarning, match="no network was trained for HST ACS"):
        second = read_exposure(path, extver=2)
    np.testing.assert_array_equal(second.image, image * 2)
    np.testing.assert_array_equal(second.error, image / 2)
    np.testing.assert_array_equal(second.flag, FLAG * 2)
    assert (second.extver, second.detector, second.electrons_per_unit) == (2, "WFC", 1.0)
    with pytest.warns(CrmendWarning) as caught:
        first = read_exposure(path)
    assert "holds 2 chips, and this is the first" in str(caught[0].message)
    assert first.extver == 1
    np.testing.assert_array_equal(first.image, image)


def test_chips_numbered_in_their_names(level1, image):
    path = level1(
        [
            ("SCI1", image),
            ("DQ1", FLAG.astype("i2")),
            ("SCI2", image * 2),
            ("DQ2", FLAG.astype("i2") * 2),
        ]
    )
    assert count_extvers(path, instrument="generic") == 2
    with pytest.warns(CrmendWarning):
        second = read_exposure(path, instrument="generic", extver=2)
    np.testing.assert_array_equal(second.image, image * 2)
    np.testing.assert_array_equal(second.flag, FLAG * 2)


def test_chips_named_before_a_dot(level1, image):
    # As Euclid does; the flags of the second chip are missing, those of the third are its own.
    path = level1(
        [
            ("1-1.E.SCI", image),
            ("1-1.E.RMS", image * 0 + 2),
            ("1-1.E.FLG", FLAG.astype("i4")),
            ("1-1.F.SCI", image * 2),
            ("1-1.F.RMS", image * 0 + 3),
            ("1-1.G.SCI", image * 3),
            ("1-1.G.STAT", image * 0 + 16),
            ("1-1.G.FLG", FLAG.astype("i4") * 2),
        ]
    )
    assert count_extvers(path, instrument="generic") == 3
    for chip, flag in ((1, FLAG), (2, None), (3, FLAG * 2)):
        with pytest.warns(CrmendWarning):
            exposure = read_exposure(path, instrument="generic", extver=chip)
        np.testing.assert_array_equal(exposure.image, image * chip)
        np.testing.assert_array_equal(exposure.error, np.full(image.shape, chip + 1.0))
        if flag is None:
            assert exposure.flag is None
        else:
            np.testing.assert_array_equal(exposure.flag, flag)
    with pytest.warns(CrmendWarning):
        one = read_exposure(path, instrument="generic", planes={"image": "1-1.G.SCI"})
    np.testing.assert_array_equal(one.error, np.full(image.shape, 4.0))
    np.testing.assert_array_equal(one.flag, FLAG * 2)


def test_numbered_images_of_another_name_are_offered_together(level1, image):
    path = level1([("IM1", image), ("IM2", image * 2)])
    with pytest.warns(CrmendWarning) as caught:
        read_exposure(path, instrument="generic")
    assert any("with 'IM' all so named" in str(one.message) for one in caught)
    with pytest.warns(CrmendWarning):
        second = read_exposure(path, instrument="generic", planes={"image": "IM"}, extver=2)
    np.testing.assert_array_equal(second.image, image * 2)


def test_single_chip_with_another_extver(level1, image):
    hdu = fits.ImageHDU(image)
    hdu.header["EXTVER"] = 2
    path = level1([("SCI", hdu)])
    assert count_extvers(path) == 1
    np.testing.assert_array_equal(read_exposure(path).image, image)


def test_truth_planes_are_never_used(level1, image):
    path = level1(
        [("CRTRUTH", np.ones((3, 4), "u1")), ("UNSURE", np.ones((3, 4), "u1")), ("", image)]
    )
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, image)
    assert exposure.flag is None


def test_invalid_and_saturated(level1):
    pixels = np.array([[1.0, np.nan, 3.0, np.inf], [5.0, 6.0, 7.0, 500.0]], np.float32)
    flags = np.array([[0, 0, 1, 0], [2, 4, 8, 1048576]], np.int32)
    exposure = read_exposure(level1([("SCI", pixels), ("FLAG", flags)], {"SATURATE": 477.0}))
    assert exposure.invalid.tolist() == [[False, True, True, True], [True, False, False, False]]
    assert exposure.saturated.tolist() == [
        [False, False, False, True],
        [False, False, True, True],
    ]


def test_zero_weight_is_invalid_only_without_flags(level1, image):
    weights = ("WHT", WEIGHT)
    alone = read_exposure(level1([("SCI", image), weights]))
    assert alone.invalid.tolist() == [[False, False, False, True]] * 3
    flagged = read_exposure(level1([("SCI", image), weights, ("FLAG", np.zeros((3, 4), "i4"))]))
    assert not flagged.invalid.any()


def test_wcs_and_keywords_are_merged(level1, image):
    hdu = fits.ImageHDU(image)
    hdu.header.update(CRVAL1=10.5, CTYPE1="RA---TPV", PV1_1=1.0, EXPTIME=99.0)
    header = read_exposure(level1([("SCI", hdu)], {"OBSID": "100000100"})).header
    assert (header["OBSID"], header["CRVAL1"], header["PV1_1"]) == ("100000100", 10.5, 1.0)
    assert header["EXPTIME"] == 99.0
    assert not {"XTENSION", "BITPIX", "NAXIS1", "EXTNAME"} & set(header)
