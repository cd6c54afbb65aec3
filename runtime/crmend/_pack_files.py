"""The files of a model pack: read, checked against each other, refused where they disagree."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crmend._cards import ModelCard, parse_card
from crmend._packs import CARD_FILE
from crmend._sessions import Session
from crmend.errors import ModelError


def read_card(folder: Path) -> ModelCard:
    """Read a card and check that it stands in its own folder."""
    path = folder / CARD_FILE
    try:
        card = parse_card(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: the card cannot be read ({error})") from error
    if not folder.absolute().as_posix().endswith(f"/{card.name}"):
        raise ModelError(
            f"{path}: the pack was moved or swapped: its card says {card.name!r}, so that is "
            "where it must stand. Install the pack again."
        )
    return card


def read_graph(path: Path, sha256: str) -> bytes:
    """Read a graph and check its hash."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the graph cannot be read ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path}: the graph is damaged or was replaced: its sha256 is {found}, the card "
            f"says {sha256}. Install the pack again."
        )
    return content


def check_identity(path: Path, card: ModelCard, kind: str, session: Session) -> None:
    """Compare what the graph says about itself with the card and the folder."""
    for key, wanted in card.identity(kind).items():
        found = session.metadata.get(key)
        if found != wanted:
            raise ModelError(
                f"{path}: the graph was swapped: its metadata says {key} = {found!r}, the card "
                f"says {wanted!r}. Install the pack again."
            )
    graph = card.graph(kind)
    for what, found_names, tensors in (
        ("inputs", session.input_names, graph.inputs),
        ("outputs", session.output_names, graph.outputs),
    ):
        names = tuple(item.name for item in tensors)
        if found_names != names:
            raise ModelError(
                f"{path}: the graph's {what} are {found_names}, the card says {names}. "
                "Install the pack again."
            )


def read_reference(path: Path, card: ModelCard) -> dict[str, NDArray[np.float32]]:
    """Read the stored reference inputs and outputs."""
    wanted = [
        f"{kind}_{tensor.name}"
        for kind in card.kinds
        for tensor in (*card.graph(kind).inputs, *card.graph(kind).outputs)
    ]
    try:
        # From memory: numpy leaves the file open where it is damaged.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name].astype(np.float32) for name in wanted}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path}: the reference outputs cannot be read ({error}). Install the pack again."
        ) from error
