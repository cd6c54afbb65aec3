"""``crmend-train calibrate | export | validate``: packs from checkpoints."""

from __future__ import annotations

import argparse
import functools
import itertools
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmend._views import VIEWS
from crmend_training import _cli_import, _cli_masked
from crmend_training._results import add_overwrite, refuse_existing
from crmend_training.recipe import load_recipe

if TYPE_CHECKING:
    from crmend_training._checkpoints import Weights
    from crmend_training.calibrate import OperatingPoint, ValidationFrame


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that make packs."""
    calibrate = commands.add_parser("calibrate", help="thresholds and curves for the cards")
    _add_checkpoints(calibrate, ("detect", "fast"))
    calibrate.add_argument(
        "--validation",
        help="folder of pairs, or with --masks of exposures, that training never saw",
    )
    _add_generic_only(calibrate)
    calibrate.add_argument(
        "--recipe", help="its simulated frames choose too (needed without --masks)"
    )
    for kind in ("detect", "fast"):
        calibrate.add_argument(
            f"--{kind}-views",
            type=int,
            choices=VIEWS,
            default=1,
            help="how often it sees a frame, turned and mirrored, and will by default",
        )
    calibrate.add_argument("--out", required=True, help="JSON file")
    add_overwrite(calibrate)
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
    _add_generic_only(export)
    export.add_argument("--recipe", required=True, help="name for the cards")
    export.add_argument(
        "--date", type=_iso_date, help="for the cards, such as 2027-08-10 (default: today)"
    )
    export.add_argument("--quality", choices=["reference", "fast"], default="reference")
    export.add_argument("--quality-note", default="", help="why, for the cards")
    export.add_argument("--out", required=True, help="folder of the packs")
    add_overwrite(export)
    _cli_masked.add_options(export)
    export.set_defaults(run=_export)

    validate = commands.add_parser("validate", help="compare packs with their checkpoints")
    validate.add_argument("packs", help="folder that export wrote")
    _add_checkpoints(validate, ("detect", "fast", "inpaint"))
    validate.set_defaults(run=_validate)


def _add_generic_only(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--generic-only", action="store_true", help="the pack generic alone; the others stay"
    )


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


def _weights(options: argparse.Namespace) -> dict[str, Any]:
    """Return the checkpoints that the options name, by kind."""
    from crmend._cards import FAST
    from crmend_training._checkpoints import Weights, read_checkpoint
    from crmend_training.networks import FINDERS, MENDERS

    for kind in ("fast", "inpaint"):
        if getattr(options, f"{kind}_own", None) and not getattr(options, kind):
            raise ValueError(
                f"--{kind}-own needs --{kind}, the checkpoint for detectors without their own"
            )
    weights = {"detect": Weights.found(options.detect, options.detect_own)}
    if options.fast is not None:
        weights[FAST] = Weights.found(options.fast, options.fast_own)
    if getattr(options, "inpaint", None) is not None:
        weights["inpaint"] = Weights.found(options.inpaint, options.inpaint_own)
    for kind, one in weights.items():
        for path in (one.base, *one.own.values()):
            read_checkpoint(path, MENDERS if kind == "inpaint" else FINDERS)
    return weights


def _calibrate(options: argparse.Namespace) -> None:
    """Choose thresholds on validation frames and write them with their curves."""
    from crmend._cards import FAST
    from crmend_training import calibrate

    if options.fast is None and options.fast_views != 1:
        raise ValueError(
            f"--fast-views {options.fast_views} needs --fast, the network it is for"
        )
    refuse_existing(Path(options.out), options)
    frames_of = _validation_frames(options)
    found = {}
    views = {"detect": options.detect_views, FAST: options.fast_views}
    for kind, weights in _weights(options).items():
        found[kind] = calibrate.operating_points(weights, frames_of(), views[kind])
        for name, point in sorted(found[kind].items()):
            print(
                f"{kind} {name}: threshold {point.threshold}, of groups "
                f"{point.seed_threshold or 'none'}, recall {point.recall}, "
                f"precision {point.precision}, calibration error {point.calibration_error}"
            )
    calibrate.save(found, Path(options.out))


def _validation_frames(options: argparse.Namespace) -> Callable[[], Iterable[ValidationFrame]]:
    """Return what reads the frames that thresholds are chosen on, from the first again."""
    from crmend_training import calibrate, datasets

    _cli_masked.check(options)
    if options.generic_only and options.masks is not None:
        raise ValueError("--masks is for exposures of --validation: leave out --generic-only")
    if (options.validation is None) != options.generic_only:
        raise ValueError("calibrate needs either --validation FOLDER or --generic-only")
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
    pairs = [] if options.generic_only else datasets.find_pairs(Path(options.validation))
    generic = load_recipe(options.recipe).generic
    # Those of other instruments follow, by seed, the ones that the data set has.
    first = generic.seed + generic.frames
    seeds = range(first, first + min(48, generic.frames))
    return lambda: itertools.chain(
        calibrate.read_frames(pairs),
        calibrate.generic_frames(
            seeds,
            generic.shape,
            generic.label_sigma,
            measured=generic.measured,
            tight=generic.tight,
            unusual=generic.unusual,
            kinds=generic.kinds,
        ),
    )


def _export(options: argparse.Namespace) -> None:
    """Write packs: the built-in ones, or with ``--name`` one of the user's own."""
    _cli_masked.check(options)
    if options.quality == "fast" and options.fast is None:
        raise ValueError("--quality fast needs --fast, the checkpoint of the fast network")
    if options.name is not None:
        if options.generic_only:
            raise ValueError("--name makes a pack of your own: leave out --generic-only")
        _export_own(options)
        return
    if options.masks is not None or options.inpaint is None:
        raise ValueError(
            "without --name the packs are those of CSST and generic: expected --inpaint, and "
            "no --masks; for a pack of your own give --name"
        )
    from crmend._instruments import load_instrument
    from crmend.exposure import read_exposure
    from crmend_training import datasets, export

    pairs = datasets.find_pairs(Path(options.validation))
    bands = {f"{int(k):02d}": v for k, v in load_instrument("csst_msc").bands.items()}
    bands = {} if options.generic_only else bands
    for name in ("generic", *(f"csst_msc/{detector}" for detector in bands)):
        refuse_existing(Path(options.out) / name / "card.json", options)
    weights = _weights(options)
    points = _points(options, weights, alone=options.generic_only)
    choices = {k: export.choices_of(points[k], weights[k]) for k in points if k in weights}
    cards = export.export_all(
        weights,
        Path(options.out),
        {"recipe": options.recipe, "commit": _commit(), "date": options.date or _today()},
        bands=bands,
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
    refuse_existing(Path(options.out) / options.name / "card.json", options)
    found, reading = _cli_masked.find(options.validation, options)
    frames = [frame.image for frame in calibrate.masked_frames(found[:2], reading)]
    weights = _weights(options)
    points = _points(options, weights, alone=True)
    out = Path(options.out)
    card = export.export_own(
        options.name,
        {kind: one.base for kind, one in weights.items()},
        out,
        {"recipe": options.recipe, "commit": _commit(), "date": options.date or _today()},
        choices={k: export.choice_of(p["generic"], masked=True) for k, p in points.items()},
        quality=(options.quality, options.quality_note),
        frames=frames,
    )
    print(f"{card.name} written to {out / card.name}: threshold {card.detect.threshold}")
    _cli_import.say_how_to_use(out, card.name)


def _points(
    options: argparse.Namespace, weights: Mapping[str, Weights], *, alone: bool
) -> dict[str, dict[str, OperatingPoint]]:
    """Return the thresholds of every network that finds cosmic rays, or of generic alone."""
    from crmend._cards import FAST
    from crmend_training import calibrate

    points = calibrate.load(Path(options.calibration))
    for kind in ("detect",) if options.fast is None else ("detect", FAST):
        found = points.get(kind, {})
        if "generic" not in found:
            raise ValueError(
                f"{options.calibration} has no threshold of generic for {kind}; expected what "
                "calibrate writes for the same --detect and --fast"
            )
        for name in ("generic",) if alone else found:
            if found[name].weights not in ("", weights[kind].digest_of(name)):
                raise ValueError(
                    f"{options.calibration} was made with other weights of {kind} for {name} "
                    f"than {weights[kind].of(name)}; expected what calibrate writes for those"
                )
    return points


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


def _iso_date(text: str) -> str:
    """Return a date as the cards have it."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date; expected such as 2027-08-10"
        ) from None


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
