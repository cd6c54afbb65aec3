"""Measurements of the mending evaluation: photometry, shapes, error bars, summaries.

Everything here works on arrays.  `mending_science` and `mending_frames` apply it to the
scientific test set and to full frames; `tools/evaluate_mending.py` writes the report.
"""

from __future__ import annotations

import itertools

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

APERTURE = 5.0
"""Radius of the fixed aperture [px]."""

KRON_FACTOR = 2.5
"""Of the Kron radius, as SExtractor's MAG_AUTO."""

KRON_LEAST = 1.75
"""Least radius [px]: below it a circle of this radius is used (PHOT_AUTOPARAMS 2.5, 3.5)."""

KRON_REACH = 3.0
"""A detection this near to the catalogue's position [px] is the source."""

WEIGHT_SIGMA = 2.0
"""Of the Gaussian that weights second moments [px]: twice that of the PSF."""

_MOMENT_HALF = 8  # four weights


def magnitude(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return −2.5 log10 of a flux; NaN where it is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return -2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def aperture_fluxes(
    image: NDArray[np.float32], x: NDArray, y: NDArray, radius: float = APERTURE
) -> NDArray[np.float64]:
    """Return the sums over circles of an image without background."""
    data = np.ascontiguousarray(np.nan_to_num(image), dtype=np.float32)
    return np.asarray(sep.sum_circle(data, x, y, radius, subpix=5)[0], dtype=np.float64)


def kron_fluxes(
    image: NDArray[np.float32],
    noise: float,
    x: NDArray,
    y: NDArray,
    near: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the Kron fluxes of the sources that sep finds near the positions given.

    The image is searched by itself, as a pipeline would: what a poor fill does to the
    detection, to its ellipse or to its Kron radius counts.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Without background.
    noise : float
        Of the background; sources are found at 1.5 times it, in 5 or more pixels.
    x, y : (n,) arrays
        Positions [px].
    near : (ny, nx) bool array or None
        Search there only, which saves time; None = everywhere.

    Returns
    -------
    (n,) float64 array
        NaN where nothing was found within `KRON_REACH`.
    """
    data = np.ascontiguousarray(np.nan_to_num(image), dtype=np.float32)
    fluxes = np.full(np.size(x), np.nan)
    objects = _extract(data, 1.5 * noise, None if near is None else ~near)
    if len(objects) == 0:
        return fluxes
    separation = np.hypot(
        np.subtract.outer(np.atleast_1d(x), objects["x"]),
        np.subtract.outer(np.atleast_1d(y), objects["y"]),
    )
    nearest = separation.argmin(axis=1)
    found = separation.min(axis=1) <= KRON_REACH
    if not found.any():
        return fluxes
    own = objects[nearest[found]]
    fluxes[found] = kron_sums(data, own)
    return fluxes


def _extract(
    data: NDArray[np.float32], threshold: float, mask: NDArray[np.bool_] | None
) -> NDArray:
    """Run sep where the mask is not True; crowded frames need larger buffers than its own."""
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), data.size))
    sep.set_sub_object_limit(max(sep.get_sub_object_limit(), 16384))
    return np.asarray(sep.extract(data, threshold, mask=mask, minarea=5))


def kron_sums(data: NDArray[np.float32], objects: NDArray) -> NDArray[np.float64]:
    """Return Kron fluxes of detections; a circle where the ellipse is small or unknown.

    Parameters
    ----------
    data : (ny, nx) float32 array
        C-contiguous, without background.
    objects : (n,) structured array
        From sep.extract: x, y [px], a, b [px, standard deviations] and theta [rad].

    Returns
    -------
    (n,) float64 array
        In the image's unit.
    """
    x, y, a, b = (objects[name].astype(np.float64) for name in ("x", "y", "a", "b"))
    theta = np.clip(objects["theta"].astype(np.float64), -np.pi / 2, np.pi / 2)
    a, b = np.maximum(a, 0.3), np.maximum(b, 0.3)
    radius, _ = sep.kron_radius(data, x, y, a, b, theta, 6.0)
    radius = np.where(np.isfinite(radius), radius, 0.0)
    small = radius * np.sqrt(a * b) < KRON_LEAST
    scale = np.where(small, 1.0, KRON_FACTOR * radius)
    flux, _, _ = sep.sum_ellipse(data, x, y, a, b, theta, scale, subpix=5)
    circle, _, _ = sep.sum_circle(data, x, y, KRON_FACTOR * KRON_LEAST, subpix=5)
    return np.where(small, circle, flux)


def ellipticities(
    image: NDArray[np.float32], x: NDArray, y: NDArray, sigma: float = WEIGHT_SIGMA
) -> NDArray[np.float64]:
    """Return e1, e2 from second moments with a fixed round Gaussian weight.

    e1 = (Qxx − Qyy) / (Qxx + Qyy), e2 = 2 Qxy / (Qxx + Qyy).  The weight is centred on the
    image's own weighted centroid, found in five steps from the position given.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Without background.
    x, y : (n,) arrays
        Positions [px], at least 9 px inside the image.
    sigma : float
        Of the weight [px].

    Returns
    -------
    (n, 2) float64 array
        NaN where the moments are not positive or the centroid runs away.
    """
    result = np.full((np.size(x), 2), np.nan)
    span = np.arange(-_MOMENT_HALF, _MOMENT_HALF + 1)
    for k, (x0, y0) in enumerate(zip(np.atleast_1d(x), np.atleast_1d(y), strict=True)):
        column, row = round(float(x0)), round(float(y0))
        stamp = image[np.ix_(row + span, column + span)].astype(np.float64)
        result[k] = _stamp_ellipticity(np.nan_to_num(stamp), x0 - column, y0 - row, span, sigma)
    return result


def _stamp_ellipticity(
    stamp: NDArray[np.float64], cx: float, cy: float, span: NDArray, sigma: float
) -> tuple[float, float]:
    """Return e1, e2 of one stamp about its own centroid."""
    failed = (float("nan"), float("nan"))
    start = (cx, cy)
    for _ in range(5):
        dx, dy = np.meshgrid(span - cx, span - cy)
        light = stamp * np.exp(-0.5 * (dx**2 + dy**2) / sigma**2)
        total = light.sum()
        if not total > 0:
            return failed
        # Twice the weighted offset is the full step for a source as wide as its weight.
        cx += 2.0 * float((light * dx).sum() / total)
        cy += 2.0 * float((light * dy).sum() / total)
        if np.hypot(cx - start[0], cy - start[1]) > 2.0:
            return failed
    dx, dy = np.meshgrid(span - cx, span - cy)
    light = stamp * np.exp(-0.5 * (dx**2 + dy**2) / sigma**2)
    qxx, qyy, qxy = ((light * product).sum() for product in (dx**2, dy**2, dx * dy))
    if not qxx + qyy > 0:
        return failed
    return float((qxx - qyy) / (qxx + qyy)), float(2.0 * qxy / (qxx + qyy))


def spread_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Return number, median, half the 16–84 % range, rms, and the number that is missing.

    ``error`` is the standard error of the median, were the values Gaussian.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    lost = int(values.size - finite.size)
    if finite.size == 0:
        nan = float("nan")
        empty = dict.fromkeys(("median", "error", "scatter", "rms"), nan)
        return {"n": 0, "lost": lost} | empty
    low, middle, high = np.percentile(finite, [16, 50, 84])
    return {
        "n": int(finite.size),
        "lost": lost,
        "median": float(middle),
        "error": 1.2533 * float(high - low) / 2 / finite.size**0.5,
        "scatter": float(high - low) / 2,
        "rms": float(np.sqrt(np.mean(finite**2))),
    }


def coverage(pulls: NDArray) -> dict[str, float]:
    """Return the share of pulls (difference over sigma) within 1 and 2, in percent.

    ``factor_68`` and ``factor_95`` are what sigma must be multiplied by for 68.27 % to lie
    within one and 95.45 % within two: the same number where the differences are Gaussian.
    """
    size = np.abs(pulls[np.isfinite(pulls)])
    if size.size == 0:
        nan = float("nan")
        return {"n": 0, "one": nan, "two": nan, "factor_68": nan, "factor_95": nan}
    inner, outer = np.percentile(size, [68.27, 95.45])
    return {
        "n": int(size.size),
        "one": 100.0 * float(np.mean(size <= 1.0)),
        "two": 100.0 * float(np.mean(size <= 2.0)),
        "factor_68": float(inner),
        "factor_95": float(outer) / 2.0,
    }


def trend(
    values: NDArray, along: NDArray, edges: tuple[float, ...], least: int = 10
) -> dict[str, float]:
    """Return largest − smallest median of the bins that hold at least so many values.

    ``error`` is the standard error of that difference: noise alone makes a trend of more than
    nothing, about twice as large.
    """
    spreads = [
        spread
        for low, high in itertools.pairwise(edges)
        if (spread := spread_of(values[(along >= low) & (along < high)]))["n"] >= least
    ]
    if len(spreads) < 2:
        return {"range": float("nan"), "error": float("nan")}
    top, bottom = (pick(spreads, key=lambda one: one["median"]) for pick in (max, min))
    difference = top["median"] - bottom["median"]
    return {"range": difference, "error": float(np.hypot(top["error"], bottom["error"]))}


def grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Return a mask grown by so many pixels in all eight directions; 0 = the mask itself."""
    if pixels == 0:
        return mask
    return ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=pixels)
