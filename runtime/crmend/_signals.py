"""Signals that end a process raise an error, so that nothing half written is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP, which comes where a terminal is closed.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """A signal that ends the process has come: SIGTERM or SIGHUP, whose `number` it has."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let the signals raise `Terminated` in a block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What nohup and others let a process ignore stays ignored.
    heeded = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, _terminate) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
