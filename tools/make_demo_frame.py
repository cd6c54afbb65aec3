"""Make the Level 1 frame that `crmend demo` cleans, with the simulator.

    python tools/make_demo_frame.py [--out FRAME.fits.fz]

The frame is the same wherever it is made; its headers hold the time.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits

from crmend_training import _script
from crmend_training.simulate import SimulationConfig, simulate_exposure, write_pair

TARGET = Path(__file__).resolve().parents[1] / "runtime/crmend/demo/csst_demo_08_L1.fits.fz"

# No recipe has this seed, so no network was trained on this sky or these cosmic rays.
CONFIG = SimulationConfig(
    detector=8, shape=(768, 768), seed=990_001, field="cluster", law="paper-subpixel"
)


def main() -> None:
    """Simulate the frame, pack its planes without loss, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TARGET, help="default: the bundled one")
    out = parser.parse_args().out
    with TemporaryDirectory() as folder:
        sim = simulate_exposure(CONFIG)
        level1, _ = write_pair(sim, folder)
        with fits.open(level1) as hdus:
            packed = [fits.PrimaryHDU(header=hdus[0].header), *map(_packed, hdus[1:])]
            fits.HDUList(packed).writeto(out, overwrite=True)
            with fits.open(out) as again:
                for before, after in zip(hdus[1:], again[1:], strict=True):
                    np.testing.assert_array_equal(before.data, after.data)
    # What tests/runtime/test_demo.py knows of the truth.
    hit = np.mean(sim.cr_truth > 1.0)
    print(f"cosmic rays: {100 * hit:.1f} % of the pixels, {sim.cr_truth.sum():.4g} e-")
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def _packed(hdu: fits.ImageHDU) -> fits.CompImageHDU:
    """Return the plane tile-compressed; quantize_level 0 keeps floats bit for bit."""
    return fits.CompImageHDU(
        hdu.data,
        header=hdu.header,
        compression_type="GZIP_2",
        quantize_level=0,
        tile_shape=(64, hdu.shape[1]),
    )


if __name__ == "__main__":
    _script.run(main)
