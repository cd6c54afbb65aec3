"""Weights as bytes: what a network is rounded to, so that its graph is small."""

from __future__ import annotations

import torch
from torch import Tensor

BYTES_FROM = 2**15
"""Weights of one layer from which on its graph holds them as bytes (0.3 % of the largest)."""

LARGEST_BYTE = 127


def rounded_to_bytes(weight: Tensor) -> Tensor:
    """Return weights rounded to −127…127 times a half-precision scale per first index."""
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = (largest / LARGEST_BYTE).half().float().clamp(min=torch.finfo(torch.half).tiny)
    return (weight / scale).round().clamp(-LARGEST_BYTE, LARGEST_BYTE) * scale
