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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from crmend import _normalise
from crmend._cards import (
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
    OUTPUT,
    SHAPE,
    build_graph,
    stride_of,
    without_weight_norm,
)

REFERENCE_SIZE = 96
"""Side of the stored detection input [px]."""

_UNIT = {
    ("detect", "image"): "asinh((image - background) / (softening * noise))",
    ("detect", "cr_probability"): "probability",
    ("inpaint", "image"): "noise",
    ("inpaint", "cr_mask"): "0 or 1",
    ("inpaint", "inpainted"): "noise",
}


@dataclass(frozen=True)
class Identity:
    """Whose data a pack is for; a pack for any detector has neither detector nor band."""

    instrument: str
    detector: str | None = None
    band: str | None = None


@dataclass(frozen=True)
class ValidatedGraph:
    """A graph that agrees with its network, not yet part of a pack.

    Attributes
    ----------
    kind : str
        ``detect`` or ``inpaint``.
    model : onnx.ModelProto
        Without identity.
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
    architecture: str
    halo: int
    stride: int
    training: dict[str, Any]
    parity: ParityCard
    reference: dict[str, NDArray[np.float32]]
    thresholds: dict[float, float]


def export_all(
    detect_checkpoint: Path,
    inpaint_checkpoint: Path,
    out: Path,
    training: Mapping[str, Any],
    *,
    bands: Mapping[str, str],
    thresholds: Mapping[str, float],
    metrics: Mapping[str, Mapping[str, Mapping[str, float | str]]] | None = None,
    frames: Sequence[NDArray[np.float32]] = (),
    sizes: Sequence[tuple[int, int]] = validate.SIZES,
) -> list[ModelCard]:
    """Write the pack ``generic`` and, from the same weights, one per CSST detector.

    Parameters
    ----------
    detect_checkpoint, inpaint_checkpoint : Path
        Base networks, as the trainings save them.
    out : Path
        Folder of the packs.
    training : mapping
        recipe, commit and date; seed and data_fingerprint come from the checkpoints.
    bands : mapping
        Band by detector name (``08``), from the instrument's profile.
    thresholds : mapping
        Threshold by detector name, or under ``generic``, which also serves detectors
        without one.
    metrics : mapping, optional
        ``{detector or "generic": {"detect": {...}, "inpaint": {...}}}``.
    frames : sequence of (ny, nx) float32 arrays
        Frames to validate on, beside the synthetic ones.
    sizes : sequence of (ny, nx)
        Of the synthetic frames.

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
    limits = sorted(set(thresholds.values()))
    detect = prepare(detect_checkpoint, "detect", training, frames, limits, sizes)
    inpaint = prepare(inpaint_checkpoint, "inpaint", training, frames)
    identities = [Identity("generic")]
    identities += [Identity("csst_msc", name, band) for name, band in sorted(bands.items())]
    cards = []
    for identity in identities:
        name = identity.detector or "generic"
        wanted = thresholds.get(name, thresholds["generic"])
        cards.append(
            export_pack(
                out,
                identity,
                detect,
                inpaint,
                threshold=detect.thresholds[wanted],
                metrics=(metrics or {}).get(name, {}),
                base=None if identity.detector is None else "generic",
            )
        )
    return cards


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
        ``detect`` or ``inpaint``.
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
        kind, model, architecture, halo, stride, origin, found.parity, reference,
        found.thresholds,
    )  # fmt: skip


def export_pack(
    out: Path,
    identity: Identity,
    detect: ValidatedGraph,
    inpaint: ValidatedGraph,
    *,
    threshold: float,
    metrics: Mapping[str, Mapping[str, float | str]],
    base: str | None,
) -> ModelCard:
    """Write one pack and verify it as a user would.

    Parameters
    ----------
    out : Path
        Folder of the packs; the pack's own is made below it.
    identity : Identity
        Whose data it is for.
    detect, inpaint : ValidatedGraph
        From `prepare`.
    threshold : float
        On cr_probability.
    metrics : mapping
        Figures by kind and name.
    base : str or None
        The pack whose weights these are, unchanged.

    Raises
    ------
    crmend.errors.ModelError
        The pack as written does not reproduce torch's reference outputs.
    """
    folder = out.joinpath(*(part for part in (identity.instrument, identity.detector) if part))
    folder.mkdir(parents=True, exist_ok=True)
    cards = {}
    for graph in (detect, inpaint):
        content = _stamped(graph, identity)
        _replace(folder / f"{graph.kind}.onnx", content)
        cards[graph.kind] = _graph_card(
            graph,
            hashlib.sha256(content).hexdigest(),
            threshold if graph.kind == "detect" else None,
            dict(metrics.get(graph.kind, {})),
            base,
        )
    card = ModelCard(
        identity.instrument, identity.detector, identity.band, cards["detect"], cards["inpaint"]
    )
    _replace(folder / REFERENCE_FILE, _npz({**detect.reference, **inpaint.reference}))
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


def _graph_card(
    graph: ValidatedGraph,
    sha256: str,
    threshold: float | None,
    metrics: dict[str, float | str],
    base: str | None,
) -> GraphCard:
    shape = SHAPE[graph.kind]

    def tensor(name: str) -> TensorCard:
        return TensorCard(name, shape, _UNIT[graph.kind, name])

    return GraphCard(
        file=f"{graph.kind}.onnx",
        sha256=sha256,
        architecture=graph.architecture,
        opset=OPSET,
        inputs=tuple(tensor(name) for name in INPUTS[graph.kind]),
        outputs=(tensor(OUTPUT[graph.kind]),),
        normalisation=NormalisationCard(_normalise.NAME, _normalise.parameters()),
        halo=graph.halo,
        stride=graph.stride,
        threshold=threshold,
        training=TrainingCard(**graph.training, base=base),
        metrics=metrics,
        parity=graph.parity,
    )


def _reference(network: nn.Module, kind: str) -> dict[str, NDArray[np.float32]]:
    """Return a small input and torch's output, named as in ``reference.npz``.

    The network becomes double precision: rounded, its output does not depend on threads.
    """
    rng = np.random.default_rng(0)
    if kind == "detect":
        frame = np.nan_to_num(validate.example_frame((REFERENCE_SIZE, REFERENCE_SIZE), rng))
        scale = _normalise.measure_scale(frame, np.zeros(frame.shape, dtype=bool))
        inputs = [_normalise.to_detect_input(frame, scale)]
    else:
        inputs = list(validate.example_cutout(rng))
    arrays = [array[np.newaxis, np.newaxis] for array in inputs]
    with torch.inference_mode():
        exact = network.double()(*(torch.from_numpy(array).double() for array in arrays))
    output = exact.numpy().astype(np.float32)
    names = [f"{kind}_{name}" for name in (*INPUTS[kind], OUTPUT[kind])]
    return dict(zip(names, [*arrays, output], strict=True))


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
