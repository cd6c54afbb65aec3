"""The run of `tools/reproduce_paper.py`: simulate, clean, measure, store, go on where it was.

Every frame leaves one JSON file.  A later call measures only what is missing: more frames,
other detectors, or all of them again where the graphs have changed.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from astropy.io import fits
from tqdm import tqdm

from crmend.models import ModelCard, load_card
from crmend_training import simulate
from crmend_training._memory import keep_memory
from crmend_training.datasets import Pair, find_pairs
from crmend_training.mending_frames import read_frame
from crmend_training.paper_frames import measure_frame
from crmend_training.paper_science import measure_science
from crmend_training.recipe import DETECTORS, load_recipe
from crmend_training.simulate import SimulationConfig

FORMAT = 1
"""Of the stored results; other ones are measured again."""

RESULTS = "results"
"""Folder of the stored results, below the report's."""

_SEED_STEP = 100_000  # a recipe's seeds of 18 detectors, and 1000 frames of each, lie closer


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes
    ----------
    out : Path
        Folder of the report.
    recipe : str
        Whose ``[simulate]`` section gives seed, fields and laws, and number and size of the
        frames unless those are given.
    detectors : tuple of int
    frames : int or None
        Per detector.
    size : int or None
        Rows and columns of a frame.
    seed : int
        Other frames for another one.
    crs : int
        Per source of Figure 5.
    jobs : int
        Processes; the networks of each run in one thread if there are several.
    frames_folder : Path or None
        Measure the pairs in this folder (with NCR and CAT) instead of simulating; `frames` is
        then the most per detector, `size` and `seed` have no meaning.
    keep_frames : bool
        Leave the simulated FITS files in ``frames`` below `out`.
    """

    out: Path
    recipe: str = "paper"
    detectors: tuple[int, ...] = DETECTORS
    frames: int | None = None
    size: int | None = None
    seed: int = 0
    crs: int = 100
    jobs: int = 1
    frames_folder: Path | None = None
    keep_frames: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.detectors) - set(DETECTORS))
        if unknown or not self.detectors:
            raise ValueError(
                f"detectors are {list(self.detectors)}; expected some of {list(DETECTORS)}"
            )
        for name in ("frames", "size", "crs", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")


@dataclass(frozen=True)
class Job:
    """One frame: its settings or its files, and which results are wanted of it."""

    name: str
    config: SimulationConfig | None
    pair: Pair | None
    expected: dict[str, Any]
    frame_path: Path | None
    science_path: Path | None
    crs: int
    threads: int | None
    keep_in: Path | None


def run(plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure what is missing and return all results that the plan asks for.

    Returns
    -------
    (list, list)
        Of `paper_frames.measure_frame` and of `paper_science.measure_science`.

    Raises
    ------
    FileNotFoundError
        The folder of frames has none, or one without twin or catalogue.
    ValueError
        A frame is too small, or the recipe has no ``[simulate]`` section.
    """
    jobs = plan_jobs(plan)
    results = plan.out / RESULTS
    results.mkdir(parents=True, exist_ok=True)
    missing = [job for job in map(what_is_missing, jobs) if job is not None]
    for _ in tqdm(
        _run_all(missing, plan.jobs), total=len(missing), desc="frames", disable=None
    ):
        pass
    frames = [_read(job.frame_path) for job in jobs if job.frame_path]
    science = [_read(job.science_path) for job in jobs if job.science_path]
    return frames, science


def plan_jobs(plan: Plan) -> list[Job]:
    """Return a job per frame; each detector's first makes the results of Figure 5 too."""
    frames = _existing(plan) if plan.frames_folder else _simulated(plan)
    results = plan.out / RESULTS
    keep_in = plan.out / "frames" if plan.keep_frames else None
    current = {detector: versions(detector) for detector in plan.detectors}
    jobs, seen = [], set()
    for name, detector, config, pair in frames:
        expected = {"frame": _settings(config, pair)} | current[detector]
        first = detector not in seen
        seen.add(detector)
        jobs.append(
            Job(
                name=name,
                config=config,
                pair=pair,
                expected=expected,
                frame_path=results / f"{name}.json",
                science_path=results / f"{name}_figure5.json" if first else None,
                crs=plan.crs,
                threads=1 if plan.jobs > 1 else None,
                keep_in=keep_in,
            )
        )
    return jobs


def plan_configs(plan: Plan) -> list[SimulationConfig]:
    """Return the frames to simulate; those of fewer frames or detectors are among them.

    The eight fields take turns over frames and detectors, so that few frames see many.

    Raises
    ------
    ValueError
        The recipe has no ``[simulate]`` section.
    """
    section = load_recipe(plan.recipe).frames
    fields, laws = section.fields, section.laws
    shape = section.shape if plan.size is None else (plan.size, plan.size)
    count = section.frames_per_detector if plan.frames is None else plan.frames
    return [
        SimulationConfig(
            detector,
            shape,
            seed=section.seed + _SEED_STEP * plan.seed + 1000 * detector + number,
            field=fields[(DETECTORS.index(detector) + number) % len(fields)],
            law=laws[number % len(laws)],
            without=section.without,
        )
        for number in range(count)
        for detector in plan.detectors
    ]


def _simulated(plan: Plan) -> list[tuple[str, int, SimulationConfig | None, Pair | None]]:
    return [
        (
            f"{config.detector:02d}_{config.seed}_{config.shape[0]}",
            config.detector,
            config,
            None,
        )
        for config in plan_configs(plan)
    ]


def _existing(plan: Plan) -> list[tuple[str, int, SimulationConfig | None, Pair | None]]:
    """Return the pairs of the folder that the plan asks for."""
    assert plan.frames_folder is not None
    seen: dict[int, int] = {}
    chosen = []
    for pair in find_pairs(plan.frames_folder):
        number = seen.get(pair.detector, 0)
        wanted = plan.frames is None or number < plan.frames
        if pair.detector in plan.detectors and wanted:
            seen[pair.detector] = number + 1
            chosen.append((pair.level1.stem, pair.detector, None, pair))
    if not chosen:
        raise FileNotFoundError(
            f"{plan.frames_folder} holds no pair of the detectors {list(plan.detectors)}; "
            "expected files of `crmend-train simulate --keep-clean`"
        )
    return chosen


def _settings(config: SimulationConfig | None, pair: Pair | None) -> dict[str, Any]:
    """Return what says which frame this is."""
    if pair is not None:
        stat = pair.level1.stat()
        return {"file": pair.level1.name, "size": stat.st_size, "time": stat.st_mtime_ns}
    assert config is not None
    return {
        "detector": config.detector,
        "shape": list(config.shape),
        "seed": config.seed,
        "field": config.field,
        "law": config.law,
        "without": list(config.without),
    }


def versions(detector: int) -> dict[str, Any]:
    """Return what a stored result depends on besides the frame: the code and the graphs."""
    card = load_card("csst_msc", detector)
    detect = card.finder
    return {
        "format": FORMAT,
        "crmend": version("crmend"),
        "detect": detect.sha256,
        "threshold": detect.threshold,
        "seed_threshold": detect.seed_threshold,
        "second_opinion": _second_opinion(card),
        "inpaint": card.graph("inpaint").sha256,
    }


def _second_opinion(card: ModelCard) -> dict[str, Any] | None:
    """Return which graph detection asks, and what of it counts; None = none."""
    opinion = card.finder.second_opinion
    if opinion is None:
        return None
    return asdict(opinion) | {"sha256": card.graph(opinion.kind).sha256}


# --- jobs -----------------------------------------------------------------------------


def what_is_missing(job: Job) -> Job | None:
    """Return the job without what is stored already; None = nothing is left to do."""
    frame = None if _holds(job.frame_path, job.expected) else job.frame_path
    expected = job.expected | {"crs_wanted": job.crs}
    science = None if _holds(job.science_path, expected) else job.science_path
    if frame is None and science is None:
        return None
    return replace(job, frame_path=frame, science_path=science)


def _holds(path: Path | None, expected: dict[str, Any]) -> bool:
    """Return whether a stored result is of these settings, code and graphs."""
    if path is None:
        return True
    if not path.is_file():
        return False
    try:
        stored = _read(path)
    except ValueError:  # a file that someone cut off
        return False
    return all(stored.get(key) == value for key, value in expected.items())


def _run_all(jobs: list[Job], processes: int) -> Iterable[str]:
    if processes == 1 or len(jobs) < 2:
        keep_memory()
        yield from map(run_job, jobs)
        return
    # Threads of onnxruntime and numba do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, keep_memory) as pool:
        yield from pool.map(run_job, jobs)


def run_job(job: Job) -> str:
    """Measure one frame and store what was asked for; return the frame's name."""
    if job.pair is not None:
        _measure(job, job.pair)
        return job.name
    assert job.config is not None
    exposure = simulate.simulate_exposure(job.config)
    if job.keep_in is not None:
        _measure(job, _written(exposure, job.keep_in / job.name))
        return job.name
    with tempfile.TemporaryDirectory() as folder:
        _measure(job, _written(exposure, Path(folder)))
    return job.name


def _written(exposure: simulate.SimulatedExposure, folder: Path) -> Pair:
    simulate.write_pair(exposure, folder, without_cr=True)
    (pair,) = find_pairs(folder)
    return pair


def _measure(job: Job, pair: Pair) -> None:
    if job.frame_path is not None:
        start = time.perf_counter()
        result = measure_frame(pair, job.threads)
        seconds = round(time.perf_counter() - start, 2)
        _store(job.frame_path, job.expected | result | {"seconds": seconds})
    if job.science_path is not None:
        # Of the frame, so that another --seed gives other sources and places.
        seed = int(fits.getheader(pair.level1).get("SIMSEED", 0))
        result = measure_science(read_frame(pair), seed, job.crs, job.threads)
        _store(job.science_path, job.expected | {"crs_wanted": job.crs} | result)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _store(path: Path, result: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, allow_nan=False) + "\n")
    temporary.replace(path)
