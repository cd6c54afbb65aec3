"""Point-spread functions: their make-up, stamps at sub-pixel phases, and far wings."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

_AUREOLE_BETA = 1.6
_AUREOLE_SCALE = 6.0  # px; a weak aureole from dust and micro-roughness, assumed


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
    obscuration : float
        Diameter of the central obstruction over that of the aperture.
    aberrations : tuple of float
        Of the Airy pattern: Zernike coefficients from defocus (Noll index 4) on [waves], which
        make its rings uneven; none for a perfect telescope.
    trail, trail_angle : float
        Length [px] and direction [rad] of a trail that every source draws, as when the
        telescope follows something else; 0 for none.
    jitter : float
        Sigma of the Gaussian [px].
    moffat_fwhm, moffat_beta : float
        Moffat core; width 0 for none.
    aureole : float
        Fraction of the light in the aureole.
    g1, g2 : float
        Reduced shear.
    spikes : int
        Number of diffraction spikes of a strutted aperture; 0 for none.  (CSST has none: its
        aperture is off-axis and unobstructed.)
    spike_share : float
        Fraction of the light in all spikes together.
    spike_angle : float
        Direction of the first spike [rad].
    spike_reach : float
        Half of a spike's light lies within so many pixels.
    """

    airy: float = 0.0
    obscuration: float = 0.0
    aberrations: tuple[float, ...] = ()
    trail: float = 0.0
    trail_angle: float = 0.0
    jitter: float = 0.6
    moffat_fwhm: float = 0.0
    moffat_beta: float = 3.0
    aureole: float = 0.0
    g1: float = 0.0
    g2: float = 0.0
    spikes: int = 0
    spike_share: float = 0.0
    spike_angle: float = 0.0
    spike_reach: float = 30.0

    @property
    def core_share(self) -> float:
        """Fraction of the light outside aureole and spikes."""
        return 1.0 - self.aureole - (self.spike_share if self.spikes else 0.0)

    @property
    def spike_width(self) -> float:
        """Sigma across a spike [px]: as wide as the core, with the pixel."""
        return float(np.hypot(self.fwhm / 2.3548, 12.0**-0.5))

    @property
    def r_ee80(self) -> float:
        """Radius of 80 % of the light of an Airy or Gaussian PSF, without the pixel [px]."""
        return encircled_radius(self.airy, self.jitter, 0.8, self.aureole)

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
        """The same with looser Fourier limits, to convolve galaxies with.

        Without aberrations: they make each convolution a hundred times as slow.
        """
        return replace(self, aberrations=())._core(0.02)

    def _core(self, folding: float) -> galsim.GSObject:
        params = galsim.GSParams(folding_threshold=folding, maximum_fft_size=16384)
        parts = [galsim.Gaussian(sigma=self.jitter, gsparams=params)]
        if self.airy > 0.0:
            parts.append(self._pupil(params))
        if self.moffat_fwhm > 0.0:
            moffat = {"beta": self.moffat_beta, "fwhm": self.moffat_fwhm}
            parts.append(galsim.Moffat(**moffat, gsparams=params))
        if self.trail > 0.0:
            line = galsim.Box(self.trail, 0.05, gsparams=params)
            parts.append(line.rotate(self.trail_angle * galsim.radians))
        core = galsim.Convolve(parts) if len(parts) > 1 else parts[0]
        return core.shear(g1=self.g1, g2=self.g2)

    def _pupil(self, params: galsim.GSParams) -> galsim.GSObject:
        """Return the diffraction pattern of the aperture."""
        pupil = {"lam_over_diam": self.airy, "obscuration": self.obscuration}
        if not self.aberrations:
            return galsim.Airy(**pupil, gsparams=params)
        # Twice the default padding: rings out to the stamp's edge change by less than 1 %.
        zernikes = [0.0] * 4 + list(self.aberrations)
        return galsim.OpticalPSF(**pupil, aberrations=zernikes, pad_factor=3.0, gsparams=params)

    def stamps(self) -> NDArray[np.float32]:
        """Return unit-flux stamps at every phase, see `_kernels.add_stamps`."""
        phases = _PHASES if self.fwhm < _WIDE else _PHASES_WIDE
        stamps = sample_phases(self.fine, STAMP_HALF, phases)
        stamps *= np.float32(self.core_share)
        offsets = np.arange(-STAMP_HALF, STAMP_HALF + 1, dtype=np.float64)
        if self.aureole > 0.0:
            radius = np.hypot(*np.meshgrid(offsets, offsets))
            stamps += (self.aureole * _aureole(radius)).astype(np.float32)
        if self.spikes:
            shift = (np.arange(phases) + 0.5) / phases - 0.5
            for p, q in np.ndindex(phases, phases):
                dx, dy = np.meshgrid(offsets - shift[q], offsets - shift[p])
                stamps[p, q] += self.spike_brightness(dx, dy).astype(np.float32)
        return stamps

    def spike_brightness(
        self, dx: NDArray[np.float64], dy: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the surface brightness of all spikes [1/px²] at offsets from the star [px].

        A strut of width w makes a spike that falls like sinc²; its envelope is taken here,
        2/(π s) / (1 + (r/s)²) along the spike, with a Gaussian across.
        """
        total = np.zeros_like(dx)
        width, reach = self.spike_width, self.spike_reach
        for i in range(self.spikes):
            angle = self.spike_angle + 2.0 * np.pi * i / self.spikes
            along = dx * np.cos(angle) + dy * np.sin(angle)
            across = (dy * np.cos(angle) - dx * np.sin(angle)) / width
            lengthwise = 2.0 / (np.pi * reach) / (1.0 + (along / reach) ** 2)
            profile = lengthwise * np.exp(-0.5 * across**2) / (np.sqrt(2.0 * np.pi) * width)
            total += np.where(along > 0.0, profile, 0.0)
        return total * self.spike_share / max(self.spikes, 1)

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
        return self.core_share * core + self.aureole * _aureole(r)


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


def encircled_radius(
    airy: float, sigma: float, fraction: float = 0.8, aureole: float = 0.0
) -> float:
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
    aureole : float
        Fraction of the light in the aureole; with it, lengths are in pixels.

    Returns
    -------
    float
    """
    cutoff = 1.0 / airy if airy > 0.0 else np.inf
    k = np.linspace(0.0, min(cutoff, 1.2 / sigma), 2001)
    x = k * airy
    otf = (2.0 / np.pi) * (np.arccos(x) - x * np.sqrt(1.0 - x**2))
    otf *= np.exp(-2.0 * (np.pi * sigma * k) ** 2)

    def excess(r: float) -> float:
        core = 2.0 * np.pi * r * np.trapezoid(otf * j1(2.0 * np.pi * k * r), k)
        wide = 1.0 - (1.0 + (r / _AUREOLE_SCALE) ** 2) ** (1.0 - _AUREOLE_BETA)
        return (1.0 - aureole) * core + aureole * wide - fraction

    # Start where the light must still be lacking, and end inside the first rings.
    return float(brentq(excess, 0.05 * (airy + sigma), 1.5 * airy + 2.4 * sigma))


def _moffat(r: NDArray[np.float64], scale: float, beta: float) -> NDArray[np.float64]:
    """Return a unit-flux Moffat profile [1/px²]."""
    return (beta - 1.0) / (np.pi * scale**2) * (1.0 + (r / scale) ** 2) ** -beta


def _aureole(r: NDArray[np.float64]) -> NDArray[np.float64]:
    return _moffat(r, _AUREOLE_SCALE, _AUREOLE_BETA)
