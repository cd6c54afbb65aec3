"""The README's section on peers, written from the CSV files of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crmend_training import peers_report as report

Row = Mapping[str, Any]

BEGIN = "<!-- peers: written by tools/benchmark_peers.py report --readme, not by hand -->"
END = "<!-- end of peers -->"

PLACES = {"star": "stars", "galaxy": "galaxies", "sky": "sky"}
"""Places of the mending table that the section shows."""

_MOST_LOSSES = 12  # sentences; what is beyond stands in the report


class NoSectionError(ValueError):
    """A file lacks the marks between which the section stands."""


def rewrite(readme: Path, out: Path) -> None:
    """Rewrite what stands between `BEGIN` and `END` in a file.

    Parameters
    ----------
    readme : Path
        Changed in place, by way of a temporary file.
    out : Path
        Folder of the report, with ``detection.csv``, ``mending.csv``, ``costs.csv``,
        ``runs.csv`` and ``about.json``.

    Raises
    ------
    NoSectionError
        The file has no such marks, or not in this order.
    FileNotFoundError
        There is no such report.
    ValueError
        The report compares nothing; the file stays as it is.
    """
    text = readme.read_text(encoding="utf-8")
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise NoSectionError(f"{readme} has no section between {BEGIN!r} and {END!r}; add them")
    whole = f"{text[:start]}{BEGIN}\n\n{section(out)}\n\n{text[end:]}"
    temporary = readme.with_name(readme.name + ".tmp")
    temporary.write_text(whole, encoding="utf-8")
    temporary.replace(readme)


def section(out: Path) -> str:
    """Return the section: where we lose, what was run, detection and mending."""
    tables = {n: report.read_csv(out / f"{n}.csv") for n in ("detection", "mending", "costs")}
    runs = report.read_csv(out / "runs.csv")
    about = json.loads((out / "about.json").read_text())
    parts = [
        _losing(tables["detection"], tables["mending"], tables["costs"], runs),
        _ran(about, runs),
        _detection(tables["detection"]),
        _real(tables["detection"]),
        _mending(tables["mending"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _losing(
    detection: Sequence[Row], mending: Sequence[Row], costs: Sequence[Row], runs: Sequence[Row]
) -> str:
    sentences, count = report.losses(detection, mending)
    if not count:
        raise ValueError(
            "the report compares no figure of ours with a peer's; expected results of both: "
            "set the peers up and run them (tools/benchmark_peers.py setup, run)"
        )
    shown = "; ".join(sentences[:_MOST_LOSSES])
    if len(sentences) > _MOST_LOSSES:
        shown += f"; and {len(sentences) - _MOST_LOSSES} more in the report"
    text = f"**Where crmend loses**: in {len(sentences)} of {count} figures"
    text += f": {shown}." if sentences else "."
    cost = report.cost_sentence(costs)
    text += f" {cost[0].upper()}{cost[1:]}." if cost else ""
    missing = report.gaps(runs, mending)
    return text + (f" Failed or missing: {'; '.join(missing)}." if missing else "")


def _ran(about: Row, runs: Sequence[Row]) -> str:
    """Return the frames, the command and the machine."""
    found = {r["frame"]: r for r in runs if r["task"] == "detect"}
    simulated = [r for r in found.values() if r["stratum"].startswith("simulated")]
    sizes = ", ".join(sorted({r["pixels"] for r in simulated}))
    text = f"From {len(simulated)} simulated frame(s) of {sizes} px"
    mended = len({r["frame"] for r in runs if r["task"] == "mend"})
    if mended:
        text += f", {mended} of them or of copies with CRs put on their sources for mending"
    if len(found) > len(simulated):
        text += f", and {len(found) - len(simulated)} real exposure(s)"
    text += (
        f", by `{about['command']}` ({about['machine']}; {about['threads']} thread(s) each)."
    )
    return text + (
        " Methods without probabilities are tuned on other frames and show the best of their "
        "settings on these ones."
    )


# --- tables ---------------------------------------------------------------------------


def _detection(rows: Sequence[Row]) -> str:
    """Return the table of simulated frames, a row per method or family of networks."""
    own = [r for r in rows if r["group"] == report.ALL_SIMULATED]
    lines = [
        [r["peer"], *[_figure(r[key]) for key in _DETECTION], *_costs(r)] for r in families(own)
    ]
    head = ["detection, simulated", *_DETECTION.values(), "CPU s/Mpx", "peak MiB"]
    return _table(head, lines)


_DETECTION = {key: label for key, label in report.DETECTION_FIGURES.items() if key != "best_f1"}


def families(rows: Sequence[Row]) -> list[Row]:
    """Return our rows and, of each program's networks, that with the best TPR at 0.05 % FPR.

    Those that failed everywhere are left out: `peers_report.gaps` names them.
    """
    best: dict[str, Row] = {}
    for row in rows:
        if not math.isfinite(row.get("tpr_at_0.05", math.nan)):
            continue
        name = row["peer"].split()[0]
        key = name if name in ("deepCR", "Cosmic-CoNN") else row["peer"]
        if key not in best or row["tpr_at_0.05"] > best[key]["tpr_at_0.05"]:
            best[key] = row
    return list(best.values())


def _real(rows: Sequence[Row]) -> str:
    """Return the table of real exposures: ours and the best peer of each figure."""
    lines = []
    for group in dict.fromkeys(r["group"] for r in rows):
        own = [r for r in rows if r["group"] == group]
        if group.startswith("simulated"):
            continue
        cells = []
        for key in ("precision_at_95", "tpr_at_0.05", "best_f1"):
            ours, best = report.ours_and_best(own, key, simulated=False, largest=True)
            cells.append("–" if ours is None else _figure(ours[key]))
            cells.append("–" if best is None else f"{_figure(best[key])} ({best['peer']})")
        lines.append([group, *cells])
    head = ["real exposures", "precision at 95 % recall", "best peer", "TPR at 0.05 % FPR",
            "best peer", "best F1", "best peer"]  # fmt: skip
    return _table(head, lines) if lines else ""


def _mending(rows: Sequence[Row]) -> str:
    """Return the table of mending, a row per method."""
    counts = {place: [r["n"] for r in rows if r["place"] == place] for place in PLACES}
    head = ["mending"]
    for place, label in PLACES.items():
        unit = "noise" if place == "sky" else f"mag, n = {max(counts[place], default=0):.0f}"
        head += [f"{label}: bias [{unit}]", "scatter"]
    head += ["stars: added ellipticity", "scatter", "CPU s/Mpx", "peak MiB"]
    lines = []
    for name in dict.fromkeys(r["peer"] for r in rows if r["place"] != "none"):
        own = {r["place"]: r for r in rows if r["peer"] == name}
        wanted = [(place, key) for place in PLACES for key in ("bias", "scatter")]
        wanted += [("star", "shape_bias"), ("star", "shape_scatter")]
        cells = [_figure(own.get(place, {}).get(key, math.nan), 3) for place, key in wanted]
        lines.append([name, *cells, *_costs(own["sky"])])
    return _table(head, lines) if lines else ""


def _costs(row: Row) -> list[str]:
    return [_figure(row["cpu_seconds_per_mpx"], 2), _figure(row["peak_mib"], 0)]


def _figure(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
