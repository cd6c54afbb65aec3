"""What an exposure is made from: a CSST chip by its settings, or any camera at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crmend_training.simulate.artefacts import Artefacts
from crmend_training.simulate.bands import PIXEL_SCALE
from crmend_training.simulate.catalog import SkyModel
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.cosmic_rays import SUBPIXEL, PaperLaw, Sharp, Slab
from crmend_training.simulate.detector import Camera, Chip, Trap, make_chip
from crmend_training.simulate.echelle import Echelle
from crmend_training.simulate.focal_plane import draw_place, grid_side
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.psf_models import csst_psfs, foreign_psf, generic_psf, log_uniform
from crmend_training.simulate.slit import Slit
from crmend_training.simulate.unusual import KINDS, MORE_KINDS, SLITS, Unusual, draw_slit

_CHIP_SEED = 20_240_813
_DEPTH = 2.0
"""Sources are drawn to so many magnitudes below the 5 sigma limit."""

_CLOSE_PAIRS = 0.1
_LARGE_GALAXY = 0.05  # per frame of any size, assumed
_BRIGHTER_FATTER = 4e-6
_SPECTRA = 0.25  # share of the generic exposures that are spectra, assumed
_ORDERS = 0.4  # share of the spectra that are cross-dispersed, assumed
_TRAILING = 0.5  # share of the generic cameras that leave trails behind bright pixels, assumed
_SHARP = 0.6  # share of the generic cameras with sharp bright cosmic rays, assumed

_SHARP_PSF = (0.9, 2.0)  # FWHM of the kind "crowded" [px]: undersampled
_CROWD = (10.0, 300.0)  # richness of it

_OF_ANY_LIGHT = ("resampled", "spikes", "uneven")
"""Rare properties that spectra may have as well as fields of stars."""

_CAMERA_WITHOUT = {
    "defects": {"defect_rate": 0.0},
    "prnu": {"prnu": 0.0},
    "channels": {"gain_spread": 0.0, "read_noise_spread": 0.0, "bias_spread": 0.0},
    "streaks": {"pattern": 0.0, "streaks": 0.0},
    "nonlinearity": {"nonlinearity": 0.0},
    "cti": {"parallel_traps": (), "serial_traps": ()},
    "residuals": {
        "gain_residual": 0.0,
        "bias_residual": 0.0,
        "bias_structure": 0.0,
        "dark_residual": 0.0,
        "flat_residual": 0.0,
        "flat_structure": 0.0,
        "master_noise": 0.0,
        "nonlinearity_residual": 0.0,
    },
}
"""What an effect's name in `SimulationConfig.without` sets in a `Camera`."""


@dataclass(frozen=True)
class Setup:
    """Everything that both kinds of exposure are made from.

    Attributes
    ----------
    shape : (int, int)
    sky_model : SkyModel
    psfs : list of Psf
    camera : Camera
    chip : Chip
    artefacts : Artefacts
    sky : float
        e-/s/px.
    exposure_time : float
        s.
    faint_galaxies : float
        Flux [e-/s] below which galaxies come from templates.
    law : {"paper", "physical", "physical-ions"}
    cr_rate : float or None
    slab : Slab or None
    paper : PaperLaw or None
    sharp : Sharp or None
    spectrum : Slit or Echelle or None
        A spectrum instead of a field of stars.
    stars, galaxies : bool
        Whether to draw those of the field.
    unusual : Unusual or None
        One rare property.
    """

    shape: tuple[int, int]
    sky_model: SkyModel
    psfs: list[Psf]
    camera: Camera
    chip: Chip
    artefacts: Artefacts
    sky: float
    exposure_time: float
    faint_galaxies: float
    law: str
    cr_rate: float | None
    slab: Slab | None = None
    paper: PaperLaw | None = None
    sharp: Sharp | None = None
    spectrum: Slit | Echelle | None = None
    stars: bool = True
    galaxies: bool = True
    unusual: Unusual | None = None

    @property
    def noise(self) -> float:
        """1 sigma of a pixel of empty sky [e-/s]."""
        return sky_noise(self.camera, self.sky, self.exposure_time)


def sky_noise(camera: Camera, sky: float, exposure_time: float) -> float:
    """Return 1 sigma of a pixel of empty sky [e-/s]."""
    variance = (sky + camera.dark) * exposure_time + camera.read_noise**2
    return float(np.sqrt(variance)) / exposure_time


# --- CSST -----------------------------------------------------------------------------


def csst_setup(rng: np.random.Generator, config: SimulationConfig) -> Setup:
    """Return the published numbers of the configured chip, and a random sky and PSF."""
    for_sky, for_place = rng.spawn(2)
    band, without = config.band, set(config.without)
    camera = _csst_camera(config)
    chip_rng = np.random.default_rng([_CHIP_SEED, config.detector])
    sky = config.sky
    if sky is None:
        sky = float(for_sky.uniform(band.sky_low, band.sky_high))
    place = draw_place(for_place, config.detector, config.shape)
    # The chips of one exposure, which has one seed, share one telescope.
    for_telescope = np.random.default_rng([config.seed, 0])
    n_side = grid_side(config.shape)
    if "psf" in without:
        psfs = [foreign_psf(for_telescope)] * n_side**2
    else:
        psfs = csst_psfs(for_telescope, band.pivot, PIXEL_SCALE, n_side, place)
    return Setup(
        shape=config.shape,
        sky_model=_csst_sky(config),
        psfs=psfs,
        camera=camera,
        chip=make_chip(chip_rng, camera, config.shape),
        artefacts=_csst_artefacts(config, sky_noise(camera, sky, config.exposure_time)),
        sky=sky,
        exposure_time=config.exposure_time,
        faint_galaxies=10.0 ** (0.4 * (band.zero_point - band.limit)),
        law=config.law if config.law.startswith("physical") else "paper",
        cr_rate=config.cr_rate,
        paper=SUBPIXEL if config.law == "paper-subpixel" else None,
        stars="stars" not in without,
        galaxies="galaxies" not in without,
    )


def _csst_camera(config: SimulationConfig) -> Camera:
    """Return the camera with the effects that the settings leave."""
    changes: dict[str, object] = {}
    for name in config.without:
        changes |= _CAMERA_WITHOUT.get(name, {})
    if config.brighter_fatter:
        changes["brighter_fatter"] = _BRIGHTER_FATTER
    return replace(Camera(), **changes)


def _csst_sky(config: SimulationConfig) -> SkyModel:
    """Return how densely the configured field is filled, in its band."""
    band, field = config.band, config.sky_field
    return SkyModel(
        zero_point=band.zero_point,
        faintest=band.limit + _DEPTH,
        pixel_scale=PIXEL_SCALE,
        star_density=field.star_density,
        galaxy_density=band.galaxy_factor,
        star_colour=band.star_colour,
        galaxy_colour=band.galaxy_colour,
        cluster=field.cluster,
        close_pairs=0.0 if "pairs" in config.without else _CLOSE_PAIRS,
        large_galaxy=0.0 if "large_galaxy" in config.without else _LARGE_GALAXY,
    )


def _csst_artefacts(config: SimulationConfig, noise: float) -> Artefacts:
    """Return the artefacts that the settings leave."""
    off = {"ghosts": {"ghosts": 0}, "satellites": {"trails": 0.0}}
    off["moving_objects"] = {"moving_objects": 0.0}
    changes: dict[str, float] = {}
    for name in config.without:
        changes |= off.get(name, {})
    return replace(
        Artefacts(
            zero_point=config.band.zero_point,
            faintest=config.band.limit,
            noise=noise,
            exposure_time=config.exposure_time,
            detector=config.detector,
        ),
        **changes,
    )


# --- any other instrument -------------------------------------------------------------


def generic_setup(
    rng: np.random.Generator,
    shape: tuple[int, int],
    unusual: float = 0.0,
    kinds: Sequence[str] | None = None,
) -> Setup:
    """Draw a telescope, a camera and a sky; so many of them with a rare property.

    The arguments are those of `exposure.generic_exposure`.
    """
    kinds = KINDS if kinds is None else kinds
    if not kinds or not set(kinds) <= {*KINDS, *MORE_KINDS}:
        raise ValueError(
            f"kinds of rare properties are {', '.join(kinds) or 'none'}; expected some of "
            f"{', '.join((*KINDS, *MORE_KINDS))}"
        )
    for_psf, for_chip, for_spectrum, for_defects, for_transfer, for_sharp, rare = rng.spawn(7)
    exposure_time = log_uniform(rng, 30.0, 1500.0)
    sky_electrons = log_uniform(rng, 1.0, 5000.0)
    # Many a camera has thousands of hot pixels, and no dark frame to know them by.
    camera = replace(
        _generic_camera(rng, sky_electrons),
        defect_rate=log_uniform(for_defects, 1e-5, 3e-3),
        unknown_hot=float(for_defects.choice([0.02, 0.3, 1.0])),
        # Some one or two, some a dozen in frames of 512 pixels.
        bad_columns=float(for_defects.choice([20.0, 200.0])),
        **_generic_transfer(for_transfer),
    )
    psf = generic_psf(for_psf)
    noise = sky_noise(camera, sky_electrons / exposure_time, exposure_time)
    # A source of 5 sigma in an aperture as wide as the PSF.
    limit_flux = float(5.0 * noise * max(psf.fwhm, 1.5) * 1.5)
    near = float(rng.uniform(0.15, 0.3))
    sky_model = _generic_sky(rng, limit_flux)
    spectrum = _generic_spectrum(for_spectrum, noise, max(psf.fwhm, 1.2))
    kind = None
    if rare.random() < unusual:
        kind = Unusual(kinds[rare.integers(len(kinds))], noise, max(psf.fwhm, 1.2))
        if kind.kind in SLITS:
            spectrum = draw_slit(rare, kind)
        elif kind.kind not in _OF_ANY_LIGHT:
            spectrum = None
        if kind.kind == "crowded":
            psf, sky_model = generic_psf(rare, widths=_SHARP_PSF), _crowded(rare, sky_model)
    return Setup(
        shape=shape,
        sky_model=sky_model,
        psfs=[psf],
        camera=camera,
        chip=make_chip(for_chip, camera, shape),
        artefacts=_generic_artefacts(rng, sky_model, noise, exposure_time),
        sky=sky_electrons / exposure_time if spectrum is None else 0.0,
        exposure_time=exposure_time,
        faint_galaxies=limit_flux,
        law="physical" if rng.random() < 0.7 else "paper",
        cr_rate=log_uniform(rng, 0.0008, 0.02),
        slab=Slab(
            thickness=log_uniform(rng, 16.0, 250.0),
            pixel=float(rng.uniform(9.0, 15.0)),
            diffusion=(near, float(rng.uniform(near, 0.6))),
        ),
        paper=SUBPIXEL if rng.random() < 0.5 else None,
        sharp=_generic_sharp(for_sharp),
        spectrum=spectrum,
        unusual=kind,
    )


def _generic_spectrum(
    rng: np.random.Generator, noise: float, fwhm: float
) -> Slit | Echelle | None:
    """Draw whether there is a spectrum instead of a field, and of which kind."""
    if rng.random() >= _SPECTRA:
        return None
    return (Echelle if rng.random() < _ORDERS else Slit)(noise=noise, fwhm=fwhm)


def _generic_sharp(rng: np.random.Generator) -> Sharp | None:
    """Draw how many sharp bright cosmic rays there are: in frames of 512 pixels 5 to 150."""
    if rng.random() >= _SHARP:
        return None
    return Sharp(log_uniform(rng, 2e-5, 6e-4), log_uniform(rng, 0.02, 0.25))


def _generic_transfer(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the traps of a camera: as good as none, or up to those of an old one in orbit.

    ACS/WFC had 1.3 traps per pixel after eight years (Massey 2010, MNRAS 409, L109).  A serial
    register that trails by a pixel or two also stands for an amplifier that is read too fast.
    """
    if rng.random() >= _TRAILING:
        return {}
    parallel = Trap(log_uniform(rng, 0.02, 1.0), log_uniform(rng, 0.7, 10.0))
    serial = Trap(log_uniform(rng, 0.02, 1.0), log_uniform(rng, 0.4, 2.0))
    return {
        "parallel_traps": (parallel,),
        "serial_traps": (serial,),
        "transfers": (int(rng.integers(300, 2500)), int(rng.integers(300, 2500))),
    }


def _generic_sky(rng: np.random.Generator, limit_flux: float) -> SkyModel:
    """Draw how a field of some other telescope is filled, up to a globular's core."""
    limit = float(rng.uniform(23.0, 26.5))
    return SkyModel(
        zero_point=limit + 2.5 * float(np.log10(limit_flux)),
        faintest=limit + _DEPTH,
        pixel_scale=float(rng.uniform(0.04, 0.4)),
        star_density=log_uniform(rng, 0.5, 100.0),
        galaxy_density=float(rng.uniform(0.5, 1.5)),
        size_factor=float(rng.uniform(0.8, 1.5)),
        cluster=(None, None, None, "stars", "galaxies")[rng.integers(5)],
        richness=log_uniform(rng, 0.3, 30.0),
        core_radius=(0.05, 3.0),
        close_pairs=_CLOSE_PAIRS,
        large_galaxy=_LARGE_GALAXY,
    )


def _crowded(rng: np.random.Generator, sky_model: SkyModel) -> SkyModel:
    """Return a sky that is full of stars: nothing but a cluster's core."""
    return replace(
        sky_model,
        cluster="stars",
        richness=log_uniform(rng, *_CROWD),
        core_radius=(0.7, 3.0),
        galaxy_density=0.1,
    )


def _generic_artefacts(
    rng: np.random.Generator, sky_model: SkyModel, noise: float, exposure_time: float
) -> Artefacts:
    """Draw the artefacts of a telescope with a central obstruction."""
    return Artefacts(
        ghost_hole=float(rng.uniform(0.2, 0.5)),
        trails=0.2,
        zero_point=sky_model.zero_point,
        faintest=sky_model.faintest - _DEPTH,
        noise=noise,
        exposure_time=exposure_time,
        pixel_scale=sky_model.pixel_scale,
        detector=int(rng.integers(1000)),
    )


def _generic_camera(rng: np.random.Generator, sky_electrons: float) -> Camera:
    """Draw a camera whose calibration errors are small against the noise."""
    gain = log_uniform(rng, 0.5, 4.0)
    read_noise = log_uniform(rng, 1.5, 15.0)
    noise = float(np.hypot(np.sqrt(sky_electrons), read_noise)) / gain
    return Camera(
        gain=gain,
        read_noise=read_noise,
        dark=float(rng.uniform(0.0, 0.02)),
        full_well=float(rng.uniform(5e4, 2e5)),
        prnu=float(rng.uniform(0.002, 0.015)),
        pattern=float(rng.choice([0.0, 0.02, 0.06])) * noise,
        bias_residual=float(rng.uniform(0.0, 0.15)) * noise,
        bias_structure=float(rng.uniform(0.0, 0.1)) * noise,
        master_noise=float(rng.uniform(0.0, 0.1)) * read_noise,
        nonlinearity=float(rng.uniform(0.0, 0.03)),
        transfers=(0, 0),
        channels=(int(rng.integers(1, 3)), int(rng.integers(1, 5))),
    )
