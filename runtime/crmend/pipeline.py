"""The whole story: an exposure in, cosmic rays found and mended, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from crmend._arrays import own_copy, own_error, unweighted
from crmend._checks import (
    check_unused,
    own_planes,
    warn_if_cleaned,
    warn_if_elsewhere,
    warn_if_no_flags,
)
from crmend._events import count_events
from crmend._implied import Usable, judge_exposure, judge_pixels
from crmend._inputs import check_callable, check_mask
from crmend._limits import Limits, choose_limits, name_second
from crmend._memory import plan_work
from crmend._packs import warn_if_unused
from crmend._results import CleanResult, Stats
from crmend._star_cores import StarCores, check_star_cores
from crmend._tiling import Progress
from crmend.detect import choose_views, detect_into, parts_of, wants_star_cores
from crmend.exposure import Exposure
from crmend.flags import CR_BIT
from crmend.inpaint import NETWORK, Mending, flat_error, inpaint_into, stopwatch
from crmend.models import Model, choose_model, split_name
from crmend.sources import CatalogLike, as_catalog

StageProgress = Callable[[str, int, int], None]
"""Called with the stage (``detect`` or ``network``), steps done and steps in all."""

_UM2_PER_CM2 = 1e8


@dataclass(frozen=True)
class CleanOptions:
    """What may be asked of `clean` besides the image: its keyword arguments.

    `probability` is False where nobody wants cr_probability: after detection its memory is
    free then, and the result has NaN instead.
    """

    detector: int | str | None = None
    model: str | None = None
    threshold: float | None = None
    seed_threshold: float | None = None
    target_precision: float | None = None
    quality: str | None = None
    views: int | None = None
    star_cores: bool | None = None
    catalog: CatalogLike | None = None
    device: str = "auto"
    threads: int | None = None
    memory: int | str | None = None
    progress: StageProgress | None = None
    probability: bool = True


@dataclass(frozen=True, eq=False)
class _Frame:
    """The planes that the pipeline owns and writes to, and what it knows about them."""

    image: NDArray[np.float32]
    error: NDArray[np.float32] | None
    flag: NDArray[np.int32] | None
    header: fits.Header | None = None
    cr_bit: int = CR_BIT
    pixel_size_um: float | None = None
    exposure_time: float | None = None
    electrons_per_unit: float | None = None
    from_file: bool = False


def clean(
    exposure: Exposure | ArrayLike,
    *,
    detector: int | str | None = None,
    model: str | None = None,
    invalid: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
    error: ArrayLike | None = None,
    threshold: float | None = None,
    seed_threshold: float | None = None,
    target_precision: float | None = None,
    quality: str | None = None,
    views: int | None = None,
    star_cores: bool | None = None,
    catalog: CatalogLike | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory: int | str | None = None,
    progress: StageProgress | None = None,
) -> CleanResult:
    """Find and mend the cosmic rays of a single exposure.

    Parameters
    ----------
    exposure : Exposure or (ny, nx) array-like
        From `crmend.read_exposure`, or an image in any linear unit (for deepCR's networks: in
        electrons), of any real dtype; not changed.  NaN and infinite pixels count as invalid,
        and stay; so do the masked pixels of a numpy masked array or a CCDData of astropy,
        which become NaN.
    detector : int, str or None
        A detector of the model pack, such as 8; None = the exposure's.  An array needs
        `detector` or `model`.
    model : str or None
        A model pack, such as ``"generic"``, or ``"pack/detector"``; None = the exposure's, for
        an array that of the CSST detectors.
    invalid : (ny, nx) array-like of bool, or None
        Of an array, an exposure has its own: True = bad pixel, which never becomes a cosmic
        ray and keeps its value.  So do areas filled with one value, named or not.
    saturated : (ny, nx) array-like of bool, or None
        Likewise: True = saturated: seen by the networks, but never becomes a cosmic ray.  None
        = the image's maximum, if stars have flat tops there (see `Stats.saturation_found`).
    error : (ny, nx) array-like or None
        Likewise: 1-sigma, in the image's unit.  None = the uncertainty of a CCDData, else the
        background noise measured on the image, the same everywhere.  Where it is not finite
        the pixel is invalid, unless `invalid` or the mask of a CCDData says which ones are.
    threshold : float or None
        Smallest cr_probability of a cosmic-ray pixel; None = the model card's.
    seed_threshold : float or None
        Smallest cr_probability of the best pixel of a group of them, see `crmend.detect`.
    target_precision : float or None
        Instead of a threshold, see `crmend.detect`.
    quality : str or None
        Of detection: ``reference`` or ``fast``; None = the model card's default.
    views : int or None
        How often the detection network sees the image, see `crmend.detect`.
    star_cores : bool or None
        Judge the cores of bright stars by the image's own PSF, see `crmend.detect`.
    catalog : SourceCatalog, astropy Table, structured array, str, Path or None
        Stars and galaxies, or a FITS table of them (see `crmend.sources.read_catalog`);
        None = find them.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads of the networks and of the fits to sources, at most as many as this
        process may use CPUs; None = so many.  All else runs in one thread, but for what numpy
        starts of its own (environment variable ``OPENBLAS_NUM_THREADS``).
    memory : int, str or None
        Bytes, or text such as ``"2GB"``, that the whole process should stay below: tiles
        and batches shrink accordingly, down to a smallest size; the result is the same.
    progress : callable or None
        Called with (stage, steps done, steps in all); the stage is ``detect`` or ``network``.

    Returns
    -------
    CleanResult
        New arrays.

    Raises
    ------
    InvalidInputError
        An argument has the wrong shape, dtype or range, or no pixel is valid.
    MissingFileError, FileFormatError
        The catalogue cannot be read.
    UnknownDetectorError, ModelError, DeviceError, MissingRuntimeError, OutOfMemoryError
        No such detector; no such pack, or a damaged one; no CUDA; no onnxruntime; not enough
        memory for it.

    Warns
    -----
    CrmendWarning
        The header says that the exposure has been cleaned before, its file has no flag plane,
        most pixels are excluded, many share one value that noise does not explain, neighbours
        alternate, the noise is below one digit, `error` is far off the noise, no source of the
        catalogue is on the image, this has filled areas or stars with flat tops that nobody
        named, or `detector` is given and the pack is for any.
    """
    options = CleanOptions(
        detector, model, threshold, seed_threshold, target_precision, quality, views,
        star_cores, catalog, device, threads, memory, progress,
    )  # fmt: skip
    own_pack = exposure.instrument.model_pack if isinstance(exposure, Exposure) else None
    warn_if_unused(detector, own_pack if model is None else model)
    if isinstance(exposure, Exposure):
        check_unused(invalid=invalid, saturated=saturated, error=error)
        return clean_in_place(own_planes(exposure), options)
    image = own_copy(exposure)
    bad = check_mask(invalid, image.shape, "invalid")
    full = check_mask(saturated, image.shape, "saturated")
    errors = own_error(error, exposure, image, bad, full)
    all_bad = ~np.isfinite(image)
    for more in (bad, unweighted(exposure, errors, invalid)):
        if more is not None:
            all_bad |= more
    usable = judge_pixels(image, all_bad, full)
    return _clean(_Frame(image, errors, None), usable, options)


def clean_in_place(exposure: Exposure, options: CleanOptions | None = None) -> CleanResult:
    """Find and mend cosmic rays without a second copy of the frame.

    The result's image, error and flag are the exposure's own arrays, changed; planes that
    the exposure lacks are new.

    Parameters
    ----------
    exposure : Exposure
        Its arrays must be writeable, native and C-contiguous.
    options : CleanOptions or None
        None = the defaults.

    Returns
    -------
    CleanResult

    Raises
    ------
    CrmendError
        As `clean`; the exposure is then unchanged, or partly changed if a network fails.
    """
    options = CleanOptions() if options is None else options
    warn_if_cleaned(exposure)
    warn_if_no_flags(exposure)
    usable = judge_exposure(exposure)
    profile = exposure.instrument
    frame = _Frame(
        image=exposure.image,
        error=exposure.error,
        flag=exposure.flag,
        header=exposure.header,
        cr_bit=profile.cr_bit,
        pixel_size_um=profile.pixel_size_um,
        exposure_time=exposure.exposure_time,
        electrons_per_unit=exposure.electrons_per_unit,
        from_file=True,
    )
    return _clean(frame, usable, options_for(exposure, options))


def options_for(exposure: Exposure, options: CleanOptions) -> CleanOptions:
    """Fill in the model pack and the detector that an exposure asks for."""
    model = exposure.instrument.model_pack if options.model is None else options.model
    detector = options.detector
    if detector is None and split_name(model)[1] is None:
        detector = exposure.detector
    return replace(options, model=model, detector=detector)


def _clean(frame: _Frame, usable: Usable, options: CleanOptions) -> CleanResult:
    """Clean a frame in place: detect, flag, mend, count."""
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    check_callable(options.progress, "progress")
    finder, inpainter = _load_models(options)
    sizes = plan_work(frame.image.shape, options.memory, finder)
    limits = choose_limits(
        finder, options.threshold, options.seed_threshold, options.target_precision
    )
    views = choose_views(finder, options.views)
    judges = wants_star_cores(finder, options.star_cores)
    catalog = None if options.catalog is None else as_catalog(options.catalog, frame.header)
    if catalog is not None:
        warn_if_elsewhere(catalog, frame.image.shape)
    # deepCR's networks take an array to be in electrons.
    factor = frame.electrons_per_unit if frame.from_file else 1.0
    invalid, excluded = usable.invalid, usable.excluded
    with stopwatch(seconds, "detect"):
        parts = parts_of(frame.image, excluded, finder)
        image = parts.lowered(frame.image)
        found = detect_into(
            image, invalid, excluded, finder,
            limits=limits, views=views, tile=sizes.tile, electrons_per_unit=factor,
            progress=_stage(options.progress, "detect"),
        )  # fmt: skip
    cr_mask, cr_probability = found.cr_mask, found.cr_probability
    if not options.probability:
        cr_probability = np.broadcast_to(np.float32(np.nan), cr_mask.shape)
    del found  # a plane less, where nobody wants it
    cores = None
    if judges:
        with stopwatch(seconds, "sources"):
            cores = check_star_cores(
                image, cr_mask, invalid, excluded,
                sources=catalog, electrons_per_unit=frame.electrons_per_unit,
                threads=finder.threads,
            )  # fmt: skip
    flag = frame.flag if frame.flag is not None else np.zeros(invalid.shape, np.int32)
    np.bitwise_or(flag, np.int32(frame.cr_bit), out=flag, where=cr_mask)
    error = frame.error
    if error is None:
        error = flat_error(image, excluded | cr_mask)
    mended = inpaint_into(
        image, error, cr_mask, invalid, excluded, inpainter,
        sources=catalog if cores is None else cores.sources,
        psf=None if cores is None else cores.psf, hidden=catalog is None, detected=True,
        batch=sizes.batch, progress=_stage(options.progress, "network"),
    )  # fmt: skip
    parts.put_back(image, frame.image, cr_mask)
    for stage, spent in mended.seconds.items():
        seconds[stage] = seconds.get(stage, 0.0) + spent
    stats = Stats(
        **_count(frame, cr_mask, cores, mended),
        **_describe(finder, inpainter, limits, views),
        seconds=seconds | {"total": time.perf_counter() - start},
        saturation_found=usable.saturation,
    )
    return CleanResult(
        frame.image, error, cr_mask, cr_probability, flag,
        mended.sources, mended.method, stats,
    )  # fmt: skip


def _load_models(options: CleanOptions) -> tuple[Model, Model]:
    """Load both graphs before any work is done."""
    finder, inpainter = (
        choose_model(
            options.detector, options.model, kind, options.device, options.threads,
            options.quality,
        )
        for kind in ("detect", "inpaint")
    )  # fmt: skip
    return finder, inpainter


def _stage(progress: StageProgress | None, stage: str) -> Progress | None:
    return None if progress is None else partial(progress, stage)


def _count(
    frame: _Frame, cr_mask: NDArray[np.bool_], cores: StarCores | None, mended: Mending
) -> dict[str, Any]:
    """Return the figures of `Stats` that come from the pixels."""
    pixels = int(np.count_nonzero(cr_mask))
    network = int(np.count_nonzero(mended.method == NETWORK))
    events = int(count_events(cr_mask, np.empty(pixels, dtype=np.int32)))
    return {
        "cr_pixels": pixels,
        "cr_events": events,
        "cr_rate": cr_rate(events, cr_mask.size, frame.pixel_size_um, frame.exposure_time),
        "star_pixels_added": None if cores is None else cores.added,
        "star_pixels_freed": None if cores is None else cores.freed,
        "rim_pixels_added": None if cores is None else cores.rims,
        "sources_found": len(mended.sources),
        "sources_touched": mended.sources_touched,
        "pixels_network": network,
        "pixels_median": pixels - network,
    }


def cr_rate(
    events: int, pixels: int, pixel_size_um: float | None, exposure_time: float | None
) -> float | None:
    """Return events per cm² and second over a frame of so many pixels, if that is known."""
    if not pixel_size_um or not exposure_time:
        return None
    return events / (pixels * pixel_size_um**2 / _UM2_PER_CM2 * exposure_time)


def _describe(finder: Model, inpainter: Model, limits: Limits, views: int) -> dict[str, Any]:
    """Return what `Stats` says about the models."""
    return {
        "provider": finder.provider,
        "detect_model": finder.name,
        "detect_sha256": finder.graph.sha256,
        "inpaint_model": inpainter.name,
        "inpaint_sha256": inpainter.graph.sha256,
        "threshold": limits.threshold,
        "seed_threshold": limits.seed_threshold,
        "views": views,
        **name_second(finder, limits),
    }
