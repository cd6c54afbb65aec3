"""Command line of the training subpackage: ``crmend-train simulate|dataset|detect|…``."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crmend_training import _cli_data, _cli_simulate
from crmend_training.recipe import DETECTORS, load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 2 usage, 3 input)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, LookupError) as error:
        print(f"crmend-train: {error}", file=sys.stderr)
        return 3
    return 0


# --- training, export -----------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    from crmend_training import _training, train_detect, train_inpaint

    recipe = load_recipe(options.recipe)
    train, settings = {
        "detect": (train_detect.train, recipe.detect_recipe),
        "inpaint": (train_inpaint.train, recipe.inpaint_recipe),
    }[options.kind]
    schedule = recipe.schedule(options.kind, options.budget)
    paths = _training.Paths(
        Path(options.set),
        Path(options.out),
        options.resume,
        None if options.initial is None else Path(options.initial),
        None if getattr(options, "teacher", None) is None else Path(options.teacher),
    )
    if not options.per_detector:
        print(json.dumps(train(paths, settings(), schedule).info, indent=1))
        return
    for detector in DETECTORS:
        final = paths.out / f"{detector:02d}.pt"
        if options.resume and final.is_file():
            continue
        own = dataclasses.replace(
            paths, out=paths.out / f"{detector:02d}", frames=f"*_{detector:02d}_L1_*"
        )
        run = train(own, settings(), schedule)
        shutil.copyfile(own.out / "final.pt", final)
        print(f"{detector:02d}: {json.dumps(run.info['validation'])}", flush=True)


def _export(options: argparse.Namespace) -> None:
    from crmend._cards import FAST
    from crmend._instruments import load_instrument
    from crmend.exposure import read_exposure
    from crmend_training import datasets, export
    from crmend_training._training import Weights

    pairs = datasets.find_pairs(Path(options.validation))
    weights = {"detect": Weights.found(options.detect, options.detect_own)}
    if options.fast is not None:
        weights[FAST] = Weights.found(options.fast, options.fast_own)
    generic = load_recipe(options.recipe).dataset["generic"]
    choices = {kind: _choose(one, pairs, generic) for kind, one in weights.items()}
    weights["inpaint"] = Weights.found(options.inpaint, options.inpaint_own)
    choices["inpaint"] = {"generic": export.Choice()}
    cards = export.export_all(
        weights,
        Path(options.out),
        {"recipe": options.recipe, "commit": _commit(), "date": options.date or _today()},
        bands={f"{int(k):02d}": v for k, v in load_instrument("csst_msc").bands.items()},
        choices=choices,
        quality=(options.quality, options.quality_note),
        frames=[read_exposure(pair.level1).image for pair in pairs[:2]],
    )
    print(f"{len(cards)} packs written to {options.out}, every graph validated")


def _choose(weights: Any, pairs: list[Any], generic: dict[str, Any]) -> dict[str, Any]:
    """Return threshold, curve and metrics of every detector, from validation frames.

    The frames of other instruments follow, by seed, those that the data set has.
    """
    from crmend_training import calibrate, export

    first = generic["seed"] + generic["frames"]
    seeds = range(first, first + min(48, generic["frames"]))
    frames = itertools.chain(
        calibrate.read_frames(pairs), calibrate.generic_frames(seeds, tuple(generic["shape"]))
    )
    choices = {}
    for name, point in sorted(calibrate.operating_points(weights, frames).items()):
        print(
            f"{weights.of(name)} {name}: threshold {point.threshold}, recall {point.recall}, "
            f"precision {point.precision}, calibration error {point.calibration_error}"
        )
        metrics = {
            "test_set": "validation frames that chose the threshold, no training",
            "frames": point.frames,
            "recall_above_5e": point.recall,
            "precision_above_0e": point.precision,
            "calibration_error": point.calibration_error,
        }
        choices[name] = export.Choice(point.threshold, point.curve, metrics)
    return choices


def _commit() -> str:
    """Return the commit of the working tree, or ``unknown`` outside of one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


# --- everything in a row --------------------------------------------------------------


def _all(options: argparse.Namespace) -> None:
    """Simulate, build both sets, train both networks, export and validate, in one folder."""
    work = Path(options.work)
    recipe = ["--recipe", options.recipe]
    frames, sets, runs = (str(work / name) for name in ("frames", "sets", "runs"))
    steps = [
        ["simulate", *recipe, "--out", frames, "--jobs", str(options.jobs), "--resume"],
        ["dataset", "detect", frames, *recipe, "--out", f"{sets}/detect", "--resume"],
        ["dataset", "inpaint", frames, *recipe, "--out", f"{sets}/inpaint", "--resume"],
        ["detect", f"{sets}/detect", *recipe, "--out", f"{runs}/detect", "--resume"],
        ["inpaint", f"{sets}/inpaint", *recipe, "--out", f"{runs}/inpaint", "--resume"],
        [
            "export",
            "--detect",
            f"{runs}/detect/final.pt",
            "--inpaint",
            f"{runs}/inpaint/final.pt",
            "--validation",
            frames,
            *recipe,
            "--out",
            str(work / "exported_models"),
        ],
    ]
    parser = _parser()
    for step in steps:
        print("crmend-train", *step, flush=True)
        chosen = parser.parse_args(step)
        chosen.run(chosen)


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crmend-train", description="Simulate, build data sets, train, export, evaluate."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _cli_simulate.add_command(commands)
    _cli_data.add_commands(commands)
    for name in ("detect", "inpaint"):
        command = commands.add_parser(name, help=f"train the {name} network")
        command.add_argument("set", help="folder of the data set")
        command.add_argument("--recipe", required=True)
        command.add_argument("--out", required=True, help="folder for checkpoints and log")
        command.add_argument("--budget", help="wall time, such as 35m (default: the recipe's)")
        command.add_argument("--resume", action="store_true", help="go on from the checkpoint")
        command.add_argument(
            "--from", dest="initial", help="checkpoint whose weights to start from"
        )
        command.add_argument(
            "--per-detector",
            action="store_true",
            help="train one network for each of the 18 detectors, on its frames alone; "
            "--budget is for each",
        )
        if name == "detect":
            command.add_argument(
                "--teacher", help="checkpoint of a larger network whose output is learnt too"
            )
        command.set_defaults(run=_train, kind=name)

    export = commands.add_parser("export", help="validated graphs and cards from checkpoints")
    for kind, what in (
        ("detect", "detection network"),
        ("fast", "fast variant of it"),
        ("inpaint", "inpainting network"),
    ):
        export.add_argument(
            f"--{kind}", required=kind != "fast", help=f"checkpoint of the {what}"
        )
        export.add_argument(
            f"--{kind}-own", metavar="DIR", help="folder of 08.pt …, detectors' own weights"
        )
    export.add_argument("--quality", choices=["reference", "fast"], default="reference")
    export.add_argument("--quality-note", default="", help="why, for the cards")
    export.add_argument("--validation", required=True, help="pairs that choose the thresholds")
    export.add_argument("--recipe", required=True, help="name for the cards")
    export.add_argument("--date", help="date for the cards (default: today)")
    export.add_argument("--out", required=True, help="folder of the packs")
    export.set_defaults(run=_export)

    everything = commands.add_parser("all", help="simulate, train, export and validate")
    everything.add_argument("--recipe", required=True)
    everything.add_argument(
        "--work", default="crmend_training_run", help="folder for all of it"
    )
    everything.add_argument("--jobs", type=int, default=2)
    everything.set_defaults(run=_all)
    return parser


if __name__ == "__main__":
    sys.exit(main())
