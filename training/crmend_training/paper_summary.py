"""The numbers behind the paper's Figures 2 to 7 and Table 1, pooled over frames.

Every function takes the stored results of `paper_run.run` and returns rows (lists of dicts)
that become a CSV table; NaN = not measured.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend_training.evaluate import pooled
from crmend_training.evaluate_detection import INTENSITIES
from crmend_training.paper_frames import AFFECTED, CHARGES, FARTHEST, METHODS
from crmend_training.similarity import structural_similarity

Row = dict[str, Any]

KINDS = ("star", "galaxy")

RADII = (0.5, 1.0, 2.0, 3.0, FARTHEST)
"""Radii within which a CR pixel affects a source, for comparison [px]."""

LEAST_PIXELS = 30
"""A frame counts in a bin of Figure 3 if it has so many CR pixels there."""

LEAST_POOLED = 300
"""A bin of charge is judged if all frames have so many CR pixels there."""

LEAST_SOURCES = 20
"""A bin of Figure 6 is judged if it has so many sources."""

CLOSE = 1.0
"""A matched source "agrees" if it is measured within so much of the truth [mag]."""

MAGNITUDES = np.arange(14.0, 27.01, 1.0)
"""Edges of the bins of Figure 6 [mag]."""

COUNT_EDGES = np.arange(16.0, 26.51, 0.25)
"""Edges of the bins of Figure 7 [mag]."""

_RESAMPLES = 300
_CENTRAL = 2.0  # px: a CR "on the centre" in Figure 5
_DISTANCES = np.arange(0.0, 15.1, 1.5)
_ENERGIES = np.geomspace(30.0, 30_000.0, 11)


# --- detection: Figures 2, 3 and 4 -------------------------------------------------------


def by_detector(frames: Sequence[Row]) -> dict[int, list[Row]]:
    """Return the frames of each detector, in ascending order."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for frame in sorted(frames, key=lambda frame: frame["detector"]):
        groups[frame["detector"]].append(frame)
    return dict(groups)


def recall_precision(frames: Sequence[Row]) -> list[Row]:
    """Return Figure 2: quartiles over frames of recall and precision, per detector [%].

    Frames without a CR pixel > 5 e- (or without a flagged one) take no part.
    """
    rows = []
    for detector, own in by_detector(frames).items():
        row: Row = {"detector": detector, "frames": len(own)}
        for name, part, whole in (
            ("recall", "hits", "bright"),
            ("precision", "correct", "flagged"),
        ):
            counts = [(f["detection"][part], f["detection"][whole]) for f in own]
            shares = [100.0 * a / b for a, b in counts if b > 0]
            low, middle, high = quantiles(shares, (25, 50, 75))
            row |= {f"{name}_25": low, name: middle, f"{name}_75": high}
        rows.append(row)
    return rows


def over_detectors(rows: Sequence[Row], frames: Sequence[Row]) -> dict[str, float]:
    """Return mean and SD over detectors of Figure 2's medians, and the pooled shares [%]."""
    result = {}
    for name in ("recall", "precision"):
        values = np.array([row[name] for row in rows])
        values = values[np.isfinite(values)]
        result[name] = float(values.mean()) if values.size else math.nan
        result[f"{name}_sd"] = _deviation(values)
    names = ("hits", "bright", "correct", "flagged")
    counts = [{name: frame["detection"][name] for name in names} for frame in frames]
    recall, precision = pooled(counts)
    return result | {"pooled_recall": 100.0 * recall, "pooled_precision": 100.0 * precision}


def recall_by_charge(frames: Sequence[Row]) -> list[Row]:
    """Return Figure 3: per detector and bin of charge the median recall over frames [%].

    Frames with fewer than `LEAST_PIXELS` CR pixels in the bin take no part there; ``pooled``
    is that of all pixels of the detector's frames.
    """
    rows = []
    for detector, own in by_detector(frames).items():
        total, found = (
            np.array([frame["detection"][name] for frame in own], float)
            for name in ("total", "found")
        )
        for k, (low, high) in enumerate(itertools.pairwise(INTENSITIES)):
            kept = total[:, k] >= LEAST_PIXELS
            pixels = float(total[:, k].sum())
            if pixels == 0:
                continue  # charges are whole: no pixel holds 1.5 to 2 e-
            median = quantiles(100.0 * found[kept, k] / total[kept, k], (50,))[0]
            rows.append(
                {
                    "detector": detector, "from": low, "to": high, "frames": int(kept.sum()),
                    "pixels": int(pixels), "recall": median,
                    "pooled": 100.0 * float(found[:, k].sum()) / pixels,
                }
            )  # fmt: skip
    return rows


def pooled_by_charge(frames: Sequence[Row]) -> NDArray[np.float64]:
    """Return the recall of all frames together per bin of `INTENSITIES`, 0 … 1.

    NaN where they have fewer than `LEAST_POOLED` pixels.
    """
    total, found = (
        np.sum([frame["detection"][name] for frame in frames], axis=0)
        for name in ("total", "found")
    )
    return np.where(total >= LEAST_POOLED, found / np.maximum(total, 1.0), np.nan)


def charges(frames: Sequence[Row]) -> list[Row]:
    """Return Figure 4: CR pixels per bin of charge, those of tracks, and their share."""
    every, tracks = (
        np.sum([frame["charges"][name] for frame in frames], axis=0)
        for name in ("every", "tracks")
    )
    return [
        {
            "from": low, "to": high, "pixels": int(n), "of tracks": int(t),
            "share": float(t / n) if n else math.nan,
        }
        for (low, high), n, t in zip(itertools.pairwise(CHARGES), every, tracks, strict=True)
    ]  # fmt: skip


# --- Figure 5 ----------------------------------------------------------------------------


def science_cases(science: Sequence[Row]) -> list[Row]:
    """Return every case of Figure 5 with its detector."""
    return [
        {"detector": one["detector"]} | case | {"kron": _nan(case["kron"])}
        for one in science
        for case in one["cases"]
    ]


def science_table(cases: Sequence[Row]) -> list[Row]:
    """Return mean ± SD and median of Δmag per source and method: all CRs, and central ones."""
    rows = []
    sources = dict.fromkeys((case["type"], case["mag"]) for case in cases)
    methods = dict.fromkeys(case["method"] for case in cases)
    for (kind, mag), method in itertools.product(sources, methods):
        own = [c for c in cases if (c["type"], c["mag"], c["method"]) == (kind, mag, method)]
        for where, farthest in (("0–15 px", np.inf), ("0–2 px", _CENTRAL)):
            values = np.array([c["kron"] for c in own if c["distance"] < farthest])
            good = values[np.isfinite(values)]
            rows.append(
                {
                    "type": kind, "mag": mag, "method": method, "CRs": where, "n": good.size,
                    "lost": values.size - good.size,
                    "mean": float(good.mean()) if good.size else math.nan,
                    "SD": _deviation(good),
                    "median": quantiles(good, (50,))[0],
                }
            )  # fmt: skip
    return rows


def binned(x: NDArray, y: NDArray, edges: NDArray, least: int = 3) -> list[tuple[float, ...]]:
    """Return (centre, mean, SD) of y in bins of x that hold `least` finite values."""
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = y[(x >= low) & (x < high) & np.isfinite(y)]
        if inside.size >= least:
            rows.append((0.5 * (low + high), float(inside.mean()), float(inside.std())))
    return rows


def science_bins(name: str) -> NDArray[np.float64]:
    """Return the edges of the bins of Figure 5 in ``distance`` [px] or ``energy`` [e-]."""
    return {"distance": _DISTANCES, "energy": _ENERGIES}[name]


# --- sources: Figure 6, Table 1 and Figure 7 --------------------------------------------


def pool_sources(frames: Sequence[Row]) -> dict[str, NDArray]:
    """Return the recorded sources of all frames together, one array per column.

    Besides what the frames hold: ``detector`` and ``limit`` [mag] of the source's frame.
    """
    columns: dict[str, list] = defaultdict(list)
    for frame in frames:
        count = len(frame["sources"]["mag"])
        for name, values in frame["sources"].items():
            columns[name] += values if name == "type" else [_nan(v) for v in values]
        columns["detector"] += [frame["detector"]] * count
        columns["limit"] += [frame["limit"]] * count
    kinds = {"type": "U6"}
    return {name: np.array(v, dtype=kinds.get(name, float)) for name, v in columns.items()}


def affected(
    sources: dict[str, NDArray], kind: str | None = None, radius: float = AFFECTED
) -> NDArray[np.bool_]:
    """Return which sources have a true CR pixel within a radius [px], by default all types."""
    chosen = sources["distance"] <= radius
    return chosen if kind in (None, "total") else chosen & (sources["type"] == kind)


def contaminated(frames: Sequence[Row], sources: dict[str, NDArray]) -> list[Row]:
    """Return the share of sources above the limit that have a CR pixel within `RADII` [%]."""
    above = sources["mag"] < sources["limit"]
    rows = []
    for kind in KINDS:
        usable = sum(frame["usable"][kind] for frame in frames)
        for radius in RADII:
            hit = int((affected(sources, kind, radius) & above).sum())
            share = 100.0 * hit / usable if usable else math.nan
            rows.append({"type": kind, "radius": radius, "hit": hit, "of": usable, "%": share})
    return rows


def magnitude_errors(sources: dict[str, NDArray]) -> list[Row]:
    """Return Figure 6: percentiles of Δmag per type, method and bin of true magnitude."""
    rows = []
    for kind, method in itertools.product(KINDS, METHODS):
        chosen = affected(sources, kind) & np.isfinite(sources[method])
        error = sources[method] - sources["mag"]
        for low, high in itertools.pairwise(MAGNITUDES):
            own = error[chosen & (sources["mag"] >= low) & (sources["mag"] < high)]
            p5, p50, p95 = quantiles(own, (5, 50, 95))
            rows.append(
                {
                    "type": kind, "method": method, "from": low, "to": high, "n": own.size,
                    "p5": p5, "p50": p50, "p95": p95,
                }
            )  # fmt: skip
    return rows


def range_ratios(sources: dict[str, NDArray], seed: int = 0) -> list[Row]:
    """Return the bar of Figure 6: mended against CR-free, on the same sources.

    Sources brighter than their detector's limit that are found in both images.  ``ratio`` is
    that of the 5–95 % ranges, ``shift`` the difference of the medians [mag]; the errors are
    standard deviations over resampled sources.
    """
    rng = np.random.default_rng(seed)
    both = np.isfinite(sources["mended"]) & np.isfinite(sources["CR-free"])
    both &= sources["mag"] < sources["limit"]
    rows = []
    for kind in KINDS:
        chosen = affected(sources, kind) & both
        for low, high in itertools.pairwise(MAGNITUDES):
            own = chosen & (sources["mag"] >= low) & (sources["mag"] < high)
            if not own.any():
                continue
            pair = np.stack([sources[n][own] - sources["mag"][own] for n in _COMPARED])
            ratio, shift = _compare(pair)
            draws = rng.integers(pair.shape[1], size=(_RESAMPLES, pair.shape[1]))
            again = np.array([_compare(pair[:, draw]) for draw in draws])
            ratio_error, shift_error = (_deviation(values) for values in again.T)
            rows.append(
                {
                    "type": kind, "from": low, "to": high, "n": pair.shape[1],
                    "ratio": ratio, "ratio_error": ratio_error,
                    "shift": shift, "shift_error": shift_error,
                    "judged": pair.shape[1] >= LEAST_SOURCES,
                }
            )  # fmt: skip
    return rows


_COMPARED = ("mended", "CR-free")


def _compare(pair: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ratio of the 5–95 % ranges of two rows and the difference of the medians."""
    low, middle, high = np.percentile(pair, [5, 50, 95], axis=1)
    width = high - low
    ratio = float(width[0] / width[1]) if width[1] > 0 else math.nan
    return ratio, float(middle[0] - middle[1])


def detected_sources(sources: dict[str, NDArray], radius: float = AFFECTED) -> list[Row]:
    """Return Table 1: affected sources found by each method, and the gain over masking [%].

    ``… agree`` counts those measured within `CLOSE` of the truth.
    """
    rows = []
    for kind in (*KINDS, "total"):
        own = affected(sources, kind, radius)
        row: Row = {"type": kind, "sources": int(own.sum())}
        for method in METHODS:
            measured = sources[method][own]
            row[method] = int(np.isfinite(measured).sum())
            close = np.abs(measured - sources["mag"][own]) <= CLOSE
            row[f"{method} agree"] = int(close.sum())
        for name in ("", " agree"):
            masked = row[f"masked{name}"]
            gain = 100.0 * (row[f"mended{name}"] / masked - 1.0) if masked else math.nan
            row[f"gain{name} %"] = gain
        rows.append(row)
    return rows


def spurious(frames: Sequence[Row]) -> list[Row]:
    """Return detections without a source, by method: all, and those at a true CR pixel."""
    return [
        {"method": method}
        | {
            name: sum(frame["found"][method][name] for frame in frames)
            for name in ("all", "spurious", "near")
        }
        for method in METHODS
    ]


def number_counts(sources: dict[str, NDArray]) -> list[Row]:
    """Return Figure 7: shares of affected sources per bin of magnitude, true and measured.

    Sources brighter than their detector's limit; each curve sums to 1 over all magnitudes.
    """
    rows: list[Row] = [
        {"type": kind, "from": low, "to": high}
        for kind in KINDS
        for low, high in itertools.pairwise(COUNT_EDGES)
    ]
    for start, kind in zip((0, COUNT_EDGES.size - 1), KINDS, strict=True):
        own = affected(sources, kind) & (sources["mag"] < sources["limit"])
        for name in ("true", *METHODS):
            values = sources["mag" if name == "true" else name][own]
            values = values[np.isfinite(values)]
            shares = np.histogram(values, COUNT_EDGES)[0] / max(values.size, 1)
            for k, share in enumerate(shares):
                rows[start + k][name] = float(share)
    return rows


def similarities(sources: dict[str, NDArray], counts: Sequence[Row]) -> list[Row]:
    """Return the SSIM of Figure 7's curves with the true one, and the mean of the cutouts'."""
    rows = []
    for kind in KINDS:
        own = [row for row in counts if row["type"] == kind]
        true = np.array([row["true"] for row in own])
        for method in METHODS:
            curve = np.array([row[method] for row in own])
            enough = true.max() > 0 and curve.max() > 0
            index = structural_similarity(true, curve, true.max()) if enough else math.nan
            cutouts = sources.get(f"ssim {method}", np.array([]))
            cutouts = cutouts[affected(sources, kind)] if cutouts.size else cutouts
            cutouts = cutouts[np.isfinite(cutouts)]
            mean = float(cutouts.mean()) if cutouts.size else math.nan
            if method == "CR-free":
                mean = 1.0  # compared with itself
            number = int((affected(sources, kind) & (sources["mag"] < sources["limit"])).sum())
            rows.append(
                {"type": kind, "method": method, "n": number, "SSIM": index, "cutouts": mean}
            )
    return rows


def quantiles(values: Any, percents: Sequence[float]) -> list[float]:
    """Return percentiles; NaN of nothing."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return [math.nan] * len(percents)
    return [float(v) for v in np.percentile(values, percents)]


def _deviation(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.std()) if finite.size else math.nan


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
