"""Cosmic rays on the cores of stars, judged by the image's own point-spread function.

A network hardly dares to flag the peak of a bright star, and where it does, it is often wrong.
Once the PSF is known from all stars of an image, the rest of a star says what its core should
be: a pixel far above is a cosmic ray, unless its neighbours say that it is another star; a
flagged pixel that is as it should be is none.  So is a group of flagged pixels that is a star
and nothing else: a network takes a star without wings for a heavy ion, but stars are alike.
Lines of the detector leave the mask before (`_streaks`), and what it leaves of cosmic rays
joins it (`_rim_growth`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend._gaps import median_fill
from crmend._holes import fill_holes
from crmend._kernels import MIN_GOOD
from crmend._normalise import Scale, measure_scale, to_noise_units
from crmend._psf import LEAST_PEAK, MOST_WINGS, psf_and_wings
from crmend._rim_growth import grow_rims
from crmend._star_judge import (
    ALSO_FOUND,
    CORE,
    HALF,
    SHARPNESS,
    judge_star,
    least_neighbour,
    opposite_neighbours,
    photons_of,
    square,
)
from crmend._streaks import free_streaks
from crmend.sources import SourceCatalog, find_sources

FREED = (-4.0, 1.0)
"""A flagged pixel between these [sigma] is as the star's light says."""

LEAST_NEIGHBOUR = 0.1
"""What a star's second-faintest neighbour pixel has of its peak, at least: a PSF that is more
undersampled does not tell stars from cosmic rays (simulated CSST frames: 0.15 to 0.4)."""

MOST_STRUCK = 0.1
"""Part of the judged stars that may have a cosmic ray which the network missed (simulated CSST
frames: 0.06 at most); where more have, or more than `_FEW`, they are not like the PSF."""

ALIKE = 2.0
"""Factor between the product of two opposite neighbours of a peak and that of the PSF's: what
differs by more is not even fitted."""

_FEW = 2
# The constants above were chosen on 102 simulated frames that no report uses; LOG.md, round 11.


@dataclass(frozen=True, eq=False)
class StarCores:
    """What was learnt on the way, and how many pixels changed.

    Attributes
    ----------
    sources : SourceCatalog
        Stars and galaxies of the image.
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`; k = 0 where there are too few stars to tell it.
    added, freed : int or None
        Pixels that became cosmic rays, and that are none any more; None = no star was judged.
    rims : int
        Pixels beside the mask that joined it before.
    """

    sources: SourceCatalog
    psf: NDArray[np.float64]
    added: int | None = None
    freed: int | None = None
    rims: int = 0


def check_star_cores(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    *,
    sources: SourceCatalog | None = None,
    electrons_per_unit: float | None = None,
    threads: int = 1,
) -> StarCores:
    """Look at the cores of all stars, and mend the cr_mask there, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Native and C-contiguous.  It is written to meanwhile, and in the end as it was.
    cr_mask : (ny, nx) bool array
        True = cosmic ray; changed in the cores of stars, parts of lines leave it, and rims join
        it where the image's masks leave any.
    invalid, excluded : (ny, nx) bool arrays
        As in `crmend.detect.detect_into`.
    sources : SourceCatalog or None
        None = find them.
    electrons_per_unit : float or None
        Multiply the image by this to have electrons; None = not known.
    threads : int
        Stars that are fitted at the same time.

    Returns
    -------
    StarCores
        No core changed where the image has too few stars to tell its PSF, where that has a
        halo, or too many do not look like it.
    """
    scale = measure_scale(image, excluded | cr_mask)
    free_streaks(image, cr_mask, excluded, scale.noise)
    rims = grow_rims(image, cr_mask, excluded, scale)
    known = sources
    with _filled(image, cr_mask, excluded, scale):
        if sources is None:
            sources = find_sources(image, invalid=invalid, noise=scale.noise)
        psf, wings = psf_and_wings(image, cr_mask, excluded, scale, sources)
        places = _bright(image, excluded, scale, sources)
    if psf is None:
        return StarCores(sources, np.empty((0, 4)), rims=rims)
    neighbour = least_neighbour(psf)
    # A sum of few Gaussians is near enough to a halo to mend from, not to judge by: LOG.md.
    if neighbour < LEAST_NEIGHBOUR or wings >= MOST_WINGS or len(places) == 0:
        return StarCores(sources, psf, rims=rims)
    of_frame = (
        image, cr_mask, excluded, scale, psf,
        photons_of(scale, electrons_per_unit), SHARPNESS * neighbour,
    )  # fmt: skip
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        judge = partial(_judge_place, *of_frame)
        judged = [one for one in pool.map(judge, *places.T) if one is not None]
        struck = sum(found.size > 0 for found, _ in judged)
        most = max(_FEW, MOST_STRUCK * len(judged))
        if not judged or struck > most:
            return StarCores(sources, psf, rims=rims)
        peaks = _flagged_peaks(image, cr_mask, scale, psf)
        whole = list(pool.map(partial(_judge_group, *of_frame), *peaks))
    added, bare = zip(*judged, strict=True)
    found, freed = (np.unique(np.concatenate(pixels)) for pixels in (added, [*bare, *whole]))
    cr_mask.flat[found] = True
    cr_mask.flat[freed] = False
    counts = (int(found.size), int(freed.size))
    if sum(pixels.size > 0 for pixels in whole) <= most:
        return StarCores(sources, psf, *counts, rims)
    # So many stars were hidden that sources and PSF are worth finding again.
    rest = check_star_cores(
        image, cr_mask, invalid, excluded, sources=known,
        electrons_per_unit=electrons_per_unit, threads=threads,
    )  # fmt: skip
    more = (rest.added or 0, rest.freed or 0)
    rims += rest.rims
    return replace(rest, added=counts[0] + more[0], freed=counts[1] + more[1], rims=rims)


@contextmanager
def _filled(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
) -> Iterator[None]:
    """Let the CR pixels of an image hold medians meanwhile, those of holes what continues."""
    flat = np.flatnonzero(cr_mask)
    own = image.flat[flat]
    spread = np.empty(flat.size, dtype=np.float32)
    try:
        median_fill(image, cr_mask, excluded, MIN_GOOD, scale.background, spread)
        fill_holes(image, cr_mask, scale)
        yield
    finally:
        image.flat[flat] = own


def _bright(
    image: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    scale: Scale,
    sources: SourceCatalog,
) -> NDArray[np.int64]:
    """Return (n, 2) x and y of the sources that are bright, whole and not saturated."""
    ny, nx = image.shape
    with np.errstate(invalid="ignore"):
        places = np.floor(np.column_stack([sources.x, sources.y]) + 0.5)
    inside = (places >= HALF).all(axis=1) & (places < (nx - HALF, ny - HALF)).all(axis=1)
    places = places[inside].astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        peak = to_noise_units(image[places[:, 1], places[:, 0]], scale)
    bright = (peak > LEAST_PEAK) & np.isfinite(peak)
    kept = [
        not excluded[y - CORE : y + CORE + 1, x - CORE : x + CORE + 1].any()
        for x, y in places[bright]
    ]
    whole: NDArray[np.int64] = places[bright][np.array(kept, dtype=bool)]
    return whole


def _judge_place(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    psf: NDArray[np.float64],
    photons: float,
    sharp: float,
    x: int,
    y: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the flat indices of the pixels to add and to free; None = no single star."""
    window = np.s_[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
    with np.errstate(over="ignore", invalid="ignore"):
        stamp = to_noise_units(image[window], scale)
    lost = cr_mask[window]
    usable = np.isfinite(stamp)
    gone = lost | excluded[window] | ~usable
    judged = judge_star(np.where(usable, stamp, np.float32(0.0)), gone, psf, photons, sharp)
    if judged is None:
        return None
    found, rest = judged
    freed = lost & usable & ~excluded[window] & square(CORE)
    freed &= (rest > FREED[0]) & (rest < FREED[1])
    corner = (y - HALF) * image.shape[1] + (x - HALF)
    indices = [
        corner + rows * image.shape[1] + columns
        for rows, columns in (np.nonzero(found), np.nonzero(freed))
    ]
    return indices[0], indices[1]


def _flagged_peaks(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    scale: Scale,
    psf: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of what may be middles of stars that are flagged for the most part."""
    ny, nx = image.shape
    with np.errstate(over="ignore", invalid="ignore"):
        flagged = np.flatnonzero(cr_mask)
        flagged = flagged[to_noise_units(image.flat[flagged], scale) > LEAST_PEAK]
        # The middle itself may be free already.
        near = np.concatenate([flagged + step for step in (-nx, -1, 0, 1, nx)])
        # These are sorted runs, merged in a moment; `unique` hashes a frame's for seconds.
        near.sort(kind="stable")
        y, x = np.divmod(near[np.diff(near, prepend=near[:1] - 1) > 0], nx)
        inside = (y > CORE) & (y < ny - 1 - CORE) & (x > CORE) & (x < nx - 1 - CORE)
        y, x = y[inside], x[inside]
        peak, up, left, right, down = (
            to_noise_units(image[y + dy, x + dx], scale)
            for dy, dx in ((0, 0), (-1, 0), (0, -1), (0, 1), (1, 0))
        )
        star = (peak > LEAST_PEAK) & (up > 0.0) & (left > 0.0)
        star &= peak >= np.maximum(np.maximum(up, down), np.maximum(left, right))
        pairs, (low, high) = (
            np.stack([up * down, left * right], axis=1),
            opposite_neighbours(psf),
        )
        unit = (peak**2)[:, np.newaxis]
        star &= ((pairs > low / ALIKE * unit) & (pairs < high * ALIKE * unit)).all(axis=1)
    y, x = y[star], x[star]
    core = [
        cr_mask[y + dy, x + dx]
        for dy in range(-CORE, CORE + 1)
        for dx in range(-CORE, CORE + 1)
    ]
    most = np.count_nonzero(core, axis=0) > len(core) // 2
    return x[most], y[most]


def _judge_group(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    psf: NDArray[np.float64],
    photons: float,
    sharp: float,
    x: int,
    y: int,
) -> NDArray[np.int64]:
    """Return the flat indices of flagged pixels that are a star and nothing else."""
    top, left = max(y - HALF, 0), max(x - HALF, 0)
    window = np.s_[top : y + HALF + 1, left : x + HALF + 1]
    with np.errstate(over="ignore", invalid="ignore"):
        stamp = to_noise_units(image[window], scale)
    gone = excluded[window] | ~np.isfinite(stamp)
    stamp[gone] = 0.0
    groups, _ = ndimage.label(cr_mask[window], np.ones((3, 3)))
    middle = np.s_[y - top - 1 : y - top + 2, x - left - 1 : x - left + 2]
    group = (groups > 0) & np.isin(groups, groups[middle])
    if (gone & group).any():
        return np.empty(0, np.int64)
    ny, nx = stamp.shape
    beyond = (
        (HALF - y + top, HALF + 1 + y - top - ny),
        (HALF - x + left, HALF + 1 + x - left - nx),
    )
    gone = np.pad(gone | (cr_mask[window] & ~group), beyond, constant_values=True)
    judged = judge_star(np.pad(stamp, beyond), gone, psf, photons, sharp, most_found=0)
    if judged is None:
        return np.empty(0, np.int64)
    rest = judged[1][beyond[0][0] :, beyond[1][0] :][:ny, :nx]
    rows, columns = np.nonzero(group & (rest < ALSO_FOUND))
    freed: NDArray[np.int64] = (top + rows) * image.shape[1] + (left + columns)
    return freed
