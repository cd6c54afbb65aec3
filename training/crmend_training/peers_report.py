"""Tables of the peers' benchmark: CSV files, and where we lose."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crmend_training import peers_scores as scores
from crmend_training.peers_catalogue import DETECTION, MENDING, Peer

Result = Mapping[str, Any]

ALL_SIMULATED = "simulated, all"

DETECTION_FIGURES = {
    "precision_at_95": "precision at 95 % recall",
    **{f"tpr_at_{100 * r:g}": f"TPR at {100 * r:g} % FPR" for r in scores.FALSE_RATES},
    "best_f1": "best F1",
}
"""Columns that are compared; more is better."""

MENDING_FIGURES = {
    "bias": "|bias|",
    "scatter": "scatter",
    "rms": "rms",
    "shape_bias": "|added ellipticity|",
    "shape_scatter": "scatter of added ellipticity",
}
"""Columns that are compared; less is better."""

TIE = 5e-4
"""Figures as near as that count as equal: they agree in the third decimal."""

LEAST_SOURCES = 10
"""Fewer mended sources than that are not compared: chance decides."""

PRINCIPAL = ("crmend own pack", "crmend generic")
"""Ours on simulated frames, and on real ones."""


def detection_table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return figures per group of frames and method; a method that failed has its error."""
    rows = []
    for group in groups_of(results):
        for peer in DETECTION:
            own = select(results, peer, group)
            if own:
                row = {"group": group, "peer": peer.name} | costs_of(own)
                good = [r for r in own if r["error"] is None]
                rows.append(row | (curve_of(good).figures() if good else {}))
    return rows


def curve_of(results: Sequence[Result]) -> scores.Points:
    """Return the pooled points of a method's results."""
    return scores.pooled_points([scores.points_of(r["scores"]) for r in results])


def curves(results: Sequence[Result]) -> dict[str, dict[str, scores.Points]]:
    """Return the pooled points per group and method."""
    table: dict[str, dict[str, scores.Points]] = {}
    for group in groups_of(results):
        for peer in DETECTION:
            good = [r for r in select(results, peer, group) if r["error"] is None]
            if good:
                table.setdefault(group, {})[peer.name] = curve_of(good)
    return table


def mending_table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return figures per method and place; a method that failed has its error."""
    rows = []
    for peer in MENDING:
        own = select(results, peer, ALL_SIMULATED)
        good = [r for r in own if r["error"] is None]
        if own and not good:
            rows.append({"peer": peer.name, "place": "none"} | costs_of(own))
        elif good:
            head = {"peer": peer.name} | costs_of(own)
            rows += [head | line for line in scores.mended_figures([r["scores"] for r in good])]
    return rows


def runs_table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per method and frame."""
    names = ("task", "peer", "stratum", "frame", "pixels", "error", "cpu_seconds_per_mpx",
             "seconds_per_mpx", "load_seconds",
             "idle_mib", "peak_mib")  # fmt: skip
    rows = []
    for result in results:
        row = {name: result.get(name) for name in names}
        if result["task"] == "detect" and result["error"] is None:
            row |= scores.points_of(result["scores"]).figures()
        rows.append(row)
    return rows


def groups_of(results: Sequence[Result]) -> list[str]:
    """Return all simulated frames together, each stratum of them, then real instruments."""
    strata = sorted({r["stratum"] for r in results})
    simulated = [name for name in strata if name.startswith("simulated")]
    real = [name for name in strata if name not in simulated]
    together = [ALL_SIMULATED] if simulated else []
    return together + (simulated if len(simulated) > 1 else []) + real


def select(results: Sequence[Result], peer: Peer, group: str) -> list[Result]:
    """Return a method's results of a group of frames."""
    return [
        r
        for r in results
        if r["peer"] == peer.name
        and r["task"] == peer.task
        and (r["stratum"] == group or group == ALL_SIMULATED)
        and (group != ALL_SIMULATED or r["stratum"].startswith("simulated"))
    ]


def costs_of(results: Sequence[Result]) -> dict[str, Any]:
    """Return frames, failures with the first error, and the medians of time and memory."""
    failed = [r for r in results if r["error"] is not None]
    good = [r for r in results if r["error"] is None]
    row: dict[str, Any] = {
        "frames": len(results),
        "failed": len(failed),
        "error": failed[0]["error"] if failed else None,
    }
    for name in ("cpu_seconds_per_mpx", "seconds_per_mpx", "peak_mib"):
        row[name] = float(np.median([r[name] for r in good])) if good else None
    return row


def costs_table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return time and memory per task and method, over all simulated frames or else all."""
    rows = []
    for peer in (*DETECTION, *MENDING):
        own = select(results, peer, ALL_SIMULATED)
        own = own or [r for r in results if (r["peer"], r["task"]) == (peer.name, peer.task)]
        if own:
            rows.append({"task": peer.task, "peer": peer.name} | costs_of(own))
    return rows


# --- where we lose ----------------------------------------------------------------------


def losses(detection: Sequence[Result], mending: Sequence[Result]) -> tuple[list[str], int]:
    """Return a sentence per figure in which a peer is better than ours, and all comparisons.

    Ours is the pack of the detector on simulated frames, ``generic`` on real ones.
    """
    sentences, count = [], 0
    for group in dict.fromkeys(row["group"] for row in detection):
        own = [row for row in detection if row["group"] == group]
        for key, label in DETECTION_FIGURES.items():
            ours, best = ours_and_best(own, key, group.startswith("simulated"), largest=True)
            if ours is None or best is None:
                continue
            count += 1
            if best[key] > _worst(ours[key], -1.0) + TIE:
                said = f"{_number(ours[key])}, {best['peer']} {_number(best[key])}"
                sentences.append(f"{group}: {label}: ours {said}")
    for place in dict.fromkeys(row["place"] for row in mending if row["place"] != "none"):
        own = [row for row in mending if row["place"] == place and row["peer"] != "untouched"]
        if max(row["n"] for row in own) < LEAST_SOURCES:
            continue
        for key, label in MENDING_FIGURES.items():
            ours, best = ours_and_best(own, key, simulated=True, largest=False)
            if ours is None or best is None:
                continue
            count += 1
            if abs(best[key]) < abs(_worst(ours[key], math.inf)) - TIE:
                said = f"{_number(ours[key])}, {best['peer']} {_number(best[key])}"
                sentences.append(f"mending, {place}: {label}: ours {said}")
    return sentences, count


def ours_and_best(
    rows: Sequence[Result], key: str, simulated: bool, largest: bool
) -> tuple[Result | None, Result | None]:
    """Return our row and the peers' best with a finite value; None where there is none."""
    name = PRINCIPAL[0] if simulated else PRINCIPAL[1]
    ours = next((row for row in rows if row["peer"] == name and key in row), None)
    finite = [
        row
        for row in rows
        if not row["peer"].startswith("crmend") and np.isfinite(row.get(key, np.nan))
    ]
    if not finite:
        return ours, None
    order = max if largest else min
    return ours, order(finite, key=lambda row: row[key] if largest else abs(row[key]))


def _worst(value: float, worst: float) -> float:
    """Return a value, or the worst one where it is not a number."""
    return value if math.isfinite(value) else worst


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not reached"


def gaps(results: Sequence[Result], mending: Sequence[Result]) -> list[str]:
    """Return what a reader must know of what is missing: failures, frames, few sources."""
    said = []
    for task in ("detect", "mend"):
        own = [r for r in results if r["task"] == task]
        frames = {name: {r["frame"] for r in own if r["peer"] == name}
                  for name in dict.fromkeys(r["peer"] for r in own)}  # fmt: skip
        failed = dict.fromkeys(r["peer"] for r in own if r["error"] is not None)
        for name in failed:
            errors = [r["error"] for r in own if r["peer"] == name and r["error"] is not None]
            said.append(f"{task}: {name} failed on {len(errors)} of {len(frames[name])} frames "
                        f"({errors[0]})")  # fmt: skip
        most = max((len(one) for one in frames.values()), default=0)
        own_packs = PRINCIPAL[0]  # has no real frames by design
        said += [
            f"{task}: {name} ran on {len(one)} of {most} frames"
            for name, one in frames.items()
            if len(one) < most and not name.startswith(own_packs)
        ]
    few = dict.fromkeys(
        f"{row['place']} ({int(row['n'])})"
        for row in mending
        if row["peer"] == PRINCIPAL[0] and row["place"] != "none" and row["n"] < LEAST_SOURCES
    )
    return said + ([f"not compared, too few sources: {', '.join(few)}"] if few else [])


def _seconds(row: Result) -> float:
    """Return CPU seconds per megapixel, NaN of a method that failed everywhere."""
    seconds = row["cpu_seconds_per_mpx"]
    return math.nan if seconds is None else float(seconds)


def cost_sentence(costs: Sequence[Result]) -> str:
    """Return how many peers are faster than ours, per task."""
    parts = []
    for task, word in (("detect", "detection"), ("mend", "mending")):
        own = [r for r in costs if r["task"] == task and np.isfinite(_seconds(r))]
        ours = next((r for r in own if r["peer"] == PRINCIPAL[0]), None)
        if ours is None:
            continue
        peers = [
            r for r in own if not r["peer"].startswith("crmend") and r["peer"] != "untouched"
        ]
        faster = [
            r["peer"] for r in peers if r["cpu_seconds_per_mpx"] < ours["cpu_seconds_per_mpx"]
        ]
        names = f" ({', '.join(faster)})" if faster else ""
        seconds = f"{ours['cpu_seconds_per_mpx']:.2f} CPU seconds per megapixel"
        parts.append(f"{word}: {len(faster)} of {len(peers)} peers are faster than ours "
                     f"at {seconds}{names}")  # fmt: skip
    return "; ".join(parts)


# --- files ------------------------------------------------------------------------------


def write_csv(path: Path, rows: Sequence[Result]) -> None:
    """Write rows with the union of their columns; what a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: _plain(v) for k, v in row.items()})


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `write_csv`: numbers as such, NaN and None where a cell is empty."""
    texts = {"group", "peer", "place", "task", "error", "stratum", "frame", "pixels"}
    with path.open(newline="") as file:
        return [
            {k: (v or None) if k in texts else float(v or "nan") for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value
