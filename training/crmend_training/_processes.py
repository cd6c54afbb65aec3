"""Processes that share work out, and end quietly where the program is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import FrameType

from crmend._signals import ENDING
from crmend_training._script import show_briefly


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give so many processes; an error or a signal that stops the program stops them, too.

    They then remove what is half written, and say nothing.
    """
    hook = threading.excepthook
    try:
        with ProcessPoolExecutor(jobs, initializer=_prepare) as pool:
            try:
                yield pool
            except BaseException:
                # The pool's own thread fails on what was cancelled when its processes end.
                threading.excepthook = _say_nothing
                for process in multiprocessing.active_children():
                    process.terminate()
                # Waits for that thread, whose words the hook is to keep.
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        threading.excepthook = hook


def _say_nothing(_: threading.ExceptHookArgs) -> None:
    pass


def _prepare() -> None:
    """End quietly on signals, and tell warnings as the program itself does."""
    show_briefly()
    for number in (signal.SIGINT, *ENDING):
        # What nohup and others let a process ignore stays ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    # What is half done cleans up after itself; the pool would then begin something else.
    timer = threading.Timer(1.0, os._exit, [128 + number])
    timer.daemon = True
    timer.start()
    sys.exit(128 + number)
