"""Cosmic rays of a frame put on its sources, so that few frames mend many of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.classical_fills import prepared
from crmend_training.mending_frames import HitFrame, usable_sources
from crmend_training.peers_frames import BenchFrame

REACH = 4.0
"""A CR pixel is put at most that far from a source's centre [px], any distance as likely."""

LARGEST = 40
"""Rows or columns of a CR that is put on a source, at most."""

_EIGHT = np.ones((3, 3), bool)


def task_frames(frame: BenchFrame, rounds: int) -> list[BenchFrame]:
    """Return a frame for detection, and as many for mending as there are rounds.

    Without rounds, or without a CR-free twin, the frame as it is.
    """
    if rounds == 0 or frame.hit is None:
        return [frame]
    return [replace(frame, tasks=("detect",)), *_rounds(frame, frame.hit, rounds)]


def _rounds(frame: BenchFrame, hit: HitFrame, rounds: int) -> Iterator[BenchFrame]:
    """Yield the frame with one of its CRs put on every source that can be measured."""
    for number in range(rounds):
        rng = np.random.default_rng([zlib.crc32(frame.name.encode()), number])
        own = with_hits(hit, rng)
        image = own.image * np.float32(own.electrons)
        filled = prepared(image, frame.work.invalid, frame.work.background)
        work = replace(frame.work, image=image, filled=filled, mask=own.true_mask)
        yield replace(
            frame,
            name=f"{frame.name}_hits{number + 1}",
            work=work,
            cr=own.truth,
            hit=own,
            tasks=("mend",),
        )


def with_hits(frame: HitFrame, rng: np.random.Generator) -> HitFrame:
    """Return a frame whose measurable sources are each hit by a copy of one of its CRs.

    What the CR added to the image is added where it is put, so that it brings its own noise.
    Nothing is added to bad and saturated pixels.

    Parameters
    ----------
    frame : HitFrame
        Not changed.
    rng : Generator
    """
    groups = _groups(frame)
    if not groups:
        return frame
    image, truth = frame.image.copy(), frame.truth.copy()
    added = frame.image - frame.clean
    sources = usable_sources(frame)
    for x, y in zip(sources["x"], sources["y"], strict=True):
        rows, columns = groups[rng.integers(len(groups))]
        pixel = rng.integers(rows.size)
        distance, angle = rng.uniform(0.0, REACH), rng.uniform(0.0, 2.0 * np.pi)
        to_row = rows + round(float(y) + distance * np.sin(angle)) - rows[pixel]
        to_column = columns + round(float(x) + distance * np.cos(angle)) - columns[pixel]
        kept = _usable(frame, to_row, to_column)
        here, there = (rows[kept], columns[kept]), (to_row[kept], to_column[kept])
        image[there] += added[here]
        truth[there] += frame.truth[here]
    return replace(frame, image=image, truth=truth)


def _groups(frame: HitFrame) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return rows and columns of the CRs that are not too large to be put elsewhere."""
    labels, _ = ndimage.label(frame.true_mask & np.isfinite(frame.clean), _EIGHT)
    groups = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if max(part.stop - part.start for part in box) <= LARGEST:
            rows, columns = np.nonzero(labels[box] == number)
            groups.append((rows + box[0].start, columns + box[1].start))
    return groups


def _usable(frame: HitFrame, rows: NDArray, columns: NDArray) -> NDArray[np.bool_]:
    """Return which pixels lie in the frame and are neither bad nor saturated."""
    ny, nx = frame.image.shape
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    kept = inside.copy()
    kept[inside] = ~frame.excluded[rows[inside], columns[inside]]
    return kept
