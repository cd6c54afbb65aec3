"""Tuning on validation frames, then every method on every frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crmend_training import peers_scores as scores
from crmend_training.peers_catalogue import LEVELS, Peer
from crmend_training.peers_frames import BenchFrame
from crmend_training.peers_jobs import Bench, run_stored

CRITERIA = ("best_f1", "precision_at_95", *(f"tpr_at_{100 * r:g}" for r in scores.FALSE_RATES))
"""Figures for each of which the best settings are kept (`scores.Points.figures`)."""

Family = Mapping[str, float]


def tune(bench: Bench, peer: Peer, frames: Sequence[BenchFrame]) -> dict[str, Any]:
    """Choose a method's settings on validation frames.

    Every combination of its grid is run at all `LEVELS`; for each of `CRITERIA` the best
    combination is kept, so that the method shows its best in each figure.

    Returns
    -------
    dict
        ``families``: the settings kept; ``chosen``: criterion to settings and figure;
        ``frames``: number of frames; ``error`` where it failed on all of them.
    """
    families = peer.families()
    if len(families) == 1 or not frames:
        return {"families": families, "chosen": {}, "frames": 0, "error": None}
    own = replace(bench, out=bench.out / "validation")
    results = [run_stored(own, peer, frame, families) for frame in frames]
    good = [scores.points_of(r["scores"]) for r in results if r["error"] is None]
    if not good:
        error = results[0]["error"]
        return {"families": families[:1], "chosen": {}, "frames": 0, "error": error}
    return choose_families(families, scores.pooled_points(good)) | {"frames": len(good)}


def choose_families(families: Sequence[Family], points: scores.Points) -> dict[str, Any]:
    """Return the best of the families for each of `CRITERIA`.

    Parameters
    ----------
    families : sequence of mapping
    points : Points
        Of each family in turn at all `LEVELS`.
    """
    count = len(LEVELS)
    figures = []
    for k in range(len(families)):
        part = slice(k * count, (k + 1) * count)
        arrays = (one[part] for one in (points.hits, points.correct, points.false))
        figures.append(scores.Points(*arrays, points.bright, points.empty).figures())
    chosen, kept = {}, []
    for name in CRITERIA:
        values = np.array([np.nan_to_num(one[name], nan=-1.0) for one in figures])
        best = int(values.argmax())
        chosen[name] = {"settings": dict(families[best]), "value": figures[best][name]}
        # What no setting reaches chooses none.
        kept += [best] if values[best] >= 0 and best not in kept else []
    return {
        "families": [dict(families[k]) for k in sorted(kept)],
        "chosen": chosen,
        "error": None,
    }


def tune_all(
    bench: Bench, peers: Sequence[Peer], frames: Sequence[BenchFrame], name: str
) -> dict[str, list[Family]]:
    """Return the settings of every detection method, and write ``tuning_NAME.json``."""
    detection = [peer for peer in peers if peer.task == "detect"]
    tuned = {}
    for peer in tqdm(detection, desc=f"settings, {name}", disable=None):
        tuned[peer.name] = tune(bench, peer, frames)
    bench.out.mkdir(parents=True, exist_ok=True)
    path = bench.out / f"tuning_{''.join(c if c.isalnum() else '_' for c in name)}.json"
    text = json.dumps({"name": name, "peers": tuned}, indent=1)
    path.write_text(text.replace("NaN", "null") + "\n")
    return {peer: one["families"] for peer, one in tuned.items()}


def run_all(
    bench: Bench,
    peers: Sequence[Peer],
    frames: Iterable[BenchFrame],
    families: Mapping[str, Sequence[Family]],
) -> list[dict[str, Any]]:
    """Run every method on every frame, one process at a time."""
    results = []
    for frame in frames:
        for peer in tqdm(peers, desc=frame.name, disable=None):
            if peer.task == "mend" and frame.hit is None:
                continue
            own = families.get(peer.name, peer.families()[:1])
            results.append(run_stored(bench, peer, frame, own))
    return results


def stored_results(out: Path) -> list[dict[str, Any]]:
    """Return every stored result.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    paths = sorted((out / "results").glob("*/*.json"))
    if not paths:
        raise FileNotFoundError(
            f"{out} holds no results; make some: tools/benchmark_peers.py run --out {out}"
        )
    return [json.loads(path.read_text()) for path in paths]
