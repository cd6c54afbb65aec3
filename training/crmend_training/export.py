"""Checkpoints → model packs: graphs, cards and reference outputs.

A graph is exported once, validated against its network (`crmend_training.validate`), and
then written into as many packs as use its weights, each time with that pack's identity in
the graph's own metadata and its hash in the card.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from crmend import _normalise
from crmend._cards import (
    CurvePoint,
    GraphCard,
    ModelCard,
    NormalisationCard,
    ParityCard,
    TensorCard,
    TrainingCard,
)
from crmend.models import REFERENCE_FILE, Verification, verify_folder
from crmend_training import networks, validate
from crmend_training._graphs import (
    INPUTS,
    OPSET,
    SHAPE,
    build_graph,
    outputs_of,
    stride_of,
    without_weight_norm,
)
from crmend_training._training import Weights

REFERENCE_SIZE = 96
"""Side of the stored detection input [px]."""

OWN_SIZES = validate.SIZES[:3]
"""Synthetic frames that a detector's own weights are compared on: the base's architecture was
on the large ones."""

_UNIT = {
    "image": "asinh((image - background) / (softening * noise))",
    "cr_probability": "probability",
}
_INPAINT_UNIT = {"image": "noise", "cr_mask": "0 or 1", "inpainted": "noise", "sigma": "noise"}


@dataclass(frozen=True)
class Identity:
    """Whose data a pack is for; a pack for any detector has neither detector nor band."""

    instrument: str
    detector: str | None = None
    band: str | None = None


@dataclass(frozen=True)
class Choice:
    """What a card says of one graph beyond the checkpoint.

    Attributes
    ----------
    threshold : float or None
        On cr_probability (detection).
    curve : tuple of CurvePoint
        What other thresholds give (detection).
    metrics : mapping
        Figure or test-set name by metric name.
    """

    threshold: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    metrics: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidatedGraph:
    """A graph that agrees with its network, not yet part of a pack.

    Attributes
    ----------
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    model : onnx.ModelProto
        Without identity.
    outputs : tuple of str
        Names of the graph's outputs.
    architecture : str
        As in the checkpoint's configuration.
    halo, stride : int
        Receptive-field radius and stride [px].
    training : dict
        recipe, seed, data_fingerprint, commit, date.
    parity : ParityCard
        From `crmend_training.validate`.
    reference : dict
        Inputs and torch's output by their name in ``reference.npz``.
    thresholds : dict
        For every threshold asked for, the one without ties (`validate.Validation`).
    """

    kind: str
    model: onnx.ModelProto
    outputs: tuple[str, ...]
    architecture: str
    halo: int
    stride: int
    training: dict[str, Any]
    parity: ParityCard
    reference: dict[str, NDArray[np.float32]]
    thresholds: dict[float, float]


def export_all(
    weights: Mapping[str, Weights],
    out: Path,
    training: Mapping[str, Any],
    *,
    bands: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Choice]],
    quality: tuple[str, str] = ("reference", ""),
    frames: Sequence[NDArray[np.float32]] = (),
    sizes: Sequence[tuple[int, int]] = validate.SIZES,
) -> list[ModelCard]:
    """Write the pack ``generic``, from the base weights, and one per CSST detector.

    Parameters
    ----------
    weights : mapping
        By kind: ``detect``, ``inpaint`` and, for packs that have it, ``detect_fast``.
    out : Path
        Folder of the packs.
    training : mapping
        recipe, commit and date; seed and data_fingerprint come from the checkpoints.
    bands : mapping
        Band by detector name (``08``), from the instrument's profile.
    choices : mapping
        By kind, then by detector name or ``generic``, which also serves detectors that are
        not named.
    quality : (str, str)
        The default quality of detection, and why.
    frames : sequence of (ny, nx) float32 arrays
        Frames to validate on, beside the synthetic ones.
    sizes : sequence of (ny, nx)
        Of the synthetic frames for the base weights; a detector's own see `OWN_SIZES`.

    Returns
    -------
    list of ModelCard

    Raises
    ------
    crmend_training.validate.ParityError
        A graph does not do what its network does; nothing is written then.
    ValueError
        `training` and the checkpoint's info lack a key.
    """
    identities = [Identity("generic")]
    identities += [Identity("csst_msc", name, band) for name, band in sorted(bands.items())]
    prepared: dict[tuple[str, Path], ValidatedGraph] = {}
    for kind, one in weights.items():
        limits: dict[Path, set[float]] = {}
        for identity in identities:
            chosen = _choice(choices[kind], identity).threshold
            wanted = limits.setdefault(one.of(identity.detector or "generic"), set())
            wanted.update([] if chosen is None else [chosen])
        for path, thresholds in limits.items():
            prepared[kind, path] = prepare(
                path, kind, training, frames, sorted(thresholds),
                sizes if path == one.base else [s for s in sizes if s in OWN_SIZES],
            )  # fmt: skip
    return [
        export_pack(
            out,
            identity,
            [
                _PackGraph(
                    prepared[kind, one.of(identity.detector or "generic")],
                    _choice(choices[kind], identity),
                    None
                    if identity.detector is None or identity.detector in one.own
                    else "generic",
                )
                for kind, one in weights.items()
            ],
            quality,
        )
        for identity in identities
    ]


def _choice(choices: Mapping[str, Choice], identity: Identity) -> Choice:
    """Return what was chosen for a detector, or for all."""
    return choices.get(identity.detector or "generic", choices["generic"])


@dataclass(frozen=True)
class _PackGraph:
    """A graph in a pack; `base` names the pack whose weights these are, unchanged."""

    graph: ValidatedGraph
    choice: Choice
    base: str | None


def prepare(
    checkpoint: Path,
    kind: str,
    training: Mapping[str, Any],
    frames: Sequence[NDArray[np.float32]] = (),
    thresholds: Sequence[float] = (),
    sizes: Sequence[tuple[int, int]] = validate.SIZES,
) -> ValidatedGraph:
    """Export one checkpoint and validate the graph.

    Parameters
    ----------
    checkpoint : Path
        With ``state_dict``, ``config`` and ``info``.
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    training, frames, sizes
        As in `export_all`.
    thresholds : sequence of float
        Thresholds that the graph will be used with.

    Raises
    ------
    crmend_training.validate.ParityError
        The graph does not do what the network does.
    ValueError
        `training` and the checkpoint's info lack a key.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = _rebuild(saved)
    origin = _training_info({**saved["info"], **training}, checkpoint)
    architecture = saved["config"]["architecture"]
    halo = networks.halo_of(saved["config"])
    stride = stride_of(network)
    model = build_graph(without_weight_norm(_rebuild(saved)), kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        found = validate.validate_graph(
            path, network, kind,
            halo=halo, stride=stride, frames=frames, thresholds=thresholds, sizes=sizes,
        )  # fmt: skip
    reference = _reference(_rebuild(saved), kind)
    return ValidatedGraph(
        kind, model, outputs_of(network, kind), architecture, halo, stride, origin,
        found.parity, reference, found.thresholds,
    )  # fmt: skip


def export_pack(
    out: Path,
    identity: Identity,
    graphs: Sequence[_PackGraph],
    quality: tuple[str, str],
) -> ModelCard:
    """Write one pack and verify it as a user would.

    Parameters
    ----------
    out : Path
        Folder of the packs; the pack's own is made below it.
    identity : Identity
        Whose data it is for.
    graphs : sequence of _PackGraph
        One of each kind.
    quality : (str, str)
        The default quality of detection, and why.

    Raises
    ------
    crmend.errors.ModelError
        The pack as written does not reproduce torch's reference outputs.
    """
    folder = out.joinpath(*(part for part in (identity.instrument, identity.detector) if part))
    folder.mkdir(parents=True, exist_ok=True)
    cards, reference = {}, {}
    for one in graphs:
        content = _stamped(one.graph, identity)
        _replace(folder / f"{one.graph.kind}.onnx", content)
        cards[one.graph.kind] = _graph_card(one, hashlib.sha256(content).hexdigest())
        reference |= one.graph.reference
    card = ModelCard(
        identity.instrument, identity.detector, identity.band,
        **cards, default_quality=quality[0], quality_note=quality[1],
    )  # fmt: skip
    _replace(folder / REFERENCE_FILE, _npz(reference))
    _replace(folder / "card.json", card.to_json().encode())
    check_pack(folder)
    return card


def check_pack(folder: Path) -> Verification:
    """Verify a pack on the CPU, as `crmend.models.verify` does for an installed one."""
    return verify_folder(folder, device="cpu")


def _rebuild(saved: Mapping[str, Any]) -> nn.Module:
    """Return the network of a checkpoint, in evaluation mode."""
    network = networks.build(saved["config"])
    network.load_state_dict(saved["state_dict"])
    return network.eval()


def _training_info(info: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    wanted = ("recipe", "seed", "data_fingerprint", "commit", "date")
    missing = [key for key in wanted if key not in info]
    if missing:
        raise ValueError(
            f"{checkpoint}: its info and the training information lack {', '.join(missing)}"
        )
    return {key: info[key] for key in wanted}


def _stamped(graph: ValidatedGraph, identity: Identity) -> bytes:
    """Return the bytes of the graph with the identity of its pack."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    onnx.helper.set_model_props(
        model,
        {
            "crmend.instrument": identity.instrument,
            "crmend.detector": identity.detector or "",
            "crmend.band": identity.band or "",
            "crmend.kind": graph.kind,
            "crmend.architecture": graph.architecture,
            "crmend.normalisation": _normalise.NAME,
        },
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _graph_card(one: _PackGraph, sha256: str) -> GraphCard:
    graph, choice = one.graph, one.choice
    shape, units = SHAPE[graph.kind], _INPAINT_UNIT if graph.kind == "inpaint" else _UNIT
    threshold = choice.threshold

    def tensors(names: tuple[str, ...]) -> tuple[TensorCard, ...]:
        return tuple(TensorCard(name, shape, units[name]) for name in names)

    return GraphCard(
        file=f"{graph.kind}.onnx",
        sha256=sha256,
        architecture=graph.architecture,
        opset=OPSET,
        inputs=tensors(INPUTS[graph.kind]),
        outputs=tensors(graph.outputs),
        normalisation=NormalisationCard(_normalise.NAME, _normalise.parameters()),
        halo=graph.halo,
        stride=graph.stride,
        threshold=None if threshold is None else graph.thresholds[threshold],
        training=TrainingCard(**graph.training, base=one.base),
        metrics=dict(choice.metrics),
        parity=graph.parity,
        curve=choice.curve,
    )


def _reference(network: nn.Module, kind: str) -> dict[str, NDArray[np.float32]]:
    """Return a small input and torch's outputs, named as in ``reference.npz``.

    The network becomes double precision: rounded, its output does not depend on threads.
    """
    rng = np.random.default_rng(0)
    if kind == "inpaint":
        inputs = list(validate.example_cutout(rng))
    else:
        frame = np.nan_to_num(validate.example_frame((REFERENCE_SIZE, REFERENCE_SIZE), rng))
        scale = _normalise.measure_scale(frame, np.zeros(frame.shape, dtype=bool))
        inputs = [_normalise.to_detect_input(frame, scale)]
    arrays = [array[np.newaxis, np.newaxis] for array in inputs]
    with torch.inference_mode():
        exact = network.double()(*(torch.from_numpy(array).double() for array in arrays))
    exact = exact if isinstance(exact, tuple) else (exact,)
    outputs = [output.numpy().astype(np.float32) for output in exact]
    names = [f"{kind}_{name}" for name in (*INPUTS[kind], *outputs_of(network, kind))]
    return dict(zip(names, [*arrays, *outputs], strict=True))


def _npz(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return a compressed .npz with the same bytes for the same arrays."""
    archive_buffer = io.BytesIO()
    with zipfile.ZipFile(archive_buffer, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)
    return archive_buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
