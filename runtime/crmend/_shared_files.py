"""Files that other processes rewrite or replace while this one works on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crmend._fits import check_exists
from crmend.errors import FileFormatError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other process or thread into such a block with the same file, if it can be locked.

    Some systems know no locks: that nothing goes wrong there is up to `unchanged`.

    Raises
    ------
    MissingFileError, FileFormatError
        There is no such file any more.
    """
    if fcntl is None:
        yield
        return
    while True:
        check_exists(path)
        # NFS gives such locks to writers only.
        way = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
        descriptor = os.open(path, way)
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever had the lock may have put another file in place.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield
                return
        finally:
            os.close(descriptor)


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
