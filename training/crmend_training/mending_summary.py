"""What the frames of the mending evaluation amount to, pooled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend.inpaint import MEDIAN, NETWORK
from crmend_training.evaluate_mending import coverage, spread_of
from crmend_training.mending_pixels import MAGNITUDE_BINS

_FILLED = {"any": (NETWORK, MEDIAN), "network": (NETWORK,), "median": (MEDIAN,)}

NO_FILLS = ("contaminated", "masked")
"""Methods that leave CR pixels as they are or take them out."""

_MAGNITUDES = 2.5 / np.log(10.0)  # of a relative error of 1


def summarise_sources(rows: Sequence[dict]) -> list[dict]:
    """Return photometry per type, place of the hit, mask and method.

    ``aperture`` and ``kron`` hold the scatter against the catalogue of the mended image
    (``scatter``), of the CR-free one (``clean``) and their ratio, over sources measured on
    both; ``change`` is the spread of mended − CR-free, ``shared`` the same over the sources to
    which every fill of the same mask leaves light, so that none gains by what it loses.
    ``implied`` is the ratio that these changes would make were the CR-free scatter that of
    photons and read noise alone: it does not get smaller because neighbours or the aperture
    scatter the CR-free magnitudes as well.
    """
    table = []
    keys = [key for key in (rows[0]["aperture"] if rows else {}) if key != "CR-free"]
    fills = [key for key in keys if key.split(": ")[1] not in NO_FILLS]
    for kind in ("star", "galaxy", "both"):
        for where in ("all", "outside", "inside"):
            own = [row for row in rows if kind in ("both", row["type"])]
            own = [row for row in own if where == "all" or row["inside"] == (where == "inside")]
            for key in keys:
                mask, method = key.split(": ")
                head = {"type": kind, "where": where, "mask": mask, "method": method}
                peers = [other for other in fills if other.startswith(f"{mask}: ")]
                both = {
                    name: _against_truth(own, name, key, peers) for name in ("aperture", "kron")
                }
                table.append(head | both)
    return table


def _against_truth(
    rows: Sequence[dict], name: str, key: str, peers: Sequence[str]
) -> dict[str, Any]:
    """Return the scatter against the catalogue with and without CRs."""
    mended = np.array([row[name][key] for row in rows])
    clean = np.array([row[name]["CR-free"] for row in rows])
    good = np.isfinite(mended) & np.isfinite(clean)
    ours, reference = spread_of(mended[good])["scatter"], spread_of(clean[good])["scatter"]
    ratio = ours / reference if reference > 0 else float("nan")
    change = (mended - clean)[np.isfinite(clean)]
    noise = _MAGNITUDES / np.array([row["snr"] for row in rows])[np.isfinite(clean)]
    implied = float(np.hypot(1.0, spread_of(change / noise)["scatter"]))
    found = {"scatter": ours, "clean": reference, "ratio": ratio, "implied": implied}
    others = np.array([[row[name][peer] for peer in peers] for row in rows])
    shared = np.isfinite(others.reshape(len(rows), len(peers))).all(axis=1)[np.isfinite(clean)]
    return found | {"change": spread_of(change), "shared": spread_of(change[shared])}


def summarise_shapes(rows: Sequence[dict]) -> list[dict]:
    """Return the added ellipticity (mended − CR-free) per type, mask and method."""
    table = []
    keys = [key for key in (rows[0]["shape"] if rows else {}) if key != "CR-free"]
    for kind in ("star", "galaxy"):
        own = [row for row in rows if row["type"] == kind]
        for key in keys:
            mask, method = key.split(": ")
            line: dict[str, Any] = {"type": kind, "mask": mask, "method": method}
            for k, name in enumerate(("e1", "e2")):
                added = np.array([r["shape"][key][k] - r["shape"]["CR-free"][k] for r in own])
                line[name] = spread_of(added) | _mean_of(added)
            table.append(line)
    return table


def _mean_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean and its standard error."""
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return {"mean": float("nan"), "mean_error": float("nan")}
    deviation = float(finite.std(ddof=1))
    return {"mean": float(finite.mean()), "mean_error": deviation / finite.size**0.5}


def summarise_pulls(pulls: dict[str, list[dict[str, NDArray]]]) -> list[dict]:
    """Return the coverage of ours' sigma per mask, method and place of the pixel."""
    names = {-1: "sky"}
    for k, (low, high) in enumerate(itertools.pairwise(MAGNITUDE_BINS)):
        names[k] = f"mag {low:g}–{high:g}"
    table = []
    for mask, parts in pulls.items():
        pooled = {k: np.concatenate([p[k] for p in parts]) for k in ("pull", "method", "group")}
        for word, methods in _FILLED.items():
            chosen = np.isin(pooled["method"], methods)
            groups = {name: pooled["group"] == k for k, name in names.items()}
            groups["all sources"] = pooled["group"] >= 0
            for name, inside in groups.items():
                head = {"mask": mask, "filled": word, "place": name}
                table.append(head | coverage(pooled["pull"][chosen & inside]))
    return table


def summarise_sky(parts: Sequence[dict[str, NDArray]]) -> list[dict]:
    """Return bias, rms and scatter of mended sky pixels by method, in units of the noise."""
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    table = []
    for name, values in pooled.items():
        spread = spread_of(values)
        mean = float(np.mean(values, dtype=np.float64)) if values.size else float("nan")
        table.append({"method": name, "mean": mean} | spread)
    return table
