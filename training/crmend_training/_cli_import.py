"""``crmend-train import-deepcr``: a published network of deepCR becomes a model pack."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from crmend_training._results import add_overwrite, refuse_existing


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``import-deepcr`` to the parser."""
    command = commands.add_parser(
        "import-deepcr",
        help="model pack from a network of the deepCR package on this machine",
    )
    command.add_argument("name", nargs="?", help="such as ACS-WFC (default: list them)")
    command.add_argument("--list", action="store_true", help="list what the package has")
    command.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder of model packs (default: the first that CRMEND_MODELS names)",
    )
    command.add_argument(
        "--threshold", type=float, help="for the card (default: what deepCR recommends)"
    )
    add_overwrite(command)
    command.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> None:
    from crmend_training import deepcr_import

    if options.list or options.name is None:
        for name in deepcr_import.published_names():
            print(f"{name:<20}{deepcr_import.PACK}/{deepcr_import.pack_name(name)}")
        return
    out = _folder(options.out)
    pack = f"{deepcr_import.PACK}/{deepcr_import.pack_name(options.name)}"
    refuse_existing(out / pack / "card.json", options)
    card = deepcr_import.import_network(options.name, out, options.threshold)
    parity = card.detect.parity
    print(
        f"{card.name} written to {out / card.name}: threshold {card.detect.threshold}, "
        f"input {card.detect.inputs[0].unit}, "
        f"max |dp| {parity.max_abs_difference:.1e} from torch"
    )
    say_how_to_use(out, card.name)


def say_how_to_use(out: Path, name: str) -> None:
    """Print how the runtime finds a pack, unless it does already."""
    named = os.environ.get("CRMEND_MODELS", "").split(os.pathsep)
    if os.fspath(out) not in named:
        print(f"to use it, set CRMEND_MODELS={out.absolute()}; then: --model {name}")


def _folder(out: str | None) -> Path:
    """Return the folder of packs to write to."""
    chosen = out or os.environ.get("CRMEND_MODELS", "").split(os.pathsep)[0]
    if not chosen:
        raise ValueError(
            "there is no folder of model packs to write to: pass --out FOLDER, or set the "
            "environment variable CRMEND_MODELS to one"
        )
    return Path(chosen)
