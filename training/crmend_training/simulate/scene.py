"""From a catalogue and PSFs to the light that falls on the detector."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from crmend_training.simulate._kernels import add_stamps, add_wings
from crmend_training.simulate.psf import STAMP_HALF, Psf, sample_phases

_WING_RADIUS = 1500
_LARGEST_GALAXY = 512
_TEMPLATE_HALF = 12
_TEMPLATE_PHASES = 4
_GALSIM_PARAMS = galsim.GSParams(folding_threshold=0.02, maximum_fft_size=16384)


@dataclass(frozen=True)
class Optics:
    """PSFs on a square grid of field positions, with their stamps and wings.

    Attributes
    ----------
    psfs : list of Psf
        n_side² of them, row by row from low y.
    stamps : (n, phases, phases, size, size) float32 array
    wing_profile : (radius,) float64 array
        Surface brightness of the far wings at whole pixels [1/px²].
    shear : (n, 2) float64 array
    """

    psfs: list[Psf]
    stamps: NDArray[np.float32]
    wing_profile: NDArray[np.float64]
    shear: NDArray[np.float64]

    @classmethod
    def from_psfs(cls, psfs: list[Psf]) -> Optics:
        """Render the stamps and wings of the PSFs."""
        return cls(
            psfs=psfs,
            stamps=np.stack([psf.stamps() for psf in psfs]),
            wing_profile=psfs[0].wings(np.arange(_WING_RADIUS + 2, dtype=np.float64)),
            shear=np.array([[psf.g1, psf.g2] for psf in psfs]),
        )

    def nearest(
        self, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Return the index of the PSF nearest to each pixel position."""
        n_side = round(len(self.psfs) ** 0.5)
        column = np.clip((x / shape[1] * n_side).astype(np.int64), 0, n_side - 1)
        row = np.clip((y / shape[0] * n_side).astype(np.int64), 0, n_side - 1)
        return row * n_side + column


def render_scene(
    rng: np.random.Generator,
    catalog: NDArray[np.void],
    optics: Optics,
    shape: tuple[int, int],
    *,
    floor: float,
    faint_galaxies: float,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Draw all sources of a catalogue, without sky and noise.

    Parameters
    ----------
    rng : numpy.random.Generator
    catalog : structured array of `catalog.SOURCE_DTYPE`
    optics : Optics
    shape : (int, int)
    floor : float
        Surface brightness [e-/s/px] down to which profiles are drawn.
    faint_galaxies : float
        Flux [e-/s] below which galaxies come from a library of rendered templates.
    progress : bool
        Show a progress bar.

    Returns
    -------
    (ny, nx) float32 array
        e-/s per pixel.
    """
    image = np.zeros(shape, dtype=np.float32)
    is_star = catalog["type"] == "star"
    _add_stars(image, catalog[is_star], optics, floor)
    galaxies = catalog[~is_star]
    is_faint = galaxies["flux"] < faint_galaxies
    _add_faint_galaxies(rng, image, galaxies[is_faint], optics)
    bright = galaxies[~is_faint]
    for galaxy in tqdm(bright, desc="galaxies", unit="", disable=not progress):
        _add_galaxy(rng, image, galaxy, optics, floor)
    return image


def _add_stars(image, stars, optics, floor):
    """Add point sources: stamps for all, wings for the bright, in place."""
    x, y = stars["x"].copy(), stars["y"].copy()
    which = optics.nearest(x, y, image.shape)
    reach = _wing_reach(optics, stars["flux"], floor)
    half = np.clip(reach, 4, STAMP_HALF)
    add_stamps(image, optics.stamps, which, x, y, stars["flux"].copy(), half)
    far = reach > STAMP_HALF
    add_wings(
        image,
        optics.wing_profile,
        which[far],
        optics.shear,
        x[far],
        y[far],
        stars["flux"][far],
        STAMP_HALF,
        np.minimum(reach[far], _WING_RADIUS),
    )


def _wing_reach(optics, flux, floor):
    """Return the radius [px] at which each source drops below the floor."""
    falling = np.minimum.accumulate(optics.wing_profile)[::-1]
    contrast = np.maximum(flux / floor, 1.0)
    wings = falling.size - np.searchsorted(falling, 1.0 / contrast)
    # The core has no analytic profile: more than six sigma of a Gaussian of its width.
    core = (5.0 + 3.0 * np.log10(contrast)) * max(1.0, optics.psfs[0].fwhm / 3.0)
    return np.maximum(wings, core.astype(np.int64))


def _add_faint_galaxies(rng, image, galaxies, optics):
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
        profile = _galaxy_profile(model, shrink, truncation=5.0)
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


def _add_galaxy(rng, image, galaxy, optics, floor):
    """Add one bulge and disk galaxy, the brighter ones with knots in their disk, in place."""
    index = int(optics.nearest(galaxy["x"][None], galaxy["y"][None], image.shape)[0])
    in_knots = _add_knots(rng, image, galaxy, optics, index, floor)
    profile = _galaxy_profile(galaxy, in_knots=in_knots) * float(
        galaxy["flux"] * (1.0 - in_knots)
    )
    half = _galaxy_reach(galaxy, floor)
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


def _galaxy_profile(galaxy, shrink=1.0, in_knots=0.0, truncation=0.0):
    """Return a unit-flux exponential disk with a Sersic n = 4 bulge, in pixels.

    `truncation` [half-light radii of the bulge] cuts its wings; 0 for none.
    """
    bulge_share = float(galaxy["bulge_fraction"]) / (1.0 - in_knots)
    disk = galsim.Exponential(
        half_light_radius=max(float(galaxy["r_half"]) * shrink, 0.1), gsparams=_GALSIM_PARAMS
    )
    q, angle = float(galaxy["axis_ratio"]), float(galaxy["position_angle"]) * galsim.radians
    disk = disk.shear(q=q, beta=angle)
    if bulge_share < 0.02:
        return disk
    r_bulge = max(float(galaxy["r_bulge"]) * shrink, 0.1)
    bulge = galsim.DeVaucouleurs(
        half_light_radius=r_bulge, trunc=truncation * r_bulge, gsparams=_GALSIM_PARAMS
    ).shear(q=0.5 + 0.5 * q, beta=angle)
    return min(bulge_share, 1.0) * bulge + max(1.0 - bulge_share, 0.0) * disk


def _galaxy_reach(galaxy, floor):
    """Return the half width [px] at which the galaxy falls below the floor."""
    r = np.arange(1.0, _LARGEST_GALAXY + 1.0)
    disk_scale = galaxy["r_half"] / 1.678
    q = galaxy["axis_ratio"]
    disk = np.exp(-r / disk_scale) / (2.0 * np.pi * disk_scale**2 * q)
    bulge = np.exp(-7.67 * (r / galaxy["r_bulge"]) ** 0.25) * np.exp(7.67)
    bulge /= 22.67 * galaxy["r_bulge"] ** 2
    share = galaxy["bulge_fraction"]
    bright = galaxy["flux"] * ((1.0 - share) * disk + share * bulge) > floor
    return int(np.clip(bright.sum() + 8, 12, _LARGEST_GALAXY))


def _add_knots(rng, image, galaxy, optics, index, floor):
    """Add star-forming knots along two spiral arms; return their share of the light.

    Like `galsim.RandomKnots` the knots follow the disk's light, but in angle they gather
    round logarithmic arms; each is a point source from the star stamps.
    """
    contrast = galaxy["flux"] / floor
    if contrast < 1e5 or galaxy["r_half"] < 4.0 or rng.random() < 0.3:
        return 0.0
    share = float((1.0 - galaxy["bulge_fraction"]) * rng.uniform(0.1, 0.5))
    n = int(np.clip(contrast * share / 200.0, 50, 4000))
    scale = galaxy["r_half"] / 1.678
    radius = np.minimum(rng.gamma(2.0, scale, n), scale * rng.uniform(0.5, 4.0, n))
    pitch = np.tan(rng.uniform(0.15, 0.6)) * rng.choice([-1.0, 1.0])
    width = rng.uniform(0.2, 1.0)
    phase = rng.integers(2, size=n) * np.pi + rng.normal(0.0, width, n)
    angle = np.log(np.maximum(radius, 0.3 * scale) / scale) / pitch + phase
    u, v = radius * np.cos(angle), radius * np.sin(angle) * galaxy["axis_ratio"]
    turn = galaxy["position_angle"]
    # A face-on disk keeps its half-light radius along the mean axis, as GalSim's shear does.
    grow = 1.0 / np.sqrt(galaxy["axis_ratio"])
    x = galaxy["x"] + grow * (u * np.cos(turn) - v * np.sin(turn))
    y = galaxy["y"] + grow * (u * np.sin(turn) + v * np.cos(turn))
    flux = rng.exponential(1.0, n)
    flux *= galaxy["flux"] * share / flux.sum()
    half = np.clip(_wing_reach(optics, flux, floor), 6, STAMP_HALF)
    add_stamps(image, optics.stamps, np.full(n, index), x, y, flux, half)
    return share
