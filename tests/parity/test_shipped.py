"""The graphs that ship do what their checkpoints do."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from crmend import models
from crmend._cutout_network import network_inputs
from crmend._differences import relative_difference
from crmend._limits import Limits
from crmend.detect import detect
from crmend.exposure import read_exposure

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from crmend_training import validate  # noqa: E402
from crmend_training._checkpoints import Weights, load_network  # noqa: E402

CHECKPOINTS = Path(__file__).resolve().parents[2] / "exported_models" / "checkpoints"


def shipped(kind, name):
    """Return the network of the checkpoint that a shipped pack's graph was made from."""
    base = {"fast": "detect_fast.pt"}.get(kind, f"{kind}_base.pt")
    own = CHECKPOINTS / kind
    weights = Weights.found(CHECKPOINTS / base, own if own.is_dir() else None)
    return load_network(weights.of(name))[0]


@pytest.mark.parametrize("quality", ["reference", "fast"])
@pytest.mark.parametrize("pack", ["csst_msc/08", "generic"])
def test_shipped_detection_equals_its_checkpoint_on_the_demo_frame(whole_frame, pack, quality):
    network = shipped("fast" if quality == "fast" else "detect", pack.split("/")[-1])
    with resources.as_file(resources.files("crmend.demo") / "csst_demo_08_L1.fits.fz") as path:
        image = read_exposure(path).image
    card = models.load_card(*pack.split("/"))
    graph = card.detect if quality == "reference" else card.detect_fast
    limits = Limits.of_card(graph)
    assert graph.views > 1
    alone = {} if graph.second_opinion is None else {"seed_threshold": graph.seed_threshold}
    for frame in (image, image[:253, :255].copy(), image[:1, :1].copy()):
        expected = whole_frame(network, frame, graph.views)
        found = detect(
            frame, model=pack, device="cpu", quality=quality, star_cores=False, **alone
        )
        assert np.abs(found.cr_probability - expected).max() <= 1e-5
        np.testing.assert_array_equal(found.cr_mask, limits.mask(expected))


def test_shipped_inpainting_equals_its_checkpoint():
    rng = np.random.default_rng(5)
    pairs = [validate.example_cutout(rng) for _ in range(9)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    model = models.load_model("csst_msc", "12", "inpaint", "cpu")
    arrays = network_inputs(images, masks > 0, model.inputs)
    with torch.inference_mode():
        outputs = shipped("inpaint", "12")(*(torch.from_numpy(array) for array in arrays))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found = model.run(*arrays)
    for one, expected in zip(found, outputs, strict=True):
        assert relative_difference(one, expected.numpy(), arrays[1]) <= 1e-4
