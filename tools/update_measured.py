"""Collect the figures of reports in docs/measured.csv, and write README's tables from it.

    python tools/update_measured.py REPORT [REPORT ...]   # reports of the other tools
    python tools/update_measured.py                       # README and the packs' figures only
    python tools/update_measured.py --check               # exit 1 if README is out of date

REPORT is what another tool wrote (``--out``), with a ``measured.csv`` in it.  A figure replaces
the one of the same key; the others stay.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crmend import models
from crmend_training import _script, measured, measured_figures
from crmend_training._results import whole_file

ROOT = Path(__file__).resolve().parents[1]
PACKS = ("csst_msc", "generic")
"""Those of the repository."""


def main() -> int:
    """Collect and rewrite, or only compare; 1 = README differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=_script.existing_folder, nargs="*", metavar="REPORT")
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--csv", type=Path, default=ROOT / "docs" / measured.NAME)
    options = parser.parse_args()
    if options.check and options.reports:
        parser.error("--check takes no REPORT: it compares README with what is kept")
    rows = measured.read(options.csv)
    readme = options.readme.read_text(encoding="utf-8")
    if options.check:
        return check(options, measured.with_tables(readme, rows) == readme)
    for report in options.reports:
        rows = measured.merged(rows, measured.read(report / measured.NAME))
    rows = measured.merged(rows, packs())
    text = measured.with_tables(readme, rows)
    measured.write(options.csv, rows)
    with whole_file(options.readme) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{len(rows)} figures in {options.csv} and {options.readme}")
    return 0


def check(options: argparse.Namespace, same: bool) -> int:
    """Say whether README holds what is kept."""
    if not same:
        print(
            f"{options.readme} is not what {options.csv} makes; run tools/update_measured.py",
            file=sys.stderr,
        )
    return 0 if same else 1


def packs() -> list[measured.Measured]:
    """Return the figures that the cards of the packs hold, as old as the youngest of them."""
    cards = [
        models.load_card(pack, detector)
        for pack in PACKS
        for detector in models.available_detectors(pack) or (None,)
    ]
    youngest = max(card.graph(kind).training.date for card in cards for kind in card.kinds)
    how = ("python tools/update_measured.py", "from the packs", youngest)
    figures = measured_figures.of_packs(cards, ROOT / "exported_models")
    return [measured.Measured(*figure, *how) for figure in figures]


if __name__ == "__main__":
    _script.run(main)
