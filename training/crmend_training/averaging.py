"""The mean of the weights of networks that come from one another.

A network trained on has learnt something new and forgotten something else; the mean of its
weights and of those that it started from (or an ancestor's) is often better than either where
the other is worse (LOG.md, rounds 6 and 8).  Networks without a common ancestor have none that
means anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crmend_training._checkpoints import read_checkpoint, write_checkpoint


def average(checkpoints: Sequence[Path], shares: Sequence[float], out: Path) -> dict[str, Any]:
    """Write the mean of the weights of some checkpoints; return what it records of itself.

    Parameters
    ----------
    checkpoints : sequence of Path
        Two or more, of networks of one configuration.
    shares : sequence of float
        One for each, positive; they are divided by their sum.
    out : Path
        Holds half-precision weights as a finished training does.  Seed and fingerprint are the
        first one's, the recipe names all with their shares (`recipe_of`), and ``average_of``
        has share and record of each.

    Raises
    ------
    ValueError
        Fewer than two checkpoints, a share that is not positive, or networks that differ.
    """
    if len(checkpoints) < 2 or len(checkpoints) != len(shares):
        raise ValueError(
            f"{len(checkpoints)} checkpoints and {len(shares)} shares given, expected two or "
            "more checkpoints with a share each"
        )
    if not all(0.0 < share < math.inf for share in shares):
        raise ValueError(f"shares {list(shares)}: expected numbers above 0")
    saved = [read_checkpoint(path) for path in checkpoints]
    first = saved[0]
    for path, one in zip(checkpoints, saved, strict=True):
        if one["config"] != first["config"]:
            raise ValueError(
                f"{path} is a network of {one['config']}, {checkpoints[0]} one of "
                f"{first['config']}; expected the same configuration"
            )
    parts = [share / sum(shares) for share in shares]
    weights = {
        name: mean_of([one["state_dict"][name] for one in saved], parts)
        for name in first["state_dict"]
    }
    infos = [one["info"] for one in saved]
    kept = ("data_fingerprint", "seed")
    info = {key: infos[0][key] for key in kept if key in infos[0]} | {
        "average_of": [
            {"share": part, "info": {"recipe": path.stem} | one}
            for part, one, path in zip(parts, infos, checkpoints, strict=True)
        ],
    }
    info["recipe"] = recipe_of(info)
    write_checkpoint({"state_dict": weights, "config": first["config"], "info": info}, out)
    return info


def recipe_of(info: Mapping[str, Any]) -> str:
    """Return the recipe that a checkpoint's record names, such as ``0.7 first + 0.3 second``.

    Parameters
    ----------
    info : mapping
        Of a training, or of a mean: then the recipes of all its parts with their shares in the
        whole.
    """
    shares: dict[str, float] = {}
    _collect(info, 1.0, shares)
    if len(shares) == 1:
        return next(iter(shares))
    return " + ".join(f"{share:.2g} {name}" for name, share in shares.items())


def _collect(info: Mapping[str, Any], share: float, shares: dict[str, float]) -> None:
    """Add the shares of the trainings that a record is of, in their order."""
    parts = info.get("average_of")
    if not parts:
        name = str(info.get("recipe", "unknown"))
        shares[name] = shares.get(name, 0.0) + share
    else:
        for part in parts:
            _collect(part["info"], share * part["share"], shares)


def mean_of(tensors: Sequence[torch.Tensor], parts: Sequence[float]) -> torch.Tensor:
    """Return the mean of tensors with parts that sum to one, in the precision of the first."""
    total = sum(part * tensor.double() for part, tensor in zip(parts, tensors, strict=True))
    assert isinstance(total, torch.Tensor)
    return total.to(tensors[0].dtype)
