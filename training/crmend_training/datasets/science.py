"""Scientific test sets (paper, section 2.3): known CRs at known distances from known sources.

Per detector four sources near mag 17, 19, 21 and 23, each with 100 CRs of all energies whose
centre of charge lies 0 to 15 px from the source's centre.  One FITS file per source,
``CRMEND_SCIENCE_<chip>_<wanted mag>.fits``:

========= ======================== =====================================================
HDU       data                     keywords
========= ======================== =====================================================
primary   none                     DETECTOR, FILTER, SRCFILE, SRCX, SRCY [px, 0-based, in
                                   the exposure], SRCTYPE, MAGWANT and those below
CLEAN     (64, 64) float32         the source without any CR; BUNIT
IGNORE    (64, 64) uint8           1 = bad, hot or saturated
HIT, n    (64, 64) float32         the source with CR number n = EXTVER, 1 …; CRENERGY,
                                   CRDIST, CRANGLE, CRNPIX and those below
MASK, n   (64, 64) uint8           1 = CR > 1 e-
========= ======================== =====================================================

CRENERGY [e-] is the charge of the Level 0 truth, CRDIST [px] and CRANGLE [deg, from x towards
y] lead from the source to the CR's centre of charge, CRNPIX counts MASK.  SRCMAG [mag], ZP
[mag of 1 unit], BKGNOISE and BKGLEVEL [in BUNIT] and the source's place in the stamp, STAMPX
and STAMPY [px, 0-based], stand in every header.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage

from crmend import _normalise
from crmend.errors import InvalidInputError
from crmend.exposure import read_exposure
from crmend_training.datasets.frames import LABEL_THRESHOLD, Pair, read_image
from crmend_training.datasets.inpainting import CUTOUT

MAGNITUDES = (17.0, 19.0, 21.0, 23.0)
CRS_PER_SOURCE = 100
LARGEST_DISTANCE = 15.0
"""Of a CR's centre of charge from the source's centre [px]; all three: paper, section 2.3."""

_HALF = CUTOUT // 2
_ISOLATION = 8.0  # no brighter source within so many pixels of a chosen one: assumed


@dataclass(frozen=True, eq=False)
class ScienceSource:
    """A source without cosmic rays; images are (64, 64) in the exposure's unit.

    ``stamp_x`` and ``stamp_y`` are the source's place in the stamp [px], the rest as in the
    module's table.
    """

    clean: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    detector: int
    band: str
    file: str
    kind: str
    x: float
    y: float
    magnitude: float
    wanted: float
    zero_point: float
    noise: float
    background: float
    unit: str

    @property
    def stamp_x(self) -> float:
        """Column of the source in the stamp."""
        return self.x - np.floor(self.x + 0.5) + _HALF

    @property
    def stamp_y(self) -> float:
        """Row of the source in the stamp."""
        return self.y - np.floor(self.y + 0.5) + _HALF


@dataclass(frozen=True, eq=False)
class CosmicRayClip:
    """What one CR adds to Level 1 (64, 64), in the image's unit, and its truth [e-/px]."""

    added: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def energy(self) -> float:
        """Charge [e-]."""
        return float(self.truth.sum(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class ScienceCase:
    """One CR on one source: the stamp with it, its mask, its energy and place."""

    source: ScienceSource
    hit: NDArray[np.float32]
    mask: NDArray[np.bool_]
    energy: float
    distance: float
    angle: float


def build_science_set(
    pairs: Sequence[Pair],
    folder: Path,
    *,
    magnitudes: Sequence[float] = MAGNITUDES,
    crs_per_source: int = CRS_PER_SOURCE,
    seed: int = 0,
) -> list[Path]:
    """Write the science files of every detector among the pairs; return their paths.

    Parameters
    ----------
    pairs : sequence of Pair
        With the CR-free twin and the catalogue (columns x, y, mag, type).
    folder : Path
    magnitudes : sequence of float
        For each the source of the nearest magnitude is taken that is isolated and not
        saturated; its own magnitude stands in the header.
    crs_per_source : int
    seed : int

    Raises
    ------
    InvalidInputError
        A pair has no twin or catalogue, or a detector too few sources or CRs.
    """
    by_detector: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.clean is None or pair.catalog is None:
            raise InvalidInputError(
                f"{pair.level1.name} has no CR-free twin (NCR) or no catalogue (CAT); "
                "simulate with --keep-clean"
            )
        by_detector[pair.detector].append(pair)
    paths = []
    for detector, members in sorted(by_detector.items()):
        rng = np.random.default_rng([seed, detector])
        sources, clips = _collect(members, magnitudes, crs_per_source, rng)
        for source in sources:
            cases = place_clips(rng, source, clips)
            name = f"CRMEND_SCIENCE_{detector:02d}_{source.wanted:04.1f}.fits"
            paths.append(write_science(Path(folder) / name, cases))
    return paths


def place_clips(
    rng: np.random.Generator, source: ScienceSource, clips: Sequence[CosmicRayClip]
) -> list[ScienceCase]:
    """Inject each clip into a source, at distances that fill 0–15 px evenly.

    Clips move by whole pixels (their pixels are measured ones), so that a distance may
    miss the one drawn by half a diagonal; it is drawn anew until it is at most 15 px.
    """
    n = len(clips)
    wanted = LARGEST_DISTANCE * (rng.permutation(n) + rng.uniform(size=n)) / n
    cases = []
    for clip, radius in zip(clips, wanted, strict=True):
        cy, cx = ndimage.center_of_mass(clip.truth)
        while True:
            angle = rng.uniform(0.0, 2.0 * np.pi)
            dy = round(source.stamp_y + radius * np.sin(angle) - cy)
            dx = round(source.stamp_x + radius * np.cos(angle) - cx)
            away_y, away_x = cy + dy - source.stamp_y, cx + dx - source.stamp_x
            distance = float(np.hypot(away_y, away_x))
            if distance <= LARGEST_DISTANCE:
                break
            radius = LARGEST_DISTANCE * rng.uniform()
        added, truth = _moved(clip.added, dy, dx), _moved(clip.truth, dy, dx)
        cases.append(
            ScienceCase(
                source=source,
                hit=source.clean + added,
                mask=truth > LABEL_THRESHOLD,
                energy=clip.energy,
                distance=distance,
                angle=float(np.degrees(np.arctan2(away_y, away_x)) % 360.0),
            )
        )
    return cases


def write_science(path: Path, cases: Sequence[ScienceCase]) -> Path:
    """Write the cases of one source; see the module for the layout."""
    source = cases[0].source
    common = _common_header(source)
    primary = fits.Header()
    primary["DETECTOR"] = f"CHIP{source.detector:02d}"
    primary["FILTER"] = source.band
    primary["SRCFILE"] = source.file
    primary["SRCTYPE"] = source.kind
    primary["SRCX"] = (source.x, "[px] column in the exposure, 0-based")
    primary["SRCY"] = (source.y, "[px] row in the exposure, 0-based")
    primary["MAGWANT"] = (source.wanted, "[mag] magnitude asked for")
    primary["NCR"] = (len(cases), "number of HIT extensions")
    primary.update(common)
    hdus: list = [fits.PrimaryHDU(header=primary)]
    hdus.append(fits.ImageHDU(source.clean, common, name="CLEAN"))
    hdus.append(fits.ImageHDU(source.ignore.astype(np.uint8), name="IGNORE"))
    for number, case in enumerate(cases, start=1):
        header = common.copy()
        header["CRENERGY"] = (case.energy, "[e-] charge of the cosmic ray")
        header["CRDIST"] = (case.distance, "[px] from the source to its centre of charge")
        header["CRANGLE"] = (case.angle, "[deg] the direction there, from x towards y")
        header["CRNPIX"] = (int(case.mask.sum()), "pixels > 1 e-")
        hdus.append(fits.ImageHDU(case.hit, header, name="HIT", ver=number))
        hdus.append(fits.ImageHDU(case.mask.astype(np.uint8), name="MASK", ver=number))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def read_science(path: Path) -> Iterator[ScienceCase]:
    """Yield the cases of one science file in the order of their number."""
    with fits.open(path, memmap=False) as hdus:
        head = hdus[0].header
        source = ScienceSource(
            clean=hdus["CLEAN"].data.astype(np.float32),
            ignore=hdus["IGNORE"].data > 0,
            detector=int(head["DETECTOR"][-2:]),
            band=head["FILTER"],
            file=head["SRCFILE"],
            kind=head["SRCTYPE"],
            x=head["SRCX"],
            y=head["SRCY"],
            magnitude=head["SRCMAG"],
            wanted=head["MAGWANT"],
            zero_point=head["ZP"],
            noise=head["BKGNOISE"],
            background=head["BKGLEVEL"],
            unit=head["BUNIT"],
        )
        for number in range(1, head["NCR"] + 1):
            hit = hdus["HIT", number]
            yield ScienceCase(
                source=source,
                hit=hit.data.astype(np.float32),
                mask=hdus["MASK", number].data > 0,
                energy=hit.header["CRENERGY"],
                distance=hit.header["CRDIST"],
                angle=hit.header["CRANGLE"],
            )


def _common_header(source: ScienceSource) -> fits.Header:
    header = fits.Header()
    header["SRCMAG"] = (source.magnitude, "[mag] of the input catalogue")
    header["ZP"] = (source.zero_point, "[mag] of 1 BUNIT")
    header["BKGNOISE"] = (source.noise, "[BUNIT] background noise, 1 sigma")
    header["BKGLEVEL"] = (source.background, "[BUNIT] background of the exposure")
    header["STAMPX"] = (source.stamp_x, "[px] column of the source, 0-based")
    header["STAMPY"] = (source.stamp_y, "[px] row of the source, 0-based")
    header["BUNIT"] = source.unit
    return header


def _collect(
    pairs: Sequence[Pair], magnitudes: Sequence[float], count: int, rng: np.random.Generator
) -> tuple[list[ScienceSource], list[CosmicRayClip]]:
    """Return the best source for each magnitude, and CRs over the range of energies."""
    best: dict[float, ScienceSource] = {}
    clips: list[CosmicRayClip] = []
    for pair in pairs:
        sources, found = _read_one(pair, magnitudes, count, rng)
        clips += found
        for source in sources:
            old = best.get(source.wanted)
            if old is None or abs(source.magnitude - source.wanted) < abs(
                old.magnitude - source.wanted
            ):
                best[source.wanted] = source
    if len(best) < len(magnitudes) or len(clips) < count:
        raise InvalidInputError(
            f"detector {pairs[0].detector}: found sources for {sorted(best)} of "
            f"{list(magnitudes)} mag and {len(clips)} isolated CRs of {count}; add frames"
        )
    clips.sort(key=lambda clip: clip.energy)
    clips = [clips[k] for k in np.linspace(0, len(clips) - 1, count).astype(int)]
    return [best[magnitude] for magnitude in magnitudes], clips


def _read_one(
    pair: Pair, magnitudes: Sequence[float], count: int, rng: np.random.Generator
) -> tuple[list[ScienceSource], list[CosmicRayClip]]:
    """Return the nearest source to each magnitude in one exposure, and some of its CRs."""
    exposure = read_exposure(pair.level1)
    clean, truth = read_image(pair.clean), read_image(pair.truth)
    ignore = exposure.invalid | exposure.saturated
    scale = _normalise.measure_scale(clean, ignore)
    table = Table.read(pair.catalog, hdu=1)
    chosen, taken = [], set()
    for wanted in magnitudes:
        k = _nearest_source(table, wanted, ignore, taken)
        if k is None:
            continue
        taken.add(k)
        x, y = float(table["x"][k]), float(table["y"][k])
        window = _window(y, x)
        chosen.append(
            ScienceSource(
                clean=clean[window].copy(),
                ignore=ignore[window].copy(),
                detector=pair.detector,
                band=exposure.band or "",
                file=pair.level1.name,
                kind=str(table["type"][k]).strip(),
                x=x,
                y=y,
                magnitude=float(table["mag"][k]),
                wanted=float(wanted),
                zero_point=float(exposure.header["ZP"]),
                noise=scale.noise,
                background=scale.background,
                unit=exposure.unit,
            )
        )
    return chosen, isolated_clips(exposure.image - clean, truth, ignore, 3 * count, rng)


def _nearest_source(
    table: Table, wanted: float, ignore: NDArray[np.bool_], taken: set[int]
) -> int | None:
    """Return the row of the usable source of the nearest magnitude, None = there is none."""
    x, y, mag = (np.asarray(table[name], dtype=float) for name in ("x", "y", "mag"))
    ny, nx = ignore.shape
    inside = (x > _HALF) & (y > _HALF) & (x < nx - _HALF - 1) & (y < ny - _HALF - 1)
    for k in np.argsort(np.abs(mag - wanted)):
        if not inside[k] or int(k) in taken or abs(mag[k] - wanted) > 1.0:
            continue
        near = np.hypot(x - x[k], y - y[k]) < _ISOLATION
        core = ignore[_window(y[k], x[k])][_HALF - 6 : _HALF + 7, _HALF - 6 : _HALF + 7]
        if mag[near].min() >= mag[k] and not core.any():
            return int(k)
    return None


def isolated_clips(
    added: NDArray[np.float32],
    truth: NDArray[np.float32],
    ignore: NDArray[np.bool_],
    most: int,
    rng: np.random.Generator,
) -> list[CosmicRayClip]:
    """Return CRs with at least one labelled pixel, all of them on usable pixels.

    Parameters
    ----------
    added : (ny, nx) float32 array
        What CRs add to the image.
    truth : (ny, nx) float32 array
        Their charge [e-/px].
    ignore : (ny, nx) bool array
        True = bad, hot or saturated.
    most : int
        So many at most, drawn by `rng`.
    rng : numpy.random.Generator
    """
    labels, count = ndimage.label(truth > 0, structure=np.ones((3, 3)))
    boxes, clips = ndimage.find_objects(labels), []
    for k in rng.permutation(count):
        if len(clips) == most:
            break
        rows, columns = boxes[k]
        y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        if not (_HALF <= y <= truth.shape[0] - _HALF and _HALF <= x <= truth.shape[1] - _HALF):
            continue
        window = _window(y, x)
        own = labels[window] == k + 1
        charge = np.where(own, truth[window], 0.0).astype(np.float32)
        if charge.max() <= LABEL_THRESHOLD or ignore[window][own].any():
            continue
        clips.append(CosmicRayClip(np.where(own, added[window], 0).astype(np.float32), charge))
    return clips


def _window(y: float, x: float) -> tuple[slice, slice]:
    row, column = int(np.floor(y + 0.5)) - _HALF, int(np.floor(x + 0.5)) - _HALF
    return slice(row, row + CUTOUT), slice(column, column + CUTOUT)


def _moved(array: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """Return an array moved by whole pixels, zeros moving in."""
    ny, nx = array.shape
    padded = np.pad(array, ((max(dy, 0), max(-dy, 0)), (max(dx, 0), max(-dx, 0))))
    return padded[max(-dy, 0) : max(-dy, 0) + ny, max(-dx, 0) : max(-dx, 0) + nx]
