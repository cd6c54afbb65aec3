"""Data sets from FITS pairs: a Level 1 exposure and its Level 0 CR truth.

Nothing here knows the simulator: the pairs may come from it, from the official
simulation or from orbit.  A data set is a folder of plain ``.npy`` arrays (read
through memory maps) beside a ``set.json`` with the frames it came from and a fingerprint.

=============  =============================  ==========================================
array          shape, dtype                   content
=============  =============================  ==========================================
detect/image   (n, s, s) float32              Level 1 in noise units (background removed)
detect/mask    (n, s, s) bool                 True = CR > 1 e- (paper, section 2.1)
detect/ignore  (n, s, s) bool                 True = bad, hot, saturated or NaN
detect/frame   (n,) int32                     index into ``frames`` of ``set.json``
inpaint/image  (m, 64, 64) float32            CR-free cutouts on sources, noise units
inpaint/frame  (m,) int32                     as above
inpaint/cr     (k, 64, 64) float32            isolated CRs of Level 1, noise units
inpaint/crmask (k, 64, 64) bool               their pixels > 1 e-
inpaint/crframe (k,) int32                    as above
=============  =============================  ==========================================
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from crmend import _normalise
from crmend._kernels import fill_invalid
from crmend.exposure import read_exposure
from crmend.sources import find_sources

CUTOUT = 64
"""Side of an inpainting cutout [px] (paper, section 2.2)."""

LABEL_THRESHOLD = 1.0
"""A pixel is a CR for training above this charge [e-] (paper, section 2.1)."""

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
    """

    level1: Path
    truth: Path
    clean: Path | None = None


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
    """

    image: NDArray[np.float32]
    cr: NDArray[np.float32]
    invalid: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    name: str
    clean: NDArray[np.float32] | None = None

    @property
    def ignore(self) -> NDArray[np.bool_]:
        """True = take no part in training and scoring."""
        return self.invalid | self.saturated


def find_pairs(folder: Path) -> list[Pair]:
    """Pair every Level 1 file below a folder with its CR truth by observation and chip.

    Raises
    ------
    FileNotFoundError
        There is no pair, or a Level 1 file has no truth.
    """
    level1: dict[tuple[str, str], Path] = {}
    truth: dict[tuple[str, str], Path] = {}
    clean: dict[tuple[str, str], Path] = {}
    for path in sorted(Path(folder).rglob("*.fits*")):
        match = _NAME.match(path.name)
        if match is None:
            continue
        key = (match[4], match[5])
        if match[1] == "SCI" and match[6] == "1":
            level1[key] = path
        elif match[1] == "CRS":
            truth[key] = path
        elif match[1] == "NCR":
            clean[key] = path
    if not level1:
        raise FileNotFoundError(f"no Level 1 file (CSST_MSC_MS_SCI_…_L1_…) below {folder}")
    lonely = [path.name for key, path in level1.items() if key not in truth]
    if lonely:
        raise FileNotFoundError(
            f"{lonely[0]} has no CR truth (CSST_MSC_MS_CRS_…_L0_…) of the same observation "
            f"and chip below {folder}"
        )
    return [Pair(level1[key], truth[key], clean.get(key)) for key in sorted(level1)]


def read_image(path: Path) -> NDArray[np.float32]:
    """Return the first image of a file (CR truth in e-/px, CR-free twin), native float32."""
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.data is not None and hdu.data.ndim == 2:
                return np.ascontiguousarray(hdu.data, dtype=np.float32)
    raise ValueError(f"{path} holds no 2-D image")


def load_frame(pair: Pair) -> Frame:
    """Read a pair and normalise it exactly as the runtime does."""
    exposure = read_exposure(pair.level1)
    cr = read_image(pair.truth)
    if cr.shape != exposure.image.shape:
        raise ValueError(
            f"{pair.truth} has shape {cr.shape}, its Level 1 image {exposure.image.shape}"
        )
    clean = None if pair.clean is None else read_image(pair.clean)
    return make_frame(
        exposure.image, exposure.invalid, exposure.saturated, cr, pair.level1.stem, clean
    )


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


def generic_frame(seed: int, shape: tuple[int, int]) -> Frame:
    """Return a simulated frame of some other instrument, for the pack ``generic``."""
    from crmend_training import simulate

    sim = simulate.generic_exposure(np.random.default_rng(seed), shape)
    invalid, saturated = (sim.flag & 7) != 0, (sim.flag & 8) != 0
    return make_frame(sim.image, invalid, saturated, sim.cr_truth, f"generic {seed}")


# --- detection (paper, section 2.1) -------------------------------------------------


def detection_stamps(frame: Frame, size: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield (image, mask, ignore) stamps of size × size that tile the frame."""
    ny, nx = frame.image.shape
    mask, ignore = frame.cr > LABEL_THRESHOLD, frame.ignore
    for y in range(0, ny - size + 1, size):
        for x in range(0, nx - size + 1, size):
            window = np.s_[y : y + size, x : x + size]
            yield frame.image[window], mask[window], ignore[window]


# --- inpainting (paper, section 2.2) ------------------------------------------------


def source_cutouts(frame: Frame, most: int = 150) -> list[NDArray[np.float32]]:
    """Return CR-free 64×64 cutouts centred on sources of more than 10 px, noise units.

    They come from the CR-free twin where there is one.  Otherwise from Level 1: the source
    (within 8 px of its centre) must be free of CRs, and CR pixels farther out are filled
    with their neighbours' median, since at 2 % of hit pixels hardly any 64×64 is free.
    """
    touched = np.zeros(frame.cr.shape, bool) if frame.clean is not None else frame.cr > 0
    image = frame.image if frame.clean is None else frame.clean
    unusable = touched | frame.ignore
    filled = np.empty_like(image)
    fill_invalid(image, touched, 0.0, filled)
    sources = find_sources(filled, invalid=frame.invalid)
    half, core = CUTOUT // 2, 8
    ny, nx = image.shape
    centres = np.stack([np.rint(sources.y), np.rint(sources.x)], axis=1).astype(int)
    cutouts = []
    for (y, x), npix in zip(centres, sources.npix, strict=True):
        if npix <= 10 or y < half or x < half or y + half > ny or x + half > nx:
            continue
        if unusable[y - core : y + core + 1, x - core : x + core + 1].any():
            continue
        cutouts.append(filled[y - half : y + half, x - half : x + half].copy())
    if len(cutouts) > most:
        keep = np.linspace(0, len(cutouts) - 1, most).astype(int)
        cutouts = [cutouts[k] for k in keep]
    return cutouts


def cosmic_ray_cutouts(
    frame: Frame, most: int = 300
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Return isolated CRs of Level 1 (noise units, zero elsewhere) and their masks.

    Each is centred on its geometric centre in 64×64; a CR on a source is left out, since
    its pixel values could not be told from the source's.
    """
    touched = frame.cr > 0
    labels, _ = ndimage.label(touched, structure=np.ones((3, 3)))
    smooth = ndimage.uniform_filter(np.where(touched, 0.0, frame.image), 7)
    half, (ny, nx) = CUTOUT // 2, frame.image.shape
    values, masks = [], []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        y = (box[0].start + box[0].stop) // 2
        x = (box[1].start + box[1].stop) // 2
        if y < half or x < half or y + half > ny or x + half > nx:
            continue
        window = np.s_[y - half : y + half, x - half : x + half]
        own = labels[window] == number
        mask = own & (frame.cr[window] > LABEL_THRESHOLD)
        if not mask.any() or np.abs(smooth[window][own]).max() > 1.5:
            continue
        values.append(np.where(own, frame.image[window], 0.0).astype(np.float32))
        masks.append(mask)
        if len(values) == most:
            break
    return values, masks


# --- on disk ------------------------------------------------------------------------


def build_detection_set(frames: Iterable[Frame], folder: Path, *, stamp: int = 256) -> dict:
    """Write a detection set made of frames, and return what its ``set.json`` says."""
    columns: dict[str, list] = {name: [] for name in _DETECT}
    names: list[str] = []
    for index, frame in enumerate(frames):
        names.append(frame.name)
        for image, mask, ignore in detection_stamps(frame, stamp):
            columns["detect/image"].append(image)
            columns["detect/mask"].append(mask)
            columns["detect/ignore"].append(ignore)
            columns["detect/frame"].append(index)
    return _write_set(Path(folder), columns, names)


def build_inpainting_set(
    frames: Iterable[Frame],
    folder: Path,
    *,
    sources_per_frame: int = 150,
    crs_per_frame: int = 300,
) -> dict:
    """Write an inpainting set made of frames, and return what its ``set.json`` says."""
    columns: dict[str, list] = {name: [] for name in _INPAINT}
    names: list[str] = []
    for index, frame in enumerate(frames):
        names.append(frame.name)
        cutouts = source_cutouts(frame, sources_per_frame)
        columns["inpaint/image"] += cutouts
        columns["inpaint/frame"] += [index] * len(cutouts)
        values, masks = cosmic_ray_cutouts(frame, crs_per_frame)
        columns["inpaint/cr"] += values
        columns["inpaint/crmask"] += masks
        columns["inpaint/crframe"] += [index] * len(values)
    return _write_set(Path(folder), columns, names)


_DETECT = {
    "detect/image": np.float32,
    "detect/mask": bool,
    "detect/ignore": bool,
    "detect/frame": np.int32,
}
_INPAINT = {
    "inpaint/image": np.float32,
    "inpaint/frame": np.int32,
    "inpaint/cr": np.float32,
    "inpaint/crmask": bool,
    "inpaint/crframe": np.int32,
}


def _write_set(folder: Path, columns: dict[str, list], names: list[str]) -> dict:
    digest = hashlib.sha256(_normalise.NAME.encode())
    counts = {}
    for column, dtype in (_DETECT | _INPAINT).items():
        if column not in columns:
            continue
        path = folder / f"{column}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.asarray(columns[column], dtype=dtype)
        np.save(path, array)
        digest.update(column.encode())
        digest.update(array.tobytes())
        counts[column] = len(array)
    info = {
        "format": 1,
        "normalisation": _normalise.NAME,
        "frames": names,
        "counts": counts,
        "fingerprint": digest.hexdigest()[:16],
    }
    (folder / "set.json").write_text(json.dumps(info, indent=1) + "\n")
    return info


def load_column(folder: Path, column: str) -> NDArray:
    """Return one array of a data set through a memory map."""
    return np.load(Path(folder) / f"{column}.npy", mmap_mode="r")


def load_info(folder: Path) -> dict:
    """Return ``set.json``.

    Raises
    ------
    FileNotFoundError
        The folder holds no data set.
    """
    path = Path(folder) / "set.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with `crmend-train dataset`")
    return json.loads(path.read_text())


def split_frames(info: dict, validation: float = 0.1) -> tuple[list[int], list[int]]:
    """Split frame indices into training and validation; a frame is on one side only."""
    indices = list(range(len(info["frames"])))
    step = max(2, round(1.0 / validation))
    held = indices[step - 1 :: step] or indices[-1:]
    return [i for i in indices if i not in held], held
