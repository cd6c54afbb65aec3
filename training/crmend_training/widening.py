"""The weights of a narrow inpainting network put into a wider one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crmend_training.networks import UNetPlusPlus


def widen(network: UNetPlusPlus, narrow: dict[str, Tensor], filters: Sequence[int]) -> None:
    """Give a network the weights of a narrower one, so that its output is the same.

    Old channels keep their weights and see nothing of the new ones, whose own weights stay as
    they are; so nothing is lost, and the new ones can be learnt.

    Parameters
    ----------
    network : UNetPlusPlus
        In place.
    narrow : dict
        State of a `UNetPlusPlus` of the same depth and `mirror`; without an uncertainty that
        head keeps its start, and a profile that it does not know has no effect yet.
    filters : sequence of int
        Its channels per level.

    Raises
    ------
    ValueError
        A level of it is wider than the network's, or the depths differ.
    """
    widths = list(zip(filters, network.filters, strict=True))
    if any(old > new for old, new in widths):
        raise ValueError(f"filters {tuple(filters)} do not fit into {network.filters}")
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if name not in narrow and name.startswith("spread."):
                continue
            outputs, inputs = _groups(name, widths, weight, narrow[name])
            if weight.ndim == 1:
                weight[: outputs[1]] = 0.0
                weight[: outputs[0]] = narrow[name]
                continue
            # A transposed convolution has its inputs first.
            target, source = (
                (w.transpose(0, 1) if name.startswith("ups.") else w)
                for w in (weight, narrow[name])
            )
            target[: outputs[0]] = 0.0
            start = before = 0
            for old, new in inputs:
                target[: outputs[0], start : start + old] = source[:, before : before + old]
                start, before = start + new, before + old


_Widths = list[tuple[int, int]]


def _groups(
    name: str, widths: _Widths, weight: Tensor, narrow: Tensor
) -> tuple[tuple[int, int], _Widths]:
    """Return the (old, new) outputs of a layer, and those of every group of its inputs."""
    kind, place, *rest = name.split(".")
    if kind in ("heads", "spread"):
        single = kind == "heads" or place == "2"
        return ((1, 1) if single else widths[0]), [widths[0]]
    level, column = (int(part) for part in place.split("_"))
    if kind == "ups":
        return widths[level], [widths[level + 1]]
    if rest[0] == "2":
        return widths[level], [widths[level]]
    if column:
        return widths[level], [widths[level]] * (column + 1)
    if level == 0 and weight.ndim > 1:
        return widths[level], [(narrow.shape[1], weight.shape[1])]
    return widths[level], [widths[level - 1]]
