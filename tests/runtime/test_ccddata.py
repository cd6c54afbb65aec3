"""CCDData of astropy: the object handed over, and the file that it writes."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.utils.masked import Masked

import crmend
from crmend.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore:.*no network was trained")
PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
TINY = {"model": "tiny", "threshold": 0.99}
CR = (60, 11)  # of the frame noisy


@pytest.fixture
def image(noisy, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    return fits.getdata(noisy(), "SCI").astype(np.float32)


def masked(shape, *pixels):
    """Return a mask of these pixels."""
    mask = np.zeros(shape, np.bool_)
    for pixel in pixels:
        mask[pixel] = True
    return mask


# --- the object -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uncertainty", [StdDevUncertainty(2.0), VarianceUncertainty(4.0), InverseVariance(0.25)]
)
def test_its_uncertainty_is_the_error_plane(image, uncertainty):
    full = type(uncertainty)(np.full(image.shape, uncertainty.array))
    ccd = CCDData(image, unit="adu", uncertainty=full)
    result = crmend.clean(ccd, **TINY)
    assert result.cr_mask[CR]
    np.testing.assert_array_equal(result.error[~result.cr_mask], np.float32(2.0))
    mended = crmend.inpaint(ccd, result.cr_mask, model="tiny")
    np.testing.assert_array_equal(mended.error[~result.cr_mask], np.float32(2.0))
    given = crmend.inpaint(ccd, result.cr_mask, model="tiny", error=np.full_like(image, 3.0))
    np.testing.assert_array_equal(given.error[~result.cr_mask], np.float32(3.0))
    assert (full.array == uncertainty.array).all()


def test_its_uncertainty_in_another_unit(image):
    milli = StdDevUncertainty(np.full(image.shape, 1500.0), unit="mJy")
    result = crmend.clean(CCDData(image, unit="Jy", uncertainty=milli), **TINY)
    np.testing.assert_allclose(result.error[~result.cr_mask], 1.5, rtol=1e-6)


def test_zero_weight_is_bad_where_no_mask_says_so(image):
    weight = np.ones(image.shape)
    weight[CR] = 0.0
    alone = CCDData(image, unit="adu", uncertainty=InverseVariance(weight))
    beside = CCDData(alone, mask=masked(image.shape, (3, 4)))
    for ccd, found in [(alone, False), (beside, True)]:
        assert crmend.detect(ccd, **TINY).cr_mask[CR] == found
        result = crmend.clean(ccd, **TINY)
        assert result.cr_mask[CR] == found
    assert np.isnan(result.image[3, 4])


def test_an_uncertainty_that_says_nothing_is_refused(image):
    ccd = CCDData(image, unit="adu", uncertainty=UnknownUncertainty(np.ones(image.shape)))
    expected = r"image\.uncertainty is a UnknownUncertainty; expected StdDevUncertainty"
    with pytest.raises(InvalidInputError, match=expected):
        crmend.clean(ccd, **TINY)
    ccd.uncertainty = StdDevUncertainty(np.full(image.shape, -1.0))
    with pytest.raises(InvalidInputError, match=r"image\.uncertainty is -1 somewhere"):
        crmend.detect(ccd, **TINY)


@pytest.mark.parametrize(
    "of",
    [
        lambda pixels: CCDData(pixels, unit="mag"),
        lambda pixels: pixels * units.mag,
        units.Magnitude,
        lambda pixels: units.Magnitude(pixels, units.ABmag),
        lambda pixels: Masked(pixels * units.mag, mask=pixels < 5.0),
        lambda pixels: pixels * units.dex,
        lambda pixels: units.Decibel(pixels, units.dB(units.mW)),
    ],
)
def test_logarithms_are_refused(image, of):
    pixels = image.astype(np.float64)
    with pytest.raises(InvalidInputError, match=r"^image is in .*, a logarithm, expected"):
        crmend.clean(of(pixels), **TINY)
    with pytest.raises(InvalidInputError, match=r"^error is in .*, a logarithm"):
        crmend.clean(image, error=of(pixels), **TINY)


# --- the file ---------------------------------------------------------------------------


@pytest.mark.parametrize("uncertainty", [None, StdDevUncertainty])
def test_its_mask_is_bad_in_the_file_too(image, tmp_path, uncertainty):
    errors = None if uncertainty is None else uncertainty(np.ones(image.shape))
    ccd = CCDData(image, unit="adu", mask=masked(image.shape, CR), uncertainty=errors)
    ccd.write(tmp_path / "a.fits")
    exposure = crmend.read_exposure(tmp_path / "a.fits", instrument="generic")
    np.testing.assert_array_equal(exposure.invalid, ccd.mask)
    result = crmend.clean(exposure, **TINY)
    assert not result.cr_mask[CR]
    assert result.cr_mask[31, 42]
    np.testing.assert_array_equal(result.cr_mask, crmend.clean(ccd, **TINY).cr_mask)
    chosen = crmend.read_exposure(tmp_path / "a.fits", instrument="generic", bad_flags=2)
    assert not chosen.invalid.any()


def test_updated_flags_leave_it_the_mask(image, tmp_path):
    ccd = CCDData(image, unit="adu", mask=masked(image.shape, CR))
    ccd.uncertainty = StdDevUncertainty(np.ones(image.shape))
    ccd.write(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus["MASK"].data = hdus["MASK"].data.astype("i4")
        hdus["MASK"].data[31, 42] = 2**20
        hdus.writeto(tmp_path / "b.fits")
    exposure = crmend.read_exposure(tmp_path / "b.fits", instrument="generic")
    np.testing.assert_array_equal(exposure.invalid, ccd.mask)


@pytest.mark.parametrize("change", ["unit", "third", "value", "most", "named", "no_bunit"])
def test_other_masks_stay_flags_of_unknown_meaning(image, tmp_path, change):
    mask = masked(image.shape, CR).astype("u1")
    mask = 1 - mask if change == "most" else mask * (2 if change == "value" else 1)
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(image),
            fits.ImageHDU(mask, name="DQ" if change == "named" else "MASK"),
        ]
    )
    if change != "no_bunit":
        hdus[0].header["BUNIT"] = "adu"
    if change == "unit":
        hdus[1].header["BUNIT"] = "adu"
    if change == "third":
        hdus.append(fits.ImageHDU(np.ones_like(image), name="UNCERT"))
    hdus.writeto(tmp_path / "a.fits")
    exposure = crmend.read_exposure(tmp_path / "a.fits", instrument="generic")
    assert exposure.flag is not None
    assert not exposure.invalid.any()
