"""Scores of detection and inpainting on exposures whose truth is known.

Everything here works on arrays; `tools/evaluate_first_round.py` runs it on frames that
training never saw and writes the report.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

from crmend._limits import Limits
from crmend_training.datasets import LABEL_THRESHOLD
from crmend_training.peers_worker.fillers import masked_median
from crmend_training.peers_worker.finders import run_astroscrappy

__all__ = [
    "PRECISION_ABOVE", "RECALL_ABOVE", "Curve", "CurveCounter", "GroupCounter",
    "aperture_magnitudes", "aperture_sum", "astroscrappy_grid", "calibration_error",
    "hit_sources", "mask_scores", "masked_median", "pooled", "pooled_counts", "pooled_curve",
    "pooled_groups", "recall_above", "reliability", "run_astroscrappy", "summary",
]  # fmt: skip

RECALL_ABOVE = 5.0
"""Recall counts CR pixels above this charge [e-] (paper, section 4.1: the read noise)."""

PRECISION_ABOVE = 0.0
"""Precision counts any pixel above this charge [e-] as true (paper, section 4.1)."""

_BINS = 4000


@dataclass(frozen=True)
class Curve:
    """Recall and precision as functions of the threshold (ascending)."""

    threshold: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]

    def at_threshold(self, threshold: float) -> tuple[float, float]:
        """Return (recall, precision) at the nearest tabulated threshold."""
        index = int(np.argmin(np.abs(self.threshold - threshold)))
        return float(self.recall[index]), float(self.precision[index])

    def at_recall(self, recall: float) -> tuple[float, float]:
        """Return (threshold, precision) of the highest threshold with that recall."""
        index = np.flatnonzero(self.recall >= recall)
        if index.size == 0:
            return float("nan"), float("nan")
        return float(self.threshold[index[-1]]), float(self.precision[index[-1]])

    def at_precision(self, precision: float) -> tuple[float, float]:
        """Return (threshold, recall) of the lowest threshold with that precision."""
        index = np.flatnonzero(self.precision >= precision)
        if index.size == 0:
            return float("nan"), float("nan")
        return float(self.threshold[index[0]]), float(self.recall[index[0]])


class CurveCounter:
    """Counts probabilities of true and false pixels over many frames."""

    def __init__(self) -> None:
        # Logit bins resolve both ends of the probability.
        self.edges = np.linspace(-14.0, 14.0, _BINS + 1)
        self.bright, self.true, self.false = (np.zeros(_BINS) for _ in range(3))
        self.labelled = np.zeros(_BINS)

    def add(
        self,
        probability: NDArray,
        cr: NDArray,
        ignore: NDArray,
        label: float = LABEL_THRESHOLD,
    ) -> None:
        """Add one frame.

        Parameters
        ----------
        probability, cr, ignore : (ny, nx) arrays
            Of a CR; truth [e-/px]; True = leave the pixel out.
        label : float
            Charge above which the network was taught to see a CR [e-], see `recall_above`.
        """
        above = recall_above(label)
        p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
        index = np.searchsorted(self.edges, np.log(p / (1 - p))) - 1
        index = np.clip(index, 0, _BINS - 1)
        keep = ~ignore
        for counts, chosen in (
            (self.bright, keep & (cr > above)),
            (self.true, keep & (cr > PRECISION_ABOVE)),
            (self.false, keep & (cr <= PRECISION_ABOVE)),
            (self.labelled, keep & (cr > label)),
        ):
            counts += np.bincount(index[chosen], minlength=_BINS)

    def curve(self) -> Curve:
        """Return recall and precision at every bin's lower edge."""
        above = [np.cumsum(c[::-1])[::-1] for c in (self.bright, self.true, self.false)]
        flagged = np.maximum(above[1] + above[2], 1.0)
        threshold = 1.0 / (1.0 + np.exp(-self.edges[:-1]))
        return Curve(threshold, above[0] / max(self.bright.sum(), 1.0), above[1] / flagged)


class GroupCounter:
    """Pixels of many frames that may be flagged, to count what a seed threshold gives."""

    LEAST = 0.02
    """Smallest probability that is kept."""

    def __init__(self) -> None:
        self._frames: list[tuple[tuple[int, ...], NDArray, NDArray, NDArray, NDArray]] = []
        self._bright = 0

    def add(
        self, probability: NDArray, cr: NDArray, ignore: NDArray, above: float = RECALL_ABOVE
    ) -> None:
        """Add one frame, as to a `CurveCounter`; recall is of pixels above a charge [e-]."""
        bright = ~ignore & (cr > above)
        self._bright += int(bright.sum())
        kept = np.flatnonzero(~ignore & (probability >= self.LEAST))
        columns = (plane.ravel()[kept] for plane in (probability, bright, cr > PRECISION_ABOVE))
        self._frames.append((probability.shape, kept, *columns))

    def scores(
        self, threshold: float, seeds: Sequence[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return recall and precision per seed threshold, at a threshold of all pixels.

        Raises
        ------
        ValueError
            The threshold is below `LEAST`.
        """
        if threshold < self.LEAST:
            raise ValueError(f"threshold is {threshold}; expected at least {self.LEAST}")
        counts = np.zeros((3, len(seeds)))
        for shape, kept, probability, bright, true in self._frames:
            plane = np.zeros(shape, np.float32)
            plane.flat[kept] = probability
            for column, seed in enumerate(seeds):
                stays = Limits(threshold, seed).mask(plane).flat[kept]
                counts[:, column] += bright[stays].sum(), true[stays].sum(), stays.sum()
        return counts[0] / max(self._bright, 1), counts[1] / np.maximum(counts[2], 1.0)


def recall_above(label: float = LABEL_THRESHOLD) -> float:
    """Return the charge above which CR pixels count for recall [e-].

    Where a network was taught to see CRs above more than the usual charge (other instruments),
    it is twice that.
    """
    return RECALL_ABOVE if label <= LABEL_THRESHOLD else max(RECALL_ABOVE, 2.0 * label)


def pooled_groups(counters: Sequence[GroupCounter]) -> GroupCounter:
    """Return the pixels of several frames together."""
    pooled = GroupCounter()
    for counter in counters:
        pooled._frames += counter._frames
        pooled._bright += counter._bright
    return pooled


def pooled_counts(counters: Sequence[CurveCounter]) -> CurveCounter:
    """Return the counts of several frames together."""
    pooled = CurveCounter()
    for counter in counters:
        pooled.bright += counter.bright
        pooled.true += counter.true
        pooled.false += counter.false
        pooled.labelled += counter.labelled
    return pooled


def pooled_curve(counters: Sequence[CurveCounter]) -> Curve:
    """Return the curve of several frames' counts together."""
    return pooled_counts(counters).curve()


def reliability(
    counter: CurveCounter, bins: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels, mean probability and share of CR pixels (> 1 e-) per probability bin."""
    centre = 1.0 / (1.0 + np.exp(-0.5 * (counter.edges[1:] + counter.edges[:-1])))
    pixels = counter.true + counter.false
    index = np.minimum((centre * bins).astype(int), bins - 1)
    total, predicted, found = (
        np.bincount(index, values, minlength=bins)
        for values in (pixels, pixels * centre, counter.labelled)
    )
    each = np.maximum(total, 1.0)
    return total, predicted / each, found / each


def calibration_error(counter: CurveCounter, least: float = 0.0) -> float:
    """Return the expected calibration error: mean |probability − share| over the pixels.

    Parameters
    ----------
    counter : CurveCounter
    least : float
        Leave out bins of `reliability` below this probability: most pixels are plain sky,
        and their probability is near zero.
    """
    total, predicted, found = reliability(counter)
    kept = np.arange(total.size) >= round(least * total.size)
    gaps = total * np.abs(predicted - found)
    return float(gaps[kept].sum() / max(total[kept].sum(), 1.0))


def mask_scores(found: NDArray, cr: NDArray, ignore: NDArray) -> dict[str, float]:
    """Return recall (> 5 e-), precision (> 0 e-) and counts of one mask."""
    found, keep = found & ~ignore, ~ignore
    bright, true = keep & (cr > RECALL_ABOVE), cr > PRECISION_ABOVE
    return {
        "hits": float((found & bright).sum()),
        "bright": float(bright.sum()),
        "correct": float((found & true).sum()),
        "flagged": float(found.sum()),
    }


def pooled(rows: list[dict[str, float]]) -> tuple[float, float]:
    """Return (recall, precision) of several frames' `mask_scores` together."""
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    return total["hits"] / max(total["bright"], 1), total["correct"] / max(total["flagged"], 1)


# --- astroscrappy, tuned ------------------------------------------------------------


def astroscrappy_grid() -> list[dict[str, float]]:
    """Return the settings over which astroscrappy is tuned."""
    return [
        {"sigclip": sigclip, "sigfrac": sigfrac, "objlim": objlim}
        for sigclip, sigfrac, objlim in itertools.product(
            (3.0, 4.5, 6.0, 9.0), (0.1, 0.3, 0.5), (0.5, 2.0, 5.0)
        )
    ]


# --- photometry ---------------------------------------------------------------------


def aperture_magnitudes(
    image: NDArray[np.float32], background: float, x: NDArray, y: NDArray, radius: float = 5.0
) -> NDArray[np.float64]:
    """Return −2.5 log10 of the flux within a circle; NaN where it is not positive."""
    data = np.ascontiguousarray(np.nan_to_num(image), dtype=np.float32)
    flux, _, _ = sep.sum_circle(data - np.float32(background), x, y, radius, subpix=5)
    with np.errstate(invalid="ignore", divide="ignore"):
        return -2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def aperture_sum(image: NDArray, x: NDArray, y: NDArray, radius: float = 5.0) -> NDArray:
    """Return the sum of an image over a circle around each position."""
    total, _, _ = sep.sum_circle(image.astype(np.float32), x, y, radius, subpix=5)
    return np.asarray(total)


def hit_sources(
    cr_mask: NDArray[np.bool_], x: NDArray, y: NDArray, radius: float = 5.0
) -> NDArray[np.bool_]:
    """Return which sources have a CR pixel within the circle."""
    return aperture_sum(cr_mask, x, y, radius) > 0.5


def summary(differences: NDArray[np.float64]) -> dict[str, float]:
    """Return the median of |Δm|, the bias (median Δm) and half the 16–84 % range."""
    values = differences[np.isfinite(differences)]
    if values.size == 0:
        return {"n": 0, "median_abs": np.nan, "bias": np.nan, "scatter": np.nan}
    low, middle, high = np.percentile(values, [16, 50, 84])
    return {
        "n": int(values.size),
        "median_abs": float(np.median(np.abs(values))),
        "bias": float(middle),
        "scatter": float(high - low) / 2,
    }
