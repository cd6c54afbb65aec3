"""Read the error plane of an exposure, whatever it was stored as."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend._fits import open_values, read_image
from crmend._fits_planes import Plane
from crmend._fits_units import error_factor
from crmend._normalise import measure_scale
from crmend.errors import CrmendWarning
from crmend.flags import has_flag

_NOISE_ROWS = 256
# Errors may be off the measured noise by this factor: noise that drizzling correlates measures
# up to three times too small, and crowded stars (47 Tuc, ACS/HRC) make it twice too large.
SCALE_LIMIT = 4.0
_SCALE_PIXELS = 256
_MAD_OF_SIGMA = 0.6745  # of a normal distribution


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
        step = _row_step(image)
        if looks_like_weight(image[::step], _every(step, plane)):
            kind = "weight"
    convert = TO_ERROR.get(kind)
    factor = error_factor(plane, kind, unit)
    if factor == 1.0:
        return read_image(plane.path, plane.index, convert)
    to_error = convert or _as_float
    return read_image(plane.path, plane.index, lambda block: to_error(block) * factor)


def warn_of_scale(
    plane: Plane,
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    flag: NDArray[np.int32] | None,
    bad_bits: int,
) -> None:
    """Warn where the errors that a plane gave are far off the image's own noise.

    Parameters
    ----------
    plane : Plane
    image, error : (ny, nx) float32 arrays
        In one unit.
    flag : (ny, nx) int32 array or None
    bad_bits : int
        Bits of the flag plane of pixels to leave out.

    Warns
    -----
    CrmendWarning
        If the median error of good pixels is off by more than a factor of 4.
    """
    bad = None if flag is None else has_flag(flag, bad_bits)
    off = far_off(image, error, bad)
    if off is None:
        return
    median, noise = off
    warnings.warn(
        f"{plane.path.name}: the {plane.kind} plane HDU {plane.index} "
        f"({plane.name or 'unnamed'}) gives errors of {median:.3g} (median), and the noise "
        f"measured on the image is {noise:.3g}; expected the same within a factor of "
        f"{SCALE_LIMIT:g}, else ERR is wrong: say what the plane holds, --plane error=..., "
        "variance=... or weight=... (inverse variance; planes= in Python), or leave it out, "
        f"--plane {plane.kind}=none, and the measured noise counts",
        CrmendWarning,
        stacklevel=3,
    )


def far_off(
    image: NDArray[np.float32], error: NDArray[np.float32], bad: NDArray[np.bool_] | None
) -> tuple[float, float] | None:
    """Return the median error and the image's own noise, if one is far off the other.

    Where they seem far off, the noise is measured once more, with a filter that spectra and
    crowded stars raise less.

    Parameters
    ----------
    image, error : (ny, nx) float32 arrays
        In one unit.
    bad : (ny, nx) bool array or None
        True = leave the pixel out.

    Returns
    -------
    tuple of float and float, or None
        None = they agree within a factor of `SCALE_LIMIT`, or the pixels are too few.
    """
    found = []
    for pair in _median_and_noise(image, error, bad):
        if _ratio(pair) <= SCALE_LIMIT:
            return None
        found.append(pair)
    return min(found, key=_ratio, default=None)


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


TO_ERROR = {"weight": weight_to_error, "variance": variance_to_error}
"""What makes 1-sigma errors of a plane, by its kind."""


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


def _row_step(image: NDArray[Any]) -> int:
    """Return n where every n-th row of an image is enough to measure its noise."""
    return max(1, len(image) // _NOISE_ROWS)


def _median_and_noise(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    bad: NDArray[np.bool_] | None,
) -> Iterator[tuple[float, float]]:
    """Yield the median error of good pixels and their noise, measured in two ways.

    From differences between neighbours; from second differences along both axes, which smooth
    light along either raises less (Immerkaer 1996, CVIU 64, 300).  Of few pixels, nothing.
    Errors of 0 count where there are hardly any others.
    """
    step = _row_step(image)
    rows = slice(1, -1, step)
    good = np.isfinite(image[rows]) & np.isfinite(error[rows])
    if bad is not None:
        good &= ~bad[rows]
    told = good & (error[rows] > 0)
    good = told if np.count_nonzero(told) >= _SCALE_PIXELS else good
    if np.count_nonzero(good) < _SCALE_PIXELS:
        return
    median = float(np.median(error[rows][good]))
    yield median, measure_scale(image[rows], ~good).noise
    with np.errstate(invalid="ignore"):
        second = image[:-2:step] - 2 * image[rows] + image[2::step]
        curvature = (second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]) / 6.0
    good = good[:, 1:-1] & np.isfinite(curvature)
    if good.any():
        yield median, float(np.median(np.abs(curvature[good]))) / _MAD_OF_SIGMA


def _ratio(pair: tuple[float, float]) -> float:
    """Return the larger number over the smaller."""
    return max(pair) / min(pair) if min(pair) > 0.0 else math.inf


def _every(step: int, plane: Plane) -> NDArray[Any]:
    """Return every so many rows of a plane, from the first."""
    with open_values(plane.path, plane.index) as (_, blocks):
        return np.concatenate([block[-rows.start % step :: step] for rows, block in blocks])


def _as_float(block: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return the block in a floating-point type that loses none of its values."""
    return np.asarray(block, np.promote_types(block.dtype, np.float32))
