"""Cosmic rays mended: a network on stars and galaxies, medians and means of the sky elsewhere.

Where lines go on, as in spectra, the pixels along them count instead (`crmend._lines`).

The uncertainty of a mended pixel is the 1-sigma difference from what would have been measured
there without the CR, noise included: the network's own, or for the median an estimate from the
noise and the structure around it.  That is never below the uncertainty of the unmasked
neighbours.  On sources, what was observed then says what the pixel held at most
(`crmend._charge`); of the sky little is gained by it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crmend._amplifiers import find_parts
from crmend._arrays import own_copy, own_error, unweighted
from crmend._background import measure_background
from crmend._charge import limit_by_observed
from crmend._cutout_network import BELOW, run_network
from crmend._gaps import median_fill
from crmend._holes import fill_holes
from crmend._implied import judge_pixels
from crmend._inputs import check_callable, check_count, check_flag, check_mask
from crmend._kernels import MIN_GOOD, SKY_GOOD
from crmend._lines import fill_lines
from crmend._normalise import measure_least_scale
from crmend._packs import warn_if_unused
from crmend._sky import STRUCTURE_ABOVE, fill_sky
from crmend._targets import find_targets
from crmend._tiling import Progress
from crmend.errors import InvalidInputError
from crmend.models import Model, choose_model
from crmend.sources import CatalogLike, SourceCatalog, as_catalog

REACH = 2.0
"""The network mends CR pixels within so many pixels of a source's footprint (three of its
semi-major axes), the median all others.  Against every CR pixel of a cutout, as in the paper,
that leaves magnitudes as they are, mends the sky with less noise, and takes a quarter of the
cutouts (``tools/evaluate_mending.py --only policy``)."""

BATCH = 32
"""Cutouts that the network sees at once."""

MEDIAN, NETWORK = 1, 2
"""Values of the method map; 0 = untouched."""

NETWORK_FRACTION = 0.1
"""Share of the difference between the network's value and the median's that counts as the
network's own uncertainty, for graphs that give none.  A choice."""

MEDIAN_ERROR = 0.15
"""Standard error of what fills the sky, in units of the noise: measured on simulated sky
(training/crmend_training/LOG.md)."""

STRUCTURE_ERROR = 1.5
"""Error of the median per unit of its neighbours' spread beyond `STRUCTURE_ABOVE`: as above,
near sources."""


@dataclass(frozen=True, eq=False)
class Inpainted:
    """An image with its cosmic rays mended.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Only pixels of the mask differ from the input.
    error : (ny, nx) float32 array
        1-sigma, in the image's unit; at mended pixels that of the new value, else as given.
    method : (ny, nx) uint8 array
        0 = untouched, 1 = adaptive median, mean of the sky or line, 2 = network.
    sources : SourceCatalog
        The stars and galaxies that were looked at.
    """

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    method: NDArray[np.uint8]
    sources: SourceCatalog

    def __repr__(self) -> str:
        pixels, network = np.count_nonzero(self.method), np.sum(self.method == NETWORK)
        return (
            f"<Inpainted shape {np.shape(self.image)}, {pixels:,} pixels mended, "
            f"{network:,} of them by the network>"
        )


@dataclass(frozen=True, eq=False)
class Mending:
    """What `inpaint_into` did, besides writing to the image and its error.

    Attributes
    ----------
    method : (ny, nx) uint8 array
        As in `Inpainted`.
    sources : SourceCatalog
        The stars and galaxies that were looked at.
    sources_touched : int
        Those with cosmic-ray pixels: a cutout of each went through the network.
    seconds : dict
        Wall time of the stages ``median``, ``sources`` and ``network``.
    """

    method: NDArray[np.uint8]
    sources: SourceCatalog
    sources_touched: int
    seconds: dict[str, float]


def inpaint(
    image: ArrayLike,
    cr_mask: ArrayLike,
    *,
    detector: int | str | None = None,
    model: str | Model | None = None,
    invalid: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
    sources: CatalogLike | None = None,
    error: ArrayLike | None = None,
    additive: bool = True,
    device: str = "auto",
    threads: int | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Inpainted:
    """Mend the cosmic rays of a single exposure.

    Every masked pixel first gets the adaptive median of its neighbours.  Sources are found
    on that image, and stars whose core is masked by the light around it.  In the 64×64 cutout
    around each, masked pixels are filled smoothly and, with the PSF of the image's own stars,
    by the star or galaxy that fits the other pixels; the network then corrects them (paper,
    section 3.2).  Where its output is not finite, or no source is near, the pixel gets the
    median of at least sixteen neighbours, or where that is sky a weighted mean of more
    (`crmend._sky`).  Where lines go on around it, as in spectra, the pixels along them tell
    what it held instead (`crmend._lines`).  On sources, what the masked pixel itself holds
    counts as an upper limit in the end, unless `additive` is False.

    Parameters
    ----------
    image : (ny, nx) array-like
        In any linear unit, of any real dtype and byte order; not changed.  Pixels that a
        masked array or a CCDData of astropy masks count as NaN.
    cr_mask : (ny, nx) array-like of bool or integer
        True, or any number but 0, marks a cosmic ray.  Masked NaN pixels are mended;
        other NaN pixels stay as they are, and so do bad and saturated ones.
    detector : int, str or None
        A CSST detector such as 8, ``"8"`` or ``"08"``.
    model : str, Model or None
        A model pack, such as ``"generic"`` for any other instrument, or
        ``"pack/detector"``.  One of `detector` and `model` is needed.
    invalid : (ny, nx) array-like of bool, or None
        True = bad pixel: its value is used for nothing, and kept.  So it is in areas filled
        with one value, named or not.
    saturated : (ny, nx) array-like of bool, or None
        True = saturated: kept, and seen by no fit and no median; a source whose core is
        saturated is mended by the smooth fill.  None = as in `crmend.detect`.
    sources : SourceCatalog, astropy Table, structured array, str, Path or None
        Positions of stars and galaxies, or a FITS table of them, with the columns x and y
        (see `crmend.sources.read_catalog`); None = find them.  The network mends CR pixels
        near a source's footprint, whose size is the column ``a``, else that of a source found
        there.
    error : (ny, nx) array-like or None
        1-sigma, in the image's unit.  None = the uncertainty of a CCDData, else the background
        noise measured on the image, the same everywhere (without the photon noise of
        sources).  Where it is not finite the pixel counts as invalid, unless `invalid` or the
        mask of a CCDData says which ones are.
    additive : bool
        True = masked pixels hold what was there and the charge of a cosmic ray, so their
        values are upper limits, unless they are far below the fill or most of them are equal:
        such were written there.  False, or NaN in a pixel = its value says nothing.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads, at most as many as this process may use CPUs; None = so many.
    batch : int
        Cutouts that the network sees at once: memory and speed, not the result.
    progress : callable or None
        Called with (cutouts done, cutouts in all).

    Returns
    -------
    Inpainted
        New arrays.

    Raises
    ------
    InvalidInputError
        An argument has the wrong shape, dtype or range, or the error another unit; or no
        pixel is left to mend the others from.
    MissingFileError, FileFormatError
        The table of sources cannot be read.
    UnknownDetectorError, ModelError, DeviceError, MissingRuntimeError, OutOfMemoryError
        No such detector; no such pack, or a damaged one; no CUDA; no onnxruntime; not enough
        memory for it.

    Warns
    -----
    CrmendWarning
        The errors are far off the noise, the image has filled areas or stars with flat tops
        that nobody named, or `detector` is given and the pack is for any.
    """
    mended = own_copy(image)
    mask = check_mask(cr_mask, mended.shape, "cr_mask")
    if mask is None:
        raise InvalidInputError("cr_mask is None; expected a (ny, nx) bool array, True = CR")
    bad = check_mask(invalid, mended.shape, "invalid")
    full = check_mask(saturated, mended.shape, "saturated")
    size = check_count(batch, "batch")
    limited = check_flag(additive, "additive")
    check_callable(progress, "progress")
    errors = own_error(error, image, mended, bad, full)
    known = None if sources is None else as_catalog(sources)
    warn_if_unused(detector, model)
    loaded = choose_model(detector, model, "inpaint", device, threads)
    all_bad = ~np.isfinite(mended) if bad is None else ~np.isfinite(mended) | bad
    weightless = unweighted(image, errors, invalid)
    all_bad = all_bad if weightless is None else all_bad | weightless
    usable = judge_pixels(mended, all_bad, full, mask)
    all_bad, excluded = usable.invalid, usable.excluded
    for kept in (bad, full):
        mask = mask if kept is None else mask & ~kept
    if mask.any() and (excluded | mask).all():
        raise InvalidInputError(
            f"image has {mask.size} pixel(s), all of them masked, bad, saturated or NaN; "
            "expected some good ones to mend the others from"
        )
    # Once mended, a NaN of the mask is a pixel like any other of the mask.
    all_bad[mask] = excluded[mask] = False
    parts = find_parts(mended, excluded | mask)
    even = parts.lowered(mended)
    if errors is None:
        errors = flat_error(even, excluded | mask)
    done = inpaint_into(
        even, errors, mask, all_bad, excluded, loaded,
        sources=known, batch=size, additive=limited, progress=progress,
    )  # fmt: skip
    parts.put_back(even, mended, mask)
    return Inpainted(mended, errors, done.method, done.sources)


def inpaint_into(
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    model: Model,
    *,
    sources: SourceCatalog | None = None,
    batch: int = BATCH,
    reach: float | None = REACH,
    psf: NDArray[np.float64] | None = None,
    hidden: bool | None = None,
    additive: bool = True,
    detected: bool = False,
    progress: Progress | None = None,
) -> Mending:
    """Mend cosmic rays in place: what `inpaint` does after its checks.

    Parameters
    ----------
    image, error : (ny, nx) float32 arrays
        Native and C-contiguous; written at the pixels of the mask only.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    invalid : (ny, nx) bool array
        True = no measurement, before and after; holds every pixel that is NaN or infinite,
        but for those of the mask that are to pass for measured once they are mended.
    excluded : (ny, nx) bool array
        The invalid and the saturated pixels.  It may be the same array as `invalid`.
    model : Model
        An ``inpaint`` graph.
    sources, batch, additive, progress
        As in `inpaint`.
    reach : float or None
        Leave CR pixels farther than this from a source's footprint to the median [px];
        None = none of those in its cutout (see `crmend.cutouts.plan_cutouts`).
    psf : (k, 4) float64 array or None
        See `crmend._psf.measure_psf`; None = measure it; with k = 0 it is not known.
    hidden : bool or None
        Look for stars whose core is lost; None = where `sources` is None.
    detected : bool
        The mask was found in this very image: nothing is mended to more than it held.

    Returns
    -------
    Mending
    """
    seconds: dict[str, float] = {}
    with stopwatch(seconds, "median"):
        scale = measure_least_scale(image, excluded | cr_mask)
        flat = np.flatnonzero(cr_mask)
        observed = image.flat[flat]
        observed[invalid.flat[flat] | ~np.isfinite(observed)] = np.nan
        spread = np.empty(flat.size, dtype=np.float32)
        for plane, level in ((image, scale.background), (error, scale.noise)):
            median_fill(plane, cr_mask, excluded, MIN_GOOD, level, spread)
        neighbours = error.flat[flat]
        fill_holes(image, cr_mask, scale)
    with stopwatch(seconds, "sources"):
        background = measure_background(image, invalid).surface()
        sources, psf, plan = find_targets(
            image, cr_mask, invalid, excluded, scale, background,
            sources=sources, reach=reach, psf=psf, hidden=hidden,
            observed=observed if additive else None,
        )  # fmt: skip
    with stopwatch(seconds, "network"):
        values, sigma = run_network(
            image, cr_mask, invalid, excluded, scale.noise, background, psf, plan, model,
            batch, progress,
        )  # fmt: skip
    with stopwatch(seconds, "median"):
        lines, line_error = fill_lines(
            image, error, cr_mask, excluded, scale.noise, model.threads
        )
    on_line = np.isfinite(lines)
    done = np.isfinite(values) & ~np.isinf(sigma) & ~on_line[plan.order]
    pixels, order, values = plan.pixels[done], plan.order[done], values[done]
    changed = np.abs(values - image.flat[pixels])
    with stopwatch(seconds, "median"):
        # Sources and cutouts want the sharp first guess, what is left is sky.
        median_fill(image, cr_mask, excluded, SKY_GOOD, scale.background, spread)
        fill_sky(image, cr_mask, invalid, excluded, scale, spread, model.threads)
    spread[order] = np.nan
    raised = raised_error(neighbours, spread, scale.noise)
    # For graphs that give no uncertainty, whose sigma is NaN.
    guess = np.hypot(raised[order], NETWORK_FRACTION * changed)
    own = np.maximum(sigma[done], neighbours[order])
    own = np.where(np.isfinite(own), own, guess)
    image.flat[flat[on_line]] = lines[on_line]
    raised[on_line] = np.maximum(line_error, neighbours)[on_line]
    if additive:
        # However uncertain a fill is, no sky lies below this.
        lowest = background.of(*np.divmod(pixels, image.shape[1])) - BELOW * scale.noise
        lowest = np.fmin(np.fmin(lowest, values), observed[order])
        values, own = limit_by_observed(
            values, own, observed[order], raised[order], scale.noise, detected
        )
        values = np.maximum(values, lowest)
    image.flat[pixels], raised[order] = values, own
    error.flat[flat] = raised
    method = cr_mask.astype(np.uint8)
    method.flat[pixels] = NETWORK
    return Mending(method, sources, len(plan), seconds)


def raised_error(
    neighbours: NDArray[np.float32], spread: NDArray[np.float32], noise: float
) -> NDArray[np.float32]:
    """Return the uncertainty of pixels that the median mended.

    It is the 1-sigma difference from what would have been measured there without the CR:
    the noise that this pixel would have had (the median error of its good neighbours), the
    error of a median of such pixels, and the structure of the image, which is what their
    spread has beyond noise, in quadrature.

    Parameters
    ----------
    neighbours : (n,) float32 array
        Median error of the good neighbours.
    spread : (n,) float32 array
        Robust 1-sigma spread of the values that the median is of, on the sky of what they hold
        above the background; NaN = not known.
    noise : float
        Background noise of the image, > 0.

    Returns
    -------
    (n,) float32 array
        In the unit of the arguments, above `neighbours`.
    """
    unit = np.maximum(neighbours, noise).astype(np.float64)  # squares of 1e-23 underflow
    known = np.fmax(spread, np.float32(0.0)).astype(np.float64)
    structure = np.sqrt(np.maximum(known**2 - (STRUCTURE_ABOVE * unit) ** 2, 0.0))
    fill = np.hypot(MEDIAN_ERROR * unit, STRUCTURE_ERROR * structure)
    return np.hypot(neighbours, fill).astype(np.float32)


def flat_error(image: NDArray[np.float32], unusable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an error plane for an image without one: its background noise everywhere."""
    return np.full(image.shape, measure_least_scale(image, unusable).noise, dtype=np.float32)


@contextmanager
def stopwatch(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of a block to ``seconds[stage]``."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
