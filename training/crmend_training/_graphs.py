"""Torch networks → clean ONNX graphs."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import parametrize, remove_weight_norm

from crmend._cards import FAST
from crmend_training._bytes import BYTES_FROM, LARGEST_BYTE
from crmend_training._joins import without_copies

OPSET = 17

_WORTH_A_CAST = 64  # elements

CUTOUT = 64
"""Side of an inpainting cutout [px] (paper, section 2.2)."""

SHAPE: dict[str, tuple[int | str, ...]] = {
    "detect": ("n", 1, "h", "w"),
    FAST: ("n", 1, "h", "w"),
    "inpaint": ("n", 1, CUTOUT, CUTOUT),
}


def inputs_of(network: nn.Module, kind: str) -> tuple[str, ...]:
    """Return the names of a network's inputs."""
    if kind != "inpaint":
        return ("image",)
    return ("image", "cr_mask", "profile") if network.profile else ("image", "cr_mask")


def outputs_of(network: nn.Module, kind: str) -> tuple[str, ...]:
    """Return the names of a network's outputs."""
    if kind != "inpaint":
        return ("cr_probability",)
    return ("inpainted", "sigma") if network.sigma else ("inpainted",)


def build_graph(network: nn.Module, kind: str) -> onnx.ModelProto:
    """Export a network as an ONNX graph without identity, paths or external data.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, with plain weights.
    kind : str
        ``detect``, ``detect_fast`` (free n, h and w) or ``inpaint`` (free n).
    """
    shape = [{"n": 2, "h": CUTOUT, "w": CUTOUT}.get(str(size), size) for size in SHAPE[kind]]
    inputs = inputs_of(network, kind)
    examples = tuple(torch.zeros(shape) for _ in inputs)
    axes = {i: size for i, size in enumerate(SHAPE[kind]) if isinstance(size, str)}
    outputs = outputs_of(network, kind)
    names = [*inputs, *outputs]
    # This exporter knows no asinh, ONNX does (since opset 9).
    torch.onnx.register_custom_op_symbolic("aten::asinh", lambda g, x: g.op("Asinh", x), 9)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter (dynamo=True) writes source paths into every node.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            examples,
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dict.fromkeys(names, axes),
        )
    model = onnx.load_from_string(buffer.getvalue())
    if kind != "inpaint":
        model = without_copies(model)
    return _compacted(_tidied(model, kind))


def stride_of(network: nn.Module) -> int:
    """Return what heights and widths must be multiples of: 2 per pooling."""
    filters = getattr(network, "filters", None)
    return network.stride if filters is None else 2 ** (len(filters) - 1)


def without_weight_norm(network: nn.Module) -> nn.Module:
    """Replace normalised weights by plain ones, in place; return the network.

    A network with `torch.nn.utils.weight_norm` cannot be copied, so the caller keeps
    another one to compare with.
    """
    for module in network.modules():
        if hasattr(module, "weight_g"):
            remove_weight_norm(module)
        elif parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network


def _compacted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights that half precision, or bytes and a scale, hold exactly as these, in place.

    A Cast (and a Mul) makes float32 of them again, which every runtime does once, when it loads
    the graph.
    """
    graph = model.graph
    casts = []
    scales = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if (found := _as_bytes(values)) is not None:
            name = tensor.name
            whole, scale = found
            tensor.CopyFrom(onnx.numpy_helper.from_array(whole, f"{name}_bytes"))
            scales.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
            casts += [
                onnx.helper.make_node(
                    "Cast", [f"{name}_bytes"], [f"{name}_whole"], to=onnx.TensorProto.FLOAT
                ),
                onnx.helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name]),
            ]
            continue
        with np.errstate(over="ignore"):
            small = values.astype(np.float16)
        if values.size < _WORTH_A_CAST or not np.array_equal(small.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(small, f"{name}_half"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
        )
    graph.initializer.extend(scales)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _as_bytes(
    values: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Return bytes and scales whose product is bit for bit the weights, or None."""
    if values.size < BYTES_FROM:
        return None
    rows = values.reshape(len(values), -1)
    scale = np.ones(len(values), np.float32)
    for row, weights in enumerate(rows):
        largest = np.abs(weights).max()
        # Rounding the scale may have left the largest at one below or above.
        for steps in (LARGEST_BYTE, LARGEST_BYTE - 1):
            scale[row] = max(np.float16(largest / steps), np.finfo(np.float16).tiny)
            if np.array_equal(np.rint(weights / scale[row]) * scale[row], weights):
                break
        else:
            return None
    scale = scale.reshape(-1, *(1,) * (values.ndim - 1))
    return np.rint(values / scale).astype(np.int8), scale


def _tidied(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Name the output's axes; remove texts, per-node metadata and inferred shapes."""
    model.doc_string = ""
    model.graph.doc_string = ""
    model.graph.name = kind
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.CopyFrom(
            onnx.helper.make_tensor_value_info(
                output.name, onnx.TensorProto.FLOAT, list(SHAPE[kind])
            )
        )
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return model
