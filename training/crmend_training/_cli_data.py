"""``crmend-train dataset | join | harvest | truth``: from exposures to training material."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from crmend._cli_options import positive_count, positive_number
from crmend.errors import CrmendWarning
from crmend_training import _cli_masked, _cli_truth, datasets
from crmend_training._processes import workers
from crmend_training._results import add_overwrite, refuse_existing
from crmend_training._sections import ZooSection
from crmend_training.recipe import DETECTORS, Recipe, load_recipe

if TYPE_CHECKING:
    from crmend_training.datasets.science import ScienceSettings

_Task = tuple[Callable[..., datasets.Frame], tuple[Any, ...]]


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``dataset``, ``join``, ``harvest`` and ``truth`` to the parser."""
    command = commands.add_parser("dataset", help="make a data set from pairs on disk")
    command.add_argument("kind", choices=["detect", "inpaint", "science"])
    command.add_argument(
        "frames",
        nargs="?",
        help="folder with Level 1 and CR-truth files, or with --masks of exposures of any "
        "instrument (default: none)",
    )
    command.add_argument(
        "--recipe", help="what goes into it (needed by detect and inpaint, not by science)"
    )
    command.add_argument("--seed", type=int, help="of a science set (default 0)")
    command.add_argument(
        "--types",
        nargs="+",
        metavar="TYPE",
        help="of a science set: star, galaxy, any (default star galaxy; "
        "any = four sources per detector whatever their type, as in the paper)",
    )
    command.add_argument("--jobs", type=positive_count, default=2, help="processes (default 2)")
    again = command.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="keep a set that is complete already"
    )
    add_overwrite(again)
    command.add_argument("--out", required=True, help="folder of the data set")
    _cli_masked.add_options(command)
    command.set_defaults(run=_dataset)

    command = commands.add_parser("join", help="make one data set of several")
    command.add_argument("sets", nargs="+", type=Path, metavar="SET", help="their folders")
    command.add_argument("--out", required=True, type=Path, help="folder of the data set")
    add_overwrite(command)
    command.set_defaults(run=_join)

    command = commands.add_parser("harvest", help="collect cosmic rays from dark frames")
    command.add_argument("darks", nargs="+", help="three or more FITS files without light")
    command.add_argument("--gain", type=positive_number, help="e-/ADU, for darks in ADU")
    command.add_argument("--out", required=True, help="library of cosmic rays (.npz)")
    add_overwrite(command)
    command.set_defaults(run=_harvest)

    _cli_truth.add_command(commands)


def _dataset(options: argparse.Namespace) -> None:
    if options.frames is None and options.kind != "detect":
        raise ValueError(f"dataset {options.kind} needs FRAMES, a folder of exposures")
    tasks = _frame_tasks(options)
    if options.kind == "science":
        _science([pair for _, (pair,) in tasks], options)
        return
    if options.types or options.seed is not None:
        raise ValueError(f"--types and --seed are of science sets, not of {options.kind} sets")
    if options.recipe is None:
        raise ValueError(f"dataset {options.kind} needs --recipe")
    recipe = load_recipe(options.recipe)
    names = [read.name for _, (read, *_) in tasks]
    tasks += _drawn_tasks(recipe, options.kind)
    made_with = _made_with(recipe, options, len(tasks))
    if options.resume and (Path(options.out) / "set.json").is_file():
        # It is written last.
        datasets.check_made_with(Path(options.out), made_with, names)
        print(f"{options.out} is complete")
        return
    refuse_existing(Path(options.out) / "set.json", options)
    build = {
        "detect": datasets.build_detection_set,
        "inpaint": datasets.build_inpainting_set,
    }[options.kind]
    frames = _in_order(tasks, options.jobs)
    if options.masks is not None:
        frames = _told_if_empty(frames, options)
    bar = tqdm(frames, desc="data set", total=len(tasks), disable=None)
    settings = recipe.dataset.get(options.kind, {})
    info = build(bar, Path(options.out), **settings, made_with=made_with)
    _tell(info)


def _join(options: argparse.Namespace) -> None:
    refuse_existing(options.out / "set.json", options)
    _tell(datasets.join_sets(options.sets, options.out))


def _tell(info: dict) -> None:
    """Print how many rows a set has, and its fingerprint."""
    print(json.dumps(info["counts"] | {"fingerprint": info["fingerprint"]}, indent=1))


def _made_with(recipe: Recipe, options: argparse.Namespace, frames: int) -> dict[str, Any]:
    """Return what a set depends on, beside the files themselves, as JSON would have it."""
    made_with = {
        "kind": options.kind,
        "frames": frames,
        "settings": recipe.dataset.get(options.kind, {}),
        "generic": dataclasses.asdict(recipe.generic),
        "zoo": dataclasses.asdict(recipe.dataset.get("zoo", ZooSection())),
        "reading": [
            options.instrument,
            options.plane,
            options.gain,
            options.bad_flags,
            options.saturation,
        ],
    }
    parsed: dict[str, Any] = json.loads(json.dumps(made_with))
    return parsed


def _frame_tasks(options: argparse.Namespace) -> list[_Task]:
    """Return the frames that are read from files: CSST pairs, or exposures with masks."""
    _cli_masked.check(options)
    if options.masks is None:
        pairs = [] if options.frames is None else datasets.find_pairs(Path(options.frames))
        return [(datasets.load_frame, (pair,)) for pair in pairs]
    if options.kind != "detect" or options.frames is None:
        raise ValueError(
            f"--masks makes detection sets from a folder of exposures: expected dataset detect "
            f"FRAMES --masks FOLDER, got dataset {options.kind} {options.frames or ''}"
        )
    found, reading = _cli_masked.find(options.frames, options)
    return [(datasets.load_masked, (one, reading)) for one in found]


def _science(pairs: list[datasets.Pair], options: argparse.Namespace) -> None:
    """Write a scientific test set; options override the recipe."""
    from crmend_training.datasets.science import (
        ScienceSettings,
        build_science_set,
        missing,
    )
    from crmend_training.datasets.science_files import INDEX

    out = Path(options.out)
    recipe = load_recipe(options.recipe).dataset if options.recipe else {}
    given = {"types": options.types, "seed": options.seed}
    settings = dataclasses.replace(
        recipe.get("science", ScienceSettings()),
        **{name: value for name, value in given.items() if value is not None},
    )
    if options.resume and (out / INDEX).is_file():
        # It is written last.
        _check_index(out / INDEX, settings)
        print(f"{out} is complete")
        return
    refuse_existing(out / INDEX, options)
    with warnings.catch_warnings():
        # They are told below, without the line of code that they come from.
        warnings.simplefilter("ignore", CrmendWarning)
        rows = build_science_set(pairs, out, settings, jobs=options.jobs)
    for message in missing(rows, settings):
        print(f"warning: {message}", file=sys.stderr)
    files = [row for row in rows if row.file]
    for row in files:
        print(out / row.file)
    print(f"{len(files)} sources, {len(rows) - len(files)} gaps; see {out / INDEX}")


def _check_index(index: Path, settings: ScienceSettings) -> None:
    """Refuse a complete science set of other types or magnitudes."""
    from crmend_training.datasets.science_files import read_index

    found = {(row.type, row.wanted) for row in read_index(index)}
    wanted = set(itertools.product(settings.types, map(float, settings.magnitudes)))
    if found != wanted:
        raise ValueError(
            f"{index} is of {sorted(found)}, now {sorted(wanted)} are asked for; make the set "
            "anew with --overwrite, or give another --out"
        )


def _drawn_tasks(recipe: Recipe, kind: str) -> list[_Task]:
    """Return the frames of a recipe that are drawn for the set alone, not read from files.

    The zoo is for detection: it has no cosmic rays.
    """
    generic = recipe.generic
    seeds = range(generic.seed, generic.seed + generic.frames)
    draw = functools.partial(
        datasets.generic_frame,
        shape=generic.shape,
        label_sigma=generic.label_sigma,
        measured=generic.measured,
        tight=generic.tight,
        unusual=generic.unusual,
        kinds=generic.kinds,
    )
    tasks: list[_Task] = [(draw, (seed,)) for seed in seeds]
    zoo = recipe.dataset.get("zoo", ZooSection())
    for number in range(zoo.frames if kind == "detect" else 0):
        detector = DETECTORS[number % len(DETECTORS)]
        tasks.append((datasets.zoo_frame, (zoo.seed + number, detector)))
    return tasks


def _in_order(tasks: list[_Task], jobs: int) -> Iterator[datasets.Frame]:
    """Yield the frames in order, made by `jobs` processes that stay a little ahead."""
    with workers(min(jobs, len(tasks))) as pool:
        waiting: deque[Future[datasets.Frame]] = deque()
        for function, arguments in tasks:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > 4 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _told_if_empty(
    frames: Iterator[datasets.Frame], options: argparse.Namespace
) -> Iterator[datasets.Frame]:
    """Pass frames on, and tell of masks without any cosmic ray that takes part."""
    found = False
    for frame in frames:
        drawn = frame.name.startswith(datasets.DRAWN)
        found = found or (not drawn and bool((frame.cr[~frame.ignore] > 0.0).any()))
        yield frame
    if not found:
        print(
            f"warning: no mask of the exposures in {options.frames} holds a cosmic ray that "
            "takes part; a network learns from them that there is none",
            file=sys.stderr,
        )


def _harvest(options: argparse.Namespace) -> None:
    from crmend_training.datasets.harvest import harvest_darks, read_dark

    out = Path(options.out)
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} does not end in .npz; expected such as library.npz")
    refuse_existing(out, options)
    darks = [read_dark(Path(path), options.gain) for path in options.darks]
    times = sorted({time for _, time in darks})
    if len(times) > 1:
        raise ValueError(f"the darks were exposed for {times} s; expected one exposure time")
    names = [Path(path).name for path in options.darks]
    library = harvest_darks([image for image, _ in darks], times[0], sources=names)
    library.save(out)
    print(f"{len(library)} cosmic rays from {len(darks)} darks written to {options.out}")
