"""Exported detection graphs copy no tensor that they only join or fold."""

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from crmend_training import networks  # noqa: E402
from crmend_training._graphs import build_graph  # noqa: E402


def trained(config: dict):
    torch.manual_seed(0)
    network = networks.build(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    network.eval()
    return network.settled() if hasattr(network, "settled") else network


def run(model, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize(
    ("width", "depth", "joins"), [(16, 1, 0), (16, 2, 0), (32, 3, 0), (8, 2, 1)]
)
def test_folded_network_without_joins_gives_the_same(width, depth, joins):
    network = trained({"architecture": "folded", "width": width, "depth": depth})
    model = build_graph(network, "detect_fast")
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Concat"] == joins  # narrow parts stay joined
    assert kinds["Unsqueeze"] == 0  # the image is not folded
    image = np.random.default_rng(1).normal(size=(3, 1, 64, 48)).astype(np.float32) * 2
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(run(model, image), expected, atol=2e-6)


def test_weights_stay_as_few_bytes():
    network = trained({"architecture": "folded", "width": 32, "depth": 2})
    model = build_graph(network, "detect_fast")
    weights = sum(weight.numel() for weight in network.parameters())
    assert len(model.SerializeToString()) < 2 * weights
