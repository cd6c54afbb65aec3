"""Scores of the benchmark: points of a detection's curve, mended sources and sky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend_training import evaluate
from crmend_training.evaluate_mending import spread_of
from crmend_training.mending_frames import (
    HitFrame,
    Mended,
    hit_table,
    score_sources,
    usable_sources,
)
from crmend_training.mending_pixels import sky_differences, sky_mask
from crmend_training.mending_summary import summarise_shapes, summarise_sources
from crmend_training.peers_frames import BenchFrame

RECALL = 0.95
"""At which precision is compared."""

FALSE_RATES = (1e-4, 5e-4, 5e-3)
"""False-positive rates at which the true-positive rate is compared."""

EDGES = np.linspace(-60.0, 17.0, 7701)
"""Thresholds of probabilities in log-odds, finer than any network needs and from 1e-26 up: some
peers give most pixels less than 1e-6 and still rank them; float32 ends at 16.6."""

SKY_VALUES = 4000
"""Mended sky pixels kept per frame, evenly chosen."""


@dataclass(frozen=True, eq=False)
class Points:
    """What a method finds at each of its thresholds or settings; arrays (n,) of pixels.

    Attributes
    ----------
    hits : array
        CR pixels > 5 e- found.
    correct, false : arrays
        Pixels found that hold a CR (> 0 e-), or none.
    bright, empty : float
        CR pixels > 5 e-; pixels without a CR.
    """

    hits: NDArray[np.float64]
    correct: NDArray[np.float64]
    false: NDArray[np.float64]
    bright: float
    empty: float

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of CR pixels > 5 e- found: the true-positive rate."""
        return self.hits / max(self.bright, 1.0)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of found pixels that hold a CR; NaN where nothing is found."""
        found = self.correct + self.false
        return np.where(found > 0, self.correct / np.maximum(found, 1.0), np.nan)

    @property
    def false_rate(self) -> NDArray[np.float64]:
        """Share of the pixels without a CR that are found."""
        return self.false / max(self.empty, 1.0)

    def precision_at_recall(self, recall: float = RECALL) -> float:
        """Return the best precision of the points with that recall; NaN = none reaches it."""
        reached = self.precision[(self.recall >= recall) & np.isfinite(self.precision)]
        return float(reached.max()) if reached.size else float("nan")

    def recall_at_false_rate(self, rate: float) -> float:
        """Return the largest recall at a false-positive rate, between points interpolated.

        The curve starts at (0, 0); beyond its last point it stays level.
        """
        order = np.lexsort((self.recall, self.false_rate))
        x = np.concatenate([[0.0], self.false_rate[order]])
        y = np.maximum.accumulate(np.concatenate([[0.0], self.recall[order]]))
        return float(np.interp(rate, x, y))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of recall and precision, 0 where nothing is found."""
        precision = np.nan_to_num(self.precision)
        return 2 * self.recall * precision / np.maximum(self.recall + precision, 1e-12)

    def best(self) -> int:
        """Return the index of the best F1."""
        return int(np.argmax(self.f1))

    def figures(self) -> dict[str, float]:
        """Return the figures of the detection table."""
        best = self.best()
        return {
            "precision_at_95": self.precision_at_recall(),
            **{f"tpr_at_{100 * r:g}": self.recall_at_false_rate(r) for r in FALSE_RATES},
            "best_f1": float(self.f1[best]),
            "recall": float(self.recall[best]),
            "precision": float(self.precision[best]),
        }

    def as_json(self) -> dict[str, Any]:
        """Return what `points_of` reads."""
        names = ("hits", "correct", "false")
        lists = {name: np.asarray(getattr(self, name), np.int64).tolist() for name in names}
        return lists | {"bright": self.bright, "empty": self.empty}


def points_of(stored: Mapping[str, Any]) -> Points:
    """Return points from JSON."""
    arrays = [np.asarray(stored[name], float) for name in ("hits", "correct", "false")]
    return Points(*arrays, stored["bright"], stored["empty"])


def pooled_points(parts: Sequence[Points]) -> Points:
    """Return the points of several frames together: the same thresholds, pixels added."""
    names = ("hits", "correct", "false", "bright", "empty")
    return Points(*(np.sum([getattr(p, name) for p in parts], axis=0) for name in names))


def probability_points(
    probability: NDArray[np.float32], cr: NDArray[np.float32], ignore: NDArray[np.bool_]
) -> Points:
    """Return the points of a network's probability, at the log-odds of `EDGES`."""
    index = np.clip(np.searchsorted(EDGES, _log_odds(probability), "right") - 1, 0, None)
    keep, crs = ~ignore, cr > evaluate.PRECISION_ABOVE
    counts = [
        np.bincount(index[keep & chosen], minlength=EDGES.size).astype(float)
        for chosen in (cr > evaluate.RECALL_ABOVE, crs, ~crs)
    ]
    above = [np.cumsum(one[::-1])[::-1] for one in counts]
    return Points(*above, float(counts[0].sum()), float(counts[2].sum()))


def _log_odds(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ln(p / (1 − p)), infinite at 0 and 1."""
    p = np.clip(probability.astype(np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def mask_points(
    masks: NDArray[np.bool_], cr: NDArray[np.float32], ignore: NDArray[np.bool_]
) -> Points:
    """Return the points of masks (n, ny, nx), one each."""
    rows = [evaluate.mask_scores(mask, cr, ignore) for mask in masks]
    hits, correct, flagged = (
        np.array([row[name] for row in rows]) for name in ("hits", "correct", "flagged")
    )
    empty = float((~ignore & (cr <= evaluate.PRECISION_ABOVE)).sum())
    return Points(hits, correct, flagged - correct, rows[0]["bright"], empty)


def found_mask(points: Points, result: NDArray, is_masks: bool) -> NDArray[np.bool_]:
    """Return the mask of a frame at its own best F1, from probability or masks."""
    best = points.best()
    if is_masks:
        return np.asarray(result[best], dtype=bool)
    if best == 0:  # the lowest holds everything, whatever its log-odds
        return np.ones(result.shape, dtype=bool)
    return np.asarray(_log_odds(result) >= EDGES[best])


# --- mending --------------------------------------------------------------------------


def score_mended(frame: BenchFrame, filled: NDArray[np.float32]) -> dict[str, Any]:
    """Return rows of `score_sources` and sky pixels of one mended frame.

    Parameters
    ----------
    frame : BenchFrame
        Simulated, with its CR-free twin.
    filled : (ny, nx) float32 array
        Mended image [e-].
    """
    hit = _needs_twin(frame)
    image = np.where(hit.true_mask, filled / np.float32(hit.electrons), hit.image)
    image = image.astype(np.float32)
    method = np.zeros(image.shape, np.uint8)
    mask = hit.true_mask
    mended = Mended(mask, {"peer": image}, np.zeros_like(image), method, mask)
    sources = usable_sources(hit)
    rows = score_sources(hit, sources, hit_table(hit, sources), {"true": mended})
    sky = sky_differences(hit, mended, sky_mask(hit))["peer"]
    kept = sky[:: max(1, -(-sky.size // SKY_VALUES))]
    return {"sources": rows, "sky": [round(float(x), 4) for x in kept]}


def _needs_twin(frame: BenchFrame) -> HitFrame:
    if frame.hit is None:
        raise ValueError(f"{frame.name} has no CR-free twin: mending cannot be scored on it")
    return frame.hit


def mended_figures(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of the mending table from `score_mended` of several frames.

    One row per place: "star", "galaxy" (all that are hit within 5 px), "star, inside" and
    "galaxy, inside" (within the half-light radius), "sky".  ``bias``, ``scatter`` and ``rms``
    are of the magnitude's change against the CR-free image, in noise units on sky; ``lost``
    counts sources whose mended flux is not positive; ``shape_bias`` and ``shape_scatter`` are
    of the added ellipticity, the larger of its two components.
    """
    rows = [row for result in results for row in result["sources"]]
    shapes = {line["type"]: line for line in summarise_shapes(rows)}
    table = []
    for line in summarise_sources(rows):
        if line["type"] == "both" or line["where"] == "outside":
            continue
        change = line["aperture"]["change"]
        place = line["type"] + (", inside" if line["where"] == "inside" else "")
        row = {"place": place} | _renamed(change)
        if line["where"] == "all" and line["type"] in shapes:
            row |= _shape_figures(shapes[line["type"]])
        table.append(row)
    sky = np.array([x for result in results for x in result["sky"]])
    return [*table, {"place": "sky"} | _renamed(spread_of(sky))]


def _renamed(spread: Mapping[str, float]) -> dict[str, float]:
    names = {"median": "bias", "error": "bias_error"}
    return {names.get(key, key): value for key, value in spread.items()}


def _shape_figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the larger |mean| and scatter of the two components of added ellipticity."""
    parts = (line["e1"], line["e2"])
    return {
        "shape_bias": max((p["mean"] for p in parts), key=abs),
        "shape_scatter": max(p["scatter"] for p in parts),
    }
