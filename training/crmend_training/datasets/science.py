"""Scientific test sets (paper, section 2.3): known CRs at known distances from known sources.

Per detector a star and a galaxy near each of mag 17, 19, 21 and 23, each with 100 CRs of all
energies whose centre of charge lies 0 to 15 px from the source's centre.  The paper has four
sources per detector, whatever their type: ``types = ("any",)``.  `science_files` says what is
in the files.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from crmend import _normalise
from crmend.errors import CrmendWarning, InvalidInputError
from crmend.exposure import read_exposure
from crmend_training._processes import workers
from crmend_training.datasets.frames import Pair, make_frame, read_clean, read_truth
from crmend_training.datasets.inpainting import CUTOUT, frame_psf
from crmend_training.datasets.science_files import (
    INDEX,
    IndexRow,
    ScienceSource,
    write_index,
    write_science,
)
from crmend_training.datasets.science_rays import (
    CosmicRayClip,
    isolated_clips,
    place_clips,
    stamp_window,
)

TYPES = ("star", "galaxy", "any")
"""Types of sources that can be asked for; ``any`` takes the nearest magnitude of either."""

_HALF = CUTOUT // 2
_ISOLATION = 8.0  # no brighter source within so many pixels of a chosen one: assumed
_CORE = 6  # px: no bad or saturated pixel so near to a chosen source's centre


@dataclass(frozen=True)
class ScienceSettings:
    """What a scientific test set holds.

    Attributes
    ----------
    types : sequence of str
        Of `TYPES`: a source of each is wanted at each magnitude.
    magnitudes : sequence of float
    tolerance : float
        A source may be this far from the magnitude asked for [mag]; the nearest is taken, and
        its own magnitude stands in the header.  Galaxies of mag 17 are rare.
    widest : float
        Largest half-light radius of the catalogue [px]: of wider galaxies a stamp shows but
        the middle.  The default, one and a half stamps, is a choice.
    crs_per_source : int
        This and the magnitudes: paper, section 2.3.
    seed : int

    Raises
    ------
    InvalidInputError
        A type is unknown, or a number is out of range.
    """

    types: Sequence[str] = ("star", "galaxy")
    magnitudes: Sequence[float] = (17.0, 19.0, 21.0, 23.0)
    tolerance: float = 1.0
    widest: float = 1.5 * CUTOUT
    crs_per_source: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.types if name not in TYPES]
        if unknown or not self.types:
            raise InvalidInputError(
                f"types of a science set are {list(self.types)}; expected some of {list(TYPES)}"
            )
        for name in ("tolerance", "widest", "crs_per_source"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(
                    f"{name} of a science set is {getattr(self, name)}; expected more than 0"
                )
        if not self.magnitudes:
            raise InvalidInputError(
                "magnitudes of a science set are none; expected one or more"
            )


def build_science_set(
    pairs: Sequence[Pair],
    folder: Path,
    settings: ScienceSettings | None = None,
    jobs: int = 1,
) -> list[IndexRow]:
    """Write the science files of every detector among the pairs, and their index.

    What a detector's frames do not have becomes a gap: a row of the index that says why, and
    a warning.

    Parameters
    ----------
    pairs : sequence of Pair
        With the CR-free twin and the catalogue (columns x, y, mag, type, and r_half where it
        is known).
    folder : Path
    settings : ScienceSettings or None
        None = the defaults.
    jobs : int
        Processes; detectors are shared out among them.

    Returns
    -------
    list of IndexRow

    Raises
    ------
    InvalidInputError
        A pair has no twin or catalogue, or no source or no CR is found in any of them.
    """
    settings = settings or ScienceSettings()
    by_detector: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.clean is None or pair.catalog is None:
            raise InvalidInputError(
                f"{pair.level1.name} has no CR-free twin (NCR) or no catalogue (CAT); "
                "simulate with --keep-clean"
            )
        by_detector[pair.detector].append(pair)
    folder = Path(folder)
    (folder / INDEX).unlink(missing_ok=True)
    members = [by_detector[detector] for detector in sorted(by_detector)]
    build = partial(_build_detector, folder=folder, settings=settings)
    if jobs > 1:
        with workers(min(jobs, len(members))) as pool:
            parts = list(pool.map(build, members))
    else:
        parts = [build(own) for own in members]
    rows = [row for part in parts for row in part]
    if not any(row.file for row in rows):
        raise InvalidInputError(
            f"nothing for a science set in {len(pairs)} exposures: {rows[0].gap}; "
            "give more or other frames"
        )
    for message in missing(rows, settings):
        warnings.warn(message, CrmendWarning, stacklevel=2)
    write_index(folder, rows)
    return rows


def missing(rows: Sequence[IndexRow], settings: ScienceSettings) -> list[str]:
    """Return a sentence for every gap, and for every source with too few CRs."""
    messages = []
    for row in rows:
        what = f"detector {row.detector}, {row.type} of {row.wanted:g} mag"
        if row.gap:
            messages.append(f"{what}: {row.gap}")
        elif row.cosmic_rays < settings.crs_per_source:
            messages.append(f"{what}: {row.cosmic_rays} CRs of {settings.crs_per_source}")
    return messages


def _build_detector(
    pairs: Sequence[Pair], *, folder: Path, settings: ScienceSettings
) -> list[IndexRow]:
    """Write the files of one detector; return its rows of the index."""
    rng = np.random.default_rng([settings.seed, pairs[0].detector])
    found, clips, band = _collect(pairs, settings, rng)
    rows = []
    for kind in settings.types:
        for wanted in settings.magnitudes:
            head = (pairs[0].detector, band, kind, float(wanted))
            source = found[kind, wanted]
            if isinstance(source, str) or not clips:
                gap = source if isinstance(source, str) else "no isolated cosmic ray"
                rows.append(IndexRow(*head, gap=gap))
                continue
            cases = place_clips(rng, source, clips)
            path = write_science(folder / source.file_name, cases)
            rows.append(IndexRow(*head, path.name, source.magnitude, len(cases)))
    return rows


# --- what the frames hold ---------------------------------------------------------------


def _collect(
    pairs: Sequence[Pair], settings: ScienceSettings, rng: np.random.Generator
) -> tuple[dict[tuple[str, float], ScienceSource | str], list[CosmicRayClip], str]:
    """Return the best source of each type and magnitude or why there is none, CRs, the band."""
    nearest: dict[tuple[str, float], ScienceSource] = {}
    clips: list[CosmicRayClip] = []
    band = ""
    for pair in pairs:
        sources, found, band = _read_one(pair, settings, rng)
        clips += found
        for source in sources:
            key = source.type_wanted, source.wanted
            if key not in nearest or _miss(source) < _miss(nearest[key]):
                nearest[key] = source
    clips.sort(key=lambda clip: clip.energy)
    count = min(settings.crs_per_source, len(clips))
    clips = [clips[k] for k in np.linspace(0, len(clips) - 1, count).astype(int)]
    wanted = [(kind, magnitude) for kind in settings.types for magnitude in settings.magnitudes]
    return {key: _usable(nearest.get(key), settings) for key in wanted}, clips, band


def _miss(source: ScienceSource) -> float:
    """Return how far a source is from the magnitude asked for."""
    return abs(source.magnitude - source.wanted)


def _usable(source: ScienceSource | None, settings: ScienceSettings) -> ScienceSource | str:
    """Return the source, or why it cannot stand for what was asked."""
    if source is None:
        return "none that is isolated, on the frame, not saturated and not too wide"
    if _miss(source) > settings.tolerance:
        return f"the nearest has {source.magnitude:.2f} mag; tolerance {settings.tolerance:g}"
    return source


def _read_one(
    pair: Pair, settings: ScienceSettings, rng: np.random.Generator
) -> tuple[list[ScienceSource], list[CosmicRayClip], str]:
    """Return one exposure's nearest source to each magnitude, some of its CRs, its band."""
    exposure = read_exposure(pair.level1)
    shape = exposure.image.shape
    clean, truth = read_clean(pair, shape), read_truth(pair, shape)
    ignore = exposure.invalid | exposure.saturated
    scale = _normalise.measure_scale(clean, ignore)
    common: dict[str, Any] = {
        "detector": pair.detector,
        "band": exposure.band or "",
        "file": pair.level1.name,
        "zero_point": float(exposure.header["ZP"]),
        "noise": scale.noise,
        "background": scale.background,
        "unit": exposure.unit,
        "tolerance": float(settings.tolerance),
    }
    table = _whole(Table.read(pair.catalog, hdu=1), ignore.shape)
    chosen = []
    for kind in settings.types:
        taken: set[int] = set()
        for wanted in settings.magnitudes:
            k = _nearest_row(table, kind, wanted, taken, ignore, settings.widest)
            if k is None:
                continue
            if abs(float(table["mag"][k]) - wanted) <= settings.tolerance:
                taken.add(k)
            window = stamp_window(table["y"][k], table["x"][k])
            images = {"clean": clean[window].copy(), "ignore": ignore[window].copy()}
            asked = {"type_wanted": kind, "wanted": float(wanted)}
            chosen.append(ScienceSource(**common, **images, **asked, **_of_row(table, k)))
    places = [(source.x, source.y) for source in chosen]
    frame = make_frame(exposure.image, exposure.invalid, exposure.saturated, truth, "")
    psf = frame_psf(frame, without=places)
    if psf is not None:
        chosen = [replace(source, psf=psf) for source in chosen]
    clips = isolated_clips(
        exposure.image - clean, truth, ignore, 3 * settings.crs_per_source, rng
    )
    return chosen, clips, common["band"]


def _of_row(table: Table, k: int) -> dict[str, Any]:
    """Return what a catalogue says of one source."""
    return {
        "kind": str(table["type"][k]).strip(),
        "x": float(table["x"][k]),
        "y": float(table["y"][k]),
        "magnitude": float(table["mag"][k]),
        "half_light": float(table["r_half"][k]),
    }


def _whole(table: Table, shape: tuple[int, int]) -> Table:
    """Return the stars and galaxies; ``whole`` says whose stamp lies on the frame."""
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    table = table[np.isin(kinds, TYPES[:2])]
    x, y = (np.asarray(table[name], dtype=float) for name in ("x", "y"))
    ny, nx = shape
    table["whole"] = (x > _HALF) & (y > _HALF) & (x < nx - _HALF - 1) & (y < ny - _HALF - 1)
    if "r_half" not in table.colnames:
        table["r_half"] = 0.0
    return table


def _nearest_row(
    table: Table,
    kind: str,
    wanted: float,
    taken: set[int],
    ignore: NDArray[np.bool_],
    widest: float,
) -> int | None:
    """Return the row of the usable source of the nearest magnitude, None = there is none."""
    x, y, mag = (np.asarray(table[name], dtype=float) for name in ("x", "y", "mag"))
    fits_in = np.asarray(table["whole"]) & (np.asarray(table["r_half"], dtype=float) <= widest)
    if kind != "any":
        fits_in &= np.char.strip(np.asarray(table["type"]).astype(str)) == kind
    for k in np.argsort(np.abs(mag - wanted)):
        if not fits_in[k] or int(k) in taken:
            continue
        near = np.hypot(x - x[k], y - y[k]) < _ISOLATION
        core = ignore[stamp_window(y[k], x[k])]
        core = core[_HALF - _CORE : _HALF + _CORE + 1, _HALF - _CORE : _HALF + _CORE + 1]
        if mag[near].min() >= mag[k] and not core.any():
            return int(k)
    return None
