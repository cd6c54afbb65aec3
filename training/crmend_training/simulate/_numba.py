"""numba's compiler for the kernels of the simulator, with its cache where there can be one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., object])


def njit(function: _F) -> _F:
    """Compile lazily, without the GIL, and keep what was compiled in numba's own cache.

    That of the runtime (`crmend._compiled`) goes by the sources of the runtime alone.
    numba raises where neither the folder of the file nor the user's cache can be written, as in
    a read-only installation without a home; kernels are then compiled in every process.
    """
    compiled: Any
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return compiled  # type: ignore[no-any-return]
