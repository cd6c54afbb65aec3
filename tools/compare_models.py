"""Compare model packs on exposures with masks: before and after a fine-tuning.

    CRMEND_MODELS=packs python tools/compare_models.py HELD --masks MASKS --instrument generic \
        --models generic saao_ste3 --out comparison

HELD and MASKS follow the rule of names of `crmend-train dataset detect --masks`.  With
`--real FOLDER` instead, the real exposures that `crmend_training.evaluate_real` knows, cut and
without their hot pixels as there.  Writes ``comparison.csv`` and, for each set of exposures, a
picture of some of its cosmic rays; prints the table.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import asdict, fields
from fnmatch import fnmatch
from pathlib import Path

from crmend_training import _cli_masked, compare_models
from crmend_training._results import make_folder
from crmend_training._script import existing_folder
from crmend_training._script import run as run_script
from crmend_training.compare_figures import draw_events
from crmend_training.compare_models import Score
from crmend_training.evaluate_real import INSTRUMENTS, RealFrame, read_instrument


def main() -> None:
    """Score every model on every set of exposures."""
    options = parse()
    for model in options.models:
        # One that is not there is told before anything is measured.
        compare_models.limits_of(model)
    out = Path(options.out)
    make_folder(out)
    rows = []
    for number, (name, frames) in enumerate(sets(options)):
        found = {model: compare_models.probabilities(frames, model) for model in options.models}
        rows += [
            compare_models.score(name, frames, model, each) for model, each in found.items()
        ]
        masks = {
            model: [compare_models.limits_of(model).mask(one) for one in each]
            for model, each in found.items()
        }
        draw_events(out / f"{number}.{options.picture}", frames, masks)
    if not rows:
        raise ValueError(
            f"{options.real} holds no exposure that evaluate_real knows and --only "
            f"{options.only} matches; expected some, such as saao_i_band/AKB13475I0135.fits.fz"
        )
    with (out / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    print("\n".join(table(rows)))


def sets(options: argparse.Namespace) -> Iterator[tuple[str, list[RealFrame]]]:
    """Yield the name and the exposures of each set."""
    if options.real is None:
        found, reading = _cli_masked.find(options.frames, options)
        wanted = [one for one in found if fnmatch(one.name, options.only)]
        if not wanted:
            names = ", ".join(one.name for one in found[:3])
            raise ValueError(
                f"no exposure in {options.frames} matches --only {options.only}; there are "
                f"{names} …"
            )
        yield Path(options.frames).name, compare_models.read_masked(wanted, reading)
        return
    for instrument in INSTRUMENTS:
        frames = read_instrument(options.real, instrument)
        wanted_frames = [frame for frame in frames if fnmatch(frame.name, options.only)]
        if wanted_frames:
            yield instrument.name, wanted_frames


def table(rows: list[Score]) -> list[str]:
    """Return the lines of a Markdown table."""
    head = (
        "| exposures | model | precision at 90 % recall [%] | average precision [%] "
        "| threshold | recall [%] | precision [%] | … without those beside true ones [%] "
        "| CRs found | false groups |"
    )
    lines = [head, "|---" * 10 + "|"]
    for row in rows:
        at = (row.precision_at_recall, row.average_precision)
        with_it = (row.recall, row.precision, row.precision_loose)
        cells = [f"{row.exposures} ({row.frames})", row.model, *(f"{100 * v:.1f}" for v in at)]
        cells += [f"{row.threshold:g}", *(f"{100 * v:.1f}" for v in with_it)]
        cells += [f"{row.events_found} of {row.events}", str(row.false_groups)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", nargs="?", help="folder of exposures with masks")
    parser.add_argument(
        "--real",
        type=existing_folder,
        help="folder of the real exposures that evaluate_real knows",
    )
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="exposures whose names match"
    )
    parser.add_argument("--models", nargs="+", required=True, help="packs, such as generic")
    parser.add_argument("--picture", choices=["png", "jpg"], default="png")
    parser.add_argument("--out", required=True, help="folder for table and pictures")
    _cli_masked.add_options(parser)
    options = parser.parse_args()
    if (options.real is None) == (options.frames is None or options.masks is None):
        parser.error("expected a folder of exposures with --masks, or --real FOLDER")
    return options


if __name__ == "__main__":
    run_script(main)
