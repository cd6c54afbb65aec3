"""Finding the folder of a model pack and of a detector in it."""

from __future__ import annotations

import os
import warnings
from importlib import resources
from pathlib import Path

import numpy as np

from crmend.errors import CrmendWarning, ModelError, UnknownDetectorError

CARD_FILE = "card.json"


def available_packs() -> tuple[str, ...]:
    """Return the names of all packs, sorted."""
    names = set()
    for root in _roots():
        names |= {f.name for f in root.iterdir() if f.is_dir() and _is_pack(f)}
    return tuple(sorted(names))


def available_detectors(pack: str) -> tuple[str, ...]:
    """Return the detectors that a pack has graphs for; empty for a pack that is for any.

    Raises
    ------
    ModelError
        There is no such pack.
    """
    return tuple(sorted(card.parent.name for card in _pack_folder(pack).glob(f"*/{CARD_FILE}")))


def _roots() -> list[Path]:
    """Return the folders that hold packs, those of CRMEND_MODELS first."""
    named = [Path(p) for p in os.environ.get("CRMEND_MODELS", "").split(os.pathsep) if p]
    for folder in named:
        # `Path.is_dir` raises where a folder above is closed.
        if not (os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)):
            raise ModelError(
                f"environment variable CRMEND_MODELS names {folder}, which is not a folder "
                "that can be read. Unset it, or name a folder that holds packs."
            )
    return [*named, Path(str(resources.files("crmend.exported_models")))]


def _is_pack(folder: Path) -> bool:
    return (folder / CARD_FILE).is_file() or any(folder.glob(f"*/{CARD_FILE}"))


def _pack_folder(pack: str) -> Path:
    """Find a pack by its name."""
    for root in _roots():
        named = isinstance(pack, str) and pack and Path(pack).name == pack
        if named and _is_pack(root / pack):
            return root / pack
    places = " and ".join(str(root) for root in _roots())
    raise ModelError(
        f"there is no model pack {pack!r} in {places}; "
        f"available: {', '.join(available_packs()) or 'none'}"
    )


def detector_folder(pack: str, detector: int | str | None) -> Path:
    """Find the folder of one detector, or of a pack that is for any."""
    folder = _pack_folder(pack)
    if (folder / CARD_FILE).is_file():
        return folder
    known = available_detectors(pack)
    wanted = _plain(detector)
    for name in known:
        if wanted and _plain(name) == wanted:
            return folder / name
    what = "needs a detector" if detector is None else f"has no detector {detector!r}"
    raise UnknownDetectorError(f"model pack {pack!r} {what}; available: {', '.join(known)}")


def warn_if_unused(detector: int | str | None, pack: object) -> None:
    """Warn where a detector is named beside a pack that is for any.

    Warns
    -----
    CrmendWarning
        Its network is the same for all of them.
    """
    if detector is None or not isinstance(pack, str) or pack not in available_packs():
        return
    if not available_detectors(pack):
        warnings.warn(
            f"detector {detector} changes nothing: model pack {pack!r} is for any; expected "
            "one with networks for each detector, such as 'csst_msc', or no detector",
            CrmendWarning,
            stacklevel=3,
        )


def _plain(detector: object) -> str:
    """Return a detector's name without leading zeros: 8, "8" and "08" are the same."""
    if isinstance(detector, bool) or not isinstance(detector, int | str | np.integer):
        return ""
    name = str(detector).strip()
    return name.lstrip("0") or name[:1]
