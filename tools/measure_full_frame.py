"""Clean one frame with the command line tool; report time, memory and what changed.

    python tools/measure_full_frame.py FRAME.fits [--keep OUT.fits] [--out report]

FRAME is a Level 1 file of any size, such as `crmend-train simulate --detector 8 --shape
9232x9216` writes.  Exits with 1 when a pixel outside the mask changed, a flag bit was lost
or the input file is not byte-identical afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import crmend
from crmend_training import _results, _script, measured, measured_figures


def main() -> int:
    """Run `crmend clean` in a process of its own and compare its output with its input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frame", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the corrected file under this name")
    parser.add_argument("--quality", choices=["reference", "fast"], help="of detection")
    parser.add_argument("--out", type=Path, help="folder for what README shows (measured.csv)")
    options = parser.parse_args()
    if options.out is not None:
        _results.make_folder(options.out)
    before = sha256(options.frame)
    with tempfile.TemporaryDirectory() as folder:
        out = options.keep or Path(folder) / "corrected.fits"
        started = time.perf_counter()
        command = [sys.executable, "-m", "crmend.cli", "clean", options.frame, "-o", out]
        command += [] if options.quality is None else ["--quality", options.quality]
        if (code := subprocess.run(command, check=False).returncode) != 0:
            return code
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        changed, masked, lost, shape = compare(options.frame, out)
    same_file = sha256(options.frame) == before
    kept = changed == 0 and lost == 0 and same_file
    print(f"machine: {measured.machine()}")
    print(f"wall time {seconds:.0f} s, peak memory {peak:.2f} GiB")
    print(f"CR pixels {masked}, pixels changed outside of them {changed}")
    print(f"pixels that lost a flag bit {lost}, input file unchanged: {same_file}")
    if options.out is not None and kept:
        shown = measured_figures.of_full_frame(shape, masked, seconds, peak)
        measured.write_figures(options.out, shown)
    return 0 if kept else 1


def compare(frame: Path, corrected: Path) -> tuple[int, int, int, tuple[int, ...]]:
    """Return pixels changed outside the mask, CR pixels, pixels that lost a bit; the shape."""
    old, new = crmend.read_exposure(frame), crmend.read_exposure(corrected)
    cr_mask = new.flag & (1 << 20) != 0
    # Bits, not values: NaN must stay the same NaN.
    differs = old.image.view(np.uint32) != new.image.view(np.uint32)
    lost = (old.flag & ~new.flag) != 0
    changed = int((differs & ~cr_mask).sum())
    return changed, int(cr_mask.sum()), int(lost.sum()), old.image.shape


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    _script.run(main)
