"""Write the tiny model packs of the tests: ``python tests/data/make_tiny_packs.py``.

Their graphs are a few hundred bytes and can be computed by hand, so tests know what must
come out, and can damage and swap them.  They find and mend nothing worth having.

detect:   p = sigmoid(4·x − Σ(4 neighbours) − ¼·max of the pixel's 2×2 block − 1)
fast:     the same with − 2 (tiny_chips/02 alone has it, as its default)
inpaint:  image where cr_mask is 0, else the mean of the 3×3 pixels (zero outside)
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crmend import _normalise
from crmend._cards import (
    FAST,
    CurvePoint,
    GraphCard,
    ModelCard,
    NormalisationCard,
    ParityCard,
    TensorCard,
    TrainingCard,
)

CURVE = (CurvePoint(0.2, 0.9, 0.6), CurvePoint(0.5, 0.8, 0.8), CurvePoint(0.9, 0.5, 0.9))
PACKS = Path(__file__).parent / "packs"
OPSET = 17


def detect_graph(offset: float = 1.0) -> onnx.GraphProto:
    """Return the detection graph: a Laplacian and a pooled branch, halo 2, stride 2."""
    laplacian = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)[None, None]
    weights = {"laplacian": laplacian, "twos": np.full((1, 1, 2, 2), -0.25, np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "laplacian"], ["sharp"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["image"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["pooled", "twos"], ["block"], strides=[2, 2]),
        helper.make_node("Add", ["sharp", "block"], ["sum"]),
        helper.make_node("Sub", ["sum", "one"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["cr_probability"]),
    ]
    weights["one"] = np.array(offset, np.float32)
    return _graph("detect", nodes, weights, ["image"], "cr_probability", ["n", 1, "h", "w"])


def inpaint_graph() -> onnx.GraphProto:
    """Return the inpainting graph: a 3×3 mean at masked pixels."""
    weights = {"ninth": np.full((1, 1, 3, 3), 1 / 9, np.float32), "one": np.float32(1.0)}
    nodes = [
        helper.make_node("Conv", ["image", "ninth"], ["mean"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["mean", "cr_mask"], ["mended"]),
        helper.make_node("Sub", ["one", "cr_mask"], ["kept_mask"]),
        helper.make_node("Mul", ["image", "kept_mask"], ["kept"]),
        helper.make_node("Add", ["kept", "mended"], ["inpainted"]),
    ]
    shape = ["n", 1, 64, 64]
    return _graph("inpaint", nodes, weights, ["image", "cr_mask"], "inpainted", shape)


def _graph(name, nodes, weights, inputs, output, shape) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )


def detect_twin(x: NDArray[np.float32], offset: float = 1.0) -> NDArray[np.float64]:
    """Compute the detection graph of one (h, w) image with numpy."""
    p = np.pad(x.astype(np.float64), 1)
    sharp = 4 * x - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]
    h, w = x.shape
    pooled = x.reshape(h // 2, 2, w // 2, 2).max(axis=(1, 3))
    return 1 / (1 + np.exp(offset + 0.25 * pooled.repeat(2, 0).repeat(2, 1) - sharp))


def inpaint_twin(x: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the inpainting graph of one 64×64 cutout with numpy."""
    p = np.pad(x.astype(np.float64), 1)
    mean = sum(p[j : j + 64, i : i + 64] for j in range(3) for i in range(3)) / 9
    return np.where(mask > 0, mean, x)


def graph_card(kind: str, content: bytes) -> GraphCard:
    """Return the card of one graph."""
    detect = kind != "inpaint"
    shape = ("n", 1, "h", "w") if detect else ("n", 1, 64, 64)
    unit = "asinh(noise)" if detect else "noise"
    inputs = [TensorCard("image", shape, unit)]
    if not detect:
        inputs.append(TensorCard("cr_mask", shape, "0 or 1"))
    output = TensorCard(
        "cr_probability" if detect else "inpainted", shape, "1" if detect else unit
    )
    return GraphCard(
        file=f"{kind}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        architecture="tiny",
        opset=OPSET,
        inputs=tuple(inputs),
        outputs=(output,),
        normalisation=NormalisationCard(_normalise.NAME, _normalise.parameters()),
        halo=2 if detect else 0,
        stride=2 if detect else 1,
        threshold=0.5 if detect else None,
        training=TrainingCard("none", 0, "none", "none", "2025-01-01", None),
        metrics={"test_set": "none", "recall": 0.0},
        parity=ParityCard(0, 0.0, None, 0, ()),
        curve=CURVE if detect else (),
    )


def write_pack(folder: Path, instrument: str, detector: str | None, band: str | None) -> None:
    """Write one pack: graphs with their identity, card, reference outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    graphs = {"detect": detect_graph(), "inpaint": inpaint_graph()}
    if detector == "02":
        graphs[FAST] = detect_graph(2.0)
    for kind, graph in graphs.items():
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )
        identity = {
            "crmend.instrument": instrument,
            "crmend.detector": detector or "",
            "crmend.band": band or "",
            "crmend.kind": kind,
            "crmend.architecture": "tiny",
            "crmend.normalisation": _normalise.NAME,
        }
        helper.set_model_props(model, identity)
        onnx.checker.check_model(model, full_check=True)
        contents[kind] = model.SerializeToString(deterministic=True)
        (folder / f"{kind}.onnx").write_bytes(contents[kind])
    cards = {kind: graph_card(kind, content) for kind, content in contents.items()}
    fast = {} if FAST not in cards else {"default_quality": "fast", "quality_note": "a test"}
    card = ModelCard(instrument, detector, band, **cards, **fast)
    (folder / "card.json").write_text(card.to_json(), encoding="utf-8")
    write_reference(folder / "reference.npz")


def write_reference(path: Path) -> None:
    """Write inputs and the outputs that numpy computes from them."""
    rng = np.random.default_rng(1)
    image = rng.integers(-4, 5, (16, 16)).astype(np.float32) / 4
    cutout = np.zeros((64, 64), np.float32)
    cutout[28:36, 28:36] = rng.integers(0, 9, (8, 8))
    mask = np.zeros_like(cutout)
    mask[30:33, 29:31] = 1
    arrays = {
        "detect_image": image,
        "detect_cr_probability": detect_twin(image),
        "detect_fast_image": image,
        "detect_fast_cr_probability": detect_twin(image, 2.0),
        "inpaint_image": cutout,
        "inpaint_cr_mask": mask,
        "inpaint_inpainted": inpaint_twin(cutout, mask),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array.astype(np.float32)[None, None])
            info = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(info, buffer.getvalue(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    write_pack(PACKS / "tiny", "tiny", None, None)
    write_pack(PACKS / "tiny_chips" / "01", "tiny_chips", "01", "g")
    write_pack(PACKS / "tiny_chips" / "02", "tiny_chips", "02", "r")
