"""Cosmic rays that a mask misses altogether: what is left of them passes for a source."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend.exposure import Exposure
from crmend_training import evaluate

SIZES = (1, 2, 4, 7)
"""Smallest numbers of pixels above `evaluate.RECALL_ABOVE` of each bin of cosmic rays."""

LEAST = 15.0
"""Cosmic rays of less charge than so many of the frame's noises are left out; assumed, about
what a source of five connected pixels at 3 noises each holds."""

_EIGHT = np.ones((3, 3), dtype=bool)


def size_names() -> list[str]:
    """Return the names of the bins of `SIZES`."""
    names = [f"{a}" if b == a + 1 else f"{a}–{b - 1}" for a, b in itertools.pairwise(SIZES)]
    return [*names, f"≥ {SIZES[-1]}"]


def _per_size() -> NDArray[np.int64]:
    return np.zeros(len(SIZES), np.int64)


@dataclass
class EventCounts:
    """Cosmic rays of a detector's frames, and those of which a mask holds no pixel.

    Pixels above `evaluate.RECALL_ABOVE` that touch, corners included, are one cosmic ray; it
    counts where their charge is above `LEAST` noises and none of them is left out.

    Attributes
    ----------
    total, missed : (n,) arrays
        Per bin of `SIZES`.
    """

    total: NDArray[np.int64] = field(default_factory=_per_size)
    missed: NDArray[np.int64] = field(default_factory=_per_size)

    def add(
        self,
        mask: NDArray[np.bool_],
        cr: NDArray[np.float32],
        ignore: NDArray[np.bool_],
        noise: float,
    ) -> None:
        """Count one frame.

        Parameters
        ----------
        mask, cr, ignore : (ny, nx) arrays
            True = flagged; truth [e-/px]; True = takes no part.
        noise : float
            Of the frame's sky [e-], see `sky_error`.
        """
        labels, count = ndimage.label(cr > evaluate.RECALL_ABOVE, _EIGHT)
        touched = labels > 0
        where = labels[touched]
        size, charge, out, hit = (
            np.bincount(where, values, minlength=count + 1)
            for values in (None, cr[touched], ignore[touched], mask[touched])
        )
        kept = (charge > LEAST * noise) & (out == 0)
        for counts, chosen in ((self.total, kept), (self.missed, kept & (hit == 0))):
            bins = np.digitize(size[chosen], SIZES) - 1
            counts += np.bincount(bins, minlength=len(SIZES))

    def __add__(self, other: EventCounts) -> EventCounts:
        """Return the counts of both's frames together."""
        return EventCounts(self.total + other.total, self.missed + other.missed)


def sky_error(exposure: Exposure) -> float:
    """Return the error of a sky pixel [e-]: the median of the error plane; NaN without one."""
    if exposure.error is None or exposure.electrons_per_unit is None:
        return float("nan")
    kept = exposure.error[~exposure.invalid]
    return float(np.median(kept) * exposure.electrons_per_unit) if kept.size else float("nan")
