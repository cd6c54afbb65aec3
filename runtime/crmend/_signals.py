"""Signals that end a process raise an error, so that nothing half written is left behind."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP, which comes where a terminal is closed.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ANSWERING = 10.0
"""Seconds in which more signals do not disturb the answer to the first one."""


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
    terminate = _terminate_once()
    previous = {number: signal.signal(number, terminate) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate_once() -> Callable[[int, FrameType | None], None]:
    """Return a handler that raises `Terminated`, and then nothing while that is answered.

    Not for ever: Python drops an error that is raised while an object is destroyed, and the
    process must still end at a later signal.
    """
    raised = -math.inf

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if time.monotonic() - raised > _ANSWERING:
            raised = time.monotonic()
            raise Terminated(number)

    return terminate
