"""What crmend, deepCR's published networks and astroscrappy find in real exposures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import crmend
from crmend._limits import Limits
from crmend.models import load_card
from crmend_training import evaluate
from crmend_training.evaluate_lookalikes import QUALITY_KINDS
from crmend_training.evaluate_real import (
    RECALL,
    Instrument,
    Ranking,
    RealFrame,
    mask_row,
    rank,
)
from crmend_training.peers_worker import finders

Probability = Callable[[RealFrame, Instrument], NDArray[np.float32]]
"""A network: cr_probability of a frame."""


def crmend_probability(frame: RealFrame, quality: str = "reference") -> NDArray[np.float32]:
    """Return cr_probability of the pack ``generic``."""
    found = crmend.detect(
        frame.image,
        model="generic",
        quality=quality,
        invalid=frame.invalid,
        saturated=frame.saturated,
        star_cores=False,
    )
    return found.cr_probability


def deepcr_models() -> dict[str, Any]:
    """Return deepCR's published detection models by name."""
    models = {}
    for name in finders.DEEPCR_MODELS:
        with contextlib.suppress(FileNotFoundError):
            models[name] = finders.load_deepcr_model(name)
    return models


def deepcr_probability(
    model: Any, frame: RealFrame, scale: float = 1.0, offset: float = 0.0
) -> NDArray[np.float32]:
    """Return deepCR's probability of a whole frame, without seams.

    Parameters
    ----------
    model : deepCR.deepCR
    frame : RealFrame
    scale : float
        Electrons per unit that the model wants: 1 for HST, e-/ADU for DECam.
    offset : float
        Subtracted first [e-].
    """
    image = (frame.filled - np.float32(offset)) / np.float32(scale)
    return finders.deepcr_probability(model, image)


def networks(qualities: Sequence[str]) -> Iterator[tuple[str, Limits, Probability]]:
    """Yield (name, default thresholds, network) of every network compared."""
    card = load_card("generic")
    for quality in qualities:
        kind = QUALITY_KINDS[quality]
        if kind in card.kinds:
            limits = Limits.of_card(card.graph(kind))
            yield f"crmend generic, {quality}", limits, _Ours(quality)
    for name, model in deepcr_models().items():
        default = Limits(0.2 if name == "WFC3-UVIS" else 0.5)  # README of deepCR
        yield f"deepCR {name}", default, _Theirs(model, in_adu=name == "decam")
        if name == "ACS-WFC":
            yield f"deepCR {name}, sky subtracted", default, _Theirs(model, without_sky=True)


@dataclass(frozen=True)
class _Ours:
    quality: str

    def __call__(self, frame: RealFrame, instrument: Instrument) -> NDArray[np.float32]:
        return crmend_probability(frame, self.quality)


@dataclass(frozen=True)
class _Theirs:
    model: Any
    in_adu: bool = False
    without_sky: bool = False

    def __call__(self, frame: RealFrame, instrument: Instrument) -> NDArray[np.float32]:
        sky = float(np.median(frame.image[~frame.ignore])) if self.without_sky else 0.0
        scale = instrument.adu if self.in_adu else 1.0
        return deepcr_probability(self.model, frame, scale, sky)


def astroscrappy_rows(
    frames: Sequence[RealFrame], instrument: Instrument
) -> list[dict[str, Any]]:
    """Return the scores of every setting of astroscrappy on these very frames."""
    rows = []
    settings = evaluate.astroscrappy_grid()
    for setting in tqdm(settings, desc=f"astroscrappy, {instrument.name}", disable=None):
        masks = [
            evaluate.run_astroscrappy(
                frame.filled,
                frame.invalid | frame.saturated,
                read_noise=instrument.read_noise,
                saturation=(instrument.full - instrument.bias) * instrument.gain,
                psf_fwhm=instrument.fwhm,
                **setting,
            )
            for frame in frames
        ]
        rows.append({"setting": setting} | mask_row(frames, masks))
    return rows


@dataclass
class RealScores:
    """Scores of one instrument.

    Attributes
    ----------
    frames : list of RealFrame
    networks : dict
        Per network: figures ``at_90``, ``at_80`` and ``default`` of `Ranking`.
    astroscrappy : list of dict
        Of every setting.
    masks : dict
        Per network, its masks at 90 % recall, for pictures.
    rankings : dict
        Per network.
    """

    frames: list[RealFrame]
    networks: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    astroscrappy: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, list[NDArray[np.bool_]]] = field(default_factory=dict)
    rankings: dict[str, Ranking] = field(default_factory=dict)


def score_instrument(
    frames: list[RealFrame], instrument: Instrument, qualities: Sequence[str]
) -> RealScores:
    """Run every network and astroscrappy's grid on an instrument's frames."""
    scores = RealScores(frames)
    for name, default, run in networks(qualities):
        probabilities = [run(frame, instrument) for frame in frames]
        ranking = rank(frames, probabilities)
        at_90 = ranking.at_recall(RECALL)
        scores.rankings[name] = ranking
        scores.networks[name] = {
            "at_90": at_90,
            "at_80": ranking.at_recall(0.8),
            "default": mask_row(frames, [default.mask(p) for p in probabilities])
            | {"threshold": default.threshold},
        }
        scores.masks[name] = [p >= np.float32(at_90["threshold"]) for p in probabilities]
    scores.astroscrappy = astroscrappy_rows(frames, instrument)
    return scores
