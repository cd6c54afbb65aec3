"""Cosmic rays of a frame put on its sources, so that few frames mend many of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

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

Move: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp], int, int]
"""Rows and columns of a CR, and by how many rows and columns its copy is off."""


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
    groups = rays_of(frame)
    if not groups:
        return frame
    moves: list[Move] = []
    sources = usable_sources(frame)
    for x, y in zip(sources["x"], sources["y"], strict=True):
        rows, columns, row, column = draw_ray(groups, rng)
        distance, angle = rng.uniform(0.0, REACH), rng.uniform(0.0, 2.0 * np.pi)
        down = round(float(y) + distance * np.sin(angle)) - row
        right = round(float(x) + distance * np.cos(angle)) - column
        moves.append((rows, columns, down, right))
    return with_copies(frame, frame, moves)


def with_copies(frame: HitFrame, origin: HitFrame, moves: Sequence[Move]) -> HitFrame:
    """Return a frame with copies of another's CRs, or of its own, added to what it holds.

    Nothing is added to bad and saturated pixels.

    Parameters
    ----------
    frame : HitFrame
        Not changed.
    origin : HitFrame
        What a CR added to its CR-free twin is what a copy adds, and so is the charge.
    moves : sequence of (rows, columns, down, right)
        Of CRs of `origin`, as `rays_of` gives them.
    """
    image, truth = frame.image.copy(), frame.truth.copy()
    added = origin.image - origin.clean
    for rows, columns, down, right in moves:
        kept = _usable(frame, rows + down, columns + right)
        here = (rows[kept], columns[kept])
        there = (here[0] + down, here[1] + right)
        image[there] += added[here]
        truth[there] += origin.truth[here]
    return replace(frame, image=image, truth=truth)


def rays_of(frame: HitFrame) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return rows and columns of the CRs that are not too large to be put elsewhere."""
    labels, _ = ndimage.label(frame.true_mask & np.isfinite(frame.clean), _EIGHT)
    groups = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if max(part.stop - part.start for part in box) <= LARGEST:
            rows, columns = np.nonzero(labels[box] == number)
            groups.append((rows + box[0].start, columns + box[1].start))
    return groups


def draw_ray(
    rays: list[tuple[NDArray[np.intp], NDArray[np.intp]]], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], int, int]:
    """Return rows and columns of one of the CRs, and those of one of its pixels."""
    rows, columns = rays[rng.integers(len(rays))]
    pixel = rng.integers(rows.size)
    return rows, columns, int(rows[pixel]), int(columns[pixel])


def _usable(frame: HitFrame, rows: NDArray, columns: NDArray) -> NDArray[np.bool_]:
    """Return which pixels lie in the frame and are neither bad nor saturated."""
    ny, nx = frame.image.shape
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    kept = inside.copy()
    kept[inside] = ~frame.excluded[rows[inside], columns[inside]]
    return kept
