"""Cosmic rays from several exposures of one field, by rejecting what only one of them shows.

The third source of truth that the paper (section 2.1, with Chen et al. 2024) plans for orbit.
Each exposure is compared with a model of itself: the others, moved onto it and scaled to its
flux, their median (of two that disagree, the lower: no single cosmic ray survives), and that
convolved with the kernel and set on the background that fit this exposure best (a kernel of
free pixels, as Bramich 2008 does for image subtraction).  What stands out of the noise, and
does not do so at the same pixel in most exposures (a hot pixel), is a cosmic ray.

The noise is measured, not computed: where the model has steep gradients its errors (of the
kernel, of the shift) outweigh the photons', so the scatter of the residuals is taken in
classes of gradient over background noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend import _normalise
from crmend.errors import InvalidInputError

_EIGHT = np.ones((3, 3), dtype=bool)
_MAD = 1.4826
_CLASSES = 12
_FITTED = 40_000  # source pixels that decide a kernel, at most
_STEEP = 3.0  # two that disagree by more than this times their step are no star (simulated)
_KEPT = 0.3  # of the light: what a star is off by in a first fit and a cosmic ray is not (too)


@dataclass(frozen=True)
class MultiExposureSettings:
    """How exposures are compared; all assumed, but for what is said.

    Attributes
    ----------
    seed : float
        A cosmic ray has a pixel that stands out by so many sigma; the truths that came with
        the SAAO frames say that they miss what is fainter than about six.
    grow : float
        Pixels beside it belong to it above so many sigma.
    unsure : float
        Pixels above this that are in no cosmic ray, and those around one, are unsure.
    kernel : int
        Side of the kernel [px], odd, 3 or more; it has to hold the difference of two PSFs.
    largest_shift : int
        Exposures lie within so many pixels of the first [px].
    fixed : float
        What stands out in more than this share of the exposures, and in more than one, is part
        of the chip.
    model_error : float
        Error of the model relative to its light: 0.01 was chosen on the SAAO frames, whose
        false positives without it lie on bright stars.
    gain : float or None
        [e-/unit], for the photons' noise; None = the measured scatter alone.
    """

    seed: float = 6.0
    grow: float = 3.0
    unsure: float = 4.0
    kernel: int = 7
    largest_shift: int = 32
    fixed: float = 0.25
    model_error: float = 0.01
    gain: float | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One exposure against the others.

    Attributes
    ----------
    mask, unsure : (ny, nx) bool arrays
        True = cosmic ray; True = could be one, or a hot pixel, or has no counterpart.
    charge : (ny, nx) float32 array
        What the cosmic rays added, in the image's unit, 0 elsewhere.
    significance : (ny, nx) float32 array
        Residual over its noise.
    """

    mask: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    charge: NDArray[np.float32]
    significance: NDArray[np.float32]


def compare_exposures(
    images: Sequence[NDArray[np.float32]],
    invalid: Sequence[NDArray[np.bool_]] | None = None,
    settings: MultiExposureSettings | None = None,
) -> list[Comparison]:
    """Compare each exposure of a field with the others.

    Parameters
    ----------
    images : sequence of (ny, nx) float32 arrays
        Three or more of one field, chip and orientation, in any one linear unit; PSF, flux
        scale, background and position (by a few pixels) may differ.
    invalid : sequence of (ny, nx) bool arrays or None
        True = no measurement (bad, hot, saturated).
    settings : MultiExposureSettings or None

    Raises
    ------
    InvalidInputError
        Fewer than three exposures, shapes that differ or are smaller than the kernel, one
        without a usable pixel, or of one value alone, or one that is there twice.
    """
    settings = settings or MultiExposureSettings()
    bad = [~np.isfinite(image) for image in images]
    if invalid is not None:
        bad = [one | other for one, other in zip(bad, invalid, strict=True)]
    _check_exposures(images, bad, settings.kernel)
    flat, noise = _flattened(images, bad)
    shifts = _shifts(flat, settings.largest_shift)
    significances, residuals, untold = [], [], []
    for k in range(len(images)):
        residual, sigma, bad_here = _against_others(k, flat, noise, bad, shifts, settings)
        residuals.append(residual)
        significances.append(np.where(bad_here, 0.0, residual / sigma).astype(np.float32))
        untold.append(bad_here)
    standing = np.sum([s > settings.unsure for s in significances], axis=0)
    # One of three is more than a quarter, but what only one shows is no part of the chip.
    fixed = standing > max(1.0, settings.fixed * len(images))
    return [
        _decide(residual, significance, bad_here, fixed, settings)
        for residual, significance, bad_here in zip(
            residuals, significances, untold, strict=True
        )
    ]


def _check_exposures(
    images: Sequence[NDArray[np.float32]], bad: Sequence[NDArray[np.bool_]], least: int
) -> None:
    """Refuse exposures that cannot be compared, and say which of them is not like the first."""
    if len(images) < 3:
        raise InvalidInputError(
            f"got {len(images)} exposure(s); expected three or more of one field and shape"
        )
    for number, (image, one_bad) in enumerate(zip(images, bad, strict=True), 1):
        which = f"exposure {number} of {len(images)}"
        if image.shape != images[0].shape:
            raise InvalidInputError(
                f"{which} has shape {image.shape}, the first has {images[0].shape}; expected "
                "the same: cut them alike, or leave it out"
            )
        if min(image.shape) < least:
            raise InvalidInputError(
                f"{which} has shape {image.shape}; expected at least {least} px per side"
            )
        if one_bad.all():
            raise InvalidInputError(
                f"{which} has no usable pixel: all are NaN, bad or saturated; expected another "
                "saturation level, or the exposure left out"
            )
        usable = image[~one_bad]
        if usable.min() == usable.max():
            raise InvalidInputError(
                f"{which} holds the value {usable[0]:g} alone; expected an image of the sky: "
                "leave it out"
            )
        for earlier, other in enumerate(images[: number - 1], 1):
            if np.array_equal(image, other, equal_nan=True):
                raise InvalidInputError(
                    f"exposures {earlier} and {number} of {len(images)} hold the same values, "
                    "and each would hide the other's cosmic rays; expected different ones: "
                    "leave one out"
                )


def _flattened(
    images: Sequence[NDArray[np.float32]], bad: Sequence[NDArray[np.bool_]]
) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Return the images without their background, bad pixels 0, and the noise of each."""
    flat, noise = [], []
    for image, one_bad in zip(images, bad, strict=True):
        scale = _normalise.measure_scale(image.astype(np.float32), one_bad)
        flat.append(np.where(one_bad, 0.0, image - scale.background).astype(np.float32))
        noise.append(scale.noise)
    return flat, noise


def _shifts(flat: Sequence[NDArray[np.float32]], largest: int) -> list[tuple[float, float]]:
    """Return how far (dy, dx) the sky of each image lies from that of the first [px].

    From the peak of the cross-correlation, a parabola through it for the fraction.  Images
    are median-filtered and compressed first, or hot pixels would hold the peak at zero.
    """
    small = [_compressed(image) for image in flat]
    reference = np.conj(np.fft.rfft2(small[0]))
    shifts = []
    for image in small:
        power = np.fft.irfft2(np.fft.rfft2(image) * reference, s=image.shape)
        reach = min(largest, min(image.shape) // 2 - 2)
        span = np.arange(-reach - 1, reach + 2)
        power = power[np.ix_(span % image.shape[0], span % image.shape[1])]
        peak = np.unravel_index(np.argmax(power[1:-1, 1:-1]), (span.size - 2,) * 2)
        y, x = peak[0] + 1, peak[1] + 1
        dy = _vertex(power[y - 1 : y + 2, x])
        dx = _vertex(power[y, x - 1 : x + 2])
        shifts.append((float(span[y] + dy), float(span[x] + dx)))
    return shifts


def _compressed(image: NDArray[np.float32]) -> NDArray[np.float64]:
    smooth = ndimage.median_filter(image, 3)
    noise = _normalise.measure_scale(smooth, np.zeros(smooth.shape, bool)).noise
    compressed = np.arcsinh(smooth / (5.0 * noise)).astype(np.float64)
    return compressed - compressed.mean()


def _vertex(values: NDArray[np.float64]) -> float:
    """Return where between −½ and ½ the parabola through three values has its peak."""
    curvature = values[0] - 2.0 * values[1] + values[2]
    if not curvature < 0.0:
        return 0.0
    return float(np.clip(0.5 * (values[0] - values[2]) / curvature, -0.5, 0.5))


def _against_others(
    k: int,
    flat: Sequence[NDArray[np.float32]],
    noise: Sequence[float],
    bad: Sequence[NDArray[np.bool_]],
    shifts: Sequence[tuple[float, float]],
    settings: MultiExposureSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return the residual of exposure k against the others, its noise, and where it has none.

    It has none where it is bad, or all others are or do not reach, and around a cosmic ray of
    the only other one that does: the kernel makes a ring of it.
    """
    moved = []
    for j in range(len(flat)):
        if j == k:
            continue
        by = (shifts[k][0] - shifts[j][0], shifts[k][1] - shifts[j][1])
        hole = ndimage.shift(bad[j].astype(np.float32), by, order=1, mode="constant", cval=1.0)
        image = ndimage.shift(flat[j], by, order=3, mode="nearest")
        scale = _flux_ratio(flat[k], image, 5.0 * noise[k])
        moved.append(np.where(hole > 0.01, np.nan, scale * image).astype(np.float32))
    stack = np.stack(moved)
    reaching = np.isfinite(stack).sum(axis=0)
    empty = reaching == 0
    stack[:, empty] = 0.0
    reference = _typical(stack, noise[k])
    bad_here = bad[k] | empty
    model = _matched(flat[k], reference, bad_here, settings.kernel, noise[k])
    residual = np.where(bad_here, 0.0, flat[k] - model).astype(np.float32)
    sigma = _noise_of(residual, model, noise[k], bad_here, settings)
    hit = (reaching == 1) & (residual < -settings.seed * sigma)
    ring = ndimage.maximum_filter(hit, settings.kernel)
    return residual, sigma, bad_here | ring


def _typical(stack: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    """Return the median of images that may hold NaN; of two that disagree, the lower one.

    The median of two is their mean, in which half of any cosmic ray survives.  Two stars may
    differ by as much as they are steep: by their PSF, and by how they were moved.
    """
    median, lower = np.nanmedian(stack, axis=0), np.nanmin(stack, axis=0)
    steep = ndimage.maximum_filter(lower, 3) - ndimage.minimum_filter(lower, 3)
    two = np.isfinite(stack).sum(axis=0) == 2
    apart = 2.0 * (median - lower) > 5.0 * noise + _STEEP * steep
    return np.where(two & apart, lower, median).astype(np.float32)


def _flux_ratio(target: NDArray, image: NDArray, limit: float) -> float:
    """Return the robust flux ratio of two aligned images over their bright pixels."""
    bright = ndimage.uniform_filter(image, 5)
    wanted = bright > max(limit, float(np.percentile(bright, 90.0)))
    wide = ndimage.uniform_filter(target, 5)
    return float(np.median(wide[wanted] / bright[wanted])) if wanted.sum() > 20 else 1.0


def _matched(
    target: NDArray[np.float32],
    reference: NDArray[np.float32],
    bad: NDArray[np.bool_],
    size: int,
    noise: float,
) -> NDArray[np.float32]:
    """Return the reference convolved with the kernel, plus a sloping background, that fit.

    Least squares over all usable pixels, weighted with the noise and the model's photons,
    and again without what stands out by more than 5 sigma and a share of the light: the
    cosmic rays.  Cores of stars stay: a first fit that is off there would keep them out.
    """
    ny, nx = target.shape
    half = size // 2
    padded = np.pad(reference, half, mode="reflect")
    planes = [
        padded[half + dy : half + dy + ny, half + dx : half + dx + nx]
        for dy in range(-half, half + 1)
        for dx in range(-half, half + 1)
    ]
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    planes += [np.ones_like(y), y, x]
    weight = 1.0 / (noise**2 + 0.02**2 * reference.astype(np.float64) ** 2)
    # Sources decide the kernel: all of their pixels, and a few of the sky's.
    pixels = np.flatnonzero((reference > 5.0 * noise) & ~bad)
    pixels = pixels[:: 1 + pixels.size // _FITTED]
    sky = np.flatnonzero((reference <= 5.0 * noise) & ~bad)
    pixels = np.concatenate([pixels, sky[:: 1 + sky.size // (_FITTED // 4)]])
    design = np.stack([plane.reshape(-1)[pixels] for plane in planes]).astype(np.float64)
    values, weights = target.reshape(-1)[pixels].astype(np.float64), weight.reshape(-1)[pixels]
    light, used = reference.reshape(-1)[pixels], np.ones(values.size, bool)
    for _ in range(3):
        weighted = design[:, used] * weights[used]
        coefficients = np.linalg.lstsq(
            weighted @ design[:, used].T, weighted @ values[used], rcond=1e-10
        )[0]
        residual = np.abs(values - coefficients @ design)
        pull = residual * np.sqrt(weights)
        used = pull < 5.0 * _MAD * max(float(np.median(pull)), 1e-12)
        used |= residual < _KEPT * light
    return sum(c * plane for c, plane in zip(coefficients, planes, strict=True)).astype(
        np.float32
    )


def _noise_of(
    residual: NDArray[np.float32],
    model: NDArray[np.float32],
    noise: float,
    bad: NDArray[np.bool_],
    settings: MultiExposureSettings,
) -> NDArray[np.float32]:
    """Return the noise of the residuals: photons, and what the model's gradients add."""
    light = np.maximum(model, 0.0)
    variance = noise**2 + (settings.model_error * light.astype(np.float64)) ** 2
    if settings.gain is not None:
        variance += light / settings.gain
    sigma = np.sqrt(variance)
    steep = ndimage.maximum_filter(model, 3) - ndimage.minimum_filter(model, 3)
    ratio = (steep / sigma)[~bad]
    pull = np.abs(residual / sigma)[~bad]
    shares = np.geomspace(1.0, 300.0 / max(ratio.size, 600), _CLASSES)
    edges = np.unique(np.quantile(ratio, 1.0 - shares))
    centres, scatter = [], []
    for low, high in itertools.pairwise(edges):
        inside = (ratio >= low) & (ratio <= high)
        if inside.sum() >= 50:
            centres.append(float(np.median(ratio[inside])))
            scatter.append(_MAD * float(np.median(pull[inside])))
    if not centres:
        return sigma.astype(np.float32)
    scatter = np.maximum.accumulate(scatter)
    factor = np.interp(steep / sigma, centres, scatter)
    # Beyond the steepest class the errors go on in proportion.
    factor *= np.maximum(steep / sigma / max(centres[-1], 1e-9), 1.0)
    return (sigma * np.maximum(factor, 1.0)).astype(np.float32)


def _decide(
    residual: NDArray[np.float32],
    significance: NDArray[np.float32],
    bad: NDArray[np.bool_],
    fixed: NDArray[np.bool_],
    settings: MultiExposureSettings,
) -> Comparison:
    """Return mask and charge: seeds, grown over their neighbours, without fixed pixels.

    What touches a bad pixel may be what bled out of it, and near the borders the kernel saw a
    mirror image: both are unsure, and so is what no other exposure shows.
    """
    border = np.ones(bad.shape, bool)
    half = settings.kernel // 2
    border[half:-half, half:-half] = False
    open_to = ~bad & ~fixed & ~border
    seeds = (significance > settings.seed) & open_to
    member = (significance > settings.grow) & open_to
    mask = ndimage.binary_propagation(seeds, structure=_EIGHT, mask=member)
    beside_bad = ndimage.binary_dilation(bad, structure=_EIGHT)
    mask &= ~ndimage.binary_propagation(mask & beside_bad, structure=_EIGHT, mask=mask)
    doubt = (significance > settings.unsure) | ndimage.binary_dilation(mask, structure=_EIGHT)
    unsure = (doubt & ~mask) | bad | fixed | border
    return Comparison(
        mask, unsure, np.where(mask, residual, 0.0).astype(np.float32), significance
    )
