"""What one simulated exposure contributes to the paper's Figures 2, 3, 4, 6, 7 and Table 1.

`measure_frame` cleans an exposure with `crmend.clean` and returns plain numbers that fit into a
JSON file; `paper_summary` pools them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import crmend
from crmend_training import statistics
from crmend_training.datasets import Pair
from crmend_training.evaluate_detection import Scene, Tally, track_pixels
from crmend_training.mending_frames import HitFrame, read_frame
from crmend_training.paper_photometry import distances_to, match_sources, measure_image
from crmend_training.similarity import structural_similarity
from crmend_training.simulate import BANDS, DETECTOR_BANDS

METHODS = ("direct", "masked", "mended", "CR-free")
"""CRs ignored; CR pixels left out; CR pixels mended; the same exposure without any CR.  Masks
are those that `crmend.clean` draws."""

AFFECTED = 1.0
"""A source is affected by CRs if a true CR pixel lies this near to its centre [px].  The paper
does not say what it counts; the smaller the radius, the nearer are the shares of such sources
to its 2.5 and 4.1 %.  The report has other radii."""

FARTHEST = 5.0
"""Sources with a CR pixel up to here are recorded [px]."""

CHARGES = np.unique(np.rint(np.geomspace(1.0, 20_000.0, 60))) - 0.5
"""Edges of the bins of Figure 4 [e-]; the truth holds whole electrons."""

CUTOUT_HALF = 15
"""Half width of the cutouts whose SSIM is taken [px]."""

_KINDS = ("star", "galaxy")
_EDGE = CUTOUT_HALF + 1  # px: sources nearer to the frame's edge are left out


def measure_frame(pair: Pair, threads: int | None = None) -> dict[str, Any]:
    """Clean one exposure and measure it in every way.

    Parameters
    ----------
    pair : Pair
        With its CR-free twin and its catalogue.
    threads : int or None
        Of the networks; None = as many as this process may use.

    Returns
    -------
    dict
        ``detector``, ``band``, ``limit`` [mag], ``shape``, ``field``, ``law``, ``seed``;
        ``detection`` and ``charges`` (counts of pixels); ``sources`` (a list per column, one
        entry per source near a CR), ``usable`` (how many there are at all, by type) and
        ``found`` (detections and spurious ones, by method).

    Raises
    ------
    FileNotFoundError
        The pair has no twin or no catalogue.
    """
    frame = read_frame(pair)
    exposure = crmend.read_exposure(pair.level1)
    result = crmend.clean(exposure, threads=threads)
    header = fits.getheader(pair.level1)
    band = BANDS[DETECTOR_BANDS[pair.detector]]
    scene = Scene(exposure, frame.truth, frame.excluded, track_pixels(frame.truth))
    return {
        "detector": pair.detector,
        "band": band.name,
        "limit": band.limit,
        "shape": list(frame.image.shape),
        "field": str(header.get("SIMFIELD", "unknown")),
        "law": str(header.get("SIMCRLAW", "unknown")),
        "seed": header.get("SIMSEED"),
        "detection": count_detection(scene, result),
        "charges": count_charges(frame.truth),
        **measure_sources(frame, result, band.limit),
    }


def count_detection(scene: Scene, found: crmend.Detection | crmend.CleanResult) -> dict:
    """Return the pixel counts of Figures 2 and 3 (`Tally`), without bad and saturated ones."""
    tally = Tally()
    tally.add(scene, found)
    return tally.scores[0] | {
        "pixels": tally.pixels,
        "cr_pixels": tally.cr_pixels,
        "total": tally.total.sum(axis=0).tolist(),
        "found": tally.found.sum(axis=0).tolist(),
    }


def count_charges(truth: NDArray[np.float32]) -> dict[str, Any]:
    """Return the histograms of Figure 4 over `CHARGES`, and the shares the paper quotes."""
    every, tracks = statistics.intensity_histograms(truth, CHARGES)
    shares = statistics.pixel_fractions(truth)
    return {
        "every": every.tolist(),
        "tracks": tracks.tolist(),
        "above_0": shares.above_0,
        "one_electron": shares.one_electron,
    }


def measure_sources(
    frame: HitFrame, result: crmend.CleanResult, limit: float
) -> dict[str, dict[str, Any]]:
    """Find, match and measure the sources of the frame under each of `METHODS`.

    Parameters
    ----------
    frame : HitFrame
    result : CleanResult
        Of the same exposure.
    limit : float
        Sources brighter than it count as ``usable``, and have the SSIM of their cutouts
        taken [mag].

    Returns
    -------
    dict
        ``sources``, ``usable``, ``found`` as `measure_frame` has them.
    """
    table = frame.catalog
    x, y, mag = (np.asarray(table[name], float) for name in ("x", "y", "mag"))
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    ny, nx = frame.image.shape
    inside = (x >= _EDGE) & (y >= _EDGE) & (x < nx - 1 - _EDGE) & (y < ny - 1 - _EDGE)
    distance = distances_to(frame.true_mask, x, y)
    kept = inside & (distance <= FARTHEST)
    columns: dict[str, NDArray] = {
        "type": kinds[kept], "mag": mag[kept], "distance": distance[kept],
        "x": x[kept], "y": y[kept],
    }  # fmt: skip
    found = {}
    for method in METHODS:
        measured, counts = _measure_method(frame, result, method, (x, y, mag))
        columns[method], found[method] = measured[kept], counts
    columns |= _similarities(frame, result, columns, limit)
    usable = {kind: int((inside & (mag < limit) & (kinds == kind)).sum()) for kind in _KINDS}
    rounded = {name: _plain(values) for name, values in columns.items()}
    return {"sources": rounded, "usable": usable, "found": found}


def image_of(frame: HitFrame, result: crmend.CleanResult, method: str) -> NDArray[np.float32]:
    """Return the image that one of `METHODS` measures; "masked" leaves pixels of it out."""
    images = {"mended": result.image, "CR-free": frame.clean}
    return images.get(method, frame.image)


def _measure_method(
    frame: HitFrame, result: crmend.CleanResult, method: str, places: tuple[NDArray, ...]
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Return the magnitude of each catalogue source, NaN = not found, and the counts."""
    left_out = result.cr_mask if method == "masked" else None
    image = image_of(frame, result, method)
    found = measure_image(image, frame.invalid, frame.zero_point, left_out)
    index = match_sources(*places, found.x, found.y)
    mags = np.full(index.size, np.nan)
    mags[index >= 0] = found.mag[index[index >= 0]]
    spurious = np.ones(len(found), bool)
    spurious[index[index >= 0]] = False
    near = distances_to(frame.true_mask, found.x[spurious], found.y[spurious]) <= AFFECTED
    counts = {"all": len(found), "spurious": int(spurious.sum()), "near": int(near.sum())}
    return mags, counts


def _similarities(
    frame: HitFrame, result: crmend.CleanResult, columns: dict[str, NDArray], limit: float
) -> dict[str, NDArray]:
    """Return the SSIM of cutouts of affected sources with those of the CR-free image."""
    wanted = (columns["distance"] <= AFFECTED) & (columns["mag"] < limit)
    images = {name: image_of(frame, result, name) for name in METHODS[:3]}
    images["masked"] = np.where(result.cr_mask, frame.background, frame.image)
    out = {f"ssim {name}": np.full(wanted.size, np.nan) for name in images}
    clean = np.nan_to_num(frame.clean)
    for i in np.flatnonzero(wanted):
        row, column = round(columns["y"][i]), round(columns["x"][i])
        window = np.s_[
            row - CUTOUT_HALF : row + CUTOUT_HALF + 1,
            column - CUTOUT_HALF : column + CUTOUT_HALF + 1,
        ]
        reach = float(np.ptp(clean[window]))
        for name, image in images.items():
            stamp = np.nan_to_num(image[window])
            out[f"ssim {name}"][i] = structural_similarity(clean[window], stamp, reach)
    return out


def _plain(values: NDArray) -> list:
    """Return a column as JSON has it: four decimals, null for what is not a number."""
    if values.dtype.kind == "U":
        return values.tolist()
    return [round(v, 4) if np.isfinite(v) else None for v in values.tolist()]
