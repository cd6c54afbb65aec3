"""Level 1 exposures and their truth: found on disk, read, normalised as the runtime does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend import _normalise
from crmend._fits import open_fits
from crmend._kernels import fill_invalid
from crmend.errors import CrmendWarning
from crmend.exposure import Exposure, read_exposure
from crmend_training.datasets.fields import Place, place_of

LABEL_THRESHOLD = 1.0
"""A pixel is a CR for training above this charge [e-] (paper, section 2.1)."""

ROUNDING = 1.0
"""CR truth down to minus this [e-] counts as 0: rounding, as convolutions and lossy compression
leave it.  It is `LABEL_THRESHOLD`: what is off by more makes and hides cosmic rays."""

MEASURED_SEED, MEASURED_EDGE = 4.0, 2.0
"""S/N from which a pixel is a CR where truth is measured, and where it touches such a one
(assumed; what comparisons of exposures take is between 3 and 5, and 1 and 3)."""

_EDGES = (1.5, 4.5)
"""Range of `MEASURED_EDGE` where it is drawn for each camera, as comparisons differ in it:
pixels of ISIS truth begin at 4, of HRC truth (AstroDrizzle) at 8, of SAAO at 2 sigma."""

_LEAST, _FAINT = 0.5, 0.3  # background noises: least charge of a CR, most of a pixel without

_EIGHT = np.ones((3, 3), dtype=bool)

_UNMAPPED = 0.4
"""Share of other cameras whose bad pixels and columns nobody has mapped (assumed)."""

_MANY_HOT = 1.5e-3
"""Hot pixels without a flag, per pixel, from which on single bright pixels are not taken for
cosmic rays (assumed).  Where there are fewer, nobody can tell, and they teach nothing."""

DRAWN = ("generic ", "zoo ")
"""How the names of frames begin that are drawn for a set, not read from files."""

_NAME = re.compile(r"CSST_MSC_MS_([A-Z]+)_(\d{14})_(\d{14})_(\d{9,14})_(\d{2})_L(\d)_(V?\d+)")


@dataclass(frozen=True)
class Pair:
    """A Level 1 exposure and its Level 0 CR truth.

    Attributes
    ----------
    level1, truth : Path
        FITS files; the truth holds e-/px in its first image.
    clean : Path or None
        The same exposure without CRs (kind ``NCR``), where a simulation wrote one.
    catalog : Path or None
        The input catalogue (kind ``CAT``), where a simulation wrote one.
    """

    level1: Path
    truth: Path
    clean: Path | None = None
    catalog: Path | None = None

    @property
    def name(self) -> str:
        """Return the name of its frame."""
        return self.level1.stem

    @property
    def detector(self) -> int:
        """Number of the chip, from the file's name.

        Raises
        ------
        ValueError
            The name has no chip in it.
        """
        match = _NAME.match(self.level1.name)
        if match is None:
            raise ValueError(f"{self.level1.name} is no CSST_MSC_MS_… name with a chip in it")
        return int(match[5])


@dataclass(frozen=True)
class Frame:
    """One pair in memory, in the form the networks see.

    Attributes
    ----------
    image : (ny, nx) float32
        Level 1 in noise units, invalid pixels filled.
    cr : (ny, nx) float32
        CR truth [e-/px].
    invalid, saturated : (ny, nx) bool
        True = bad, hot or NaN; True = saturated.
    name : str
    clean : (ny, nx) float32 or None
        The same exposure without CRs, in the same noise units, where it is known.
    unsure : (ny, nx) bool or None
        True = whether this is a CR is not known (truth that was measured, not simulated).
    place : Place
        Where on the sky the frame lies; without any it is a field of its own.
    label : float
        A pixel is a CR for detection above this charge [e-].
    """

    image: NDArray[np.float32]
    cr: NDArray[np.float32]
    invalid: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    name: str
    clean: NDArray[np.float32] | None = None
    unsure: NDArray[np.bool_] | None = None
    place: Place = field(default_factory=Place)
    label: float = LABEL_THRESHOLD

    @property
    def ignore(self) -> NDArray[np.bool_]:
        """True = take no part in training and scoring."""
        known = self.invalid | self.saturated
        return known if self.unsure is None else known | self.unsure


def find_pairs(folder: Path) -> list[Pair]:
    """Pair every Level 1 file below a folder with its CR truth by observation and chip.

    Raises
    ------
    FileNotFoundError
        There is no pair, or a Level 1 file has no truth.
    """
    found: dict[str, dict[tuple[str, str], Path]] = {
        k: {} for k in ("SCI", "CRS", "NCR", "CAT")
    }
    for path in sorted(Path(folder).rglob("*.fits*")):
        match = _NAME.match(path.name)
        if match is None or match[1] not in found or (match[1] == "SCI" and match[6] != "1"):
            continue
        found[match[1]][match[4], match[5]] = path
    level1, truth = found["SCI"], found["CRS"]
    if not level1:
        raise FileNotFoundError(f"no Level 1 file (CSST_MSC_MS_SCI_…_L1_…) below {folder}")
    lonely = [path.name for key, path in level1.items() if key not in truth]
    if lonely:
        raise FileNotFoundError(
            f"{lonely[0]} has no CR truth (CSST_MSC_MS_CRS_…_L0_…) of the same observation "
            f"and chip below {folder}"
        )
    return [
        Pair(level1[key], truth[key], found["NCR"].get(key), found["CAT"].get(key))
        for key in sorted(level1)
    ]


_T = TypeVar("_T")


def few_of(items: Sequence[_T], most: int | None) -> list[_T]:
    """Return at most so many pairs or files, evenly chosen from first to last; None = all."""
    if most is None or most >= len(items):
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, most).astype(int)]


def read_image(path: Path) -> NDArray[np.float32]:
    """Return the first image of a file (CR truth in e-/px, CR-free twin), native float32.

    Raises
    ------
    ValueError
        The file holds no 2-D image.
    """
    with open_fits(path) as hdus:
        for hdu in hdus:
            if hdu.data is not None and hdu.data.ndim == 2:
                return np.ascontiguousarray(hdu.data, dtype=np.float32)
    raise ValueError(f"{path} holds no 2-D image")


def read_truth(pair: Pair, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the CR truth of a pair [e-/px], 0 or more, of the shape of its Level 1 image.

    Raises
    ------
    ValueError
        It has another shape, is not finite everywhere, or below `-ROUNDING`.
    """
    truth = _read_alike(pair.truth, shape)
    if unknown := truth.size - int(np.isfinite(truth).sum()):
        raise ValueError(
            f"{pair.truth} is NaN or infinite at {unknown} of {truth.size} pixels; expected "
            "charges in e-, 0 where there is no cosmic ray"
        )
    if below := int((truth < -ROUNDING).sum()):
        raise ValueError(
            f"{pair.truth} is below zero at {below} of {truth.size} pixels, down to "
            f"{truth.min():g}; expected charges in e-, 0 where there is no cosmic ray (down to "
            f"{-ROUNDING:g} counts as 0): give what cosmic rays added, without noise and sky"
        )
    return np.maximum(truth, np.float32(0.0))


def read_clean(pair: Pair, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the CR-free twin of a pair that has one, of the shape of its Level 1 image.

    Its noise may well be below zero.

    Raises
    ------
    ValueError
        It has another shape.
    """
    assert pair.clean is not None
    return _read_alike(pair.clean, shape)


def _read_alike(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    image = read_image(path)
    if image.shape != shape:
        raise ValueError(
            f"{path} has shape {image.shape}, its Level 1 image {shape}; expected the same"
        )
    return image


def read_any(path: Path, gain: float | None = None, extver: int = 1) -> Exposure:
    """Read an exposure of any instrument, without a word on whether a network suits it.

    Parameters
    ----------
    path : Path
    gain : float or None
        e-/ADU, for files in ADU whose header does not say it.
    extver : int
        Number of the chip, from 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrmendWarning)
        return read_exposure(path, instrument="generic", extver=extver, gain=gain)


def load_frame(pair: Pair) -> Frame:
    """Read a pair and normalise it exactly as the runtime does.

    Raises
    ------
    ValueError
        Image, truth and twin differ in shape, or truth is no charge (`read_truth`).
    """
    exposure = read_exposure(pair.level1)
    cr = read_truth(pair, exposure.image.shape)
    frame = make_frame(
        exposure.image,
        exposure.invalid,
        exposure.saturated,
        cr,
        pair.name,
        None if pair.clean is None else read_clean(pair, exposure.image.shape),
    )
    return replace(frame, place=place_of(exposure.header, exposure.image.shape))


def make_frame(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    cr: NDArray[np.float32],
    name: str,
    clean: NDArray[np.float32] | None = None,
) -> Frame:
    """Normalise plain arrays into a `Frame` (see there for shapes and units)."""
    invalid = invalid | ~np.isfinite(image)
    scale = _normalise.measure_scale(image, invalid | saturated)

    def normalised(array: NDArray[np.float32]) -> NDArray[np.float32]:
        filled = np.empty_like(array)
        fill_invalid(array, invalid, scale.background, filled)
        return _normalise.to_noise_units(filled, scale)

    clean = None if clean is None else normalised(clean)
    return Frame(normalised(image), cr, invalid, saturated, name, clean)


def generic_frame(
    seed: int,
    shape: tuple[int, int],
    label_sigma: float = 0.0,
    *,
    measured: bool = False,
    tight: bool = False,
    unusual: float = 0.0,
    kinds: Sequence[str] | None = None,
) -> Frame:
    """Return a simulated frame of some other instrument, for the pack ``generic``.

    Parameters
    ----------
    seed : int
    shape : (int, int)
    label_sigma : float
        A pixel is a CR above so many background noises, and above `LABEL_THRESHOLD`: where
        the noise is 40 e-, an electron more or less marks nothing that anybody could see.
    measured : bool
        CRs are instead what a comparison with other exposures would call so
        (`measured_mask`); CR pixels that it would not see are `unsure`, and so are single hot
        pixels without a flag.  Some of these cameras have bad columns that no flag names.
    tight : bool
        With `measured`: each camera's comparison has an edge of its own (1.5 to 4.5 sigma),
        and what it would not see beside a pixel that it would is no CR, instead of `unsure`.
        So the probability of a rim's pixel rises with its S/N.
    unusual : float
        Probability that the camera or field has a rare property (`simulate.unusual`).
    kinds : sequence of str or None
        Those that it is one of; None = `simulate.unusual.KINDS`.
    """
    from crmend_training import simulate

    sim = simulate.generic_exposure(
        np.random.default_rng(seed), shape, keep_light=measured, unusual=unusual, kinds=kinds
    )
    unmapped = measured and np.random.default_rng([seed, 1]).random() < _UNMAPPED
    invalid, saturated = (sim.flag & (6 if unmapped else 7)) != 0, (sim.flag & 8) != 0
    frame = make_frame(sim.image, invalid, saturated, sim.cr_truth, f"{DRAWN[0]}{seed}")
    noise = _normalise.measure_scale(sim.image, invalid | saturated).noise * sim.exposure_time
    if sim.light is None:
        return replace(frame, label=max(LABEL_THRESHOLD, label_sigma * noise))
    excess = (sim.image - sim.light) / np.maximum(sim.error, np.finfo(np.float32).tiny)
    # With what trails behind a cosmic ray, which another exposure shows as well.
    added = (sim.image - sim.image_without_cr) * np.float32(sim.exposure_time)
    charge = added / np.float32(noise)
    edge = np.random.default_rng([seed, 2]).uniform(*_EDGES) if tight else MEASURED_EDGE
    marked = measured_mask(excess, charge, edge)
    unsure = ~marked & (charge > _FAINT)
    if tight:
        unsure &= ~ndimage.binary_dilation(marked, _EIGHT)
    if sim.unknown_hot is not None and sim.unknown_hot[0].size < _MANY_HOT * unsure.size:
        unsure[sim.unknown_hot] = True
    seen = np.where(marked, added, np.float32(0.0))
    return replace(frame, cr=seen, unsure=unsure, label=0.0)


def measured_mask(
    excess: NDArray[np.float32], charge: NDArray[np.float32], edge: float = MEASURED_EDGE
) -> NDArray[np.bool_]:
    """Return the CR pixels that a comparison of exposures would find.

    Truth of real exposures is made so: what stands out from the expected light by
    `MEASURED_SEED` sigma, and what touches it from an edge on.

    Parameters
    ----------
    excess : (ny, nx) float32
        Image minus expected light, in sigma of the pixel, noise included.
    charge : (ny, nx) float32
        CR charge in background noises; pixels below half a noise are none.
    edge : float
        [sigma]; a higher one is the seed, too.
    """
    seen = (excess > edge) & (charge > _LEAST)
    labels, count = ndimage.label(seen, _EIGHT)
    found = np.zeros(count + 1, dtype=bool)
    found[labels[seen & (excess > MEASURED_SEED)]] = True
    found[0] = False
    return found[labels]


def zoo_frame(seed: int, detector: int) -> Frame:
    """Return a frame of things that look like cosmic rays and are none (`zoo.make_zoo`)."""
    from crmend_training.zoo import make_zoo

    sim = make_zoo(detector, seed).exposure
    invalid, saturated = (sim.flag & 3) != 0, (sim.flag & 8) != 0
    name = f"{DRAWN[1]}{detector:02d} {seed}"
    return make_frame(sim.image, invalid, saturated, sim.cr_truth, name)
