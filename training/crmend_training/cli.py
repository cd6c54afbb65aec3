"""Command line of the training subpackage: ``crmend-train simulate|dataset|detect|…``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from crmend._cli_options import positive_count
from crmend_training import _cli_data, _cli_export, _cli_import, _cli_simulate, _cli_train
from crmend_training._script import end_of
from crmend_training.recipe import Recipe, load_recipe

_NETWORKS = ("detect", "fast", "inpaint")
"""Which packs are made of; they may have no ``fast``."""


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
    steps = _steps(recipe, options, work)
    _check_given(options)
    for step in steps:
        print("crmend-train", *step, flush=True)
        chosen = parser.parse_args(step)
        chosen.run(chosen)


def _weights(recipe: Recipe, options: argparse.Namespace, work: Path) -> dict[str, str]:
    """Return the checkpoint of each network: what the recipe trains, or what is given.

    Raises
    ------
    ValueError
        One that packs need is neither, or one is both.
    """
    found = {}
    for kind in _NETWORKS:
        given = getattr(options, kind)
        if kind in recipe.trainings and given is not None:
            raise ValueError(
                f"--{kind} {given}: recipe {recipe.name!r} has a section [{kind}] and trains "
                "this network itself; leave the option out, or take a recipe without it"
            )
        if kind in recipe.trainings:
            found[kind] = f"{work}/runs/{kind}/final.pt"
        elif given is not None:
            found[kind] = given
    if missing := [kind for kind in ("detect", "inpaint") if kind not in found]:
        raise ValueError(
            f"recipe {recipe.name!r} has no [{'] and no ['.join(missing)}], and packs need "
            f"such weights; expected another recipe, or --{' and --'.join(missing)} with a "
            "checkpoint, such as those of exported_models/checkpoints"
        )
    return found


def _check_given(options: argparse.Namespace) -> None:
    """Refuse options that name no checkpoint of their kind."""
    from crmend_training._checkpoints import read_checkpoint
    from crmend_training.networks import FINDERS, MENDERS

    for kind in _NETWORKS:
        if getattr(options, kind) is not None:
            known = MENDERS if kind == "inpaint" else FINDERS
            read_checkpoint(Path(getattr(options, kind)), known)


def _steps(recipe: Recipe, options: argparse.Namespace, work: Path) -> list[list[str]]:
    """Return the commands of a recipe, in their order.

    Raises
    ------
    ValueError
        The recipe does not say what to simulate, or packs need a network that is neither
        trained nor given.
    """
    base = _weights(recipe, options, work)
    # They raise where the recipe lacks the section; data sets and thresholds need both.
    _ = recipe.frames, recipe.generic
    name = ["--recipe", options.recipe]
    frames = str(work / "frames")
    steps = [["simulate", *name, "--out", frames, "--jobs", str(options.jobs), "--resume"]]
    kinds = {stage: _kind(stage) for stage in recipe.trainings}
    for kind in dict.fromkeys(kinds.values()):
        steps.append(["dataset", kind, frames, *name, "--out", f"{work}/sets/{kind}"])
        steps[-1] += ["--jobs", str(options.jobs), "--resume"]
    for stage, kind in kinds.items():
        step = [kind, f"{work}/sets/{kind}", *name, "--stage", stage, "--resume"]
        step += ["--out", f"{work}/runs/{stage}"]
        if options.budget is not None:
            step += ["--budget", options.budget]
        if stage.startswith("fine_"):
            step += ["--from", base[kind]]
        if "teacher" in kinds and kind == "detect" and stage != "teacher":
            step += ["--teacher", f"{work}/runs/teacher/final.pt"]
        steps.append(step)
    return steps + _packing(recipe, base, name, work)


def _packing(
    recipe: Recipe, base: Mapping[str, str], name: Sequence[str], work: Path
) -> list[list[str]]:
    """Return the commands that make packs of weights."""
    chosen, packs = f"{work}/calibration.json", f"{work}/exported_models"
    validation = ["--validation", f"{work}/frames", *name]
    found = ["--detect", base["detect"]]
    if "fast" in base:
        found += ["--fast", base["fast"]]
    if "fine_detect" in recipe.trainings:
        found += ["--detect-own", f"{work}/runs/fine_detect"]
    calibrate = ["calibrate", *found, *validation, "--out", chosen, "--overwrite"]
    found += ["--inpaint", base["inpaint"]]
    if "fine_inpaint" in recipe.trainings:
        found += ["--inpaint-own", f"{work}/runs/fine_inpaint"]
    export = ["export", *found, "--calibration", chosen, *validation]
    export += ["--out", packs, "--overwrite"]
    return [calibrate, export, ["validate", packs, *found]]


def _kind(stage: str) -> str:
    """Return the command that trains a stage, and kind of its data set."""
    return "inpaint" if stage.endswith("inpaint") else "detect"


# --- arguments ----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crmend-train", description="Simulate, build data sets, train, export, validate."
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

    everything = commands.add_parser(
        "all",
        help="simulate, train, export and validate",
        description="Run a recipe from the simulation to validated packs: it needs the "
        "sections [simulate] and [dataset.generic], and trains what it has sections for.",
    )
    everything.add_argument("--recipe", required=True)
    for kind in _NETWORKS:
        everything.add_argument(
            f"--{kind}",
            metavar="CHECKPOINT",
            help=f"weights for the packs where the recipe has no section [{kind}]"
            + (" (default: packs without it)" if kind == "fast" else ""),
        )
    everything.add_argument("--budget", help="wall time of each training, such as 60m")
    everything.add_argument("--resume", action="store_true", help="go on in the work folder")
    everything.add_argument(
        "--work",
        default="crmend_training_run",
        help="folder for all of it (default: %(default)s)",
    )
    everything.add_argument("--jobs", type=positive_count, default=2)
    everything.set_defaults(run=_all)
    return parser


if __name__ == "__main__":
    sys.exit(main())
