"""Robust normalisation shared by the runtime and the training.

Both networks see an image in units of its own noise above its own background, so they
do not depend on gain, exposure time or unit.  The detection network sees it compressed
with asinh (`to_detect_input`); the inpainting network sees it linear, in units of the
noise (`to_noise_units`), its CR pixels filled by `crmend._kernels.smooth_fill`, and does its
own scaling inside the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import FILL_MARGIN, FILL_SOFTENING

NAME = "asinh-noise-v2"
"""Name of this preprocessing; it stands in every model card."""

SOFTENING = 3.0
"""Signal, in units of the noise, at which the detection input turns logarithmic."""

BRIGHTEST = 3e4
"""Detection sees no pixel farther from the background than this [noise]: a full well of 90,000
e- read out with 3 e-, and what networks have learnt.  Beyond, they find nothing or too much."""

_MAX_SAMPLES = 4_000_000
_CLIP_SIGMA = 3.0
# Standard deviation of a unit Gaussian truncated at ±3 sigma.
_CLIPPED_STD = 0.98658
MAD_TO_SIGMA = 1.482602
_QUANTUM = 1e-3
# Noise along columns over that along rows (assumed): from where on it counts, and from where on
# a quick look at so many pixels, right to half a percent, finds it worth measuring.
_CLEARLY, _SEEMS = 0.9, 0.95
_QUICK_SAMPLES = 500_000
# Coarse digits: so many deviations beyond 6 sigma, and so few of them between 3 and 6 (of a
# Gaussian 0.27 % lie there, of frames full of stars half as many as beyond).
_OUTLIERS, _GAP = 0.05, 0.05
# Digits more than twice as coarse as the noise: more than this share of neighbours are equal,
# and so many different values at least are multiples of one step (assumed).  Where photons are
# counted there may be fewer: whole numbers, or three levels in a row.
_EQUAL, _LEAST_DIGITS = 0.6, 5


@dataclass(frozen=True)
class Scale:
    """Background level and noise of one image.

    Attributes
    ----------
    background : float
        Sigma-clipped median of the image, in the image's unit.
    noise : float
        Standard deviation of the background pixels, in the image's unit, > 0.
    digit : bool
        The noise is below one digit of the image, and that digit is taken for it.
    guessed : bool
        Most neighbours are equal, not all: a millionth of the level is taken for the noise.
    """

    background: float
    noise: float
    digit: bool = False
    guessed: bool = False


def measure_scale(image: NDArray[np.float32], invalid: NDArray[np.bool_]) -> Scale:
    """Measure the background level and the noise of an image.

    The noise comes from differences between horizontal neighbours, so that gradients and
    crowding hardly raise it.  Both figures are rounded (the noise to three digits, the
    background to a thousandth of the noise), so that a single pixel that becomes invalid
    does not move the probabilities of the whole frame in their last digits.  Where digits are
    much coarser than the noise, or photons are counted that are few, the noise is one digit.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    invalid : (ny, nx) bool array
        True = leave the pixel out (NaN, bad, saturated).

    Returns
    -------
    Scale
    """
    values, differences = _samples(image, invalid)
    measured, digit = _measured_noise(values, differences), _coarse_digit(values, differences)
    # What differs by one digit says nothing: in units of less, the networks flag it.
    noise = max(measured, digit)
    guessed = not noise > 0.0
    if guessed:
        # A constant image has no noise: any positive number gives all-zero input.
        noise = max(abs(float(np.median(values))) if values.size else 0.0, 1e-30) * 1e-6
    noise = _round_digits(noise)
    quantum = noise * _QUANTUM
    background = np.round(_clipped_median(values, noise) / quantum) * quantum
    guessed = guessed and np.unique(values).size > 1
    return Scale(float(background), noise, digit=digit > measured, guessed=guessed)


def measure_least_scale(image: NDArray[np.float32], invalid: NDArray[np.bool_]) -> Scale:
    """Measure the same along columns too, and return the noise that is clearly smaller.

    Light that runs along columns, such as spectra, differs from one column to the next by more
    than noise.  Networks that detect learnt with `measure_scale`; mending and errors want this.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    invalid : (ny, nx) bool array
        True = leave the pixel out (NaN, bad, saturated).

    Returns
    -------
    Scale
        That of `measure_scale`, unless the other noise is below 0.9 of its noise.
    """
    scale = measure_scale(image, invalid)
    if not _seems_smoother_along_columns(image, invalid):
        return scale
    turned = measure_scale(image.T, invalid.T)
    return turned if turned.noise < _CLEARLY * scale.noise else scale


def to_noise_units(image: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Return (image − background) / noise, float32, a new array of the same shape."""
    return (image - np.float32(scale.background)) / np.float32(scale.noise)


def to_detect_input(image: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Return asinh((image − background) / (SOFTENING · noise)), float32, a new array."""
    softened = (image - np.float32(scale.background)) / np.float32(SOFTENING * scale.noise)
    np.arcsinh(softened, out=softened)
    return softened


def median_of_known(
    values: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the lower median of what is not NaN along an axis, and how many those are.

    The values are sorted in place; where there is none the median is NaN.
    """
    values.sort(axis=axis)  # NaN last, so the median of the others stands in their middle
    count = np.count_nonzero(~np.isnan(values), axis=axis)
    middle = np.expand_dims(np.maximum(count - 1, 0) // 2, axis)
    median: NDArray[np.float32] = np.take_along_axis(values, middle, axis=axis).squeeze(axis)
    return median, count


def mesh_medians(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the median of each square mesh as `median_of_known`, and how many pixels it has.

    Meshes begin at the first row and column; the last ones may be smaller.
    """
    sample = image.astype(np.float32)
    sample[invalid | ~np.isfinite(sample)] = np.nan
    ny, nx = (-(-n // side) for n in sample.shape)
    missing = (0, ny * side - sample.shape[0]), (0, nx * side - sample.shape[1])
    sample = np.pad(sample, missing, constant_values=np.nan)
    meshes = sample.reshape(ny, side, nx, side).swapaxes(1, 2).reshape(ny, nx, side * side)
    return median_of_known(meshes, axis=-1)


def parameters() -> dict[str, float]:
    """Return the parameters that the model card records beside `NAME`."""
    return {
        "softening": SOFTENING,
        "clip_sigma": _CLIP_SIGMA,
        "fill_softening": FILL_SOFTENING,
        "fill_margin": FILL_MARGIN,
    }


def _samples(
    image: NDArray[np.float32], invalid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the valid pixels of some rows, and differences of neighbours over √2."""
    rows = _row_step(image)
    sample = image[::rows]
    valid = ~invalid[::rows]
    pairs = valid[:, 1:] & valid[:, :-1]
    with np.errstate(invalid="ignore"):  # ∞ − ∞, which `pairs` leaves out
        differences = sample[:, 1:].astype(np.float64) - sample[:, :-1]
    return sample[valid].astype(np.float64), differences[pairs] / np.sqrt(2.0)


def _measured_noise(values: NDArray[np.float64], differences: NDArray[np.float64]) -> float:
    """Return the noise by differences of neighbours, or where all are equal by the values."""
    noise = _clipped_std(differences)
    return noise if noise > 0.0 else _clipped_std(values)


def _coarse_digit(values: NDArray[np.float64], differences: NDArray[np.float64]) -> float:
    """Return the digit of an image whose digits are much coarser than its noise, or 0."""
    coarse = differences.size > 0 and np.mean(differences == 0.0) > _EQUAL
    return _digit(values) if coarse else 0.0


def _seems_smoother_along_columns(
    image: NDArray[np.float32], invalid: NDArray[np.bool_]
) -> bool:
    """Tell by a quick look whether neighbours along columns differ by less than along rows."""
    step = max(2, -(-image.size // _QUICK_SAMPLES))
    rows, below = image[:-1:step], image[1::step]
    bad = invalid[:-1:step], invalid[1::step]
    medians = []
    for one, other, unusable in (
        (below, rows, bad[0] | bad[1]),
        (rows[:, 1:], rows[:, :-1], bad[0][:, 1:] | bad[0][:, :-1]),
    ):
        with np.errstate(invalid="ignore", over="ignore"):  # what `unusable` leaves out
            differences = np.abs(one - other)[~unusable]
        if differences.size == 0:
            return False
        medians.append(float(np.median(differences)))
    return medians[0] < _SEEMS * medians[1]


def _row_step(image: NDArray[np.float32]) -> int:
    """Return the row stride that keeps the sample at `_MAX_SAMPLES` pixels or fewer."""
    return max(1, -(-image.size // _MAX_SAMPLES))


def _clipped_std(values: NDArray[np.float64], iterations: int = 5) -> float:
    """Return a 3 sigma-clipped standard deviation around zero or the median."""
    if values.size == 0:
        return 0.0
    centre = float(np.median(values))
    deviations = np.abs(values - centre)
    sigma = MAD_TO_SIGMA * float(np.median(deviations))
    if sigma == 0.0:
        # Coarsely digitised data: most neighbours are equal.  Start from the bulk.
        sigma = float(np.percentile(deviations, 95.0)) / 1.96
    sigma = _clip(deviations, sigma, iterations)
    beyond = np.mean(deviations > 2.0 * _CLIP_SIGMA * sigma)
    between = np.mean(deviations > _CLIP_SIGMA * sigma) - beyond
    if beyond > _OUTLIERS and between < _GAP * beyond:
        # The same after a flat field: most neighbours differ by the flat alone, the others by
        # whole digits, and nothing lies between.  Stars and cosmic rays leave no such gap.
        start = float(np.percentile(deviations, 95.0)) / 1.96
        # Once: a second time could leave all but one digit out again.
        sigma = _clip(deviations, max(start, sigma), 1)
    return sigma


def _clip(deviations: NDArray[np.float64], sigma: float, iterations: int) -> float:
    """Return the standard deviation of what lies within 3 sigma of it, from a first guess."""
    for _ in range(iterations):
        kept = deviations[deviations <= _CLIP_SIGMA * sigma]
        if kept.size == 0 or sigma == 0.0:
            break
        sigma = float(np.sqrt(np.mean(kept**2))) / _CLIPPED_STD
    return sigma


def _digit(values: NDArray[np.float64]) -> float:
    """Return the step that all values are multiples of, beside an offset; 0 = there is none."""
    distinct = np.unique(values[np.isfinite(values)])
    if distinct.size < 2:
        return 0.0
    gaps = np.diff(distinct)
    step = float(gaps.min())
    counts = step == 1.0 and float(distinct[0]).is_integer()
    if distinct.size < _LEAST_DIGITS and not counts and np.sum(gaps < 1.5 * step) < 2:
        return 0.0
    # What float32 leaves of a multiple.
    rounding = 4.0 * float(np.finfo(np.float32).eps) * float(np.abs(distinct).max())
    whole = np.abs(gaps - np.rint(gaps / step) * step) <= rounding + _QUANTUM * gaps
    return step if rounding < 0.1 * step and whole.all() else 0.0


def _clipped_median(values: NDArray[np.float64], noise: float, iterations: int = 8) -> float:
    """Return the median of the values within 3 noise of it, iterated."""
    if values.size == 0:
        return 0.0
    median = float(np.median(values))
    for _ in range(iterations):
        kept = values[np.abs(values - median) <= _CLIP_SIGMA * noise]
        if kept.size < 0.02 * values.size:
            break
        previous, median = median, float(np.median(kept))
        if abs(median - previous) < 0.1 * _QUANTUM * noise:
            break
    return median


def _round_digits(value: float, digits: int = 3) -> float:
    """Round a positive number to so many significant digits."""
    return float(f"{value:.{digits - 1}e}")
