"""Checks of the arrays and numbers that a caller passes in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.masked import Masked
from numpy.typing import ArrayLike, NDArray

from crmend._fits_keywords import is_logarithm
from crmend._views import VIEWS
from crmend.errors import InvalidInputError


def check_image(image: ArrayLike, name: str = "image") -> NDArray[np.float32]:
    """Return an image as native float32, C-contiguous.

    Parameters
    ----------
    image : (ny, nx) array-like
        Real numbers of any dtype and byte order.  The masked pixels of a masked array, of
        numpy or astropy, become NaN.
    name : str
        For messages.

    Returns
    -------
    (ny, nx) float32 array
        The caller's own array where it is float32 already, so never to be written to.
        Values beyond the range of float32 become infinite.

    Raises
    ------
    InvalidInputError
        Not two-dimensional, empty, not of real numbers, in magnitudes or another logarithm, or
        all of it beyond the range of float32.
    """
    array = _array_of(image, name)
    unit = str(getattr(image, "unit", None) or "")
    if is_logarithm(unit):
        raise InvalidInputError(
            f"{name} is in {unit}, a logarithm, expected a linear unit, such as ADU, electrons "
            "or Jy: convert it to one"
        )
    if array.ndim == 0:
        raise InvalidInputError(
            f"{name} is one number, {array}; expected a plane (ny, nx): where one value counts "
            f"everywhere, pass np.full((ny, nx), {array})"
        )
    if array.ndim != 2 or array.size == 0:
        raise InvalidInputError(
            f"{name} has shape {array.shape}; expected (ny, nx), each at least 1: pass one "
            "plane at a time"
        )
    if array.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"{name} has dtype {array.dtype}; expected real numbers (integers or floats): "
            "convert it, such as np.asarray(..., dtype=np.float32), missing values to NaN"
        )
    with np.errstate(over="ignore"):
        masked = isinstance(array, np.ma.MaskedArray)
        plain = np.ma.filled(array.astype(np.float32), np.nan) if masked else array
        pixels = np.ascontiguousarray(plain, dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > pixels.dtype.itemsize:
        _check_range(np.asarray(array), pixels, name)
    return pixels


def check_error(
    error: NDArray[np.float32], unused: Callable[[], NDArray[np.bool_]], name: str, remedy: str
) -> None:
    """Raise where an error plane is below zero.

    Parameters
    ----------
    error : (ny, nx) float32 array
    unused : callable
        Returns the pixels that may be so, True = bad or saturated; not called if none is.
    name : str
        For messages.
    remedy : str
        What else helps.

    Raises
    ------
    InvalidInputError
    """
    # NaN is not below zero, and fmin passes over it.
    if np.fmin.reduce(error, axis=None, initial=np.float32(0.0)) == 0.0:
        return
    wrong = error[(error < 0.0) & ~unused()]
    if wrong.size:
        raise InvalidInputError(
            f"{name} is {wrong[0]:g} somewhere, at {wrong.size} pixel(s) that are neither bad "
            "nor saturated; expected 1-sigma, 0 or more: mark such pixels as bad, make them "
            f"NaN in the image, or {remedy}"
        )


def check_path(path: str | Path) -> Path:
    """Return the path of a file.

    Raises
    ------
    InvalidInputError
        It is neither text nor a path: an open file, say; or no system has such names.
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidInputError(
            f"path is a {type(path).__name__}; expected the name of a file (str or Path)"
        )
    if "\0" in str(path):
        raise InvalidInputError(f"path is {str(path)!r}; expected a name without null bytes")
    return Path(path)


def check_mask(
    mask: ArrayLike | None, shape: tuple[int, ...], name: str
) -> NDArray[np.bool_] | None:
    """Return a mask as bool, C-contiguous; None stays None.

    Parameters
    ----------
    mask : (ny, nx) array-like of bool or integer, or None
        True, or any number but 0, marks a pixel.
    shape : tuple of int
        Of the image.
    name : str
        For messages.

    Returns
    -------
    (ny, nx) bool array or None
        The caller's own array where it is such already, so never to be written to.

    Raises
    ------
    InvalidInputError
        Its shape is not the image's, or it holds neither bool nor integers.
    """
    if mask is None:
        return None
    array = np.asarray(_array_of(mask, name))
    check_shape(array, shape, name)
    if array.dtype.kind not in "biu":
        raise InvalidInputError(
            f"{name} has dtype {array.dtype}; expected bool (True = marked): convert it with "
            ".astype(bool)"
        )
    # Compiled loops take other layouts too, but are compiled once more for each.
    return np.ascontiguousarray(array, dtype=np.bool_)


def check_shape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    """Raise unless an array has the shape of its image.

    Raises
    ------
    InvalidInputError
    """
    if array.shape != shape:
        raise InvalidInputError(
            f"{name} has shape {array.shape} and the image {shape}; expected the same"
        )


def check_unit(plane: ArrayLike | None, image: ArrayLike, name: str) -> None:
    """Raise where a plane and its image say that they are in different units.

    Raises
    ------
    InvalidInputError
    """
    own, wanted = getattr(plane, "unit", None), getattr(image, "unit", None)
    if own is not None and wanted is not None and own != wanted:
        raise InvalidInputError(
            f"{name} is in {own} and the image in {wanted}; expected the same unit: convert one"
        )


def _array_of(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array, a subclass where it is one, numpy's where it is a masked one."""
    if isinstance(values, Masked):
        return np.ma.MaskedArray(np.asarray(values.unmasked), np.asarray(values.mask))
    try:
        array = np.asanyarray(values)
    # Rows of different lengths; or a table or tensor that does not become an array.
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"{name} is a {type(values).__name__} that is no array ({error}); expected "
            "(ny, nx) numbers, all rows of one length"
        ) from error
    if isinstance(values, fits.HDUList) or (array.ndim == 0 and array.dtype.kind in "OUS"):
        raise InvalidInputError(
            f"{name} is a {type(values).__name__}; expected an array (ny, nx) of numbers: "
            f"{_remedy(values, name)}"
        )
    return array


def _check_range(array: NDArray[Any], pixels: NDArray[np.float32], name: str) -> None:
    """Raise where nothing but zeros is left of an array's finite values as float32."""
    least = np.finfo(np.float32).tiny
    # Row by row: of most images the first one tells.
    if any(((abs(row) >= least) & np.isfinite(row)).any() for row in np.atleast_1d(pixels)):
        return
    # What a mask makes NaN is not lost.
    lost = np.isfinite(array) & ~np.isnan(pixels) & (array != pixels)
    if lost.any():
        raise InvalidInputError(
            f"{name} has values such as {array[lost][0]:g}, beyond the range of float32, in "
            "which crmend works; expected 1.2e-38 to 3.4e38, or 0: rescale it, to counts or "
            "electrons, say"
        )


def _remedy(values: object, name: str) -> str:
    """Say how to come from what was passed to an array, by the attributes that it has."""
    if isinstance(values, str | os.PathLike):
        return "read the file with crmend.read_exposure"
    if isinstance(values, fits.HDUList):
        return "pass the .data of one HDU, such as hdus[1].data"
    if getattr(values, "uncertainty_type", "std") != "std":
        return "pass 1-sigma errors, .represent_as(StdDevUncertainty).array"
    if hasattr(values, "uncertainty_type"):
        return "pass its .array"
    if hasattr(values, "uncertainty"):
        return "pass its .data, with bad pixels as np.ma.array(x.data, mask=x.mask)"
    if hasattr(values, "header") and hasattr(values, "data"):
        return "pass its .data"
    if name == "cr_mask" and hasattr(values, "cr_mask"):
        return "pass its .cr_mask"
    if hasattr(values, "cr_mask") and not hasattr(values, "image"):
        return "pass the plane itself; this has .cr_mask and .cr_probability alone"
    if hasattr(values, "cr_mask") or hasattr(values, "instrument"):
        return "pass one of its planes, such as .image; crmend.clean takes a whole exposure"
    return "pass one, or an exposure from crmend.read_exposure to crmend.clean"


def check_threshold(threshold: float, default: float) -> float:
    """Return a threshold on cr_probability; `default`, the model's own, is for the message.

    Raises
    ------
    InvalidInputError
        It is not a number between 0 and 1, both excluded.
    """
    if not isinstance(threshold, float | int | np.floating) or not 0.0 < threshold < 1.0:
        raise InvalidInputError(
            f"threshold is {threshold!r}; expected a cr_probability between 0 and 1 "
            f"(the model's own is {default:g})"
        )
    return float(threshold)


def check_seed_threshold(seed_threshold: float, threshold: float) -> float:
    """Return the smallest cr_probability of a group's best pixel.

    Raises
    ------
    InvalidInputError
        It is not a number from `threshold`, that of every pixel, to 1 (excluded).
    """
    number = isinstance(seed_threshold, float | int | np.floating)
    if not number or not threshold <= seed_threshold < 1.0:
        raise InvalidInputError(
            f"seed_threshold is {seed_threshold!r}; expected a cr_probability from the "
            f"threshold, {threshold:g}, to 1"
        )
    return float(seed_threshold)


def check_count(value: int, name: str) -> int:
    """Return a whole number >= 1.

    Raises
    ------
    InvalidInputError
        It is not.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise InvalidInputError(f"{name} is {value!r}; expected a whole number >= 1")
    return int(value)


def check_views(views: int, name: str = "views") -> int:
    """Return how often a network sees an image.

    Raises
    ------
    InvalidInputError
        It is none of `crmend._views.VIEWS`.
    """
    whole = isinstance(views, int | np.integer) and not isinstance(views, bool)
    if not whole or views not in VIEWS:
        raise InvalidInputError(
            f"{name} is {views!r}; expected one of {', '.join(map(str, VIEWS))}"
        )
    return int(views)


def check_positive(value: float, name: str) -> float:
    """Return a finite number above zero.

    Raises
    ------
    InvalidInputError
        It is not.
    """
    number = isinstance(value, float | int | np.floating | np.integer)
    number = number and not isinstance(value, bool)
    if not number or not 0.0 < value < np.inf:
        raise InvalidInputError(f"{name} is {value!r}; expected a finite number above 0")
    return float(value)


def check_callable(value: Callable[..., None] | None, name: str) -> None:
    """Raise unless it is a function, or None.

    Raises
    ------
    InvalidInputError
    """
    if value is not None and not callable(value):
        raise InvalidInputError(f"{name} is {value!r}; expected a function, or None")


def check_flag(value: bool, name: str) -> bool:
    """Return True or False.

    Raises
    ------
    InvalidInputError
        It is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{name} is {value!r}; expected True or False")
    return bool(value)
