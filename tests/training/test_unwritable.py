"""Results that cannot be written are told before any work, not after it."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from crmend_training import calibrate, datasets, simulate
from crmend_training.cli import main
from crmend_training.datasets.multi_exposure import compare_exposures

TOOLS = Path(__file__).parents[2] / "tools"


def _never(*_, **__):
    raise AssertionError("work began before the place of its result was looked at")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return the path of a file that stands where a folder should; the work is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulate, "simulate_exposure", _never)
    monkeypatch.setattr(calibrate, "operating_points", _never)
    monkeypatch.setattr(datasets, "generic_frame", _never)
    monkeypatch.setattr(datasets, "load_info", _never)
    monkeypatch.setattr(f"{compare_exposures.__module__}.compare_exposures", _never)
    (tmp_path / "file").touch()
    return "file"


@pytest.mark.parametrize(
    "command",
    [
        "simulate --detector 8 --shape 64x64 --jobs 1 --out OUT",
        "simulate --detector 8 --shape 64x64 --jobs 1 --resume --out OUT",
        "dataset detect --recipe fine_tune --jobs 1 --out OUT",
        "detect set --recipe fine_tune --from a.pt --out OUT",
        "inpaint set --recipe fifth_inpaint --out OUT",
        "join a b --out OUT",
        "average a.pt b.pt --out OUT/c.pt",
        "calibrate --detect a.pt --generic-only --recipe fine_tune --out OUT/c.json",
        "export --detect a.pt --inpaint b.pt --calibration c.json --generic-only "
        "--validation . --recipe fine_tune --out OUT",
        "truth a.fits b.fits c.fits --out OUT",
        "harvest a.fits b.fits c.fits --out OUT/library.npz",
    ],
)
@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_told_first(file, monkeypatch, capsys, command, out):
    monkeypatch.setattr(datasets, "find_pairs", lambda _: [])
    assert main(command.replace("OUT", out).split()) == 3
    told = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written" in told
    assert f"{Path(file).absolute()} is a file; choose another --out" in told


def test_a_read_only_folder_is_told_first(file, tmp_path, monkeypatch, capsys):
    """As root everything may be written, but on a read-only disk."""
    monkeypatch.setattr("crmend_training._results.os.access", lambda *_: False)
    assert main(["simulate", "--detector", "8", "--shape", "64x64", "--out", "new"]) == 3
    assert f"{tmp_path} is read-only; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("mending_sheet", [".", "--out", "file/s.png"], "file is a file; choose another --out"),
        ("mending_sheet", [".", "--out", "s.txt"], "expected a name that ends in .png or .jpg"),
        ("measure_full_frame", ["file", "--out", "file"], "file is a file; choose another"),
        ("evaluate_mending", [".", "--out", "file"], "file is a file; choose another --out"),
    ],
)
def test_tools_tell_it_first(file, monkeypatch, capsys, script, arguments, message):
    pytest.importorskip("matplotlib")
    path = TOOLS / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 3
    assert message in capsys.readouterr().err.splitlines()[-1]
