"""Clean one frame on every device named; report seconds, and where the results differ.

    python tools/compare_devices.py FRAME.fits [--devices cuda cpu] [--detector 8] [--full]

Each device cleans a corner first, so that loading and compiling are not in the figures.  With
--full the frame is repeated, mirrored, to 9216 × 9232 pixels for two more rows of times.
Exits with 1 when a mask pixel or more than 1e-5 of a probability differs from the last device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import crmend
from crmend_training import _script, measured

FULL = (9216, 9232)
MOST = 1e-5

T = TypeVar("T")


def main() -> int:
    """Detect and clean on each device, compare with the last one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frame", type=Path)
    parser.add_argument("--devices", nargs="+", default=["cuda", "cpu"])
    parser.add_argument("--detector", type=int, default=8)
    parser.add_argument("--full", action="store_true", help="also time a full frame")
    options = parser.parse_args()
    image = crmend.read_exposure(options.frame).image
    print(f"machine: {measured.machine()}; frame {image.shape}")
    results = {device: measure(image, device, options.detector) for device in options.devices}
    if options.full:
        full = repeated(image, FULL)
        for device in options.devices:
            measure(full, device, options.detector)
    reference = results[options.devices[-1]]
    return max(compare(name, result, reference) for name, result in results.items())


def measure(
    image: NDArray[np.float32], device: str, detector: int
) -> tuple[crmend.Detection, crmend.CleanResult]:
    """Return what a device finds and mends, and print how long either took."""
    corner = image[:1024, :1024]
    crmend.clean(corner, detector=detector, device=device)
    shape = "x".join(map(str, image.shape))
    found = timed(
        f"{device} detect {shape}",
        lambda: crmend.detect(image, detector=detector, device=device),
    )
    mended = timed(
        f"{device} clean {shape}", lambda: crmend.clean(image, detector=detector, device=device)
    )
    return found, mended


def timed(name: str, function: Callable[[], T]) -> T:
    """Call a function, print its wall time [s], return its result."""
    started = time.perf_counter()
    result = function()
    print(f"{name}: {time.perf_counter() - started:.2f} s", flush=True)
    return result


def repeated(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image continued by its mirror images to a larger shape, without seams."""
    after = [(0, max(0, want - have)) for want, have in zip(shape, image.shape, strict=True)]
    return np.pad(image, after, mode="symmetric")[: shape[0], : shape[1]]


def compare(
    name: str,
    result: tuple[crmend.Detection, crmend.CleanResult],
    reference: tuple[crmend.Detection, crmend.CleanResult],
) -> int:
    """Print how a device's result differs from the reference; 1 where by too much."""
    (found, mended), (expected, true) = result, reference
    largest = float(np.abs(found.cr_probability - expected.cr_probability).max())
    changed = int((found.cr_mask != expected.cr_mask).sum())
    both = mended.cr_mask & true.cr_mask
    size = np.maximum(np.abs(true.image[both]), np.finfo(np.float32).tiny)
    relative = np.abs(mended.image[both] - true.image[both]) / size
    print(
        f"{name}: max |dp| {largest:.1e}, {changed} of {int(expected.cr_mask.sum())} mask "
        f"pixels changed; mended pixels within {np.nanmax(relative, initial=0.0):.1e}, relative"
    )
    return int(changed > 0 or largest > MOST)


if __name__ == "__main__":
    _script.run(main)
