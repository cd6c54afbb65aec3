"""Checkpoints: written at once, read only where they are what is asked for."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crmend_training._results import whole_file
from crmend_training.networks import FINDERS, MENDERS, FoldedNet, build, check_config


@dataclass(frozen=True)
class Weights:
    """Checkpoints of one kind of network.

    Attributes
    ----------
    base : Path
        Of all detectors together.
    own : mapping
        Of packs that have weights of their own, by name (``08``, ``generic``).
    """

    base: Path
    own: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def found(cls, base: str | Path, folder: str | Path | None) -> Weights:
        """Return a base and the ``08.pt`` … that a training per detector left in a folder.

        A ``generic.pt`` beside them is taken for the pack of other instruments.

        Raises
        ------
        FileNotFoundError
            The folder holds no such checkpoint.
        """
        names = ("[0-9][0-9].pt", "generic.pt")
        found = [] if folder is None else [p for n in names for p in Path(folder).glob(n)]
        paths = sorted(found)
        if folder is not None and not paths:
            raise FileNotFoundError(
                f"{folder} holds no checkpoint such as 08.pt, and no generic.pt"
            )
        return cls(Path(base), {path.stem: path for path in paths})

    def of(self, name: str) -> Path:
        """Return the checkpoint of a detector, or the base for any other name."""
        return self.own.get(name, self.base)

    def digest_of(self, name: str) -> str:
        """Return the first 16 hex digits of the SHA-256 of that checkpoint."""
        return hashlib.sha256(self.of(name).read_bytes()).hexdigest()[:16]


def load_network(checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of a checkpoint as `network_of` does, and its configuration."""
    saved = read_checkpoint(checkpoint)
    return network_of(saved), saved["config"]


_NO_CHECKPOINT = (
    OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError,
)  # fmt: skip


def read_checkpoint(path: Path, known: Sequence[str] = FINDERS + MENDERS) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote, of a network of one of the `known` architectures.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no checkpoint, one of another network, or one of weights that are not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a checkpoint")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        check_config(state["config"], known)
        missing = {"state_dict", "info"} - set(state)
    except _NO_CHECKPOINT as error:
        # Of what is more than numbers and text torch says how to run it all the same.
        refused = isinstance(error, pickle.UnpicklingError)
        why = "it is not only numbers and text" if refused else error
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({why}); expected what "
            "a training writes, such as final.pt"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; expected a checkpoint")
    if bad := _not_finite(state["state_dict"]):
        raise ValueError(
            f"{path}: {len(bad)} of {len(state['state_dict'])} weights are not finite, such as "
            f"{bad[0]}; expected a network that says something"
        )
    return state


def final_at(step: int, path: Path) -> dict[str, Any] | None:
    """Return the final checkpoint of a training if it is of this step; None = there is none.

    Raises
    ------
    ValueError
        As `read_checkpoint`.
    """
    final = read_checkpoint(path) if path.is_file() else None
    return None if final is None or final["info"].get("steps") != step else final


def _not_finite(weights: Mapping[str, torch.Tensor]) -> list[str]:
    return [name for name, weight in weights.items() if not weight.isfinite().all()]


def check_resumed(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on where data, settings or first weights are not those of a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint, for messages.
    before, now : mapping
        What it says of its training, and what that of now says.

    Raises
    ------
    ValueError
        They differ in what a training must not change on its way.
    """
    for key in ("data_fingerprint", "seed"):
        if key in now and now[key] != before.get(key):
            raise ValueError(
                f"{path} was trained with {key} {before.get(key)}, now it is {now[key]}; give "
                "the data set and recipe of before, or another --out"
            )
    if "initial" in now and now["initial"] != before.get("initial"):
        raise ValueError(
            f"{path} did not start from the weights of --from; give those of before to go on, "
            "or another --out"
        )
    earlier = before.get("settings", {})  # Checkpoints of before 2026-11-29 hold none.
    for key, value in now.get("settings", {}).items():
        if key in earlier and earlier[key] != value:
            raise ValueError(
                f"{path} was trained with {key} {earlier[key]}, now it is {value}; give the "
                "recipe of before (steps, budget and rate may change), or another --out with "
                "--from"
            )


def network_of(saved: Mapping[str, Any]) -> nn.Module:
    """Return the network that a checkpoint's content holds, in evaluation mode.

    It is what its graph holds, too (`networks.FoldedNet.settled`).
    """
    network = build(saved["config"])
    network.load_state_dict(saved["state_dict"])
    if isinstance(network, FoldedNet):
        network.settled()
    return network.eval()


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write what a checkpoint holds, whole or not at all.

    Raises
    ------
    ValueError
        A weight is not finite: such a network says nothing, and what `path` held stays.
    """
    weights = state.get("state_dict", {})
    if bad := _not_finite(weights):
        raise ValueError(
            f"{len(bad)} of {len(weights)} weights for {path} are not finite, such as "
            f"{bad[0]}; the training ran away, and nothing is written: lower the rate in the "
            "recipe"
        )
    content = io.BytesIO()
    # Of a full disk torch itself says nothing that anybody understands.
    whole = {key: _shared(part, {}) if key == "info" else part for key, part in state.items()}
    torch.save(whole, content)
    with whole_file(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _shared(value: Any, known: dict[str, Any]) -> Any:
    """Return a record whose equal parts are one object, which is written once.

    Weights that are the mean of a training and of what it started from have all of its lineage
    twice, and their successors four times.
    """
    if isinstance(value, dict):
        value = {key: _shared(part, known) for key, part in value.items()}
    elif isinstance(value, list):
        value = [_shared(part, known) for part in value]
    else:
        return value
    return known.setdefault(repr(value), value)
