"""How detection stamps are kept small on disk, and read back a window at a time.

Images are int16 codes on an asinh scale: ``code = rint(asinh(v / 3) / 2**-11)`` for a value v
in noise units.  The step in v is ``2**-11 · sqrt(9 + v²)``, so the largest error is 0.0007
noise on the background and 0.024 % of a bright pixel: for a CSST pixel near saturation
(v ≈ 7000 at 10 e- of noise) 1.7 noise, while its photons scatter by 26.  Codes reach to
1.3e7 noise.  Masks are bits along the last axis, the first pixel in the highest bit of its
byte, rows padded to whole bytes (`numpy.packbits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend._normalise import SOFTENING

STEP = 2.0**-11
"""Step of the codes in asinh(v / 3): assumed, the finest power of two whose 32767 steps reach
beyond any detector's full well."""

_LARGEST = 32767


def encode(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the codes of values in noise units, same shape; beyond the range they clip."""
    codes = np.arcsinh(values.astype(np.float64) / SOFTENING) / STEP
    return np.rint(np.clip(codes, -_LARGEST, _LARGEST)).astype(np.int16)


def decode(codes: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the values of codes [noise units], a new float32 array of the same shape."""
    return np.take(_table(), np.asarray(codes).view(np.uint16))


@cache
def _table() -> NDArray[np.float32]:
    """Return the value of every code, indexed by the code's bits read as uint16."""
    codes = np.arange(2**16, dtype=np.uint16).view(np.int16)
    return (SOFTENING * np.sinh(codes.astype(np.float64) * STEP)).astype(np.float32)


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask as bits along its last axis."""
    return np.packbits(mask, axis=-1)


@dataclass(frozen=True, eq=False)
class CodedColumn:
    """Images on disk, (n, ny, nx); what is indexed comes decoded, as float32."""

    stored: NDArray[np.int16]
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded array."""
        return self.stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        return decode(self.stored[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class BitColumn:
    """Masks on disk, (n, ny, nx); what is indexed comes unpacked, as bool.

    Indices are as in numpy, but only a slice of step 1 on the last axis.
    """

    stored: NDArray[np.uint8]
    width: int
    dtype = np.dtype(np.bool_)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the unpacked array."""
        return (*self.stored.shape[:-1], self.width)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> NDArray[np.bool_]:
        index = index if isinstance(index, tuple) else (index,)
        columns = slice(None)
        if len(index) == self.stored.ndim:
            *front, columns = index
            index = tuple(front)
        if not isinstance(columns, slice) or columns.step not in (None, 1):
            raise IndexError(f"the last index is {columns!r}; expected a slice of step 1")
        first, last, _ = columns.indices(self.width)
        rest = (slice(None),) * (self.stored.ndim - 1 - len(index))
        packed = self.stored[(*index, *rest, slice(first // 8, -(-last // 8)))]
        start = first % 8
        bits = np.unpackbits(packed, axis=-1)[..., start : start + max(last - first, 0)]
        return bits.view(np.bool_)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def sum(self) -> int:
        """Return the number of True pixels; unpacks a stamp at a time."""
        return sum(int(np.unpackbits(row).sum()) for row in self.stored)
