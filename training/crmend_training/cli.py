"""Command line of the training subpackage: ``crmend-train simulate|dataset|detect|…``."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmend_training import _cli_data, _cli_import, _cli_masked, _cli_simulate
from crmend_training.recipe import STAGES, Recipe, load_recipe

if TYPE_CHECKING:
    from crmend_training.calibrate import ValidationFrame


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (0 done, 2 usage, 3 input)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, LookupError) as error:
        print(f"crmend-train: {error}", file=sys.stderr)
        return 3
    return 0


# --- training -----------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    """Train one network, or in the stages ``fine_…`` one for each detector of the set."""
    from crmend_training import _training, train_detect, train_inpaint

    recipe = load_recipe(options.recipe)
    train = {"detect": train_detect.train, "inpaint": train_inpaint.train}[options.kind]
    stage = options.stage or options.kind
    settings, schedule = recipe.settings(stage), recipe.schedule(stage, options.budget)
    paths = _training.Paths(
        Path(options.set),
        Path(options.out),
        options.resume,
        None if options.initial is None else Path(options.initial),
        None if getattr(options, "teacher", None) is None else Path(options.teacher),
        recipe=recipe.name,
    )
    if not stage.startswith("fine_"):
        print(json.dumps(train(paths, settings, schedule).info, indent=1))
        return
    detectors = _training.detectors_of(paths.folder)
    if options.detectors is not None:
        wanted = [f"{int(number):02d}" for number in options.detectors.split(",")]
        if missing := sorted(set(wanted) - set(detectors)):
            raise ValueError(
                f"{paths.folder} has no frame of detector {', '.join(missing)}; expected some "
                f"of {', '.join(detectors)}"
            )
        detectors = wanted
    for detector in detectors:
        final = paths.out / f"{detector}.pt"
        if options.resume and final.is_file():
            continue
        own = dataclasses.replace(paths, out=paths.out / detector, frames=f"*_{detector}_L1_*")
        run = train(own, settings, schedule)
        shutil.copyfile(own.out / "final.pt", final)
        print(f"{detector}: {json.dumps(run.info['validation'])}", flush=True)


def _average(options: argparse.Namespace) -> None:
    """Write the mean of the weights of some checkpoints, and say what it is of."""
    from crmend_training.averaging import average

    shares = options.shares or [1.0] * len(options.checkpoints)
    print(average(options.checkpoints, shares, options.out)["recipe"])


# --- calibration, export, validation ------------------------------------------------


def _weights(options: argparse.Namespace) -> dict[str, Any]:
    """Return the checkpoints that the options name, by kind."""
    from crmend._cards import FAST
    from crmend_training._training import Weights

    weights = {"detect": Weights.found(options.detect, options.detect_own)}
    if options.fast is not None:
        weights[FAST] = Weights.found(options.fast, options.fast_own)
    if getattr(options, "inpaint", None) is not None:
        weights["inpaint"] = Weights.found(options.inpaint, options.inpaint_own)
    return weights


def _calibrate(options: argparse.Namespace) -> None:
    """Choose thresholds on validation frames and write them with their curves."""
    from crmend_training import calibrate

    frames_of = _validation_frames(options)
    found = {}
    for kind, weights in _weights(options).items():
        found[kind] = calibrate.operating_points(weights, frames_of())
        for name, point in sorted(found[kind].items()):
            print(
                f"{kind} {name}: threshold {point.threshold}, recall {point.recall}, "
                f"precision {point.precision}, calibration error {point.calibration_error}"
            )
    calibrate.save(found, Path(options.out))


def _validation_frames(options: argparse.Namespace) -> Callable[[], Iterable[ValidationFrame]]:
    """Return what reads the frames that thresholds are chosen on, from the first again."""
    from crmend_training import calibrate, datasets

    _cli_masked.check(options)
    if options.masks is not None:
        if options.recipe is not None:
            raise ValueError(
                f"--recipe {options.recipe} says which simulated frames choose a threshold; "
                "with --masks the exposures do: leave it out"
            )
        return functools.partial(
            calibrate.masked_frames, *_cli_masked.find(options.validation, options)
        )
    if options.recipe is None:
        raise ValueError("calibrate needs --recipe, or exposures of your own with --masks")
    pairs = datasets.find_pairs(Path(options.validation))
    generic = load_recipe(options.recipe).dataset["generic"]
    # Those of other instruments follow, by seed, the ones that the data set has.
    first = generic["seed"] + generic["frames"]
    seeds = range(first, first + min(48, generic["frames"]))
    shape, sigma = tuple(generic["shape"]), generic.get("label_sigma", 0.0)
    return lambda: itertools.chain(
        calibrate.read_frames(pairs),
        calibrate.generic_frames(seeds, shape, sigma, measured=generic.get("measured", False)),
    )


def _export(options: argparse.Namespace) -> None:
    """Write packs: the built-in ones, or with ``--name`` one of the user's own."""
    _cli_masked.check(options)
    if options.name is not None:
        _export_own(options)
        return
    if options.masks is not None or options.inpaint is None:
        raise ValueError(
            "without --name the packs are those of CSST and generic: expected --inpaint, and "
            "no --masks; for a pack of your own give --name"
        )
    from crmend._instruments import load_instrument
    from crmend.exposure import read_exposure
    from crmend_training import calibrate, datasets, export

    pairs = datasets.find_pairs(Path(options.validation))
    points = calibrate.load(Path(options.calibration))
    choices = {
        kind: {name: export.choice_of(point) for name, point in group.items()}
        for kind, group in points.items()
    }
    cards = export.export_all(
        _weights(options),
        Path(options.out),
        {"recipe": options.recipe, "commit": _commit(), "date": options.date or _today()},
        bands={f"{int(k):02d}": v for k, v in load_instrument("csst_msc").bands.items()},
        choices=choices | {"inpaint": {"generic": export.Choice()}},
        quality=(options.quality, options.quality_note),
        frames=[read_exposure(pair.level1).image for pair in pairs[:2]],
    )
    print(f"{len(cards)} packs written to {options.out}, every graph validated")


def _export_own(options: argparse.Namespace) -> None:
    """Write one pack under a name of the user's, validated on exposures with masks."""
    from crmend_training import calibrate, export

    if options.masks is None or options.detect_own or options.fast_own or options.inpaint_own:
        raise ValueError(
            "a pack with --name is for any detector and is validated on exposures with masks: "
            "expected --masks, and no folders of detectors' own weights (--detect-own …)"
        )
    export.check_name(options.name)
    found, reading = _cli_masked.find(options.validation, options)
    frames = [frame.image for frame in calibrate.masked_frames(found[:2], reading)]
    points = calibrate.load(Path(options.calibration))
    out = Path(options.out)
    card = export.export_own(
        options.name,
        {kind: weights.base for kind, weights in _weights(options).items()},
        out,
        {"recipe": options.recipe, "commit": _commit(), "date": options.date or _today()},
        choices={k: export.choice_of(p["generic"], masked=True) for k, p in points.items()},
        quality=(options.quality, options.quality_note),
        frames=frames,
    )
    print(f"{card.name} written to {out / card.name}: threshold {card.detect.threshold}")
    _cli_import.say_how_to_use(out, card.name)


def _validate(options: argparse.Namespace) -> None:
    """Compare the graphs of a folder of packs with their checkpoints once more."""
    from crmend_training import export

    for name, kind, parity in export.validate_packs(Path(options.packs), _weights(options)):
        figure = (
            f"{parity.max_abs_difference:.1e} absolute"
            if parity.max_relative_difference is None
            else f"{parity.max_relative_difference:.1e} relative"
        )
        print(
            f"{name} {kind}: {figure}, {parity.mask_pixels_changed} mask pixels changed, "
            f"{parity.frames} frames, {', '.join(parity.providers)}",
            flush=True,
        )


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
    """Run a whole recipe in one folder, from the simulation to validated packs."""
    work = Path(options.work)
    if not options.resume and work.is_dir() and any(work.iterdir()):
        raise ValueError(f"{work} is not empty; use --resume to go on in it, or another --work")
    parser = _parser()
    for step in _steps(load_recipe(options.recipe), options, work):
        print("crmend-train", *step, flush=True)
        chosen = parser.parse_args(step)
        chosen.run(chosen)


def _steps(recipe: Recipe, options: argparse.Namespace, work: Path) -> list[list[str]]:
    """Return the commands of a recipe, in their order."""
    name = ["--recipe", options.recipe]
    frames = str(work / "frames")
    steps = [["simulate", *name, "--out", frames, "--jobs", str(options.jobs), "--resume"]]
    for kind in ("detect", "inpaint"):
        steps.append(["dataset", kind, frames, *name, "--out", f"{work}/sets/{kind}"])
        steps[-1] += ["--jobs", str(options.jobs), "--resume"]
    final = {stage: f"{work}/runs/{stage}/final.pt" for stage in STAGES}
    for stage in recipe.trainings:
        kind = "inpaint" if stage.endswith("inpaint") else "detect"
        step = [kind, f"{work}/sets/{kind}", *name, "--stage", stage, "--resume"]
        step += ["--out", f"{work}/runs/{stage}"]
        if options.budget is not None:
            step += ["--budget", options.budget]
        if stage.startswith("fine_"):
            step += ["--from", final[kind]]
        if "teacher" in recipe.trainings and kind == "detect" and stage != "teacher":
            step += ["--teacher", final["teacher"]]
        steps.append(step)
    found = ["--detect", final["detect"]]
    if "fast" in recipe.trainings:
        found += ["--fast", final["fast"]]
    if "fine_detect" in recipe.trainings:
        found += ["--detect-own", f"{work}/runs/fine_detect"]
    chosen, packs = f"{work}/calibration.json", f"{work}/exported_models"
    steps.append(["calibrate", *found, "--validation", frames, *name, "--out", chosen])
    found += ["--inpaint", final["inpaint"]]
    if "fine_inpaint" in recipe.trainings:
        found += ["--inpaint-own", f"{work}/runs/fine_inpaint"]
    steps.append(["export", *found, "--calibration", chosen, "--validation", frames, *name])
    steps[-1] += ["--out", packs]
    return [*steps, ["validate", packs, *found]]


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crmend-train", description="Simulate, build data sets, train, export, evaluate."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _cli_simulate.add_command(commands)
    _cli_data.add_commands(commands)
    _cli_import.add_command(commands)
    for name in ("detect", "inpaint"):
        _add_training(commands, name)
    average = commands.add_parser(
        "average", help="mean of the weights of networks that come from one another"
    )
    average.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    average.add_argument(
        "--shares", nargs="+", type=float, help="one per checkpoint (default: equal)"
    )
    average.add_argument("--out", required=True, type=Path, help="checkpoint to write")
    average.set_defaults(run=_average)

    calibrate = commands.add_parser("calibrate", help="thresholds and curves for the cards")
    _add_checkpoints(calibrate, ("detect", "fast"))
    calibrate.add_argument(
        "--validation",
        required=True,
        help="folder of pairs, or with --masks of exposures, that training never saw",
    )
    calibrate.add_argument(
        "--recipe", help="its simulated frames choose too (needed without --masks)"
    )
    calibrate.add_argument("--out", required=True, help="JSON file")
    _cli_masked.add_options(calibrate)
    calibrate.set_defaults(run=_calibrate)

    export = commands.add_parser("export", help="validated graphs and cards from checkpoints")
    _add_checkpoints(export, ("detect", "fast", "inpaint"))
    export.add_argument(
        "--name",
        help="of a pack of your own, such as saao_ste3, instead of the built-in ones; needs "
        "--masks, and without --inpaint it mends as the installed pack generic does",
    )
    export.add_argument("--calibration", required=True, help="what calibrate wrote")
    export.add_argument(
        "--validation",
        required=True,
        help="folder of pairs, or with --masks of exposures, to compare backends on",
    )
    export.add_argument("--recipe", required=True, help="name for the cards")
    export.add_argument("--date", help="date for the cards (default: today)")
    export.add_argument("--quality", choices=["reference", "fast"], default="reference")
    export.add_argument("--quality-note", default="", help="why, for the cards")
    export.add_argument("--out", required=True, help="folder of the packs")
    _cli_masked.add_options(export)
    export.set_defaults(run=_export)

    validate = commands.add_parser("validate", help="compare packs with their checkpoints")
    validate.add_argument("packs", help="folder that export wrote")
    _add_checkpoints(validate, ("detect", "fast", "inpaint"))
    validate.set_defaults(run=_validate)

    everything = commands.add_parser("all", help="simulate, train, export and validate")
    everything.add_argument("--recipe", required=True)
    everything.add_argument("--budget", help="wall time of each training, such as 60m")
    everything.add_argument("--resume", action="store_true", help="go on in the work folder")
    everything.add_argument(
        "--work", default="crmend_training_run", help="folder for all of it"
    )
    everything.add_argument("--jobs", type=int, default=2)
    everything.set_defaults(run=_all)
    return parser


def _add_training(commands: argparse._SubParsersAction, name: str) -> None:
    command = commands.add_parser(name, help=f"train the {name} network")
    command.add_argument("set", help="folder of the data set")
    command.add_argument("--recipe", required=True)
    command.add_argument("--out", required=True, help="folder for checkpoints and log")
    command.add_argument(
        "--stage",
        choices=[stage for stage in STAGES if stage.endswith("inpaint") == (name == "inpaint")],
        help=f"section of the recipe (default: {name}); fine_{name} trains one network for "
        "each detector, on its frames alone, and the budget is for each",
    )
    command.add_argument("--detectors", help=f"of fine_{name}, these only, such as 8,9")
    command.add_argument("--budget", help="wall time, such as 35m (default: the recipe's)")
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint (not bit for bit: the schedule follows the clock too)",
    )
    command.add_argument(
        "--from", dest="initial", help="checkpoint whose weights to start from"
    )
    if name == "detect":
        command.add_argument(
            "--teacher", help="checkpoint of a larger network whose output is learnt too"
        )
    command.set_defaults(run=_train, kind=name)


def _add_checkpoints(command: argparse.ArgumentParser, kinds: tuple[str, ...]) -> None:
    names = {
        "detect": "detection network",
        "fast": "fast variant of it",
        "inpaint": "inpainting network",
    }
    for kind in kinds:
        command.add_argument(
            f"--{kind}", required=kind == "detect", help=f"checkpoint of the {names[kind]}"
        )
        command.add_argument(
            f"--{kind}-own", metavar="DIR", help="folder of 08.pt …, detectors' own weights"
        )


if __name__ == "__main__":
    sys.exit(main())
