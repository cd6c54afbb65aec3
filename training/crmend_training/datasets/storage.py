"""A data set on disk: written a row at a time, read through memory maps, split by field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crmend import _normalise
from crmend.errors import OutputError
from crmend_training._results import whole_file
from crmend_training.datasets import compact
from crmend_training.datasets.fields import Place, group_fields

FORMAT = 2
"""1: float32 images and bool masks, frames only.  2: coded columns, the field of each frame."""

PLAIN, ASINH, BITS = "plain", "asinh-int16", "bits"

_BLOCK = 1 << 24


class SetWriter:
    """Writes the columns of a data set as they come, so that no set has to fit into memory.

    Parameters
    ----------
    folder : Path
        Made where it does not exist; a set of the same columns is replaced when the new one
        is complete.  After an error that one stays, and nothing of the new one.
    columns : mapping of str to (coding, dtype)
        `PLAIN` columns are stored as `dtype`; for the other codings it is ignored.

    Raises
    ------
    ValueError
        The folder holds a set of other columns.
    """

    def __init__(self, folder: Path, columns: Mapping[str, tuple[str, Any]]):
        self.folder = Path(folder)
        _check_room(self.folder, columns)
        self.columns = {name: _Column(self.folder, name, *how) for name, how in columns.items()}
        self.names: list[str] = []
        self.places: list[Place] = []

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for column in self.columns.values():
            if kind is None:
                column.close()
            else:
                column.discard()
        if kind is not None:
            with suppress(OSError):
                self.folder.rmdir()

    def add_frame(self, name: str, place: Place) -> int:
        """Note a frame, and return its index."""
        self.names.append(name)
        self.places.append(place)
        return len(self.names) - 1

    def add(self, column: str, row: Any) -> None:
        """Append one row to a column; rows of a column have one shape."""
        self.columns[column].append(np.asarray(row))

    def finish(self, made_with: Mapping[str, Any] | None = None) -> dict:
        """Close the columns, write ``set.json`` and return what it says.

        `made_with` is noted there, for `check_made_with`.
        """
        digest = hashlib.sha256(_normalise.NAME.encode())
        for name, column in self.columns.items():
            column.close()
            digest.update(name.encode())
            digest.update(column.description().encode())
            column.hash_into(digest)
        info = {
            "format": FORMAT,
            "normalisation": _normalise.NAME,
            "frames": self.names,
            "fields": group_fields(self.places),
            "columns": {name: c.coding for name, c in self.columns.items()},
            "widths": {n: c.width for n, c in self.columns.items() if c.coding == BITS},
            "counts": {name: column.count for name, column in self.columns.items()},
            "fingerprint": digest.hexdigest()[:16],
        }
        if made_with is not None:
            info["made_with"] = dict(made_with)
        # It says that a set is complete: gone before the first column changes, back at the end.
        (self.folder / "set.json").unlink(missing_ok=True)
        for column in self.columns.values():
            column.keep()
        with whole_file(self.folder / "set.json") as temporary:
            temporary.write_text(json.dumps(info, indent=1) + "\n")
        return info


def _check_room(folder: Path, columns: Mapping[str, Any]) -> None:
    """Refuse to break a set of another kind; a damaged one may be replaced."""
    others: set[str] = set()
    with suppress(ValueError, FileNotFoundError):
        others = set(load_info(folder).get("columns", columns)) - set(columns)
    if others:
        raise ValueError(
            f"{folder} holds a set of {', '.join(sorted(others))}; expected a folder for "
            "each set"
        )


def check_made_with(
    folder: Path, made_with: Mapping[str, Any], names: Sequence[str] = ()
) -> None:
    """Refuse a complete set that was made with other settings; older sets do not say theirs.

    Parameters
    ----------
    folder : Path
    made_with : mapping
        As for `SetWriter.finish`.
    names : sequence of str
        Of the first frames, which are read from files.

    Raises
    ------
    ValueError
        Something differs.
    """
    info = load_info(folder)
    for now, name in zip(names, info["frames"], strict=False):
        if now != name:
            raise ValueError(
                f"{folder} was made of other exposures: it has {name} where {now} is now; make "
                "it anew with --overwrite, or give another --out"
            )
    before = info.get("made_with", made_with)
    for key, value in made_with.items():
        if before.get(key) != value:
            raise ValueError(
                f"{folder} was made with {key} {before.get(key)}, now it is {value}; make it "
                "anew with --overwrite, or give another --out"
            )


class _Column:
    """One ``.npy`` file that grows along its first axis, under another name until kept."""

    def __init__(self, folder: Path, name: str, coding: str, dtype: Any):
        self.path = folder / f"{name}.npy"
        self.draft = self.path.with_suffix(".draft")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.coding = coding
        self.dtype = np.dtype({ASINH: np.int16, BITS: np.uint8}.get(coding, dtype))
        self.count, self.width = 0, 0
        self.shape: tuple[int, ...] | None = None
        self.file: BinaryIO | None = None

    def append(self, row: NDArray) -> None:
        """Write one row, coded.

        Raises
        ------
        ValueError
            It has another shape than those before.
        """
        if self.coding == ASINH:
            row = compact.encode(row)
        elif self.coding == BITS:
            self.width = row.shape[-1]
            row = compact.pack(row)
        row = np.ascontiguousarray(row, dtype=self.dtype).reshape(row.shape)
        if self.shape is None:
            self.shape = row.shape
            self._open()
        if row.shape != self.shape:
            raise ValueError(f"{self.path} has rows of {self.shape}, got one of {row.shape}")
        with _named(self.path):
            self.file.write(row.tobytes())  # type: ignore[union-attr]
        self.count += 1

    def close(self) -> None:
        if self.file is None and self.shape is None:
            self.shape = ()
            self._open()
        if self.file is not None:
            with _named(self.path):
                self.file.seek(0)
                self._header()
                self.file.close()
            self.file = None

    def keep(self) -> None:
        """Give what was written its name; who reads the file of before goes on with that."""
        self.draft.replace(self.path)

    def discard(self) -> None:
        """Take away what was written, and the column's folder if nothing else is in it."""
        with suppress(OSError):
            if self.file is not None:
                self.file.close()
        if self.shape is not None:
            self.draft.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()

    def description(self) -> str:
        """Return what of the column is not in its bytes."""
        return f"{self.coding} {self.dtype.str} {(self.count, *(self.shape or ()))}"

    def hash_into(self, digest: Any) -> None:
        with self.draft.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)

    def _open(self) -> None:
        self.file = self.draft.open("wb")
        self._header()

    def _header(self) -> None:
        # numpy pads the header for a growing first axis, so its length stays the same.
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, *(self.shape or ())),
        }
        np.lib.format.write_array_header_1_0(self.file, header)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file cannot be written, which the system does not of one that is open."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}; free some space, or choose "
            "another --out"
        ) from error


def load_column(folder: Path, column: str) -> Any:
    """Return one array of a data set through a memory map.

    Coded columns come as `compact.CodedColumn` or `compact.BitColumn`, which decode what is
    indexed (and all of it under `numpy.asarray`); plain ones as `numpy.memmap`.

    Raises
    ------
    ValueError
        The set has no such column, its file is damaged, or another version made the set.
    """
    folder = Path(folder)
    info = load_info(folder) if (folder / "set.json").is_file() else {}
    made = info.get("format", FORMAT), info.get("normalisation", _normalise.NAME)
    if made[0] not in (1, FORMAT) or made[1] != _normalise.NAME:
        raise ValueError(
            f"{folder} has format and normalisation {made}, networks are fed with "
            f"{(FORMAT, _normalise.NAME)}; make the set anew"
        )
    if column not in info.get("columns", {column: PLAIN}):
        raise ValueError(
            f"{folder} is a set of {', '.join(info['columns'])}; expected one with {column}: "
            f"make it with `crmend-train dataset {column.partition('/')[0]}`"
        )
    coding = info.get("columns", {}).get(column, PLAIN)
    path = folder / f"{column}.npy"
    try:
        stored = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); make the set anew") from error
    if len(stored) != (count := info.get("counts", {}).get(column, len(stored))):
        raise ValueError(
            f"{path} is damaged (it has {len(stored)} rows, set.json says {count}); make the "
            "set anew"
        )
    # Views, since indexing a numpy.memmap costs more than reading the crop does.
    if coding == ASINH:
        return compact.CodedColumn(stored.view(np.ndarray))
    if coding == BITS:
        return compact.BitColumn(stored.view(np.ndarray), info["widths"][column])
    return stored


def load_info(folder: Path) -> dict:
    """Return ``set.json``.

    Raises
    ------
    FileNotFoundError
        The folder holds no data set.
    ValueError
        ``set.json`` is damaged.
    """
    path = Path(folder) / "set.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with `crmend-train dataset`")
    lacking = {"format", "normalisation", "frames", "counts", "fingerprint"}
    try:
        info: dict = json.loads(path.read_text())
        lacking -= set(info)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is not what `crmend-train dataset` writes ({error}); make the set anew"
        ) from error
    if lacking:
        raise ValueError(
            f"{path} is not what `crmend-train dataset` writes (it lacks "
            f"{', '.join(sorted(lacking))}); make the set anew"
        )
    return info


def split_frames(info: dict, validation: float = 0.1) -> tuple[list[int], list[int]]:
    """Split frame indices into training and validation, by field.

    A frame, and all frames that show the same piece of sky, are on one side only.

    Parameters
    ----------
    info : dict
        What `load_info` returns; sets of format 1 take every frame for a field of its own.
    validation : float
        Share of the fields that is held out, at least one.

    Raises
    ------
    ValueError
        All frames show one field, so that every split would share its sources.
    """
    indices = range(len(info["frames"]))
    fields = info.get("fields", list(indices))
    groups = list(dict.fromkeys(fields))
    if len(groups) < 2:
        raise ValueError(
            f"the {len(indices)} frame(s) of this set show {len(groups)} field; expected at "
            "least two, one for training and one to hold out: add frames of another field"
        )
    step = max(2, round(1.0 / validation))
    held = set(groups[step - 1 :: step] or groups[-1:])
    training = [i for i in indices if fields[i] not in held]
    return training, [i for i in indices if fields[i] in held]
