"""Run the job of a JSON file: arrays from an .npz file, the result into another.

The job holds ``task`` ("detect" or "mend"), ``peer``, ``settings`` (list of dict), ``frame``
(.npz) and ``out`` (.npz).  Beside ``out`` a ``.json`` tells seconds, memory and
an error of the method, which is no failure of the script.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import fillers
import finders
import numpy as np

WARM_UP = 64
"""Side of the corner that every method sees first: what compiles or loads then is not timed."""


def main(path: str) -> None:
    """Run one job."""
    job = json.loads(Path(path).read_text())
    out = Path(job["out"])
    names = ("error", "seconds", "cpu_seconds", "load_seconds", "idle_mib")
    report = dict.fromkeys(names)
    warnings.simplefilter("ignore")
    try:
        frame = finders.read_frame(job["frame"], job["threads"])
        start = time.perf_counter()
        load = finders.load if job["task"] == "detect" else fillers.load
        method = load(job["peer"], frame)
        warm_up(method, frame, job["settings"][:1])
        report["load_seconds"] = time.perf_counter() - start
        report["idle_mib"] = peak_mib()
        start = time.perf_counter()
        before = cpu_seconds()
        arrays = run(method, frame, job["settings"])
        report["cpu_seconds"] = (cpu_seconds() - before) / len(job["settings"])
        report["seconds"] = (time.perf_counter() - start) / len(job["settings"])
        np.savez(out, **arrays)
    except Exception as error:  # whatever a peer's own code raises is its result
        text = " ".join(str(error).split())
        report["error"] = f"{type(error).__name__}: {text}"[:400]
    report["peak_mib"] = peak_mib()
    out.with_suffix(".json").write_text(json.dumps(report))


def run(method, frame, settings):
    """Return the arrays of a result: ``probability``, ``image`` or packed ``masks``."""
    results = [method(frame, **setting) for setting in settings]
    if results[0].dtype == bool:
        return {"masks": np.packbits(np.stack(results), axis=-1)}
    if not np.isfinite(results[0]).all():
        lost = int((~np.isfinite(results[0])).sum())
        raise ValueError(f"{lost} pixels of the result are not finite")
    return {"result": results[0].astype(np.float32)}


def warm_up(method, frame, settings):
    """Run a method on a corner; what goes wrong there counts only if it does again.

    A star is put in its middle and its core is to be mended, and a pixel is bad, so that the
    code for sources and for bad pixels is compiled as well.
    """
    try:
        corner = frame.corner(WARM_UP)
        y, x = np.ogrid[: corner.mask.shape[0], : corner.mask.shape[1]]
        row, column = corner.mask.shape[0] // 2, corner.mask.shape[1] // 2
        distance = (y - row) ** 2 + (x - column) ** 2
        star = 300.0 * frame.noise * np.exp(-4.0 * np.log(2.0) * distance / frame.fwhm**2)
        for plane in (corner.image, corner.filled):
            plane += star.astype(np.float32)
        corner.mask[row, column - 1 : column + 2] = True
        corner.invalid[1, 1] = True
        run(method, corner, settings)
    except Exception:  # a corner may be too small, or hold nothing
        return


def peak_mib():
    """Return the largest resident memory so far, of this process or of one that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")
    if status.is_file():
        # ru_maxrss starts at that of the process that started this one; VmHWM is our own.
        lines = status.read_text().splitlines()
        own = int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(own, children) / unit


def cpu_seconds():
    """Return the processor's time so far, of this process and of those that it started."""
    parts = [
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return sum(part.ru_utime + part.ru_stime for part in parts)


if __name__ == "__main__":
    main(sys.argv[1])
