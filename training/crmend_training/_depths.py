"""What the card of a mending network says of it, depth by depth."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from crmend_training._graphs import CUTOUT, build_graph
from crmend_training.networks import UNetPlusPlus


def mending_metrics(network: UNetPlusPlus, info: Mapping[str, Any]) -> dict[str, float | str]:
    """Return what a card says of a mending network: its training's last check, every depth.

    The checks are `crmend_training.train_inpaint.fill_scores`; times are those of the exported
    graph of each depth for one cutout, on one thread of this machine.
    """
    names = {
        "network_bias": "flux_bias",
        "network_scatter": "flux_scatter",
        "fill_scatter": "first_fill_flux_scatter",
        "within_1": "within_1_sigma",
        "within_2": "within_2_sigma",
    }
    found: dict[str, float] = info.get("validation", {})
    metrics: dict[str, float | str] = {"test_set": "held-out frames of the data set"}
    metrics |= {new: round(found[old], 5) for old, new in names.items() if old in found}
    depths = len(network.heads)
    for depth in range(1, depths + 1):
        if f"depth_{depth}_scatter" in found:
            scatter = round(found[f"depth_{depth}_scatter"], 5)
            metrics[f"depth_{depth}_flux_scatter"] = scatter
        metrics[f"depth_{depth}_milliseconds"] = round(_milliseconds(network, depth), 2)
    return metrics | {"exported_depth": depths}


def _milliseconds(network: UNetPlusPlus, depth: int, cutouts: int = 32) -> float:
    """Return the time for one cutout of a network pruned to a depth, the best of three [ms]."""
    whole = depth == len(network.heads)
    graph = build_graph(network if whole else network.pruned(depth), "inpaint")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    shape = (cutouts, 1, CUTOUT, CUTOUT)
    feed = {one.name: np.ones(shape, dtype=np.float32) for one in session.get_inputs()}
    times = []
    for _ in range(4):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    # The first run prepares memory.
    return 1e3 * min(times[1:]) / cutouts
