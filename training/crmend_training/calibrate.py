"""Choose detection thresholds on validation frames, and record what they give."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crmend._cards import CurvePoint
from crmend._views import RunGraph, in_views
from crmend.exposure import read_exposure
from crmend_training import datasets, evaluate, networks, validate
from crmend_training._checkpoints import Weights, load_network
from crmend_training._results import whole_file
from crmend_training.datasets.mask_places import LEAST_SHARE, doubtful_share

TILE = 256

PRECISION = 0.9867
"""Precision (> 0 e-) that thresholds aim at: the paper's operating point (section 4.1)."""

LOST_RECALL = 0.1
"""Where `PRECISION` costs more recall than this against the best F1, that is taken instead:
other instruments may have too few CRs, or too many look-alikes, for it.  It is also taken
where truth is measured: that ends where a comparison sees no more, so faint rims count as
false, and a precision like the paper's would cost whole cosmic rays."""

F1_SLACK = 0.0001
"""An F1 within this of the best is as good: the lowest such threshold is taken, since a CR
pixel missed costs more than a good one mended."""

MEASURED_SLACK = 0.002
"""Where truth is measured, an F1 within this of the best is as good, and the middle of such
thresholds is taken: what counts as false there is mostly rims, F1 is flat, and its ends move
with the frames (0.34 to 0.51 for three networks that hardly differ)."""

SEEDS = tuple(round(0.05 * n, 2) for n in range(11, 20))
"""Seed thresholds that are tried."""

LOST_TO_SEED = 0.0003
"""Recall that a seed threshold may cost.  Higher ones would spare more stars and hot pixels,
but drop whole faint tracks too, which then pass for sources."""

CURVE_LOGITS = np.linspace(-7.0, 7.0, 29)
"""Log-odds of the thresholds that a card's curve holds."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it gives on validation frames.

    Attributes
    ----------
    threshold, recall, precision : float
        Recall of CR pixels > 5 e- (but see `evaluate.recall_above`), precision counting
        > 0 e- as true; both with the seed threshold.
    calibration_error : float
        Expected calibration error of the probability that a pixel holds more than 1 e-,
        over all pixels (`evaluate.calibration_error`).
    frames : int
        Validation frames that the figures and the curve are of; where detectors share weights,
        those of all of them chose the threshold (`operating_points`).
    curve : tuple of CurvePoint
        For the card.
    seed_threshold : float or None
        Smallest probability of the best pixel of a group (`crmend.detect`).
    views : int
        How often the network saw the frames, and will see others.
    weights : str
        Of which checkpoint (`Weights.digest_of`); empty = not known.
    """

    threshold: float
    recall: float
    precision: float
    calibration_error: float
    frames: int
    curve: tuple[CurvePoint, ...] = ()
    seed_threshold: float | None = None
    views: int = 1
    weights: str = ""


class _Counts:
    """What one frame adds to curves, and to the choice of a seed threshold."""

    def __init__(self, frame: ValidationFrame, probability: NDArray[np.float32]) -> None:
        self.curve, self.groups = evaluate.CurveCounter(), evaluate.GroupCounter()
        self.measured, self.doubtful = frame.measured, frame.doubtful
        self.curve.add(probability, frame.cr, frame.ignore, frame.label)
        above = evaluate.recall_above(frame.label)
        self.groups.add(probability, frame.cr, frame.ignore, above)


@dataclass(frozen=True)
class ValidationFrame:
    """A frame with its truth: (ny, nx) image (NaN where invalid), CR charge [e-], ignore.

    `label` is the charge above which a pixel counts as a CR for the network [e-]; `measured`
    says that the truth is a comparison's, real or simulated, instead of all charge; `doubtful`
    is the share of the truth's groups that stand out of the image, None = as many as should
    (`datasets.mask_places`).
    """

    name: str
    image: NDArray[np.float32]
    cr: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    label: float = datasets.LABEL_THRESHOLD
    measured: bool = False
    doubtful: float | None = None


def read_frames(pairs: Sequence[datasets.Pair]) -> Iterator[ValidationFrame]:
    """Yield pairs on disk; their name is their detector's, such as ``08``."""
    for pair in pairs:
        exposure = read_exposure(pair.level1)
        image = np.where(exposure.invalid, np.float32(np.nan), exposure.image)
        ignore = exposure.invalid | exposure.saturated
        cr = datasets.read_truth(pair, image.shape)
        name = f"{pair.detector:02d}"
        seen = datasets.make_frame(image, exposure.invalid, exposure.saturated, cr, name)
        doubtful = doubtful_share(seen.image, (cr > datasets.LABEL_THRESHOLD) & ~ignore)
        yield ValidationFrame(name, image, cr, ignore, doubtful=doubtful)


def generic_frames(
    seeds: Iterable[int],
    shape: tuple[int, int],
    label_sigma: float = 0.0,
    *,
    measured: bool = False,
    tight: bool = False,
    unusual: float = 0.0,
    kinds: Sequence[str] | None = None,
) -> Iterator[ValidationFrame]:
    """Yield simulated frames of other instruments; their name is ``generic``.

    The arguments are those of `datasets.generic_frame`.
    """
    for seed in seeds:
        frame = datasets.generic_frame(
            seed, shape, label_sigma,
            measured=measured, tight=tight, unusual=unusual, kinds=kinds,
        )  # fmt: skip
        image = np.where(frame.invalid, np.float32(np.nan), frame.image)
        yield ValidationFrame("generic", image, frame.cr, frame.ignore, frame.label, measured)


def masked_frames(
    found: Iterable[datasets.Masked], reading: datasets.Reading
) -> Iterator[ValidationFrame]:
    """Yield exposures of any instrument with masks; their name is ``generic``."""
    for one in found:
        frame = datasets.load_masked(one, reading)
        image = np.where(frame.invalid, np.float32(np.nan), frame.image)
        doubtful = doubtful_share(frame.image, (frame.cr > 0.0) & ~frame.ignore)
        yield ValidationFrame(
            "generic", image, frame.cr, frame.ignore, frame.label, True, doubtful
        )


def operating_points(
    weights: Weights, frames: Iterable[ValidationFrame], views: int = 1
) -> dict[str, OperatingPoint]:
    """Return the operating point of ``generic`` and of every detector that has frames.

    The threshold is the lowest with a precision of `PRECISION` (but see `LOST_RECALL`), or
    that of the best F1, if that is higher or truth is measured: what a network is better than
    asked for goes to both.  The seed threshold is the highest of `SEEDS` that costs no more
    recall than `LOST_TO_SEED`.  A detector with weights of its own gets thresholds of its own;
    the others share those of all their frames together, since few frames would fit their own
    skies and CR rates rather than the detector.  Frames named ``generic`` choose for the base
    weights; without any, all frames do.  Probabilities come from the network itself, run
    through the runtime's tiling in so many `views` (`crmend.detect`).

    Raises
    ------
    ValueError
        The frames hold no cosmic ray, or the truth of most does not lie on them.
    """
    counters: dict[str, list[_Counts]] = {}
    runs: dict[Path, tuple[RunGraph, tuple[int, int]]] = {}
    for frame in frames:
        checkpoint = weights.of(frame.name)
        if checkpoint not in runs:
            network, config = load_network(checkpoint)
            field = (networks.halo_of(config), network.stride)
            runs[checkpoint] = in_views(validate.network_runner(network), views), field
        probability = validate.tiled_probability(frame.image, *runs[checkpoint], TILE)
        counters.setdefault(frame.name, []).append(_Counts(frame, probability))
    shared = [c for name, group in counters.items() if name not in weights.own for c in group]
    counters.setdefault("generic", shared or [c for group in counters.values() for c in group])
    detectors = [
        c for name, group in counters.items()
        if name not in weights.own and name != "generic" for c in group
    ]  # fmt: skip
    return {
        name: dataclasses.replace(
            _point(group, group if name in weights.own or name == "generic" else detectors),
            views=views,
            weights=weights.digest_of(name),
        )
        for name, group in counters.items()
    }


def _point(counters: Sequence[_Counts], choosing: Sequence[_Counts]) -> OperatingPoint:
    """Return what the thresholds of the `choosing` frames give on those of the counters."""
    own = evaluate.pooled_counts([one.curve for one in counters])
    curve = own.curve()
    every = evaluate.pooled_counts([one.curve for one in choosing])
    if not every.bright.any():
        raise ValueError(
            f"the {len(choosing)} frames that choose a threshold hold no cosmic ray bright "
            "enough on a pixel that takes part; expected some: look at the masks, or give "
            "other frames"
        )
    _check_places(choosing)
    chosen = every.curve()
    threshold, recall = chosen.at_precision(PRECISION)
    balanced = best_f1(chosen)
    least = chosen.at_threshold(balanced)[0] - LOST_RECALL
    if any(one.measured for one in choosing):
        threshold = middle_of_best(chosen, MEASURED_SLACK)
    elif threshold < balanced or not recall > least:
        threshold = balanced
    threshold = round(float(np.clip(threshold, evaluate.GroupCounter.LEAST, 0.999)), 3)
    seed = choose_seed(evaluate.pooled_groups([one.groups for one in choosing]), threshold)
    groups = evaluate.pooled_groups([one.groups for one in counters])
    (recall,), (precision,) = groups.scores(threshold, [threshold if seed is None else seed])
    points = []
    for limit in 1.0 / (1.0 + np.exp(-CURVE_LOGITS)):
        values = (float(limit), *curve.at_threshold(float(limit)))
        points.append(CurvePoint(*(round(value, 5) for value in values)))
    return OperatingPoint(
        threshold, round(float(recall), 5), round(float(precision), 5),
        round(evaluate.calibration_error(own), 6), len(counters), tuple(points), seed,
    )  # fmt: skip


def _check_places(counters: Sequence[_Counts]) -> None:
    """Refuse frames of which most have truth that does not stand out of the image."""
    shares = [one.doubtful for one in counters if one.doubtful is not None]
    if 2 * len(shares) > len(counters):
        raise ValueError(
            f"on {len(shares)} of the {len(counters)} frames that choose a threshold the truth "
            f"marks groups of pixels of which {np.median(shares):.0%} stand out of the image; "
            f"expected {LEAST_SHARE:.0%} or more: is it flipped, shifted, or of other "
            "exposures? Give the truth of these, as they are oriented"
        )


def choose_seed(groups: evaluate.GroupCounter, threshold: float) -> float | None:
    """Return the highest of `SEEDS` that costs little recall; None = there is none."""
    seeds = [seed for seed in SEEDS if seed > threshold]
    recall, _ = groups.scores(threshold, [threshold, *seeds])
    kept = [s for s, r in zip(seeds, recall[1:], strict=True) if r >= recall[0] - LOST_TO_SEED]
    return max(kept, default=None)


def save(points: Mapping[str, Mapping[str, OperatingPoint]], path: Path) -> None:
    """Write operating points, by kind of graph and detector, as JSON."""
    content = {
        kind: {name: dataclasses.asdict(point) for name, point in group.items()}
        for kind, group in points.items()
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> dict[str, dict[str, OperatingPoint]]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        The file holds something else.
    """
    try:
        return {
            kind: {
                name: OperatingPoint(
                    **{**point, "curve": tuple(CurvePoint(**row) for row in point["curve"])}
                )
                for name, point in group.items()
            }
            for kind, group in json.loads(path.read_text()).items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not what `crmend-train calibrate` writes ({error}); make it anew"
        ) from error


def best_f1(curve: evaluate.Curve) -> float:
    """Return the lowest threshold of best F1, the harmonic mean of recall and precision."""
    return round(float(_as_good(curve, F1_SLACK)[0]), 3)


def middle_of_best(curve: evaluate.Curve, slack: float) -> float:
    """Return the middle in log-odds of thresholds whose F1 is within `slack` of the best."""
    ends = np.clip(_as_good(curve, slack)[[0, -1]], 1e-6, 1.0 - 1e-6)
    odds = np.sqrt(np.prod(ends / (1.0 - ends)))
    return round(float(odds / (1.0 + odds)), 3)


def _as_good(curve: evaluate.Curve, slack: float) -> NDArray[np.float64]:
    """Return the thresholds whose F1 is within `slack` of the best, from the lowest."""
    f1 = 2 * curve.recall * curve.precision / np.maximum(curve.recall + curve.precision, 1e-9)
    return curve.threshold[f1 >= f1.max() - slack]
