"""Where our reproduction meets the paper and our own bars for it, and where it falls short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crmend_training import paper_values as paper
from crmend_training.evaluate_detection import largest_drop
from crmend_training.paper_frames import AFFECTED
from crmend_training.paper_summary import LEAST_SOURCES

Tables = dict[str, Any]

LEAST_FOR_SSIM = 300
"""With fewer sources the noise of the counts, not the mending, sets the SSIM; assumed."""

MET, MISSED, OPEN = "met", "not met", "not judged"


@dataclass(frozen=True)
class Bar:
    """One bar: where it stands, what it asks for, the paper's value, ours and the verdict.

    ``verdict`` is one of `MET`, `MISSED` and `OPEN` (too little was measured); ``basis`` says
    how much was.
    """

    place: str
    what: str
    bar: str
    paper: str
    ours: str
    basis: str
    verdict: str


def judge(tables: Tables) -> list[Bar]:
    """Return all bars, in the order of the paper.

    Parameters
    ----------
    tables : dict
        From `paper_report.make_tables`.
    """
    frames = f"{tables['frames']} frames"
    return [
        *_detection(tables, frames),
        *_charge(tables, frames),
        *_science(tables),
        *_ranges(tables),
        *_sources(tables, frames),
        *_distributions(tables),
    ]


def shortfalls(bars: Sequence[Bar]) -> str:
    """Return the first paragraph of the report: where we fall short, and what is not known."""
    missed = [bar for bar in bars if bar.verdict == MISSED]
    unknown = [bar for bar in bars if bar.verdict == OPEN]
    parts = []
    if missed:
        listed = "; ".join(
            f"{bar.place}, {bar.what}: {bar.ours} (bar: {bar.bar})" for bar in missed
        )
        parts.append(f"Where we fall short, {len(missed)} of {len(bars)} bars: {listed}.")
    elif unknown:
        parts.append("No bar that could be judged is missed.")
    else:
        parts.append("Every bar is met.")
    if unknown:
        listed = "; ".join(f"{bar.place}, {bar.what} ({bar.basis})" for bar in unknown)
        parts.append(f"Not judged, because too little was measured: {listed}.")
    return "  ".join(parts)


def number(value: float, form: str, unit: str = "") -> str:
    """Return a number with its unit, or a dash for what could not be measured."""
    return f"{value:{form}}{unit}" if math.isfinite(value) else "–"


def _verdict(value: float, holds: bool, enough: bool = True) -> str:
    if not enough or math.isnan(value):
        return OPEN
    return MET if holds else MISSED


def _detection(tables: Tables, frames: str) -> list[Bar]:
    found = tables["over_detectors"]
    bars = []
    for name, value, deviation in (
        ("recall", paper.RECALL, paper.RECALL_SD),
        ("precision", paper.PRECISION, paper.PRECISION_SD),
    ):
        bars.append(
            Bar(
                "Figure 2",
                name,
                f"≥ {value:.2f} %",
                f"{value:.2f} ± {deviation:.2f} %",
                f"{number(found[name], '.2f')} ± {number(found[f'{name}_sd'], '.2f', ' %')}",
                frames,
                _verdict(found[name], round(found[name], 2) >= value),
            )
        )
    return bars


def _charge(tables: Tables, frames: str) -> list[Bar]:
    """Return what Figure 3 shows as one number: how far recall falls where charge grows."""
    together = 100.0 * largest_drop(tables["pooled_recall"])
    own = {name: 100.0 * largest_drop(r) for name, r in tables["detector_recall"].items()}
    measured = any(np.isfinite(recall).any() for recall in tables["detector_recall"].values())
    worst = max(own, key=own.__getitem__)
    fall = own[worst] if measured else math.nan
    high = paper.DIP[1]
    return [
        Bar(
            "Figure 3",
            f"recall rises with charge above {high:.0f} e-",
            "largest fall ≤ 1 point on every detector",
            "tends to 1",
            f"largest fall {number(fall, '.2f', ' points')} "
            f"(detector {worst}; all together {number(together, '.2f')})"
            if measured
            else "–",
            frames,
            _verdict(fall, fall <= 1.0),
        )
    ]


def _science(tables: Tables) -> list[Bar]:
    """Return the paper's one number of Figure 5: CRs on the centre of the faint star."""
    kind, mag = paper.REPRESENTATIVE[-1]
    rows = [
        row
        for row in tables["figure5"]
        if (row["type"], row["mag"], row["CRs"]) == (kind, mag, "0–2 px")
        and row["method"] == "mended"
    ]
    value, deviation = paper.FAINT_STAR["mended"]
    mean, spread, n = (
        (rows[0]["mean"], rows[0]["SD"], rows[0]["n"]) if rows else (math.nan, math.nan, 0)
    )
    return [
        Bar(
            "Figure 5",
            f"Δmag of the star of {mag} mag, CRs within 2 px of its centre",
            f"|mean| ≤ {value} and SD ≤ {deviation} mag",
            f"{value} ± {deviation} mag",
            f"{number(mean, '+.3f')} ± {number(spread, '.3f', ' mag')}",
            f"{n} CRs on {tables['science']} sources",
            _verdict(mean, abs(mean) <= value and spread <= deviation, n >= LEAST_SOURCES),
        )
    ]


def _ranges(tables: Tables) -> list[Bar]:
    bars = []
    for kind in ("star", "galaxy"):
        own = [row for row in tables["figure6_bars"] if row["type"] == kind and row["judged"]]
        own = [row for row in own if math.isfinite(row["ratio"])]
        basis = f"{sum(row['n'] for row in own)} sources in {len(own)} bins of 1 mag"
        worst = max(own, key=lambda row: row["ratio"], default=None)
        moved = max(own, key=lambda row: abs(row["shift"]), default=None)
        ratio = math.nan if worst is None else worst["ratio"]
        shift = math.nan if moved is None else moved["shift"]
        bars.append(
            Bar(
                "Figure 6",
                f"5–95 % range, mended over CR-free, {_PLURAL[kind]}",
                f"≤ {paper.RANGE_RATIO} in every bin above the limit",
                "comparable",
                _worst(worst, "ratio", "{:.2f}"),
                basis,
                _verdict(ratio, ratio <= paper.RANGE_RATIO),
            )
        )
        bars.append(
            Bar(
                "Figure 6",
                f"median Δmag, mended − CR-free, {_PLURAL[kind]}",
                f"within {paper.MEDIAN_SHIFT} mag in every bin above the limit",
                "close to zero",
                _worst(moved, "shift", "{:+.3f} mag"),
                basis,
                _verdict(shift, abs(shift) <= paper.MEDIAN_SHIFT),
            )
        )
    return bars


_PLURAL = {"star": "stars", "galaxy": "galaxies"}


def _worst(row: dict[str, Any] | None, name: str, form: str) -> str:
    """Return the value of the worst bin with its error, place and number of sources."""
    if row is None:
        return "no bin with enough sources"
    error = form.replace("+", "").format(row[f"{name}_error"])
    error = error if math.isfinite(row[f"{name}_error"]) else "–"
    return (
        f"{form.format(row[name])} ± {error} at worst (mag {row['from']:g}–{row['to']:g}, "
        f"{row['n']} sources)"
    )


def _sources(tables: Tables, frames: str) -> list[Bar]:
    total = next(row for row in tables["table1"] if row["type"] == "total")
    by_method = {row["method"]: row for row in tables["spurious"]}
    basis = f"{total['sources']} sources with a CR pixel within {AFFECTED:g} px, {frames}"
    enough = total["masked"] >= LEAST_SOURCES
    gain = total["gain %"]
    ceiling = 100.0 * (total["CR-free"] / total["masked"] - 1.0) if enough else math.nan
    bars = [
        Bar(
            "Table 1",
            "affected sources detected, mended over masked",
            f"≥ +{paper.GAIN} %",
            f"+{paper.GAIN} %",
            f"{number(gain, '+.1f', ' %')} ({total['mended']} over {total['masked']}; without "
            f"any CR {number(ceiling, '+.1f', ' %')})",
            basis,
            _verdict(gain, round(gain, 1) >= paper.GAIN, enough),
        )
    ]
    for name, words in (("spurious", "in all"), ("near", "at a CR")):
        methods = ("mended", "masked", "CR-free")
        mended, masked, floor = (by_method[method][name] for method in methods)
        bars.append(
            Bar(
                "Table 1",
                f"spurious detections {words}, mended",
                "no more than masked",
                "not given",
                f"{mended} (masked: {masked}; without any CR {floor})",
                frames,
                _verdict(float(mended), mended <= masked, enough),
            )
        )
    return bars


def _distributions(tables: Tables) -> list[Bar]:
    bars = []
    for kind in ("galaxy", "star"):
        by_method = {
            row["method"]: row for row in tables["figure7_ssim"] if row["type"] == kind
        }
        row = by_method["mended"]
        value, ceiling = row["SSIM"], by_method["CR-free"]["SSIM"]
        bars.append(
            Bar(
                "Figure 7",
                f"SSIM of the magnitude distribution, {_PLURAL[kind]}",
                f"≥ {paper.SSIM[kind]}",
                f"{paper.SSIM[kind]} (detector 08)",
                f"{number(value, '.3f')} (without any CR {number(ceiling, '.3f')})",
                f"{row['n']} sources of all detectors",
                _verdict(value, value >= paper.SSIM[kind], row["n"] >= LEAST_FOR_SSIM),
            )
        )
    return bars
