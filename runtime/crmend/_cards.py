"""Model cards: what stands in the ``card.json`` beside the graphs, parsed strictly.

A card says everything about its graphs that their file names should not: identity,
preprocessing, tiling, threshold, training and how well they do.  `ModelCard.to_json` and
`parse_card` are inverses.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from crmend._card_checks import REMEDY, check_graph, check_opinion
from crmend._card_json import build
from crmend.errors import InvalidInputError, ModelError

FORMAT = 1
"""Version of the card's layout; another one is refused."""

KINDS = ("detect", "inpaint")
"""The graphs that every pack has."""

FAST = "detect_fast"
"""The third graph, of packs that have it: detection in less time per view."""

QUALITIES = {"reference": "detect", "fast": FAST}
"""Which graph finds the cosmic rays at each quality."""


@dataclass(frozen=True)
class TensorCard:
    """One input or output of a graph; names in `shape` stand for free axes."""

    name: str
    shape: tuple[int | str, ...]
    unit: str


@dataclass(frozen=True)
class NormalisationCard:
    """The preprocessing that the graph was trained with.

    That of `crmend._normalise`, or for detection networks of deepCR `crmend._deepcr_input`.
    """

    name: str
    parameters: dict[str, float]


@dataclass(frozen=True)
class TrainingCard:
    """How the weights came to be.

    Attributes
    ----------
    recipe : str
        Its name; of a mean of several weights the names and shares of all.
    data_fingerprint : str
        Hash of the data set; of a mean the first one's.
    commit, date : str
        Of the code that exported the graph, and the ISO date of that.
    seed : int or None
        Of the training, of a mean the first one's; None = unknown.
    base : str or None
        The pack whose weights these are, unchanged; None for weights of its own.
    """

    recipe: str
    seed: int | None
    data_fingerprint: str
    commit: str
    date: str
    base: str | None


@dataclass(frozen=True)
class ParityCard:
    """Agreement of the graph under onnxruntime with torch.

    Attributes
    ----------
    frames : int
        Frames (detect) or cutouts (inpaint) that were compared.
    max_abs_difference : float
        Largest absolute difference: of probability, or of inpainted pixels in units of
        the noise.
    max_relative_difference : float or None
        Inpainting only: relative to the larger of the pixel and one noise unit.
    mask_pixels_changed : int
        Pixels whose cr_mask differs at the threshold.
    providers : tuple of str
        The onnxruntime providers that were compared.
    """

    frames: int
    max_abs_difference: float
    max_relative_difference: float | None
    mask_pixels_changed: int
    providers: tuple[str, ...]


@dataclass(frozen=True)
class CurvePoint:
    """What a threshold gives on the frames that thresholds are chosen on.

    Attributes
    ----------
    threshold : float
        On cr_probability.
    recall : float
        Share of the CR pixels above 5 e- that are found.  On frames whose labels have edges
        of their own (packs for any instrument), of the labelled pixels above twice the edge.
    precision : float
        Share of the found pixels that hold any CR charge; there, that are labelled.
    """

    threshold: float
    recall: float
    precision: float


@dataclass(frozen=True)
class OpinionCard:
    """When a second graph of the pack is asked, and what it counts (`crmend._second_opinion`).

    It is asked at the card's own thresholds only; seed_threshold does not matter then.

    Attributes
    ----------
    kind : str
        Which detection graph.
    share : float
        Of its log-odds in the mean of both.
    sure : float
        A group of which no pixel has this cr_probability is judged by both graphs ...
    threshold : float
        ... and stays where the mean of the best log-odds is at least that of this probability.
    rather_sure : float
        Of other groups what touches no pixel of this cr_probability is judged by both ...
    apart_threshold : float
        ... likewise.
    views : int
        How often the second graph sees them, see `crmend._views`.
    beside_least : float or None
        Bright pixels beside the mask are judged by both from this cr_probability on, and join
        it from `apart_threshold` on; None = they never do.
    """

    kind: str
    share: float
    sure: float
    threshold: float
    rather_sure: float
    apart_threshold: float
    views: int = 1
    beside_least: float | None = None


@dataclass(frozen=True)
class GraphCard:
    """One graph of a pack.

    Attributes
    ----------
    file, sha256 : str
        Name inside the pack's folder, and the hash of its bytes in hexadecimal.
    architecture : str
        Such as ``deepcr`` or ``unetplusplus``.
    opset : int
        ONNX operator set.
    inputs, outputs : tuple of TensorCard
        In the graph's order.
    normalisation : NormalisationCard
        Must be one that this version of crmend implements.
    halo : int
        Receptive-field radius [px]; 0 for a graph that sees whole cutouts.
    stride : int
        Height and width must be multiples of it [px].
    threshold : float or None
        cr_mask = cr_probability >= threshold (detect), but see `seed_threshold`; None for
        inpaint.
    training : TrainingCard
        Origin of the weights.
    metrics : dict
        Figure or test-set name by metric name.
    parity : ParityCard
        Agreement with torch.
    curve : tuple of CurvePoint
        By ascending threshold (detect), of single pixels, whatever their group; empty where
        it was not measured.
    seed_threshold : float or None
        An 8-connected group of such pixels stays in cr_mask where its largest cr_probability
        is at least this (detect); None = every group stays.
    views : int
        How often the graph sees an image unless the user says (detect), see `crmend._views`;
        thresholds and curve are for so many.
    second_opinion : OpinionCard or None
        Another graph that is asked about groups that this one doubts (detect); None = none.
        The curve is without it.
    """

    file: str
    sha256: str
    architecture: str
    opset: int
    inputs: tuple[TensorCard, ...]
    outputs: tuple[TensorCard, ...]
    normalisation: NormalisationCard
    halo: int
    stride: int
    threshold: float | None
    training: TrainingCard
    metrics: dict[str, float | str]
    parity: ParityCard
    curve: tuple[CurvePoint, ...] = ()
    seed_threshold: float | None = None
    views: int = 1
    second_opinion: OpinionCard | None = None

    def threshold_for(self, precision: float) -> float:
        """Return the lowest threshold that gives a precision, between points of the curve.

        Raises
        ------
        InvalidInputError
            The card has no curve, or the precision lies outside of it.
        """
        if not self.curve:
            raise InvalidInputError(
                f"target_precision is {precision}, and the card of {self.file} has no curve; "
                "give a threshold instead"
            )
        best = max(point.precision for point in self.curve)
        least = self.curve[0].precision
        if not least <= precision <= best:
            raise InvalidInputError(
                f"target_precision is {precision}; expected {least:.4f} to {best:.4f}, what "
                f"the curve on the card of {self.file} reaches"
            )
        for before, after in zip((self.curve[0], *self.curve), self.curve, strict=False):
            if after.precision >= precision:
                gain = after.precision - before.precision
                share = 1.0 if gain <= 0.0 else (precision - before.precision) / gain
                return before.threshold + share * (after.threshold - before.threshold)
        raise AssertionError("unreachable: the best point is on the curve")


@dataclass(frozen=True)
class ModelCard:
    """The card of a pack: whose data it is for, and its graphs.

    Attributes
    ----------
    instrument : str
        Name of the pack, such as ``csst_msc`` or ``generic``.
    detector, band : str or None
        Such as ``08`` and ``g``; None for a pack that is for any.
    detect, inpaint : GraphCard
        The graphs.
    detect_fast : GraphCard or None
        The fast variant of detection, where there is one.
    default_quality : str
        ``reference`` or ``fast``: what finds cosmic rays unless the user says.
    quality_note : str
        Why.
    """

    instrument: str
    detector: str | None
    band: str | None
    detect: GraphCard
    inpaint: GraphCard
    detect_fast: GraphCard | None = None
    default_quality: str = "reference"
    quality_note: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the graphs that the pack has."""
        return KINDS if self.detect_fast is None else (*KINDS, FAST)

    @property
    def name(self) -> str:
        """Return ``pack`` or ``pack/detector``."""
        return (
            self.instrument if self.detector is None else f"{self.instrument}/{self.detector}"
        )

    @property
    def finder(self) -> GraphCard:
        """The graph that finds cosmic rays unless the user says which."""
        return self.graph(QUALITIES[self.default_quality])

    def graph(self, kind: str) -> GraphCard:
        """Return the card of the ``detect``, ``detect_fast`` or ``inpaint`` graph.

        Raises
        ------
        ModelError
            The pack has no such graph.
        """
        graph = {"detect": self.detect, "inpaint": self.inpaint, FAST: self.detect_fast}[kind]
        if graph is None:
            raise ModelError(
                f"model pack {self.name} has no {kind} graph; use quality 'reference'"
            )
        return graph

    def identity(self, kind: str) -> dict[str, str]:
        """Return what the metadata of the graph itself must say."""
        graph = self.graph(kind)
        return {
            "crmend.instrument": self.instrument,
            "crmend.detector": self.detector or "",
            "crmend.band": self.band or "",
            "crmend.kind": kind,
            "crmend.architecture": graph.architecture,
            "crmend.normalisation": graph.normalisation.name,
        }

    def to_json(self) -> str:
        """Return the text of ``card.json``."""
        content = {"format": FORMAT} | dataclasses.asdict(self)
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_card(text: str, path: Path) -> ModelCard:
    """Parse the text of a ``card.json``.

    Parameters
    ----------
    text : str
        Content of the file.
    path : Path
        For messages only.

    Raises
    ------
    ModelError
        It is not JSON, has another format, an unknown, missing or mistyped key, a value
        out of range, or names a preprocessing that this version does not implement.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: the card is not JSON ({error}). {REMEDY}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise ModelError(
            f"{path}: card key 'format' is {found!r}; this crmend reads format {FORMAT}. "
            "Update crmend or the pack, whichever is older."
        )
    del content["format"]
    card = build(ModelCard, content, path, "")
    for kind in card.kinds:
        check_graph(card.graph(kind), kind, path)
        check_opinion(card, kind, path)
    if QUALITIES.get(card.default_quality) not in card.kinds:
        raise ModelError(
            f"{path}: card key 'default_quality' is {card.default_quality!r}; expected the "
            f"quality of a graph that the pack has. {REMEDY}"
        )
    return card
