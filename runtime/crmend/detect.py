"""Cosmic rays found: image → cr_probability → cr_mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crmend import _deepcr_input
from crmend._amplifiers import Parts, find_parts
from crmend._arrays import own_error, unweighted
from crmend._deepcr_input import LinearScale
from crmend._implied import judge_pixels
from crmend._inputs import (
    check_callable,
    check_count,
    check_flag,
    check_image,
    check_mask,
    check_positive,
    check_views,
)
from crmend._limits import Limits, choose_limits, second_model
from crmend._normalise import Scale, measure_scale
from crmend._packs import warn_if_unused
from crmend._pixel_checks import warn_of_digits, warn_of_mosaic, warn_of_pixels
from crmend._probability import fill_probability
from crmend._second_opinion import find_with_second
from crmend._star_cores import check_star_cores
from crmend._tiling import Progress, make_grid
from crmend._views import in_views
from crmend.errors import InvalidInputError
from crmend.models import Model, choose_model

CPU_TILE = 256
"""Side of a tile on the CPU [px]; memory grows with its square."""

GPU_TILE = 1024
"""Side of a tile on a GPU [px]."""

TILE_PER_HALO = 32
"""A tile is at least so many halos wide: then what overlaps costs an eighth more, at most."""


@dataclass(frozen=True, eq=False)
class Detection:
    """Cosmic rays of one image.

    Attributes
    ----------
    cr_mask : (ny, nx) bool array
        True = cosmic ray.  Never at an invalid or a saturated pixel.
    cr_probability : (ny, nx) float32 array
        0 … 1, the network's; 0 at invalid and saturated pixels.
    """

    cr_mask: NDArray[np.bool_]
    cr_probability: NDArray[np.float32]

    def __repr__(self) -> str:
        pixels, shape = int(np.count_nonzero(self.cr_mask)), np.shape(self.cr_mask)
        share = 100.0 * pixels / max(np.size(self.cr_mask), 1)
        return f"<Detection shape {shape}, {pixels:,} cosmic-ray pixels ({share:.2f} %)>"


def detect(
    image: ArrayLike,
    *,
    detector: int | str | None = None,
    model: str | Model | None = None,
    invalid: ArrayLike | None = None,
    saturated: ArrayLike | None = None,
    threshold: float | None = None,
    seed_threshold: float | None = None,
    target_precision: float | None = None,
    quality: str | None = None,
    views: int | None = None,
    star_cores: bool | None = None,
    electrons_per_unit: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Detection:
    """Find the cosmic rays of a single exposure.

    Parameters
    ----------
    image : (ny, nx) array-like
        In any linear unit, of any real dtype and byte order; not changed.  NaN and
        infinite pixels count as invalid, and the masked ones of a numpy masked array or a
        CCDData of astropy; of a CCDData without a mask also those of infinite uncertainty.
    detector : int, str or None
        A CSST detector such as 8, ``"8"`` or ``"08"``.
    model : str, Model or None
        A model pack, such as ``"generic"`` for any other instrument, or
        ``"pack/detector"``.  One of `detector` and `model` is needed.
    invalid : (ny, nx) array-like of bool, or None
        True = bad pixel: stands out of everything, and never becomes a cosmic ray.  So do
        areas filled with one value, named or not.
    saturated : (ny, nx) array-like of bool, or None
        True = saturated: seen by the network, but never becomes a cosmic ray.  None = the
        image's maximum, if stars have flat tops there.
    threshold : float or None
        Smallest cr_probability of a cosmic-ray pixel; None = the model card's.
    seed_threshold : float or None
        Smallest cr_probability of the best pixel of a group of them, corners included: groups
        without one are dropped.  None = the model card's, but where `threshold` or
        `target_precision` is given every group stays.  Where none of the three is given and
        the card names a second network, both decide about the groups of which one is not sure.
    target_precision : float or None
        Instead of `threshold`: the share of flagged pixels that shall hold cosmic rays, 0…1;
        the threshold comes from the curve on the model card, measured on simulated frames.
    quality : str or None
        ``reference`` or ``fast``; None = the card's default.
    views : int or None
        How often the network sees the image: 1, 2 (also turned by 180°), 4 (by quarters) or 8
        (mirrored, too); the mean of the log-odds counts.  More are better and take as many
        times as long; None = the card's.
    star_cores : bool or None
        Judge the cores of bright stars by the image's own PSF, where it has stars enough to
        tell it: pixels far above the fit to the rest of a star are cosmic rays whatever the
        network says, flagged ones that agree with it are none, nor are parts of lines along
        rows and columns.  Pixels beside flagged ones that hold charge of theirs are, too, where
        the image's masks leave such rims.  None = yes, but not with networks of deepCR (packs
        ``deepcr/...``).
    electrons_per_unit : float or None
        Multiply the image by this to have electrons: for the photon noise of stars, and for
        networks of deepCR, which depend on the unit.  None = not known; deepCR's take the image
        to be in electrons.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    threads : int or None
        CPU threads, at most as many as this process may use CPUs; None = so many.
    tile : int or None
        Side of a tile [px]; None = 256 on the CPU, 1024 on a GPU, or 32 of the network's
        halos where that is more.  It changes memory and speed, not the result.
    progress : callable or None
        Called with (tiles done, tiles in all).

    Returns
    -------
    Detection
        New arrays.

    Raises
    ------
    InvalidInputError
        An argument has the wrong shape, dtype or range, or no pixel is valid.
    UnknownDetectorError, ModelError, DeviceError, MissingRuntimeError, OutOfMemoryError
        No such detector; no such pack, or a damaged one; no CUDA; no onnxruntime; not enough
        memory for it.

    Warns
    -----
    CrmendWarning
        More than half of the pixels are excluded, many share one value that noise does not
        explain, neighbours alternate, the noise is below one digit, the uncertainty of a
        CCDData is far off it, the image has filled areas or stars with flat tops that nobody
        named, or `detector` is given and the pack is for any.
    """
    pixels = check_image(image)
    bad = check_mask(invalid, pixels.shape, "invalid")
    full = check_mask(saturated, pixels.shape, "saturated")
    warn_if_unused(detector, model)
    loaded = choose_model(detector, model, "detect", device, threads, quality)
    limits = choose_limits(loaded, threshold, seed_threshold, target_precision)
    seen = choose_views(loaded, views)
    factor = electrons_per_unit
    if factor is not None:
        factor = check_positive(factor, "electrons_per_unit")
    judges = wants_star_cores(loaded, star_cores)
    all_bad = np.isfinite(pixels)
    np.logical_not(all_bad, out=all_bad)
    errors = own_error(None, image, pixels, bad, full)
    for more in (bad, unweighted(image, errors, invalid)):
        if more is not None:
            all_bad |= more
    usable = judge_pixels(pixels, all_bad, full)
    pixels = parts_of(pixels, usable.excluded, loaded).lowered(pixels)
    found = detect_into(
        pixels, usable.invalid, usable.excluded, loaded,
        limits=limits, views=seen, electrons_per_unit=1.0 if factor is None else factor,
        tile=tile, progress=progress,
    )  # fmt: skip
    if judges:
        check_star_cores(
            pixels.copy(), found.cr_mask, usable.invalid, usable.excluded,
            electrons_per_unit=factor, threads=loaded.threads,
        )  # fmt: skip
    return found


def wants_star_cores(model: Model, star_cores: bool | None) -> bool:
    """Return whether the cores of stars are judged, by the wish or by the model.

    Parameters
    ----------
    model : Model
        A detection graph.
    star_cores : bool or None
        As in `detect`.

    Raises
    ------
    InvalidInputError
        `star_cores` is neither.
    """
    if star_cores is None:
        return model.graph.normalisation.name != _deepcr_input.NAME
    return check_flag(star_cores, "star_cores")


def parts_of(image: NDArray[np.float32], excluded: NDArray[np.bool_], model: Model) -> Parts:
    """Return the parts of an image that are lowered before a network sees it.

    Those of deepCR see what deepCR shows them.
    """
    if model.graph.normalisation.name == _deepcr_input.NAME:
        ny, nx = image.shape
        return Parts(np.array([0, ny]), np.array([0, nx]), np.zeros((1, 1)))
    return find_parts(image, excluded)


def choose_views(model: Model, views: int | None) -> int:
    """Return how often the network sees the image, by the wish or by the card.

    Parameters
    ----------
    model : Model
        A detection graph.
    views : int or None
        As in `detect`.

    Raises
    ------
    InvalidInputError
        `views` is none of `crmend._views.VIEWS`.
    """
    return model.graph.views if views is None else check_views(views)


def detect_into(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    model: Model,
    *,
    limits: Limits | None = None,
    views: int | None = None,
    electrons_per_unit: float | None = 1.0,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Detection:
    """Find cosmic rays without a copy of the frame: what `detect` does after its checks.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Native and C-contiguous; not changed.
    invalid : (ny, nx) bool array
        True = filled from its neighbours before the network sees it.  Must hold every
        pixel that is NaN or infinite.
    excluded : (ny, nx) bool array
        True = never a cosmic ray, and no part of the noise measurement: the invalid and
        the saturated pixels.  It may be the same array as `invalid`.
    model : Model
        A ``detect`` graph.
    electrons_per_unit : float or None
        As in `detect`; None = unknown.
    limits : Limits or None
        None = the card's.
    views, tile, progress
        As in `detect`.

    Returns
    -------
    Detection

    Raises
    ------
    InvalidInputError
        All pixels are excluded, the model is not for detection, a number is out of range, or
        the network wants electrons and `electrons_per_unit` is None.
    ModelError, OutOfMemoryError
        onnxruntime refuses the image, or runs out of memory.

    Warns
    -----
    CrmendWarning
        More than half of the pixels are excluded, many share one value that noise does not
        explain, neighbours alternate, or the noise is below one digit.
    """
    if excluded.all():
        raise InvalidInputError(
            f"no pixel of the image is valid: all {image.size} are NaN, infinite, bad, "
            "saturated or of infinite error (weight 0). Check the file, its flag plane, errors "
            "and saturation level, or leave a plane out (--plane error=none, weight=none)."
        )
    check_callable(progress, "progress")
    warn_of_pixels(image, excluded)
    warn_of_mosaic(image, excluded)
    scale = _measure(image, invalid, excluded, model, electrons_per_unit)
    if isinstance(scale, Scale):
        warn_of_digits(scale)
    graph = model.graph
    limits = choose_limits(model) if limits is None else limits
    side = check_count(default_tile(model) if tile is None else tile, "tile")
    grid = make_grid((image.shape[0], image.shape[1]), side, graph.halo, graph.stride)
    cr_probability = np.empty(image.shape, dtype=np.float32)
    shown = fill_probability(
        image,
        invalid,
        scale,
        grid,
        in_views(lambda x, last: model.run(x, last=last)[0], choose_views(model, views)),
        cr_probability,
        progress,
    )
    cr_probability[excluded] = 0.0
    second, opinion = second_model(model, limits), graph.second_opinion
    if second is None or opinion is None:
        return Detection(limits.mask(cr_probability), cr_probability)
    cr_mask = find_with_second(cr_probability, limits.threshold, shown, second, opinion)
    return Detection(cr_mask, cr_probability)


def _measure(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    model: Model,
    electrons_per_unit: float | None,
) -> Scale | LinearScale:
    """Measure what the network's preprocessing needs of a frame."""
    card = model.graph.normalisation
    if card.name == _deepcr_input.NAME:
        return _deepcr_input.measure(image, invalid, card.parameters, electrons_per_unit)
    return measure_scale(image, excluded)


def default_tile(model: Model) -> int:
    """Return the side of a tile that a graph works on unless told otherwise [px]."""
    least = CPU_TILE if model.provider == "CPUExecutionProvider" else GPU_TILE
    return max(least, TILE_PER_HALO * model.graph.halo)
