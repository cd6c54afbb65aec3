"""Model packs: finding, checking and loading the graphs and their cards.

A pack is a folder with ``card.json``, ``detect.onnx``, ``inpaint.onnx``, perhaps
``detect_fast.onnx``, and ``reference.npz``; or, for an instrument with several detectors, one
such folder per detector.  Packs come with crmend (``crmend.exported_models``); the
environment variable ``CRMEND_MODELS`` may name more folders of packs, which come first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crmend._cards import FAST, KINDS, QUALITIES, GraphCard, ModelCard
from crmend._differences import largest_difference, relative_difference
from crmend._pack_files import check_identity, read_card, read_graph, read_reference
from crmend._packs import available_detectors, available_packs, detector_folder
from crmend._sessions import Session, get_session
from crmend.errors import InvalidInputError, ModelError, UnknownDetectorError

__all__ = [
    "Model",
    "ModelCard",
    "Verification",
    "available_detectors",
    "available_packs",
    "choose_model",
    "load_card",
    "load_model",
    "split_name",
    "verify",
    "verify_folder",
]

DEFAULT_PACK = "csst_msc"
"""The pack that a detector without a pack belongs to."""

REFERENCE_FILE = "reference.npz"

DETECT_TOLERANCE = 1e-5
"""Largest |Δ| of cr_probability between torch and any provider (design: parity)."""

INPAINT_TOLERANCE = 1e-4
"""Largest |Δ| of an inpainted pixel, relative to it or to one noise unit if larger."""


@dataclass(frozen=True)
class Model:
    """One graph, ready to run, with the card of its pack.

    Attributes
    ----------
    card : ModelCard
        Of the whole pack.
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    second : Model or None
        The graph that is asked about what this one doubts, if the card names one
        (`crmend._second_opinion`).
    """

    card: ModelCard
    kind: str
    _session: Session
    second: Model | None = None

    @property
    def graph(self) -> GraphCard:
        """Return the card of this graph."""
        return self.card.graph(self.kind)

    @property
    def name(self) -> str:
        """Return ``pack/kind`` or ``pack/detector/kind``."""
        return f"{self.card.name}/{self.kind}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the graph's inputs, in their order."""
        return tuple(tensor.name for tensor in self.graph.inputs)

    @property
    def provider(self) -> str:
        """Return the onnxruntime provider that was granted."""
        return self._session.provider

    @property
    def threads(self) -> int:
        """Return the number of CPU threads."""
        return self._session.threads

    def run(
        self, *arrays: NDArray[np.float32], last: bool = False
    ) -> tuple[NDArray[np.float32], ...]:
        """Run the graph once.

        Parameters
        ----------
        *arrays : float32 arrays
            The inputs in the order of the card: ``image`` (n, 1, h, w), and for
            inpainting ``cr_mask`` (n, 1, h, w) of 0 and 1, and for graphs that take it
            ``profile`` (n, 1, h, w).
        last : bool
            Give onnxruntime's working memory back afterwards.

        Returns
        -------
        tuple of (n, 1, h, w) float32 arrays
            The outputs in the order of the card: ``cr_probability``; or ``inpainted`` and,
            from graphs that give it, ``sigma``, both in units of the noise.

        Raises
        ------
        ModelError, OutOfMemoryError
            onnxruntime refuses the arrays, or runs out of memory.
        """
        return self._session.run(arrays, last=last)


@dataclass(frozen=True)
class Verification:
    """What `verify` found: the pack reproduces its stored outputs.

    Attributes
    ----------
    name : str
        ``pack`` or ``pack/detector``.
    provider : str
        The onnxruntime provider that was used.
    detect_difference : float
        Largest |Δ| of cr_probability.
    inpaint_difference : float
        Largest |Δ| of a pixel, relative to it or to one noise unit if larger.
    fast_difference : float or None
        Largest |Δ| of the fast variant's cr_probability; None for a pack without one.
    """

    name: str
    provider: str
    detect_difference: float
    inpaint_difference: float
    fast_difference: float | None = None


def split_name(model: str) -> tuple[str, str | None]:
    """Split ``pack`` or ``pack/detector`` into pack and detector.

    Raises
    ------
    InvalidInputError
        It is no text.
    UnknownDetectorError
        It names a detector of a pack that is for any detector.
    ModelError
        It names a detector of a pack that does not exist.
    """
    if not isinstance(model, str):
        raise InvalidInputError(
            f"model is a {type(model).__name__}; expected the name of a model pack, such as "
            '"generic" or "csst_msc/08"'
        )
    pack, _, detector = model.partition("/")
    if detector and not available_detectors(pack):
        raise UnknownDetectorError(
            f"model {model!r} names a detector, but the pack {pack!r} is for any; "
            f"expected {pack!r} alone"
        )
    return pack, detector or None


def load_card(pack: str, detector: int | str | None = None) -> ModelCard:
    """Read the card of a pack, without onnxruntime.

    Parameters
    ----------
    pack : str
        Such as ``csst_msc`` or ``generic``.
    detector : int, str or None
        Such as 8, ``"8"`` or ``"08"``; ignored by a pack that is for any detector.

    Raises
    ------
    ModelError
        There is no such pack, or its card is missing, damaged or of another format.
    UnknownDetectorError
        The pack has no such detector, or needs one and none was given.
    """
    return read_card(detector_folder(pack, detector))


def load_model(
    pack: str,
    detector: int | str | None = None,
    kind: str = "detect",
    device: str = "auto",
    threads: int | None = None,
) -> Model:
    """Load one graph of a pack, after checking that it is the one its card describes.

    Parameters
    ----------
    pack, detector
        As in `load_card`.
    kind : str
        ``detect``, ``detect_fast`` or ``inpaint``.
    device : str
        ``auto`` (CUDA where it works, else CPU), ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads, at most as many as this process may use CPUs; None = so many.

    Returns
    -------
    Model
        Sessions are shared between calls with the same graph, device and threads.

    Raises
    ------
    ModelError
        The pack, card or graph is missing, damaged, moved or swapped.
    UnknownDetectorError
        The pack has no such detector.
    DeviceError
        ``cuda`` was asked for and not granted.
    MissingRuntimeError
        onnxruntime is not installed.
    InvalidInputError
        `kind`, `device` or `threads` is not one of those above.
    """
    if kind not in (kinds := (*KINDS, FAST)):
        raise InvalidInputError(f"kind is {kind!r}; expected one of {', '.join(kinds)}")
    return _load(detector_folder(pack, detector), kind, device, threads)


def _load(folder: Path, kind: str, device: str, threads: int | None) -> Model:
    """Load one graph from a detector's folder, and the one that it asks for its opinion."""
    card = read_card(folder)
    opinion = card.graph(kind).second_opinion
    model = _load_graph(folder, card, kind, device, threads)
    if opinion is None:
        return model
    return replace(model, second=_load_graph(folder, card, opinion.kind, device, threads))


def _load_graph(
    folder: Path, card: ModelCard, kind: str, device: str, threads: int | None
) -> Model:
    """Load one graph that a card describes."""
    path = folder / card.graph(kind).file
    graph = read_graph(path, card.graph(kind).sha256)
    try:
        session = get_session(graph, card.graph(kind).sha256, device, threads)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    check_identity(path, card, kind, session)
    return Model(card=card, kind=kind, _session=session)


def _refuse_beside(model: Model, **others: object) -> None:
    """Raise where an argument would change nothing, since the model is loaded already."""
    for name, value in others.items():
        if value is not None and (name, value) != ("device", "auto"):
            raise InvalidInputError(
                f"{name}={value!r} is given beside the loaded model {model.name}, which would "
                f"ignore it; expected it in load_model, or model as text"
            )


def choose_model(
    detector: int | str | None,
    model: str | Model | None,
    kind: str,
    device: str = "auto",
    threads: int | None = None,
    quality: str | None = None,
) -> Model:
    """Load the graph that the arguments of `crmend.detect` and `crmend.inpaint` name.

    Parameters
    ----------
    detector : int, str or None
        A CSST detector such as 8, or a detector of the pack that `model` names.
    model : str, Model or None
        ``pack``, ``pack/detector``, or a loaded model, which is returned as it is.
    kind : str
        ``detect`` or ``inpaint``.
    device, threads
        As in `load_model`.
    quality : str or None
        Of detection: ``reference`` or ``fast``; None = the card's default.

    Raises
    ------
    InvalidInputError
        Neither is given, or two detectors are, or `model` is loaded and of another kind or
        beside any other argument, or neither text nor loaded, or there is no such quality.
    UnknownDetectorError
        `model` names a detector of a pack that is for any.
    ModelError
        The pack has no graph of that quality.
    """
    if quality is not None and quality not in tuple(QUALITIES):
        raise InvalidInputError(
            f"quality is {quality!r}; expected one of {', '.join(QUALITIES)}"
        )
    if isinstance(model, Model):
        if (model.kind == "inpaint") != (kind == "inpaint"):
            raise InvalidInputError(f"model is {model.name}; expected a graph of kind {kind}")
        _refuse_beside(
            model, detector=detector, device=device, threads=threads, quality=quality
        )
        return model
    if model is None and detector is None:
        raise InvalidInputError(
            "the data's origin is not given; expected detector=8 (a CSST detector) or "
            f'model="generic" (packs: {", ".join(available_packs()) or "none installed"})'
        )
    pack, named = split_name(DEFAULT_PACK if model is None else model)
    if named is not None and detector is not None:
        raise InvalidInputError(
            f"model={model!r} names a detector and detector={detector!r} is given too; "
            "expected one of them"
        )
    folder = detector_folder(pack, detector if named is None else named)
    if kind == "detect":
        kind = QUALITIES[quality or read_card(folder).default_quality]
    return _load(folder, kind, device, threads)


def verify(
    pack: str,
    detector: int | str | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
) -> Verification:
    """Check a pack: hashes, identities, and that stored outputs are reproduced here.

    Raises
    ------
    ModelError
        A file is missing, damaged or swapped, or an output differs by more than
        `DETECT_TOLERANCE` or `INPAINT_TOLERANCE`.
    """
    return verify_folder(detector_folder(pack, detector), device=device, threads=threads)


def verify_folder(
    folder: Path, *, device: str = "auto", threads: int | None = None
) -> Verification:
    """Check the pack or detector in one folder, installed or not, as `verify` does.

    Raises
    ------
    ModelError
        A file is missing, damaged or swapped, or an output differs by too much.
    """
    card = read_card(folder)
    path = folder / REFERENCE_FILE
    stored = read_reference(path, card)
    found = {}
    for kind in card.kinds:
        model = _load(folder, kind, device, threads)
        found[kind] = _reference_difference(model, stored)
        limit = INPAINT_TOLERANCE if kind == "inpaint" else DETECT_TOLERANCE
        if not found[kind] <= limit:
            raise ModelError(
                f"{path}: the {kind} graph on {model.provider} differs from the stored output "
                f"by {found[kind]:.2g}; at most {limit:g} was expected. Use device='cpu' "
                "(--device cpu) or another onnxruntime version, and report this."
            )
    differences = found["detect"], found["inpaint"], found.get(FAST)
    return Verification(card.name, model.provider, *differences)


def _reference_difference(model: Model, stored: dict[str, NDArray[np.float32]]) -> float:
    """Return the largest |Δ| between a graph's output here and the stored one."""
    inputs, expected = (
        [stored[f"{model.kind}_{tensor.name}"] for tensor in tensors]
        for tensors in (model.graph.inputs, model.graph.outputs)
    )
    outputs = model.run(*inputs, last=True)
    if model.kind != "inpaint":
        return largest_difference(outputs[0], expected[0])
    return max(
        relative_difference(found, wanted, inputs[1])
        for found, wanted in zip(outputs, expected, strict=True)
    )
