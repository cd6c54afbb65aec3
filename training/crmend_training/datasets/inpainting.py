"""Inpainting sets (paper, section 2.2): CR-free cutouts on sources, and isolated CRs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from crmend._kernels import MIN_GOOD, adaptive_median, fill_invalid
from crmend._normalise import Scale
from crmend._psf import LADDER, measure_psf
from crmend._tiling import reflect
from crmend.cutouts import CUTOUT
from crmend.sources import SourceCatalog, find_sources
from crmend_training.datasets.frames import LABEL_THRESHOLD, Frame
from crmend_training.datasets.storage import PLAIN, SetWriter

KINDS = ("regular", "neighbour", "faint", "edge")
"""Of a source cutout: as in the paper; with another source within 16 px; found only below the
runtime's threshold; reaching over the frame's edge, mirrored there as the runtime does."""

_CORE = 8  # half-width [px] of what counts as the source itself: assumed
_CROWDED = 16.0  # distance to a neighbour [px]: a quarter of the cutout, assumed
_FAINT_THRESHOLD = 0.9  # in units of the noise, against 1.5 in the runtime: assumed
_CR_BACKGROUND = 1.5  # smoothed light under an isolated CR [noise]: assumed

_COLUMNS = {
    "inpaint/image": (PLAIN, np.float32),
    "inpaint/frame": (PLAIN, np.int32),
    "inpaint/kind": (PLAIN, np.uint8),
    "inpaint/psf": (PLAIN, np.float64),
    "inpaint/cr": (PLAIN, np.float32),
    "inpaint/crmask": (PLAIN, np.bool_),
    "inpaint/crframe": (PLAIN, np.int32),
}


@dataclass(frozen=True)
class SourceCutout:
    """A CR-free 64×64 image around a source.

    Attributes
    ----------
    image : (64, 64) float32
        Noise units; the source's centroid lies on pixel (32, 32), to the nearest pixel.
    kind : str
        One of `KINDS`.
    x, y : float
        Centroid in the frame [px].
    """

    image: NDArray[np.float32]
    kind: str
    x: float
    y: float


def source_cutouts(frame: Frame, most: int = 150) -> list[NDArray[np.float32]]:
    """Return the paper's cutouts: sources of more than 10 px, away from the frame's edges.

    See `find_cutouts`; this is its kinds ``regular`` and ``neighbour``, (64, 64) float32.
    """
    return [cutout.image for cutout in find_cutouts(frame, most, beyond=0)]


def find_cutouts(frame: Frame, most: int = 150, *, beyond: int = 25) -> list[SourceCutout]:
    """Return CR-free cutouts centred on the sources of a frame.

    They come from the CR-free twin where there is one.  Otherwise from Level 1: the source
    (within 8 px of its centre) must be free of CRs, and CR pixels farther out are filled
    with their neighbours' median, since at 2 % of hit pixels hardly any 64×64 is free.

    Parameters
    ----------
    frame : Frame
    most : int
        Kinds ``regular`` and ``neighbour`` together, spread evenly over the frame.
    beyond : int
        Of the kinds ``faint`` and ``edge``, so many each.
    """
    touched = np.zeros(frame.cr.shape, bool) if frame.clean is not None else frame.cr > 0
    image = frame.image if frame.clean is None else frame.clean
    filled = np.empty_like(image)
    fill_invalid(image, touched, 0.0, filled)
    unusable = touched | frame.ignore
    sources = find_sources(filled, invalid=frame.invalid)
    bright = list(_cutouts_of(filled, unusable, sources))
    chosen = _spread([c for c in bright if c.kind != "edge"], most)
    if beyond:
        chosen += _spread([c for c in bright if c.kind == "edge"], beyond)
        deeper = find_sources(filled, invalid=frame.invalid, threshold=_FAINT_THRESHOLD)
        new = _without(deeper, sources)
        faint = _cutouts_of(filled, unusable, new, faint=True)
        chosen += _spread([c for c in faint if c.kind == "faint"], beyond)
    return chosen


def frame_psf(
    frame: Frame, without: Sequence[tuple[float, float]] = ()
) -> NDArray[np.float64] | None:
    """Return the PSF as the runtime measures it on Level 1, all CRs known; or None.

    Sources at the places `without` (x, y) take no part in it.
    """
    touched = frame.cr > 0
    for x, y in without:
        row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        touched[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    image, spread = frame.image.copy(), np.empty(np.count_nonzero(touched), np.float32)
    adaptive_median(frame.image, touched, frame.ignore, MIN_GOOD, 0.0, image, spread)
    sources = find_sources(image, invalid=frame.invalid)
    return measure_psf(image, touched, frame.ignore, Scale(0.0, 1.0), sources)


def _cutouts_of(
    image: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    sources: SourceCatalog,
    *,
    faint: bool = False,
) -> Iterator[SourceCutout]:
    """Yield the cutouts of the sources whose core is usable."""
    ny, nx = image.shape
    half = CUTOUT // 2
    nearest = _nearest_distance(sources)
    for x, y, near in zip(sources.x, sources.y, nearest, strict=True):
        cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        if not (0 <= cx < nx and 0 <= cy < ny):
            continue
        core = np.s_[max(cy - _CORE, 0) : cy + _CORE + 1, max(cx - _CORE, 0) : cx + _CORE + 1]
        if unusable[core].any():
            continue
        inside = half <= cy <= ny - half and half <= cx <= nx - half
        kind = "edge" if not inside else "faint" if faint else "regular"
        if kind == "regular" and near < _CROWDED:
            kind = "neighbour"
        rows, columns = (
            reflect(c - half + np.arange(CUTOUT), n) for c, n in ((cy, ny), (cx, nx))
        )
        yield SourceCutout(image[np.ix_(rows, columns)], kind, float(x), float(y))


def _nearest_distance(sources: SourceCatalog) -> NDArray[np.float64]:
    """Return each source's distance to the nearest other one [px]."""
    if len(sources) < 2:
        return np.full(len(sources), np.inf)
    points = np.stack([sources.x, sources.y], axis=1)
    return cKDTree(points).query(points, k=2)[0][:, 1]


def _without(sources: SourceCatalog, others: SourceCatalog) -> SourceCatalog:
    """Return the sources farther than the core's size from every other one."""
    if len(others) == 0 or len(sources) == 0:
        return sources
    tree = cKDTree(np.stack([others.x, others.y], axis=1))
    far = tree.query(np.stack([sources.x, sources.y], axis=1))[0] > _CORE
    return SourceCatalog(**{name: column[far] for name, column in vars(sources).items()})


def _spread(items: list, most: int) -> list:
    """Return at most so many items, evenly spread over the list."""
    if len(items) <= most:
        return items
    return [items[k] for k in np.linspace(0, len(items) - 1, most).astype(int)]


def cosmic_ray_cutouts(
    frame: Frame, most: int = 300
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Return isolated CRs of Level 1 (noise units, zero elsewhere) and their masks.

    Each is centred on its geometric centre in 64×64; a CR on a source is left out, since
    its pixel values could not be told from the source's.  With more than `most`, they are
    taken in an order that does not depend on where on the frame they lie.
    """
    touched = frame.cr > 0
    labels, count = ndimage.label(touched, structure=np.ones((3, 3)))
    smooth = ndimage.uniform_filter(np.where(touched, np.float32(0.0), frame.image), 7)
    ignore = frame.ignore
    boxes = ndimage.find_objects(labels)
    half, (ny, nx) = CUTOUT // 2, frame.image.shape
    values, masks = [], []
    for k in np.random.default_rng(count).permutation(count):
        if len(values) == most:
            break
        box = boxes[k]
        y = (box[0].start + box[0].stop) // 2
        x = (box[1].start + box[1].stop) // 2
        if y < half or x < half or y + half > ny or x + half > nx:
            continue
        window = np.s_[y - half : y + half, x - half : x + half]
        own = labels[window] == k + 1
        mask = own & (frame.cr[window] > LABEL_THRESHOLD)
        if not mask.any() or ignore[window][own].any():
            continue
        if np.abs(smooth[window][own]).max() > _CR_BACKGROUND:
            continue
        values.append(np.where(own, frame.image[window], 0.0).astype(np.float32))
        masks.append(mask)
    return values, masks


def build_inpainting_set(
    frames: Iterable[Frame],
    folder: Path,
    *,
    sources_per_frame: int = 150,
    crs_per_frame: int = 300,
    beyond_per_frame: int = 25,
    made_with: Mapping[str, Any] | None = None,
) -> dict:
    """Write an inpainting set made of frames, and return what its ``set.json`` says.

    Parameters
    ----------
    frames : iterable of Frame
        Read one at a time; the paper takes four per detector.
    folder : Path
    sources_per_frame, crs_per_frame : int
        At most; the paper takes about 150 sources.
    beyond_per_frame : int
        Faint sources and sources at the frame's edges, so many each; 0 = the paper's alone.
    made_with : mapping or None
        For `storage.check_made_with`.

    Raises
    ------
    ValueError
        A number is below 0.
    """
    if min(sources_per_frame, crs_per_frame, beyond_per_frame) < 0:
        raise ValueError(
            f"sources_per_frame is {sources_per_frame}, crs_per_frame {crs_per_frame}, "
            f"beyond_per_frame {beyond_per_frame}; expected none below 0"
        )
    with SetWriter(Path(folder), _COLUMNS) as writer:
        for frame in frames:
            index = writer.add_frame(frame.name, frame.place)
            psf = np.zeros((len(LADDER), 4))
            if (found := frame_psf(frame)) is not None:
                psf[: len(found)] = found
            for cutout in find_cutouts(frame, sources_per_frame, beyond=beyond_per_frame):
                writer.add("inpaint/image", cutout.image)
                writer.add("inpaint/frame", index)
                writer.add("inpaint/kind", KINDS.index(cutout.kind))
                writer.add("inpaint/psf", psf)
            for values, mask in zip(*cosmic_ray_cutouts(frame, crs_per_frame), strict=True):
                writer.add("inpaint/cr", values)
                writer.add("inpaint/crmask", mask)
                writer.add("inpaint/crframe", index)
        return writer.finish(made_with)
