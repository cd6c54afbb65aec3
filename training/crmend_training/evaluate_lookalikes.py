"""Detection where there is no cosmic ray: the false-positive zoo, and the cores of stars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

import crmend
from crmend._instruments import load_instrument
from crmend.flags import has_flag
from crmend.models import DEFAULT_PACK, Model, load_card, load_model
from crmend_training.zoo import CLASSES, Zoo, make_zoo

ZOO_DETECTORS = (12, 14, 8, 9, 7, 11, 6)
"""One chip of each band, from the ultraviolet to the infrared."""

MAGNITUDES = tuple(float(edge) for edge in range(15, 27))
"""Edges of the bins of a star's magnitude."""

_EIGHT = np.ones((3, 3), dtype=bool)

NEW_HOT = "new hot pixel"
"""The class of hot pixels that no flag names: cosmic rays in all but time."""

QUALITY_KINDS = {"reference": "detect", "fast": "detect_fast"}


def load_detector(detector: str | int, quality: str, threads: int | None) -> Model | None:
    """Return a CSST detector's network, or None where its pack has no such quality."""
    kind = QUALITY_KINDS[quality]
    if kind not in load_card(DEFAULT_PACK, detector).kinds:
        return None
    return load_model(DEFAULT_PACK, detector, kind, threads=threads)


# --- the zoo -------------------------------------------------------------------------


@dataclass
class ZooTally:
    """Pixels of each class of the zoo, and those flagged.

    Attributes
    ----------
    pixels, flagged : (n,) arrays
        Per class of `zoo.CLASSES`, new hot pixels with the sky that touches them; invalid
        and saturated pixels are left out, as in the runtime.
    frames : int
    """

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    flagged: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    frames: int = 0

    def add(
        self, labels: NDArray[np.uint8], mask: NDArray[np.bool_], excluded: NDArray[np.bool_]
    ) -> None:
        """Count one frame: its labels, cr_mask, True = takes no part."""
        keep, count = ~excluded, len(CLASSES)
        self.pixels += np.bincount(labels[keep], minlength=count)
        self.flagged += np.bincount(labels[keep & mask], minlength=count)
        self.frames += 1

    @property
    def per_million(self) -> float:
        """Flagged pixels per 10^6 pixels that take part, over all classes."""
        return float(1e6 * self.flagged.sum() / max(int(self.pixels.sum()), 1))


def excluded_pixels(zoo: Zoo) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the invalid and the saturated pixels of a zoo, by the CSST profile's roles."""
    profile, flag = load_instrument("csst_msc"), zoo.exposure.flag
    invalid = has_flag(flag, profile.invalid_flags) | ~np.isfinite(zoo.exposure.image)
    return invalid, has_flag(flag, profile.saturated_flags)


def score_zoo(
    seeds: Iterable[int],
    qualities: Sequence[str] = ("reference",),
    *,
    detectors: Sequence[int] = ZOO_DETECTORS,
    threads: int | None = None,
) -> dict[str, dict[str, ZooTally]]:
    """Run detectors' networks over zoos of several seeds; return tallies per quality, detector.

    Parameters
    ----------
    seeds : iterable of int
        Of `make_zoo`; training's start at 1 990 000.
    qualities : sequence of {"reference", "fast"}
        What a pack does not have is left out.
    detectors : sequence of int
    threads : int or None
        CPU threads.
    """
    tallies: dict[str, dict[str, ZooTally]] = {}
    every = [(seed, detector) for seed in seeds for detector in detectors]
    for seed, detector in tqdm(every, desc="zoo", disable=None):
        zoo = make_zoo(detector, seed)
        invalid, saturated = excluded_pixels(zoo)
        for quality in qualities:
            model = load_detector(detector, quality, threads)
            if model is None:
                continue
            found = crmend.detect(
                zoo.exposure.image, model=model, invalid=invalid, saturated=saturated,
                electrons_per_unit=zoo.exposure.exposure_time,  # e-/s
            )  # fmt: skip
            into = tallies.setdefault(quality, {}).setdefault(f"{detector:02d}", ZooTally())
            into.add(_with_surroundings(zoo.labels), found.cr_mask, invalid | saturated)
    return tallies


def _with_surroundings(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels in which the sky beside a new hot pixel counts as the hot pixel.

    A network that takes it for a cosmic ray flags the pixels around it too.
    """
    new = np.uint8(CLASSES.index(NEW_HOT))
    beside = ndimage.binary_dilation(labels == new, _EIGHT)
    return np.where(beside & (labels == CLASSES.index("sky")), new, labels)


def pooled_zoo(tallies: Iterable[ZooTally]) -> ZooTally:
    """Return the counts of several detectors together."""
    pooled = ZooTally()
    for tally in tallies:
        pooled.pixels += tally.pixels
        pooled.flagged += tally.flagged
        pooled.frames += tally.frames
    return pooled


# --- star cores ----------------------------------------------------------------------


def star_cores(
    catalog: Table,
    mask: NDArray[np.bool_],
    cr: NDArray[np.float32],
    saturated: NDArray[np.bool_],
    limit: float = np.inf,
) -> tuple[NDArray[np.float64], ...]:
    """Count unsaturated stars, and those whose core is flagged without a CR.

    A core is the 3×3 pixels around the catalogue's position, none of them saturated.  A flagged
    pixel is wrong where neither it nor any of its neighbours holds CR charge (> 0 e-), and
    alone where that goes for its whole group: elsewhere a mask of a CR reaches too far.

    Parameters
    ----------
    catalog : Table
        With ``x``, ``y`` [px, from 0], ``mag`` and ``type``.
    mask, saturated : (ny, nx) bool arrays
        cr_mask; True = saturated.
    cr : (ny, nx) float32 array
        CR truth [e-/px].
    limit : float
        Stars fainter than this are hardly seen [mag].

    Returns
    -------
    stars, wrong, alone, and the same of stars brighter than the limit : (k,) arrays
        Per bin of `MAGNITUDES`; the first and last bin hold what lies beyond.
    """
    ny, nx = cr.shape
    x, y = (np.rint(np.asarray(catalog[name], float)).astype(int) for name in ("x", "y"))
    kinds = np.array([str(kind).strip() for kind in catalog["type"]])
    chosen = (kinds == "star") & (x >= 1) & (y >= 1) & (x < nx - 1) & (y < ny - 1)
    x, y, magnitude = x[chosen], y[chosen], np.asarray(catalog["mag"], float)[chosen]
    near = ndimage.binary_dilation(cr > 0, _EIGHT)
    groups, _ = ndimage.label(mask, _EIGHT)
    of_crs = np.isin(groups, np.unique(groups[near & mask]))
    full, wrong, alone = (
        ndimage.maximum_filter(plane.view(np.uint8), 3)[y, x] > 0
        for plane in (saturated, mask & ~near, mask & ~of_crs)
    )
    bins, count = np.digitize(magnitude, MAGNITUDES), len(MAGNITUDES) + 1
    return tuple(
        np.bincount(bins[~full & chosen], minlength=count).astype(float)
        for seen in (np.ones_like(full), magnitude < limit)
        for chosen in (seen, wrong & seen, alone & seen)
    )
