"""``crmend-train simulate``: Level 1 + CR-truth pairs from a recipe or from options."""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from astropy.io import fits
from tqdm import tqdm

from crmend._cli_options import positive_count
from crmend_training import simulate
from crmend_training._processes import workers
from crmend_training._results import add_overwrite, refuse_existing, refuse_unwritable
from crmend_training.recipe import Recipe, load_recipe
from crmend_training.simulate import LAWS, SimulationConfig


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``simulate`` to the parser."""
    command = commands.add_parser("simulate", help="write Level 1 + CR-truth pairs")
    command.add_argument("--recipe", help="recipe file or bundled name")
    command.add_argument("--out", required=True, help="folder for the pairs")
    command.add_argument("--jobs", type=positive_count, default=2, help="processes (default 2)")
    command.add_argument(
        "--seed",
        type=int,
        default=0,
        help="added to the recipe's seed; without a recipe, the seed",
    )
    command.add_argument(
        "--detector", type=int, help="of a recipe, this chip only; without one, a frame of it"
    )
    command.add_argument(
        "--shape", type=_shape, help="rows x columns of that frame (default 1024x1024)"
    )
    command.add_argument(
        "--field",
        choices=sorted(simulate.FIELDS),
        help="star density of that frame (default mid)",
    )
    command.add_argument(
        "--law", choices=LAWS, help="of the cosmic rays of that frame (default paper)"
    )
    command.add_argument(
        "--without",
        metavar="EFFECTS",
        help=f"effects to leave out of that frame, of {','.join(simulate.EFFECTS)}",
    )
    command.add_argument(
        "--brighter-fatter", action="store_true", help="with this effect in that frame"
    )
    again = command.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="leave out frames that are there already"
    )
    add_overwrite(again)
    command.add_argument(
        "--keep-clean",
        action="store_true",
        help="also write each frame without CRs, same noise",
    )
    command.set_defaults(run=_simulate)


def _shape(text: str) -> tuple[int, int]:
    """Return rows and columns from ``2048x1024``."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; expected such as 2048x1024")
    return int(rows), int(columns)


@dataclass(frozen=True)
class _Job:
    """One frame to simulate."""

    config: SimulationConfig
    folder: Path
    keep_clean: bool
    resume: bool
    progress: bool = False


def _recipe_configs(recipe: Recipe, seed: int) -> list[SimulationConfig]:
    """Return the frames of a recipe; fields, and laws within each field, take turns."""
    section = recipe.frames
    fields, laws = section.fields, section.laws
    frames = itertools.product(section.detectors, range(section.frames_per_detector))
    return [
        SimulationConfig(
            detector,
            section.shape,
            seed=section.seed + seed + 1000 * detector + number,
            field=fields[i % len(fields)],
            # After all fields the law is another one: every pair of them comes up.
            law=laws[(i % len(fields) + i // len(fields)) % len(laws)],
            without=section.without,
        )
        for i, (detector, number) in enumerate(frames)
    ]


def _single_config(options: argparse.Namespace) -> SimulationConfig:
    """Return the frame that the options describe."""
    if options.detector is None:
        raise ValueError("simulate needs --recipe or --detector")
    without = tuple(name.strip() for name in (options.without or "").split(",") if name.strip())
    return SimulationConfig(
        options.detector,
        options.shape or (1024, 1024),
        seed=options.seed,
        field=options.field or "mid",
        law=options.law or "paper",
        without=without,
        brighter_fatter=options.brighter_fatter,
    )


def _simulate_one(job: _Job) -> Path:
    level1 = job.folder / simulate.file_name(job.config, "SCI", 1)
    clean = job.folder / simulate.file_name(job.config, "NCR", 1)
    # The Level 1 file is written last: where it is, the others are.
    if job.resume and level1.is_file() and (clean.is_file() or not job.keep_clean):
        _check_same(level1, job.config)
        return level1
    exposure = simulate.simulate_exposure(job.config, progress=job.progress)
    return simulate.write_pair(exposure, job.folder, without_cr=job.keep_clean)[0]


def _check_same(level1: Path, config: SimulationConfig) -> None:
    """Refuse a frame of the same name that was simulated with other settings."""
    with fits.open(level1) as hdus:
        head, shape = hdus[0].header, hdus["SCI"].shape
    found = (shape, *(head.get(key) for key in ("SIMFIELD", "SIMCRLAW", "SIMOFF", "SIMBF")))
    without = ",".join(config.without)
    wanted = (config.shape, config.field, config.law, without, config.brighter_fatter)
    # Older frames do not say whether they have that effect.
    if found != wanted and (found[-1] is not None or found[:-1] != wanted[:-1]):
        raise ValueError(
            f"{level1} has shape, field, law, effects left out and brighter-fatter {found}; "
            f"now they are {wanted}: simulate anew with --overwrite, or give another --out"
        )


def _simulate(options: argparse.Namespace) -> None:
    keep_clean = options.keep_clean
    if options.recipe is not None:
        one_frame = ("shape", "field", "law", "without", "brighter_fatter")
        if given := [name for name in one_frame if getattr(options, name)]:
            raise ValueError(
                f"--{', --'.join(given).replace('_', '-')} would change what the recipe says; "
                "expected --recipe alone, or --detector and no recipe"
            )
        recipe = load_recipe(options.recipe)
        keep_clean = keep_clean or recipe.frames.keep_clean
        configs = _recipe_configs(recipe, options.seed)
        if options.detector is not None:
            configs = [c for c in configs if c.detector == options.detector]
        if not configs:
            raise ValueError(
                f"recipe {options.recipe} has no frame of detector {options.detector}; "
                "expected a detector that it simulates"
            )
    else:
        configs = [_single_config(options)]
    jobs = [_Job(c, Path(options.out), keep_clean, options.resume) for c in configs]
    for job in jobs:
        level1 = job.folder / simulate.file_name(job.config, "SCI", 1)
        if not options.resume:
            refuse_existing(level1, options)
        elif not level1.exists():
            refuse_unwritable(level1)
    alone = len(jobs) == 1
    if alone:
        # A bar of one frame says nothing until it is done: that of its galaxies does.
        jobs = [replace(jobs[0], progress=sys.stderr.isatty())]
    with workers(min(options.jobs, len(jobs))) as pool:
        done = pool.map(_simulate_one, jobs)
        for path in tqdm(done, total=len(jobs), desc="simulate", disable=alone or None):
            tqdm.write(str(path))
