"""Write the hashes that tests/training/test_simulate_reproducible.py compares with.

    python tools/record_frames.py [--out FRAMES.json]

Run it after a change of the simulator that is meant to change its pixels.
"""

import argparse
import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

from crmend_training import _script
from crmend_training.simulate import SimulationConfig, simulate_exposure

TARGET = Path(__file__).resolve().parents[1] / "tests/data/simulated_frames.json"
PLANES = ("image", "error", "flag", "cr_truth", "image_without_cr")
LIBRARIES = ("numpy", "scipy", "galsim", "numba")
FRAMES = (
    {"detector": 6, "shape": (384, 384), "seed": 71, "field": "globular", "law": "paper"},
    {"detector": 13, "shape": (384, 384), "seed": 72, "field": "cluster", "law": "physical"},
    {"detector": 25, "shape": (320, 448), "seed": 73, "field": "mid", "law": "paper-subpixel"},
)


def main() -> None:
    """Simulate the frames and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TARGET, help="default: the test's own")
    out = parser.parse_args().out
    frames = []
    for config in FRAMES:
        sim = simulate_exposure(SimulationConfig(**config))
        digests = {
            plane: hashlib.sha256(getattr(sim, plane).tobytes()).hexdigest() for plane in PLANES
        }
        frames.append({"config": config, "sha256": digests})
    recorded = {
        "machine": processor(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "frames": frames,
    }
    out.write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{len(frames)} frames recorded in {out}")


def processor() -> str:
    """Return the widest vector instructions of this processor, which decide rounding."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return platform.machine()
    widest = next((name for name in ("avx512f", "avx2") if name in flags), "")
    return f"{platform.machine()} {widest}".strip()


if __name__ == "__main__":
    _script.run(main)
