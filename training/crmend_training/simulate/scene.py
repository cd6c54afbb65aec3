"""From a catalogue and PSFs to the light that falls on the detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from crmend_training.simulate.galaxies import add_faint_galaxies, add_galaxy
from crmend_training.simulate.optics import Optics

__all__ = ["Optics", "render_scene"]


def render_scene(
    rng: np.random.Generator,
    catalog: NDArray[np.void],
    optics: Optics,
    shape: tuple[int, int],
    *,
    floor: float,
    faint_galaxies: float,
    structure: float = 1.0,
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
    structure : float
        Strength of knots, arms and dust in bright galaxies; 0 draws smooth ones.
    progress : bool
        Show a progress bar.

    Returns
    -------
    (ny, nx) float32 array
        e-/s per pixel.
    """
    image = np.zeros(shape, dtype=np.float32)
    for_faint, for_bright = rng.spawn(2)
    stars = catalog[catalog["type"] == "star"]
    optics.add_points(image, stars["x"], stars["y"], stars["flux"], floor)
    galaxies = catalog[catalog["type"] == "galaxy"]
    # Large ones have no template, and are drawn quickly.
    is_faint = (galaxies["flux"] < faint_galaxies) & (galaxies["r_half"] < 10.0)
    add_faint_galaxies(for_faint, image, galaxies[is_faint], optics)
    bright = galaxies[~is_faint]
    children = for_bright.spawn(bright.size)
    for galaxy, child in tqdm(
        zip(bright, children, strict=True),
        desc="galaxies",
        unit="",
        total=bright.size,
        disable=not progress,
    ):
        add_galaxy(child, image, galaxy, optics, floor, structure)
    return image
