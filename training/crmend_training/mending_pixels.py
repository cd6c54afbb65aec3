"""Mended pixels of full frames against CR-free ones: error bars, sky, and all other pixels."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crmend.sources import find_sources
from crmend_training.classical_fills import prepared
from crmend_training.evaluate_mending import APERTURE
from crmend_training.mending_frames import HitFrame, Mended

MAGNITUDE_BINS = (0.0, 18.0, 20.0, 22.0, 24.0, 40.0)
"""Edges of the bins in which sigma is tested [mag]."""

_TILE = 64


def sky_mask(frame: HitFrame) -> NDArray[np.bool_]:
    """Return True far from every source of the CR-free image (seven of sep's axes, 3 px)."""
    clean = prepared(frame.clean, frame.invalid, float(np.median(frame.background)))
    found = find_sources(clean, invalid=frame.invalid, noise=frame.noise)
    touched = np.zeros(clean.shape, bool)
    axis = np.maximum(found.a, 0.5) + 0.5
    sep.mask_ellipse(touched, found.x, found.y, axis, axis, np.zeros(axis.size), r=7.0)
    # Faint sources of the catalogue, which sep does not find.
    bright = np.asarray(frame.catalog["flux"], float) > 5.0 * frame.noise
    x, y = (np.asarray(frame.catalog[name], float)[bright] for name in ("x", "y"))
    sep.mask_ellipse(touched, x, y, np.full(x.size, 1.0), np.full(x.size, 1.0), 0 * x, r=6.0)
    return ~touched & ~frame.excluded & np.isfinite(frame.clean)


def pixel_groups(frame: HitFrame, flat: NDArray[np.intp], sky: NDArray) -> NDArray[np.int8]:
    """Return where each pixel lies: −1 sky, 0 … the magnitude bin of a source within 5 px.

    The source is the nearest of the catalogue; −2 = neither on sky nor near a source.
    """
    groups = np.full(flat.size, -2, np.int8)
    rows, columns = np.divmod(flat, frame.clean.shape[1])
    x, y, mag = (np.asarray(frame.catalog[name], float) for name in ("x", "y", "mag"))
    if mag.size:
        tree = cKDTree(np.column_stack([x, y]))
        distance, nearest = tree.query(np.column_stack([columns, rows]), workers=1)
        bins = np.searchsorted(MAGNITUDE_BINS, mag[nearest], side="right") - 1
        groups = np.where(distance <= APERTURE, bins, groups).astype(np.int8)
    groups[sky.flat[flat]] = -1
    return groups


def pulls_of(frame: HitFrame, mended: Mended, sky: NDArray[np.bool_]) -> dict[str, NDArray]:
    """Return ``pull`` = (ours − CR-free) / error, ``method`` and ``group`` of mended pixels."""
    flat = np.flatnonzero(mended.mask & np.isfinite(frame.clean) & ~frame.excluded)
    difference = mended.images["ours"].flat[flat] - frame.clean.flat[flat]
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = difference / mended.error.flat[flat]
    return {
        "pull": pull.astype(np.float32),
        "method": mended.method.flat[flat],
        "group": pixel_groups(frame, flat, sky),
    }


def sky_differences(
    frame: HitFrame, mended: Mended, sky: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Return (mended − CR-free) / noise of sky pixels that every method mended."""
    flat = np.flatnonzero(mended.filled & sky)
    clean, noise = frame.clean.flat[flat], np.float32(frame.noise)
    return {
        name: ((image.flat[flat] - clean) / noise).astype(np.float32)
        for name, image in mended.images.items()
        if name not in ("contaminated", "masked")
    }


def sky_tiles(
    frame: HitFrame, rng: np.random.Generator, share: float = 0.1
) -> NDArray[np.bool_]:
    """Return True in a random share of the frame's tiles of 64×64 px.

    A tenth of the mended pixels tells what a slow fill does to the sky.
    """
    ny, nx = frame.clean.shape
    chosen = rng.random((-(-ny // _TILE), -(-nx // _TILE))) < share
    return np.kron(chosen, np.ones((_TILE, _TILE), bool))[:ny, :nx]


def changed_outside(frame: HitFrame, mended: Mended) -> int:
    """Return how many pixels outside the mask differ in any bit, in ours' image or error.

    Bad and saturated pixels are outside of every mask.
    """
    planes = [(frame.image, mended.images["ours"])]
    if frame.error is not None:
        planes.append((frame.error, mended.error))
    changed = np.zeros(frame.image.shape, bool)
    for before, after in planes:
        changed |= before.astype(np.float32).view(np.uint32) != after.view(np.uint32)
    return int((changed & ~mended.mask).sum())
