"""What the frames of the mending evaluation amount to, pooled, and cutouts per second."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from crmend._normalise import Scale, measure_scale, to_noise_units
from crmend.cutouts import CutoutBatch, plan_cutouts
from crmend.inpaint import (
    BATCH,
    MEDIAN,
    NETWORK,
    flat_error,
    inpaint_into,
    network_inputs,
)
from crmend.models import Model, choose_model
from crmend.sources import find_sources
from crmend_training.classical_fills import prepared
from crmend_training.evaluate import hit_sources
from crmend_training.evaluate_mending import aperture_fluxes, coverage, magnitude, spread_of
from crmend_training.mending_frames import MAGNITUDE_BINS, HitFrame

REACHES = (None, 0.0, 2.0, 5.0)
"""Of `inpaint_into` [px]; None = every CR pixel of a cutout, as the paper."""

CUTOUTS = 5000
"""Of a full frame (issue 5)."""


def summarise_sources(rows: Sequence[dict]) -> list[dict]:
    """Return photometry per type, place of the hit, mask and method.

    ``aperture`` and ``kron`` hold the scatter against the catalogue of the mended image
    (``scatter``), of the CR-free one (``clean``) and their ratio, over sources measured on
    both; ``change`` is the spread of mended − CR-free.
    """
    table = []
    keys = [key for key in (rows[0]["aperture"] if rows else {}) if key != "CR-free"]
    for kind in ("star", "galaxy", "both"):
        for where in ("all", "outside", "inside"):
            own = [row for row in rows if kind in ("both", row["type"])]
            own = [row for row in own if where == "all" or row["inside"] == (where == "inside")]
            for key in keys:
                mask, method = key.split(": ")
                head = {"type": kind, "where": where, "mask": mask, "method": method}
                both = {name: _against_truth(own, name, key) for name in ("aperture", "kron")}
                table.append(head | both)
    return table


def _against_truth(rows: Sequence[dict], name: str, key: str) -> dict[str, Any]:
    """Return the scatter against the catalogue with and without CRs."""
    mended = np.array([row[name][key] for row in rows])
    clean = np.array([row[name]["CR-free"] for row in rows])
    good = np.isfinite(mended) & np.isfinite(clean)
    ours, reference = spread_of(mended[good])["scatter"], spread_of(clean[good])["scatter"]
    ratio = ours / reference if reference > 0 else float("nan")
    change = spread_of(np.where(np.isfinite(clean), mended - clean, np.nan)[np.isfinite(clean)])
    return {"scatter": ours, "clean": reference, "ratio": ratio, "change": change}


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
        for method, word in ((NETWORK, "network"), (MEDIAN, "median")):
            chosen = pooled["method"] == method
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


def score_policy(frame: HitFrame, sources: Table, threads: int | None = None) -> list[dict]:
    """Return what each of `REACHES` sends through the network, and what that changes.

    Parameters
    ----------
    frame : HitFrame
        Mended with its true mask.
    sources : Table
        From `mending_frames.usable_sources`.
    threads : int or None
        For the network; None = all.
    """
    model = choose_model(frame.detector, None, "inpaint", "cpu", threads)
    x, y = (np.asarray(sources[name], float) for name in ("x", "y"))
    hit = hit_sources(frame.true_mask, x, y)
    clean = magnitude(aperture_fluxes(frame.clean - frame.background, x, y))[hit]
    rows = []
    for reach in REACHES:
        image = frame.image.copy()
        excluded = frame.excluded
        error = flat_error(image, excluded | frame.true_mask)
        done = inpaint_into(
            image, error, frame.true_mask, frame.invalid, excluded, model, reach=reach
        )
        mended = magnitude(aperture_fluxes(image - frame.background, x, y))[hit]
        network = int((done.method == NETWORK).sum())
        row = {"reach": reach, "cutouts": done.sources_touched, "pixels": network}
        rows.append(row | {"seconds": done.seconds["network"], "change": mended - clean})
    return rows


def summarise_policy(rows: Sequence[dict]) -> list[dict]:
    """Pool the rows of `score_policy` over the frames, by reach."""
    by_reach: dict[float | None, list[dict]] = defaultdict(list)
    for row in rows:
        by_reach[row["reach"]].append(row)
    return [
        {
            "reach": reach,
            **{k: sum(row[k] for row in own) for k in ("cutouts", "pixels", "seconds")},
            "change": spread_of(np.concatenate([row["change"] for row in own])),
        }
        for reach, own in by_reach.items()
    ]


def measure_speed(
    frame: HitFrame, cutouts: int = CUTOUTS, threads: int | None = None
) -> dict[str, float]:
    """Return the seconds that so many cutouts of a frame take, read from it again and again.

    ``graph`` is the time in the exported network, ``all`` includes reading the stamps and
    their first fill, as `crmend.inpaint` does it.  A frame without any gives NaN.
    """
    model = choose_model(frame.detector, None, "inpaint", "cpu", threads)
    mask = frame.true_mask
    scale = measure_scale(frame.image, frame.excluded | mask)
    image = prepared(frame.image, frame.invalid | mask, scale.background)
    plan = plan_cutouts(mask, find_sources(image, invalid=frame.invalid, noise=scale.noise))
    if len(plan) == 0:
        return dict.fromkeys(("cutouts", "all", "graph", "per_second"), float("nan"))
    first = next(plan.batches(image, mask, frame.invalid, scale.background, BATCH))
    _seconds_of(first, scale, model)  # compiles
    done, graph, start = 0, 0.0, time.perf_counter()
    while done < cutouts:
        for stamps in plan.batches(image, mask, frame.invalid, scale.background, BATCH):
            graph += _seconds_of(stamps, scale, model)
            done += len(stamps.image)
            if done >= cutouts:
                break
    seconds = time.perf_counter() - start
    return {"cutouts": done, "all": seconds, "graph": graph, "per_second": done / seconds}


def _seconds_of(stamps: CutoutBatch, scale: Scale, model: Model) -> float:
    """Send one batch through first fill and graph; return the graph's seconds."""
    arrays = network_inputs(to_noise_units(stamps.image, scale), stamps.cr_mask, model.inputs)
    before = time.perf_counter()
    model.run(*arrays)
    return time.perf_counter() - before
