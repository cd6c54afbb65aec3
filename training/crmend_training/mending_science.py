"""The scientific test set (paper, sections 2.3 and 4.2) mended by every method.

The stamps of one source are laid out on a plain sky of the frame's level and noise, so that
ours runs end to end (background, sources, cutouts, network) as on an exposure.  Δmag is that of
the mended stamp minus that of the same stamp without any CR, measured in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crmend
from crmend_training.classical_fills import Fill, prepared
from crmend_training.datasets.science_files import ScienceCase, find_science, read_science
from crmend_training.evaluate_mending import (
    aperture_fluxes,
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

Inpaint = Callable[..., Any]


def score_science(
    folder: Path, fills: dict[str, Fill], inpaint: Inpaint = crmend.inpaint
) -> list[dict]:
    """Return one row per case and method: which source and CR, ``aperture``, ``kron`` [mag].

    Parameters
    ----------
    folder : Path
        What `crmend-train dataset science` wrote, one set or several below it.
    fills : dict
        From `classical_fills.load_fills`.
    inpaint : callable
        Called as `crmend.inpaint` is; another one in tests.

    Raises
    ------
    FileNotFoundError
        There is no science file.
    """
    paths = sorted(Path(folder).rglob("CRMEND_SCIENCE_*.fits"))
    if not paths:
        raise FileNotFoundError(f"no CRMEND_SCIENCE_*.fits below {folder}")
    rows = []
    for path in paths:
        cases = list(read_science(path))
        images = mend_cases(cases, fills, inpaint)
        clean = cases[0].source.clean
        reference = _measure(clean, cases[0])
        for method, stamps in images.items():
            for case, stamp in zip(cases, stamps, strict=True):
                measured = _measure(stamp, case)
                rows.append(
                    _describe(case)
                    | {"method": method}
                    | {name: measured[name] - reference[name] for name in reference}
                )
    return rows


def mend_cases(
    cases: Sequence[ScienceCase], fills: dict[str, Fill], inpaint: Inpaint
) -> dict[str, list[NDArray[np.float32]]]:
    """Return the stamps of one source as each method leaves them."""
    source = cases[0].source
    level = np.float32(source.background)
    images = {
        "contaminated": [case.hit for case in cases],
        "masked": [np.where(case.mask, level, case.hit) for case in cases],
        "ours": mend_mosaic(cases, inpaint),
    }
    for name, fill in fills.items():
        images[name] = []
        for case in cases:
            image = prepared(case.hit, source.ignore & ~case.mask, float(level))
            images[name].append(np.where(case.mask, fill(image, case.mask), case.hit))
    return images


def mend_mosaic(
    cases: Sequence[ScienceCase], inpaint: Inpaint = crmend.inpaint
) -> list[NDArray[np.float32]]:
    """Return the stamps of one source as ours leaves them."""
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
    mended = inpaint(image, mask, detector=source.detector, invalid=ignore).image
    return [mended[window] for window in windows]


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
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = sorted({(row["type"], row["wanted"]) for row in rows}, reverse=True)
    names = ("cells", "touched", "bins", "trends", "central")
    tables: dict[str, list[dict]] = {name: [] for name in names}
    for kind, wanted in cells:
        for method in methods:
            own = [r for r in rows if (r["type"], r["wanted"]) == (kind, wanted)]
            own = [r for r in own if r["method"] == method]
            head = {"type": kind, "mag": wanted, "method": method}
            tables["cells"].append(head | _both(own))
            tables["touched"].append(head | _both([r for r in own if r["touched"]]))
            tables["trends"].append(head | _trends(own))
            tables["bins"] += [head | row for row in _bins(own)]
            if kind == "star" and wanted == 23.0:
                central = [r for r in own if r["distance"] < DISTANCES[1]]
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


def _trends(rows: Sequence[dict]) -> dict[str, float]:
    """Return how far the medians move with distance and energy, in both magnitudes."""
    touched = [row for row in rows if row["touched"]]
    return {
        f"{name}_{along}": trend(select(own, name), select(own, along), edges)
        for name in ("aperture", "kron")
        for along, edges, own in (("distance", DISTANCES, rows), ("energy", ENERGIES, touched))
    }
