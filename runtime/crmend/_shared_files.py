"""Files that other processes rewrite or replace while this one works on them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crmend._fits import check_exists
from crmend.errors import FileFormatError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_PATIENCE, _PAUSE = 60.0, 0.02
"""How long a lock is waited for, and between two looks [s].  Nobody writes for so long: then
another program holds it for reasons of its own, or for ever."""


@contextmanager
def locked(path: Path, *, to_write: bool) -> Iterator[None]:
    """Let no other process or thread write to a file meanwhile, if it can be locked.

    Some systems know no locks: that nothing goes wrong there is up to `unchanged`.

    Parameters
    ----------
    path : Path
    to_write : bool
        Let nobody in who reads, either.

    Raises
    ------
    MissingFileError, FileFormatError
        There is no such file any more.
    """
    if fcntl is None:
        yield
        return
    until = time.monotonic() + _PATIENCE
    while True:
        check_exists(path)
        # NFS gives locks that nobody shares to writers only.
        writes = to_write and os.access(path, os.W_OK)
        descriptor = os.open(path, os.O_RDWR if writes else os.O_RDONLY)
        try:
            _lock(descriptor, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH, until)
            # Whoever had the lock may have put another file in place.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, way: int, until: float) -> None:
    """Wait for a lock, but no longer than until then; go on without where there are none."""
    while True:
        try:
            fcntl.flock(descriptor, way | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return
            time.sleep(_PAUSE)
        except OSError:
            return
        else:
            return


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Check at the end of a block that the file is what it was at its start.

    Raises
    ------
    FileFormatError
        It is not.
    """
    before = _identity(path)
    yield
    if _identity(path) != before:
        raise FileFormatError(
            f"{path} has changed while it was copied, expected the same file; run again when "
            "nobody writes to it"
        )


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what changes if a file is replaced or written to; None = it is gone."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return None
