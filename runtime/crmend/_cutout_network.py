"""Cutouts through the inpainting network: first fill, inputs, outputs at the CR pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from crmend._background import Surface
from crmend._continuation import misfit_of_continued, photon_variance
from crmend._kernels import smooth_fill
from crmend._profile import fit_profiles
from crmend._saturated import saturated_by_rays
from crmend._tiling import Progress
from crmend.cutouts import CutoutBatch, CutoutPlan
from crmend.models import Model

LOST = 0.8
"""Part of the square of `CORE` around a source, from which on its core is lost."""

BELOW = 5.0
"""What is so far below all pixels of a cutout, and below the background, is no sky [noise]."""

LEAST_PEAK = 1.0
"""Peak of a profile, below which none fits [noise]."""

CORE = 3
"""Half width of that square [px]."""

CORRECTED = 0.7
"""Share of the network's correction that is applied where the frame's PSF is known: the first
fill is good there, and what training left in the correction by chance is noise
(training/crmend_training/LOG.md)."""


def network_inputs(
    stamps: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    names: tuple[str, ...],
    psf: NDArray[np.float64] | None = None,
    threads: int = 1,
    saturated: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], ...]:
    """Fill the CR pixels of cutouts as the network expects it; return its inputs.

    Parameters
    ----------
    stamps : (n, h, w) float32 array
        In noise units, a first guess on CR pixels; changed in place.
    cr_mask : (n, h, w) bool array
        True = cosmic ray.
    names : tuple of str
        Inputs of the graph; with ``profile``, the source in the middle is fitted
        (`crmend._profile`).
    psf : (k, 4) float64 array or None
        The frame's PSF (`crmend._psf.measure_psf`), if it is known.
    threads : int
        Cutouts that are filled at the same time.
    saturated : (n, h, w) bool array or None
        True = says nothing of the source's profile.

    Returns
    -------
    tuple of (n, 1, h, w) float32 arrays
    """
    known = np.empty((0, 4)) if psf is None else psf
    arrays = [stamps, cr_mask.astype(np.float32)]
    if "profile" in names:
        arrays.append(np.empty_like(stamps))

    def fill(part: slice) -> None:
        # What overflows is not finite, and keeps the median.
        with np.errstate(over="ignore", invalid="ignore"):
            smooth_fill(stamps[part], cr_mask[part])
            if "profile" in names:
                full = None if saturated is None else saturated[part]
                fit_profiles(stamps[part], cr_mask[part], known, arrays[-1][part], full)

    size = -(-len(stamps) // max(threads, 1))
    parts = [slice(i, i + size) for i in range(0, len(stamps), size)]
    if len(parts) > 1:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(fill, parts))
    elif parts:
        fill(parts[0])
    return tuple(array[:, np.newaxis] for array in arrays)


def run_network(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    noise: float,
    background: Surface,
    psf: NDArray[np.float64] | None,
    plan: CutoutPlan,
    model: Model,
    batch: int,
    progress: Progress | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values and 1-sigma, in the image's unit, at the pixels of the plan.

    Sources stand on the smooth background, since the sky of a frame need not be flat.  The
    uncertainty is NaN where the graph gives none.  The image stays as it is meanwhile, so that
    no cutout depends on the one before it.
    """
    rays = saturated_by_rays(image, cr_mask, invalid, excluded, background, noise)
    if rays.size:
        cr_mask = cr_mask.copy()
        cr_mask.flat[rays] = True
    values = np.empty(plan.pixels.size, dtype=np.float32)
    sigma = np.full_like(values, np.nan)
    done = 0
    for stamps in plan.batches(image, cr_mask, invalid, background, batch, excluded):
        done += len(stamps.image)
        # What overflows is not finite, and keeps the median.
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = network_inputs(
                (stamps.image - stamps.background) / np.float32(noise),
                stamps.cr_mask,
                model.inputs,
                psf,
                model.threads,
                stamps.saturated,
            )
            mended, *spread = model.run(*arrays, last=done == len(plan))
            if "profile" in model.inputs:
                if psf is not None:
                    mended = arrays[0] + np.float32(CORRECTED) * (mended - arrays[0])
                mended[_unknown(stamps.cr_mask, arrays[-1])] = np.nan
                mended[:, 0] = _above_any_sky(mended[:, 0], arrays[0][:, 0], stamps.cr_mask)
                _continue_smoothly(mended, spread, stamps, arrays[0], arrays[-1], noise)
            whole = mended[:, 0] * np.float32(noise) + stamps.background
            values[stamps.pixels] = plan.pick(whole, stamps, image.shape[1])
            for one in spread:
                picked = plan.pick(one[:, 0], stamps, image.shape[1])
                sigma[stamps.pixels] = picked * np.float32(noise)
        if progress is not None:
            progress(done, len(plan))
    return values, sigma


def _unknown(cr_mask: NDArray[np.bool_], profiles: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which sources nothing is known of, (n,): no profile fits, and the core is lost.

    The network would make up something there, so their pixels keep the first guess.
    """
    middle = cr_mask.shape[-1] // 2
    core = np.s_[middle - CORE : middle + CORE + 1]
    lost = cr_mask[:, core, core].mean(axis=(1, 2)) > LOST
    return np.asarray(lost & (profiles.max(axis=(1, 2, 3)) < LEAST_PEAK))


def _saturated(stamps: CutoutBatch) -> NDArray[np.bool_]:
    """Return which cutouts have a source whose core is saturated, (n,): none was learnt."""
    middle = stamps.saturated.shape[-1] // 2
    core = np.s_[:, middle - 1 : middle + 2, middle - 1 : middle + 2]
    return np.asarray(stamps.saturated[core].any(axis=(1, 2)))


def _above_any_sky(
    mended: NDArray[np.float32], filled: NDArray[np.float32], cr_mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Clip what a network made lower than any good pixel and the background, (n, h, w)."""
    least = np.where(cr_mask, np.float32(0.0), filled).min(axis=(1, 2), keepdims=True)
    clipped: NDArray[np.float32] = np.maximum(mended, least - np.float32(BELOW))
    return clipped


def _continue_smoothly(
    mended: NDArray[np.float32],
    spread: list[NDArray[np.float32]],
    stamps: CutoutBatch,
    filled: NDArray[np.float32],
    profiles: NDArray[np.float32],
    noise: float,
) -> None:
    """Write what surrounds the CR pixels where nothing better is known, in place.

    That is on saturated cores, and beside pixels that contradict a source's profile
    (`crmend._continuation`), but not where nothing at all is: NaN stays.  The arrays are
    (n, 1, h, w) [noise].
    """
    full = _saturated(stamps)
    misfit = misfit_of_continued(
        filled[:, 0], stamps.cr_mask | stamps.saturated, profiles[:, 0]
    )
    odd = np.isfinite(misfit) & ~full & ~np.isnan(mended[:, 0, 0, 0])
    chosen = full | odd
    if not chosen.any():
        return
    mended[chosen, 0] = _smooth(stamps, chosen, noise)
    unit = np.maximum(misfit[odd], np.float32(1.0))[:, np.newaxis, np.newaxis, np.newaxis]
    for one in spread:
        one[full] = np.minimum(one[full], np.abs(mended[full]) + BELOW)
        one[odd] = np.sqrt(unit * photon_variance(mended[odd]))


def _smooth(
    stamps: CutoutBatch, chosen: NDArray[np.bool_], noise: float
) -> NDArray[np.float32]:
    """Return some of the cutouts filled from their surroundings alone [noise]."""
    filled = (stamps.image[chosen] - stamps.background[chosen]) / np.float32(noise)
    smooth_fill(filled, stamps.cr_mask[chosen])
    return np.asarray(filled)
