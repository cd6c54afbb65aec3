"""What the network will mend: the sources of an image, its PSF, and the CR pixels of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crmend._background import Surface
from crmend._hidden import TYPICAL_SIGMA, find_hidden
from crmend._normalise import Scale
from crmend._psf import measure_psf
from crmend.cutouts import CutoutPlan, plan_cutouts
from crmend.sources import SourceCatalog, find_sources, joined

SAME = 3.0
"""Sources nearer than this are one [px]."""


def find_targets(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    scale: Scale,
    background: Surface,
    *,
    sources: SourceCatalog | None,
    reach: float | None,
    psf: NDArray[np.float64] | None = None,
    hidden: bool | None = None,
    observed: NDArray[np.float32] | None = None,
) -> tuple[SourceCatalog, NDArray[np.float64] | None, CutoutPlan]:
    """Find the sources that cosmic rays hit.

    Parameters
    ----------
    image : (ny, nx) float32 array
        CR pixels filled by the median.  Written to meanwhile, and in the end as it was.
    cr_mask, invalid, excluded, sources, reach
        As in `crmend.inpaint.inpaint_into`.
    scale : Scale
        Background and noise of the image.
    background : Surface
        In the image's unit.
    psf : (k, 4) float64 array or None
        None = measure it; with k = 0 it is not known.
    hidden : bool or None
        Look for stars whose core is lost (`crmend._hidden`) beside the sources; None = where
        `sources` is None.
    observed : (n,) float32 array or None
        What the CR pixels held, in the order of the mask's flat indices; NaN = not known,
        None = none of them is.  Where hardly any is brighter than the background, the values
        mean nothing.

    Returns
    -------
    SourceCatalog
        All sources, also those without a cosmic ray; a catalogue without sizes has those of
        the sources found at its places.
    (k, 4) float64 array or None
        See `crmend._psf.measure_psf`; None also without cosmic rays.
    CutoutPlan
    """
    known = sources
    if known is None or not np.isfinite(known.a).all():
        found = find_sources(image, invalid=invalid, noise=scale.noise)
        known = found if known is None else _with_sizes(known, found)
    plan = plan_cutouts(cr_mask, known, reach=reach)
    flat = np.flatnonzero(cr_mask)
    if flat.size == 0:
        return known, None, plan
    if psf is None:
        psf = measure_psf(image, cr_mask, excluded, scale, known)
    elif len(psf) == 0:
        psf = None
    if not (sources is None if hidden is None else hidden):
        return known, psf, plan
    left = np.setdiff1d(flat, plan.pixels, assume_unique=True)
    filled = image.flat[flat]
    image.flat[flat] = _charged(observed, flat, image.shape[1], background, scale.noise)
    found = find_hidden(image, cr_mask, excluded, background, scale.noise, left, psf)
    image.flat[flat] = filled
    if len(found) == 0:
        return known, psf, plan
    both = joined(known, found)
    return both, psf, plan_cutouts(cr_mask, both, reach=reach)


def _charged(
    observed: NDArray[np.float32] | None,
    flat: NDArray[np.int64],
    nx: int,
    background: Surface,
    noise: float,
) -> NDArray[np.float32] | float:
    """Return what CR pixels held; NaN where that cannot be charge: nine in ten hold none."""
    if observed is None:
        return np.nan
    known = np.isfinite(observed)
    light = observed[known] - background.of(*np.divmod(flat[known], nx))
    return observed if light.size and np.quantile(light, 0.9) > 3.0 * noise else np.nan


def _with_sizes(known: SourceCatalog, found: SourceCatalog) -> SourceCatalog:
    """Return a catalogue whose unknown sizes are those of the sources found at its places.

    Where there is none, a source is taken for a point.
    """
    unknown = np.flatnonzero(~np.isfinite(known.a))
    size = np.full(unknown.size, TYPICAL_SIGMA)
    if len(found):
        places = np.stack([known.x[unknown], known.y[unknown]], axis=1)
        distance, nearest = cKDTree(np.stack([found.x, found.y], axis=1)).query(places)
        size = np.where(distance < SAME, found.a[nearest], size)
    a = known.a.copy()
    a[unknown] = size
    return replace(known, a=a)
