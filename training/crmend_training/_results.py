"""Results: kept where they exist, unless told otherwise, and written whole or not at all."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crmend._fits_write import atomic_output
from crmend.errors import OutputError

_OVERWRITE = "--overwrite"


def add_overwrite(command: argparse._ActionsContainer) -> None:
    """Add ``--overwrite`` to a command, or to a group of its options."""
    command.add_argument(_OVERWRITE, action="store_true", help="replace results that exist")


def refuse_existing(path: Path, options: argparse.Namespace) -> None:
    """Refuse to replace a result without ``--overwrite``; cheap, so that work need not start.

    Raises
    ------
    OutputError
        It exists, is a folder, or cannot be written (`refuse_unwritable`).
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected the name of a file; add one")
    if path.exists() and not options.overwrite:
        other = ", --resume to keep what is complete" if "resume" in options else ""
        raise OutputError(
            f"{path} exists; choose another --out{other}, or {_OVERWRITE} to replace it"
        )
    refuse_unwritable(path)


def refuse_unwritable(path: Path) -> None:
    """Refuse a result for which there is no folder, nor can one be made; as cheap.

    Raises
    ------
    OutputError
        A file stands where a folder should, or the folder is read-only.
    """
    folder = next(place for place in path.absolute().parents if place.exists())
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: {folder} is a file; choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path} cannot be written: {folder} is read-only; choose another --out"
        )


def make_folder(path: Path) -> None:
    """Make the folder of a report, or refuse it as `refuse_unwritable` does."""
    refuse_unwritable(path / "report.md")
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of a file, renamed when all went well.

    The folder is made where there is none.

    Raises
    ------
    OutputError
        The file cannot be written; what was written is then removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, overwrite=True, gzipped=False) as temporary:
        yield temporary
