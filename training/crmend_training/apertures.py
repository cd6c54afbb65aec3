"""The share of a source's light in a circle, from transfer functions: no drawn image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import j1

from crmend_training.simulate.psf import Psf


def encircled(
    psf: Psf, radius: NDArray[np.float64], galaxy: np.void | None = None, pixels: int = 2
) -> NDArray[np.float64]:
    """Return the share of a source's light in circles around it, by its transfer function.

    EE(R) = ∫ T(k) R J1(2π k R) / k d²k, where T is the product of the transfer functions of
    a circular aperture, a Gaussian, the pixel and, for a galaxy, an exponential disk and an
    r^(1/4) bulge.

    Parameters
    ----------
    psf : Psf
        An Airy pattern or Gaussian with shear and aureole.
    radius : (m,) float64 array
        Pixels.
    galaxy : row of `catalog.SOURCE_DTYPE` or None
        None for a star.  Galaxies have no aureole.
    pixels : int
        How often the pixel smooths: 1 as the image does, 2 in the mean over sub-pixel
        positions of apertures that count pixels by their share inside.

    Returns
    -------
    (m,) float64 array
    """
    radius = np.atleast_1d(np.asarray(radius, dtype=np.float64))
    end = 1.3 / psf.jitter
    if psf.airy > 0.0:
        end = min(end, 1.2 / psf.airy)
    n = 3000
    k = (np.arange(n) + 0.5) * end / n
    angle = (np.arange(48) + 0.5) * np.pi / 48
    kx, ky = k[:, None] * np.cos(angle), k[:, None] * np.sin(angle)
    transfer = _psf_transfer(psf, kx, ky) * (np.sinc(kx) * np.sinc(ky)) ** pixels
    if galaxy is not None:
        transfer *= _galaxy_transfer(galaxy, kx, ky)
    around = 2.0 * np.pi * transfer.mean(axis=1)
    core = [r * float(np.sum(around * j1(2.0 * np.pi * k * r))) * end / n for r in radius]
    if galaxy is not None:
        return np.array(core)
    # The aureole of `Psf`: a Moffat profile with exponent 1.6 and scale 6 px.
    wide = 1.0 - (1.0 + (radius / 6.0) ** 2) ** -0.6
    return (1.0 - psf.aureole) * np.array(core) + psf.aureole * wide


def _psf_transfer(psf, kx, ky):
    """Return the transfer function of a sheared Airy pattern ⊗ Gaussian."""
    norm = 1.0 / np.sqrt(1.0 - psf.g1**2 - psf.g2**2)
    k = norm * np.hypot((1.0 + psf.g1) * kx + psf.g2 * ky, psf.g2 * kx + (1.0 - psf.g1) * ky)
    transfer = np.exp(-2.0 * (np.pi * psf.jitter * k) ** 2)
    if psf.airy > 0.0:
        x = np.minimum(k * psf.airy, 1.0)
        transfer *= (2.0 / np.pi) * (np.arccos(x) - x * np.sqrt(1.0 - x**2))
    return transfer


def _galaxy_transfer(galaxy, kx, ky):
    """Return the transfer function of a disk and a bulge of a common major axis."""
    c, s = np.cos(galaxy["position_angle"]), np.sin(galaxy["position_angle"])
    ku, kv = c * kx + s * ky, c * ky - s * kx
    q, share = float(galaxy["axis_ratio"]), float(galaxy["bulge_fraction"])
    scale = float(galaxy["r_half"]) / 1.678
    disk = (1.0 + (2.0 * np.pi * scale) ** 2 * (ku**2 + (q * kv) ** 2)) ** -1.5
    log_k, bulge = _bulge_table()
    k = float(galaxy["r_bulge"]) * np.hypot(ku, (0.5 + 0.5 * q) * kv)
    return share * np.interp(np.log(k), log_k, bulge) + (1.0 - share) * disk


@lru_cache(maxsize=1)
def _bulge_table():
    """Return ln(k · half-light radius) and the transform of an r^(1/4) law of flux 1."""
    n, step = 4096, np.log(1e14) / 4096
    step_r = np.exp((np.arange(n) - (n - 1) / 2.0) * step)
    offset = fft.fhtoffset(step, mu=0.0)
    # ∫ exp(−b r^(1/4)) 2π r dr = 8 π 7! / b^8, b = 7.66925.
    law = np.exp(-7.66925 * step_r**0.25) * 7.66925**8 / (8.0 * np.pi * 5040.0)
    k = np.exp(offset) / step_r[::-1]
    return np.log(k / (2.0 * np.pi)), 2.0 * np.pi * fft.fht(law * step_r, step, 0.0, offset) / k
