"""Cosmic rays as charge in the silicon, before saturation and read-out.

Two laws: the paper's (section 2: straight tracks, log-normal energies) and a physical
one (isotropic particles through a thin slab).  The kernels that follow the particles are
in `_tracks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from crmend_training.simulate._tracks import BORDER, add_paper_events, add_particles

PAPER_RATE = 0.0075
"""Impact fraction of the paper: here, the length of all tracks (at least 1 px each) over the
number of pixels, that is, the share of pixels on track cores."""

PAPER_DIFFUSION = 0.2
"""Sigma of the charge diffusion [px] (paper, section 2)."""

PAPER_LOG_ENERGY = (3.3, 0.6 / 2.3548)
"""Mean and sigma of log10 of an event's charge [e-]; the paper gives FWHM 0.6."""

LENGTH_SHAPE = (0.3, 8.0)
"""Beta law of the event length over 0–100 px.

The paper gives the range only.  This one has a mean of 3.6 px; one event in a hundred is
longer than 28 px.  Diffusion then turns the 0.75 % of pixels on the cores into 2–3 % of
pixels with charge, which is what the paper counts after reduction.
"""

_LONGEST = 100.0


@dataclass(frozen=True)
class Slab:
    """The silicon that particles of the physical law cross.

    Attributes
    ----------
    thickness : float
        Of the collecting layer [µm].
    pixel : float
        Pixel size [µm].
    diffusion : (float, float)
        Sigma [px] of charge freed next to the electrodes and at the far side.
    """

    thickness: float
    pixel: float = 10.0
    diffusion: tuple[float, float] = (0.2, 0.45)


def draw_cosmic_rays(
    rng: np.random.Generator,
    shape: tuple[int, int],
    law: str,
    rate: float | None = None,
    slab: Slab | None = None,
) -> NDArray[np.float32]:
    """Draw the cosmic rays of one exposure.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    law : {"paper", "physical"}
    rate : float or None
        Fraction of pixels, see `SimulationConfig.cr_rate`.
    slab : Slab or None
        For the physical law; None draws 16–40 µm of silicon with 10 µm pixels.

    Returns
    -------
    (ny, nx) float32 array
        Charge in e-/px, whole electrons; a pixel with less than half an electron is 0.
    """
    charge = np.zeros(shape, dtype=np.float32)
    if law == "paper":
        rate = PAPER_RATE if rate is None else rate
        # Events fall on a border around the frame, too: half of a track may still cross it.
        area = (shape[0] + BORDER) * (shape[1] + BORDER)
        n_events = rng.poisson(rate * area / core_pixels_per_event())
        mean, sigma = PAPER_LOG_ENERGY
        lengths = _LONGEST * rng.beta(*LENGTH_SHAPE, n_events)
        energies = 10.0 ** rng.normal(mean, sigma, n_events)
        add_paper_events(rng, charge, lengths, energies, PAPER_DIFFUSION)
    else:
        if rate is None:
            rate = float(np.exp(rng.uniform(np.log(0.0008), np.log(0.025))))
        slab = slab or _draw_slab(rng)
        add_particles(
            rng, charge, int(rate * charge.size), slab.thickness, slab.pixel, *slab.diffusion
        )
    return np.rint(charge, out=charge)


def core_pixels_per_event() -> float:
    """Return the mean track length of a paper event [px], counting at least one."""
    longer = np.linspace(1.0, _LONGEST, 20_001)
    return 1.0 + float(np.trapezoid(beta.sf(longer / _LONGEST, *LENGTH_SHAPE), longer))


def _draw_slab(rng: np.random.Generator) -> Slab:
    near = rng.uniform(0.2, 0.25)
    return Slab(
        thickness=float(rng.uniform(16.0, 40.0)),
        diffusion=(float(near), float(rng.uniform(near, 0.45))),
    )
