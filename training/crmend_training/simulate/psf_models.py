"""Point-spread functions drawn for the chips of CSST and for instruments of any kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from crmend_training.simulate.focal_plane import FieldPattern, Place
from crmend_training.simulate.psf import Psf, encircled_radius

_APERTURE = 2.0  # metres, unobstructed (off-axis)
_RADIUS_RANGE = (0.11, 0.15)  # arcsec, R_EE80 of CSST images
_JITTER_RANGE = (0.03, 0.07)  # arcsec
_ARCSEC = np.pi / 180.0 / 3600.0


@dataclass(frozen=True)
class PsfRequest:
    """What the PSFs of a CSST exposure should be like.

    Attributes
    ----------
    r_ee80 : float or None
        Radius of 80 % of the light at the mean of the field [arcsec], without the pixel.
        None draws it from 0.11–0.15 arcsec, as far as diffraction and jitter reach.
    variation : float
        Scale of the change of R_EE80 over the field; 0 for none.
    ellipticity : float
        Scale of the ellipticity; 0 makes all PSFs round, 1 reaches 0.1.
    aureole : float or None
        Fraction of the light; None draws 0.002–0.01 (assumed), 0 for none.
    """

    r_ee80: float | None = None
    variation: float = 1.0
    ellipticity: float = 1.0
    aureole: float | None = None


def csst_psfs(
    rng: np.random.Generator,
    pivot: float,
    pixel_scale: float,
    n_side: int,
    place: Place | None = None,
    request: PsfRequest | None = None,
) -> list[Psf]:
    """Draw the PSFs of one exposure on a grid over a frame.

    The unobstructed 2 m aperture gives the Airy pattern; the Gaussian (jitter, sigma
    0.03–0.07 arcsec) is chosen so that 80 % of the light lies within the wanted radius, as
    far as that range allows (see `reachable_radius`).

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state for all chips of an exposure gives them one telescope.
    pivot : float
        Wavelength [nm].
    pixel_scale : float
        Arcseconds per pixel.
    n_side : int
        The grid has n_side² positions, at the centres of equal cells, row by row.
    place : Place or None
        Of the frame in the focal plane; None for a chip that fills the field.
    request : PsfRequest or None

    Returns
    -------
    list of Psf
    """
    place, request = place or Place(), request or PsfRequest()
    airy = pivot * 1e-9 / _APERTURE / _ARCSEC / pixel_scale
    u_radius, u_aureole = rng.random(2)
    pattern = FieldPattern.draw(rng)
    aureole = 0.002 + 0.008 * u_aureole if request.aureole is None else request.aureole
    low, high = reachable_radius(pivot, pixel_scale, aureole)
    radius = request.r_ee80
    if radius is None:
        bottom, top = max(low, _RADIUS_RANGE[0]), min(high, _RADIUS_RANGE[1])
        radius = bottom + u_radius * (top - bottom)
    psfs = []
    for position in place.positions(n_side):
        target = radius + request.variation * pattern.radius(position)
        target = float(np.clip(target, *_RADIUS_RANGE)) if request.variation else radius
        e1, e2 = request.ellipticity * pattern.ellipticity(position)
        jitter = _jitter_for_radius(airy, target / pixel_scale, pixel_scale, aureole)
        # Shear g of an ellipticity (a² − b²) / (a² + b²) = 2 g / (1 + g²).
        psfs.append(
            Psf(airy, jitter=jitter, aureole=aureole, g1=float(e1 / 2), g2=float(e2 / 2))
        )
    return psfs


def reachable_radius(
    pivot: float, pixel_scale: float, aureole: float = 0.0
) -> tuple[float, float]:
    """Return the smallest and largest R_EE80 [arcsec] that jitter 0.03–0.07 arcsec gives.

    Parameters
    ----------
    pivot : float
        Wavelength [nm].
    pixel_scale : float
        Arcseconds per pixel.
    aureole : float
        Fraction of the light in the aureole.
    """
    airy = pivot * 1e-9 / _APERTURE / _ARCSEC / pixel_scale
    low, high = (
        encircled_radius(airy, sigma / pixel_scale, 0.8, aureole) * pixel_scale
        for sigma in _JITTER_RANGE
    )
    return low, high


def generic_psf(
    rng: np.random.Generator,
    spikes: float = 0.35,
    trails: float = 0.06,
    aberrated: float = 0.7,
    widths: tuple[float, float] = (1.2, 7.0),
) -> Psf:
    """Draw a PSF of any telescope, of three families.

    Parameters
    ----------
    rng : numpy.random.Generator
    spikes : float
        Share of the telescopes that have 4 or 6 diffraction spikes, which hold 0.3–2 % of
        the light (assumed); 0 for none.
    trails : float
        Share of the exposures whose stars are trailed by 1–20 px (assumed).
    aberrated : float
        Share of the diffraction-limited telescopes whose rings are uneven (assumed).
    widths : (float, float)
        Range of the pixel-convolved FWHM [px].
    """
    spike_rng, trail_rng, pupil_rng = rng.spawn(3)
    fwhm = log_uniform(rng, *widths)
    core = np.sqrt(max(fwhm**2 - 0.9**2, 0.5**2))  # the pixel adds about 0.9 px in quadrature
    family = rng.integers(3)
    # One in four is badly guided or out of focus: up to 1.5 : 1.
    spread, most = (0.1, 0.2) if rng.random() < 0.25 else (0.03, 0.12)
    g1, g2 = np.clip(rng.normal(0.0, spread, 2), -most, most)
    shape = {"g1": float(g1), "g2": float(g2), "aureole": float(rng.uniform(0.0, 0.02))}
    if spike_rng.random() < spikes:
        shape["spikes"] = int(spike_rng.choice([4, 6]))
        shape["spike_share"] = log_uniform(spike_rng, 0.003, 0.02)
        shape["spike_angle"] = float(spike_rng.uniform(0.0, np.pi))
        shape["spike_reach"] = float(fwhm * spike_rng.uniform(2.0, 10.0))
    if trail_rng.random() < trails:
        shape["trail"] = float(trail_rng.uniform(1.0, 20.0))
        shape["trail_angle"] = float(trail_rng.uniform(0.0, np.pi))
    if family == 0:
        return Psf(jitter=float(core / 2.3548), **shape)
    if family == 1:
        beta = float(rng.uniform(2.2, 5.0))
        return Psf(jitter=0.15, moffat_fwhm=float(core), moffat_beta=beta, **shape)
    share = rng.uniform(0.3, 0.9)  # of the width that is diffraction
    sigma = float(core * np.sqrt(1.0 - share**2) / 2.3548)
    shape["obscuration"] = float(rng.uniform(0.1, 0.4)) if rng.random() < 0.7 else 0.0
    if pupil_rng.random() < aberrated:
        shape["aberrations"] = _draw_aberrations(pupil_rng)
    return Psf(airy=float(share * core / 1.03), jitter=sigma, **shape)


def foreign_psf(rng: np.random.Generator) -> Psf:
    """Draw the PSF of another telescope whose stars are about as wide as those of CSST.

    1.6 to 3.5 px (FWHM with the pixel), and in half of the draws without any light but that of
    the core: Gaussians and steep Moffat profiles have no wings at all.

    Parameters
    ----------
    rng : numpy.random.Generator
    """
    bare = rng.random() < 0.5
    psf = generic_psf(rng, spikes=0.1, trails=0.0, widths=(1.6, 3.5))
    return replace(psf, aureole=0.0, spikes=0) if bare else psf


def _draw_aberrations(rng: np.random.Generator) -> tuple[float, ...]:
    """Draw Zernike coefficients 4 to 11 [waves], 0.02–0.12 together (rms, assumed).

    From a telescope in good focus to one that is just not diffraction-limited (0.07).
    """
    draws = rng.normal(size=8)
    total = log_uniform(rng, 0.02, 0.12)
    return tuple(float(z) for z in draws * total / np.hypot.reduce(draws))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of two bounds."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _jitter_for_radius(airy: float, radius: float, pixel_scale: float, aureole: float) -> float:
    """Return the Gaussian sigma [px], 0.03 to 0.07 arcsec, that gives a R_EE80 [px]."""
    low, high = (sigma / pixel_scale for sigma in _JITTER_RANGE)
    if encircled_radius(airy, low, 0.8, aureole) >= radius:
        return low
    if encircled_radius(airy, high, 0.8, aureole) <= radius:
        return high
    return float(
        brentq(lambda s: encircled_radius(airy, s, 0.8, aureole) - radius, low, high, xtol=1e-3)
    )
