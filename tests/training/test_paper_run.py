"""The reproduction end to end on one tiny frame: resumed, extended, reported."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("galsim")

from crmend_training import paper_run
from crmend_training.paper_run import Plan, plan_configs
from crmend_training.recipe import DETECTORS

TOOL = Path(__file__).parents[2] / "tools" / "reproduce_paper.py"


def test_frames_of_a_small_plan_are_among_those_of_a_larger_one(tmp_path):
    small = plan_configs(Plan(tmp_path, frames=1, size=256, detectors=(8, 9)))
    large = plan_configs(Plan(tmp_path, frames=8, size=256))
    assert set(small) <= set(large)
    assert len(large) == len({c.seed for c in large}) == 8 * len(DETECTORS)
    assert all(c.law == "paper" for c in large)
    fields = {c.field for c in large if c.detector == 8}
    assert len(fields) == 8
    other = plan_configs(Plan(tmp_path, frames=8, size=256, seed=1))
    assert not {c.seed for c in other} & {c.seed for c in large}


def test_bad_plans_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"detectors are \[8, 10\]"):
        Plan(tmp_path, detectors=(8, 10))
    with pytest.raises(ValueError, match="frames is 0"):
        Plan(tmp_path, frames=0)
    with pytest.raises(ValueError, match="has no section"):
        plan_configs(Plan(tmp_path, recipe="second_inpaint"))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    options = ["--size", "320", "--detectors", "8", "--crs", "6", "--jobs", "1"]
    main = runpy.run_path(str(TOOL))["main"]
    main(["--out", str(out), "--frames", "1", *options])
    return out, main, options


def test_one_command_writes_everything(report):
    out, _, _ = report
    page = (out / "report.html").read_text()
    body = page.split("<body>")[1]
    first = re.search(r"<p><strong>(.*?)</strong>", body, re.S)[1]
    assert "fall short" in first or "No bar that could be judged is missed" in first
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r'(src|href)="(?!data:)', page)  # self-contained
    for title in (
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "Figure 5",
        "Figure 6",
        "Table 1",
        "Figure 7",
    ):
        assert f"<h2>{title}" in page
    for value in ("97.90 ± 0.18", "98.67 ± 0.05", "206,064", "0.914", "1.91 ± 0.95"):
        assert value in page
    names = {path.name for path in (out / "figures").iterdir()}
    assert {f"figure{n}.{kind}" for n in range(2, 8) for kind in ("png", "svg")} == names
    with (out / "tables" / "figure2.csv").open() as file:
        (row,) = csv.DictReader(file)
    stored = json.loads(next((out / "results").glob("08_*_320.json")).read_text())["detection"]
    assert float(row["recall"]) == pytest.approx(
        100 * stored["hits"] / stored["bright"], abs=1e-3
    )
    assert 50.0 < float(row["recall"]) < 100.0


def test_a_second_call_goes_on_where_the_first_was(report, monkeypatch):
    out, main, options = report
    before = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    page = (out / "report.html").read_text()
    ran = []
    monkeypatch.setattr(paper_run, "run_job", lambda job: ran.append(job.name))
    main(["--out", str(out), "--frames", "1", *options])
    assert ran == []
    assert {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()} == before
    assert (out / "report.html").read_text() == page  # nothing of it is a matter of chance
    jobs = paper_run.plan_jobs(Plan(out, frames=2, size=320, detectors=(8,), crs=6))
    missing = [job for job in map(paper_run.what_is_missing, jobs) if job is not None]
    assert [job.name for job in missing] == [jobs[1].name]


def test_new_graphs_are_measured_again(report, monkeypatch):
    out, _, _ = report
    real = paper_run.versions
    monkeypatch.setattr(paper_run, "versions", lambda d: real(d) | {"inpaint": "another"})
    (job,) = paper_run.plan_jobs(Plan(out, frames=1, size=320, detectors=(8,), crs=6))
    missing = paper_run.what_is_missing(job)
    assert missing.frame_path is not None
    assert missing.science_path is not None


def test_a_folder_without_frames_is_one_clear_error(tmp_path):
    main = runpy.run_path(str(TOOL))["main"]
    with pytest.raises(FileNotFoundError, match="no Level 1 file"):
        main(["--out", str(tmp_path / "r"), "--frames-folder", str(tmp_path)])
    assert not (tmp_path / "r").exists()
