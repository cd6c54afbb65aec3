"""Several data sets as one, such as the cameras of two rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from crmend import _normalise
from crmend_training.datasets.fields import Place
from crmend_training.datasets.frames import DRAWN
from crmend_training.datasets.storage import FORMAT, SetWriter, load_column, load_info

_OWNER = "frame"
"""Last part of the names of columns that say which frame a row comes from."""


def join_sets(folders: Sequence[Path], out: Path) -> dict:
    """Write one set of the rows of several, and return its ``set.json``.

    Fields of different sets count as different ones, so no frame may be in two of them.

    Parameters
    ----------
    folders : sequence of Path
        Complete sets with the same columns.
    out : Path
        Another folder.

    Raises
    ------
    FileNotFoundError
        A folder holds no data set.
    ValueError
        Columns, format or normalisation differ, a frame is in two sets, or `out` is one of
        them.
    """
    folders, out = [Path(folder) for folder in folders], Path(out)
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ValueError(f"{out} is one of the sets to join; expected another folder")
    infos = [load_info(folder) for folder in folders]
    _check_frames(folders, infos)
    columns = infos[0].get("columns", {})
    for folder, info in zip(folders, infos, strict=True):
        _check(folder, info, columns)
    types = {name: load_column(folders[0], name).dtype for name in columns}
    with SetWriter(out, {name: (columns[name], types[name]) for name in columns}) as writer:
        for number, (folder, info) in enumerate(zip(folders, infos, strict=True)):
            first = len(writer.names)
            for name, field in zip(info["frames"], info["fields"], strict=True):
                writer.add_frame(name, Place(f"field {field} of set {number}"))
            for name in columns:
                rows = load_column(folder, name)
                moved = first if name.rpartition("/")[2] == _OWNER else 0
                for row in tqdm(rows, desc=f"{folder.name} {name}", disable=None):
                    writer.add(name, row + moved if moved else row)
        return writer.finish({"joined": [info["fingerprint"] for info in infos]})


def _check_frames(folders: Sequence[Path], infos: Sequence[dict]) -> None:
    """Refuse a frame that would be trained on in one set and held out in another."""
    owner: dict[str, Path] = {}
    for folder, info in zip(folders, infos, strict=True):
        for name in set(info["frames"]):
            if name in owner:
                raise ValueError(
                    f"frame {name} is in {owner[name]} and in {folder}; expected sets of "
                    "different frames, since one side of a split would see the other's"
                    f"{_remedy(name)}"
                )
            owner[name] = folder


def _remedy(name: str) -> str:
    """Say how a set comes without a frame that the recipe draws."""
    kind = next((start.strip() for start in DRAWN if name.startswith(start)), "")
    if not kind:
        return ""
    return (
        f": both recipes draw it. Make one set anew with another seed in [dataset.{kind}], or "
        "with frames = 0 there"
    )


def _check(folder: Path, info: dict, columns: dict) -> None:
    """Refuse a set whose rows cannot stand beside those of the first one."""
    found = (info["format"], info["normalisation"], info.get("columns", {}))
    expected = (FORMAT, _normalise.NAME, columns)
    if found != expected or not columns:
        raise ValueError(
            f"{folder} has format, normalisation and columns {found}; expected {expected}"
        )
