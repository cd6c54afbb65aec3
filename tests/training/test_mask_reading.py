"""How exposures with masks are read for training: flags, saturation, gaps, and what is told."""

import json
import warnings

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")  # the command of the training subpackage needs it

from crmend_training import cli
from crmend_training.datasets import Reading, find_masked, load_masked

SIZE, FLAGGED, BAD = 128, (30, 40), 16
GAP = np.s_[80:110, 80:110]


@pytest.fixture
def exposure(tmp_path, rng):
    """Write an exposure with a gap, a flag and a cosmic ray; return its folder and planes."""
    image = rng.normal(100.0, 5.0, (SIZE, SIZE)).astype(np.float32)
    image[60, 60:64] = 900.0
    image[GAP] = 0.0
    flag = np.zeros((SIZE, SIZE), np.int16)
    flag[FLAGGED] = BAD
    mask = (image > 500.0).astype(np.uint8)
    planes = {"SCI": image, "DQ": flag, "CRTRUTH": mask}
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    hdus[0].header["SATURATE"] = "65k"
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "one.fits")
    return tmp_path, planes


def load(folder, **reading):
    """Return the only frame of a folder, and what was told of it."""
    chosen = Reading("generic", **reading)
    (one,) = find_masked(folder, folder, chosen)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return load_masked(one, chosen), [str(warning.message) for warning in told]


def test_gaps_take_no_part_and_warnings_name_the_exposure(exposure):
    folder, planes = exposure
    frame, told = load(folder)
    np.testing.assert_array_equal(frame.invalid, planes["SCI"] == 0.0)
    assert not frame.saturated.any()
    assert len(told) == 2
    assert told[0].startswith("one.fits: SATURATE is '65k'")
    assert told[1].startswith("one: ")
    assert "areas that are exactly 0" in told[1]


def test_bad_flags_and_saturation_are_those_of_the_caller(exposure):
    folder, planes = exposure
    frame, _ = load(folder, bad_flags=BAD, saturation=500.0)
    assert frame.invalid[FLAGGED]
    np.testing.assert_array_equal(frame.saturated, planes["CRTRUTH"] > 0)
    assert frame.ignore[60, 60:64].all()


def test_arrays_know_saturation_and_gaps_and_have_no_flags(exposure):
    folder, planes = exposure
    (folder / "one.fits").unlink()
    np.save(folder / "one.npy", planes["SCI"])
    np.save(folder / "one_crtruth.npy", planes["CRTRUTH"])
    frame, told = load(folder, saturation=500.0)
    np.testing.assert_array_equal(frame.invalid, planes["SCI"] == 0.0)
    np.testing.assert_array_equal(frame.saturated, planes["CRTRUTH"] > 0)
    assert len(told) == 1
    with pytest.raises(ValueError, match="is an array and has no flag plane"):
        load(folder, bad_flags="any")


def test_the_command_reads_so_and_tells_so(exposure, capfd):
    folder, _ = exposure
    given = ["dataset", "detect", str(folder), "--masks", str(folder), "--recipe", "smoke"]
    given += ["--instrument", "generic", "--bad-flags", str(BAD), "--jobs", "1"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main([*given, "--out", str(folder / "set")]) == 0
    errors = capfd.readouterr().err
    assert "\nwarning: one: 5.493 % of the pixels lie in areas" in f"\n{errors}"
    set_info = json.loads((folder / "set" / "set.json").read_text())
    assert set_info["made_with"]["reading"] == ["generic", [], None, BAD, None]


@pytest.mark.parametrize("option", [["--bad-flags", "4"], ["--saturation", "60000"]])
def test_options_of_masked_exposures_need_masks(tmp_path, option, capfd):
    given = ["dataset", "detect", str(tmp_path), "--recipe", "smoke", "--out", "set", *option]
    assert cli.main(given) == 3
    assert f"{option[0]} is for exposures of any instrument" in capfd.readouterr().err
