"""Several data sets as one, such as the cameras of two rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from crmend import _normalise
from crmend_training.datasets.fields import Place
from crmend_training.datasets.storage import FORMAT, SetWriter, load_column, load_info

_OWNER = "frame"
"""Last part of the names of columns that say which frame a row comes from."""


def join_sets(folders: Sequence[Path], out: Path) -> dict:
    """Write one set of the rows of several, and return its ``set.json``.

    Frames of different sets count as different fields.

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
        Columns, format or normalisation differ, or `out` is one of the sets.
    """
    folders, out = [Path(folder) for folder in folders], Path(out)
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ValueError(f"{out} is one of the sets to join; expected another folder")
    infos = [load_info(folder) for folder in folders]
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


def _check(folder: Path, info: dict, columns: dict) -> None:
    """Refuse a set whose rows cannot stand beside those of the first one."""
    found = (info["format"], info["normalisation"], info.get("columns", {}))
    expected = (FORMAT, _normalise.NAME, columns)
    if found != expected or not columns:
        raise ValueError(
            f"{folder} has format, normalisation and columns {found}; expected {expected}"
        )
