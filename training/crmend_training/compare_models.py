"""Model packs beside one another on exposures with masks: before and after a fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import crmend
from crmend._limits import Limits
from crmend.models import load_card
from crmend_training import datasets
from crmend_training.evaluate_real import RECALL, Ranking, RealFrame, mask_row, rank

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Score:
    """One model on one set of exposures.

    Attributes
    ----------
    model, exposures : str
    frames, pixels, events : int
        Exposures, CR pixels and CRs (pixels that touch) of the truth, without what is unsure.
    precision_at_recall : float
        Precision at 90 % recall, of pixels.
    average_precision : float
        Area under the curve of precision against recall, of pixels.
    threshold : float
        Of the model's card; the rest is with it, and with its seed threshold.
    recall, precision, precision_loose : float
        Of pixels; the last does not count false pixels that touch a true one.
    events_found, false_groups : int
        CRs with a flagged pixel, and groups of flagged pixels that touch no CR.
    """

    model: str
    exposures: str
    frames: int
    pixels: int
    events: int
    precision_at_recall: float
    average_precision: float
    threshold: float
    recall: float
    precision: float
    precision_loose: float
    events_found: int
    false_groups: int


def read_masked(found: Iterable[datasets.Masked], reading: datasets.Reading) -> list[RealFrame]:
    """Return exposures with masks, in units of their noise."""
    frames = []
    for one in found:
        frame = datasets.load_masked(one, reading)
        frames.append(
            RealFrame(
                frame.name, frame.image, frame.image, frame.invalid, frame.saturated,
                frame.cr > 0.0, frame.ignore,
            )
        )  # fmt: skip
    return frames


def probabilities(frames: Sequence[RealFrame], model: str) -> list[NDArray[np.float32]]:
    """Return cr_probability of each exposure by a model pack."""
    return [
        crmend.detect(
            frame.image,
            model=model,
            invalid=frame.invalid,
            saturated=frame.saturated,
            star_cores=False,
        ).cr_probability
        for frame in frames
    ]


def limits_of(model: str) -> Limits:
    """Return the thresholds that a pack's card has for its default network."""
    pack, _, detector = model.partition("/")
    return Limits.of_card(load_card(pack, detector or None).finder)


def score(
    exposures: str,
    frames: Sequence[RealFrame],
    model: str,
    found: Sequence[NDArray[np.float32]],
) -> Score:
    """Score a model's probabilities.

    Raises
    ------
    ValueError
        No cosmic ray of the masks is on a pixel that takes part.
    """
    ranking = rank(frames, found)
    if ranking.truth == 0:
        raise ValueError(
            f"{exposures}: the masks of {len(frames)} exposure(s) hold no cosmic ray on a "
            "pixel that takes part; expected at least one"
        )
    limits = limits_of(model)
    masks = [limits.mask(p) for p in found]
    at = mask_row(frames, masks)
    groups = [_groups(f, mask) for f, mask in zip(frames, masks, strict=True)]
    events, hit, false = np.sum(groups, axis=0)
    return Score(
        model, exposures, len(frames), ranking.truth, int(events),
        ranking.at_recall(RECALL)["precision"], average_precision(ranking), limits.threshold,
        at["recall"], at["precision"], at["precision_loose"], int(hit), int(false),
    )  # fmt: skip


def average_precision(ranking: Ranking) -> float:
    """Return the sum of precision × step in recall, over all thresholds."""
    precision = ranking.hits / np.maximum(ranking.hits + ranking.alarms, 1)
    steps = np.diff(ranking.hits, prepend=0) / max(ranking.truth, 1)
    return float((precision * steps).sum())


def _groups(frame: RealFrame, mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return CRs, CRs with a flagged pixel, and flagged groups that touch no CR."""
    truth, flagged = frame.truth & ~frame.ignore, mask & ~frame.ignore
    events, count = ndimage.label(truth, _EIGHT)
    groups, flagged_count = ndimage.label(flagged, _EIGHT)
    # Truth that does not take part makes no group beside it a false one.
    near = ndimage.binary_dilation(frame.truth, _EIGHT)
    true_groups = len(set(groups[near].tolist()) - {0})
    return count, len(set(events[flagged].tolist()) - {0}), flagged_count - true_groups
