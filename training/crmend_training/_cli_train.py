"""``crmend-train detect | inpaint | average``: networks from data sets."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

from crmend_training._results import add_overwrite, refuse_existing, refuse_unwritable
from crmend_training.recipe import STAGES, load_recipe


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that train."""
    for name in ("detect", "inpaint"):
        _add_training(commands, name)
    average = commands.add_parser(
        "average", help="mean of the weights of networks that come from one another",
        description="Networks that were trained from the same weights (--from) may be "
        "averaged, weight by weight: the mean is often better than each. Others give nonsense.",
    )  # fmt: skip
    average.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    average.add_argument(
        "--shares", nargs="+", type=float, help="one per checkpoint (default: equal)"
    )
    average.add_argument("--out", required=True, type=Path, help="checkpoint to write")
    add_overwrite(average)
    average.set_defaults(run=_average)


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
            "--teacher",
            nargs="+",
            default=[],
            help="checkpoint of a network whose output is learnt too; of several, one drawn at "
            "random at each step",
        )
    command.set_defaults(run=_train, kind=name)


def _train(options: argparse.Namespace) -> None:
    """Train one network, or in the stages ``fine_…`` one for each detector of the set."""
    from crmend_training import _training, train_detect, train_inpaint

    recipe = load_recipe(options.recipe)
    stage, out = options.stage or options.kind, Path(options.out)
    if options.detectors is not None and not stage.startswith("fine_"):
        raise ValueError(f"--detectors is for the stage fine_{options.kind}, not for {stage}")
    if not options.resume:
        _refuse_finished(out)
    refuse_unwritable(out / "checkpoint.pt")
    train = {"detect": train_detect.train, "inpaint": train_inpaint.train}[options.kind]
    settings, schedule = recipe.settings(stage), recipe.schedule(stage, options.budget)
    paths = _training.Paths(
        Path(options.set),
        out,
        options.resume,
        None if options.initial is None else Path(options.initial),
        tuple(map(Path, getattr(options, "teacher", ()))),
        recipe=recipe.name,
    )
    if not stage.startswith("fine_"):
        run = train(paths, settings, schedule)
        if run.complete:
            print(
                f"{out / 'final.pt'} is of a training that is complete (steps: {run.step}) and "
                "stays as it is"
            )
            return
        info = run.record
        # Whole family trees, and the recipe again, which stand in the checkpoint.
        left = ("initial", "teachers", "settings")
        told = {key: info[key] for key in info if key not in left}
        print(json.dumps(told, indent=1))
        return
    detectors = _training.detectors_of(paths.folder)
    if not detectors:
        raise ValueError(
            f"{paths.folder} has no frame of a CSST detector; expected some: {stage} trains "
            "a network for each"
        )
    if options.detectors is not None:
        wanted = [number.strip().zfill(2) for number in options.detectors.split(",")]
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


def _refuse_finished(out: Path) -> None:
    """Keep what a training has left in a folder, or in the folders of its detectors."""
    for name in ("checkpoint.pt", "*/checkpoint.pt", "final.pt", "[0-9][0-9].pt"):
        if found := next(out.glob(name), None):
            raise ValueError(
                f"{found} is of an earlier training; use --resume to go on with it, or another "
                "--out"
            )


def _average(options: argparse.Namespace) -> None:
    """Write the mean of the weights of some checkpoints, and say what it is of."""
    from crmend_training.averaging import average

    refuse_existing(options.out, options)
    shares = options.shares or [1.0] * len(options.checkpoints)
    print(average(options.checkpoints, shares, options.out)["recipe"])
