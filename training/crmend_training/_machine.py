"""What a training asks of the machine: a device, fast arithmetic, memory that is kept."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch


def device_for_training() -> torch.device:
    """Return a GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def fast_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 natively.

    With AMX a step takes a third of float32's time; without such instructions bfloat16 is
    emulated, 30 times slower than float32 (LOG.md).
    """
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def keep_memory() -> None:
    """Ask glibc to keep freed memory: twice the training speed on CPUs here.

    Without it each step returns its activations to the system and faults them in again.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 2**28)
