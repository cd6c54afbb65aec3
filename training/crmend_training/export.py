"""Checkpoints → model packs: graphs, cards and reference outputs.

A graph is exported once, validated against its network (`crmend_training.validate`), and
then written into as many packs as use its weights, each time with that pack's identity in
the graph's own metadata and its hash in the card.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from crmend import _normalise
from crmend._cards import FAST, ModelCard, OpinionCard, ParityCard, parse_card
from crmend._cutout_network import network_inputs
from crmend_training import networks, validate
from crmend_training._checkpoints import Weights, load_network, network_of, read_checkpoint
from crmend_training._depths import mending_metrics
from crmend_training._graphs import (
    build_graph,
    inputs_of,
    outputs_of,
    stride_of,
    without_weight_norm,
)
from crmend_training._packs import (
    MENDER,
    Choice,
    Identity,
    PackGraph,
    ValidatedGraph,
    export_pack,
    installed_mender,
    limits_of,
)
from crmend_training.averaging import recipe_of
from crmend_training.calibrate import OperatingPoint

__all__ = [
    "Choice",
    "choice_of",
    "choices_of",
    "export_all",
    "export_own",
    "prepare",
    "validate_packs",
]

OWN_SIZES = validate.SIZES[:3]
"""Synthetic frames that a detector's own weights are compared on: the base's architecture was
on the large ones."""

SECOND_OPINION = OpinionCard(
    kind="detect", share=0.65, sure=0.9995, threshold=0.68, rather_sure=0.95,
    apart_threshold=0.38, views=4, beside_least=0.1,
)  # fmt: skip
"""What DeepCR counts beside CSST's fast network, from frames of no report (LOG, round 38)."""

ALONE = "validation frames that chose the threshold, no training"
TOGETHER = (
    "validation frames, no training: those of all detectors chose the threshold together, "
    "the figures are of this one's"
)
MASKED = "exposures with masks that chose the threshold, no training"
"""What cards say that recall and precision are measured on."""

TAKEN = ("csst_msc", "deepcr", "generic")
"""Names of packs that are made otherwise."""

REFERENCE_SIZE = 96
"""Side of the stored detection input [px]."""


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
            wanted = limits.setdefault(one.of(identity.detector or "generic"), set())
            wanted.update(limits_of(_choice(choices[kind], identity)))
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
                PackGraph(
                    prepared[kind, one.of(identity.detector or "generic")],
                    _asking(_choice(choices[kind], identity), kind, identity),
                    _base_of(identity, identities, one),
                )
                for kind, one in weights.items()
            ],
            quality,
        )
        for identity in identities
    ]


def export_own(
    name: str,
    checkpoints: Mapping[str, Path],
    out: Path,
    training: Mapping[str, Any],
    *,
    choices: Mapping[str, Choice],
    quality: tuple[str, str] = ("reference", ""),
    frames: Sequence[NDArray[np.float32]] = (),
) -> ModelCard:
    """Write one pack of the user's own, for any detector.

    Parameters
    ----------
    name : str
        Of the pack: small letters, digits and underscores.
    checkpoints : mapping
        By kind: ``detect`` and, if wanted, ``detect_fast`` and ``inpaint``.  Without the last
        the pack mends with the graph of the installed pack ``generic``.
    choices : mapping
        By kind, for those that find cosmic rays.
    out, training, quality, frames
        As in `export_all`; synthetic frames are `OWN_SIZES`.

    Raises
    ------
    crmend_training.validate.ParityError
        A graph does not do what its network does; nothing is written then.
    ValueError
        The name cannot be one, or is taken.
    """
    check_name(name)
    graphs = []
    for kind, path in checkpoints.items():
        choice = choices.get(kind, Choice())
        graph = prepare(path, kind, training, frames, limits_of(choice), OWN_SIZES)
        graphs.append(PackGraph(graph, choice, None))
    if "inpaint" not in checkpoints:
        graphs.append(PackGraph(installed_mender(), Choice(), MENDER))
    return export_pack(out, Identity(name), graphs, quality)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a user's pack.

    Raises
    ------
    ValueError
        It is no plain name, or one of `TAKEN`.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_]*", name) is None or name in TAKEN:
        raise ValueError(
            f"{name!r} cannot be the name of a pack of your own; expected small letters, "
            f"digits and underscores, such as saao_ste3, and none of {', '.join(TAKEN)}"
        )


def _base_of(
    identity: Identity, identities: Sequence[Identity], weights: Weights
) -> str | None:
    """Return the first pack that has the same weights, or None for that one itself."""
    mine = weights.of(identity.detector or "generic")
    first = next(one for one in identities if weights.of(one.detector or "generic") == mine)
    if first == identity:
        return None
    return "/".join(part for part in (first.instrument, first.detector) if part)


def _choice(choices: Mapping[str, Choice], identity: Identity) -> Choice:
    """Return what was chosen for a detector, or for all."""
    return choices.get(identity.detector or "generic", choices["generic"])


def _asking(choice: Choice, kind: str, identity: Identity) -> Choice:
    """Let the fast network of a CSST detector ask DeepCR."""
    if kind != FAST or identity.detector is None:
        return choice
    return replace(choice, second_opinion=SECOND_OPINION)


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
    saved = read_checkpoint(checkpoint)
    network = network_of(saved)
    origin = _training_info({**training, **saved["info"]}, checkpoint)
    architecture = saved["config"]["architecture"]
    halo = networks.halo_of(saved["config"])
    stride = stride_of(network)
    model = build_graph(without_weight_norm(network_of(saved)), kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        found = validate.validate_graph(
            path, network, kind,
            halo=halo, stride=stride, frames=frames, thresholds=thresholds, sizes=sizes,
        )  # fmt: skip
    reference = _reference(network_of(saved), kind)
    return ValidatedGraph(
        kind, model, inputs_of(network, kind), outputs_of(network, kind), architecture,
        halo, stride, origin, found.parity, reference, found.thresholds,
        metrics=mending_metrics(network_of(saved), saved["info"]) if kind == "inpaint" else {},
    )  # fmt: skip


def choices_of(points: Mapping[str, OperatingPoint], weights: Weights) -> dict[str, Choice]:
    """Return what cards say of the operating points of one kind of network, by name.

    Detectors without weights of their own share thresholds (`calibrate.operating_points`);
    their cards say so.
    """
    sharing = {name for name in points if name != "generic" and name not in weights.own}
    together = sharing if len(sharing) > 1 else set()
    return {
        name: choice_of(point, TOGETHER if name in together else ALONE)
        for name, point in points.items()
    }


def choice_of(point: OperatingPoint, test_set: str = ALONE, *, masked: bool = False) -> Choice:
    """Return what a card says of an operating point; of `masked` truth no charge is known."""
    recall, precision = "recall_above_5e", "precision_above_0e"
    if masked:
        test_set, recall, precision = MASKED, "recall", "precision"
    figures: dict[str, float | str] = {
        "test_set": test_set,
        "frames": point.frames,
        recall: point.recall,
        precision: point.precision,
        "calibration_error": point.calibration_error,
    }
    return Choice(point.threshold, point.curve, figures, point.seed_threshold, point.views)


def validate_packs(
    packs: Path, weights: Mapping[str, Weights]
) -> Iterator[tuple[str, str, ParityCard]]:
    """Compare the graphs of a folder of packs with their checkpoints, once per pack and kind.

    Kinds without a checkpoint are left out.

    The synthetic frames are `OWN_SIZES`; the graphs stay, whatever is found.  The figures hold
    the mask pixels that differ from torch's at the card's thresholds: where a probability ties
    with it, the last bit decides, and may fall otherwise than when the pack was exported.

    Raises
    ------
    crmend_training.validate.ParityError
        A graph does not do what its network does.
    FileNotFoundError
        The folder holds no pack.
    """
    cards = sorted(packs.rglob("card.json"))
    if not cards:
        raise FileNotFoundError(f"no card.json below {packs}; expected a folder of model packs")
    for path in cards:
        card = parse_card(path.read_text(encoding="utf-8"), path)
        for kind in (kind for kind in card.kinds if kind in weights):
            checkpoint = weights[kind].of(card.detector or "generic")
            network, config = load_network(checkpoint)
            graph = card.graph(kind)
            where = path.parent / graph.file
            mine = config["architecture"], stride_of(network)
            its = graph.architecture, graph.stride
            if mine != its:
                raise ValueError(
                    f"{where} has architecture and stride {its}, {checkpoint} {mine}; expected "
                    "the checkpoint that the pack was made of"
                )
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / graph.file
                copy.write_bytes(where.read_bytes())
                limits = limits_of(graph)
                try:
                    found = validate.validate_graph(
                        copy, network, kind, halo=graph.halo, stride=graph.stride,
                        thresholds=limits, sizes=OWN_SIZES,
                    )  # fmt: skip
                except validate.ParityError as error:
                    what = str(error.__cause__).replace(os.fspath(copy), os.fspath(where))
                    raise validate.ParityError(
                        f"{what}. Is {checkpoint} what the pack was made of?"
                    ) from error
            # At the card's own thresholds: the export freed it of ties on its own frames.
            changed = sum(found.changed[limit] for limit in limits)
            yield card.name, kind, replace(found.parity, mask_pixels_changed=changed)


def _training_info(info: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    wanted = ("recipe", "seed", "data_fingerprint", "commit", "date")
    missing = [key for key in wanted if key not in info]
    if missing:
        raise ValueError(
            f"{checkpoint}: its info and the training information lack {', '.join(missing)}"
        )
    return {key: info[key] for key in wanted} | {"recipe": recipe_of(info)}


def _reference(network: nn.Module, kind: str) -> dict[str, NDArray[np.float32]]:
    """Return a small input and torch's outputs, named as in ``reference.npz``.

    The network becomes double precision: rounded, its output does not depend on threads.
    """
    rng = np.random.default_rng(0)
    if kind == "inpaint":
        image, mask = (array[np.newaxis] for array in validate.example_cutout(rng))
        arrays = list(network_inputs(image, mask > 0.0, inputs_of(network, kind)))
    else:
        frame = np.nan_to_num(validate.example_frame((REFERENCE_SIZE, REFERENCE_SIZE), rng))
        scale = _normalise.measure_scale(frame, np.zeros(frame.shape, dtype=bool))
        arrays = [_normalise.to_detect_input(frame, scale)[np.newaxis, np.newaxis]]
    with torch.inference_mode():
        exact = network.double()(*(torch.from_numpy(array).double() for array in arrays))
    exact = exact if isinstance(exact, tuple) else (exact,)
    outputs = [output.numpy().astype(np.float32) for output in exact]
    names = [f"{kind}_{n}" for n in (*inputs_of(network, kind), *outputs_of(network, kind))]
    return dict(zip(names, [*arrays, *outputs], strict=True))
