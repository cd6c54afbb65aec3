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


def load_network(checkpoint: Path) -> tuple[nn.Module, str]:
    """Return the network of a checkpoint, in evaluation mode, and its architecture."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = networks.build(saved["config"])
    network.load_state_dict(saved["state_dict"])
    return network.eval(), saved["config"]["architecture"]


def operating_points(
    checkpoint: Path, pairs: Sequence[datasets.Pair]
) -> dict[str, OperatingPoint]:
    """Return the threshold of best F1 per detector (``08``), and over all (``generic``).

    Probabilities come from the network itself, run through the runtime's tiling.
    """
    network, architecture = load_network(checkpoint)
    run = validate.network_runner(network)
    field = (networks.HALO[architecture], network.stride)
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
    return {name: best_f1(group) for name, group in counters.items()}


def best_f1(counters: Sequence[evaluate.CurveCounter]) -> OperatingPoint:
    """Return the point of best F1 (harmonic mean of recall and precision) of pooled counts."""
    pooled = evaluate.CurveCounter()
    for counter in counters:
        pooled.bright += counter.bright
        pooled.true += counter.true
        pooled.false += counter.false
    curve = pooled.curve()
    f1 = 2 * curve.recall * curve.precision / np.maximum(curve.recall + curve.precision, 1e-9)
    index = int(np.argmax(f1))
    return OperatingPoint(
        threshold=round(float(curve.threshold[index]), 4),
        recall=round(float(curve.recall[index]), 5),
        precision=round(float(curve.precision[index]), 5),
        frames=len(counters),
    )
