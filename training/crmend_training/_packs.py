"""Model packs as files: graphs with their identity, the card, the reference outputs."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crmend import _normalise
from crmend._cards import (
    CurvePoint,
    GraphCard,
    ModelCard,
    NormalisationCard,
    OpinionCard,
    ParityCard,
    TensorCard,
    TrainingCard,
)
from crmend._packs import detector_folder
from crmend.models import REFERENCE_FILE, Verification, load_card, verify_folder
from crmend_training._graphs import OPSET, SHAPE
from crmend_training._results import whole_file

MENDER = "generic"
"""The pack whose inpainting graph packs share that have none of their own."""

OWN_NORMALISATION = NormalisationCard(_normalise.NAME, _normalise.parameters())
"""The preprocessing of networks trained here."""

IMAGE_UNIT = "asinh((image - background) / (softening * noise))"
"""What a detection network trained here sees."""

_INPAINT_UNIT = dict.fromkeys(("image", "profile", "inpainted", "sigma"), "noise") | {
    "cr_mask": "0 or 1"
}


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
    seed_threshold : float or None
        On the best cr_probability of a group (detection); None = groups do not matter.
    views : int
        How often the graph sees an image (detection).
    second_opinion : OpinionCard or None
        Of another graph of the pack (detection); None = none is asked.
    """

    threshold: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    seed_threshold: float | None = None
    views: int = 1
    second_opinion: OpinionCard | None = None


def limits_of(one: Choice | GraphCard) -> tuple[float, ...]:
    """Return the thresholds that a graph is used with."""
    return tuple(t for t in (one.threshold, one.seed_threshold) if t is not None)


@dataclass(frozen=True)
class ValidatedGraph:
    """A graph that agrees with its network, not yet part of a pack.

    Attributes
    ----------
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    model : onnx.ModelProto
        Without identity.
    inputs, outputs : tuple of str
        Names of the graph's inputs and outputs.
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
    normalisation : NormalisationCard
        Preprocessing that the network was trained with.
    image_unit : str
        Of the input of a detection network.
    metrics : mapping
        What training measured on its held-out frames; a `Choice` adds to it.
    """

    kind: str
    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    architecture: str
    halo: int
    stride: int
    training: dict[str, Any]
    parity: ParityCard
    reference: dict[str, NDArray[np.float32]]
    thresholds: dict[float, float]
    normalisation: NormalisationCard = OWN_NORMALISATION
    image_unit: str = IMAGE_UNIT
    metrics: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackGraph:
    """A graph in a pack; `base` names the pack whose weights these are, unchanged."""

    graph: ValidatedGraph
    choice: Choice
    base: str | None


def export_pack(
    out: Path,
    identity: Identity,
    graphs: Sequence[PackGraph],
    quality: tuple[str, str],
) -> ModelCard:
    """Write one pack and verify it as a user would.

    Parameters
    ----------
    out : Path
        Folder of the packs; the pack's own is made below it.
    identity : Identity
        Whose data it is for.
    graphs : sequence of PackGraph
        One of each kind.
    quality : (str, str)
        The default quality of detection, and why.

    Raises
    ------
    crmend.errors.ModelError
        The pack does not reproduce torch's reference outputs, or its card cannot be; nothing
        is written then.
    """
    place = Path(*(part for part in (identity.instrument, identity.detector) if part))
    cards, reference, files = {}, {}, {}
    for one in graphs:
        content = _stamped(one.graph, identity)
        files[f"{one.graph.kind}.onnx"] = content
        cards[one.graph.kind] = _graph_card(one, hashlib.sha256(content).hexdigest())
        reference |= one.graph.reference
    card = ModelCard(
        identity.instrument, identity.detector, identity.band,
        **cards, default_quality=quality[0], quality_note=quality[1],
    )  # fmt: skip
    files = {"card.json": card.to_json().encode(), REFERENCE_FILE: _npz(reference)} | files
    with tempfile.TemporaryDirectory() as draft:
        _write(Path(draft) / place, files)
        check_pack(Path(draft) / place)
    _write(out / place, files)
    return card


def installed_mender() -> ValidatedGraph:
    """Return the inpainting graph of the installed pack ``generic``, without its identity."""
    folder, card = detector_folder(MENDER, None), load_card(MENDER).inpaint
    names = [f"inpaint_{tensor.name}" for tensor in (*card.inputs, *card.outputs)]
    with np.load(folder / REFERENCE_FILE) as stored:
        reference = {name: stored[name] for name in names}
    origin = {
        key: getattr(card.training, key)
        for key in ("recipe", "seed", "data_fingerprint", "commit", "date")
    }
    return ValidatedGraph(
        "inpaint", onnx.load(folder / card.file),
        tuple(tensor.name for tensor in card.inputs),
        tuple(tensor.name for tensor in card.outputs),
        card.architecture, card.halo, card.stride, origin, card.parity, reference, {},
    )  # fmt: skip


def check_pack(folder: Path) -> Verification:
    """Verify a pack on the CPU, as `crmend.models.verify` does for an installed one."""
    return verify_folder(folder, device="cpu")


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
            "crmend.normalisation": graph.normalisation.name,
        },
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _graph_card(one: PackGraph, sha256: str) -> GraphCard:
    graph, choice = one.graph, one.choice
    shape, units = SHAPE[graph.kind], _INPAINT_UNIT
    if graph.kind != "inpaint":
        units = {"image": graph.image_unit, "cr_probability": "probability"}

    def settled(limit: float | None) -> float | None:
        return None if limit is None else graph.thresholds[limit]

    def tensors(names: tuple[str, ...]) -> tuple[TensorCard, ...]:
        return tuple(TensorCard(name, shape, units[name]) for name in names)

    return GraphCard(
        file=f"{graph.kind}.onnx",
        sha256=sha256,
        architecture=graph.architecture,
        opset=OPSET,
        inputs=tensors(graph.inputs),
        outputs=tensors(graph.outputs),
        normalisation=graph.normalisation,
        halo=graph.halo,
        stride=graph.stride,
        threshold=settled(choice.threshold),
        training=TrainingCard(**graph.training, base=one.base),
        metrics={**graph.metrics, **choice.metrics},
        parity=graph.parity,
        curve=choice.curve,
        seed_threshold=settled(choice.seed_threshold),
        views=choice.views,
        second_opinion=choice.second_opinion,
    )


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


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, all or none of them; the first one appears last."""
    with ExitStack() as stack:
        for name, content in files.items():
            stack.enter_context(whole_file(folder / name)).write_bytes(content)
