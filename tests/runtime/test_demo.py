"""`crmend demo`: the bundled frame and the bundled graphs of detector 8."""

from importlib import resources

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import crmend
from crmend._cli_demo import FRAME

CR_BIT = 1 << 20
RESULTS = [
    "csst_demo_08_L1_crmend.fits",
    "csst_demo_08_L1_crmend.png",
    "csst_demo_08_L1_flag.fits",
]


@pytest.fixture
def frame():
    with resources.as_file(resources.files("crmend.demo") / FRAME) as path:
        yield path


def plane(path, name):
    with fits.open(path) as hdus:
        return np.array(hdus[name].data)


def test_the_frame_is_small_and_not_yet_flagged(frame):
    assert frame.stat().st_size < 4e6
    exposure = crmend.read_exposure(frame)
    assert (exposure.detector, exposure.band, exposure.unit) == ("8", "g", "e-/s")
    assert exposure.header["SIMSEED"] == 990001
    assert exposure.flag is not None
    assert not np.any(exposure.flag & CR_BIT)


def test_demo_cleans_the_frame(crmend_cli, monkeypatch, tmp_path, frame):
    monkeypatch.delenv("CRMEND_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    content = frame.read_bytes()
    done = crmend_cli("demo", "--device", "cpu")
    assert done.code == 0, done.err
    assert done.err == ""
    folder = tmp_path / "crmend_demo"
    assert sorted(path.name for path in folder.iterdir()) == RESULTS
    assert all(f"crmend_demo/{name}" in done.out for name in RESULTS)
    assert frame.read_bytes() == content

    before, after = plane(frame, "SCI"), plane(folder / RESULTS[0], "SCI")
    flag = plane(folder / RESULTS[2], "FLAG")
    cr_mask = (flag & CR_BIT) != 0
    # The simulator put more than 1 e- of cosmic rays on 1.9 % of the pixels.
    assert 0.01 < cr_mask.mean() < 0.03
    np.testing.assert_array_equal((before != after) & ~cr_mask, False)
    assert np.mean((before != after)[cr_mask]) > 0.99
    # The simulator's cosmic rays hold 2.599e6 e- in this frame (sum of its truth plane).
    removed = 150.0 * np.sum((before - after)[cr_mask], dtype=np.float64)
    assert 0.98 < removed / 2.599e6 < 1.02
    np.testing.assert_array_equal(flag, plane(folder / RESULTS[0], "FLAG"))
    np.testing.assert_array_equal(flag & ~CR_BIT, plane(frame, "FLAG"))
    with Image.open(folder / RESULTS[1]) as picture:
        assert picture.size[0] == 1512


def test_demo_may_be_repeated_elsewhere(crmend_cli, monkeypatch, tmp_path):
    monkeypatch.delenv("CRMEND_MODELS", raising=False)
    folder = tmp_path / "a" / "b"
    first = crmend_cli("demo", "--out", folder, "--json", "--device", "cpu")
    again = crmend_cli("demo", "--out", folder, "--json", "--device", "cpu")
    assert first.code == again.code == 0
    written = {kind for kind, path in again.json["outputs"].items() if path is not None}
    assert written == {"corrected", "flag", "quicklook"}
    figures = [
        {key: value for key, value in done.json["total"].items() if key != "seconds"}
        for done in (first, again)
    ]
    assert figures[0] == figures[1]
    assert figures[0]["detect_model"] == "csst_msc/08/detect_fast"
    assert figures[0]["pixels_network"] > 0
    assert figures[0]["pixels_median"] > 0


def test_demo_needs_a_folder(crmend_cli, tmp_path):
    (tmp_path / "file").write_text("")
    done = crmend_cli("demo", "--out", tmp_path / "file")
    assert done.code == 5
    assert "cannot be made" in done.err
