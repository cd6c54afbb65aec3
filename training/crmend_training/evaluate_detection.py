"""Detection scored on simulated frames that training never saw.

`score_frames` runs model packs, and a teacher beside them, over pairs of Level 1 and CR truth
and counts into a `Tally` per detector, whose methods give the figures; `evaluate_lookalikes`
and `evaluate_real` score what is no cosmic ray and real exposures, and
`tools/evaluate_detection.py` writes the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

import crmend
from crmend.exposure import Exposure, read_exposure
from crmend.models import Model
from crmend_training import calibrate, datasets, evaluate
from crmend_training.evaluate_events import EventCounts, sky_error
from crmend_training.evaluate_lookalikes import MAGNITUDES, load_detector, star_cores
from crmend_training.simulate import BANDS, DETECTOR_BANDS

PAPER_RECALL, PAPER_PRECISION = 0.9790, calibrate.PRECISION
"""Mean recall and precision of the paper (abstract and section 4.1)."""

SIGNAL_TO_NOISE = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Edges of the bins of a CR pixel's charge over the error of that pixel."""

INTENSITIES = (
    1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 45.0, 70.0, 100.0, 150.0,
    220.0, 330.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
)  # fmt: skip
"""Edges of the bins of a CR pixel's charge [e-], as in the paper's Figure 3."""

TRACK_LENGTH = 6
"""A connected group of CR pixels at least so long along one axis is a track, else a point [px].

The paper (section 1) calls point-like what "may span several pixels"; the number is assumed."""

SHAPES = ("tracks", "points")

_STARS = ("stars", "wrong_stars", "lone_stars")
STAR_COUNTS = (*_STARS, *(f"seen_{name}" for name in _STARS))
"""Names of a `Tally` for what `star_cores` counts: of all stars, of those above the limit."""

_LEAST = 300  # CR pixels of a bin that a statement is made on
_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Scene:
    """A pair in memory with what its truth says of every pixel.

    Attributes
    ----------
    exposure : Exposure
    cr : (ny, nx) float32 array
        CR truth [e-/px].
    ignore : (ny, nx) bool array
        True = invalid or saturated: takes no part, as in the runtime.
    track : (ny, nx) bool array
        True = the pixel belongs to a CR that is a track (`track_pixels`).
    catalog : Table or None
        Input sources, with ``x``, ``y`` [px], ``mag`` and ``type``.
    limit : float
        Stars fainter than this are hardly seen: 5 sigma in 150 s [mag] (`simulate.BANDS`).
    """

    exposure: Exposure
    cr: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    track: NDArray[np.bool_]
    catalog: Table | None = None
    limit: float = np.inf


def read_scene(pair: datasets.Pair) -> Scene:
    """Read a pair and its catalogue."""
    exposure = read_exposure(pair.level1)
    cr = datasets.read_truth(pair, exposure.image.shape)
    catalog = None if pair.catalog is None else Table.read(pair.catalog)
    ignore = exposure.invalid | exposure.saturated
    limit = BANDS[DETECTOR_BANDS[pair.detector]].limit
    return Scene(exposure, cr, ignore, track_pixels(cr), catalog, limit)


def track_pixels(cr: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels belong to tracks.

    Pixels above `datasets.LABEL_THRESHOLD` that touch, corners included, are one CR; it is a
    track where its bounding box is `TRACK_LENGTH` or longer.  CRs that overlap count as one.
    """
    labels, _ = ndimage.label(cr > datasets.LABEL_THRESHOLD, _EIGHT)
    boxes = ndimage.find_objects(labels)
    longest = [0, *(max(s.stop - s.start for s in box) for box in boxes)]
    return (np.array(longest, dtype=int) >= TRACK_LENGTH)[labels]


def _per_noise() -> NDArray[np.float64]:
    return np.zeros(len(SIGNAL_TO_NOISE) + 1)


def _per_charge() -> NDArray[np.float64]:
    return np.zeros((len(SHAPES), len(INTENSITIES) - 1))


def _per_magnitude() -> NDArray[np.float64]:
    return np.zeros(len(MAGNITUDES) + 1)


@dataclass
class Tally:
    """Counts of one network on one detector's frames.

    Attributes
    ----------
    frames, pixels, cr_pixels : int
        Frames; pixels that take part; those of them with a CR (> 0 e-).
    counter : evaluate.CurveCounter
        Of probabilities.
    scores : list of dict
        `evaluate.mask_scores` of each frame's mask at the card's threshold.
    bright, missed : (n,) arrays
        CR pixels > 5 e-, and those of them that the mask misses, per bin of
        `SIGNAL_TO_NOISE`.
    total, found : (2, m) arrays
        CR pixels, and those found, of `SHAPES` per bin of `INTENSITIES`.
    events : EventCounts
        Cosmic rays, and those that the mask misses altogether.
    stars, wrong_stars, lone_stars : (k,) arrays
        Unsaturated stars of the catalogue, down to its faintest, those flagged without a CR
        there, and those of them in groups without any, per bin of
        `evaluate_lookalikes.MAGNITUDES`; the first and last bin hold what lies beyond.
    seen_stars, seen_wrong_stars, seen_lone_stars : (k,) arrays
        The same of stars brighter than the limit of their band.
    """

    frames: int = 0
    pixels: int = 0
    cr_pixels: int = 0
    counter: evaluate.CurveCounter = field(default_factory=evaluate.CurveCounter)
    scores: list[dict[str, float]] = field(default_factory=list)
    bright: NDArray[np.float64] = field(default_factory=_per_noise)
    missed: NDArray[np.float64] = field(default_factory=_per_noise)
    total: NDArray[np.float64] = field(default_factory=_per_charge)
    found: NDArray[np.float64] = field(default_factory=_per_charge)
    events: EventCounts = field(default_factory=EventCounts)
    stars: NDArray[np.float64] = field(default_factory=_per_magnitude)
    wrong_stars: NDArray[np.float64] = field(default_factory=_per_magnitude)
    lone_stars: NDArray[np.float64] = field(default_factory=_per_magnitude)
    seen_stars: NDArray[np.float64] = field(default_factory=_per_magnitude)
    seen_wrong_stars: NDArray[np.float64] = field(default_factory=_per_magnitude)
    seen_lone_stars: NDArray[np.float64] = field(default_factory=_per_magnitude)

    def add(self, scene: Scene, found: crmend.Detection) -> None:
        """Count one frame."""
        keep = ~scene.ignore
        self.frames += 1
        self.pixels += int(keep.sum())
        self.cr_pixels += int((keep & (scene.cr > 0)).sum())
        self.counter.add(found.cr_probability, scene.cr, scene.ignore)
        self.scores.append(evaluate.mask_scores(found.cr_mask, scene.cr, scene.ignore))
        self._add_missed(scene, found.cr_mask)
        self._add_intensities(scene, found.cr_mask)
        self.events.add(found.cr_mask, scene.cr, scene.ignore, sky_error(scene.exposure))
        if scene.catalog is not None:
            saturated = scene.exposure.saturated
            counts = star_cores(scene.catalog, found.cr_mask, scene.cr, saturated, scene.limit)
            for name, count in zip(STAR_COUNTS, counts, strict=True):
                setattr(self, name, getattr(self, name) + count)

    def _add_missed(self, scene: Scene, mask: NDArray[np.bool_]) -> None:
        """Count CR pixels > 5 e- by their charge over the error plane."""
        error, unit = scene.exposure.error, scene.exposure.electrons_per_unit
        if error is None or unit is None:
            return
        chosen = ~scene.ignore & (scene.cr > evaluate.RECALL_ABOVE)
        bins = np.digitize(scene.cr[chosen] / (error[chosen] * unit), SIGNAL_TO_NOISE)
        count = len(SIGNAL_TO_NOISE) + 1
        self.bright += np.bincount(bins, minlength=count)
        self.missed += np.bincount(bins[~mask[chosen]], minlength=count)

    def _add_intensities(self, scene: Scene, mask: NDArray[np.bool_]) -> None:
        """Count CR pixels by charge, tracks and points apart."""
        for row, shape in enumerate((scene.track, ~scene.track)):
            chosen = ~scene.ignore & shape & (scene.cr >= INTENSITIES[0])
            self.total[row] += np.histogram(scene.cr[chosen], INTENSITIES)[0]
            self.found[row] += np.histogram(scene.cr[chosen & mask], INTENSITIES)[0]

    def row(self) -> dict[str, float]:
        """Return the figures of the detection table; shares, not percents."""
        curve = self.counter.curve()
        recall, precision = evaluate.pooled(self.scores)
        return {
            "frames": self.frames,
            "cr_share": self.cr_pixels / max(self.pixels, 1),
            "recall": recall,
            "precision": precision,
            "recall_at_precision": curve.at_precision(PAPER_PRECISION)[1],
            "precision_at_recall": curve.at_recall(PAPER_RECALL)[1],
            "calibration_error": evaluate.calibration_error(self.counter),
            "calibration_error_above": evaluate.calibration_error(self.counter, 0.05),
        }

    def recall_by_intensity(self, shape: str | None = None) -> NDArray[np.float64]:
        """Return recall per bin of `INTENSITIES`, NaN where the bin has under 300 pixels.

        Parameters
        ----------
        shape : {"tracks", "points"} or None
            None = both together.
        """
        rows = slice(None) if shape is None else [SHAPES.index(shape)]
        total, found = (counts[rows].sum(axis=0) for counts in (self.total, self.found))
        return np.where(total >= _LEAST, found / np.maximum(total, 1.0), np.nan)


def pooled_tally(tallies: Iterable[Tally]) -> Tally:
    """Return the counts of several detectors together."""
    every = list(tallies)
    pooled = Tally(counter=evaluate.pooled_counts([t.counter for t in every]))
    for tally in every:
        pooled.scores += tally.scores
        for name in (
            "frames", "pixels", "cr_pixels", "bright", "missed", "total", "found", "events",
            *STAR_COUNTS,
        ):  # fmt: skip
            setattr(pooled, name, getattr(pooled, name) + getattr(tally, name))
    return pooled


def largest_drop(
    recall: NDArray[np.float64], low: float = 20.0, high: float = INTENSITIES[-1]
) -> float:
    """Return by how much recall falls, at most, below its value at a lower charge.

    Parameters
    ----------
    recall : (m,) array
        Per bin of `INTENSITIES`; NaN is left out.
    low, high : float
        Only bins within these charges [e-].
    """
    edges = np.array(INTENSITIES)
    kept = recall[(edges[:-1] >= low) & (edges[1:] <= high) & np.isfinite(recall)]
    return float(np.max(np.maximum.accumulate(kept) - kept, initial=0.0))


# --- networks over frames ------------------------------------------------------------


@dataclass
class StratumScores:
    """What `score_frames` counts.

    Attributes
    ----------
    laws : list of str
        CR laws that the frames' headers name.
    shape : tuple of int
        (ny, nx) of the first frame.
    ours : dict
        Per quality and detector.
    beside : dict
        As `ours`, but only of the frames that the teacher saw.
    teacher : dict
        Per detector.
    notes : list of str
    """

    laws: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    ours: dict[str, dict[str, Tally]] = field(default_factory=dict)
    beside: dict[str, dict[str, Tally]] = field(default_factory=dict)
    teacher: dict[str, evaluate.CurveCounter] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run_model(model: Model, exposure: Exposure) -> crmend.Detection:
    """Return what a network finds in an exposure, at its card's threshold."""
    return crmend.detect(
        exposure.image,
        model=model,
        invalid=exposure.invalid,
        saturated=exposure.saturated,
        electrons_per_unit=exposure.electrons_per_unit,
    )


def score_frames(
    pairs: Sequence[datasets.Pair],
    qualities: Sequence[str] = ("reference",),
    *,
    threads: int | None = None,
    teacher: Path | None = None,
    teacher_frames: int = 1,
) -> StratumScores:
    """Run networks over pairs and count.

    Parameters
    ----------
    pairs : sequence of Pair
        Of one stratum.
    qualities : sequence of {"reference", "fast"}
        A pack without one is left out and noted.
    threads : int or None
        CPU threads; None = as many as this process may use.
    teacher : Path or None
        Checkpoint of a larger network, run on the first `teacher_frames` frames of each
        detector.
    """
    scores = StratumScores()
    seen: dict[str, int] = {}
    for pair in tqdm(pairs, desc="frames", disable=None):
        scene = read_scene(pair)
        name = f"{pair.detector:02d}"
        scores.shape = scores.shape or scene.cr.shape
        law = str(fits.getheader(pair.level1).get("SIMCRLAW", "unknown"))
        scores.laws = sorted({*scores.laws, law})
        into = [scores.ours]
        seen[name] = seen.get(name, 0) + 1
        if teacher is not None and seen[name] <= teacher_frames:
            into.append(scores.beside)
            counter = scores.teacher.setdefault(name, evaluate.CurveCounter())
            counter.add(teacher_probability(teacher, scene, threads), scene.cr, scene.ignore)
        _add_ours(scores, scene, name, qualities, threads, into)
    return scores


def _add_ours(
    scores: StratumScores,
    scene: Scene,
    name: str,
    qualities: Sequence[str],
    threads: int | None,
    into: Sequence[dict[str, dict[str, Tally]]],
) -> None:
    """Run each quality on one frame and count it in each of `into`."""
    for quality in qualities:
        model = load_detector(name, quality, threads)
        if model is None:
            note = f"the pack of detector {name} has no network of quality {quality}"
            scores.notes += [note] if note not in scores.notes else []
            continue
        found = run_model(model, scene.exposure)
        for tallies in into:
            tallies.setdefault(quality, {}).setdefault(name, Tally()).add(scene, found)


def teacher_probability(
    checkpoint: Path, scene: Scene, threads: int | None
) -> NDArray[np.float32]:
    """Return a checkpoint's cr_probability of a frame, through the runtime's tiling."""
    import torch

    from crmend_training import validate

    if threads is not None:
        torch.set_num_threads(threads)
    run, geometry = _teacher(checkpoint)
    image = np.where(scene.exposure.invalid, np.float32(np.nan), scene.exposure.image)
    return validate.tiled_probability(image, run, geometry, calibrate.TILE)


@cache
def _teacher(checkpoint: Path):
    """Return the runner of a checkpoint and its (halo, stride)."""
    from crmend_training import networks, validate
    from crmend_training._checkpoints import load_network

    network, config = load_network(checkpoint)
    return validate.network_runner(network), (networks.halo_of(config), network.stride)


def teacher_rows(scores: StratumScores, quality: str) -> dict[str, dict[str, float]]:
    """Return per detector our recall and the teacher's at our precision, on the same frames."""
    rows = {}
    for name, ours in scores.beside.get(quality, {}).items():
        recall, precision = evaluate.pooled(ours.scores)
        theirs = scores.teacher[name].curve().at_precision(precision)[1]
        rows[name] = {
            "frames": ours.frames,
            "precision": precision,
            "recall": recall,
            "teacher_recall": theirs,
            "gap": theirs - recall,
        }
    return rows
