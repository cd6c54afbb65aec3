"""What is stored in graphs, and what packs say of their weights and thresholds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from crmend._cutout_network import network_inputs
from crmend._differences import relative_difference

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from crmend_training import export, networks, validate  # noqa: E402
from crmend_training._checkpoints import Weights  # noqa: E402
from crmend_training._graphs import build_graph  # noqa: E402
from crmend_training._packs import Identity  # noqa: E402


def made(config):
    """Return a network whose heads do something."""
    network = networks.build(config).eval()
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=0.05)
    return network


def test_weights_that_half_precision_holds_are_stored_so():
    """Rounded weights: half the size, and not a bit of the output changes."""
    wide = {"architecture": "unetplusplus", "filters": [16, 32]}
    wide |= dict.fromkeys(("mirror", "sigma", "profile"), True)
    rounded, plain = made(wide), made(wide)
    with torch.no_grad():
        for weights in rounded.parameters():
            weights.copy_(weights.half().float())
    sizes = []
    for one in (rounded, plain):
        graph = build_graph(one, "inpaint")
        onnx.checker.check_model(graph, full_check=True)
        sizes.append(len(graph.SerializeToString()))
        stored = {t.data_type for t in graph.graph.initializer if np.prod(t.dims) >= 64}
        assert stored == {
            onnx.TensorProto.FLOAT16 if one is rounded else onnx.TensorProto.FLOAT
        }
    assert sizes[0] < 0.65 * sizes[1]
    session = pytest.importorskip("onnxruntime").InferenceSession(
        build_graph(rounded, "inpaint").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pairs = [validate.example_cutout(np.random.default_rng(seed)) for seed in range(3)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    arrays = network_inputs(images, masks > 0, ("image", "cr_mask", "profile"))
    with torch.inference_mode():
        expected = rounded(*(torch.from_numpy(a) for a in arrays))
    names = ("image", "cr_mask", "profile")
    found = session.run(None, dict(zip(names, arrays, strict=True)))
    for one, other in zip(found, expected, strict=True):
        assert relative_difference(one, other.numpy(), arrays[1]) <= 1e-4


def test_packs_that_share_weights_name_the_first_of_them():
    names = (("generic", None), ("csst_msc", "06"), ("csst_msc", "07"), ("csst_msc", "08"))
    identities = [Identity(*name) for name in names]
    shared = Weights(Path("base.pt"), {"generic": Path("generic.pt"), "08": Path("08.pt")})
    found = [export._base_of(one, identities, shared) for one in identities]
    assert found == [None, None, "csst_msc/06", None]
    found = [export._base_of(one, identities, Weights(Path("base.pt"))) for one in identities]
    assert found == [None, "generic", "generic", "generic"]


def test_a_threshold_that_ties_with_a_pixel_is_moved(tmp_path):
    changed = Counter({0.5: 1, 0.501: 2})
    found = validate.Difference(changed=changed)
    assert validate._settle(tmp_path / "g.onnx", 0.5, found) == 0.499
    assert validate._settle(tmp_path / "g.onnx", 0.6, found) == 0.6


def test_changed_mask_pixels_without_a_way_out_are_refused(tmp_path):
    changed = Counter({round(0.5 + move, 6): 3 for move in validate.MOVES})
    message = r"3 pixels of cr_mask differ .* free of such pixels"
    with pytest.raises(validate.ParityError, match=message):
        validate._settle(tmp_path / "g.onnx", 0.5, validate.Difference(changed=changed))
