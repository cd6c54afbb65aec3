"""Cosmic rays of a scientific test set: cut out of Level 1, and put beside a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.datasets.frames import LABEL_THRESHOLD
from crmend_training.datasets.inpainting import CUTOUT
from crmend_training.datasets.science_files import ScienceCase, ScienceSource

LARGEST_DISTANCE = 15.0
"""Of a CR's centre of charge from the source's centre [px] (paper, section 2.3)."""

_HALF = CUTOUT // 2


@dataclass(frozen=True, eq=False)
class CosmicRayClip:
    """What one CR adds to Level 1 (64, 64), in the image's unit, and its truth [e-/px]."""

    added: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def energy(self) -> float:
        """Charge [e-]."""
        return float(self.truth.sum(dtype=np.float64))


def place_clips(
    rng: np.random.Generator, source: ScienceSource, clips: Sequence[CosmicRayClip]
) -> list[ScienceCase]:
    """Inject each clip into a source, at distances that fill 0–15 px evenly.

    Clips move by whole pixels (their pixels are measured ones), so that a distance may
    miss the one drawn by half a diagonal; it is drawn anew until it is at most 15 px.
    """
    n = len(clips)
    wanted = LARGEST_DISTANCE * (rng.permutation(n) + rng.uniform(size=n)) / n
    cases = []
    for clip, radius in zip(clips, wanted, strict=True):
        cy, cx = ndimage.center_of_mass(clip.truth)
        while True:
            angle = rng.uniform(0.0, 2.0 * np.pi)
            dy = round(source.stamp_y + radius * np.sin(angle) - cy)
            dx = round(source.stamp_x + radius * np.cos(angle) - cx)
            away_y, away_x = cy + dy - source.stamp_y, cx + dx - source.stamp_x
            distance = float(np.hypot(away_y, away_x))
            if distance <= LARGEST_DISTANCE:
                break
            radius = LARGEST_DISTANCE * rng.uniform()
        added, truth = _moved(clip.added, dy, dx), _moved(clip.truth, dy, dx)
        cases.append(
            ScienceCase(
                source=source,
                hit=source.clean + added,
                mask=truth > LABEL_THRESHOLD,
                energy=clip.energy,
                distance=distance,
                angle=float(np.degrees(np.arctan2(away_y, away_x)) % 360.0),
            )
        )
    return cases


def isolated_clips(
    added: NDArray[np.float32],
    truth: NDArray[np.float32],
    ignore: NDArray[np.bool_],
    most: int,
    rng: np.random.Generator,
) -> list[CosmicRayClip]:
    """Return up to `most` CRs with at least one labelled pixel, all on usable pixels.

    Parameters
    ----------
    added : (ny, nx) float32 array
        What CRs add to Level 1, in its unit.
    truth : (ny, nx) float32 array
        Their charge [e-/px].
    ignore : (ny, nx) bool array
        True = bad, hot or saturated.
    most : int
    rng : numpy.random.Generator
        Which are taken.
    """
    labels, count = ndimage.label(truth > 0, structure=np.ones((3, 3)))
    boxes, clips = ndimage.find_objects(labels), []
    for k in rng.permutation(count):
        if len(clips) == most:
            break
        rows, columns = boxes[k]
        y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        if not (_HALF <= y <= truth.shape[0] - _HALF and _HALF <= x <= truth.shape[1] - _HALF):
            continue
        window = stamp_window(y, x)
        own = labels[window] == k + 1
        charge = np.where(own, truth[window], 0.0).astype(np.float32)
        if charge.max() <= LABEL_THRESHOLD or ignore[window][own].any():
            continue
        clips.append(CosmicRayClip(np.where(own, added[window], 0).astype(np.float32), charge))
    return clips


def stamp_window(y: float, x: float) -> tuple[slice, slice]:
    """Return the 64×64 pixels around a place on the frame."""
    row, column = int(np.floor(y + 0.5)) - _HALF, int(np.floor(x + 0.5)) - _HALF
    return slice(row, row + CUTOUT), slice(column, column + CUTOUT)


def _moved(array: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """Return an array moved by whole pixels, zeros moving in."""
    ny, nx = array.shape
    padded = np.pad(array, ((max(dy, 0), max(-dy, 0)), (max(dx, 0), max(-dx, 0))))
    return padded[max(-dy, 0) : max(-dy, 0) + ny, max(-dx, 0) : max(-dx, 0) + nx]
