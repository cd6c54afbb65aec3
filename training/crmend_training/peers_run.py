"""Tuning on validation frames, then every method on every frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crmend_training import peers_scores as scores
from crmend_training.peers_catalogue import TUNING_LEVELS, Peer
from crmend_training.peers_frames import BenchFrame, busiest_part
from crmend_training.peers_jobs import Bench, run_stored

CRITERIA = ("precision_at_95", "tpr_at_0.05", "best_f1", "tpr_at_0.5", "tpr_at_0.01")
"""Figures for which the best settings are kept, in this order (`scores.Points.figures`)."""

Family = Mapping[str, float]


def tune(bench: Bench, peer: Peer, frames: Sequence[BenchFrame]) -> dict[str, Any]:
    """Choose a method's settings on validation frames.

    Every combination of its grid is run at `TUNING_LEVELS` on the busiest part of each frame;
    for each of `CRITERIA` the best combination is kept, as many as the method may keep, so
    that it shows its best in each figure.

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
    settings = peer.settings(families, TUNING_LEVELS)
    parts = [busiest_part(frame, peer.tuning_side) for frame in frames]
    results = [run_stored(own, peer, part, settings) for part in parts]
    good = [scores.points_of(r["scores"]) for r in results if r["error"] is None]
    if not good:
        error = results[0]["error"]
        return {"families": families[:1], "chosen": {}, "frames": 0, "error": error}
    chosen = choose_families(families, scores.pooled_points(good), peer.kept)
    return chosen | {"frames": len(good)}


def choose_families(
    families: Sequence[Family], points: scores.Points, most: int
) -> dict[str, Any]:
    """Return the best of the families for each of `CRITERIA`.

    Parameters
    ----------
    families : sequence of mapping
    points : Points
        Of each family in turn at as many levels.
    most : int
        Families kept.
    """
    count = points.hits.size // len(families)
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
        "families": [dict(families[k]) for k in sorted(kept[:most])],
        "chosen": chosen,
        "error": None,
    }


def tune_all(
    bench: Bench, peers: Sequence[Peer], frames: Sequence[BenchFrame], name: str
) -> dict[str, list[Family]]:
    """Return the settings of every detection method, and write ``tuning_NAME.json``."""
    detection = [peer for peer in peers if peer.task == "detect"]
    found = _each(bench, lambda peer: tune(bench, peer, frames), detection, f"settings, {name}")
    tuned = {peer.name: one for peer, one in zip(detection, found, strict=True)}
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
    """Run every method on every frame that is for its task."""
    results = []
    for frame in frames:

        def run(peer: Peer, frame: BenchFrame = frame) -> dict[str, Any]:
            own = families.get(peer.name, peer.families()[:1])
            return run_stored(bench, peer, frame, peer.settings(own))

        own = [peer for peer in peers if peer.task in frame.tasks]
        results += _each(bench, run, own, frame.name)
    return results


def _each(
    bench: Bench,
    run: Callable[[Peer], dict[str, Any]],
    peers: Sequence[Peer],
    title: str,
) -> list[dict[str, Any]]:
    """Return what each method gives, as many at a time as the bench allows."""
    with ThreadPoolExecutor(bench.jobs) as pool:
        done = pool.map(run, peers)
        return list(tqdm(done, total=len(peers), desc=title, disable=None))


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
