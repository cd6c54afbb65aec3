"""Flag the cosmic rays of an exposure and mend nothing: what ``crmend detect`` does."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from crmend._checks import warn_if_cleaned, warn_if_no_flags
from crmend._events import count_events
from crmend._implied import judge_exposure
from crmend._limits import Limits, choose_limits, name_second
from crmend._memory import plan_work
from crmend._provenance import Provenance
from crmend._star_cores import StarCores, check_star_cores
from crmend.detect import Detection, choose_views, detect_into, parts_of, wants_star_cores
from crmend.exposure import Exposure
from crmend.models import Model, choose_model
from crmend.pipeline import CleanOptions, cr_rate, options_for


@dataclass(frozen=True, eq=False)
class Flagged:
    """The flag plane of an exposure with its cosmic rays, ready for the writer.

    Attributes
    ----------
    flag : (ny, nx) int32 array
        The exposure's own array, changed, or a new one.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    cr_probability : (ny, nx) float32 array
        0 to 1.
    provenance : Provenance
        Without an inpainting model.
    """

    flag: NDArray[np.int32]
    cr_mask: NDArray[np.bool_]
    cr_probability: NDArray[np.float32]
    provenance: Provenance
    image: None = None
    error: None = None


def flag_in_place(exposure: Exposure, options: CleanOptions) -> Flagged:
    """Find cosmic rays and set their bit in the exposure's flag plane.

    Raises
    ------
    CrmendError
        As `crmend.detect`; the exposure is then unchanged.

    Warns
    -----
    CrmendWarning
        As `crmend.clean`.
    """
    start = time.perf_counter()
    warn_if_cleaned(exposure)
    warn_if_no_flags(exposure)
    chosen = options_for(exposure, options)
    model = choose_model(
        chosen.detector, chosen.model, "detect", chosen.device, chosen.threads, chosen.quality
    )
    limits = choose_limits(
        model, chosen.threshold, chosen.seed_threshold, chosen.target_precision
    )
    views = choose_views(model, chosen.views)
    judges = wants_star_cores(model, chosen.star_cores)
    sizes = plan_work(exposure.image.shape, chosen.memory, model)
    usable = judge_exposure(exposure)
    image = parts_of(exposure.image, usable.excluded, model).lowered(exposure.image)
    found = detect_into(
        image,
        usable.invalid,
        usable.excluded,
        model,
        limits=limits,
        views=views,
        electrons_per_unit=exposure.electrons_per_unit,
        tile=sizes.tile,
        progress=None if chosen.progress is None else partial(chosen.progress, "detect"),
    )
    cores = None
    if judges:
        cores = check_star_cores(
            image,
            found.cr_mask,
            usable.invalid,
            usable.excluded,
            electrons_per_unit=exposure.electrons_per_unit,
            threads=model.threads,
        )
    flag = exposure.flag
    if flag is None:
        flag = np.zeros(exposure.image.shape, dtype=np.int32)
    bit = np.int32(exposure.instrument.cr_bit)
    np.bitwise_or(flag, bit, out=flag, where=found.cr_mask)
    seconds = time.perf_counter() - start
    provenance = replace(
        _describe(exposure, found, cores, model, limits, views, seconds),
        saturation_found=usable.saturation,
    )
    return Flagged(flag, found.cr_mask, found.cr_probability, provenance)


def _describe(
    exposure: Exposure,
    found: Detection,
    cores: StarCores | None,
    model: Model,
    limits: Limits,
    views: int,
    seconds: float,
) -> Provenance:
    """Return the figures of the detection."""
    pixels = int(np.count_nonzero(found.cr_mask))
    events = int(count_events(found.cr_mask, np.empty(pixels, dtype=np.int32)))
    second = name_second(model, limits)
    return Provenance(
        version=version("crmend"),
        detect_model=model.name,
        detect_sha256=model.graph.sha256,
        inpaint_model=None,
        inpaint_sha256=None,
        threshold=limits.threshold,
        seed_threshold=limits.seed_threshold,
        views=views,
        provider=model.provider,
        cr_pixels=pixels,
        cr_events=events,
        cr_rate=cr_rate(
            events,
            found.cr_mask.size,
            exposure.instrument.pixel_size_um,
            exposure.exposure_time,
        ),
        star_pixels_added=None if cores is None else cores.added,
        star_pixels_freed=None if cores is None else cores.freed,
        rim_pixels_added=None if cores is None else cores.rims,
        sources_touched=None,
        pixels_network=None,
        pixels_median=None,
        seconds=seconds,
        second_model=second["second_model"],
        second_sha256=second["second_sha256"],
    )
