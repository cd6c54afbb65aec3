"""What README shows of each evaluation, as `measured.Figure`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crmend._cards import ModelCard
from crmend_training import evaluate
from crmend_training.evaluate_detection import StratumScores, Tally, largest_drop, pooled_tally
from crmend_training.evaluate_events import LEAST
from crmend_training.evaluate_lookalikes import CLASSES, NEW_HOT, ZooTally, pooled_zoo
from crmend_training.measured import COST, DETECTION, MENDING, PAPER, Figure
from crmend_training.mending_science import OURS
from crmend_training.paper_bars import Bar

NETWORKS = {"fast": "`fast`", "reference": "DeepCR"}
"""Names of the qualities in README."""

PEER = "5×5 median"
"""The fill that README shows beside ours."""


# --- detection ---------------------------------------------------------------------------


def of_stratum(folder: str, scores: StratumScores) -> list[Figure]:
    """Return recall, precision, calibration, falls, events and star cores of frames."""
    figures = []
    for quality, tallies in scores.ours.items():
        frames = sum(tally.frames for tally in tallies.values())
        shape = " × ".join(map(str, scores.shape))
        head = f"{frames} frames of {shape} px (`{folder}`), {NETWORKS[quality]}"
        key = f"detection/{folder}/{quality}"
        figures += [
            Figure(f"{key}/{name}", DETECTION, f"{head}: {what}", figure)
            for name, what, figure in _stratum_figures(tallies)
        ]
    return figures


def _stratum_figures(tallies: Mapping[str, Tally]) -> list[tuple[str, str, str]]:
    rows = [tally.row() for tally in tallies.values()]
    recall, precision = (_spread([row[k] for row in rows]) for k in ("recall", "precision"))
    error = max(row["calibration_error"] for row in rows)
    every = pooled_tally(tallies.values())
    falls = {
        name: largest_drop(tally.recall_by_intensity(None)) for name, tally in tallies.items()
    }
    worst = max(falls, key=falls.__getitem__)
    several = sum(fall > 0.01 for fall in falls.values())
    return [
        ("recall", "recall (> 5 e-) and precision (> 0 e-), ± over detectors",
         f"{recall} % and {precision} %"),
        ("ece", "expected calibration error, the largest of a detector", f"{error:.4f}"),
        ("falls", "largest fall of recall where charge grows above 20 e-, in points",
         f"{100 * falls[worst]:.2f} (detector {worst}; above 1 on {several} of {len(falls)})"),
        ("events", f"cosmic rays of more than {LEAST:g} noises without any flagged pixel",
         _of(every.events.missed, every.events.total)),
        ("cores", "unsaturated stars of any magnitude, core flagged without a CR there; "
         "those without any CR in the flagged group; those above their band's limit",
         f"{_of(every.wrong_stars, every.stars)}; {int(every.lone_stars.sum())}; "
         f"{_of(every.seen_wrong_stars, every.seen_stars)}"),
    ]  # fmt: skip


def _spread(shares: Sequence[float]) -> str:
    return f"{100 * np.nanmean(shares):.2f} ± {100 * np.nanstd(shares):.2f}"


def _of(part: Any, whole: Any) -> str:
    return f"{int(np.sum(part)):,} of {int(np.sum(whole)):,}"


def of_zoo(tallies: Mapping[str, Mapping[str, ZooTally]]) -> list[Figure]:
    """Return the look-alikes flagged per million pixels, per quality."""
    figures = []
    for quality, group in tallies.items():
        every = pooled_zoo(group.values())
        known = [k for k, name in enumerate(CLASSES) if name != NEW_HOT]
        flagged, pixels = (np.asarray(a)[known].sum() for a in (every.flagged, every.pixels))
        figures.append(
            Figure(
                f"detection/zoo/{quality}",
                DETECTION,
                f"look-alikes without a CR, {NETWORKS[quality]}: flagged per million pixels; "
                "without hot pixels that no flag names",
                f"{every.per_million:.1f}; {1e6 * flagged / pixels:.2f} "
                f"({int(flagged)} of {pixels / 1e6:.1f} million)",
            )
        )
    return figures


def of_real(name: str, networks: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Return the precision of `generic` and of deepCR's ACS/WFC network on an instrument."""
    shown = {"`fast`": "crmend generic, fast", "DeepCR": "crmend generic, reference",
             "deepCR's own ACS/WFC network": "deepCR ACS-WFC"}  # fmt: skip
    cells = [
        f"{label} " + "; ".join(_percent(networks[key][at]) for at in ("at_80", "at_90"))
        for label, key in shown.items()
        if key in networks
    ]
    return Figure(
        f"detection/real/{name}",
        DETECTION,
        f"{name}, real, pack `generic`: precision at 80 %; at 90 % recall",
        ", ".join(cells),
    )


def _percent(row: Mapping[str, float]) -> str:
    return f"{100 * row['precision']:.1f}"


# --- first round -------------------------------------------------------------------------


def of_astroscrappy(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Return ours at the operating point of a tuned astroscrappy, means over frames."""
    mean = {key: 100 * np.nanmean([row[key] for row in rows]) for key in (
        "astroscrappy_recall", "astroscrappy_precision", "precision_at_their_recall",
        "recall_at_their_precision")}  # fmt: skip
    return [
        Figure(
            "detection/astroscrappy",
            DETECTION,
            f"{len(rows)} frames beside a tuned astroscrappy (recall "
            f"{mean['astroscrappy_recall']:.1f} %, precision "
            f"{mean['astroscrappy_precision']:.1f} %): our precision at its recall; our recall "
            "at its precision",
            f"{mean['precision_at_their_recall']:.2f} %; "
            f"{mean['recall_at_their_precision']:.2f} %",
        )
    ]


def of_hits(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Return photometry of sources with a CR in their core, ours beside the 5×5 median's."""
    kinds = {"injected": "a CR of the frame put on their core, mask given",
             "natural": "a CR of the frame in their core, masks as detected"}  # fmt: skip
    figures = []
    for kind, words in kinds.items():
        for source, plural in (("star", "stars"), ("galaxy", "galaxies")):
            own = [
                r for r in rows
                if (r["kind"], r["type"]) == (kind, source) and r["core"] and r["snr"] > 20
            ]  # fmt: skip
            if len(own) < 5:
                continue
            ours, median = (
                evaluate.summary(np.array([r[name] for r in own]))
                for name in ("ours", "median")
            )
            figures.append(
                Figure(
                    f"mending/cores/{kind}/{source}",
                    MENDING,
                    f"{len(own):,} {plural} of S/N > 20, {words}: median |Δm|, scatter, bias "
                    f"[mag] ({PEER})",
                    f"{_three(ours)} ({_three(median)})",
                )
            )
    return figures


def _three(found: Mapping[str, float]) -> str:
    return f"{found['median_abs']:.3f}, {found['scatter']:.3f}, {found['bias']:+.3f}"


# --- mending -----------------------------------------------------------------------------


def of_mending(result: Mapping[str, Any]) -> list[Figure]:
    """Return what `tools/evaluate_mending.py` found on frames, without its science set."""
    figures = []
    if result.get("sources"):
        figures += [
            _ratios(result["sources"], "all", "all; stars; galaxies"),
            _ratios(result["sources"], "outside", "... hits outside the half-light radius"),
        ]
    if result.get("sigma"):
        texts = [
            "; ".join(
                "{one:.1f}, {two:.1f} %".format_map(
                    _row(result["sigma"], mask=mask, filled="any", place=place)
                )
                for place in ("sky", "all sources")
            )
            for mask in ("true", "drawn")
        ]
        figures.append(
            Figure(
                "mending/sigma",
                MENDING,
                "mended pixels within 1 and 2 of their sigma: sky; sources (masks as detected)",
                f"{texts[0]} ({texts[1]})",
            )
        )
    if result.get("sky"):
        ours, peer = (_row(result["sky"], method=name) for name in (OURS, PEER))
        figures.append(
            Figure(
                "mending/sky",
                MENDING,
                f"mended sky pixels: scatter and rms of mended − CR-free [noise] ({PEER})",
                f"{ours['scatter']:.3f}, {ours['rms']:.3f} ({peer['scatter']:.3f}, "
                f"{peer['rms']:.3f})",
            )
        )
    speed = result.get("speed") or {}
    if speed.get("cutouts"):
        seconds = speed["all"] * 5000 / speed["cutouts"]
        figures.append(Figure("cost/cutouts", COST, "5,000 cutouts mended", f"{seconds:.1f} s"))
    return figures


def _ratios(rows: Sequence[Mapping[str, Any]], where: str, words: str) -> Figure:
    own = [
        _row(rows, type=kind, where=where, mask="drawn", method=OURS)["aperture"]
        for kind in ("both", "star", "galaxy")
    ]
    return Figure(
        f"mending/ratio/{where}",
        MENDING,
        f"{own[0]['change']['n']} sources of S/N > 20 hit by a CR, masks as detected: scatter "
        f"of mended over CR-free magnitudes, {words}",
        "; ".join(f"{one['ratio']:.2f}" for one in own),
    )


def _row(rows: Iterable[Mapping[str, Any]], **wanted: str) -> Mapping[str, Any]:
    """Return the one row that has these values."""
    return next(r for r in rows if all(r[key] == value for key, value in wanted.items()))


def of_paper(bars: Sequence[Bar]) -> list[Figure]:
    """Return the bars of `tools/reproduce_paper.py`, each with its verdict."""
    return [
        Figure(
            f"paper/{bar.place}/{bar.what}",
            PAPER,
            f"{bar.place}, {bar.what} (paper: {bar.paper}; aimed at: {bar.bar}; {bar.basis})",
            f"{bar.ours}: {bar.verdict}",
        )
        for bar in bars
    ]


# --- cost --------------------------------------------------------------------------------


def of_packs(cards: Sequence[ModelCard], folder: Path) -> list[Figure]:
    """Return how far torch and onnxruntime differ at most, and the size of all packs.

    Parameters
    ----------
    cards : sequence of ModelCard
    folder : Path
        Of the packs.
    """
    worst = {kind: _disagreement(cards, kind) for kind in ("detect_fast", "detect", "inpaint")}
    changed = sum(
        card.graph(k).parity.mask_pixels_changed for card in cards for k in card.kinds
    )
    size = sum(path.stat().st_size for path in folder.rglob("*.onnx"))
    return [
        Figure(
            "cost/parity",
            COST,
            f"torch against onnxruntime, {len(cards)} packs: largest difference "
            "of probability, `fast`; DeepCR; of mended pixels, relative; mask pixels changed",
            "; ".join(f"{value:.1e}" for value in worst.values()) + f"; {changed}",
        ),
        Figure("cost/packs", COST, "all graphs", f"{size / 1e6:.0f} MB"),
    ]


def _disagreement(cards: Sequence[ModelCard], kind: str) -> float:
    own = [card.graph(kind).parity for card in cards if kind in card.kinds]
    # Of mended pixels the relative one: some hold 1e5 times the noise.
    differences = (p.max_relative_difference or p.max_abs_difference for p in own)
    return max(differences, default=math.nan)


def of_full_frame(
    shape: Sequence[int], cr_pixels: int, seconds: float, peak: float
) -> list[Figure]:
    """Return time and memory of `crmend clean` on a frame of which it changed CR pixels only.

    Parameters
    ----------
    shape : (ny, nx)
    cr_pixels : int
        Pixels of the mask.
    seconds : float
        Wall time.
    peak : float
        Memory [GiB].
    """
    size = " × ".join(map(str, shape))
    return [
        Figure(
            f"cost/frame {size}",
            COST,
            f"`crmend clean` on a frame of {size} px with {cr_pixels:,} CR pixels: wall time; "
            "peak memory; pixels that differ and are no CR; the input afterwards",
            f"{seconds:.0f} s; {peak:.2f} GiB; 0; byte-identical",
        )
    ]
