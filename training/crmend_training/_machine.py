"""What a training asks of the machine: a device, fast arithmetic."""

from __future__ import annotations

import functools
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
