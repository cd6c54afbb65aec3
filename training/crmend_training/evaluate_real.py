"""Detection on real exposures that training never saw, beside deepCR and astroscrappy.

All methods (`evaluate_peers`) get the same electrons, bias subtracted and sky included, and
know the same bad, hot and saturated pixels: crmend fills what is bad itself, the others see
it filled by the median of its neighbours, and astroscrappy takes it as its mask too.  Those
pixels, and those where the truth is unsure, take no part in any score.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

import crmend
from crmend._kernels import fill_invalid
from crmend.errors import CrmendWarning
from crmend_training import datasets

RECALL = 0.9
"""Share of truth pixels at which methods are compared: precision at 90 % recall."""

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Instrument:
    """Exposures of one instrument, and what its header or the data's README says of it.

    Attributes
    ----------
    name, pattern : str
        The pattern is relative to the folder of real exposures.
    gain, bias, read_noise : float
        [e-/unit], [unit], [e-].
    adu : float
        Electrons per ADU, where `gain` is 1 because the file is in electrons.
    full : float
        Saturated at and above [unit].
    fwhm : float
        Of a star or a slit's image [px].
    repeated : bool
        The files show the same field: what stands out of its neighbours at the same pixel in
        many of them is a hot pixel.
    clear : int
        Leave out what lies so near to a saturated pixel, too [px].
    """

    name: str
    pattern: str
    gain: float
    bias: float
    read_noise: float
    adu: float
    full: float
    fwhm: float
    repeated: bool = True
    clear: int = 0


# HRC: electrons (header BUNIT), ATODGN 2, A/D limit; SAAO: bias from the overscan of the raw
# frame of the same camera; the others from the README of the data.
# AstroDrizzle's truth of the HRC also marks steps in the light around the bleeding star, which
# no method takes for cosmic rays: hence the second entry.
_HRC = Instrument(
    "HRC 47 Tuc", "hst/acs_hrc_j8bt06nyq_flt.fits*", 1.0, 0.0, 4.71, 2.0, 130_000.0, 2.2, False
)
INSTRUMENTS = (
    _HRC,
    replace(_HRC, name="HRC 47 Tuc, 30 px clear of saturation", clear=30),
    Instrument("ISIS", "isis_red/isis_r*.fits*", 0.98, 796.0, 4.0, 0.98, 65_000.0, 3.5),
    Instrument("SAAO", "saao_i_band/AKB*.fits*", 1.9, 214.0, 5.0, 1.9, 65_000.0, 6.0),
)


@dataclass(frozen=True, eq=False)
class RealFrame:
    """A real exposure with its truth, all (ny, nx).

    Attributes
    ----------
    name : str
    image : float32 array
        [e-], sky included; bad and hot pixels as they are.
    filled : float32 array
        The same with bad and hot pixels filled.
    invalid, saturated : bool arrays
        True = bad, hot or not a number; True = saturated.
    truth : bool array
        True = cosmic ray.
    ignore : bool array
        True = takes no part: invalid, saturated, or the truth is unsure.
    """

    name: str
    image: NDArray[np.float32]
    filled: NDArray[np.float32]
    invalid: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    ignore: NDArray[np.bool_]


def read_instrument(folder: Path, instrument: Instrument) -> list[RealFrame]:
    """Return an instrument's exposures, cut to the box that holds all pixels of sure truth.

    The cut removes overscans.  The list is empty where there is no such file.
    """
    paths = sorted(Path(folder).glob(instrument.pattern))
    planes = [_read_planes(path, instrument) for path in paths]
    fixed = np.zeros((1, 1), dtype=bool)
    if instrument.repeated and len(planes) > 1:
        every = [image * np.float32(instrument.gain) for image, *_ in planes]
        fixed = fixed_pixels(every, instrument.read_noise)
    frames = []
    for path, (image, invalid, saturated, truth, unsure) in zip(paths, planes, strict=True):
        box = ndimage.find_objects((~unsure).astype(np.int8))[0]
        bad = (invalid | fixed)[box]
        electrons = np.ascontiguousarray(image[box] * np.float32(instrument.gain))
        filled = np.empty_like(electrons)
        fill_invalid(electrons, bad, float(np.median(electrons[~bad])), filled)
        ignore = bad | unsure[box] | _near(saturated[box], instrument.clear)
        name = path.name.split(".")[0] + ("_clear" if instrument.clear else "")
        frames.append(
            RealFrame(name, electrons, filled, bad, saturated[box], truth[box], ignore)
        )
    return frames


def _near(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return what lies within a radius of a mask, itself included."""
    if radius == 0 or not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius)


def _read_planes(path: Path, instrument: Instrument) -> tuple[NDArray, ...]:
    """Return image minus bias, invalid, saturated, truth, unsure of one file."""
    with fits.open(path, memmap=False) as hdus:
        truth, unsure = (hdus[name].data > 0 for name in ("CRTRUTH", "UNSURE"))
        has_flags = "DQ" in hdus
    if has_flags:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CrmendWarning)
            exposure = crmend.read_exposure(path)
    else:
        exposure = datasets.read_any(path, gain=instrument.gain)
    saturated = exposure.saturated | (exposure.image >= instrument.full)
    image = exposure.image - np.float32(instrument.bias)
    return image, exposure.invalid, saturated, truth, unsure


def fixed_pixels(
    electrons: Sequence[NDArray[np.float32]], read_noise: float
) -> NDArray[np.bool_]:
    """Return the hot pixels of frames of one chip.

    A hot pixel is higher than all its eight neighbours by two sigma (photons and read noise)
    in at least a third of the frames, and in two.

    Parameters
    ----------
    electrons : sequence of (ny, nx) float32 arrays
        Bias subtracted.
    read_noise : float
        [e-]
    """
    count = np.zeros(electrons[0].shape, dtype=int)
    ring = _EIGHT.copy()
    ring[1, 1] = False
    for image in electrons:
        sigma = np.sqrt(np.maximum(image, 0.0) + read_noise**2)
        count += image - ndimage.maximum_filter(image, footprint=ring) > 2.0 * sigma
    return count >= max(2, -(-len(electrons) // 3))


# --- scores ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Pixels of an instrument's frames, ranked by probability.

    Attributes
    ----------
    threshold : (n,) array
        Probabilities, descending, each once.
    hits, alarms, loose : (n,) arrays
        Truth pixels, false pixels, and false pixels that touch no truth pixel, at or above.
    truth : int
        Truth pixels.
    """

    threshold: NDArray[np.float32]
    hits: NDArray[np.int64]
    alarms: NDArray[np.int64]
    loose: NDArray[np.int64]
    truth: int

    def at_recall(self, recall: float) -> dict[str, float]:
        """Return threshold and precisions of the highest threshold with that recall."""
        index = int(np.searchsorted(self.hits, recall * self.truth - 1e-9))
        return self._at(min(index, len(self.hits) - 1))

    def at_threshold(self, threshold: float) -> dict[str, float]:
        """Return recall and precisions of the pixels at or above a threshold."""
        return self._at(
            int(np.searchsorted(-self.threshold, -np.float32(threshold), "right")) - 1
        )

    def _at(self, index: int) -> dict[str, float]:
        if index < 0:
            nan = float("nan")
            return {"threshold": nan, "recall": 0.0, "precision": nan, "precision_loose": nan}
        hits = int(self.hits[index])
        return {
            "threshold": float(self.threshold[index]),
            "recall": hits / max(self.truth, 1),
            "precision": hits / max(hits + int(self.alarms[index]), 1),
            "precision_loose": hits / max(hits + int(self.loose[index]), 1),
        }


def rank(frames: Sequence[RealFrame], probabilities: Sequence[NDArray]) -> Ranking:
    """Rank the pixels of frames that take part."""
    keep = [~frame.ignore for frame in frames]
    score = np.concatenate([p[k] for p, k in zip(probabilities, keep, strict=True)])
    truth = np.concatenate([f.truth[k] for f, k in zip(frames, keep, strict=True)])
    edge = np.concatenate(
        [ndimage.binary_dilation(f.truth, _EIGHT)[k] for f, k in zip(frames, keep, strict=True)]
    )
    order = np.argsort(-score, kind="stable")
    score, truth, edge = score[order], truth[order], edge[order]
    # The last one of equal scores; none where no pixel takes part.
    last = np.flatnonzero(np.append(score[1:] != score[:-1], score.size > 0))
    return Ranking(
        score[last],
        np.cumsum(truth)[last],
        np.cumsum(~truth)[last],
        np.cumsum(~edge)[last],
        int(truth.sum()),
    )


def mask_row(
    frames: Sequence[RealFrame], masks: Sequence[NDArray[np.bool_]]
) -> dict[str, float]:
    """Return recall, precision and precision without edges of masks."""
    ranking = rank(frames, [mask.astype(np.float32) for mask in masks])
    return ranking.at_threshold(1.0)


def best_f1(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the largest harmonic mean of recall and precision."""
    return max(
        rows,
        key=lambda r: 2 * r["recall"] * np.nan_to_num(r["precision"])
        / max(r["recall"] + np.nan_to_num(r["precision"]), 1e-9),
    )  # fmt: skip


def nearest_recall(rows: Sequence[dict[str, Any]], recall: float = RECALL) -> dict[str, Any]:
    """Return the most precise row with that recall, or else the one of the highest recall."""
    reached = [row for row in rows if row["recall"] >= recall]
    if reached:
        return max(reached, key=lambda row: row["precision"])
    return max(rows, key=lambda row: row["recall"])
