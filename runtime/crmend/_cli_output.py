"""What the command line prints: its answer to stdout, all messages to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crmend.errors import CrmendWarning

UNWRITABLE, UNREAD = 5, 141
"""Exit codes where stdout cannot be written, and where its reader has gone (128 + SIGPIPE)."""


class CommandLineError(Exception):
    """The command line is wrong; the message is argparse's."""


def say(line: str) -> None:
    """Print a message to stderr; it is lost where stderr is closed or full."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{line}\n")


def answer(text: str, code: int) -> int:
    r"""Print the answer to stdout and flush it.

    Parameters
    ----------
    text : str
        Characters that stdout's encoding lacks are written as ``\xe9``.
    code : int
        Exit code of the command.

    Returns
    -------
    int
        `code`, or in place of 0 that of an answer which did not arrive.
    """
    if sys.stdout is None:
        return code
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return code or UNREAD
    except OSError as error:
        _drop_stdout()
        say(
            f"crmend: the answer cannot be written to stdout ({error.strerror or error}); "
            "files are written all the same, send stdout elsewhere"
        )
        return code or UNWRITABLE
    return code


@contextmanager
def short_warnings(messages: list[str], shown: set[str], *, debug: bool) -> Iterator[None]:
    """Print each `CrmendWarning` once, as one line; other warnings only for --debug.

    Parameters
    ----------
    messages : list of str
        Receives the lines.
    shown : set of str
        Lines that are not printed again, because an earlier frame had them; receives all.
    debug : bool
        As the option.
    """
    from astropy import log

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        line = " ".join(str(message).split())
        if line in messages:
            return
        messages.append(line)
        if line not in shown:
            shown.add(line)
            say(f"crmend: warning: {line}")

    # Below warnings astropy logs to stdout, which is the answer's.
    level = log.level
    log.setLevel("WARNING")
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            warnings.simplefilter("always", CrmendWarning)
            warnings.showwarning = show
            yield
    finally:
        log.setLevel(level)


def _drop_stdout() -> None:
    """Send what is left of stdout nowhere: Python would fail on it once more at its end."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
