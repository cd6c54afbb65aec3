"""Scripts of ``tools/``: what they cannot use is told in a line, as commands do it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from crmend.errors import CrmendError


def run(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and end with its exit code, 0 where it returns none.

    An error that says what is wrong becomes a line on stderr and the exit code 3.
    """
    try:
        sys.exit(main())
    except (CrmendError, ValueError, OSError, LookupError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
