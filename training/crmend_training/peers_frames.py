"""The benchmark's frames: simulated pairs and real exposures in one form."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

import crmend
from crmend._normalise import measure_scale
from crmend_training import datasets, simulate
from crmend_training.classical_fills import prepared
from crmend_training.evaluate_figures import busiest_window
from crmend_training.evaluate_real import Instrument, RealFrame
from crmend_training.mending_frames import HitFrame, read_frame
from crmend_training.peers_worker.finders import WorkFrame

CSST_FWHM = 2.0
"""Of a star on CSST chips [px], as `evaluate.run_astroscrappy` assumes it."""

TRUE_CHARGE = 1000.0
"""What a CR pixel of a real exposure counts as [e-]: well above any limit of the scores."""

SEEDS = {"test": 870_000, "validation": 880_000}
"""Of the frames that the benchmark simulates itself; no recipe has them."""

DETECTORS = (8, 12, 7, 14, 9, 11, 6, 13)
LAWS = ("paper", "physical", "paper-subpixel")
FIELDS = ("low", "mid", "cluster")
"""Chips, CR laws and star densities of those frames, in turn."""


@dataclass(frozen=True, eq=False)
class BenchFrame:
    """A frame with its truth; arrays (ny, nx).

    Attributes
    ----------
    name, stratum : str
        The stratum is the CR law of a simulated frame, or the instrument of a real one.
    work : WorkFrame
        What the methods are given, in electrons.
    cr : float32 array
        CR truth [e-/px]; `TRUE_CHARGE` where a real exposure has a CR.
    ignore : bool array
        True = takes no part in detection's scores.
    hit : HitFrame or None
        With CR-free twin and catalogue, for the scores of mending.
    tasks : tuple of {"detect", "mend"}
        What it is for.
    """

    name: str
    stratum: str
    work: WorkFrame
    cr: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    hit: HitFrame | None = None
    tasks: tuple[str, ...] = ("detect",)

    def fingerprint(self) -> str:
        """Return a hash of what the methods and the scores see."""
        work, hit = self.work, self.hit
        planes = [work.image, work.filled, work.mask, work.invalid, work.saturated]
        planes += [self.cr, self.ignore]
        numbers: list[object] = [work.background, work.noise, work.read_noise, work.full]
        numbers += [work.adu, work.fwhm, work.detector]
        if hit is not None:
            planes += [hit.clean, hit.background]
            numbers += [hit.noise, hit.electrons, hit.zero_point, hit.catalog.colnames]
            numbers += [np.asarray(hit.catalog[name]).tolist() for name in hit.catalog.colnames]
        digest = hashlib.sha1(repr(numbers).encode())
        for plane in planes:
            digest.update(np.ascontiguousarray(plane))
        return digest.hexdigest()[:16]


# --- simulated ------------------------------------------------------------------------


def read_pair(pair: datasets.Pair, size: int | None = None) -> BenchFrame:
    """Read a simulated pair, or the middle of it.

    Without a CR-free twin and a catalogue it takes part in detection only.

    Parameters
    ----------
    pair : Pair
    size : int or None
        Side of the part [px]; None = the whole frame.
    """
    exposure = crmend.read_exposure(pair.level1)
    window = _middle(exposure.image.shape, size)
    electrons = float(exposure.electrons_per_unit or 1.0)
    image = np.ascontiguousarray(exposure.image[window] * np.float32(electrons))
    invalid, saturated = exposure.invalid[window], exposure.saturated[window]
    cr = datasets.read_truth(pair, exposure.image.shape)[window]
    hit = None
    if pair.clean is not None and pair.catalog is not None:
        hit = _cut(read_frame(pair), window)
    work = _work_frame(
        image,
        invalid,
        saturated,
        mask=np.zeros(image.shape, bool) if hit is None else hit.true_mask,
        read_noise=float(exposure.read_noise or 5.0),
        full=float(exposure.saturation or np.inf) * electrons,
        adu=float(exposure.header.get("GAIN1", 1.0)),
        fwhm=CSST_FWHM,
        detector=str(exposure.detector),
    )
    law = fits.getheader(pair.level1).get("SIMCRLAW", "unknown")
    name = pair.level1.name.split(".")[0]
    tasks = ("detect",) if hit is None else ("detect", "mend")
    return BenchFrame(name, f"simulated, {law}", work, cr, invalid | saturated, hit, tasks)


def _middle(shape: tuple[int, ...], size: int | None) -> tuple[slice, ...]:
    """Return the window of size × size, or what fits, in the middle of a frame."""
    if size is None:
        return tuple(slice(0, n) for n in shape)
    return tuple(slice(max((n - size) // 2, 0), max((n - size) // 2, 0) + size) for n in shape)


def _cut(frame: HitFrame, window: tuple[slice, ...]) -> HitFrame:
    """Return a part of a frame, with the sources that lie in it."""
    rows, columns = window
    table = frame.catalog.copy()
    table["x"] = np.asarray(table["x"], float) - columns.start
    table["y"] = np.asarray(table["y"], float) - rows.start
    names = ("image", "clean", "truth", "invalid", "saturated", "background")
    cut = {name: np.ascontiguousarray(getattr(frame, name)[window]) for name in names}
    ny, nx = cut["image"].shape
    x, y = table["x"], table["y"]
    inside = (x >= 0) & (y >= 0) & (x <= nx - 1) & (y <= ny - 1)
    return replace(frame, **cut, error=None, catalog=table[np.asarray(inside)])


def _work_frame(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    **known,
) -> WorkFrame:
    """Return what the methods are given; background and noise are measured."""
    scale = measure_scale(image, invalid | saturated | known["mask"])
    return WorkFrame(
        image=image,
        filled=prepared(image, invalid, scale.background),
        invalid=invalid | ~np.isfinite(image),
        saturated=saturated,
        background=float(scale.background),
        noise=float(scale.noise),
        **known,
    )


def simulate_frames(folder: Path, kind: str, frames: int, size: int) -> list[datasets.Pair]:
    """Write a seeded set of pairs with CR-free twins, or find it there already.

    Parameters
    ----------
    folder : Path
    kind : {"test", "validation"}
        Of different seeds.
    frames, size : int
        Number, and side [px].

    Raises
    ------
    ValueError
        A frame that is there already is of another law or size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        config = simulate.SimulationConfig(
            DETECTORS[number % len(DETECTORS)],
            (size, size),
            seed=SEEDS[kind] + number,
            field=FIELDS[number % len(FIELDS)],
            law=LAWS[number % len(LAWS)],
        )
        # The Level 1 file is written last: where it is, the others are.
        level1 = folder / simulate.file_name(config, "SCI", 1)
        if level1.is_file():
            _check_same(level1, config)
        else:
            simulate.write_pair(simulate.simulate_exposure(config), folder, without_cr=True)
    return datasets.find_pairs(folder)


def _check_same(level1: Path, config: simulate.SimulationConfig) -> None:
    """Refuse a frame that an earlier version, or a run of another size, has left."""
    with fits.open(level1) as hdus:
        found = hdus[0].header.get("SIMCRLAW"), hdus["SCI"].shape
    if found != (config.law, config.shape):
        raise ValueError(
            f"{level1} has law and shape {found}, expected {(config.law, config.shape)}; "
            "give another --out, or remove the folder of these frames"
        )


# --- real -----------------------------------------------------------------------------


def real_frame(frame: RealFrame, instrument: Instrument) -> BenchFrame:
    """Return a real exposure in the benchmark's form."""
    work = _work_frame(
        frame.image,
        frame.invalid,
        frame.saturated,
        mask=np.zeros(frame.image.shape, bool),
        read_noise=instrument.read_noise,
        full=(instrument.full - instrument.bias) * instrument.gain,
        adu=instrument.adu,
        fwhm=instrument.fwhm,
        detector="",
    )
    cr = np.where(frame.truth, np.float32(TRUE_CHARGE), np.float32(0.0))
    return BenchFrame(frame.name, instrument.name, work, cr, frame.ignore)


def busiest_frames(
    frames: Sequence[BenchFrame], most: int | None, size: int | None
) -> list[BenchFrame]:
    """Return the frames with most CR pixels first, so many of them, their busiest parts.

    None = all of them; the whole frame.
    """
    parts = list(frames) if size is None else [busiest_part(one, size) for one in frames]
    parts.sort(key=lambda one: int(((one.cr > 0) & ~one.ignore).sum()), reverse=True)
    return parts[:most]


def busiest_part(frame: BenchFrame, side: int) -> BenchFrame:
    """Return the part of a frame with most CR pixels, for detection."""
    window = busiest_window((frame.cr > 0) & ~frame.ignore, side)
    names = ("image", "filled", "invalid", "saturated", "mask")
    arrays = {n: np.ascontiguousarray(getattr(frame.work, n)[window]) for n in names}
    return replace(
        frame,
        hit=None,
        tasks=("detect",),
        work=replace(frame.work, **arrays),
        cr=np.ascontiguousarray(frame.cr[window]),
        ignore=np.ascontiguousarray(frame.ignore[window]),
    )
