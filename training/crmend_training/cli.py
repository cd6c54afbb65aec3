"""Command line of the training subpackage: ``crmend-train simulate|dataset|detect|…``."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from crmend._cli_options import positive_count
from crmend_training import _cli_data, _cli_export, _cli_import, _cli_simulate, _cli_train
from crmend_training._script import end_of
from crmend_training.recipe import STAGES, Recipe, load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 usage, 3 files or values, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    return end_of(lambda: options.run(options), "crmend-train")


# --- everything in a row --------------------------------------------------------------


def _all(options: argparse.Namespace) -> None:
    """Run a whole recipe in one folder, from the simulation to validated packs."""
    work = Path(options.work)
    if not options.resume and work.is_dir() and any(work.iterdir()):
        raise ValueError(f"{work} is not empty; use --resume to go on in it, or another --work")
    parser, recipe = _parser(), load_recipe(options.recipe)
    for stage in recipe.trainings:
        # A budget that cannot be is told before anything is simulated.
        recipe.schedule(stage, options.budget)
    for step in _steps(recipe, options, work):
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
    steps[-1].append("--overwrite")
    found += ["--inpaint", final["inpaint"]]
    if "fine_inpaint" in recipe.trainings:
        found += ["--inpaint-own", f"{work}/runs/fine_inpaint"]
    steps.append(["export", *found, "--calibration", chosen, "--validation", frames, *name])
    steps[-1] += ["--out", packs, "--overwrite"]
    return [*steps, ["validate", packs, *found]]


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crmend-train", description="Simulate, build data sets, train, export, evaluate."
    )
    # Both import packages come from one distribution.
    parser.add_argument(
        "--version", action="version", version=f"crmend-train {version('crmend')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _cli_simulate.add_command(commands)
    _cli_data.add_commands(commands)
    _cli_import.add_command(commands)
    _cli_train.add_commands(commands)
    _cli_export.add_commands(commands)

    everything = commands.add_parser("all", help="simulate, train, export and validate")
    everything.add_argument("--recipe", required=True)
    everything.add_argument("--budget", help="wall time of each training, such as 60m")
    everything.add_argument("--resume", action="store_true", help="go on in the work folder")
    everything.add_argument(
        "--work", default="crmend_training_run", help="folder for all of it"
    )
    everything.add_argument("--jobs", type=positive_count, default=2)
    everything.set_defaults(run=_all)
    return parser


if __name__ == "__main__":
    sys.exit(main())
