"""The scientific test set (paper, sections 2.3 and 4.2) mended by every method.

The stamps of one source are laid out on a plain sky of the frame's level and noise, with the
same CRs scattered over it, so that ours runs end to end (background, sources, what masks leave
of CRs, cutouts, network) as on an exposure; the PSF is the exposure's own, from its other
stars: copies of one star would know their own noise.  Δmag is
that of the mended stamp minus that of the same stamp without any CR, measured in the same way.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import crmend
from crmend.inpaint import Inpainted, flat_error, inpaint_into
from crmend.models import choose_model
from crmend_training.classical_fills import Fill, fill_groups, prepared
from crmend_training.datasets.frames import few_of
from crmend_training.datasets.science_files import ScienceCase, find_science, read_science
from crmend_training.evaluate_mending import (
    aperture_fluxes,
    grown,
    kron_fluxes,
    magnitude,
    spread_of,
    trend,
)

DISTANCES = (0.0, 2.0, 5.0, 10.0, 15.01)
"""Edges of the bins in distance [px]."""

ENERGIES = (100.0, 316.0, 1000.0, 3162.0, 10000.0)
"""Edges of the bins in energy [e-]: two decades."""

_PITCH = 128  # px from stamp to stamp: three quarters of the mosaic are sky
_COLUMNS = 10
_SCATTERED = 12  # CRs per 64×64 of plain sky: some 2 % of its pixels

OURS, DRAWN, DRAWN_GROWN = "ours", "ours, mask drawn", "ours, mask drawn +1 px"
"""With the true mask; with that of detection; with that one grown by a pixel."""


def inpaint(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    *,
    detector: int,
    invalid: NDArray[np.bool_],
    psf: NDArray[np.float64],
    threads: int | None = None,
) -> Inpainted:
    """Mend an image as `crmend.inpaint` does, with a PSF that is known (k > 0) or not."""
    mended = image.copy()
    bad = invalid | ~np.isfinite(mended)
    error = flat_error(mended, bad | cr_mask)
    model = choose_model(detector, None, "inpaint", "cpu", threads)
    done = inpaint_into(mended, error, cr_mask, bad, bad, model, psf=psf)
    return Inpainted(mended, error, done.method, done.sources)


@dataclass(frozen=True)
class Runtime:
    """What mends and detects; called as `inpaint` and `crmend.detect` are.

    Without ``detect`` only true masks are used.
    """

    inpaint: Callable[..., Any] = inpaint
    detect: Callable[..., Any] | None = crmend.detect


def score_science(
    folder: Path,
    fills: dict[str, Fill],
    runtime: Runtime | None = None,
    most: int | None = None,
) -> list[dict]:
    """Return one row per case and method: which source and CR, ``aperture``, ``kron`` [mag].

    Parameters
    ----------
    folder : Path
        What `crmend-train dataset science` wrote, one set or several below it.
    fills : dict
        From `classical_fills.load_fills`.
    runtime : Runtime or None
        None = crmend's own.
    most : int or None
        Use so many of the sources, evenly chosen.

    Raises
    ------
    FileNotFoundError
        There is no science set.
    """
    rows = []
    for path in tqdm(few_of(find_science(folder), most), desc="science set", disable=None):
        rows += score_cases(list(read_science(path)), fills, runtime or Runtime())
    return rows


def score_cases(
    cases: Sequence[ScienceCase], fills: dict[str, Fill], runtime: Runtime
) -> list[dict]:
    """Return the rows of `score_science` for the cases of one source."""
    rows = []
    reference = _measure(cases[0].source.clean, cases[0])
    for method, stamps in mend_cases(cases, fills, runtime).items():
        for case, stamp in zip(cases, stamps, strict=True):
            measured = _measure(stamp, case)
            rows.append(
                _describe(case)
                | {"method": method}
                | {name: measured[name] - reference[name] for name in reference}
            )
    return rows


def mend_cases(
    cases: Sequence[ScienceCase], fills: dict[str, Fill], runtime: Runtime
) -> dict[str, list[NDArray[np.float32]]]:
    """Return the stamps of one source as each method leaves them."""
    source = cases[0].source
    level = np.float32(source.background)
    images = {
        "contaminated": [case.hit for case in cases],
        "masked": [np.where(case.mask, level, case.hit) for case in cases],
        **mend_mosaic(cases, runtime),
    }
    for name, fill in fills.items():
        images[name] = []
        for case in cases:
            image = prepared(case.hit, source.ignore & ~case.mask, float(level))
            filled = fill_groups(fill, image, case.mask)
            images[name].append(np.where(case.mask, filled, case.hit))
    return images


def mend_mosaic(
    cases: Sequence[ScienceCase], runtime: Runtime | None = None
) -> dict[str, list[NDArray[np.float32]]]:
    """Return the stamps of one source as ours leaves them, by mask."""
    runtime = runtime or Runtime()
    mosaic = _lay_out(cases)
    known = {"detector": cases[0].source.detector, "invalid": mosaic.ignore}
    masks = {OURS: mosaic.mask}
    if runtime.detect is not None:
        drawn = runtime.detect(mosaic.image, **known).cr_mask
        masks |= {DRAWN: drawn, DRAWN_GROWN: grown(drawn, 1) & ~mosaic.ignore}
    known["psf"] = cases[0].source.psf
    mended = {
        name: runtime.inpaint(mosaic.image, mask, **known).image for name, mask in masks.items()
    }
    return {
        name: [image[window] for window in mosaic.windows] for name, image in mended.items()
    }


@dataclass(frozen=True, eq=False)
class _Mosaic:
    """Stamps on a sky with CRs; ``windows`` says where they are."""

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    windows: list[tuple[slice, slice]]


def _lay_out(cases: Sequence[ScienceCase]) -> _Mosaic:
    """Return the stamps of one source, each with three times its area of sky and CRs."""
    source = cases[0].source
    side = source.clean.shape[0]
    rows = -(-len(cases) // _COLUMNS)
    shape = (rows * _PITCH, min(len(cases), _COLUMNS) * _PITCH)
    rng = np.random.default_rng(0)
    image = rng.normal(source.background, source.noise, shape).astype(np.float32)
    mask, ignore = np.zeros(shape, bool), np.zeros(shape, bool)
    margin = (_PITCH - side) // 2
    windows = []
    for number, case in enumerate(cases):
        y, x = (_PITCH * k + margin for k in divmod(number, _COLUMNS))
        window = np.s_[y : y + side, x : x + side]
        image[window], mask[window], ignore[window] = case.hit, case.mask, source.ignore
        windows.append(window)
        for dy, dx in ((0, side), (side, 0), (side, side)):
            sky = np.ix_(
                np.arange(y + dy, y + dy + side) % shape[0],
                np.arange(x + dx, x + dx + side) % shape[1],
            )
            for other in rng.integers(len(cases), size=_SCATTERED):
                moved = rng.integers(side, size=2)
                added = np.where(source.ignore, 0, cases[other].hit - source.clean)
                image[sky] += np.roll(added, moved, (0, 1)).astype(np.float32)
                mask[sky] |= np.roll(cases[other].mask & ~source.ignore, moved, (0, 1))
    return _Mosaic(image, mask, ignore, windows)


def _measure(stamp: NDArray[np.float32], case: ScienceCase) -> dict[str, float]:
    """Return the source's magnitudes in a stamp."""
    source = case.source
    data = (stamp - np.float32(source.background)).astype(np.float32)
    x, y = np.array([source.stamp_x]), np.array([source.stamp_y])
    return {
        "aperture": float(magnitude(aperture_fluxes(data, x, y))[0]),
        "kron": float(magnitude(kron_fluxes(data, source.noise, x, y))[0]),
    }


def _describe(case: ScienceCase) -> dict:
    """Return which source and CR a case is of."""
    x, y = np.array([case.source.stamp_x]), np.array([case.source.stamp_y])
    return {
        "touched": bool(aperture_fluxes(case.mask.astype(np.float32), x, y)[0] > 0.0),
        "detector": case.source.detector,
        "type": case.source.kind,
        "wanted": case.source.wanted,
        "mag": case.source.magnitude,
        "distance": case.distance,
        "energy": case.energy,
    }


def select(rows: Sequence[dict], name: str, **wanted: object) -> NDArray[np.float64]:
    """Return one column of the rows whose other columns have the values given."""
    return np.array(
        [row[name] for row in rows if all(row[k] == v for k, v in wanted.items())], float
    )


def summarise(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Return the tables of a report.

    ``cells``: per type, magnitude and method, all CRs; ``touched``: those that reach into the
    aperture (a CR outside of it costs a fixed aperture nothing, whatever fills it); ``bins``:
    by distance and by energy; ``trends``: largest − smallest median of such bins, those of
    energy of CRs that reach into the aperture; ``central``: CRs within 2 px of stars of mag 23.
    """
    names = ("cells", "touched", "bins", "trends", "central")
    tables: dict[str, list[dict]] = {name: [] for name in names}
    grouped: dict[tuple, list[dict]] = defaultdict(list)
    for row in rows:
        grouped[row["type"], row["wanted"], row["method"]].append(row)
    # Stars first; the methods stay in their order.
    for kind, wanted, method in sorted(grouped, key=lambda key: (key[0] != "star", key[1])):
        own = grouped[kind, wanted, method]
        head = {"type": kind, "mag": wanted, "method": method}
        tables["cells"].append(head | _both(own))
        tables["touched"].append(head | _both([row for row in own if row["touched"]]))
        tables["trends"].append(head | _trends(own))
        tables["bins"] += [head | row for row in _bins(own)]
        if kind == "star" and wanted == 23.0:
            central = [row for row in own if row["distance"] < DISTANCES[1]]
            tables["central"].append(head | _both(central))
    return tables


def _bins(rows: Sequence[dict]) -> list[dict]:
    """Return the spreads in bins of distance and of energy."""
    return [
        {"along": name, "from": low, "to": high}
        | _both([row for row in rows if low <= row[name] < high])
        for name, edges in (("distance", DISTANCES), ("energy", ENERGIES))
        for low, high in itertools.pairwise(edges)
    ]


def _both(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Return the spreads of both magnitudes."""
    return {name: spread_of(select(rows, name)) for name in ("aperture", "kron")}


def _trends(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Return how far the medians move with distance and energy, in both magnitudes."""
    touched = [row for row in rows if row["touched"]]
    return {
        f"{name}_{along}": trend(select(own, name), select(own, along), edges)
        for name in ("aperture", "kron")
        for along, edges, own in (("distance", DISTANCES, rows), ("energy", ENERGIES, touched))
    }
