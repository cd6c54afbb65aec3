"""Planes of the pipeline's own, from a caller's arrays and from CCDData of astropy."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crmend._fits_error import SCALE_LIMIT, TO_ERROR, far_off
from crmend._fits_planes import STATED_KINDS
from crmend._fits_units import unit_factor
from crmend._inputs import check_error, check_image, check_shape, check_unit
from crmend.errors import CrmendWarning, InvalidInputError


def own_copy(image: ArrayLike, name: str = "image") -> NDArray[np.float32]:
    """Return an image as native float32, C-contiguous, that shares no memory with it."""
    pixels = check_image(image, name)
    # What is no array is asked once: to ask a dask array again is to compute it again.
    shared = not isinstance(image, np.ndarray) or np.may_share_memory(pixels, image)
    return pixels.copy() if shared else pixels


def own_plane(plane: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """Return such a copy of a plane that belongs to an image of this shape."""
    own = own_copy(plane, name)
    check_shape(own, shape, name)
    return own


def own_error(
    error: ArrayLike | None,
    image: ArrayLike,
    pixels: NDArray[np.float32],
    *masks: NDArray[np.bool_] | None,
) -> NDArray[np.float32] | None:
    """Return a copy of the errors of an image: as given, else as a CCDData holds them.

    Parameters
    ----------
    error : (ny, nx) array-like or None
        1-sigma, in the image's unit.
    image : array-like
        As the caller passed it.
    pixels : (ny, nx) float32 array
        The same as it is used, masked pixels NaN.
    *masks : (ny, nx) bool array or None
        True = bad or saturated: there errors may be below zero, and so they may where the
        image is not finite.

    Returns
    -------
    (ny, nx) float32 array or None
        None = the caller said nothing of errors.

    Raises
    ------
    InvalidInputError
        They have another shape or unit than the image, or are below zero on pixels that are
        used; or the uncertainty of a CCDData does not say what it is.

    Warns
    -----
    CrmendWarning
        Their median is off the image's noise by more than a factor of 4.
    """
    check_unit(error, image, "error")
    name = "error" if error is not None else "image.uncertainty"
    plane = _stated_error(image) if error is None else error
    if plane is None:
        return None
    own = own_plane(plane, pixels.shape, name)
    check_error(own, lambda: _unused(pixels, masks), name, "leave the errors out")
    off = far_off(pixels, own, _unused(pixels, masks))
    if off is not None:
        warnings.warn(
            f"{name} gives errors of {off[0]:.3g} (median), and the noise measured on the "
            f"image is {off[1]:.3g}; expected 1-sigma in the image's unit, the same within a "
            f"factor of {SCALE_LIMIT:g}, else the result's error is wrong: pass np.sqrt(...) "
            "of variances, 1 / np.sqrt(...) of weights, or no errors, and the measured noise "
            "counts",
            CrmendWarning,
            stacklevel=3,
        )
    return own


def unweighted(
    image: ArrayLike, error: NDArray[np.float32] | None, invalid: ArrayLike | None
) -> NDArray[np.bool_] | None:
    """Return the pixels without finite error, if nothing else says which ones are bad.

    That is what `Exposure.invalid` does: beside a mask such errors are no flaw, since
    pipelines give old cosmic rays zero weight.

    Parameters
    ----------
    image, invalid
        As the caller passed them.
    error : (ny, nx) float32 array or None
        From `own_error`.

    Returns
    -------
    (ny, nx) bool array or None
        A new one.
    """
    masked = hasattr(image, "uncertainty") and getattr(image, "mask", None) is not None
    return None if error is None or invalid is not None or masked else ~np.isfinite(error)


def _unused(
    pixels: NDArray[np.float32], masks: Iterable[NDArray[np.bool_] | None]
) -> NDArray[np.bool_]:
    """Return the pixels that are not finite, or that a mask marks."""
    unused = ~np.isfinite(pixels)
    for mask in masks:
        if mask is not None:
            unused |= mask
    return unused


def _stated_error(image: Any) -> NDArray[Any] | None:
    """Return the 1-sigma errors that a CCDData holds, in its unit."""
    uncertainty = getattr(image, "uncertainty", None)
    values = getattr(uncertainty, "array", None)
    if uncertainty is None or values is None:
        return None
    kind = STATED_KINDS.get(str(uncertainty.uncertainty_type))
    if kind is None:
        raise InvalidInputError(
            f"image.uncertainty is a {type(uncertainty).__name__}; expected StdDevUncertainty, "
            "VarianceUncertainty or InverseVariance: say what it holds, such as "
            "StdDevUncertainty(image.uncertainty.array), or set image.uncertainty = None"
        )
    own, unit = (str(getattr(each, "unit", None) or "") for each in (uncertainty, image))
    convert = TO_ERROR.get(kind)
    errors = np.asarray(values) if convert is None else convert(np.asarray(values))
    factor = unit_factor(own, unit, kind)
    return errors if factor == 1.0 else errors * factor
