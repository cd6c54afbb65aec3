"""Compiled kernels are kept on disk, so that a process need not compile them again.

Compiling takes some 20 s per process, loading 0.2 s.  numba's own cache (``cache=True``) has
an index in which processes overwrite each other's entries, takes a function for fresh whose
callee in another file changed, and raises where its folder cannot be written.  Here is one
file per function and signature, named by a hash of all that it depends on: this package's
sources, numba, the Python, the processor.  It is written to a temporary name and renamed,
carries a checksum, and whatever goes wrong with it only means compiling as before.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crmend._environment import check_numba_threads

check_numba_threads()

import numba  # noqa: E402
from numba.core import compiler, serialize  # noqa: E402
from numba.core.caching import NullCache  # noqa: E402
from numba.core.types.misc import unliteral  # noqa: E402

_F = TypeVar("_F", bound=Callable[..., object])

FOLDER_VARIABLE = "CRMEND_CACHE"
"""Environment variable: the folder, or ``off``."""

_OLD = 30 * 86400.0  # s; what another version did not write to for so long is removed
_DIGEST = hashlib.sha256().digest_size


def njit(function: _F) -> _F:
    """Compile lazily, without the GIL, and keep what was compiled on disk."""
    compiled: Any = numba.njit(nogil=True)(function)
    if hasattr(compiled, "_cache"):  # without NUMBA_DISABLE_JIT
        compiled._cache = _OnDisk(function)
        compiled.get_call_template = _without_literals(compiled.get_call_template)
    return compiled  # type: ignore[no-any-return]


def _without_literals(get_call_template: Callable[..., Any]) -> Callable[..., Any]:
    """Let a kernel that is called with 0 and with a variable be compiled once, not twice."""

    def get(args: Sequence[Any], kws: dict[str, Any]) -> Any:
        plain = {name: unliteral(kind) for name, kind in kws.items()}
        return get_call_template([unliteral(kind) for kind in args], plain)

    return get


class _OnDisk(NullCache):  # type: ignore[misc]
    """What a numba dispatcher asks for compiled code."""

    def __init__(self, function: Callable[..., object]):
        self._name = f"{function.__module__}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return compiled code for a signature, or None."""
        target_context.refresh()
        with contextlib.suppress(Exception):
            path = self._path(sig, target_context.codegen())
            content = b"" if path is None or not _is_ours(path) else path.read_bytes()
            digest, code = content[:_DIGEST], content[_DIGEST:]
            if digest and hashlib.sha256(code).digest() == digest:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(code))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code for a signature, if it can be kept."""
        if data.lifted or data.library.has_dynamic_globals:
            return
        with contextlib.suppress(Exception):
            path = self._path(sig, data.codegen)
            if path is not None:
                code = serialize.dumps(data._reduce())
                _write(path, hashlib.sha256(code).digest() + code)

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        """Return where the code of a signature is for this processor; None = nowhere."""
        folder = _folder()
        if folder is None:
            return None
        key = repr((self._name, sig, codegen.magic_tuple()))
        return folder / f"{self._name}.{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def _is_ours(path: Path) -> bool:
    """Tell whether a file is this user's or root's: what another one wrote is not run."""
    return not hasattr(os, "getuid") or path.stat().st_uid in {os.getuid(), 0}


def _write(path: Path, content: bytes) -> None:
    """Write a file at once or not at all."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@functools.cache
def _folder() -> Path | None:
    """Return the folder of this very package, Python and numba; None = keep nothing."""
    chosen = os.environ.get(FOLDER_VARIABLE, "")
    if chosen.lower() == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(chosen or Path(base) / "crmend").expanduser()
    if not root.is_absolute():
        if not chosen:
            return None  # no home
        root = root.absolute()
    digest = hashlib.sha256(f"{sys.version} numba {numba.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return root / f"kernels-{digest.hexdigest()[:16]}"


def _forget_old(folder: Path) -> None:
    """Remove the folders of other versions that were not written to for a month."""
    for other in filter(_is_named_so, folder.parent.glob("kernels-*")):
        with contextlib.suppress(OSError):
            if other != folder and time.time() - other.stat().st_mtime > _OLD:
                # Nothing but our own files, should the name be somebody else's.
                for path in other.glob("crmend.*"):
                    path.unlink()
                other.rmdir()


def _is_named_so(folder: Path) -> bool:
    """Tell whether a folder's name is one of `_folder`."""
    return re.fullmatch(r"kernels-[0-9a-f]{16}", folder.name) is not None
