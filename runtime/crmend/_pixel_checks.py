"""Warnings about pixels: excluded ones, those of one value, coarse digits, alternating ones."""

from __future__ import annotations

import warnings
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from crmend._normalise import Scale
from crmend.errors import CrmendWarning

MOST_EXCLUDED = 0.5
"""Part of a frame that may be excluded before it is said."""

LEAST_SHARE = 0.1
"""Part of the valid pixels that a filled value has, at least, to be worth a warning."""

FAR_BELOW = 10.0
"""Distance below the median from which no sky is [distance of the 16th percentile]."""

_SAMPLES = 1_000_000
_BLOCK_ROWS = 1024
_LEAST_PIXELS = 100
_LEAST_REST = 0.01  # of the pixels; with fewer others the frame is constant, or counts photons
_COMMON = 0.005  # pixels of another level of the same noise over those of this one, at least
_NEXT = 1.5  # distance of such levels, over that of the closest two
_COARSE = 0.5  # of the pixels; with so many the noise is far below a step
_ALTERNATES = 1.5  # neighbours over pixels two apart; noise makes 1, blurred noise less
_EXPECTED = 1 / 3  # pixels of the next level, over those of a Gaussian noise, at least


def warn_of_pixels(image: NDArray[np.float32], excluded: NDArray[np.bool_]) -> None:
    """Warn where the pixels of a frame are not what a network can judge.

    Parameters
    ----------
    image : (ny, nx) float32 array
    excluded : (ny, nx) bool array
        True = invalid or saturated.

    Warns
    -----
    CrmendWarning
        More than half of the pixels are excluded, or many of the others have one and the same
        value that noise does not explain: a tenth of them, or a hundred far below the sky.
    """
    part = np.count_nonzero(excluded) / excluded.size
    if part > MOST_EXCLUDED:
        warnings.warn(
            f"{_percent(part)} of the pixels are excluded (NaN, infinite, bad or saturated), "
            "expected a few: no cosmic ray is looked for there; check the flag plane and its "
            "bits (bad_flags), and the unit of the saturation level",
            CrmendWarning,
            stacklevel=4,
        )
    step = max(1, -(-image.size // _SAMPLES))
    values = image[::step][~excluded[::step]]
    filled = filled_value(values) or value_below(image, excluded, values)
    if filled is not None:
        value, share = filled
        warnings.warn(
            f"{_percent(share)} of the valid pixels are exactly {value:g}, more than noise "
            "explains: gaps that were filled, or values that were clipped, spoil the noise, "
            "the PSF and the mask around them; set such pixels to NaN, or mark them in the "
            "flag plane (bad_flags) or by invalid=",
            CrmendWarning,
            stacklevel=4,
        )


def warn_of_digits(scale: Scale) -> None:
    """Warn where the noise of a frame is below one digit, its own or one of float32.

    Parameters
    ----------
    scale : Scale
        Of the frame.

    Warns
    -----
    CrmendWarning
        One digit is taken for the noise, see `crmend._normalise.measure_scale`; the level is so
        high that float32 rounds by more than the noise; or there is none to be measured.
    """
    if scale.guessed:
        warnings.warn(
            "the image has no noise that could be measured, since most neighbours are equal: "
            f"{scale.noise:g}, a millionth of its level, is taken for it, and what is found "
            "means little; subtract a level that float32 rounds the noise away from first, as "
            "float64",
            CrmendWarning,
            stacklevel=4,
        )
        return
    digit = float(np.spacing(np.float32(abs(scale.background))))
    if digit > scale.noise:
        warnings.warn(
            f"the noise of the image ({scale.noise:g}) is below one digit of float32 at its "
            f"level ({digit:g} at {scale.background:g}), in which crmend works, so cosmic rays "
            "and errors are lost in rounding: subtract the level first, as float64",
            CrmendWarning,
            stacklevel=4,
        )
        return
    if scale.digit:
        warnings.warn(
            f"the noise of the image is below one digit ({scale.noise:g}), since most "
            "neighbours are equal: one digit is taken for the noise, so cosmic rays of a few "
            "digits are not found, and errors made of it too large; use the image before it "
            "was rounded, or where photons are counted one that sums more of them, and give "
            "its own error",
            CrmendWarning,
            stacklevel=4,
        )


def warn_of_mosaic(image: NDArray[np.float32], excluded: NDArray[np.bool_]) -> None:
    """Warn where neighbours differ by more than noise, and pixels two apart do not.

    Parameters
    ----------
    image : (ny, nx) float32 array
    excluded : (ny, nx) bool array
        True = invalid or saturated.

    Warns
    -----
    CrmendWarning
        They do so along rows or columns, as in the raw frame of a colour camera.
    """
    step = max(1, -(-image.size // _SAMPLES))
    for name, plane, bad in (
        ("columns", image[::step], excluded[::step]),
        ("rows", image[:, ::step].T, excluded[:, ::step].T),
    ):
        good = ~(bad[:, :-2] | bad[:, 1:-1] | bad[:, 2:])
        if np.count_nonzero(good) < _LEAST_PIXELS:
            continue
        first, near, far = (
            plane[:, i : plane.shape[1] - 2 + i][good].astype(np.float64) for i in range(3)
        )
        one, two = np.abs(near - first), np.abs(far - first)
        # Means, since the median of coarse digits may be any; cut, as stars differ by more.
        most = 3.0 * float(np.median(one))
        if np.minimum(one, most).mean() > _ALTERNATES * np.minimum(two, most).mean():
            warnings.warn(
                f"{name} next to each other differ by more than those two apart, as hardly any "
                "light does: pixels of a colour camera (split the frame into its colours), or "
                "of two amplifiers by turns (subtract the level of each), hide cosmic rays and "
                "may look like some",
                CrmendWarning,
                stacklevel=4,
            )
            return


def filled_value(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the value that most pixels share without being digitised noise, and its share.

    A level of digitised noise has neighbours: levels one step away, and as many pixels on the
    next as a Gaussian has that puts so many on one.

    Parameters
    ----------
    values : (n,) float32 array
        Finite.

    Returns
    -------
    tuple of float and float, or None
        None = there is none, or the frame is all but constant.
    """
    levels, counts = np.unique(values, return_counts=True)
    shares = counts / max(values.size, 1)
    for i in np.argsort(-shares, kind="stable"):
        share = float(shares[i])
        if counts[i] < _LEAST_PIXELS or not LEAST_SHARE <= share <= 1.0 - _LEAST_REST:
            return None
        if not _has_neighbours(levels.astype(np.float64), shares, int(i)):
            return float(levels[i]), share
    return None


def value_below(
    image: NDArray[np.float32], excluded: NDArray[np.bool_], values: NDArray[np.float32]
) -> tuple[float, float] | None:
    """Return the value far below the sky that most pixels share, if many do, and its share.

    Parameters
    ----------
    image : (ny, nx) float32 array
    excluded : (ny, nx) bool array
        True = invalid or saturated.
    values : (n,) float32 array
        Some pixels that are not excluded, from all over the image.
    """
    if values.size == 0:
        return None
    low, middle = np.percentile(values.astype(np.float64), (15.87, 50.0))
    if low == middle:  # noise far below a step
        return None
    limit = middle - FAR_BELOW * (middle - low)
    far = []
    for start in range(0, len(image), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        far.append(image[rows][(image[rows] < limit) & ~excluded[rows]])
    levels, counts = np.unique(np.concatenate(far), return_counts=True)
    if counts.max(initial=0) < _LEAST_PIXELS:
        return None
    most = int(counts.argmax())
    if _has_neighbours(levels.astype(np.float64), counts / counts.sum(), most):
        return None  # an overscan strip
    return float(levels[most]), float(counts[most] / np.count_nonzero(~excluded))


def _has_neighbours(levels: NDArray[np.float64], shares: NDArray[np.float64], i: int) -> bool:
    """Say whether a level looks like one of digitised noise."""
    common = shares >= _COMMON * shares[i]
    steps = np.diff(levels[common])
    if steps.size == 0:
        return False
    near = common & (np.abs(levels - levels[i]) < _NEXT * steps.min())
    below, above = near[:i].any(), near[i + 1 :].any()
    if below and above and shares[i] > _COARSE:
        return True
    near[i] = False
    most = shares[near].max(initial=0.0)
    return bool(most > _EXPECTED * _next_share(float(shares[i])))


def _next_share(share: float) -> float:
    """Return the share of the next level where a Gaussian's central one has so much."""
    normal = NormalDist()
    half_step = normal.inv_cdf(0.5 + share / 2.0)
    return normal.cdf(3.0 * half_step) - normal.cdf(half_step)


def _percent(part: float) -> str:
    """Return a part in percent, not rounded up to all."""
    return f"{min(100.0 * part, 99.99):.4g} %"
