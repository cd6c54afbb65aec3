"""deepCR's own preprocessing, for graphs made from its published networks.

deepCR 0.3.1 (`deepCR.clean`) divides the image by a constant of the network; for WFC3-UVIS
it then subtracts the mean of the whole image and divides by its standard deviation.  The
other networks see the image as it is, sky included, so they depend on its unit: electrons
for HST (its README), counts for DECam.  Nothing else in crmend does; `crmend._normalise`
is for networks trained here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend._normalise import BRIGHTEST, SOFTENING, Scale, measure_scale, to_detect_input
from crmend.errors import InvalidInputError

NAME = "deepcr-v1"
"""Name of this preprocessing, for model cards."""

_KEYS = {"scale", "standardise", "electrons"}
_BLOCK_ROWS = 256
_ASINH_LIMIT = np.float32(math.asinh(BRIGHTEST / SOFTENING))
# Full wells are below 1e6 e-: only absurd pixels are clipped, before they overflow a network.
_LINEAR_LIMIT = np.float32(1e8)


@dataclass(frozen=True)
class LinearScale:
    """How an image becomes the input of one of deepCR's networks.

    Attributes
    ----------
    background : float
        Stands for invalid pixels that have no valid neighbour, in the image's unit.
    offset : float
        Subtracted, in the image's unit.
    divisor : float
        The rest is divided by it, in the image's unit, > 0.
    """

    background: float
    offset: float
    divisor: float


def parameters(scale: float, *, standardise: bool, electrons: bool) -> dict[str, float]:
    """Return the parameters that the card records beside `NAME`.

    Parameters
    ----------
    scale : float
        The constant that deepCR divides the image by.
    standardise : bool
        Whether it then takes the image to mean 0 and standard deviation 1.
    electrons : bool
        Whether the network wants electrons; else counts, the image as it is.
    """
    return {
        "scale": float(scale),
        "standardise": float(standardise),
        "electrons": float(electrons),
    }


def usable(given: Mapping[str, float]) -> bool:
    """Return whether these are parameters that `measure` understands."""
    return (
        set(given) == _KEYS
        and 0.0 < given["scale"] < math.inf
        and {given["standardise"], given["electrons"]} <= {0.0, 1.0}
    )


def measure(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    given: Mapping[str, float],
    electrons_per_unit: float | None = 1.0,
) -> LinearScale:
    """Find what to subtract from an image and what to divide it by.

    Parameters
    ----------
    image : (ny, nx) float32 array
    invalid : (ny, nx) bool array
        True = leave the pixel out; holds all that are not finite.  Saturated pixels count:
        deepCR does not know of any.
    given : mapping
        As `parameters` returns them.
    electrons_per_unit : float or None
        Multiply the image by this to have electrons; None = unknown.

    Raises
    ------
    InvalidInputError
        The network wants electrons, and how many there are in a unit is not known.
    """
    factor = 1.0
    if given["electrons"] and not given["standardise"]:
        if electrons_per_unit is None:
            raise InvalidInputError(
                "the network wants the image in electrons, and how many electrons a unit of "
                "the image holds is not known; pass the gain (gain=..., --gain) [e-/ADU]"
            )
        factor = electrons_per_unit
    background = measure_scale(image, invalid).background
    if not given["standardise"]:
        return LinearScale(background, 0.0, given["scale"] / factor)
    mean, deviation = _moments(image, invalid)
    return LinearScale(background, mean, deviation or 1.0)


def network_input(
    image: NDArray[np.float32], scale: Scale | LinearScale
) -> NDArray[np.float32]:
    """Return an image as the detection network sees it, a new float32 array."""
    with np.errstate(over="ignore"):
        if isinstance(scale, Scale):
            values, limit = to_detect_input(image, scale), _ASINH_LIMIT
        else:
            values = (image - np.float32(scale.offset)) / np.float32(scale.divisor)
            limit = _LINEAR_LIMIT
    return np.clip(values, -limit, limit, out=values)


def _moments(image: NDArray[np.float32], invalid: NDArray[np.bool_]) -> tuple[float, float]:
    """Return mean and standard deviation of the valid pixels, without a copy of the frame."""
    blocks = [slice(y, y + _BLOCK_ROWS) for y in range(0, image.shape[0], _BLOCK_ROWS)]
    count = invalid.size - int(np.count_nonzero(invalid))
    if count == 0:
        return 0.0, 0.0
    pixels = (image[rows][~invalid[rows]].astype(np.float64) for rows in blocks)
    mean = sum(float(values.sum()) for values in pixels) / count
    pixels = (image[rows][~invalid[rows]].astype(np.float64) for rows in blocks)
    square = sum(float(((values - mean) ** 2).sum()) for values in pixels)
    return mean, math.sqrt(square / count)
