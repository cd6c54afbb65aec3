"""Results: kept where they exist, unless told otherwise, and written whole or not at all."""

from __future__ import annotations

import argparse
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
        It exists, or is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected the name of a file; add one")
    if path.exists() and not options.overwrite:
        other = ", --resume to keep what is complete" if "resume" in options else ""
        raise OutputError(
            f"{path} exists; choose another --out{other}, or {_OVERWRITE} to replace it"
        )


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
