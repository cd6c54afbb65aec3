"""What cards say that their figures were measured on."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from crmend._cards import CurvePoint
from crmend_training import export
from crmend_training._checkpoints import Weights
from crmend_training.calibrate import OperatingPoint

POINT = OperatingPoint(0.5, 0.98, 0.99, 1e-3, 4, (CurvePoint(0.5, 0.98, 0.99),), 0.7)


def sets_of(names, own=()):
    weights = Weights(Path("base.pt"), {name: Path(f"{name}.pt") for name in own})
    found = export.choices_of(dict.fromkeys(names, POINT), weights)
    return {name: choice.metrics["test_set"] for name, choice in found.items()}


def test_detectors_that_share_weights_say_that_they_chose_the_threshold_together():
    said = sets_of(["generic", "06", "07", "08"], own=["08"])
    assert "all detectors chose the threshold together" in said["06"]
    assert said["06"] == said["07"]
    # Their own weights, and those of any camera, have frames of their own.
    alone = "validation frames that chose the threshold, no training"
    assert (said["08"], said["generic"]) == (alone, alone)


def test_one_detector_alone_shares_with_none():
    assert "together" not in sets_of(["generic", "08"])["08"]


def test_measured_truth_knows_no_charge():
    figures = export.choice_of(POINT, masked=True).metrics
    assert figures["test_set"].startswith("exposures with masks")
    assert (figures["recall"], figures["precision"], figures["frames"]) == (0.98, 0.99, 4)
    figures = export.choice_of(POINT).metrics
    assert (figures["recall_above_5e"], figures["precision_above_0e"]) == (0.98, 0.99)
