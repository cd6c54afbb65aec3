"""Command line of the training subpackage: ``crmend-train simulate|dataset|detect|…``."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from crmend_training.recipe import DETECTORS, Recipe, load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 2 usage, 3 input)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, LookupError) as error:
        print(f"crmend-train: {error}", file=sys.stderr)
        return 3
    return 0


# --- simulate -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One frame to simulate."""

    detector: int
    shape: tuple[int, int]
    seed: int
    field: str
    law: str
    folder: Path
    keep_clean: bool


def _jobs(recipe: Recipe, options: argparse.Namespace) -> list[_Job]:
    section = recipe.simulate
    ny, nx = section["shape"]
    keep_clean = options.keep_clean or section.get("keep_clean", False)
    choices = itertools.cycle(itertools.product(section["fields"], section["laws"]))
    jobs = []
    for detector in section.get("detectors", DETECTORS):
        for number in range(section["frames_per_detector"]):
            field, law = next(choices)
            seed = section["seed"] + options.seed + 1000 * detector + number
            jobs.append(
                _Job(detector, (ny, nx), seed, field, law, Path(options.out), keep_clean)
            )
    return jobs


def _simulate_one(job: _Job) -> Path:
    from crmend_training import simulate  # noqa: PLC0415 - GalSim is slow to import

    exposure = simulate.simulate_exposure(
        simulate.SimulationConfig(
            detector=job.detector, shape=job.shape, seed=job.seed, field=job.field, law=job.law
        )
    )
    return simulate.write_pair(exposure, job.folder, without_cr=job.keep_clean)[0]


def _simulate(options: argparse.Namespace) -> None:
    if options.detector is None:
        jobs = _jobs(load_recipe(options.recipe), options)
    else:
        ny, nx = (int(n) for n in options.shape.split("x"))
        jobs = [
            _Job(options.detector, (ny, nx), options.seed, options.field, options.law,
                 Path(options.out), options.keep_clean)
        ]
    with ProcessPoolExecutor(options.jobs) as pool:
        done = pool.map(_simulate_one, jobs)
        for path in tqdm(done, total=len(jobs), desc="simulate", disable=None):
            tqdm.write(str(path))


# --- data set, training, export -----------------------------------------------------


def _dataset(options: argparse.Namespace) -> None:
    from crmend_training import datasets  # noqa: PLC0415

    section = dict(load_recipe(options.recipe).dataset)
    pairs = datasets.find_pairs(Path(options.frames))
    generic = section.pop("generic")

    def frames() -> Iterator[datasets.Frame]:
        yield from map(datasets.load_frame, pairs)
        for number in range(generic["frames"]):
            yield datasets.generic_frame(generic["seed"] + number, tuple(generic["shape"]))

    bar = tqdm(frames(), desc="data set", total=len(pairs) + generic["frames"], disable=None)
    build = {
        "detect": datasets.build_detection_set,
        "inpaint": datasets.build_inpainting_set,
    }[options.kind]
    info = build(bar, Path(options.out), **section[options.kind])
    print(json.dumps(info["counts"] | {"fingerprint": info["fingerprint"]}, indent=1))


def _detect(options: argparse.Namespace) -> None:
    from crmend_training import train_detect  # noqa: PLC0415

    recipe = load_recipe(options.recipe)
    run = train_detect.train(
        Path(options.set), Path(options.out), recipe.detect_recipe(),
        recipe.schedule("detect", options.budget), resume=options.resume,
    )
    print(json.dumps(run.info, indent=1))


def _inpaint(options: argparse.Namespace) -> None:
    from crmend_training import train_inpaint  # noqa: PLC0415

    recipe = load_recipe(options.recipe)
    run = train_inpaint.train(
        Path(options.set), Path(options.out), recipe.inpaint_recipe(),
        recipe.schedule("inpaint", options.budget), resume=options.resume,
    )
    print(json.dumps(run.info, indent=1))


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crmend-train", description="Simulate, build data sets, train, export, evaluate."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    simulate = commands.add_parser("simulate", help="write Level 1 + CR-truth pairs")
    simulate.add_argument("--recipe", help="recipe file or bundled name")
    simulate.add_argument("--out", required=True, help="folder for the pairs")
    simulate.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    simulate.add_argument("--seed", type=int, default=0, help="added to the recipe's seed")
    simulate.add_argument("--detector", type=int, help="one frame of this chip, no recipe")
    simulate.add_argument("--shape", default="1024x1024", help="rows x columns of that frame")
    simulate.add_argument("--field", default="mid", help="star density of that frame")
    simulate.add_argument("--law", default="paper", choices=["paper", "physical"])
    simulate.add_argument("--keep-clean", action="store_true",
                          help="also write each frame without CRs, same noise")
    simulate.set_defaults(run=_simulate)

    dataset = commands.add_parser("dataset", help="make a data set from pairs on disk")
    dataset.add_argument("kind", choices=["detect", "inpaint"])
    dataset.add_argument("frames", help="folder with Level 1 and CR-truth files")
    dataset.add_argument("--recipe", required=True)
    dataset.add_argument("--out", required=True, help="folder of the data set")
    dataset.set_defaults(run=_dataset)

    for name, run in (("detect", _detect), ("inpaint", _inpaint)):
        command = commands.add_parser(name, help=f"train the {name} network")
        command.add_argument("set", help="folder of the data set")
        command.add_argument("--recipe", required=True)
        command.add_argument("--out", required=True, help="folder for checkpoints and log")
        command.add_argument("--budget", help="wall time, such as 35m (default: the recipe's)")
        command.add_argument("--resume", action="store_true", help="go on from the checkpoint")
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
