"""What the pixels around a hole can say at best about the light in it (Cramér–Rao).

A source of known profile, up to a few free numbers, is fitted to the pixels that a mask left;
the bound is the smallest scatter that any unbiased guess of the masked light can have, and the
noise of the masked pixels themselves comes on top, since no neighbour knows it.
"""

from __future__ import annotations

from collections.abc import Callable

import galsim
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend_training.simulate import SimulationConfig
from crmend_training.simulate.galaxies import intrinsic_profile
from crmend_training.simulate.optics import Optics
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.setups import csst_setup

FREE = ("flux", "x", "y", "size", "g1", "g2", "bulge", "background")
"""What may be free; of a star only those of `_OF_A_STAR` are."""

_OF_A_STAR = ("flux", "x", "y", "background")

_HALF = 20  # half width of the stamp that is fitted [px]
_NUDGES = (0.02, 0.05, 0.05, 0.03, 0.02, 0.02, 0.05)
_STEPS = dict(zip(FREE, _NUDGES, strict=False))


def optics_of(header: fits.Header, shape: tuple[int, int]) -> Optics:
    """Return the PSFs that a simulated frame was drawn with, from its primary header.

    Raises
    ------
    KeyError
        The frame is none of ours: a ``SIM…`` keyword is missing.
    """
    config = SimulationConfig(
        int(str(header["DETECTOR"])[-2:]),
        shape,
        seed=header["SIMSEED"],
        field=header["SIMFIELD"],
        law=header["SIMCRLAW"],
    )
    rng = np.random.default_rng([config.seed, config.detector])
    return Optics.from_psfs(csst_setup(rng.spawn(2)[0], config).psfs)


def hole_bound(
    source: np.void,
    psf: Psf,
    mask: NDArray[np.bool_],
    error: NDArray[np.float32],
    free: tuple[str, ...] = FREE,
    radius: float = 5.0,
) -> float:
    """Return the least scatter of the light guessed for the masked part of a circle.

    Parameters
    ----------
    source : row of a catalogue with the columns of `simulate.catalog.SOURCE_DTYPE`
    psf : Psf
    mask : (ny, nx) bool array
        True = the pixel is lost.
    error : (ny, nx) float32 array
        1 sigma of each pixel, in the unit of ``source["flux"]``; NaN or 0 = not usable.
    free : tuple of str
        Of `FREE`: what has to be found from the pixels; the rest is taken as known.
    radius : float
        Of the circle around the source [px].

    Returns
    -------
    float
        1 sigma, in the unit of ``source["flux"]``; without the masked pixels' own noise.
    """
    column, row = round(float(source["x"])), round(float(source["y"]))
    ny, nx = mask.shape
    ys = np.arange(max(0, row - _HALF), min(ny, row + _HALF + 1))
    xs = np.arange(max(0, column - _HALF), min(nx, column + _HALF + 1))
    window = np.ix_(ys, xs)
    lost, sigma = mask[window], error[window].astype(np.float64)
    usable = ~lost & np.isfinite(sigma) & (sigma > 0.0)
    inside = np.hypot(ys[:, None] - source["y"], xs[None] - source["x"]) <= radius
    cut = np.ix_(ys - row + _HALF, xs - column + _HALF)
    names = [name for name in free if not _is_star(source) or name in _OF_A_STAR]
    slopes = np.stack([slope[cut] for slope in _slopes(source, psf, names)])
    weighted = slopes[:, usable] / sigma[usable]
    fisher = weighted @ weighted.T
    wanted = slopes[:, lost & inside].sum(axis=1)
    return float(np.sqrt(max(wanted @ np.linalg.pinv(fisher, hermitian=True) @ wanted, 0.0)))


def _is_star(source: np.void) -> bool:
    kind = source["type"]
    return (kind.decode() if isinstance(kind, bytes) else str(kind)).strip() == "star"


def _slopes(source: np.void, psf: Psf, names: list[str]) -> list[NDArray[np.float64]]:
    """Return how the source's image changes with each free number."""
    draw = _renderer(source, psf)
    slopes = []
    for name in names:
        if name == "background":
            slopes.append(np.ones((2 * _HALF + 1,) * 2))
            continue
        step = _STEPS[name]
        slopes.append((draw(**{name: step}) - draw(**{name: -step})) / (2.0 * step))
    return slopes


def _renderer(source: np.void, psf: Psf) -> Callable[..., NDArray[np.float64]]:
    """Return a function that draws the source with its numbers changed by so much."""
    at_x, at_y = (float(source[axis]) - round(float(source[axis])) for axis in ("x", "y"))

    def draw(flux=0.0, x=0.0, y=0.0, size=0.0, g1=0.0, g2=0.0, bulge=0.0):
        light = psf.coarse
        if not _is_star(source):
            changed = source.copy()
            changed["bulge_fraction"] = np.clip(source["bulge_fraction"] + bulge, 0.0, 1.0)
            own = intrinsic_profile(changed).dilate(1.0 + size).shear(g1=g1, g2=g2)
            light = galsim.Convolve(own, light)
        light = light * (float(source["flux"]) * (1.0 + flux))
        side = 2 * _HALF + 1
        image = light.drawImage(nx=side, ny=side, scale=1.0, offset=(at_x + x, at_y + y))
        return image.array.astype(np.float64)

    return draw
