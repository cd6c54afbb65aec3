"""Sources found, measured and matched with the truth, as a survey's pipeline would.

The paper runs the CSST pipeline or SExtractor; here sep with SExtractor's defaults does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crmend_training.evaluate_mending import kron_sums, magnitude

REACH = 3.0
"""Matching radius [px], 0.22 arcsec.  The paper does not state its own."""

THRESHOLD = 1.5
"""Detection threshold in units of the background noise (SExtractor's DETECT_THRESH)."""

LEAST_PIXELS = 5
"""Connected pixels above it that make a source (SExtractor's DETECT_MINAREA)."""

FAR = 30.0
"""Distances to cosmic rays are measured up to here [px]."""

_MOST_SUB_OBJECTS = 65_536


@dataclass(frozen=True, eq=False)
class Detections:
    """Sources found in an image: positions [px] and Kron magnitudes (NaN: no positive flux)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    mag: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.x.size)


def measure_image(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    zero_point: float,
    left_out: NDArray[np.bool_] | None = None,
) -> Detections:
    """Find the sources of an image, sky included, and measure their Kron magnitudes.

    Parameters
    ----------
    image : (ny, nx) float32 array
    invalid : (ny, nx) bool array
        True = bad or hot: no part of any source, and no light.
    zero_point : float
        Magnitude of one unit of the image.
    left_out : (ny, nx) bool array or None
        True = a masked CR pixel, which is treated in the same way: its light is missing.

    Returns
    -------
    Detections
    """
    unusable = invalid | ~np.isfinite(image)
    if left_out is not None:
        unusable = unusable | left_out
    data = np.where(unusable, 0, image).astype(np.float32)
    background = sep.Background(data, mask=unusable)
    data = data - background.back(dtype=np.float32)
    data[unusable] = 0.0
    objects = find_objects(data, THRESHOLD * background.globalrms, unusable)
    if len(objects) == 0:
        return Detections(*np.zeros((3, 0)))
    mag = magnitude(kron_sums(data, objects)) + zero_point
    return Detections(objects["x"], objects["y"], mag)


def find_objects(
    data: NDArray[np.float32], threshold: float, mask: NDArray[np.bool_]
) -> NDArray[np.void]:
    """Run sep.extract; where its deblending overflows, blended sources are found as one."""
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), data.size))
    sep.set_sub_object_limit(max(sep.get_sub_object_limit(), _MOST_SUB_OBJECTS))
    for levels in (32, 1):
        try:
            objects = sep.extract(
                data, threshold, mask=mask, minarea=LEAST_PIXELS, deblend_nthresh=levels
            )
        except Exception as error:  # sep raises no narrower class
            if "deblend" not in str(error) or levels == 1:
                raise
        else:
            return np.asarray(objects)
    raise AssertionError("not reached")


def match_sources(
    x: NDArray,
    y: NDArray,
    mag: NDArray,
    found_x: NDArray,
    found_y: NDArray,
    reach: float = REACH,
) -> NDArray[np.int64]:
    """Match the sources of a catalogue with detections, one to one.

    The brightest source chooses first, of the detections that are still free the nearest.

    Parameters
    ----------
    x, y, mag : (n,) arrays
        Sources [px, mag].
    found_x, found_y : (m,) arrays
        Detections [px].
    reach : float
        Farthest match [px].

    Returns
    -------
    (n,) int64 array
        Index of the detection, −1 = none.
    """
    result = np.full(np.size(x), -1, np.int64)
    if np.size(found_x) == 0:
        return result
    sources, found = np.column_stack([x, y]), np.column_stack([found_x, found_y])
    near = cKDTree(found).query_ball_point(sources, reach)
    free = np.ones(len(found), bool)
    for i in np.argsort(mag, kind="stable"):
        own = [j for j in near[i] if free[j]]
        if own:
            distances = np.hypot(*(found[own] - sources[i]).T)
            result[i] = own[int(distances.argmin())]
            free[result[i]] = False
    return result


def distances_to(mask: NDArray[np.bool_], x: NDArray, y: NDArray) -> NDArray[np.float64]:
    """Return the distance of each position to the nearest pixel of a mask [px].

    Counted to the pixel's centre; infinite beyond `FAR`.
    """
    pixels = np.argwhere(mask)[:, ::-1]
    if len(pixels) == 0 or np.size(x) == 0:
        return np.full(np.size(x), np.inf)
    places = np.column_stack([x, y])
    return cKDTree(pixels).query(places, distance_upper_bound=FAR)[0]
