"""Ranges in a model card that the runtime relies on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crmend import _deepcr_input, _normalise
from crmend._views import VIEWS
from crmend.errors import ModelError

if TYPE_CHECKING:
    from crmend._cards import GraphCard, ModelCard

REMEDY = "Install the pack again, or export it again with crmend-train export."


def check_graph(graph: GraphCard, kind: str, path: Path) -> None:
    """Check the card of one graph.

    Raises
    ------
    ModelError
        A value is out of range, or names a preprocessing that this version lacks.
    """
    _check_normalisation(graph, kind, path)
    threshold = graph.threshold
    if kind != "inpaint" and (threshold is None or not 0.0 < threshold < 1.0):
        raise ModelError(
            f"{path}: card key '{kind}.threshold' is {threshold!r}; expected a number "
            f"between 0 and 1. {REMEDY}"
        )
    seed = graph.seed_threshold
    if seed is not None and (threshold is None or not threshold <= seed < 1.0):
        raise ModelError(
            f"{path}: card key '{kind}.seed_threshold' is {seed!r}; expected null, or a number "
            f"from the threshold, {threshold}, to 1. {REMEDY}"
        )
    _check_views(graph.views, kind, path)
    if graph.stride < 1 or graph.halo < 0:
        raise ModelError(
            f"{path}: card keys '{kind}.halo' and '{kind}.stride' are {graph.halo} and "
            f"{graph.stride}; expected halo >= 0 and stride >= 1. {REMEDY}"
        )
    if Path(graph.file).name != graph.file:
        raise ModelError(
            f"{path}: card key '{kind}.file' is {graph.file!r}; expected a plain file name "
            f"inside the pack. {REMEDY}"
        )


def check_opinion(card: ModelCard, kind: str, path: Path) -> None:
    """Check what a card says of the second graph that one of its graphs asks.

    Raises
    ------
    ModelError
        The pack has no such graph, it is no other one for detection with the same
        preprocessing, or a value is out of range.
    """
    opinion, where = card.graph(kind).second_opinion, f"{kind}.second_opinion"
    if opinion is None:
        return
    others = [other for other in card.kinds if other not in (kind, "inpaint")]
    if kind == "inpaint" or opinion.kind not in others:
        raise ModelError(
            f"{path}: card key '{where}.kind' is {opinion.kind!r}; expected another detection "
            f"graph of the pack, beside one for detection. {REMEDY}"
        )
    if card.graph(opinion.kind).normalisation != card.graph(kind).normalisation:
        raise ModelError(
            f"{path}: card key '{where}.kind' is {opinion.kind!r}, whose normalisation is "
            f"another; expected the same. {REMEDY}"
        )
    keys = ("share", "sure", "threshold", "rather_sure", "apart_threshold")
    for key in keys if opinion.beside_least is None else (*keys, "beside_least"):
        value = getattr(opinion, key)
        if not 0.0 < value < 1.0:
            raise ModelError(
                f"{path}: card key '{where}.{key}' is {value}; expected a number between 0 "
                f"and 1. {REMEDY}"
            )
    _check_views(opinion.views, where, path)


def _check_views(views: int, where: str, path: Path) -> None:
    if views not in VIEWS:
        raise ModelError(
            f"{path}: card key '{where}.views' is {views}; expected one of "
            f"{', '.join(map(str, VIEWS))}. {REMEDY}"
        )


def _check_normalisation(graph: GraphCard, kind: str, path: Path) -> None:
    given = graph.normalisation
    if given.name == _normalise.NAME and given.parameters == _normalise.parameters():
        return
    detects = kind != "inpaint"
    if detects and given.name == _deepcr_input.NAME and _deepcr_input.usable(given.parameters):
        return
    also = f", and for detection {_deepcr_input.NAME}" if detects else ""
    raise ModelError(
        f"{path}: card key '{kind}.normalisation' is {given}; this crmend implements "
        f"{_normalise.NAME} with {_normalise.parameters()}{also}. Use the crmend that the pack "
        "was made for."
    )
