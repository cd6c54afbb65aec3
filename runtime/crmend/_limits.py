"""From which cr_probability on there are cosmic rays: of the card, or as the user wishes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend._cards import GraphCard
from crmend._events import keep_seeded
from crmend._inputs import check_seed_threshold, check_threshold
from crmend.errors import InvalidInputError
from crmend.models import Model


@dataclass(frozen=True)
class Limits:
    """From which cr_probability on there are cosmic rays.

    Attributes
    ----------
    threshold : float
        Of every pixel.
    seed_threshold : float or None
        Of the best pixel of every 8-connected group of them; None = groups do not matter.
    asks : bool
        Whether the second graph of the card, if there is one, has a say.
    """

    threshold: float
    seed_threshold: float | None = None
    asks: bool = False

    @classmethod
    def of_card(cls, graph: GraphCard) -> Limits:
        """Return those of a graph's card.

        Raises
        ------
        InvalidInputError
            It is no detection graph.
        """
        if graph.threshold is None:
            raise InvalidInputError(f"{graph.file} has no threshold; expected a detect graph")
        return cls(graph.threshold, graph.seed_threshold, graph.second_opinion is not None)

    def mask(self, cr_probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the cr_mask, (ny, nx) bool, that follows from (ny, nx) cr_probability."""
        cr_mask = cr_probability >= self.threshold
        if self.seed_threshold is not None:
            keep_seeded(cr_mask.view(np.uint8), cr_probability, self.seed_threshold)
        return cr_mask


def second_model(model: Model, limits: Limits) -> Model | None:
    """Return the graph that another one asks with some limits; None = none.

    Parameters
    ----------
    model : Model
        A detection graph.
    limits : Limits
        What it is used with.
    """
    return model.second if limits.asks else None


def name_second(model: Model, limits: Limits) -> dict[str, str | None]:
    """Return name and hash of `second_model`, as `Stats` and headers call them."""
    second = second_model(model, limits)
    return {
        "second_model": None if second is None else second.name,
        "second_sha256": None if second is None else second.graph.sha256,
    }


def choose_limits(
    model: Model,
    threshold: float | None = None,
    seed_threshold: float | None = None,
    target_precision: float | None = None,
) -> Limits:
    """Return from which cr_probability on there are cosmic rays.

    Parameters
    ----------
    model : Model
        A detection graph.
    threshold, seed_threshold, target_precision
        As in `detect`.

    Raises
    ------
    InvalidInputError
        `threshold` and `target_precision` are both given, a number is out of range, or the
        model is not for detection.
    """
    own = Limits.of_card(model.graph)
    if threshold is not None and target_precision is not None:
        raise InvalidInputError(
            f"threshold is {threshold} and target_precision {target_precision}; expected one"
        )
    lowest, seed = own.threshold, own.seed_threshold
    if threshold is not None:
        lowest, seed = check_threshold(threshold, own.threshold), None
    elif target_precision is not None:
        lowest, seed = _threshold_for(model.graph, target_precision), None
    if seed_threshold is not None:
        seed = check_seed_threshold(seed_threshold, lowest)
    given = (threshold, seed_threshold, target_precision)
    return Limits(lowest, seed, own.asks and all(one is None for one in given))


def _threshold_for(graph: GraphCard, target_precision: float) -> float:
    """Return the threshold that the card's curve has for a precision."""
    number = isinstance(target_precision, float | int | np.integer | np.floating)
    if not number or isinstance(target_precision, bool):
        raise InvalidInputError(
            f"target_precision is {target_precision!r}; expected a number between 0 and 1"
        )
    return graph.threshold_for(float(target_precision))
