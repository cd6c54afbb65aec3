"""Choose detection thresholds on validation frames, and record what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from crmend.exposure import read_exposure
from crmend_training import datasets, evaluate, networks, validate

TILE = 256


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, with recall (> 5 e-) and precision (> 0 e-) at it.

    Attributes
    ----------
    frames : int
        Validation frames that it was chosen on.
    """

    threshold: float
    recall: float
    precision: float
    frames: int


def load_network(checkpoint: Path) -> tuple[nn.Module, int]:
    """Return the network of a checkpoint, in evaluation mode, and its halo [px]."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = networks.build(saved["config"])
    network.load_state_dict(saved["state_dict"])
    return network.eval(), networks.halo_of(saved["config"])


def operating_points(
    checkpoint: Path, pairs: Sequence[datasets.Pair]
) -> dict[str, OperatingPoint]:
    """Return the threshold of best F1 over all frames, and what it gives per detector.

    Detectors that share weights share the threshold: one frame each would fit its own sky
    and CR rate rather than the detector.  Keys are ``08`` and so on, and ``generic`` for all
    frames together.  Probabilities come from the network itself, run through the runtime's
    tiling.
    """
    network, halo = load_network(checkpoint)
    run = validate.network_runner(network)
    field = (halo, network.stride)
    counters: dict[str, list[evaluate.CurveCounter]] = {"generic": []}
    for pair in pairs:
        exposure = read_exposure(pair.level1)
        image = np.where(exposure.invalid, np.float32(np.nan), exposure.image)
        probability = validate.tiled_probability(image, run, field, TILE)
        counter = evaluate.CurveCounter()
        ignore = exposure.invalid | exposure.saturated
        counter.add(probability, datasets.read_image(pair.truth), ignore)
        name = f"{int(exposure.detector or 0):02d}"
        counters.setdefault(name, []).append(counter)
        counters["generic"].append(counter)
    threshold = best_f1(evaluate.pooled_curve(counters["generic"]))
    return {name: _point(group, threshold) for name, group in counters.items()}


def best_f1(curve: evaluate.Curve) -> float:
    """Return the threshold of best F1, the harmonic mean of recall and precision."""
    f1 = 2 * curve.recall * curve.precision / np.maximum(curve.recall + curve.precision, 1e-9)
    return round(float(curve.threshold[int(np.argmax(f1))]), 3)


def _point(counters: Sequence[evaluate.CurveCounter], threshold: float) -> OperatingPoint:
    recall, precision = evaluate.pooled_curve(counters).at_threshold(threshold)
    return OperatingPoint(threshold, round(recall, 5), round(precision, 5), len(counters))
