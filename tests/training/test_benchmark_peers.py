"""The peers' benchmark: metrics by hand, real methods on a tiny frame, errors, resume."""

import csv
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("astroscrappy")

from crmend_training import mending_frames, peers_real, peers_run, simulate
from crmend_training import peers_catalogue as catalogue
from crmend_training import peers_environment as environment
from crmend_training import peers_frames as frames
from crmend_training import peers_hits as hits
from crmend_training import peers_jobs as jobs
from crmend_training import peers_readme as readme
from crmend_training import peers_report as report
from crmend_training import peers_scores as scores
from crmend_training.peers_worker import fillers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    config = simulate.SimulationConfig(8, (192, 192), seed=860_001, field="mid")
    simulate.write_pair(simulate.simulate_exposure(config), folder, without_cr=True)
    return frames.datasets.find_pairs(folder)[0]


@pytest.fixture(scope="module")
def frame(pair):
    return frames.read_pair(pair)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a bench whose peers run in this environment, which has some of them."""
    for module in (jobs, environment):
        monkeypatch.setattr(module, "python_of", lambda folder, place: Path(sys.executable))
    return jobs.Bench(tmp_path / "report", tmp_path / "env", timeout=100.0)


def peer(name, task):
    (found,) = (p for p in catalogue.choose([name], task) if p.name == name)
    return found


# --- metrics ----------------------------------------------------------------------------


def points(hits, correct, false, bright=10.0, empty=1000.0):
    return scores.Points(*(np.array(x, float) for x in (hits, correct, false)), bright, empty)


def test_precision_at_recall_is_the_best_of_the_points_that_reach_it():
    curve = points([4, 9.5, 10], [4, 19, 20], [0, 1, 20])
    assert curve.precision_at_recall(0.95) == pytest.approx(19 / 20)
    assert np.isnan(points([4], [4], [0]).precision_at_recall(0.95))


def test_recall_at_false_rate_is_interpolated_from_the_origin():
    curve = points([8, 4], [8, 4], [4, 2])
    # (0, 0), (0.002, 0.4), (0.004, 0.8); the last one holds beyond.
    assert curve.recall_at_false_rate(1e-3) == pytest.approx(0.2)
    assert curve.recall_at_false_rate(3e-3) == pytest.approx(0.6)
    assert curve.recall_at_false_rate(0.5) == pytest.approx(0.8)


def test_a_setting_that_is_worse_in_both_does_not_lower_the_curve():
    curve = points([8, 3], [8, 3], [2, 3])
    assert curve.recall_at_false_rate(3e-3) == pytest.approx(0.8)


def test_points_of_a_probability_and_of_masks_agree_and_pool():
    cr = np.array([[100.0, 3.0, 0.0, 50.0, 80.0, 0.0]])
    ignore = np.array([[False, False, False, False, True, False]])
    probability = np.array([[0.9, 0.8, 0.7, 0.2, 0.95, 0.1]], np.float32)
    network = scores.probability_points(probability, cr, ignore)
    masks = scores.mask_points(np.stack([probability > 0.5, probability > 0.85]), cr, ignore)
    assert (network.bright, network.empty) == (masks.bright, masks.empty) == (2.0, 2.0)
    index = np.flatnonzero(network.hits + network.correct + network.false == 1 + 2 + 1)
    assert index.size  # the thresholds between 0.2 and 0.7 find what the first mask finds
    assert masks.hits.tolist() == [1, 1]
    assert masks.correct.tolist() == [2, 1]
    assert masks.false.tolist() == [1, 0]
    both = scores.pooled_points([masks, scores.points_of(masks.as_json())])
    assert both.hits.tolist() == [2, 2]
    assert both.precision.tolist() == masks.precision.tolist()


def test_tuning_keeps_the_best_settings_of_each_criterion():
    n = len(catalogue.LEVELS)
    careful, greedy = [5] * n, [10] * n
    curve = points(careful + greedy, careful + greedy, [0] * n + [8] * n)
    families = [{"objlim": 5.0}, {"objlim": 1.0}]
    chosen = peers_run.choose_families(families, curve, most=2)
    assert chosen["chosen"]["tpr_at_0.01"]["settings"] == {"objlim": 5.0}
    assert chosen["chosen"]["precision_at_95"]["settings"] == {"objlim": 1.0}
    assert chosen["families"] == [{"objlim": 5.0}, {"objlim": 1.0}]
    # Precision at 95 % recall comes first.
    only = peers_run.choose_families(families, curve, most=1)
    assert only["families"] == [{"objlim": 1.0}]


def test_the_slow_program_is_swept_and_tuned_less():
    slow, fast = peer("lacosmic", "detect"), peer("astroscrappy", "detect")
    assert len(slow.settings(slow.families()[: slow.kept])) == 10
    assert len(fast.settings(fast.families()[: fast.kept])) == 27
    assert set(catalogue.TUNING_LEVELS) <= set(catalogue.LEVELS)
    assert len(fast.settings(fast.families(), catalogue.TUNING_LEVELS)) == 36


def row(peer, value, group="simulated, all"):
    return {"group": group, "peer": peer, "precision_at_95": value}


def test_a_loss_is_said_and_a_tie_is_none():
    rows = [row("crmend own pack", 0.9), row("deepCR ACS-WFC", 0.95)]
    sentences, count = report.losses(rows, [])
    assert count == 1
    assert "ours 0.9000, deepCR ACS-WFC 0.9500" in sentences[0]
    assert report.losses([rows[0], row("astroscrappy", 0.9001)], [])[0] == []
    # Not reaching 95 % recall where a peer does is a loss as well.
    rows = [row("crmend own pack", float("nan")), row("astroscrappy", 0.2)]
    assert "ours not reached" in report.losses(rows, [])[0][0]
    mended = [
        {"place": "star", "peer": "crmend own pack", "bias": -0.03, "scatter": 0.1, "n": 12},
        {"place": "star", "peer": "biharmonic", "bias": 0.01, "scatter": 0.2, "n": 12},
        {"place": "star", "peer": "untouched", "bias": 0.0, "scatter": 0.0, "n": 12},
    ]
    (said,), count = report.losses([], mended)
    assert count == 2
    assert "|bias|: ours -0.0300, biharmonic 0.0100" in said
    few = [row | {"n": 9} for row in mended]
    assert report.losses([], few) == ([], 0)
    (gap,) = report.gaps([], few)
    assert gap == "not compared, too few sources: star (9)"


def result(peer, frame, error=None):
    return {"task": "detect", "peer": peer, "frame": frame, "error": error}


def test_what_failed_or_did_not_run_is_said():
    ran = [result("deepCR decam", name) for name in "abc"]
    ran += [result("lacosmic", "a"), result("lacosmic", "b", "ValueError: no")]
    assert report.gaps(ran, []) == [
        "detect: lacosmic failed on 1 of 2 frames (ValueError: no)",
        "detect: lacosmic ran on 2 of 3 frames",
    ]


def test_a_probability_a_little_below_zero_ranks_last():
    # As a lossy compression gives it; NaN in the log-odds once ranked it first.
    probability = np.array([[0.9, -1e-10, 0.2, 0.0]], np.float32)
    cr = np.array([[50.0, 0.0, 0.0, 0.0]])
    with np.errstate(all="raise", divide="warn"):
        curve = scores.probability_points(probability, cr, np.zeros(cr.shape, bool))
    assert curve.precision_at_recall(1.0) == 1.0
    assert curve.recall_at_false_rate(1e-4) == 1.0


# --- frames -----------------------------------------------------------------------------


def test_every_measurable_source_is_hit_by_one_of_the_frames_own_rays(frame):
    plain, one, two = hits.task_frames(frame, 2)
    assert (plain.tasks, one.tasks, two.tasks) == (("detect",), ("mend",), ("mend",))
    np.testing.assert_array_equal(plain.work.image, frame.work.image)
    sources = mending_frames.usable_sources(frame.hit)
    assert len(mending_frames.hit_table(one.hit, sources)) == len(sources) > 0
    # What was added is what a CR added elsewhere: nothing changes but where the truth does.
    changed = one.hit.image != frame.hit.image
    assert changed.any()
    assert (one.hit.truth > frame.hit.truth)[changed].all()
    assert not (changed & frame.hit.excluded).any()
    np.testing.assert_array_equal(one.work.mask, one.hit.true_mask)
    assert (one.work.image != two.work.image).any()
    again = hits.task_frames(frame, 1)[1]
    np.testing.assert_array_equal(again.work.image, one.work.image)


def test_busiest_frames_come_first_and_are_cut(frame):
    empty = replace(frame, name="empty", cr=np.zeros_like(frame.cr))
    (kept,) = frames.busiest_frames([empty, frame], 1, 64)
    assert kept.name == frame.name
    assert kept.cr.shape == kept.work.image.shape == (64, 64)
    assert kept.tasks == ("detect",)
    most = max(
        (frame.cr[y : y + 64, x : x + 64][~frame.ignore[y : y + 64, x : x + 64]] > 0).sum()
        for y in range(0, 129, 16)
        for x in range(0, 129, 16)
    )
    assert ((kept.cr > 0) & ~kept.ignore).sum() == most


def test_a_bias_level_is_told_from_light(rng):
    shape = (128, 128)
    none = np.zeros(shape, bool)
    light = (rng.poisson(400.0, shape) + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    assert peers_real.bias_of(light, none, 5.0) == 0.0
    dark = (2000.0 + rng.poisson(40.0, shape) + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    assert peers_real.bias_of(dark, none, 5.0) == pytest.approx(2000.0, abs=8.0)


# --- methods ----------------------------------------------------------------------------


def test_gaussian_process_recovers_a_star(rng):
    pytest.importorskip("sklearn")
    y, x = np.mgrid[:25, :25]
    star = 5000.0 * np.exp(-0.5 * ((y - 12) ** 2 + (x - 12) ** 2) / 1.5**2)
    image = (100.0 + star + rng.normal(0, 5.0, star.shape)).astype(np.float32)
    mask = np.zeros(star.shape, bool)
    mask[12, 12:15] = True
    filled = fillers.gaussian_process(image * ~mask, mask, 5.0, 100.0, 2.3548 * 1.5)
    np.testing.assert_allclose(filled[mask], (star + 100.0)[mask], rtol=0.08)
    np.testing.assert_array_equal(filled[~mask], image[~mask])


def test_two_peers_and_ours_on_a_frame(bench, frame):
    scrappy = peer("astroscrappy", "detect")
    settings = scrappy.settings([{"sigfrac": 0.3, "objlim": 2.0}])
    found = jobs.run_stored(bench, scrappy, frame, settings)
    assert found["error"] is None
    curve = scores.points_of(found["scores"])
    assert curve.hits.size == len(catalogue.LEVELS)
    assert curve.recall[0] > curve.recall[-1]  # 2 sigma against 40
    assert curve.precision[-1] > 0.9
    assert 0.0 < found["seconds_per_mpx"] < 1000.0
    assert 20.0 < found["peak_mib"] < 20_000.0
    mended = {
        name: jobs.run_stored(bench, peer(name, "mend"), frame, [{}])
        for name in ("5×5 median", "untouched", "crmend adaptive median")
    }
    assert all(one["error"] is None for one in mended.values())
    sky = {name: np.abs(one["scores"]["sky"]) for name, one in mended.items()}
    assert np.mean(sky["5×5 median"]) < 0.2 * np.mean(sky["untouched"])
    stored = jobs.kept_pixels(bench.out, peer("5×5 median", "mend"), frame)
    expected = fillers.masked_median(frame.work.filled, frame.work.mask)
    np.testing.assert_array_equal(stored, expected)


def test_what_fails_is_a_row_with_its_error(bench, frame):
    broken = replace(peer("5×5 median", "mend"), name="no such fill")
    result = jobs.run_stored(bench, broken, frame, [{}])
    assert result["error"] == "ValueError: no fill is called 'no such fill'"
    slow = replace(bench, timeout=0.01)
    found = jobs.run_stored(slow, peer("ccdproc lacosmic", "detect"), frame, [{}])
    assert found["error"] == "TimeoutExpired: not done after 0.01 s"
    rows = report.detection_table(peers_run.stored_results(bench.out))
    assert [(r["peer"], r["failed"], r["error"]) for r in rows] == [
        ("ccdproc lacosmic", 1, found["error"])
    ]


def test_an_environment_that_is_missing_is_an_error_of_the_run(tmp_path, frame):
    bench = jobs.Bench(tmp_path / "report", tmp_path / "nowhere")
    result = jobs.run_stored(bench, peer("maskfill", "mend"), frame, [{}])
    assert "benchmark_peers.py setup --env" in result["error"]


def test_a_second_call_resumes_unless_something_changed(bench, frame):
    median = peer("5×5 median", "mend")
    jobs.run_stored(bench, median, frame, [{}])
    path = jobs.result_path(bench.out, median, frame.name)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"peak_mib": -1.0}))
    assert jobs.run_stored(bench, median, frame, [{}])["peak_mib"] == -1.0
    work = replace(frame.work, mask=np.roll(frame.work.mask, 7, axis=0))
    assert jobs.run_stored(bench, median, replace(frame, work=work), [{}])["peak_mib"] > 0


def test_results_know_the_code_and_the_twin_that_they_come_from(
    bench, frame, tmp_path, monkeypatch
):
    ours, median = peer("crmend own pack", "mend"), peer("5×5 median", "mend")
    runtime, scoring = tmp_path / "runtime", tmp_path / "scoring.py"
    (runtime / "deeper").mkdir(parents=True)
    monkeypatch.setattr(jobs, "_RUNTIME", runtime)
    monkeypatch.setattr(jobs, "_SCORING", (scoring,))

    def prints(code="x = 1", score="y = 1", **twin):
        (runtime / "deeper" / "module.py").write_text(code)
        scoring.write_text(score)
        one = replace(frame, hit=replace(frame.hit, **twin))
        return [jobs._fingerprint(bench, method, one, [{}]) for method in (ours, median)]

    before = prints()
    assert prints() == before
    # A peer's result is not ours to recompute when only our runtime changed.
    mended, same = prints(code="x = 2")
    assert (mended != before[0], same == before[1]) == (True, True)
    brighter = frame.hit.catalog.copy()
    brighter["mag"][0] -= 0.1
    changes = ({"score": "y = 2"}, {"clean": frame.hit.clean + 1}, {"catalog": brighter})
    for change in changes:
        after = prints(**change)
        assert all(old != new for old, new in zip(before, after, strict=True)), change


def load_tool():
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools/benchmark_peers.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_a_run_without_the_peers_environment_stops_before_anything(tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["run", "--env", str(tmp_path / "nowhere"), "--out", str(out)]
    assert load_tool().main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere has no environment 'peers'; make it: " in line
    assert "benchmark_peers.py setup --env" in line
    assert not out.exists()
    environment.check_set_up(tmp_path / "nowhere", [peer("crmend own pack", "mend")])


def test_a_report_that_compares_nothing_says_so_and_stays_out_of_the_readme(
    bench, frame, tmp_path
):
    tool = load_tool()
    broken = replace(bench, timeout=0.01)
    assert jobs.run_stored(broken, peer("maskfill", "mend"), frame, [{}])["error"]
    tool.write_report(bench.out)
    page = (bench.out / "report.html").read_text()
    assert "<b>Where we lose:</b> nothing was compared." in page
    (bench.out / "about.json").write_text('{"command": "c", "machine": "m", "threads": 1}')
    target = tmp_path / "README.md"
    before = f"{readme.BEGIN}\nold\n{readme.END}\n"
    target.write_text(before)
    with pytest.raises(ValueError, match="compares no figure of ours with a peer's"):
        tool.main(["report", "--out", str(bench.out), "--readme", str(target)])
    assert target.read_text() == before


def test_the_tool_writes_tables_a_page_that_begins_with_losses_and_the_readme(
    bench, pair, tmp_path
):
    tool = load_tool()
    arguments = ["run", str(pair.level1.parent), "--validation", str(pair.level1.parent)]
    arguments += ["--env", str(bench.environment), "--out", str(bench.out), "--size", "128"]
    arguments += ["--peers", "crmend own pack", "5×5 median", "maskfill"]
    assert tool.main(arguments) == 0
    page = (bench.out / "report.html").read_text()
    first = page[page.index("<p>") :]
    assert first.startswith("<p><b>Where we lose:</b>")
    assert "data:image/png;base64" in page
    with (bench.out / "mending.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["peer"] for r in rows} == {"crmend own pack", "5×5 median", "maskfill"}
    with pytest.raises(SystemExit, match="2"):
        tool.main([*arguments[:-2], "nothing"])  # no such method
    target = tmp_path / "README.md"
    target.write_text(f"# crmend\n\n{readme.BEGIN}\nold\n{readme.END}\n\n## Limits\n")
    said = ["report", "--out", str(bench.out), "--readme", str(target)]
    assert tool.main(said) == 0
    text = target.read_text()
    assert text.startswith(f"# crmend\n\n{readme.BEGIN}\n\n**Where crmend loses**: in ")
    assert text.endswith(f"\n\n{readme.END}\n\n## Limits\n")
    assert "old" not in text
    # The numbers are those of the tables, and no folder of this machine is named.
    sky = next(r for r in rows if r["peer"] == "5×5 median" and r["place"] == "sky")
    (line,) = (one for one in text.splitlines() if one.startswith("| 5×5 median |"))
    assert f"| {float(sky['bias']):.3f} | {float(sky['scatter']):.3f} |" in line
    assert "run FRAMES --validation VALIDATION" in text
    assert str(tmp_path) not in text
    target.write_text("no section")
    assert tool.main(said) == 2
    assert target.read_text() == "no section"
    assert tool.main(["report", "--out", str(bench.out / "nowhere")]) == 2


def test_pins_name_a_version():
    pinned = [r for pins in environment.PINS.values() for r in pins if r != "matplotlib"]
    assert all("==" in requirement for requirement in pinned)
    with pytest.raises(FileNotFoundError, match="setup --env"):
        environment.python_of(Path("nowhere"), catalogue.PEERS)


def test_tiny_probabilities_are_still_ranked():
    probability = np.array([[1e-9, 1e-12, 0.0, 1.0]], np.float32)
    cr = np.array([[50.0, 0.0, 0.0, 60.0]])
    curve = scores.probability_points(probability, cr, np.zeros(cr.shape, bool))
    assert curve.precision_at_recall(1.0) == 1.0
    found = scores.found_mask(curve, probability, is_masks=False)
    np.testing.assert_array_equal(found, [[True, False, False, True]])
