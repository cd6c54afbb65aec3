"""One simulated exposure, from settings to Level 1 planes and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.artefacts import add_artefacts
from crmend_training.simulate.catalog import SOURCE_DTYPE, draw_catalog
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.cosmic_rays import draw_cosmic_rays
from crmend_training.simulate.detector import Camera
from crmend_training.simulate.echelle import add_orders
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.readout import expose
from crmend_training.simulate.scene import Optics, render_scene
from crmend_training.simulate.setups import Setup, csst_setup, generic_setup
from crmend_training.simulate.slit import Slit, add_longslit
from crmend_training.simulate.unusual import add_unusual_light
from crmend_training.simulate.unusual_frames import processed

_FLOOR = 0.015  # of the noise: profiles are drawn that far out


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
        Bits 1 bad, 2 hot, 4 warm, 8 saturated, 32 satellite trail, 64 ghost; the cosmic-ray
        bit is not set.
    cr_truth : (ny, nx) float32 array
        Charge of cosmic rays as it enters, e-/px.
    cr_events : structured array of `cosmic_rays.EVENT_DTYPE`
        The particles.
    image_without_cr : (ny, nx) float32 array
        The same exposure and the same noise without cosmic rays, e-/s.
    catalog : structured array of `catalog.SOURCE_DTYPE`
        Stars and galaxies whose centre, and moving objects and satellite trails whose middle,
        lies on the frame.
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
    light : (ny, nx) float32 array or None
        What a pixel receives on average without cosmic rays, with sky, e-/s; None = not kept.
    unknown_hot : (rows, columns) or None
        Indices of the hot pixels that `flag` does not name.
    """

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    flag: NDArray[np.int32]
    cr_truth: NDArray[np.float32]
    cr_events: NDArray[np.void]
    image_without_cr: NDArray[np.float32]
    catalog: NDArray[np.void]
    camera: Camera
    psf: Psf
    sky: float
    exposure_time: float
    zero_point: float
    config: SimulationConfig | None = None
    light: NDArray[np.float32] | None = None
    unknown_hot: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


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
    for_setup, for_frame = rng.spawn(2)
    sim = _simulate(for_frame, csst_setup(for_setup, config), bool(progress))
    return replace(sim, config=config)


def generic_exposure(
    rng: np.random.Generator,
    shape: tuple[int, int],
    progress: bool | None = None,
    *,
    keep_light: bool = False,
    unusual: float = 0.0,
    kinds: Sequence[str] | None = None,
) -> SimulatedExposure:
    """Simulate an exposure of some other telescope and camera, all drawn at random.

    PSF FWHM 1.2–7 px (Gaussian, Moffat or Airy), read noise 1.5–15 e-, gain 0.5–4 e-/ADU,
    sky 1–5000 e-, a silicon layer of 16–250 µm, star density up to the core of a globular
    cluster; a quarter are spectra, long-slit or cross-dispersed.  The image is in e-/s, as
    `simulate_exposure` gives it.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    progress : bool or None
        True shows a progress bar.
    keep_light : bool
        Keep `SimulatedExposure.light`.
    unusual : float
        Probability of a rare property; 0 leaves every camera of a seed as it is without.
    kinds : sequence of str or None
        What it is one of, as often as it is named; None = `unusual.KINDS`.

    Returns
    -------
    SimulatedExposure
    """
    for_setup, for_frame = rng.spawn(2)
    setup = generic_setup(for_setup, shape, unusual, kinds)
    return _simulate(for_frame, setup, bool(progress), keep_light)


def _simulate(
    rng: np.random.Generator, setup: Setup, progress: bool, keep_light: bool = False
) -> SimulatedExposure:
    """Sky, light, cosmic rays, chip: the steps that every exposure goes through."""
    # One stream each, so that leaving one out changes no other.
    for_light, for_artefacts, for_sky, for_rays, for_chip, rare = rng.spawn(6)
    optics = Optics.from_psfs(setup.psfs)
    scene, catalog, lines = _light(for_light, setup, optics, progress)
    bits, more = add_artefacts(for_artefacts, scene, catalog, optics, setup.artefacts)
    if setup.unusual is not None:
        slit = setup.spectrum if isinstance(setup.spectrum, Slit) else None
        add_unusual_light(rare, scene, setup.unusual, slit)
    _add_sky(for_sky, scene, setup.sky)
    cosmic_rays = draw_cosmic_rays(
        for_rays, setup.shape, setup.law, setup.cr_rate, setup.slab, setup.paper, setup.sharp
    )
    light = scene.copy() if keep_light else None  # `expose` overwrites the scene
    readout = expose(
        for_chip, scene, cosmic_rays.charge, setup.camera, setup.chip, setup.exposure_time
    )
    if bits is not None:
        np.bitwise_or(readout.flag, bits, out=readout.flag)
    hot_y, hot_x, _ = setup.chip.extra_dark
    unknown = ~setup.chip.known_dark
    sim = SimulatedExposure(
        image=readout.image,
        error=readout.error,
        flag=readout.flag,
        cr_truth=cosmic_rays.charge,
        cr_events=cosmic_rays.events,
        image_without_cr=readout.image_without_cr,
        catalog=_inside(np.concatenate([catalog, more]), setup.shape),
        camera=setup.camera,
        psf=setup.psfs[len(setup.psfs) // 2],
        sky=setup.sky,
        exposure_time=setup.exposure_time,
        zero_point=setup.sky_model.zero_point,
        light=light,
        unknown_hot=(hot_y[unknown], hot_x[unknown]),
    )
    return sim if setup.unusual is None else processed(rare, sim, setup.unusual, lines)


def _light(
    rng: np.random.Generator, setup: Setup, optics: Optics, progress: bool
) -> tuple[NDArray[np.float32], NDArray[np.void], NDArray[np.float32] | None]:
    """Return the light of the sources [e-/s], their catalogue, and a slit's sky by itself."""
    for_catalog, for_scene, for_spectrum = rng.spawn(3)
    if setup.spectrum is not None:
        scene, sky = np.zeros(setup.shape, dtype=np.float32), None
        if isinstance(setup.spectrum, Slit):
            if setup.unusual is not None:
                # The same draws without objects: the sky of this very slit.
                alone = replace(setup.spectrum, traces=0.0)
                sky = add_longslit(deepcopy(for_spectrum), np.zeros_like(scene), alone)
            add_longslit(for_spectrum, scene, setup.spectrum)
        else:
            add_orders(for_spectrum, scene, setup.spectrum)
        return scene, np.zeros(0, dtype=SOURCE_DTYPE), sky
    catalog = draw_catalog(for_catalog, setup.shape, setup.sky_model)
    is_star = catalog["type"] == "star"
    catalog = catalog[np.where(is_star, setup.stars, setup.galaxies)]
    scene = render_scene(
        for_scene,
        catalog,
        optics,
        setup.shape,
        floor=_FLOOR * setup.noise,
        faint_galaxies=setup.faint_galaxies,
        progress=progress,
    )
    return scene, catalog, None


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
