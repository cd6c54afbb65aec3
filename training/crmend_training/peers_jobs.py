"""Runs of one method on one frame, each in a process of its own, and their stored results."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crmend
from crmend.models import DEFAULT_PACK, load_card
from crmend_training import (
    classical_fills,
    evaluate,
    evaluate_mending,
    mending_frames,
    mending_pixels,
    mending_summary,
    peers_worker,
)
from crmend_training import peers_scores as scores
from crmend_training.peers_catalogue import OWN, Peer
from crmend_training.peers_environment import PINS, failures, python_of
from crmend_training.peers_frames import BenchFrame
from crmend_training.peers_worker import finders

_COSTS = ("seconds", "cpu_seconds", "load_seconds", "idle_mib", "peak_mib")
_WORKER = Path(peers_worker.__file__).parent
_RUNTIME = Path(crmend.__file__).parent
_SCORING = tuple(
    Path(module.__file__)
    for module in (
        scores, evaluate, evaluate_mending, mending_frames, mending_pixels, mending_summary,
        classical_fills,
    )
)  # fmt: skip
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where the benchmark runs.

    Attributes
    ----------
    out : Path
        Folder of results.
    environment : Path
        Of the peers (`peers_environment`).
    threads : int
        That every method may use.
    timeout : float
        A method that takes longer on a frame has failed there [s].
    jobs : int
        Methods that run at a time.
    """

    out: Path
    environment: Path
    threads: int = 1
    timeout: float = 3600.0
    jobs: int = 1


def result_path(out: Path, peer: Peer, frame: str) -> Path:
    """Return where the result of a method on a frame is stored."""
    return out / "results" / peer.key / f"{frame}.json"


def run_stored(
    bench: Bench, peer: Peer, frame: BenchFrame, settings: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return the result of a method on a frame, from disk where it is there already.

    A stored result counts only if frame, settings, threads and the code of the scores are the
    same, and what ran: of peers their versions, of ours the runtime's code and the card.  It
    does not count if it is an error: what failed is tried again.
    """
    path = result_path(bench.out, peer, frame.name)
    fingerprint = _fingerprint(bench, peer, frame, settings)
    if path.is_file():
        stored = json.loads(path.read_text())
        if stored["fingerprint"] == fingerprint and stored["error"] is None:
            return stored
    result, arrays = run_once(bench, peer, frame, settings)
    result |= {
        "peer": peer.name,
        "task": peer.task,
        "frame": frame.name,
        "stratum": frame.stratum,
        "pixels": "×".join(str(n) for n in frame.cr.shape),
        "fingerprint": fingerprint,
        "settings": [dict(one) for one in settings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        result |= _scored(peer, frame, arrays, path)
    _write(path, json.dumps(result))
    return result


def run_once(
    bench: Bench, peer: Peer, frame: BenchFrame, settings: Sequence[Mapping[str, float]]
) -> tuple[dict[str, Any], dict[str, NDArray] | None]:
    """Run a method on a frame in a process of its own.

    Returns
    -------
    (dict, dict or None)
        ``error`` (None = none), ``seconds``, ``cpu_seconds``, both per megapixel as well,
        ``load_seconds``, ``idle_mib`` and ``peak_mib``; the arrays, None after an error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finders.write_frame(folder / "frame.npz", frame.work)
        job = {
            "task": peer.task,
            "peer": peer.name,
            "settings": list(settings),
            "frame": str(folder / "frame.npz"),
            "out": str(folder / "out.npz"),
            "threads": bench.threads,
        }
        (folder / "job.json").write_text(json.dumps(job))
        error = _run(bench, peer, folder / "job.json")
        report: dict[str, Any] = {"error": error} | dict.fromkeys(_COSTS)
        if error is None:
            report = json.loads((folder / "out.json").read_text())
        report |= {f"{name}_per_mpx": None for name in _COSTS[:2]}
        for name in _COSTS[:2] if report["seconds"] is not None else ():
            report[f"{name}_per_mpx"] = report[name] / (frame.cr.size / 1e6)
        if report["error"] is not None:
            return report, None
        with np.load(folder / "out.npz") as file:
            return report, {key: file[key] for key in file.files}


def _run(bench: Bench, peer: Peer, job: Path) -> str | None:
    """Start the worker; return what went wrong, if not in the method itself."""
    try:
        python = python_of(bench.environment, peer.place)
    except FileNotFoundError as missing:
        return f"FileNotFoundError: {missing}"
    variables = os.environ | dict.fromkeys(_THREADS, str(bench.threads))
    if peer.place == OWN:
        # This very crmend, wherever this process found it.
        variables["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    else:
        variables.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            [python, "-W", "ignore", _WORKER, job],
            env=variables,
            capture_output=True,
            text=True,
            timeout=bench.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"TimeoutExpired: not done after {bench.timeout:g} s"
    if done.returncode != 0 or not job.with_name("out.json").is_file():
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return f"ProcessError: the process ended with {done.returncode}: {said}"[:400]
    return None


def _scored(
    peer: Peer, frame: BenchFrame, arrays: Mapping[str, NDArray], path: Path
) -> dict[str, Any]:
    """Return the scores of a result; the pixels that pictures need go beside it."""
    kept = path.with_suffix(".npz")
    if peer.task == "mend":
        filled = arrays["result"]
        np.savez_compressed(kept, values=filled[frame.work.mask])
        return {"scores": scores.score_mended(frame, filled)}
    points, result = detection_points(frame, arrays)
    found = scores.found_mask(points, result, "masks" in arrays)
    np.savez_compressed(kept, found=np.packbits(found, axis=-1))
    return {"scores": points.as_json()}


def detection_points(
    frame: BenchFrame, arrays: Mapping[str, NDArray]
) -> tuple[scores.Points, NDArray]:
    """Return the points of a detection's arrays, and its masks or its probability."""
    if "masks" in arrays:
        masks = np.unpackbits(arrays["masks"], axis=-1, count=frame.cr.shape[1]).astype(bool)
        return scores.mask_points(masks, frame.cr, frame.ignore), masks
    found = arrays["result"]
    return scores.probability_points(found, frame.cr, frame.ignore), found


def kept_pixels(out: Path, peer: Peer, frame: BenchFrame) -> NDArray | None:
    """Return a stored mask (detection) or mended image [e-], None where there is none."""
    path = result_path(out, peer, frame.name).with_suffix(".npz")
    if not path.is_file():
        return None
    with np.load(path) as file:
        if peer.task == "detect":
            width = frame.cr.shape[1]
            return np.unpackbits(file["found"], axis=-1, count=width).astype(bool)
        image = frame.work.filled.copy()
        image[frame.work.mask] = file["values"]
        return image


def _fingerprint(
    bench: Bench, peer: Peer, frame: BenchFrame, settings: Sequence[Mapping[str, float]]
) -> str:
    """Return a hash of everything that a result depends on."""
    files = [*sorted(_WORKER.glob("*.py")), *_SCORING]
    if peer.place == OWN:
        files += sorted(_RUNTIME.rglob("*.py"))
    code = b"".join(path.read_bytes() for path in files)
    parts: list[Any] = [peer.name, list(settings), frame.fingerprint(), bench.threads]
    parts.append(_card(peer, frame) if peer.place == OWN else PINS[peer.place])
    parts.append(sorted(failures(bench.environment)) if peer.place != OWN else [])
    digest = hashlib.sha1(json.dumps(parts, sort_keys=True).encode() + code)
    return digest.hexdigest()[:16]


def _card(peer: Peer, frame: BenchFrame) -> str:
    """Return the card that a method of ours uses: thresholds, views, sha256 of the graphs."""
    own = not peer.name.startswith("crmend generic")
    return _pack_card(DEFAULT_PACK if own else "generic", frame.work.detector or None)


@cache
def _pack_card(pack: str, detector: str | None) -> str:
    if pack != "generic" and detector is None:
        return ""
    return repr(load_card(pack, None if pack == "generic" else detector))


def _write(path: Path, text: str) -> None:
    """Write to a temporary name, then rename: a killed run leaves no half file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
