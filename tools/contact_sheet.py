"""Lay simulated exposures side by side, and next to real ones.

    python tools/contact_sheet.py --out looks
    python tools/contact_sheet.py --out looks --data EXPOSURES

Writes ``detectors.png``, a cut-out of each of the 18 detectors with its cosmic rays beside,
and, with a folder of real exposures, ``real.png`` with ``real.txt``: real frames
and the generic exposures that are nearest to them.

The rule for "nearest": of the setups of `generic_exposure` with seeds 0 to 5999, those eight of
the same kind (field, star cluster or slit) that differ least in log FWHM, log read noise and
log sky electrons are simulated, and the one is shown whose shares of pixels above 5, 50 and 500
sigma are most like those of the real frame.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend_training._results import make_folder
from crmend_training._script import existing_folder
from crmend_training._script import run as run_script
from crmend_training.simulate import (
    DETECTOR_BANDS,
    FIELDS,
    SimulationConfig,
    generic_exposure,
    simulate_exposure,
)
from crmend_training.simulate.setups import generic_setup

CUTOUT = 256
SEEDS, SIMULATED = 6000, 8
CR_SHOWN = 5.0  # e-/px
PIXEL = 0.9  # what the pixel adds to a FWHM in quadrature [px]


@dataclass(frozen=True)
class Real:
    """A cut-out of a real exposure, and what its instrument is like.

    Attributes
    ----------
    file : str
        Below the folder of real exposures.
    extension : str
    corner : (int, int)
        First row and column.
    gain : float
        Electrons per unit of the image: from the header (ATODGAIN, GAIN) or the data's README;
        1 where the image is in electrons.
    bias : float
        Unit of the image.
    read_noise : float
        e-.
    fwhm : float
        With the pixel [px].
    kind : {"field", "stars", "slit"}
        "stars" is a star cluster.
    """

    file: str
    extension: str
    corner: tuple[int, int]
    gain: float
    bias: float
    read_noise: float
    fwhm: float
    kind: str = "field"


# Read noise: README of the data (HRC, SAAO, ISIS); WFPC2 Instrument Handbook, table 4.2, and
# WFC3 Instrument Handbook, 5.1, both to about 10 %; SPRAT assumed, from the frame's scatter of
# 7 e-.  FWHM: README (SAAO); the handbooks' PSF tables to about 10 % (HST); slits assumed by
# eye.  Bias: README (ISIS), overscan of other/saao_ste3_a8280271 (SAAO), 1st percentile of the
# frame (SPRAT).
REAL = {
    "WFPC2 ω Cen (WF2)": Real(
        "hst/wfpc2_u40x010hm_c0f.fits.fz", "SCI2", (300, 300), 7.0, 0.0, 5.3, 1.5, "stars"
    ),
    "WFPC2 ω Cen (PC1)": Real(
        "hst/wfpc2_u40x010hm_c0f.fits.fz", "SCI1", (300, 300), 7.0, 0.0, 5.3, 1.9, "stars"
    ),
    "WFPC2 nearly empty": Real(
        "hst/wfpc2_u5780205r_c0f_200px.fits.fz", "SCI3", (0, 0), 7.0, 0.0, 5.3, 1.5
    ),
    "ACS/HRC 47 Tuc": Real(
        "hst/acs_hrc_j8bt06nyq_flt.fits.fz", "SCI", (400, 400), 1.0, 0.0, 4.7, 2.2, "stars"
    ),
    "WFC3/UVIS, stars trailed": Real(
        "hst/wfc3_uvis_ibo821kvq_flt.fits.fz", "SCI", (128, 128), 1.0, 0.0, 3.1, 1.9
    ),
    "SAAO I": Real(
        "saao_i_band/AKB13475I0131.fits.fz", "SCI", (128, 128), 1.9, 214.0, 5.0, 6.0, "stars"
    ),
    "ISIS, sky lines": Real(
        "isis_red/isis_r2701242.fits.fz", "SCI", (2000, 350), 0.98, 796.0, 4.0, 3.5, "slit"
    ),
    "ISIS, blue end": Real(
        "isis_red/isis_r2701242.fits.fz", "SCI", (600, 350), 0.98, 796.0, 4.0, 3.5, "slit"
    ),
    "SPRAT": Real(
        "sprat/sprat_lhs6328_1.fits.fz", "SCI", (0, 400), 2.45, 911.0, 6.0, 4.0, "slit"
    ),
}


def main() -> None:
    """Parse, simulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--data", type=existing_folder, help="folder of real exposures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_folder(options.out)
    draw_detectors(options.out / "detectors.png", options.seed)
    if options.data is not None:
        draw_real(options.data, options.out)


# --- the 18 detectors -----------------------------------------------------------------


def draw_detectors(path: Path, seed: int) -> None:
    """Draw a cut-out of each detector, a field each in turn, and beside it its truth."""
    figure, panels = plt.subplots(6, 3, figsize=(19.5, 21.0), layout="constrained")
    fields, laws = sorted(FIELDS), ("paper", "physical", "paper-subpixel")
    for number, (panel, detector) in enumerate(
        zip(panels.flat, sorted(DETECTOR_BANDS), strict=True)
    ):
        config = SimulationConfig(
            detector,
            (CUTOUT, CUTOUT),
            seed=seed + number,
            field=fields[number % len(fields)],
            law=laws[number % len(laws)],
        )
        sim = simulate_exposure(config)
        sigma = np.sqrt(sim.sky * sim.exposure_time + sim.camera.read_noise**2)
        picture = stretch(sim.image * sim.exposure_time, sigma)
        _show(panel, [picture, mark(picture, sim.cr_truth > CR_SHOWN)])
        panel.set_title(f"{detector:02d} {config.band.name} · {config.field} · {config.law}")
    figure.suptitle(f"asinh stretch; right of each: cosmic rays > {CR_SHOWN:g} e- in red")
    figure.savefig(path, dpi=85)
    plt.close(figure)


def stretch(image: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    """Return an image between 0 and 1: asinh around its lower half, in units of 2 sigma."""
    zero = sky_level(image, sigma)
    return np.clip((np.arcsinh((image - zero) / (2.0 * sigma)) + 1.2) / 6.7, 0.0, 1.0)


def sky_level(image: NDArray[np.float32], sigma: float) -> float:
    """Return the sky of an image, crowded or not: 1.28 sigma above the 10th percentile."""
    return float(np.percentile(image, 10.0) + 1.28 * sigma)


def mark(picture: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a grey picture as RGB with a mask in red."""
    colours = np.repeat(picture[..., None], 3, axis=2)
    colours[mask] = 0.35 * colours[mask] + 0.65 * np.array([1.0, 0.1, 0.1])
    return colours


def _show(panel, pictures):
    """Show pictures side by side, first row at the bottom."""
    gap = np.ones((pictures[0].shape[0], 4, 3))
    row = []
    for picture in pictures:
        colours = picture if picture.ndim == 3 else mark(picture, np.zeros(picture.shape, bool))
        row += [colours, gap]
    panel.imshow(np.concatenate(row[:-1], axis=1), origin="lower", interpolation="nearest")
    panel.set_axis_off()


# --- real exposures -------------------------------------------------------------------


def draw_real(data: Path, out: Path) -> None:
    """Draw real cut-outs, each with the nearest of the generic exposures and its truth."""
    drawn = [_describe_seed(seed) for seed in range(SEEDS)]
    figure, panels = plt.subplots(
        len(REAL), 1, figsize=(13.0, 4.5 * len(REAL)), layout="constrained"
    )
    lines = []
    for panel, (name, real) in zip(panels, REAL.items(), strict=True):
        image = read_electrons(data, real)
        sky = max(float(np.percentile(image, 10.0)), 0.0)
        sigma = float(np.hypot(np.sqrt(sky), real.read_noise))
        wanted = (real.kind, real.fwhm, real.read_noise, max(sky, 1.0))
        seed, sim = nearest(wanted, drawn, image, sigma)
        electrons = sim.image * sim.exposure_time
        own = float(np.median(sim.error) * sim.exposure_time)
        _, fwhm, read_noise, sim_sky = drawn[seed]
        picture = stretch(electrons, own)
        beside = mark(picture, sim.cr_truth > CR_SHOWN)
        _show(panel, [_padded(stretch(image, sigma)), picture, beside])
        lines.append(
            f"{name}: FWHM {real.fwhm:.1f} px, read noise {real.read_noise:.1f} e-, "
            f"sky {sky:.0f} e-  |  "
            f"seed {seed}: {fwhm:.1f} px, {read_noise:.1f} e-, {sim_sky:.0f} e-"
        )
        panel.set_title(lines[-1])
    figure.suptitle("real | nearest generic exposure | its cosmic rays > 5 e- in red")
    figure.savefig(out / "real.png", dpi=75)
    plt.close(figure)
    (out / "real.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def read_electrons(data: Path, real: Real) -> NDArray[np.float32]:
    """Return the cut-out of a real exposure [e-]."""
    row, column = real.corner
    with fits.open(data / real.file) as hdus:
        part = hdus[real.extension].data[row : row + CUTOUT, column : column + CUTOUT]
        return ((part.astype(np.float32) - real.bias) * real.gain).astype(np.float32)


def nearest(wanted, drawn, image, sigma):
    """Return (seed, exposure) of the generic exposure nearest to a real one."""
    distance = [
        np.inf
        if kind != wanted[0]
        else sum(np.log(a / b) ** 2 for a, b in zip(rest, wanted[1:], strict=True))
        for kind, *rest in drawn
    ]
    shares, best = bright_shares(image, sigma), (np.inf, -1, None)
    for seed in map(int, np.argsort(distance, kind="stable")[:SIMULATED]):
        sim = generic_exposure(np.random.default_rng(seed), (CUTOUT, CUTOUT))
        own = float(np.median(sim.error) * sim.exposure_time)
        difference = bright_shares(sim.image * sim.exposure_time, own) - shares
        # A slit frame's setup does not tell how bright its sky is.
        if (score := float(np.abs(difference).sum())) < best[0]:
            best = (score, seed, sim)
    return best[1:]


def bright_shares(image: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    """Return log10 of the shares of pixels above 5, 50 and 500 sigma, at least 1e-4."""
    excess = image - sky_level(image, sigma)
    return np.log10([np.mean(excess > n * sigma) + 1e-4 for n in (5.0, 50.0, 500.0)])


def _describe_seed(seed):
    """Return (kind, FWHM with the pixel, read noise, sky electrons) of a generic exposure."""
    setup = generic_setup(np.random.default_rng(seed).spawn(2)[0], (64, 64))
    fwhm = float(np.hypot(setup.psfs[0].fwhm, PIXEL))
    sky = max(setup.sky * setup.exposure_time, 1.0)
    if setup.slit is not None:
        # Its noise is that of the sky drawn, which the slit's own light takes the place of.
        variance = (setup.slit.noise * setup.exposure_time) ** 2
        sky = max(variance - setup.camera.read_noise**2, 1.0)
        return "slit", fwhm, setup.camera.read_noise, sky
    kind = "stars" if setup.sky_model.cluster == "stars" else "field"
    return kind, fwhm, setup.camera.read_noise, sky


def _padded(picture):
    """Return a picture, with grey where a real frame ends, as large as the simulated ones."""
    ny, nx = picture.shape
    return np.pad(picture, ((0, CUTOUT - ny), (0, CUTOUT - nx)), constant_values=0.5)


if __name__ == "__main__":
    run_script(main)
