"""What is mended where: every CR pixel of a cutout, or those near a source; and how fast."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from crmend._background import measure_background
from crmend._cutout_network import network_inputs
from crmend._normalise import Scale, measure_scale
from crmend._targets import find_targets
from crmend.cutouts import CutoutBatch, plan_cutouts
from crmend.inpaint import BATCH, NETWORK, REACH, flat_error, inpaint_into
from crmend.models import Model, choose_model
from crmend_training.classical_fills import prepared
from crmend_training.evaluate_mending import aperture_fluxes, magnitude, spread_of
from crmend_training.mending_frames import HitFrame, without_background
from crmend_training.simulate.bands import FULL_SHAPE

REACHES = (None, 0.0, 2.0, 5.0)
"""Of `inpaint_into` [px]; None = every CR pixel of a cutout, as the paper."""

CUTOUTS = 5000
"""Of a full frame, a bar of the mending evaluation."""


def score_policy(frame: HitFrame, hits: Table, threads: int | None = None) -> list[dict]:
    """Return what each of `REACHES` sends through the network, and what that changes.

    Parameters
    ----------
    frame : HitFrame
        Mended with its true mask.
    hits : Table
        From `mending_frames.hit_table`.
    threads : int or None
        For the network; None = all.

    Returns
    -------
    list of dict
        ``change``: mended − CR-free magnitudes; ``moved``: mended − mended with the first
        reach; ``left``: (mended − CR-free) / noise of the pixels that the first reach sends to
        the network and this one leaves to the median, ``by_network``: the same pixels as the
        network has them.
    """
    model = choose_model(frame.detector, None, "inpaint", "cpu", threads)
    clean = _magnitudes(frame, frame.clean, hits)
    kinds = np.char.strip(np.asarray(hits["type"]).astype(str))
    rows: list[dict] = []
    for reach in REACHES:
        image = frame.image.copy()
        error = flat_error(image, frame.excluded | frame.true_mask)
        done = inpaint_into(
            image, error, frame.true_mask, frame.invalid, frame.excluded, model, reach=reach
        )
        found = _magnitudes(frame, image, hits)
        network = done.method == NETWORK
        if not rows:
            first_image, first_network, first = image, network, found
        left = first_network & ~network
        rows.append(
            {
                "reach": reach,
                "cutouts": done.sources_touched,
                "pixels": int(network.sum()),
                "seconds": done.seconds["network"],
                "kind": kinds,
                "change": found - clean,
                "moved": found - first,
                "left": (image - frame.clean)[left] / frame.noise,
                "by_network": (first_image - frame.clean)[left] / frame.noise,
            }
        )
    return rows


def _magnitudes(
    frame: HitFrame, image: NDArray[np.float32], hits: Table
) -> NDArray[np.float64]:
    """Return instrumental magnitudes in the aperture."""
    x, y = (np.asarray(hits[name], float) for name in ("x", "y"))
    return magnitude(aperture_fluxes(without_background(frame, image), x, y))


def summarise_policy(rows: Sequence[dict]) -> list[dict[str, Any]]:
    """Pool the rows of `score_policy` over the frames, by reach."""
    by_reach: dict[float | None, list[dict]] = defaultdict(list)
    for row in rows:
        by_reach[row["reach"]].append(row)
    table = []
    for reach, own in by_reach.items():
        arrays = {
            name: np.concatenate([row[name] for row in own])
            for name in ("kind", "change", "moved", "left", "by_network")
        }
        line: dict[str, Any] = {"reach": reach}
        line |= {k: sum(row[k] for row in own) for k in ("cutouts", "pixels", "seconds")}
        for kind in ("star", "galaxy"):
            line[kind] = spread_of(arrays["change"][arrays["kind"] == kind])
        moved = np.abs(arrays["moved"][np.isfinite(arrays["moved"])])
        line["moved"] = float(moved.max()) if moved.size else float("nan")
        line |= {name: spread_of(arrays[name]) for name in ("left", "by_network")}
        table.append(line)
    return table


def measure_speed(
    frame: HitFrame, cutouts: int = CUTOUTS, threads: int | None = None
) -> dict[str, float]:
    """Return the seconds that so many cutouts of a frame take, read from it again and again.

    ``graph`` is the time in the exported network, ``all`` includes reading the stamps and
    their first fill, as `crmend.inpaint` does it, ``processor`` is the processors' time for all
    of it, which other work on the machine does not lengthen.  ``sent`` are the cutouts that
    `crmend.clean` would send of a full frame like this one.  A frame without any gives zeros.
    """
    model = choose_model(frame.detector, None, "inpaint", "cpu", threads)
    mask = frame.true_mask
    scale = measure_scale(frame.image, frame.excluded | mask)
    image = prepared(frame.image, frame.invalid | mask, scale.background)
    background = measure_background(image, frame.invalid).surface()
    sources, psf, plan = find_targets(
        image, mask, frame.invalid, frame.excluded, scale, background,
        sources=None, reach=None, observed=frame.image[mask],
    )  # fmt: skip
    if len(plan) == 0:
        names = ("cutouts", "all", "graph", "processor", "per_second", "sent")
        return dict.fromkeys(names, 0.0)
    first = next(plan.batches(image, mask, frame.invalid, background, BATCH))
    _seconds_of(first, scale, psf, model)  # compiles
    done, graph, start, processor = 0, 0.0, time.perf_counter(), time.process_time()
    while done < cutouts:
        for stamps in plan.batches(image, mask, frame.invalid, background, BATCH):
            graph += _seconds_of(stamps, scale, psf, model)
            done += len(stamps.image)
            if done >= cutouts:
                break
    seconds = time.perf_counter() - start
    return {
        "cutouts": done,
        "all": seconds,
        "graph": graph,
        "processor": time.process_time() - processor,
        "per_second": done / seconds,
        "sent": len(plan_cutouts(mask, sources, reach=REACH))
        * math.prod(FULL_SHAPE)
        / mask.size,
    }


def _seconds_of(
    stamps: CutoutBatch, scale: Scale, psf: NDArray[np.float64] | None, model: Model
) -> float:
    """Send one batch through first fill and graph; return the graph's seconds."""
    image = (stamps.image - stamps.background) / np.float32(scale.noise)
    arrays = network_inputs(image, stamps.cr_mask, model.inputs, psf, model.threads)
    before = time.perf_counter()
    model.run(*arrays)
    return time.perf_counter() - before
