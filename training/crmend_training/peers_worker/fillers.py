"""Mending by each method: image in electrons and mask in, a new image out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(ny, nx) float32 without NaN, mask (True = fill): a new image, only masked pixels differ."""

INPAINT_RADIUS = 3.0
"""Neighbourhood of OpenCV's fills [px]; the value of its documentation's example."""

GAUSSIAN_POINTS = 160
"""Nearest good pixels that a Gaussian process is conditioned on (cost grows with the cube)."""

_GREY_LEVELS = 1000.0
_MARGIN = 8  # px that a group of masked pixels is cut out with
_STENCIL = np.ones((5, 5), bool)  # the biharmonic operator reaches two pixels
_FWHM = 2.3548  # of a Gaussian in sigmas


def load(name: str, frame: Any) -> Callable[[Any], np.ndarray]:
    """Return a method: `finders.WorkFrame` to its mended image.

    Raises
    ------
    ValueError
        There is no such method.
    """
    if name.startswith("crmend "):
        return _load_crmend(name.removeprefix("crmend "), frame)
    fill = _frame_fill(name, frame)

    def mend(frame: Any) -> np.ndarray:
        return only_masked(frame.filled, frame.mask, fill(frame.filled, frame.mask))

    return mend


def _frame_fill(name: str, frame: Any) -> Fill:
    """Return the fill of a whole frame."""
    if name.startswith("deepCR "):
        return _load_deepcr(name.removeprefix("deepCR "), frame.threads)
    whole: dict[str, Fill] = {
        "untouched": lambda image, mask: image,
        "5×5 median": masked_median,
        "astropy interpolate": lambda image, mask: astropy_interpolate(image, mask, frame.fwhm),
        "OpenCV NS": lambda image, mask: opencv(image, mask, "INPAINT_NS"),
        "OpenCV Telea": lambda image, mask: opencv(image, mask, "INPAINT_TELEA"),
    }
    grouped: dict[str, Fill] = {
        "biharmonic": biharmonic,
        "maskfill": maskfill,
        "Gaussian process": lambda image, mask: gaussian_process(
            image, mask, frame.noise, frame.background, frame.fwhm
        ),
    }
    if name in grouped:
        return lambda image, mask: fill_groups(grouped[name], image, mask)
    if name not in whole:
        raise ValueError(f"no fill is called {name!r}")
    return whole[name]


def _load_crmend(variant: str, frame: Any) -> Callable[[Any], np.ndarray]:
    import crmend

    if variant == "adaptive median":
        from crmend_training.classical_fills import adaptive

        return lambda frame: adaptive(frame.filled, frame.mask)
    where = {"model": "generic"} if variant == "generic" else {"detector": frame.detector}

    def mend(frame: Any) -> np.ndarray:
        known = {"invalid": frame.invalid, "saturated": frame.saturated}
        done = crmend.inpaint(frame.image, frame.mask, threads=frame.threads, **known, **where)
        return only_masked(frame.filled, frame.mask, done.image)

    return mend


# --- a frame, group by group ------------------------------------------------------------


def fill_groups(
    fill: Fill,
    image: np.ndarray,
    mask: np.ndarray,
    margin: int = _MARGIN,
    only: np.ndarray | None = None,
) -> np.ndarray:
    """Fill a frame, one group of masked pixels at a time, each in a cutout of its own.

    Pixels within four of each other belong to one group, so that a biharmonic fill is the
    same as that of the whole frame, but for its limits, which are then those of the cutout.

    Parameters
    ----------
    fill : Fill
    image : (ny, nx) float32 array
        Without NaN; not changed.
    mask : (ny, nx) bool array
        True = fill.
    margin : int
        Pixels around the group that the fill sees.
    only : (ny, nx) bool array or None
        From `groups_near`: the masked pixels that are filled; the others are taken for lost
        and stay as they are.

    Returns
    -------
    (ny, nx) float32 array
    """
    out = image.copy()
    labels = _groups(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = np.s_[
            max(rows.start - margin, 0) : rows.stop + margin,
            max(columns.start - margin, 0) : columns.stop + margin,
        ]
        own = mask[box] & (labels[box] == number)
        if only is None or only[box][own].any():
            out[box][own] = fill(image[box], mask[box])[own]
    return out


def groups_near(mask: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the masked pixels of every group of `fill_groups` that has a pixel in `near`."""
    labels = _groups(mask)
    wanted = np.zeros(int(labels.max()) + 1, bool)
    wanted[labels[mask & near]] = True
    return mask & wanted[labels]


def _groups(mask: np.ndarray) -> np.ndarray:
    """Return the number of the group around every pixel, 0 = none."""
    labels, _ = ndimage.label(ndimage.binary_dilation(mask, _STENCIL), np.ones((3, 3)))
    return labels


def only_masked(image: np.ndarray, mask: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Return the image with the masked pixels of another, float32."""
    return np.where(mask, filled, image).astype(np.float32)


# --- fills ------------------------------------------------------------------------------


def masked_median(image: np.ndarray, cr_mask: np.ndarray, half: int = 2) -> np.ndarray:
    """Return the image with CR pixels replaced by the median of good pixels in 5×5.

    A CR pixel without a good neighbour gets the image's median: the peer that the table
    compares with, as deepCR's default inpainting does it.
    """
    out = image.copy()
    everywhere = float(np.nanmedian(image))
    ny, nx = image.shape
    for y, x in zip(*np.nonzero(cr_mask), strict=True):
        window = np.s_[
            max(y - half, 0) : min(y + half + 1, ny), max(x - half, 0) : min(x + half + 1, nx)
        ]
        good = image[window][~cr_mask[window]]
        out[y, x] = np.median(good) if good.size else everywhere
    return out


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return scikit-image's biharmonic fill, which stays in the range of the other pixels."""
    from skimage.restoration import inpaint_biharmonic

    return only_masked(image, mask, inpaint_biharmonic(image.astype(np.float64), mask))


def maskfill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return maskfill's smoothed fill (van Dokkum & Pasha 2024), its defaults."""
    from maskfill import maskfill

    if mask.all():
        return image.copy()  # it would never end
    return only_masked(image, mask, maskfill(image.astype(np.float64), mask)[0])


def opencv(image: np.ndarray, mask: np.ndarray, method: str) -> np.ndarray:
    """Return OpenCV's fill of one float32 channel.

    Its rounding and its gradient term count in grey levels, so the image is handed over with a
    thousand levels in its noise.
    """
    import cv2

    known = image[~mask] if not mask.all() else image
    level = float(np.median(known))
    deviation = 1.4826 * float(np.median(np.abs(known - level))) or float(known.std()) or 1.0
    grey = _GREY_LEVELS / deviation
    own = ((image - level) * grey).astype(np.float32)
    filled = cv2.inpaint(own, mask.astype(np.uint8), INPAINT_RADIUS, getattr(cv2, method))
    return only_masked(image, mask, filled / grey + level)


def astropy_interpolate(image: np.ndarray, mask: np.ndarray, fwhm: float) -> np.ndarray:
    """Return astropy's interpolation with a Gaussian kernel as wide as a star.

    Holes wider than the kernel stay NaN; its documentation advises to repeat.
    """
    from astropy.convolution import Gaussian2DKernel, convolve, interpolate_replace_nans

    kernel = Gaussian2DKernel(fwhm / _FWHM)
    filled = np.where(mask, np.nan, image.astype(np.float64))
    before = 0
    while (missing := int(np.isnan(filled).sum())) not in (0, before):
        before = missing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # holes wider than the kernel
            filled = interpolate_replace_nans(filled, kernel, convolve, boundary="extend")
    return only_masked(image, mask, filled)


def gaussian_process(
    image: np.ndarray, mask: np.ndarray, noise: float, background: float, fwhm: float
) -> np.ndarray:
    """Return scikit-learn's Gaussian-process regression of a cutout's masked pixels.

    As LSST interpolates: a constant mean, the median of the cutout; a Gaussian covariance, as
    wide as that of an image of stars (√2 times the PSF's sigma), whose variance is that of the
    good pixels beyond their noise; and each good pixel's noise, sky and photons.

    Parameters
    ----------
    image : (ny, nx) float32 array
        [e-]
    mask : (ny, nx) bool array
        True = fill.
    noise, background, fwhm : float
        Of the sky [e-], [e-]; of a star [px].
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    if mask.all():
        return image.copy()
    holes, good = np.argwhere(mask), np.argwhere(~mask)
    distance = ndimage.distance_transform_edt(~mask)[~mask]
    chosen = good[np.argsort(distance, kind="stable")[:GAUSSIAN_POINTS]]
    values = image[tuple(chosen.T)].astype(np.float64)
    variance = noise**2 + np.maximum(values - background, 0.0)
    middle = float(np.median(values))
    spread = max(float(np.mean((values - middle) ** 2 - variance)), 1e-2 * noise**2)
    kernel = ConstantKernel(spread) * RBF(np.sqrt(2.0) * fwhm / _FWHM)
    process = GaussianProcessRegressor(kernel, alpha=variance, optimizer=None)
    process.fit(chosen, values - middle)
    out = image.copy()
    out[mask] = process.predict(holes) + middle
    return out


def _load_deepcr(name: str, threads: int) -> Fill:
    """Return deepCR's 5×5 median ("median") or its inpainting network by name."""
    import torch
    from deepCR import deepCR

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weight_norm is deprecated in torch
        model = deepCR(inpaint=None if name == "median" else name, device="CPU")

    def fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        ny, nx = image.shape
        pad = ((0, -ny % 4), (0, -nx % 4))
        with torch.inference_mode():
            done = model.inpaint(np.pad(image, pad, mode="reflect"), np.pad(mask, pad))
        return np.asarray(done[:ny, :nx])

    return fill
