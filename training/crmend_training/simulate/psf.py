"""Point-spread functions: their make-up, stamps at sub-pixel phases, and far wings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import j1

_PHASES, _PHASES_WIDE, _WIDE = 16, 8, 3.5
# Sub-pixel phases per axis of the star stamps, of sharp PSFs and of those wider than so many
# pixels.

STAMP_HALF = 24
"""Half width of a star stamp [px]; farther out the analytic wings go on."""

_APERTURE = 2.0  # metres, unobstructed (off-axis)
_AUREOLE_BETA = 1.6
_AUREOLE_SCALE = 6.0  # px; a weak aureole from dust and micro-roughness, assumed
_ARCSEC = np.pi / 180.0 / 3600.0


@dataclass(frozen=True)
class Psf:
    """PSF at one field position; lengths in pixels, flux 1.

    The core is one of: Airy pattern (`airy`), Moffat (`moffat_fwhm`, `moffat_beta`), or
    nothing but the Gaussian.  It is convolved with a Gaussian of `jitter`, a part
    `aureole` of the light is put into wide Moffat wings, and all is sheared.

    Attributes
    ----------
    airy : float
        Wavelength over aperture diameter [px]; 0 for none.
    jitter : float
        Sigma of the Gaussian [px].
    moffat_fwhm, moffat_beta : float
        Moffat core; width 0 for none.
    aureole : float
        Fraction of the light in the aureole.
    g1, g2 : float
        Reduced shear.
    """

    airy: float = 0.0
    jitter: float = 0.6
    moffat_fwhm: float = 0.0
    moffat_beta: float = 3.0
    aureole: float = 0.0
    g1: float = 0.0
    g2: float = 0.0

    @property
    def fwhm(self) -> float:
        """About the full width at half maximum without the pixel [px]."""
        return float(np.hypot(2.355 * self.jitter, max(self.moffat_fwhm, 1.03 * self.airy)))

    @cached_property
    def fine(self) -> galsim.GSObject:
        """The core without the pixel and the aureole, for stamps of stars."""
        # 1 − EE(r) of an Airy pattern is 0.2 (λ/D) / r: fold at about 70 px, far outside
        # the stamp.
        return self._core(float(np.clip(0.003 * self.airy, 0.002, 0.02)))

    @cached_property
    def coarse(self) -> galsim.GSObject:
        """The same with looser Fourier limits, to convolve galaxies with."""
        return self._core(0.02)

    def _core(self, folding: float) -> galsim.GSObject:
        params = galsim.GSParams(folding_threshold=folding, maximum_fft_size=16384)
        parts = [galsim.Gaussian(sigma=self.jitter, gsparams=params)]
        if self.airy > 0.0:
            parts.append(galsim.Airy(lam_over_diam=self.airy, gsparams=params))
        if self.moffat_fwhm > 0.0:
            moffat = {"beta": self.moffat_beta, "fwhm": self.moffat_fwhm}
            parts.append(galsim.Moffat(**moffat, gsparams=params))
        core = galsim.Convolve(parts) if len(parts) > 1 else parts[0]
        return core.shear(g1=self.g1, g2=self.g2)

    def stamps(self) -> NDArray[np.float32]:
        """Return unit-flux stamps at every phase, see `_kernels.add_stamps`."""
        phases = _PHASES if self.fwhm < _WIDE else _PHASES_WIDE
        stamps = sample_phases(self.fine, STAMP_HALF, phases)
        if self.aureole > 0.0:
            offsets = np.arange(-STAMP_HALF, STAMP_HALF + 1, dtype=np.float64)
            radius = np.hypot(*np.meshgrid(offsets, offsets))
            stamps *= 1.0 - self.aureole
            stamps += (self.aureole * _aureole(radius)).astype(np.float32)
        return stamps

    def wings(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the surface brightness far from the core [1/px²], without the shear.

        The Airy pattern is averaged over its rings: λ/D / (π³ r³).
        """
        r = np.maximum(radius, 1.0)
        core = np.zeros_like(r)
        if self.airy > 0.0:
            core += self.airy / (np.pi**3 * r**3)
        if self.moffat_fwhm > 0.0:
            root = np.sqrt(2.0 ** (1.0 / self.moffat_beta) - 1.0)
            core += _moffat(r, self.moffat_fwhm / (2.0 * root), self.moffat_beta)
        return (1.0 - self.aureole) * core + self.aureole * _aureole(r)


def sample_phases(profile: galsim.GSObject, half: int, phases: int) -> NDArray[np.float32]:
    """Return a profile convolved with the pixel, at all sub-pixel phases.

    Parameters
    ----------
    profile : galsim.GSObject
        In units of pixels, without the pixel.
    half : int
        Half width [px].
    phases : int
        Even.

    Returns
    -------
    (phases, phases, 2 half + 1, 2 half + 1) float32 array
    """
    size = 2 * half + 1
    fine = galsim.Convolve(profile, galsim.Pixel(1.0)).drawImage(
        nx=size * phases, ny=size * phases, scale=1.0 / phases, method="no_pixel", dtype=float
    )
    values = fine.array * float(phases**2)
    cube = values.reshape(size, phases, size, phases)[:, ::-1, :, ::-1]
    return np.ascontiguousarray(cube.transpose(1, 3, 0, 2), dtype=np.float32)


def csst_psfs(
    rng: np.random.Generator, pivot: float, pixel_scale: float, n_side: int
) -> list[Psf]:
    """Draw the PSFs of one exposure on a grid of field positions.

    The unobstructed 2 m aperture gives the Airy pattern; the Gaussian (jitter, sigma
    0.03–0.07 arcsec) is chosen so that 80 % of the light lies within 0.11–0.15 arcsec,
    as far as that range allows.  Ellipticity varies linearly over the field to ±0.1.

    Parameters
    ----------
    rng : numpy.random.Generator
    pivot : float
        Wavelength [nm].
    pixel_scale : float
        Arcseconds per pixel.
    n_side : int
        The grid has n_side² positions, row by row.

    Returns
    -------
    list of Psf
    """
    airy = pivot * 1e-9 / _APERTURE / _ARCSEC
    radius = rng.uniform(0.11, 0.15)
    slope = rng.normal(0.0, 0.004, 2)
    e1, e2 = rng.normal(0.0, 0.02, 2)
    gradient = rng.normal(0.0, 0.02, (2, 2))
    aureole = rng.uniform(0.002, 0.01)
    psfs = []
    for v in np.linspace(-1.0, 1.0, n_side) if n_side > 1 else [0.0]:
        for u in np.linspace(-1.0, 1.0, n_side) if n_side > 1 else [0.0]:
            target = float(np.clip(radius + slope @ [u, v], 0.11, 0.15))
            jitter = _jitter_for_radius(airy, target)
            ellipticity = np.clip(np.array([e1, e2]) + gradient @ [u, v], -0.1, 0.1)
            psfs.append(
                Psf(
                    airy=airy / pixel_scale,
                    jitter=jitter / pixel_scale,
                    aureole=float(aureole),
                    g1=float(ellipticity[0] / 2.0),
                    g2=float(ellipticity[1] / 2.0),
                )
            )
    return psfs


def generic_psf(rng: np.random.Generator) -> Psf:
    """Draw a PSF of any telescope: pixel-convolved FWHM 1.2–7 px, three families."""
    fwhm = float(np.exp(rng.uniform(np.log(1.2), np.log(7.0))))
    core = np.sqrt(max(fwhm**2 - 0.9**2, 0.5**2))  # the pixel adds about 0.9 px in quadrature
    family = rng.integers(3)
    g1, g2 = np.clip(rng.normal(0.0, 0.03, 2), -0.12, 0.12)
    shape = {"g1": float(g1), "g2": float(g2), "aureole": float(rng.uniform(0.0, 0.02))}
    if family == 0:
        return Psf(jitter=float(core / 2.3548), **shape)
    if family == 1:
        beta = float(rng.uniform(2.2, 5.0))
        return Psf(jitter=0.15, moffat_fwhm=float(core), moffat_beta=beta, **shape)
    share = rng.uniform(0.3, 0.9)  # of the width that is diffraction
    sigma = float(core * np.sqrt(1.0 - share**2) / 2.3548)
    return Psf(airy=float(share * core / 1.03), jitter=sigma, **shape)


def encircled_radius(airy: float, sigma: float, fraction: float = 0.8) -> float:
    """Return the radius that holds a fraction of the light of Airy ⊗ Gaussian.

    Uses the optical transfer function: EE(r) = 2π r ∫ OTF(k) J1(2π k r) dk.

    Parameters
    ----------
    airy : float
        Wavelength over diameter; the result is in the same unit.
    sigma : float
        Of the Gaussian, > 0.
    fraction : float
        Between 0 and about 0.9.

    Returns
    -------
    float
    """
    k = np.linspace(0.0, min(1.0 / airy, 1.2 / sigma), 2001)
    x = k * airy
    otf = (2.0 / np.pi) * (np.arccos(x) - x * np.sqrt(1.0 - x**2))
    otf *= np.exp(-2.0 * (np.pi * sigma * k) ** 2)

    def excess(r: float) -> float:
        return 2.0 * np.pi * r * np.trapezoid(otf * j1(2.0 * np.pi * k * r), k) - fraction

    # Start where the light must still be lacking, and end inside the first rings.
    return float(brentq(excess, 0.05 * airy, 1.3 * airy + 2.2 * sigma))


def _jitter_for_radius(airy: float, radius: float) -> float:
    """Return the Gaussian sigma [arcsec], 0.03 to 0.07, that gives a R_EE80 [arcsec]."""
    low, high = 0.03, 0.07
    if encircled_radius(airy, low) >= radius:
        return low
    if encircled_radius(airy, high) <= radius:
        return high
    return float(brentq(lambda s: encircled_radius(airy, s) - radius, low, high, xtol=1e-4))


def _moffat(r: NDArray[np.float64], scale: float, beta: float) -> NDArray[np.float64]:
    """Return a unit-flux Moffat profile [1/px²]."""
    return (beta - 1.0) / (np.pi * scale**2) * (1.0 + (r / scale) ** 2) ** -beta


def _aureole(r: NDArray[np.float64]) -> NDArray[np.float64]:
    return _moffat(r, _AUREOLE_SCALE, _AUREOLE_BETA)
