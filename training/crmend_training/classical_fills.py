"""Fills of masked pixels that need no network: the peers of the mending evaluation.

Each takes an image (ny, nx) float32 without NaN and a mask (True = fill) and returns a new
image in which only masked pixels differ.  `load_fills` imports what is installed and says why
the rest is not there; ``pip install scikit-image maskfill opencv-python-headless`` brings all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend._kernels import MIN_GOOD, adaptive_median, fill_invalid
from crmend_training.evaluate import masked_median

Fill = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]

PEERS = (
    "3×3 median",
    "5×5 median",
    "7×7 median",
    "adaptive median",
    "biharmonic",
    "maskfill",
    "OpenCV NS",
    "OpenCV Telea",
)

INPAINT_RADIUS = 3.0
"""Neighbourhood of OpenCV's fills [px]; the value of its documentation's example."""

_GREY_LEVELS = 1000.0
_MARGIN = 8  # px that a group of masked pixels is cut out with
_STENCIL = np.ones((5, 5), bool)  # the biharmonic operator reaches two pixels


def load_fills(names: Sequence[str] = PEERS) -> tuple[dict[str, Fill], dict[str, str]]:
    """Return the fills that work here, and why the others do not.

    Parameters
    ----------
    names : sequence of str
        Among `PEERS`.

    Returns
    -------
    (dict, dict)
        Name to fill; name to the message of the error that a small image gave.

    Raises
    ------
    ValueError
        A name is not among `PEERS`.
    """
    fills: dict[str, Fill] = {}
    errors: dict[str, str] = {}
    image = np.arange(81, dtype=np.float32).reshape(9, 9)
    mask = np.zeros(image.shape, bool)
    mask[4, 4] = True
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no fill is called {name!r}; expected one of {', '.join(PEERS)}")
        fill = _fill_of(name)
        try:
            fill(image, mask)
        except Exception as error:  # whatever the peer's own code raises
            errors[name] = f"{type(error).__name__}: {error}"
        else:
            fills[name] = fill
    return fills, errors


def prepared(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], background: float
) -> NDArray[np.float32]:
    """Return an image whose invalid pixels hold the median of their neighbours."""
    filled = np.empty_like(image)
    fill_invalid(image, invalid | ~np.isfinite(image), background, filled)
    return filled


def groups_near(mask: NDArray[np.bool_], near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the masked pixels of every group of `fill_groups` that has a pixel in `near`."""
    labels = _groups(mask)
    wanted = np.zeros(int(labels.max()) + 1, bool)
    wanted[labels[mask & near]] = True
    return mask & wanted[labels]


def fill_groups(
    fill: Fill,
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    margin: int = _MARGIN,
    only: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Fill a frame, one group of masked pixels at a time, each in a cutout of its own.

    Pixels within four of each other belong to one group, so that a biharmonic fill is the
    same as that of the whole frame, but for its limits, which are then those of the cutout.

    Parameters
    ----------
    fill : Fill
    image : (ny, nx) float32 array
        Without NaN; not changed.
    mask : (ny, nx) bool array
        True = fill.
    margin : int
        Pixels around the group that the fill sees.
    only : (ny, nx) bool array or None
        From `groups_near`: the masked pixels that are filled; the others are taken for lost
        and stay as they are.

    Returns
    -------
    (ny, nx) float32 array
    """
    out = image.copy()
    labels = _groups(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = np.s_[
            max(rows.start - margin, 0) : rows.stop + margin,
            max(columns.start - margin, 0) : columns.stop + margin,
        ]
        own = mask[box] & (labels[box] == number)
        if only is None or only[box][own].any():
            out[box][own] = fill(image[box], mask[box])[own]
    return out


def _groups(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the number of the group around every pixel, 0 = none."""
    labels, _ = ndimage.label(ndimage.binary_dilation(mask, _STENCIL), np.ones((3, 3)))
    return labels


def _fill_of(name: str) -> Fill:
    """Return the fill of a name in `PEERS`."""
    if name.endswith("×7 median") or name[1:] in ("×3 median", "×5 median"):
        half = int(name[0]) // 2
        return lambda image, mask: masked_median(image, mask, half)
    return {
        "adaptive median": _adaptive,
        "biharmonic": _biharmonic,
        "maskfill": _maskfill,
        "OpenCV NS": lambda image, mask: _opencv(image, mask, "INPAINT_NS"),
        "OpenCV Telea": lambda image, mask: _opencv(image, mask, "INPAINT_TELEA"),
    }[name]


def _adaptive(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the runtime's adaptive median, 3×3 growing to 11×11."""
    out = np.ascontiguousarray(image).copy()
    spread = np.empty(max(int(mask.sum()), 1), dtype=np.float32)
    own_mask = np.ascontiguousarray(mask)
    invalid = np.zeros(image.shape, bool)
    level = float(np.median(image))
    adaptive_median(out.copy(), own_mask, invalid, MIN_GOOD, level, out, spread)
    return out


def _biharmonic(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return scikit-image's biharmonic fill, which stays in the range of the other pixels."""
    from skimage.restoration import inpaint_biharmonic

    return _only_masked(image, mask, inpaint_biharmonic(image.astype(np.float64), mask))


def _maskfill(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return maskfill's smoothed fill (van Dokkum & Pasha 2024), its defaults."""
    from maskfill import maskfill

    if mask.all():
        return image.copy()  # it would never end
    return _only_masked(image, mask, maskfill(image.astype(np.float64), mask)[0])


def _opencv(
    image: NDArray[np.float32], mask: NDArray[np.bool_], method: str
) -> NDArray[np.float32]:
    """Return OpenCV's fill of one float32 channel.

    Its rounding and its gradient term count in grey levels, so the image is handed over with a
    thousand levels in its noise.
    """
    import cv2

    known = image[~mask] if not mask.all() else image
    level = float(np.median(known))
    deviation = 1.4826 * float(np.median(np.abs(known - level))) or float(known.std()) or 1.0
    grey = _GREY_LEVELS / deviation
    own = ((image - level) * grey).astype(np.float32)
    filled = cv2.inpaint(own, mask.astype(np.uint8), INPAINT_RADIUS, getattr(cv2, method))
    return _only_masked(image, mask, filled / grey + level)


def _only_masked(
    image: NDArray[np.float32], mask: NDArray[np.bool_], filled: NDArray
) -> NDArray[np.float32]:
    """Return the image with the masked pixels of another."""
    return np.where(mask, filled, image).astype(np.float32)
