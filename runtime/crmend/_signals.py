"""Signals that end a process raise an error, so that nothing half written is left behind.

The command line also keeps its word about exit codes: once a result has its name, signals wait
until that is told (`hold`); and one whose error was lost, in a library's callback or as another
error of an import that it broke, is found again (`check`, `cause_of`).
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

# Windows has no SIGHUP, which comes where a terminal is closed.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ANSWERING = 10.0
"""Seconds in which more signals do not disturb the answer to the first one."""


class Terminated(KeyboardInterrupt):
    """A signal that ends the process has come: SIGTERM or SIGHUP, whose `number` it has."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@dataclass
class _Watch:
    """The error of the first signal that came, and whether signals wait."""

    error: KeyboardInterrupt | None = None
    held: bool = False


_watch: _Watch | None = None
"""That of the command line, as long as it runs."""


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let the signals raise `Terminated` in a block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handlers(_raising(_Watch()), ENDING):
        yield


@contextmanager
def watched_signals(*, last: bool) -> Iterator[None]:
    """Do so for a command line, for Ctrl-C too, with what `hold` and `check` need.

    Parameters
    ----------
    last : bool
        Nothing but the end of the process follows: the signals are ignored from then on.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = list(ENDING)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    outer, _watch = _watch, _Watch()
    try:
        with _silence(), _handlers(_raising(_watch), numbers, last=last):
            yield
    finally:
        _watch = outer


def hold() -> None:
    """Let signals wait from here on, or raise the error of one that has come before."""
    if _watch is not None and not _watch.held:
        _watch.held = True
        check()


def release() -> None:
    """Let signals wait no more, and raise the error of one that has come."""
    if _watch is not None:
        _watch.held = False
        check()


def check() -> None:
    """Raise the error of a signal that came, if it was lost."""
    if _watch is not None and _watch.error is not None:
        raise _watch.error


def cause_of(error: BaseException) -> BaseException:
    """Let signals wait while an error is told, and return it, or the signal's behind it."""
    if _watch is None or _watch.held:
        return error
    _watch.held = True
    return error if _watch.error is None else _watch.error


@contextmanager
def _handlers(
    handler: Callable[[int, FrameType | None], None], numbers: list[int], *, last: bool = False
) -> Iterator[None]:
    """Handle signals in a block, but for those that nohup and others let a process ignore."""
    heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, signal.SIG_IGN if last else before)


def _raising(watch: _Watch) -> Callable[[int, FrameType | None], None]:
    """Return a handler that raises an error, and then nothing while that is answered.

    Not for ever: Python drops an error that is raised while an object is destroyed, an answer
    may find no reader, and the process must still end at a later signal.
    """
    answered = -math.inf

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal answered
        if time.monotonic() - answered <= _ANSWERING:
            return
        answered = time.monotonic()
        waits = watch.held and watch.error is None
        error = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
        watch.error = watch.error or error
        if not waits:
            raise error

    return terminate


@contextmanager
def _silence() -> Iterator[None]:
    """Print no traceback of a signal's error that is dropped, since `check` raises it again."""
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def drop(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            unraisable(dropped)

    # Also what C prints: numpy, where its import breaks.
    def print_(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not isinstance(error, KeyboardInterrupt):
            uncaught(kind, error, trace)

    sys.unraisablehook, sys.excepthook = drop, print_
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = unraisable, uncaught
