"""Is what was put into a simulated exposure found in it?  Measurements beside predictions.

The predictions come from formulas and published tables, not from the simulator's drawings:
light in apertures from the optical transfer function (`apertures`), noise from its parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.apertures import encircled
from crmend_training.simulate.bands import FULL_SHAPE, PIXEL_SCALE
from crmend_training.simulate.catalog import SOURCE_DTYPE, draw_catalog
from crmend_training.simulate.config import SimulationConfig
from crmend_training.simulate.exposure import SimulatedExposure
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.readout import expose
from crmend_training.simulate.scene import Optics, render_scene
from crmend_training.simulate.setups import csst_setup

APERTURE = 8.0
"""Radius in which stars are measured [px]."""

ANNULUS = (16.0, 24.0)
"""Radii of the local background of stars [px]."""

_MAGNITUDES = (15.7, 16.1, 17.2, 17.0, 16.7, 15.7, 14.4)
SATURATION = dict(zip(("NUV", *"ugrizy"), _MAGNITUDES, strict=True))
"""Magnitude at which a star saturates in 150 s (official filter table)."""

STAR_COUNTS = dict(
    enumerate((141, 244, 385, 571, 782, 1003, 1186, 1510, 1882, 2114, 2238, 2695), start=14)
)
"""Stars per mag per deg² at b = 50° around whole r magnitudes."""

GALAXY_COUNTS = dict(
    enumerate((275, 725, 2050, 5325, 13700, 30575, 63100, 127825, 229950), start=18)
)
"""Galaxies per deg² in the r magnitudes from each key to the next (published counts)."""

_GRAIN = 32  # px, blocks whose mean is taken off before the noise is measured
_ELECTRONS = 12_000.0  # a star of S/N > 100
_CELL = 160  # px, of the grid of galaxies
_GALAXY_APERTURE = 2.5  # half-light radii


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the size of the sample."""

    value: float
    error: float
    n: int

    @classmethod
    def median(cls, values: NDArray[np.float64]) -> Estimate:
        """Median of a sample; its error is that of a normal one of the same quartiles."""
        values = np.asarray(values, dtype=np.float64)
        if values.size < 2:
            return cls(float("nan"), float("nan"), values.size)
        low, middle, high = np.percentile(values, [25.0, 50.0, 75.0])
        error = 1.2533 * (high - low) / 1.349 / np.sqrt(values.size)
        return cls(float(middle), float(error), int(values.size))

    @classmethod
    def weighted(cls, values: NDArray[np.float64], sigma: NDArray[np.float64]) -> Estimate:
        """Mean of a sample, weighted by what its errors should be."""
        weight = sigma**-2.0 / np.sum(sigma**-2.0)
        mean = float(np.sum(weight * values))
        error = np.sqrt(np.sum((weight * (values - mean)) ** 2))
        return cls(mean, float(error), int(values.size))


# --- frames ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A Level 1 image without cosmic rays and the light it is of, (ny, nx), e-/s."""

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    flag: NDArray[np.int32]
    light: NDArray[np.float32]
    psf: Psf
    noise: float


def expose_catalog(config: SimulationConfig, catalog: NDArray[np.void]) -> Frame:
    """Expose given sources; the same `config` gives the same chip, PSF, sky and noise.

    Parameters
    ----------
    config : SimulationConfig
    catalog : structured array of `catalog.SOURCE_DTYPE`

    Returns
    -------
    Frame
    """
    for_setup, for_scene, for_chip = np.random.default_rng(
        [config.seed, config.detector]
    ).spawn(3)
    setup = csst_setup(for_setup, config)
    optics = Optics.from_psfs(setup.psfs)
    light = render_scene(
        for_scene,
        catalog,
        optics,
        setup.shape,
        floor=0.015 * setup.noise,
        faint_galaxies=setup.faint_galaxies,
    )
    light += np.float32(setup.sky)
    none = np.zeros_like(light)
    out = expose(for_chip, light.copy(), none, setup.camera, setup.chip, setup.exposure_time)
    return Frame(out.image, out.error, out.flag, light, setup.psfs[0], setup.noise)


# --- stars ----------------------------------------------------------------------------


def star_share(psf: Psf, radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of a star's light left in apertures by the local background."""
    inner, outer = encircled(psf, np.array(ANNULUS))
    per_area = (outer - inner) / (np.pi * (ANNULUS[1] ** 2 - ANNULUS[0] ** 2))
    return encircled(psf, radius) - np.pi * np.asarray(radius) ** 2 * per_area


def isolated_stars(sim: SimulatedExposure) -> NDArray[np.void]:
    """Return the bright, unsaturated stars that nothing disturbs.

    S/N > 100 and 0.5 mag below saturation; nothing flagged within the aperture; no other
    source with 1 per cent of the flux within the outer radius of the background, nor a
    brighter one whose wings, which fall like r⁻³, vary noticeably from there to the aperture.
    """
    band, catalog = sim.config.band, sim.catalog
    stars = catalog[catalog["type"] == "star"]
    good = stars["flux"] * sim.exposure_time > _ELECTRONS
    good &= stars["mag"] > SATURATION[band.name] + 0.5
    for axis, n in (("x", sim.image.shape[1]), ("y", sim.image.shape[0])):
        good &= (stars[axis] > ANNULUS[1]) & (stars[axis] < n - 1 - ANNULUS[1])
    stars = stars[good]
    distance = np.hypot(*(stars[axis][:, None] - catalog[axis] for axis in "xy"))
    contrast = catalog["flux"] / stars["flux"][:, None]
    rival = (distance < ANNULUS[1] + 4.0) & (contrast > 0.01)
    rival |= distance < 12.0 * np.cbrt(contrast)
    alone = rival.sum(axis=1) == 1  # itself
    flagged = (sim.flag != 0).astype(np.float32)
    dirty, _, _ = sep.sum_circle(flagged, stars["x"], stars["y"], APERTURE, subpix=0)
    return stars[alone & (dirty == 0.0)]


def star_residuals(
    sim: SimulatedExposure, stars: NDArray[np.void] | None = None
) -> NDArray[np.float64]:
    """Return measured − catalogue magnitude of stars, by default the isolated ones.

    Circular aperture, mean of an annulus as background, aperture correction from the PSF.
    """
    stars = isolated_stars(sim) if stars is None else stars
    flux = _aperture_flux(sim, stars, APERTURE) / star_share(sim.psf, APERTURE)
    return sim.zero_point - 2.5 * np.log10(flux) - stars["mag"]


def _aperture_flux(sim, stars, radius):
    flux, _, _ = sep.sum_circle(
        np.ascontiguousarray(sim.image_without_cr),
        stars["x"],
        stars["y"],
        radius,
        mask=sim.flag != 0,
        bkgann=ANNULUS,
        subpix=0,
    )
    return flux


def radius_80(sim: SimulatedExposure) -> tuple[float, float, int]:
    """Return R_EE80 [px] from the sum of all isolated stars, that of the PSF, their number.

    Both with the pixel and the aperture's, see `encircled`; growth curves go to 8 px, beyond
    which the PSF's share is taken.
    """
    stars = isolated_stars(sim)
    radius = np.arange(0.6, 5.01, 0.1)
    total = _aperture_flux(sim, stars, APERTURE).sum() / star_share(sim.psf, APERTURE)[0]
    growth = np.array([_aperture_flux(sim, stars, r).sum() for r in radius]) / total
    wanted = star_share(sim.psf, radius)
    return (
        float(np.interp(0.8, growth, radius)),
        float(np.interp(0.8, wanted, radius)),
        stars.size,
    )


# --- galaxies -------------------------------------------------------------------------


def grid_of_galaxies(rng: np.random.Generator, config: SimulationConfig) -> NDArray[np.void]:
    """Return single galaxies on a grid, their properties from the simulated sky.

    From 4 to 1.5 mag above the limit: brighter ones have knots, whose place within the
    galaxy is not in the catalogue, and fainter ones are drawn from templates.
    """
    band = config.band
    sky = csst_setup(np.random.default_rng(0), config).sky_model
    sky = replace(sky, star_density=0.0, cluster=None, close_pairs=0.0, large_galaxy=0.0)
    drawn = draw_catalog(rng, FULL_SHAPE, sky, margin=0)
    usable = (drawn["mag"] > band.limit - 4.0) & (drawn["mag"] < band.limit - 1.5)
    drawn = drawn[usable & (drawn["r_half"] < 0.3 * _CELL / _GALAXY_APERTURE)]
    row, column = np.indices([n // _CELL for n in config.shape]).reshape(2, -1)
    galaxies = rng.permutation(drawn)[: row.size].astype(SOURCE_DTYPE)
    for axis, cell in (("x", column), ("y", row)):
        place = (cell[: galaxies.size] + 0.5) * _CELL
        galaxies[axis] = place + rng.uniform(-0.5, 0.5, galaxies.size)
    return galaxies


def galaxy_residuals(
    rng: np.random.Generator, config: SimulationConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the magnitudes of galaxies and their errors, measured − catalogue.

    An aperture of 2.5 half-light radii, whose share of the light is known from the galaxy's
    profile.  The background is the same exposure without galaxies: sky and noise cancel, and
    all that acts on the galaxies' charge stays.
    """
    galaxies = grid_of_galaxies(rng, config)
    frame, empty = (expose_catalog(config, sources) for sources in (galaxies, galaxies[:0]))
    radius = np.maximum(_GALAXY_APERTURE * galaxies["r_half"], 5.0)
    share = [encircled(frame.psf, r, g)[0] for r, g in zip(radius, galaxies, strict=True)]
    place = (galaxies["x"], galaxies["y"], radius)
    flagged = (frame.flag != 0).astype(np.float32)
    dirty, _, _ = sep.sum_circle(flagged, *place, subpix=0)
    flux, _, _ = sep.sum_circle(frame.image - empty.image, *place, subpix=0)
    # Unlike the logarithm, 1 − ratio leaves the noise symmetric.
    error = 2.5 / np.log(10.0) * (1.0 - flux / (np.array(share) * galaxies["flux"]))
    return galaxies["mag"][dirty == 0.0], error[dirty == 0.0]


# --- noise ----------------------------------------------------------------------------


def predicted_noise(sim: SimulatedExposure) -> float:
    """Return 1 sigma of empty sky [e-/s], from its parts.

    Photons, dark current and read noise; and the small ones: the spread of the read noise,
    rounding, the master frames, the pattern of rows and of columns (half as strong).
    """
    camera = sim.camera
    variance = (sim.sky + camera.dark) * sim.exposure_time
    variance += camera.read_noise**2 * (1.0 + camera.read_noise_spread**2)
    variance += camera.master_noise**2
    variance += camera.gain**2 * (1.0 / 12.0 + 1.25 * camera.pattern**2)
    return float(np.sqrt(variance)) / sim.exposure_time


def measured_noise(sim: SimulatedExposure, mask: NDArray[np.bool_]) -> float:
    """Return 1 sigma of the pixels outside of `mask` [e-/s], about the mean of their block."""
    values, empty = _flatten(sim.image_without_cr, ~mask)
    values = values[empty]
    sigma = values.std()
    for _ in range(3):
        # A normal sample cut at 4 sigma has 0.9989 of its sigma.
        sigma = values[np.abs(values) < 4.0 * sigma].std() / 0.9989
    return float(sigma)


def source_mask(sim: SimulatedExposure) -> NDArray[np.bool_]:
    """Return the pixels (ny, nx) that are flagged or lie on or near a detected source."""
    image = np.ascontiguousarray(sim.image_without_cr)
    bad = sim.flag != 0
    background = sep.Background(image, mask=bad, bw=64, bh=64)
    smooth = ndimage.gaussian_filter(np.where(bad, 0.0, image - background.back()), 2.0)
    limit = 3.0 * background.globalrms / np.sqrt(4.0 * np.pi * 4.0)
    return bad | ndimage.binary_dilation(smooth > limit, iterations=4)


def pulls(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (image − light) / error in the sky, and where stars exceed 10 sigma of it.

    Without what is flagged, and less the mean of each block, which holds the errors of the
    bias.
    """
    # Charge that bled out of a full pixel belongs to no light that fell on its neighbours.
    full = ndimage.binary_dilation(frame.flag & 8 > 0, iterations=6)
    good = (frame.flag == 0) & ~full
    excess = (frame.light - np.median(frame.light)) / frame.noise
    difference, _ = _flatten(frame.image - frame.light, good & (excess < 0.2))
    pull = difference / frame.error[: difference.shape[0], : difference.shape[1]]
    good, excess = (a[: pull.shape[0], : pull.shape[1]] for a in (good, excess))
    return pull[good & (excess < 0.2)], pull[good & (excess > 10.0)]


def _flatten(image, good):
    """Return an image less the mean of the good pixels of each block, and the good pixels.

    Both are cut to whole blocks.
    """
    ny, nx = (n // _GRAIN * _GRAIN for n in image.shape)
    image, good = image[:ny, :nx].astype(np.float64), good[:ny, :nx]
    blocks = (ny // _GRAIN, _GRAIN, nx // _GRAIN, _GRAIN)
    total, n = (a.reshape(blocks).sum(axis=(1, 3)) for a in (np.where(good, image, 0.0), good))
    mean = total / np.maximum(n, 1)
    return image - np.kron(mean, np.ones((_GRAIN, _GRAIN))), good


# --- counts ---------------------------------------------------------------------------


def input_counts(
    rng: np.random.Generator, config: SimulationConfig, n_chips: int
) -> dict[str, NDArray[np.float64]]:
    """Return what catalogues of whole chips hold beside the tables.

    Returns
    -------
    dict
        For ``star`` and ``galaxy`` a (bins, 3) array: magnitude of the bin's middle, sources
        found, sources expected.
    """
    sky = csst_setup(np.random.default_rng(0), replace(config, shape=(64, 64))).sky_model
    parts = [draw_catalog(rng, FULL_SHAPE, sky, margin=0) for _ in range(n_chips)]
    drawn = np.concatenate(parts)
    area = n_chips * sky_area(FULL_SHAPE)
    return {
        kind: _compare(
            drawn["mag"][drawn["type"] == kind], *expected_counts(config, kind), area
        )
        for kind in ("star", "galaxy")
    }


def detected_stars(sims: list[SimulatedExposure]) -> NDArray[np.float64]:
    """Return how many stars are found in frames beside the table, as `input_counts` does.

    From 0.5 mag below saturation to 3.5 mag above the limit, in whole bins of the table;
    magnitudes from apertures of 4 px, corrected for the PSF.  For frames without galaxies.
    """
    config = sims[0].config
    found = np.concatenate([_detected_magnitudes(sim) for sim in sims])
    middle, density = expected_counts(config, "star")
    low, high = SATURATION[config.band.name] + 0.5, config.band.limit - 3.5
    use = (middle - 0.5 >= low) & (middle + 0.5 <= high)
    area = len(sims) * sky_area(sims[0].image.shape)
    return _compare(found, middle[use], density[use], area)


def expected_counts(
    config: SimulationConfig, kind: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middles of bins of one magnitude and sources per deg², from the tables.

    Galaxies of g and i follow published factors of the r counts; those of the other bands,
    and the colours of stars, are assumed (`bands`).
    """
    band = config.band
    if kind == "star":
        density = np.array(list(STAR_COUNTS.values()), dtype=np.float64)
        middle = np.array(list(STAR_COUNTS), dtype=np.float64) + band.star_colour
        density = density * config.sky_field.star_density
    else:
        factor = {"g": 0.7, "r": 1.0, "i": 1.3}.get(band.name, band.galaxy_factor)
        density = factor * np.array(list(GALAXY_COUNTS.values()), dtype=np.float64)
        middle = np.array(list(GALAXY_COUNTS), dtype=np.float64) + 0.5
    # The catalogue ends two magnitudes below the limit.
    use = middle + 0.5 <= band.limit + 2.0
    return middle[use], density[use]


def sky_area(shape: tuple[int, int]) -> float:
    """Return the area of a frame [deg²]."""
    return shape[0] * shape[1] * (PIXEL_SCALE / 3600.0) ** 2


def _detected_magnitudes(sim):
    """Return magnitudes of what is found in a frame, at least 8 px from its edges."""
    image = np.ascontiguousarray(sim.image_without_cr)
    bad = sim.flag & 7 != 0
    background = sep.Background(image, mask=bad, bw=128, bh=128)
    found = sep.extract(
        image - background.back(), 4.0, err=background.globalrms, mask=bad, minarea=5
    )
    flux, _, _ = sep.sum_circle(
        image - background.back(), found["x"], found["y"], 4.0, mask=bad, subpix=0
    )
    flux = flux[flux > 0.0] / encircled(sim.psf, 4.0)
    return sim.zero_point - 2.5 * np.log10(flux)


def _compare(found, middle, density, area):
    """Return magnitude, number found and number expected of each bin."""
    edges = np.append(middle - 0.5, middle[-1:] + 0.5)
    return np.stack([middle, np.histogram(found, edges)[0], density * area], axis=1)
