"""What the caller knows of bad and saturated pixels, and of errors."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend.errors import InvalidInputError

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
TINY = {"model": "tiny", "threshold": 0.99}
TINY_OPTIONS = ("--model", "tiny", "--threshold", "0.99")
CR, ON_STAR = (60, 11), (31, 42)  # of the frame noisy; both stand 4000 above what is there


@pytest.fixture
def frame(noisy, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    return noisy(keywords={"SATURATE": 5000.0})


@pytest.fixture
def image(frame):
    return fits.getdata(frame, "SCI").astype(np.float32)


def spot(shape, pixel):
    """Return a mask of one pixel."""
    mask = np.zeros(shape, np.bool_)
    mask[pixel] = True
    return mask


def test_a_level_goes_before_the_header(frame):
    assert crmend.read_exposure(frame).saturation == 5000.0
    exposure = crmend.read_exposure(frame, saturation=4100.0)
    assert exposure.saturated[ON_STAR]
    assert not exposure.saturated[CR]
    assert exposure.saturated[50, 50]  # by the flag plane
    for wrong in (0.0, -1, np.nan, np.inf, "4100", True):
        with pytest.raises(InvalidInputError, match=r"saturation is .*, expected a positive"):
            crmend.read_exposure(frame, saturation=wrong)


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_a_level_on_the_command_line(crmend_cli, frame, tmp_path, command):
    for level, found in [(4100, (True, False)), (6000, (True, True)), (3900, (False, False))]:
        out = tmp_path / f"{level}.fits"
        done = crmend_cli(command, frame, "-o", out, "--saturation", level, *TINY_OPTIONS)
        assert done.code == 0, done.err
        cr_mask = (fits.getdata(out, "FLAG") & 2**20) != 0
        assert (cr_mask[CR], cr_mask[ON_STAR]) == found
    wrong = crmend_cli(command, frame, "--saturation", "0")
    assert (wrong.code, "argument --saturation: '0' is no number" in wrong.err) == (2, True)


def test_planes_of_an_array(image):
    plain = crmend.clean(image, **TINY)
    assert plain.cr_mask[CR]
    assert plain.cr_mask[ON_STAR]
    bad, full = spot(image.shape, CR), image >= 4100.0
    error = np.full(image.shape, 2.0)
    result = crmend.clean(image, invalid=bad, saturated=full, error=error, **TINY)
    found = crmend.detect(image, invalid=bad, saturated=full, **TINY)
    np.testing.assert_array_equal(result.cr_mask, found.cr_mask)
    assert not result.cr_mask[CR]
    assert not result.cr_mask[ON_STAR]
    assert result.image[CR] == image[CR]
    assert (result.error[~result.cr_mask] == 2.0).all()
    assert (error == 2.0).all()


def test_pixels_without_finite_error(image):
    error = np.where(spot(image.shape, CR), np.inf, 1.0)
    assert not crmend.clean(image, error=error, **TINY).cr_mask[CR]
    elsewhere = spot(image.shape, (3, 4))
    assert crmend.clean(image, error=error, invalid=elsewhere, **TINY).cr_mask[CR]


def test_errors_below_zero_where_nothing_is_used(frame, image):
    pixel = (20, 70)
    error = np.where(spot(image.shape, pixel), -1.0, 2.0)
    nan = np.where(spot(image.shape, pixel), np.nan, image)
    mask = spot(image.shape, CR)
    for marked in ({"invalid": spot(image.shape, pixel)}, {"saturated": ~(error > 0.0)}):
        result = crmend.clean(image, error=error, **marked, **TINY)
        mended = crmend.inpaint(image, mask, error=error, model="tiny", **marked)
        assert result.error[pixel] == mended.error[pixel] == -1.0
    assert crmend.clean(nan, error=error, **TINY).error[pixel] == -1.0
    exposure = crmend.read_exposure(frame)
    with pytest.raises(InvalidInputError, match=r"^error is -1 somewhere, at 1 pixel"):
        crmend.clean(image, error=error, invalid=spot(image.shape, CR), **TINY)
    with pytest.raises(InvalidInputError, match=r"^exposure\.error is -1 somewhere"):
        crmend.clean(dataclasses.replace(exposure, error=error), **TINY)


@pytest.mark.parametrize("name", ["invalid", "saturated", "error"])
def test_wrong_planes_are_refused(image, name):
    with pytest.raises(InvalidInputError, match=f"{name} has shape"):
        crmend.clean(
            image, **TINY, **{name: np.zeros((3, 4), bool if name != "error" else "f4")}
        )


@pytest.mark.parametrize("name", ["invalid", "saturated", "error"])
def test_an_exposure_has_its_own(frame, image, name):
    exposure = crmend.read_exposure(frame)
    with pytest.raises(InvalidInputError, match=f"^{name} is given beside an exposure"):
        crmend.clean(exposure, **TINY, **{name: image > 0})
