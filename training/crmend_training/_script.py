"""How ``crmend-train`` and the scripts of ``tools/`` end: what went wrong is told in a line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from crmend._signals import Terminated, ending_signals
from crmend.cli import INTERRUPTED, UNEXPECTED
from crmend.errors import CrmendError, CrmendWarning

INPUT = 3
"""Exit code where something given cannot be used."""


def existing_folder(text: str) -> Path:
    """Return the path of a folder that exists, as the type of an option."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder; expected one that exists")
    return Path(text)


def run(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and end with its exit code, 0 where it returns none."""
    sys.exit(end_of(main, Path(sys.argv[0]).name))


def end_of(main: Callable[[], int | None], name: str) -> int:
    """Run a program and return its exit code.

    An error that says what is wrong becomes a line on stderr and the exit code 3; a signal
    that ends the program one and 128 plus its number.
    """
    try:
        with warnings.catch_warnings(), ending_signals():
            show_briefly()
            return main() or 0
    except Terminated as error:
        text, code = "terminated", 128 + error.number
    except KeyboardInterrupt:
        text, code = "interrupted", INTERRUPTED
    # Before CrmendError: OutOfMemoryError is both.
    except (MemoryError, BrokenExecutor) as error:
        text = f"{str(error) or 'out of memory'}; with less memory than it needs, try --jobs 1"
        code = UNEXPECTED
    except (CrmendError, ValueError, OSError, LookupError) as error:
        text, code = _described(error), INPUT
    print(f"{name}: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
    return code


def show_briefly() -> None:
    """Show each `CrmendWarning` once, as a line of its own on stderr, from now on."""
    usual, shown = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        line = " ".join(str(message).split())
        if not issubclass(category, CrmendWarning):
            usual(message, category, *rest, **more)
        elif line not in shown:
            shown.add(line)
            print(f"warning: {line}", file=sys.stderr)  # noqa: T201

    warnings.showwarning = show


def _described(error: Exception) -> str:
    """Return the text of an error; the system's own say which file, and what to look at."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return (
            f"{error.filename}: {error.strerror}; check the path, and that you may read it or "
            "write there"
        )
    return str(error)
