"""Checks of what a caller hands to the writers of `crmend.exposure`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.utils.masked import Masked
from numpy.typing import NDArray

from crmend._inputs import check_image
from crmend.errors import InvalidInputError
from crmend.flags import to_int32

if TYPE_CHECKING:
    from crmend.exposure import Exposure


def check_exposure(exposure: object) -> None:
    """Raise unless it is one.

    Raises
    ------
    InvalidInputError
    """
    from crmend.exposure import Exposure

    if not isinstance(exposure, Exposure):
        raise InvalidInputError(
            f"the exposure is a {type(exposure).__name__}; expected what "
            "crmend.read_exposure returns"
        )


def checked_pairs(items: Iterable[Any], second: str) -> Iterator[tuple[Exposure, Any]]:
    """Yield exposures and what comes with each, one at a time.

    Raises
    ------
    InvalidInputError
        There is something else among them, or nothing to go through.
    """
    if not isinstance(items, Iterable):
        raise InvalidInputError(
            f"the items are a {type(items).__name__}; expected a list of (exposure, {second})"
        )
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidInputError(
                f"an item is a {type(item).__name__}; expected a tuple (exposure, {second})"
            )
        check_exposure(item[0])
        yield item[0], item[1]


def check_plane(exposure: Exposure, name: str, values: object) -> NDArray[Any]:
    """Return a plane as it is written: int32 for FLAG, else float32, masked pixels NaN.

    Raises
    ------
    InvalidInputError
        It is no array of the exposure's shape, or of another kind of numbers.
    """
    array = check_array(exposure, name, values)
    if name != "FLAG":
        return check_image(array, name)
    if array.dtype.kind not in "iu":
        remedy = (
            "mark the pixels of a mask by crmend.flags.set_flag(exposure.flag, mask)"
            if array.dtype == np.bool_
            else "convert it with flag.astype(np.int32)"
        )
        raise InvalidInputError(
            f"{name} has dtype {array.dtype}, expected integers, whose bits are flags: {remedy}"
        )
    if isinstance(array, np.ma.MaskedArray | Masked):
        if np.any(array.mask):
            raise InvalidInputError(
                f"{name} is a masked array, expected a plain one, since a flag plane has no "
                "mask: set a bit where it is masked, and pass its data"
            )
        array = np.asarray(array.unmasked if isinstance(array, Masked) else array.data)
    return array if array.dtype == np.int32 else to_int32(array)


def check_array(exposure: Exposure, name: str, values: object) -> NDArray[Any]:
    """Return an array of the exposure's shape.

    Raises
    ------
    InvalidInputError
        It is none.
    """
    if not isinstance(values, np.ndarray):
        raise InvalidInputError(
            f"{name} is a {type(values).__name__}; expected an array (ny, nx), such as "
            "np.asarray makes"
        )
    if values.shape != exposure.image.shape:
        raise InvalidInputError(
            f"{name} has shape {values.shape}, expected {exposure.image.shape} as the "
            "image; pass the plane of this exposure"
        )
    return values
