"""README's figures: from the tools' own CSV files, through the one that is kept, to tables."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("galsim")

from crmend_training import measured, measured_figures, simulate
from crmend_training.measured import Figure, Measured

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"


def row(key, section="A", figure="1 %", command="python tools/t.py", date="2026-01-01"):
    return Measured(key, section, f"what {key} is", figure, command, "2 cores", date)


def run_tool(monkeypatch, name, *arguments):
    """Run a tool as a command and return its exit code."""
    path = TOOLS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    return ended.value.code


# --- the file and the tables ---------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [row("a/1", figure='1 "x", 2 |y|'), row("a/2", section="Größe × 2")]
    measured.write(tmp_path / "m.csv", rows)
    assert measured.read(tmp_path / "m.csv") == rows


def test_a_new_figure_takes_the_place_of_the_old_one():
    old = [row("1"), row("2"), row("3", "B")]
    new = [row("4"), row("2", figure="9 %"), row("5", "C")]
    found = measured.merged(old, new)
    assert [r.key for r in found] == ["1", "2", "4", "3", "5"]
    assert found[1].figure == "9 %"
    assert measured.merged(found, new) == found
    first = row("6", measured.SECTIONS[0])
    assert measured.merged(old, [first])[0] == first


def test_tables_stand_under_section_and_command():
    rows = [row("1"), row("2"), row("3", command="other", figure="|x|"), row("4", "B")]
    assert measured.tables(rows) == "\n\n".join(
        [
            "### A",
            "`python tools/t.py` (2 cores, 2026-01-01):",
            "| what | figure |\n|---|---|\n| what 1 is | 1 % |\n| what 2 is | 1 % |",
            "`other` (2 cores, 2026-01-01):",
            "| what | figure |\n|---|---|\n| what 3 is | \\|x\\| |",
            "### B",
            "`python tools/t.py` (2 cores, 2026-01-01):",
            "| what | figure |\n|---|---|\n| what 4 is | 1 % |",
        ]
    )


def test_only_what_stands_between_the_marks_is_written():
    text = f"before\n{measured.BEGIN}\nold\n{measured.END}\nafter"
    found = measured.with_tables(text, [row("1")])
    assert found.startswith(f"before\n{measured.BEGIN}\n\n### A")
    assert found.endswith(f"| 1 % |\n\n{measured.END}\nafter")
    assert "old" not in found
    assert measured.with_tables(found, [row("1")]) == found
    for wrong in ("no marks", f"{measured.END}\n{measured.BEGIN}"):
        with pytest.raises(measured.MeasuredError, match="add these two lines"):
            measured.with_tables(wrong, [])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b", "1,2"], "has the columns"),
        ([",".join(Measured._fields), "k,s,w,f,c,m,d", "k,s,w,f,c,m,d"], "'k' twice in row 3"),
        ([",".join(Measured._fields), "k,s,w,,c,m,d"], "an empty cell in row 2"),
        ([",".join(Measured._fields), "k,s,w"], "an empty cell in row 2"),
        ([",".join(Measured._fields), "k,s,w,f,c,m,d,e"], "too many cells in row 2"),
    ],
)
def test_other_files_are_refused(tmp_path, lines, message):
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(measured.MeasuredError, match=message):
        measured.read(tmp_path / "m.csv")


def test_commands_name_nobody_s_folders():
    words = ["/home/me/tools/t.py", "/home/me/frames", "../out", "--only", "a b", "sub/frames"]
    assert measured.command_of(words) == (
        "python tools/t.py frames out --only 'a b' sub/frames"
    )


# --- README --------------------------------------------------------------------------------


def test_readme_holds_what_is_kept(monkeypatch, capsys):
    assert run_tool(monkeypatch, "update_measured", "--check") == 0, capsys.readouterr().err


def test_reports_are_collected_and_readme_follows(tmp_path, monkeypatch, capsys):
    kept, readme = tmp_path / "kept.csv", tmp_path / "README.md"
    measured.write(kept, [row("a/1"), row("b/1", "B")])
    readme.write_text(f"# x\n{measured.BEGIN}\n{measured.END}\n")
    measured.write_figures(tmp_path / "report", [Figure("a/1", "A", "new", "7.0")], "command x")
    files = ("--csv", kept, "--readme", readme)
    assert run_tool(monkeypatch, "update_measured", "--check", *files) == 1
    assert "run tools/update_measured.py" in capsys.readouterr().err
    assert run_tool(monkeypatch, "update_measured", tmp_path / "report", *files) == 0
    text = readme.read_text()
    assert "| new | 7.0 |" in text
    assert "`command x`" in text
    assert "what b/1 is" in text
    assert "torch against onnxruntime, 19 packs" in text
    assert run_tool(monkeypatch, "update_measured", "--check", *files) == 0
    # A report without figures changes nothing.
    (tmp_path / "empty").mkdir()
    before = kept.read_bytes(), text
    assert run_tool(monkeypatch, "update_measured", tmp_path / "empty", *files) == 3
    assert (kept.read_bytes(), readme.read_text()) == before


# --- what the tools write ------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Return a folder with one small pair, its CR-free twin and catalogue."""
    folder = tmp_path_factory.mktemp("frames")
    config = simulate.SimulationConfig(
        detector=8, shape=(320, 320), seed=41, field="cluster", law="paper"
    )
    simulate.write_pair(simulate.simulate_exposure(config), folder, without_cr=True)
    return folder


def figures_of(report):
    rows = measured.read(report / measured.NAME)
    assert all(r.machine == measured.machine() for r in rows)
    assert len({r.command for r in rows}) == 1
    return {r.key: r for r in rows}


def test_detection_writes_its_figures(frames, tmp_path, monkeypatch):
    out = tmp_path / "report"
    options = ("--quality", "fast", "--only", "frames", "stars", "--out", out)
    assert run_tool(monkeypatch, "evaluate_detection", "--paper", frames, *options) == 0
    found = figures_of(out)
    assert list(found) == [
        f"detection/{frames.name}/fast/{name}"
        for name in ("recall", "ece", "falls", "events", "cores")
    ]
    recall = found[f"detection/{frames.name}/fast/recall"]
    assert recall.command == (
        f"python tools/evaluate_detection.py --paper {frames.name} --quality fast "
        "--only frames stars --out report"
    )
    assert f"1 frames of 320 × 320 px (`{frames.name}`), `fast`" in recall.what
    # The report says the same, by other code.
    line = next(x for x in (out / "report.md").read_text().splitlines() if "**mean**" in x)
    cells = [cell.strip() for cell in line.split("|")]
    values = recall.figure.replace(" %", "").split(" and ")
    assert [value.split(" ± ")[0] for value in values] == cells[4:6]
    rows = json.loads((out / "report.json").read_text())["frames"]["paper"]["fast"]["events"]
    counts = [sum(sum(row[key]) for row in rows.values()) for key in ("missed", "total")]
    assert found[f"detection/{frames.name}/fast/events"].figure == "{:,} of {:,}".format(
        *counts
    )
    assert counts[1] > 0
    assert 50.0 < float(cells[4]) < 100.0


def test_mending_writes_its_figures(frames, tmp_path, monkeypatch):
    out = tmp_path / "report"
    options = ("--only", "frames", "sigma", "sky", "--peers", "5×5 median", "--out", out)
    assert run_tool(monkeypatch, "evaluate_mending", frames, *options) == 0
    found = figures_of(out)
    assert list(found) == [
        "mending/ratio/all", "mending/ratio/outside", "mending/sigma", "mending/sky"
    ]  # fmt: skip
    scatter, rms = found["mending/sky"].figure.split(" (")[0].split(", ")
    assert 0.8 < float(scatter) < 1.2
    assert 0.8 < float(rms) < 1.3


def test_a_cleaned_frame_writes_time_and_memory(frames, tmp_path, monkeypatch):
    frame = next(frames.glob("*_SCI_*L1*.fits"))
    assert run_tool(monkeypatch, "measure_full_frame", frame, "--out", tmp_path / "r") == 0
    (found,) = figures_of(tmp_path / "r").values()
    assert "320 × 320 px" in found.what
    assert found.figure.endswith(" GiB; 0; byte-identical")


def test_hits_are_those_on_cores_of_bright_sources():
    def hit(ours, **other):
        return {"kind": "injected", "type": "star", "core": True, "snr": 50.0, "ours": ours,
                "median": 10 * ours} | other  # fmt: skip

    rows = [hit(value) for value in np.linspace(-0.02, 0.02, 5)]
    rows += [hit(9.0, core=False), hit(9.0, snr=19.0), hit(9.0, type="galaxy")]
    (figure,) = measured_figures.of_hits(rows)
    assert figure.key == "mending/cores/injected/star"
    assert figure.what.startswith("5 stars of S/N > 20")
    # Of five evenly spaced values: median |x| 0.01; half of 16-84 % 0.0136.
    assert figure.figure == "0.010, 0.014, +0.000 (0.100, 0.136, +0.000)"


def test_the_zoo_counts_new_hot_pixels_apart():
    from crmend_training.evaluate_lookalikes import CLASSES, NEW_HOT, ZooTally

    pixels = np.where([name == NEW_HOT for name in CLASSES], 1_000, 1_000_000)
    flagged = np.where([name == NEW_HOT for name in CLASSES], 100, 2)
    tally = ZooTally(pixels=pixels, flagged=flagged)
    (figure,) = measured_figures.of_zoo({"fast": {"08": tally}})
    known = len(CLASSES) - 1
    total = 1e6 * (100 + 2 * known) / (1_000 + 1e6 * known)
    assert figure.figure == f"{total:.1f}; 2.00 ({2 * known} of {known:.1f} million)"
