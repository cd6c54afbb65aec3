"""The scripts of tools/: wrong input is told in a line."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("matplotlib")
pytest.importorskip("torch")

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("mending_sheet", ["nowhere", "--out", "s.png"], "no Level 1 file"),
        ("evaluate_mending", ["nowhere", "--only", "sky", "--out", "r"], "no Level 1 file"),
        ("simulation_closure", ["--detectors", "10", "--out", "c"], "no imaging detector 10"),
        ("simulation_closure", ["--frames", "0", "--out", "c"], "'0' is no whole number"),
        ("cosmic_ray_statistics", ["--simulate", "0"], "'0' is no whole number"),
        ("cosmic_ray_statistics", ["--truth", "nowhere.fits", "--out", "c"], "nowhere.fits"),
        ("compare_devices", ["nowhere.fits"], "nowhere.fits does not exist"),
        ("measure_full_frame", ["nowhere.fits"], "nowhere.fits"),
        ("mending_sheet", ["F", "--most", "0"], "'0' is no whole number of at least 1"),
        ("evaluate_detection", ["--paper", "F", "--most", "0"], "'0' is no whole number"),
        ("evaluate_detection", ["--real", "nowhere"], "nowhere is no folder; expected one"),
        ("evaluate_detection", ["--only", "frames"], "--only frames needs --paper or"),
        ("evaluate_detection", ["--only", "real"], "the section real needs --real, a folder"),
        ("evaluate_detection", ["--paper", "."], "give --only frames zoo stars"),
        ("contact_sheet", ["--data", "nowhere", "--out", "c"], "nowhere is no folder;"),
        ("compare_models", ["--real", ".", "--models", "generic", "--out", "c"], ". holds no"),
        ("benchmark_peers", ["run", "--real", "nowhere"], "nowhere is no folder; expected"),
        ("make_demo_frame", ["nowhere.fits"], "unrecognized arguments: nowhere.fits"),
        ("reproduce_paper", ["--out", "FILE"], "FILE/results: Not a directory; check the path"),
        ("reproduce_paper", ["--frames", "0"], "frames is 0; expected at least 1"),
        ("reproduce_paper", ["--detectors", "10"], "detectors are [10]; expected some of"),
        ("cosmic_ray_statistics", ["--truth", "dark.fits"], "no cosmic ray above 20 e- in 1"),
        ("reproduce_paper", ["--recipe", "fine_tune"], "has no section [simulate]; expected"),
        ("reproduce_paper", ["--frames-folder", "."], "no Level 1 file"),
        ("record_frames", ["nowhere.json"], "unrecognized arguments: nowhere.json"),
        (
            "compare_models",
            ["E", "--masks", "M", "--models", "generic", "nosuch", "--out", "c"],
            "there is no model pack 'nosuch'",
        ),
        (
            "compare_models",
            ["E", "--masks", "M", "--models", "generic", "--out", "c"],
            "E is no folder; expected one with exposures or masks",
        ),
    ],
)
def test_wrong_input_is_told_in_a_line(
    tmp_path, monkeypatch, capsys, script, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    fits.writeto(tmp_path / "dark.fits", np.zeros((64, 64), np.float32))
    path = TOOLS / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code in (2, 3)
    assert message in capsys.readouterr().err.splitlines()[-1]
