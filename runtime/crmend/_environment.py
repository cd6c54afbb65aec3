"""What other packages read of the environment, checked before they are imported."""

from __future__ import annotations

import os

from crmend.errors import InvalidInputError

_THREADS = "NUMBA_NUM_THREADS"


def check_numba_threads() -> None:
    """Refuse a number of threads that numba cannot start with, or passes over with a traceback.

    Raises
    ------
    InvalidInputError
        The environment variable is set, and not to a whole number of 1 or more.
    """
    text = os.environ.get(_THREADS, "1")
    try:
        enough = int(text) >= 1  # as numba reads it
    except ValueError:
        enough = False
    if not enough:
        raise InvalidInputError(
            f"environment variable {_THREADS} is {text!r}; expected a whole number >= 1: set "
            "it to one, or unset it (crmend's own threads are set by --threads)"
        )
