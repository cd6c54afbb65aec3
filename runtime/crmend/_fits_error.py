"""Read the error plane of an exposure, whatever it was stored as."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend._fits import open_values, read_image
from crmend._fits_planes import Plane
from crmend._fits_units import error_factor
from crmend._normalise import measure_scale

_NOISE_ROWS = 256


def read_error(
    plane: Plane, image: NDArray[np.float32], unit: str, *, guess: bool
) -> NDArray[np.float32]:
    """Read 1-sigma errors from a plane of errors, inverse variances or variances.

    Parameters
    ----------
    plane : Plane
        Of kind error, weight or variance.
    image : (ny, nx) float32 array
        The image that it belongs to.
    unit : str
        BUNIT of the image, as written, to which errors are converted; empty = none.
    guess : bool
        The plane has no name of its own: take an error for a weight if it looks like one.

    Raises
    ------
    FileFormatError
        If the plane cannot be read.
    InvalidInputError
        If its BUNIT and that of the image differ by more than a factor.
    """
    kind = plane.kind
    if guess:
        step = max(1, image.shape[0] // _NOISE_ROWS)
        if looks_like_weight(image[::step], _every(step, plane)):
            kind = "weight"
    convert = {"weight": weight_to_error, "variance": variance_to_error}.get(kind)
    factor = error_factor(plane, kind, unit)
    if factor == 1.0:
        return read_image(plane.path, plane.index, convert)
    to_error = convert or _as_float
    return read_image(plane.path, plane.index, lambda block: to_error(block) * factor)


def weight_to_error(weight: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return 1-sigma errors of inverse variances: 1/sqrt(weight), as float32 or better.

    A weight of zero, below zero or NaN gives an infinite error.
    """
    values = _as_float(weight)
    with np.errstate(all="ignore"):
        return np.where(values > 0, 1 / np.sqrt(values), math.inf)


def variance_to_error(variance: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return 1-sigma errors of variances; below zero or NaN gives infinity."""
    values = _as_float(variance)
    with np.errstate(all="ignore"):
        return np.where(values >= 0, np.sqrt(values), math.inf)


def looks_like_weight(image: NDArray[np.float32], plane: NDArray[Any]) -> bool:
    """Return True if a plane without a name is plainly an inverse variance, not an error.

    That is: its median is off the image's noise by more than a factor of 10 as an error,
    and right within a factor of 3 as a weight.  Some rows of both are enough.
    """
    values = plane[np.isfinite(plane) & (plane > 0)]
    if values.size == 0:
        return False
    noise = measure_scale(image, ~np.isfinite(image)).noise
    median = float(np.median(values))
    off_as_error = abs(math.log(median / noise))
    off_as_weight = abs(math.log(median**-0.5 / noise))
    return off_as_error > math.log(10.0) and off_as_weight < math.log(3.0)


def _every(step: int, plane: Plane) -> NDArray[Any]:
    """Return every so many rows of a plane, from the first."""
    with open_values(plane.path, plane.index) as (_, blocks):
        return np.concatenate([block[-rows.start % step :: step] for rows, block in blocks])


def _as_float(block: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return the block in a floating-point type that loses none of its values."""
    return np.asarray(block, np.promote_types(block.dtype, np.float32))
