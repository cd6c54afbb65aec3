"""Drop astropy's warnings for a while, in any number of threads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from astropy.utils.exceptions import AstropyWarning

# With a pattern, which Python leaves out where it matches all: no filter of a user is equal.
_IGNORE = ("ignore", re.compile(""), AstropyWarning, None, 0)


@contextmanager
def without_astropy_warnings() -> Iterator[None]:
    """Drop warnings of astropy in a block, in all threads as long as any is in such a block.

    `warnings.catch_warnings` would not do: it puts back the filters that it found, which are
    those of another thread where blocks overlap.  Here each block adds one filter, and takes
    it out of the same list again.
    """
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _IGNORE)
    try:
        yield
    finally:
        # It is gone where somebody has called warnings.resetwarnings.
        with suppress(ValueError):
            filters.remove(_IGNORE)
