"""Pixel values that a careless conversion loses."""

import astropy
import numpy as np
import pytest
from astropy.io import fits

from crmend.exposure import read_exposure

pytestmark = pytest.mark.filterwarnings("ignore:.*no network was trained")
NOISE = 5e-21
OLD = int(astropy.__version__.partition(".")[0]) < 8


@pytest.fixture
def tiny_units():
    """Return an image in erg/s."""
    return np.random.default_rng(2).normal(1e-19, NOISE, (50, 60))


@pytest.mark.parametrize("packed", [False, True])
def test_blank_in_unsigned_images(level1, packed):
    raw = np.array([[1, 2], [-32768, 32767]], np.int16)
    hdu = fits.CompImageHDU(raw) if packed else fits.ImageHDU(raw)
    path = level1([("SCI", hdu), ("FLAG", np.array([[0, 1], [2, 65535]], np.uint16))])
    # Behind astropy's back, so that the raw integers stay as they are.
    options = {"do_not_scale_image_data": True, "disable_image_compression": True}
    with fits.open(path, mode="update", **options) as hdus:
        hdus[1].header.update(BZERO=32768, BSCALE=1, BLANK=32767)
        hdus[2].header["BLANK"] = 32767
    exposure = read_exposure(path)
    np.testing.assert_array_equal(exposure.image, [[32769, 32770], [0, np.nan]])
    np.testing.assert_array_equal(exposure.flag, [[0, 1], [2, 65535]])


@pytest.mark.parametrize(
    "packed",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(OLD, reason="astropy before 8 cannot unpack these")
        ),
    ],
)
def test_unsigned_64_bit(level1, packed):
    values = np.array([[0, 1, 500], [2**40, 2**63 + 2**50, 9]], np.uint64)
    hdu = fits.CompImageHDU(values, compression_type="GZIP_1") if packed else None
    path = level1([("SCI", values if hdu is None else hdu), ("ERR", values), ("FLAG", values)])
    options = {"do_not_scale_image_data": True, "disable_image_compression": True}
    with fits.open(path, mode="update", **options) as hdus:
        hdus[1].header["BLANK"] = 9 - 2**63
        hdus[3].data[1, :2] = -(2**63) + 2, -(2**63) + 3
    exposure = read_exposure(path)
    expected = values.astype(np.float32)
    np.testing.assert_array_equal(exposure.error, expected)
    np.testing.assert_array_equal(exposure.flag, [[0, 1, 500], [2, 3, 9]])
    expected[1, 2] = np.nan
    np.testing.assert_array_equal(exposure.image, expected)


def test_unnamed_weights_of_unsigned_64_bit(level1):
    image = np.random.default_rng(2).normal(100.0, 0.05, (50, 60)).astype(np.float32)
    path = level1([("", image), ("", np.full((50, 60), 400, np.uint64))], bunit="e/s")
    profile = {"planes": {"error": "2"}}
    np.testing.assert_array_equal(read_exposure(path, **profile).error, np.float32(0.05))


@pytest.mark.parametrize(
    ("name", "value"), [("IVAR", NOISE**-2), ("VAR", NOISE**2), ("ERR", NOISE)]
)
def test_errors_in_tiny_units(level1, tiny_units, name, value):
    planes = [("SCI", tiny_units), (name, np.full((50, 60), value, np.float64))]
    exposure = read_exposure(level1(planes, bunit="erg/s"), instrument="generic")
    assert exposure.error.dtype == np.float32
    np.testing.assert_allclose(exposure.error, NOISE, rtol=1e-6)


def test_unnamed_weights_in_tiny_units(level1, tiny_units):
    weight = np.full((50, 60), NOISE**-2)
    weight[0] = [0.0, -1.0, np.nan] * 20
    exposure = read_exposure(level1([("", tiny_units), ("", weight)]))
    np.testing.assert_array_equal(exposure.error[0], np.inf)
    np.testing.assert_allclose(exposure.error[1:], NOISE, rtol=1e-6)


def test_unnamed_weights_of_many_rows(level1):
    """Rows far apart tell the kind: every second here, whose others are no weights."""
    noise = np.random.default_rng(3).normal(0.2, 0.05, (600, 10)).astype(np.float32)
    weight = np.full((600, 10), 400.0, np.float32)
    weight[1::2] = 0.0
    error = read_exposure(level1([("", noise), ("", weight)])).error
    np.testing.assert_allclose(error[::2], 0.05, rtol=1e-6)
    np.testing.assert_array_equal(error[1::2], np.inf)
