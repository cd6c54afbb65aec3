"""Galaxies: bulge and disk convolved with the PSF, knots, arms and dust for the large."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate._kernels import add_stamps
from crmend_training.simulate._light import PROFILE_RADII, add_bulge, add_disk, disk_flux
from crmend_training.simulate.optics import Optics
from crmend_training.simulate.psf import STAMP_HALF, sample_phases

_LARGEST_STAMP = 512
_TEMPLATE_HALF = 20
_TEMPLATE_PHASES = 4
_LARGE = 25.0
"""Half-light radius [px] from which a galaxy is drawn without convolution, by `_light`."""
_GALSIM_PARAMS = galsim.GSParams(folding_threshold=0.02, maximum_fft_size=16384)
_DISK_HALF_LIGHT = 1.678
_NUCLEUS = 0.002
# Share of a large galaxy's light in an unresolved nucleus (star cluster or active); assumed.


@dataclass(frozen=True)
class Arms:
    """Two logarithmic spiral arms.

    Attributes
    ----------
    pitch : float
        Tangent of the pitch angle; its sign is the sense of rotation.
    phase : float
        Direction of the first arm at one scale length [rad].
    width : float
        Scatter of knots around an arm [rad].
    """

    pitch: float
    phase: float
    width: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Arms:
        """Pitch angles of 9–34°, from tight to open; assumed."""
        return cls(
            pitch=float(np.tan(rng.uniform(0.15, 0.6)) * rng.choice([-1.0, 1.0])),
            phase=float(rng.uniform(0.0, np.pi)),
            width=float(rng.uniform(0.2, 1.0)),
        )


def add_faint_galaxies(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    galaxies: NDArray[np.void],
    optics: Optics,
) -> None:
    """Add galaxies near and below the noise from a library of templates, in place."""
    if galaxies.size == 0:
        return
    n_templates = int(np.clip(galaxies.size // 20, 8, 200))
    size = np.exp(np.quantile(np.log(galaxies["r_half"]), np.linspace(0.01, 0.99, n_templates)))
    models = galaxies[rng.integers(galaxies.size, size=n_templates)]
    where = rng.integers(len(optics.psfs), size=n_templates)
    library = np.empty(
        (n_templates, *(2 * (_TEMPLATE_PHASES,)), *(2 * (2 * _TEMPLATE_HALF + 1,))), np.float32
    )
    for i, model in enumerate(models):
        shrink = size[i] / model["r_half"]
        profile = intrinsic_profile(model, shrink, truncation=5.0)
        profile = galsim.Convolve(profile, optics.psfs[where[i]].coarse)
        library[i] = sample_phases(profile, _TEMPLATE_HALF, _TEMPLATE_PHASES)
    which = np.searchsorted(size, galaxies["r_half"]) + rng.integers(-1, 2, galaxies.size)
    add_stamps(
        image,
        library,
        np.clip(which, 0, n_templates - 1),
        galaxies["x"].copy(),
        galaxies["y"].copy(),
        galaxies["flux"].copy(),
        np.full(galaxies.size, _TEMPLATE_HALF),
    )


def add_galaxy(
    rng: np.random.Generator,
    image: NDArray[np.float32],
    galaxy: np.void,
    optics: Optics,
    floor: float,
    structure: float,
) -> None:
    """Add one galaxy, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    image : (ny, nx) float32 array
    galaxy : row of `catalog.SOURCE_DTYPE`
    optics : Optics
    floor : float
        Surface brightness down to which it is drawn.
    structure : float
        Strength of knots, arms and dust, 0 (none) to 1.
    """
    index = int(optics.nearest(galaxy["x"][None], galaxy["y"][None], image.shape)[0])
    arms = Arms.draw(rng)
    in_knots = _add_knots(rng, image, galaxy, (optics, index, floor), arms, structure)
    if galaxy["r_half"] >= _LARGE:
        _add_large(rng, image, galaxy, (optics, index, floor), arms, (structure, in_knots))
        return
    light = float(galaxy["flux"] * (1.0 - in_knots))
    profile = intrinsic_profile(galaxy, in_knots=in_knots) * light
    half = _reach(galaxy, floor, _LARGEST_STAMP)
    profile = galsim.Convolve(profile, optics.psfs[index].coarse)
    column, row = int(np.floor(galaxy["x"] + 0.5)), int(np.floor(galaxy["y"] + 0.5))
    stamp = profile.drawImage(
        nx=2 * half + 1,
        ny=2 * half + 1,
        scale=1.0,
        offset=(galaxy["x"] - column, galaxy["y"] - row),
        dtype=np.float32,
    ).array
    ny, nx = image.shape
    top, bottom = max(0, row - half), min(ny, row + half + 1)
    left, right = max(0, column - half), min(nx, column + half + 1)
    if top < bottom and left < right:
        y0, x0 = row - half, column - half
        image[top:bottom, left:right] += stamp[top - y0 : bottom - y0, left - x0 : right - x0]


def intrinsic_profile(galaxy, shrink=1.0, in_knots=0.0, truncation=0.0):
    """Return a unit-flux exponential disk with a Sersic n = 4 bulge, in pixels.

    `truncation` [half-light radii of the bulge] cuts its wings; 0 for none.
    """
    bulge_share = float(galaxy["bulge_fraction"]) / (1.0 - in_knots)
    q, angle = float(galaxy["axis_ratio"]), float(galaxy["position_angle"]) * galsim.radians
    # GalSim's shear keeps the area; the catalogue's radii are those of the major axis.
    disk = galsim.Exponential(
        half_light_radius=max(float(galaxy["r_half"]) * shrink * q**0.5, 0.1),
        gsparams=_GALSIM_PARAMS,
    ).shear(q=q, beta=angle)
    if bulge_share < 0.02:
        return disk
    rounder = 0.5 + 0.5 * q
    r_bulge = max(float(galaxy["r_bulge"]) * shrink * rounder**0.5, 0.1)
    bulge = galsim.DeVaucouleurs(
        half_light_radius=r_bulge, trunc=truncation * r_bulge, gsparams=_GALSIM_PARAMS
    ).shear(q=rounder, beta=angle)
    return min(bulge_share, 1.0) * bulge + max(1.0 - bulge_share, 0.0) * disk


def _reach(galaxy, floor, largest):
    """Return the half width [px] at which the galaxy falls below the floor."""
    r = np.arange(1.0, largest + 1.0)
    disk_scale = galaxy["r_half"] / _DISK_HALF_LIGHT
    q = galaxy["axis_ratio"]
    disk = np.exp(-r / disk_scale) / (2.0 * np.pi * disk_scale**2 * q)
    bulge = np.exp(-7.67 * (r / galaxy["r_bulge"]) ** 0.25) * np.exp(7.67)
    bulge /= 22.67 * galaxy["r_bulge"] ** 2
    share = galaxy["bulge_fraction"]
    bright = galaxy["flux"] * ((1.0 - share) * disk + share * bulge) > floor
    return int(np.clip(bright.sum() + 8, 12, largest))


def _add_knots(rng, image, galaxy, view, arms, structure):
    """Add star-forming knots along two spiral arms; return their share of the light.

    Like `galsim.RandomKnots` the knots follow the disk's light, but in angle they gather
    round logarithmic arms; each is a point source from the star stamps.
    """
    optics, index, floor = view
    contrast = galaxy["flux"] / floor
    is_plain = rng.random() < 0.3
    if structure == 0.0 or contrast < 1e5 or galaxy["r_half"] < 4.0 or is_plain:
        return 0.0
    share = float((1.0 - galaxy["bulge_fraction"]) * rng.uniform(0.1, 0.5)) * structure
    # A large disk is more than its knots: they hold at most as much as 25 px would.
    share *= min(1.0, (_LARGE / float(galaxy["r_half"])) ** 0.5)
    n = int(np.clip(contrast * share / 200.0, 50, 4000))
    scale = galaxy["r_half"] / _DISK_HALF_LIGHT
    radius = np.minimum(rng.gamma(2.0, scale, n), scale * rng.uniform(0.5, 4.0, n))
    phase = arms.phase + rng.integers(2, size=n) * np.pi + rng.normal(0.0, arms.width, n)
    angle = np.log(np.maximum(radius, 0.3 * scale) / scale) / arms.pitch + phase
    u, v = radius * np.cos(angle), radius * np.sin(angle) * galaxy["axis_ratio"]
    turn = galaxy["position_angle"]
    x = galaxy["x"] + u * np.cos(turn) - v * np.sin(turn)
    y = galaxy["y"] + u * np.sin(turn) + v * np.cos(turn)
    flux = rng.exponential(1.0, n)
    flux *= galaxy["flux"] * share / flux.sum()
    half = np.clip(optics.reach(flux, floor), 6, STAMP_HALF)
    add_stamps(image, optics.stamps, np.full(n, index), x, y, flux, half)
    return share


def _add_large(rng, image, galaxy, view, arms, structure):
    """Add a galaxy much wider than the PSF: its light needs no convolution, in place.

    `structure` is the strength of arms and dust, and the share of the light in knots.
    """
    optics, index, floor = view
    strength, in_knots = structure
    x, y = float(galaxy["x"]), float(galaxy["y"])
    flux, turn = float(galaxy["flux"]), float(galaxy["position_angle"])
    q = float(galaxy["axis_ratio"])
    reach = _reach(galaxy, floor, 4 * max(image.shape))
    scale = float(galaxy["r_half"]) / _DISK_HALF_LIGHT
    contrast, sharpness, dust, band = rng.uniform((0.5, 1.0, 0.3, 0.5), (2.5, 4.0, 1.5, 2.5))
    inclined = 1.0 if q < 0.45 else 0.0  # its mid-plane shows as a lane
    law = np.array(
        [
            scale,
            arms.pitch,
            arms.phase,
            strength * contrast,
            sharpness,
            strength * dust,
            strength * band * inclined,
        ]
    )
    nucleus = _NUCLEUS * flux * strength
    bulge_flux = float(galaxy["bulge_fraction"]) * flux
    disk = max(flux * (1.0 - in_knots) - bulge_flux - nucleus, 0.0)
    add_disk(image, x, y, turn, q, law, disk / disk_flux(q, law, 512), reach)
    rounder = 0.5 + 0.5 * q
    profile = _soft_bulge(float(galaxy["r_bulge"]), rounder, optics.psfs[index].fwhm / 2.3548)
    add_bulge(image, x, y, turn, rounder, profile, bulge_flux, reach)
    if nucleus > 0.0:
        place = (np.array([index]), np.array([x]), np.array([y]), np.array([nucleus]))
        add_stamps(image, optics.stamps, *place, np.array([STAMP_HALF]))


def _soft_bulge(r_half, q, sigma):
    """Return a unit-flux n = 4 profile whose cusp is blunted to the width of the PSF.

    At the radii of `_light.PROFILE_RADII`; light beyond 8 half-light radii is cut off.
    """
    radius = np.hypot(PROFILE_RADII, sigma)
    profile = np.exp(-7.669 * ((radius / r_half) ** 0.25 - 1.0))
    profile *= np.clip((8.0 * r_half - PROFILE_RADII) / (3.0 * r_half), 0.0, 1.0)
    return profile / (2.0 * np.pi * q * np.trapezoid(profile * PROFILE_RADII, PROFILE_RADII))
