"""The flag plane: one integer per pixel, one bit per defect.

Bits are never lost: planes of any integer type are promoted to int32 by their bit
pattern, and new bits are OR-ed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend.errors import InvalidInputError

CR_BIT = 1 << 20
"""Value of the cosmic-ray bit in CSST flag planes (paper: 2^20 = 1048576)."""


def set_flag(
    flag: NDArray[Any], mask: NDArray[np.bool_], bit: int = CR_BIT
) -> NDArray[np.int32]:
    """Return a copy of a flag plane with a bit set where the mask is True.

    Parameters
    ----------
    flag : (ny, nx) integer array
        Any integer type and byte order; never changed.
    mask : (ny, nx) bool array
        True = set the bit.
    bit : int
        Value of the bit (or of several bits), not its index; at most 2^31 − 1.

    Returns
    -------
    (ny, nx) int32 array
        A new array; all other bits are those of `flag`.

    Raises
    ------
    InvalidInputError
        If the shapes differ, or a type or value does not fit 32 bits.
    """
    if np.shape(mask) != np.shape(flag):
        raise InvalidInputError(
            f"the mask has shape {np.shape(mask)} and the flag plane {np.shape(flag)}; "
            "pass a mask of the flag plane's shape"
        )
    if np.asarray(mask).dtype != np.bool_:
        raise InvalidInputError(
            f"the mask has dtype {np.asarray(mask).dtype}, expected bool; "
            "convert it with mask.astype(bool)"
        )
    _check_bit(bit)
    result = to_int32(flag)
    np.bitwise_or(result, np.int32(bit), out=result, where=mask)
    return result


def has_flag(flag: NDArray[Any], bits: int) -> NDArray[np.bool_]:
    """Return True where any of the bits is set.

    Parameters
    ----------
    flag : integer array of any shape
    bits : int
        Value of one bit, or the sum of several; at most 2^32 − 1.

    Returns
    -------
    bool array of the same shape

    Raises
    ------
    InvalidInputError
        If the plane does not hold integers, or the bits do not fit 32 bits.
    """
    _check_bit(bits, np.iinfo(np.uint32).max)
    values = np.asarray(flag)
    if values.dtype.kind not in "iu":
        raise InvalidInputError(
            f"the flag plane has dtype {values.dtype}; expected integers (convert it with "
            "crmend.flags.to_int32)"
        )
    if values.dtype.kind == "i" and values.dtype.itemsize <= 4:
        # A set sign bit must not be extended into bits that the plane does not have.
        values = values.view(values.dtype.str.replace("i", "u"))
    if values.dtype.itemsize < 4:
        bits &= int(np.iinfo(values.dtype).max)
    present: NDArray[np.bool_] = (values & values.dtype.type(bits)) != 0
    return present


def to_int32(flag: NDArray[Any]) -> NDArray[np.int32]:
    """Return a flag plane as a new native int32 array with the same bits.

    Signed 8- and 16-bit planes are taken as bit patterns (−32768 is bit 15, nothing
    else); unsigned planes, and wider ones whose values fit, keep all 32 bits.  Planes stored as
    floating point are accepted when every value is a whole number.

    Raises
    ------
    InvalidInputError
        If a value has a fraction, is not finite, or does not fit 32 bits.
    """
    values = np.asarray(flag)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.int32)
    if kind not in "iuf":
        raise InvalidInputError(
            f"the flag plane has dtype {values.dtype}, expected integers; "
            "pass an integer plane of bits"
        )
    if kind == "i" and size < 4:
        return values.view(values.dtype.str.replace("i", "u")).astype(np.int32)
    if kind == "u" and size == 4:
        return values.astype(np.uint32).view(np.int32)
    if kind == "f" or size == 8:
        _check_whole(values)
        values = values.astype(np.int64)
    return values.astype(np.int32)


def _check_whole(values: NDArray[Any]) -> None:
    """Raise unless every value is a whole number of 32 bits, with a sign or without."""
    # Of numpy, since float16 would have to hold what Python's numbers are.
    low, end = np.float64(-(2**31)), np.float64(2**32)
    good = (values >= low) & (values < end)
    if values.dtype.kind == "f":
        good &= values == np.floor(values)
    if not good.all():
        raise InvalidInputError(
            f"the flag plane ({values.dtype.name}) holds {values[~good].flat[0]}, expected "
            "whole numbers of at most 32 bits; is this a flag plane?"
        )


def _check_bit(bit: int, largest: int = np.iinfo(np.int32).max) -> None:
    """Raise unless the value is one of 0 to the largest."""
    if not isinstance(bit, int | np.integer) or not 0 <= bit <= largest:
        raise InvalidInputError(
            f"flag bit {bit!r} does not fit {largest.bit_length()} bits; pass a value of 0 to "
            f"{largest}"
        )
