"""Sizes of the work that a memory limit allows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crmend._cards import FAST
from crmend.detect import default_tile
from crmend.errors import InvalidInputError
from crmend.inpaint import BATCH
from crmend.models import Model

PLANE_BYTES = 20
"""Bytes per pixel of what `crmend.clean` holds: image, error, flag and probability of 4 bytes
each, and four masks."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{prefix}I": 2 ** (10 * power) for power, prefix in enumerate("KMGT", start=1)}

# Measured: interpreter and libraries, and the noise measurement of a large frame.
_BASE_BYTES = 350_000_000
# Rough working memory of the networks, per pixel of a tile with its margin and per cutout; fast
# graphs exported since the twenty-second round need half of it.
_TILE_PIXEL_BYTES, _FAST_PIXEL_BYTES = 1_500, 350
_CUTOUT_BYTES = 4_000_000
# Tiles of 64 px would save 30 MB more, and take three times as long.
_SMALLEST_TILE, _SMALLEST_BATCH = 128, 1


@dataclass(frozen=True)
class WorkSizes:
    """How much is worked on at once.

    Attributes
    ----------
    tile : int or None
        Side of a detection tile [px]; None = the device's default.
    batch : int
        Cutouts that the inpainting network sees at once.
    """

    tile: int | None = None
    batch: int = BATCH


def plan_work(shape: tuple[int, ...], memory: int | str | None, model: Model) -> WorkSizes:
    """Choose tile and batch so that cleaning a frame stays below a limit.

    The limit is an aim: tiles and batches shrink to a smallest size, and not further.  It
    cannot be lower than the planes of the frame themselves.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the frame [px].
    memory : int, str or None
        Bytes of the whole process, or text such as ``"2GB"``; None = the defaults.
    model : Model
        A ``detect`` graph.

    Raises
    ------
    InvalidInputError
        `memory` is no size, or less than the planes of the frame.
    """
    if memory is None:
        return WorkSizes()
    limit = byte_count(memory)
    planes = PLANE_BYTES * shape[0] * shape[1]
    if limit < planes:
        raise InvalidInputError(
            f"memory is {limit / 1e9:.3g} GB, but the planes of a {shape[0]} × {shape[1]} "
            f"frame alone (image, error, flag, probability, masks) take {planes / 1e9:.3g} GB; "
            "allow more, or clean parts of the frame"
        )
    left = limit - planes - _BASE_BYTES
    largest = default_tile(model)
    tile = _halve(largest, _SMALLEST_TILE, lambda side: _tile_bytes(side, model) <= left)
    return WorkSizes(
        tile=None if tile == largest else tile,
        batch=_halve(BATCH, _SMALLEST_BATCH, lambda n: n * _CUTOUT_BYTES <= left),
    )


def _tile_bytes(side: int, model: Model) -> int:
    per_pixel = _FAST_PIXEL_BYTES if model.kind == FAST else _TILE_PIXEL_BYTES
    return (side + 2 * model.graph.halo) ** 2 * per_pixel


def _halve(size: int, smallest: int, fits: Callable[[int], bool]) -> int:
    """Return the size, halved until it fits or is the smallest."""
    while size > smallest and not fits(size):
        size = max(size // 2, smallest)
    return size


def byte_count(memory: int | str) -> int:
    """Return bytes from a number, or from text such as ``2GB``, ``1.5 GiB`` or ``800M``."""
    if isinstance(memory, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", memory.strip().upper())
        if match is not None and match[2] in _UNITS:
            size = float(match[1]) * _UNITS[match[2]]
            if size < math.inf:
                return int(size)
    elif isinstance(memory, int | np.integer) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    raise InvalidInputError(f"memory is {memory!r}; expected bytes, or a size such as '2GB'")
