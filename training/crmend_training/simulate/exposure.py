"""One simulated exposure, from settings to Level 1 planes and their truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.bands import PIXEL_SCALE
from crmend_training.simulate.catalog import SOURCE_DTYPE, SkyModel, draw_catalog
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.cosmic_rays import Slab, draw_cosmic_rays
from crmend_training.simulate.detector import Camera, Chip, expose, make_chip
from crmend_training.simulate.psf import Psf, csst_psfs, generic_psf
from crmend_training.simulate.scene import Optics, render_scene

_CHIP_SEED = 20_240_813
_FLOOR = 0.015  # of the noise: profiles are drawn that far out
_DEPTH = 2.0
"""Sources are drawn to so many magnitudes below the 5 sigma limit."""


@dataclass(frozen=True)
class SimulatedExposure:
    """A Level 1 exposure with everything that is known about it.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Level 1, e-/s, with sky.
    error : (ny, nx) float32 array
        1 sigma, e-/s.
    flag : (ny, nx) int32 array
        Bits 1 bad, 2 hot, 4 warm, 8 saturated; the cosmic-ray bit is not set.
    cr_truth : (ny, nx) float32 array
        Charge of cosmic rays as it enters, e-/px.
    image_without_cr : (ny, nx) float32 array
        The same exposure and the same noise without cosmic rays, e-/s.
    catalog : structured array of `catalog.SOURCE_DTYPE`
        Sources inside the frame.
    camera : Camera
    psf : Psf
        At the frame's centre.
    sky : float
        e-/s/px.
    exposure_time : float
        s.
    zero_point : float
        Magnitude of 1 e-/s.
    config : SimulationConfig or None
        None for `generic_exposure`.
    """

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    flag: NDArray[np.int32]
    cr_truth: NDArray[np.float32]
    image_without_cr: NDArray[np.float32]
    catalog: NDArray[np.void]
    camera: Camera
    psf: Psf
    sky: float
    exposure_time: float
    zero_point: float
    config: SimulationConfig | None = None


@dataclass(frozen=True)
class _Setup:
    """Everything that both kinds of exposure are made from."""

    shape: tuple[int, int]
    sky_model: SkyModel
    psfs: list[Psf]
    camera: Camera
    chip: Chip
    sky: float
    exposure_time: float
    faint_galaxies: float
    law: str
    cr_rate: float | None
    slab: Slab | None = None
    stars: bool = True
    galaxies: bool = True


def simulate_exposure(
    config: SimulationConfig, progress: bool | None = None
) -> SimulatedExposure:
    """Simulate one CSST exposure; the same `config` gives the same bits.

    Parameters
    ----------
    config : SimulationConfig
    progress : bool or None
        True shows a progress bar.

    Returns
    -------
    SimulatedExposure
    """
    rng = np.random.default_rng([config.seed, config.detector])
    return replace(_simulate(rng, _csst_setup(rng, config), bool(progress)), config=config)


def generic_exposure(
    rng: np.random.Generator, shape: tuple[int, int], progress: bool | None = None
) -> SimulatedExposure:
    """Simulate an exposure of some other telescope and camera, all drawn at random.

    PSF FWHM 1.2–7 px (Gaussian, Moffat or Airy), read noise 1.5–15 e-, gain 0.5–4 e-/ADU,
    sky 1–5000 e-, a silicon layer of 16–250 µm, star density up to crowded.  The image is
    in e-/s, as `simulate_exposure` gives it.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    progress : bool or None
        True shows a progress bar.

    Returns
    -------
    SimulatedExposure
    """
    return _simulate(rng, _generic_setup(rng, shape), bool(progress))


def _csst_setup(rng: np.random.Generator, config: SimulationConfig) -> _Setup:
    """Return the published numbers of the configured chip, and a random sky and PSF."""
    chip_rng = np.random.default_rng([_CHIP_SEED, config.detector])
    band = config.band
    camera = Camera()
    if not config.defects:
        camera = replace(camera, defect_rate=0.0)
    if not config.streaks:
        camera = replace(camera, pattern=0.0)
    sky = config.sky
    if sky is None:
        sky = float(rng.uniform(band.sky_low, band.sky_high))
    sky_model = SkyModel(
        zero_point=band.zero_point,
        faintest=band.limit + _DEPTH,
        pixel_scale=PIXEL_SCALE,
        star_density=config.sky_field.star_density,
        galaxy_density=band.galaxy_factor,
        star_colour=band.star_colour,
        galaxy_colour=band.galaxy_colour,
        cluster=config.sky_field.cluster,
    )
    return _Setup(
        shape=config.shape,
        sky_model=sky_model,
        psfs=csst_psfs(rng, band.pivot, PIXEL_SCALE, 3 if max(config.shape) > 4000 else 1),
        camera=camera,
        chip=make_chip(chip_rng, camera, config.shape),
        sky=sky,
        exposure_time=config.exposure_time,
        faint_galaxies=10.0 ** (0.4 * (band.zero_point - band.limit)),
        law=config.law,
        cr_rate=config.cr_rate,
        stars=config.stars,
        galaxies=config.galaxies,
    )


def _generic_setup(rng: np.random.Generator, shape: tuple[int, int]) -> _Setup:
    """Draw a telescope, a camera and a sky."""
    exposure_time = _log_uniform(rng, 30.0, 1500.0)
    sky_electrons = _log_uniform(rng, 1.0, 5000.0)
    camera = _generic_camera(rng, sky_electrons)
    psf = generic_psf(rng)
    # A source of 5 sigma in an aperture as wide as the PSF.
    noise = np.hypot(np.sqrt(sky_electrons), camera.read_noise)
    limit_flux = float(5.0 * noise * max(psf.fwhm, 1.5) * 1.5 / exposure_time)
    limit = float(rng.uniform(23.0, 26.5))
    near = float(rng.uniform(0.15, 0.3))
    sky_model = SkyModel(
        zero_point=limit + 2.5 * float(np.log10(limit_flux)),
        faintest=limit + _DEPTH,
        pixel_scale=float(rng.uniform(0.04, 0.4)),
        star_density=_log_uniform(rng, 0.5, 100.0),
        galaxy_density=float(rng.uniform(0.5, 1.5)),
        size_factor=float(rng.uniform(0.8, 1.5)),
        cluster=(None, None, None, "stars", "galaxies")[rng.integers(5)],
    )
    return _Setup(
        shape=shape,
        sky_model=sky_model,
        psfs=[psf],
        camera=camera,
        chip=make_chip(rng, camera, shape),
        sky=sky_electrons / exposure_time,
        exposure_time=exposure_time,
        faint_galaxies=limit_flux,
        law="physical" if rng.random() < 0.7 else "paper",
        cr_rate=_log_uniform(rng, 0.0008, 0.02),
        slab=Slab(
            thickness=_log_uniform(rng, 16.0, 250.0),
            pixel=float(rng.uniform(9.0, 15.0)),
            diffusion=(near, float(rng.uniform(near, 0.6))),
        ),
    )


def _generic_camera(rng: np.random.Generator, sky_electrons: float) -> Camera:
    """Draw a camera whose calibration errors are small against the noise."""
    gain = _log_uniform(rng, 0.5, 4.0)
    read_noise = _log_uniform(rng, 1.5, 15.0)
    noise = float(np.hypot(np.sqrt(sky_electrons), read_noise)) / gain
    return Camera(
        gain=gain,
        read_noise=read_noise,
        dark=float(rng.uniform(0.0, 0.02)),
        full_well=float(rng.uniform(5e4, 2e5)),
        prnu=float(rng.uniform(0.002, 0.015)),
        pattern=float(rng.choice([0.0, 0.02, 0.06])) * noise,
        bias_residual=float(rng.uniform(0.0, 0.15)) * noise,
        channels=(int(rng.integers(1, 3)), int(rng.integers(1, 5))),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _simulate(rng: np.random.Generator, setup: _Setup, progress: bool) -> SimulatedExposure:
    """Sky, light, cosmic rays, chip: the steps that every exposure goes through."""
    catalog = draw_catalog(rng, setup.shape, setup.sky_model)
    wanted = np.where(catalog["type"] == "star", setup.stars, setup.galaxies)
    catalog = catalog[wanted.astype(bool)]
    background = (setup.sky + setup.camera.dark) * setup.exposure_time
    noise = float(np.sqrt(background + setup.camera.read_noise**2))
    scene = render_scene(
        rng,
        catalog,
        Optics.from_psfs(setup.psfs),
        setup.shape,
        floor=_FLOOR * noise / setup.exposure_time,
        faint_galaxies=setup.faint_galaxies,
        progress=progress,
    )
    _add_sky(rng, scene, setup.sky)
    cosmic_rays = draw_cosmic_rays(rng, setup.shape, setup.law, setup.cr_rate, setup.slab)
    readout = expose(rng, scene, cosmic_rays, setup.camera, setup.chip, setup.exposure_time)
    return SimulatedExposure(
        image=readout.image,
        error=readout.error,
        flag=readout.flag,
        cr_truth=cosmic_rays,
        image_without_cr=readout.image_without_cr,
        catalog=_inside(catalog, setup.shape),
        camera=setup.camera,
        psf=setup.psfs[len(setup.psfs) // 2],
        sky=setup.sky,
        exposure_time=setup.exposure_time,
        zero_point=setup.sky_model.zero_point,
    )


def _add_sky(rng: np.random.Generator, scene: NDArray[np.float32], sky: float) -> None:
    """Add the sky with a gradient of a few per cent across the frame, in place."""
    slope = rng.normal(0.0, 0.01, 2)
    ny, nx = scene.shape
    along_x = (sky * slope[0] * np.linspace(-1.0, 1.0, nx)).astype(np.float32)
    for j, v in enumerate(np.linspace(-1.0, 1.0, ny)):
        scene[j] += along_x + np.float32(sky * (1.0 + slope[1] * v))


def _inside(catalog: NDArray[np.void], shape: tuple[int, int]) -> NDArray[np.void]:
    """Return the sources whose centre lies on the frame."""
    x, y = catalog["x"], catalog["y"]
    on_frame = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    return catalog[on_frame].astype(SOURCE_DTYPE)
