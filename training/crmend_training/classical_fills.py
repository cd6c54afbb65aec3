"""Fills of masked pixels that need no network: the peers of the mending evaluation.

Each takes an image (ny, nx) float32 without NaN and a mask (True = fill) and returns a new
image in which only masked pixels differ; those of other packages are in
`peers_worker.fillers`.  `load_fills` imports what is installed and says why
the rest is not there; ``pip install scikit-image maskfill opencv-python-headless`` brings all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import MIN_GOOD, adaptive_median, fill_invalid
from crmend_training.peers_worker.fillers import (
    Fill,
    biharmonic,
    fill_groups,
    groups_near,
    masked_median,
    maskfill,
    opencv,
)

__all__ = ["PEERS", "Fill", "adaptive", "fill_groups", "groups_near", "load_fills", "prepared"]

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


def _fill_of(name: str) -> Fill:
    """Return the fill of a name in `PEERS`."""
    if name.endswith("×7 median") or name[1:] in ("×3 median", "×5 median"):
        half = int(name[0]) // 2
        return lambda image, mask: masked_median(image, mask, half)
    return {
        "adaptive median": adaptive,
        "biharmonic": biharmonic,
        "maskfill": maskfill,
        "OpenCV NS": lambda image, mask: opencv(image, mask, "INPAINT_NS"),
        "OpenCV Telea": lambda image, mask: opencv(image, mask, "INPAINT_TELEA"),
    }[name]


def adaptive(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the runtime's adaptive median, 3×3 growing to 11×11."""
    out = np.ascontiguousarray(image).copy()
    spread = np.empty(max(int(mask.sum()), 1), dtype=np.float32)
    own_mask = np.ascontiguousarray(mask)
    invalid = np.zeros(image.shape, bool)
    level = float(np.median(image))
    adaptive_median(out.copy(), own_mask, invalid, MIN_GOOD, level, out, spread)
    return out
