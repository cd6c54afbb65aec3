"""Exported graphs against the torch networks they come from."""

import itertools
import json
import os
import re

import numpy as np
import pytest

from crmend import models
from crmend._background import measure_background
from crmend._cards import CurvePoint
from crmend._cutout_network import network_inputs
from crmend._gaps import median_fill
from crmend._kernels import MIN_GOOD
from crmend._normalise import measure_scale
from crmend.detect import detect
from crmend.inpaint import inpaint
from crmend.sources import SourceCatalog

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("deepCR")

from crmend_training import export, networks, train_inpaint, validate  # noqa: E402
from crmend_training._checkpoints import Weights  # noqa: E402
from crmend_training._graphs import build_graph, without_weight_norm  # noqa: E402

DETECT = {"architecture": "deepcr", "hidden": 4}
FOLDED = {"architecture": "folded", "width": 4, "depth": 2}
INPAINT = {"architecture": "unetplusplus", "filters": [4, 8]} | dict.fromkeys(
    ("mirror", "sigma", "profile"), True
)
CONFIGS = {"detect": DETECT, "detect_fast": FOLDED, "inpaint": INPAINT}
CURVE = (CurvePoint(0.25, 0.9, 0.8), CurvePoint(0.5, 0.8, 0.9), CurvePoint(0.75, 0.6, 0.98))
CHOICES = {
    "detect": {"generic": export.Choice(0.5)},
    "detect_fast": {"generic": export.Choice(0.5)},
    "inpaint": {"generic": export.Choice()},
}
TRAINING = {"recipe": "none", "commit": "none", "date": "2025-01-01"}
SIZES = ((1, 1), (1, 37), (253, 255))


@pytest.fixture(autouse=True)
def few_threads():
    """Leave the other cores alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network():
    """Return a function: an untrained network of a configuration, livelier than the start."""

    def make(config):
        torch.manual_seed(11)
        made = networks.build(config).eval()
        with torch.no_grad():
            for name, weights in made.named_parameters():
                if "heads" in name:
                    weights.normal_(std=0.05)  # the head's sinh is steep
        return made

    return make


@pytest.fixture(scope="session")
def checkpoints(network, tmp_path_factory):
    """Return checkpoints of every kind as the trainings save them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, config in CONFIGS.items():
        state = network(config).state_dict()
        checked = {"network_scatter": 0.02, "depth_1_scatter": 0.03}
        info = {"seed": 3, "data_fingerprint": "none", "validation": checked}
        torch.save({"state_dict": state, "config": config, "info": info}, folder / f"{name}.pt")
    return {name: Weights(folder / f"{name}.pt") for name in CONFIGS}


@pytest.fixture(scope="session")
def packs(checkpoints, tmp_path_factory):
    """Return a folder with the packs generic, csst_msc/08 and csst_msc/12."""
    folder = tmp_path_factory.mktemp("packs")
    own = export.Choice(0.45, CURVE, {"recall": 0.9, "test_set": "none"})
    export.export_all(
        checkpoints, folder, TRAINING,
        bands={"08": "g", "12": "NUV"},
        choices=CHOICES | {"detect": CHOICES["detect"] | {"08": own}},
        sizes=SIZES,
    )  # fmt: skip
    return folder


@pytest.fixture
def exported(packs, monkeypatch):
    """Make the exported packs available to the runtime."""
    monkeypatch.setenv("CRMEND_MODELS", os.fspath(packs))
    return packs


# --- the receptive field ----------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "deepcr", "hidden": 2},
        {"architecture": "deepcr", "hidden": 8},
        {"architecture": "folded", "width": 4, "depth": 2},
        {"architecture": "folded", "width": 4, "depth": 3},
    ],
)
def test_the_halo_is_the_receptive_field(network, config):
    """Perturb one input pixel strongly; see how far the output changes."""
    made = network(config).double()
    rng = np.random.default_rng(1)
    reach = 0
    for at in itertools.product(range(80, 80 + made.stride), repeat=2):
        image = torch.from_numpy(rng.normal(size=(1, 1, 160, 160)))
        with torch.inference_mode():
            before = made(image)
            image[0, 0, at[0], at[1]] = 600.0
            changed = (made(image) != before)[0, 0].numpy()
        distance = np.abs(np.argwhere(changed) - at).max()
        reach = max(reach, int(distance))
    halo, stride = networks.halo_of(config), made.stride
    assert halo - stride < reach <= halo
    assert halo % stride == 0


# --- the runtime against torch ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2), (64, 97), (253, 255)])
def test_detection_equals_torch_on_the_whole_frame(exported, network, whole_frame, shape):
    image = np.nan_to_num(validate.example_frame(shape, np.random.default_rng(2)), nan=100.0)
    expected = whole_frame(network(DETECT), image)
    found = detect(image, detector=8, device="cpu", tile=70)
    assert np.abs(found.cr_probability - expected).max() <= 1e-5
    assert np.array_equal(found.cr_mask, expected >= 0.45)


def test_the_fast_variant_equals_torch_on_the_whole_frame(exported, network, whole_frame):
    image = np.nan_to_num(validate.example_frame((253, 255), np.random.default_rng(4)), nan=0.0)
    # Its stride is 4, so the far edges are mirrored up to a multiple of that.
    expected = whole_frame(network(FOLDED).settled(), image)
    found = detect(image, detector=8, quality="fast", device="cpu", tile=70)
    assert np.abs(found.cr_probability - expected).max() <= 1e-5


def test_a_detector_with_weights_of_its_own_gets_them(checkpoints, network, tmp_path):
    config = {**DETECT, "hidden": 2}
    info = {"seed": 5, "data_fingerprint": "none"}
    own = tmp_path / "own" / "12.pt"
    own.parent.mkdir()
    state = network(config).state_dict()
    torch.save({"state_dict": state, "config": config, "info": info}, own)
    weights = checkpoints | {"detect": Weights.found(checkpoints["detect"].base, own.parent)}
    bands = {"08": "g", "12": "NUV"}
    cards = export.export_all(
        weights, tmp_path / "packs", TRAINING, bands=bands, choices=CHOICES, sizes=SIZES
    )
    found = {card.name: card.detect.training for card in cards}
    assert (found["csst_msc/12"].base, found["csst_msc/12"].seed) == (None, 5)
    assert (found["csst_msc/08"].base, found["csst_msc/08"].seed) == ("generic", 3)
    assert cards[0].inpaint.training.base is None
    assert cards[2].inpaint.training.base == "generic"


@pytest.mark.parametrize("count", [1, 2, 9])
def test_inpainting_equals_torch(exported, network, count):
    rng = np.random.default_rng(3)
    pairs = [validate.example_cutout(rng) for _ in range(count)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    model = models.load_model("csst_msc", "12", "inpaint", "cpu")
    assert model.inputs == ("image", "cr_mask", "profile")
    arrays = network_inputs(images, masks > 0, model.inputs)
    image, mask = arrays[:2]
    with torch.inference_mode():
        outputs = network(INPAINT)(*(torch.from_numpy(array) for array in arrays))
    found = model.run(*arrays)
    assert len(found) == 2
    for one, output in zip(found, outputs, strict=True):
        expected = output.numpy()
        assert one.shape == (count, 1, 64, 64)
        near = np.abs(one - expected) <= 1e-4 * np.maximum(np.abs(expected), 1.0)
        assert near[mask > 0].all()
        # The untrained network does something: this is no comparison of the input with itself.
        assert np.abs(expected - image)[mask > 0].max() > 1.0
    assert (found[1][mask > 0] > 0).all()
    assert (found[1][mask == 0] == 0).all()


def test_the_error_of_a_mended_pixel_is_the_networks(exported, network):
    """One star in the middle of a 64×64 image, so that the cutout is the whole image."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:64, :64] - 32.0
    image = (rng.normal(100.0, 5.0, (64, 64)) + 4e3 * np.exp(-(x**2 + y**2) / 3)).astype("f4")
    mask = np.zeros((64, 64), bool)
    mask[30:33, 33:38] = True
    columns = dict.fromkeys(SourceCatalog.__annotations__, np.array([np.nan]))
    one = SourceCatalog(**columns | {"x": np.array([32.0]), "y": np.array([32.0])})
    error = np.full_like(image, 5.0)
    found = inpaint(image, mask, model="csst_msc/12", sources=one, error=error, additive=False)
    scale, first = measure_scale(image, mask), image.copy()
    none, spread = np.zeros_like(mask), np.empty(mask.sum(), np.float32)
    median_fill(first, mask, none, MIN_GOOD, scale.background, spread)
    level = measure_background(first, none).surface().at(np.arange(64), np.arange(64))
    filled = train_inpaint.first_fill((image - level) / scale.noise, mask)
    arrays = network_inputs(filled[None], mask[None], ("image", "cr_mask", "profile"))
    tensors = (torch.from_numpy(array) for array in arrays)
    with torch.inference_mode():
        mended, sigma = (out[0, 0].numpy() * scale.noise for out in network(INPAINT)(*tensors))
    assert (found.method[mask] == 2).all()
    assert found.image[mask] == pytest.approx((mended + level)[mask], rel=1e-4)
    assert found.error[mask] == pytest.approx(np.maximum(sigma[mask], 5.0), rel=1e-3)
    assert (found.error[~mask] == 5.0).all()


# --- packs ------------------------------------------------------------------------------


def test_every_exported_pack_verifies(exported):
    assert set(models.available_packs()) >= {"csst_msc", "generic"}
    for detector in ("08", "12"):
        assert models.verify("csst_msc", detector, device="cpu").detect_difference <= 1e-5
    models.verify("generic", device="cpu")


# --- what is written ----------------------------------------------------------------------


def test_the_cards_say_what_was_exported(exported):
    card = models.load_card("csst_msc", 8)
    assert (card.band, card.detect.threshold, card.detect.halo) == ("g", 0.45, 10)
    assert card.detect.metrics == {"recall": 0.9, "test_set": "none"}
    assert card.detect.training.base == "generic"
    assert card.detect.training.seed == 3
    assert card.inpaint.stride == 2
    mending = dict(card.inpaint.metrics)
    assert mending.pop("depth_1_milliseconds") > 0.0
    assert mending == {
        "test_set": "held-out frames of the data set",
        "flux_scatter": 0.02,
        "depth_1_flux_scatter": 0.03,
        "exported_depth": 1,
    }
    assert card.detect.parity.mask_pixels_changed == 0
    assert card.detect.parity.frames == len(SIZES)
    assert 0 < card.detect.parity.max_abs_difference <= 1e-5
    assert models.load_card("csst_msc", 12).detect.threshold == 0.5
    assert models.load_card("generic").detect.training.base is None


def test_a_graph_is_plain_and_says_whose_it_is(exported):
    content = (exported / "csst_msc" / "08" / "detect.onnx").read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    identity = {item.key: item.value for item in model.metadata_props}
    assert identity["crmend.detector"] == "08"
    assert identity["crmend.band"] == "g"
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    # Six 3×3 convolutions, one 2×2 transposed, one 1×1: no weight norm is left.
    assert len(model.graph.initializer) == 2 * 8
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    for place in (os.getcwd(), os.path.dirname(torch.__file__), ".py"):
        assert place.encode() not in content


def test_the_same_checkpoint_gives_the_same_bytes(checkpoints, exported, tmp_path):
    export.export_all(checkpoints, tmp_path, TRAINING, bands={}, choices=CHOICES, sizes=SIZES)
    for name in ("detect.onnx", "inpaint.onnx", "reference.npz"):
        again = (tmp_path / "generic" / name).read_bytes()
        assert again == (exported / "generic" / name).read_bytes()


def test_training_information_may_not_be_missing(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="lack commit"):
        export.prepare(checkpoints["detect"].base, "detect", {"recipe": "none", "date": "none"})


# --- what is refused ----------------------------------------------------------------------


@pytest.fixture
def graph_file(network, tmp_path):
    """Return a function that writes a graph and returns its path."""

    def write(config, kind, offset=0.0):
        made = without_weight_norm(network(config))
        with torch.no_grad():
            last = made.heads[-1] if kind == "inpaint" else made.net.outc.conv
            last.bias += offset
        path = tmp_path / f"{kind}.onnx"
        path.write_bytes(build_graph(made, kind).SerializeToString())
        return path

    return write


def test_a_detection_graph_that_differs_is_removed(network, graph_file):
    path = graph_file(DETECT, "detect", offset=1e-3)
    with pytest.raises(validate.ParityError, match=r"differs from torch by .*removed"):
        validate.validate_graph(path, network(DETECT), "detect", halo=10, stride=2, sizes=SIZES)
    assert not path.exists()


def test_an_inpainting_graph_that_differs_is_removed(network, graph_file):
    path = graph_file(INPAINT, "inpaint", offset=1e-2)
    with pytest.raises(validate.ParityError, match=r"relative.*removed"):
        validate.validate_graph(path, network(INPAINT), "inpaint")
    assert not path.exists()


def test_a_file_that_is_no_graph_is_removed(network, tmp_path):
    path = tmp_path / "detect.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(validate.ParityError, match="removed"):
        validate.validate_graph(path, network(DETECT), "detect", halo=10, stride=2)
    assert not path.exists()


def test_a_sound_graph_is_kept_and_its_parity_is_json(network, graph_file):
    path = graph_file(DETECT, "detect")
    found = validate.validate_graph(
        path, network(DETECT), "detect", halo=10, stride=2, sizes=SIZES
    )
    assert path.exists()
    assert found.parity.providers[0] == "CPUExecutionProvider"
    json.dumps(found.parity.max_abs_difference, allow_nan=False)


def test_packs_agree_with_their_checkpoints(checkpoints, packs):
    found = list(export.validate_packs(packs, checkpoints))
    assert len(found) == 3 * 3
    assert all(parity.mask_pixels_changed == 0 for _, _, parity in found)


def test_other_checkpoints_than_the_packs_are_told_and_the_packs_stay(
    checkpoints, packs, tmp_path
):
    graph = re.escape(str(packs / "csst_msc" / "08" / "detect.onnx"))
    with pytest.raises(
        ValueError, match=rf"{graph} has architecture .*expected the checkpoint"
    ):
        list(export.validate_packs(packs, {"detect": checkpoints["detect_fast"]}))
    saved = torch.load(checkpoints["detect"].base)
    saved["state_dict"] = {name: 1.1 * w for name, w in saved["state_dict"].items()}
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(validate.ParityError, match=rf"{graph}: cr_pro.* Is .* made of"):
        list(export.validate_packs(packs, {"detect": Weights(tmp_path / "other.pt")}))
    assert (packs / "csst_msc" / "08" / "detect.onnx").is_file()


def test_a_double_precision_run_leaves_the_network_as_it_was():
    torch.manual_seed(1)
    network = networks.build({"architecture": "folded", "width": 8, "depth": 2}).settled()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    image = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32) * 30
    exact = validate.network_runner(network, double=True)(image, False)
    assert exact.dtype == np.float32
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    single = validate.network_runner(network)(image, False)
    assert 0 < np.abs(exact - single).max() < 1e-5
    doubled = torch.sigmoid(network.double().logits(torch.from_numpy(image).double()))
    assert np.abs(exact - doubled.detach().numpy()).max() < 1e-7
