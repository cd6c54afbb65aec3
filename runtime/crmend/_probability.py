"""A detection network over a frame, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend._deepcr_input import LinearScale, network_input
from crmend._kernels import FILL_HALF_WIDTH, fill_invalid
from crmend._light import Light, find_light
from crmend._line_noise import even_noise
from crmend._lows import raise_lows
from crmend._normalise import Scale
from crmend._tiling import Progress, TileGrid
from crmend._views import RunGraph


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame as networks are shown it.

    Attributes
    ----------
    image, invalid : (ny, nx) arrays
        Without what lies below the background and without uneven noise, where there is any;
        pixels in gaps are invalid.
    scale : Scale or LinearScale
        Its background and noise.
    light : Light or None
        Still to be taken off.
    """

    image: NDArray[np.float32]
    invalid: NDArray[np.bool_]
    scale: Scale | LinearScale
    light: Light | None = None

    def read(self, grid: TileGrid, origin: tuple[int, int]) -> NDArray[np.float32]:
        """Return one tile as a network sees it: filled, normalised, with its margin."""
        # The fill looks 2 px further than the margin, so that it does not depend on the tiling.
        pixels = grid.read(self.image, origin, FILL_HALF_WIDTH)
        bad = grid.read(self.invalid, origin, FILL_HALF_WIDTH)
        if bad.any():
            filled = np.empty_like(pixels)
            fill_invalid(pixels, bad, self.scale.background, filled)
            pixels = filled
        inner = slice(FILL_HALF_WIDTH, -FILL_HALF_WIDTH)
        pixels = pixels[inner, inner]
        if self.light is not None and isinstance(self.scale, Scale):
            pixels = self.light.taken_off(pixels, *grid.places(origin), self.scale)
        return network_input(pixels, self.scale)


def fill_probability(
    image: NDArray[np.float32],
    invalid: NDArray[np.bool_],
    scale: Scale | LinearScale,
    grid: TileGrid,
    run: RunGraph,
    out: NDArray[np.float32],
    progress: Progress | None = None,
) -> Shown:
    """Run a detection graph over a frame, tile by tile.

    Parameters
    ----------
    image, invalid
        As in `detect_into`.
    scale : Scale or LinearScale
        Background and noise of the image, or what deepCR's networks want of it.
    grid : TileGrid
        With the network's halo as margin.
    run : callable
        The graph, of any backend.
    out : (ny, nx) float32 array
        Receives cr_probability.
    progress : callable or None
        Called with (tiles done, tiles in all).

    Returns
    -------
    Shown
        What the network was shown.
    """
    origins, shown = grid.origins, Shown(image, invalid, scale)
    if isinstance(scale, Scale):
        shown = Shown(*prepare(image, invalid, scale))
    for count, origin in enumerate(origins, start=1):
        pixels = shown.read(grid, origin)
        # Networks learn most borders where a crop ends and nothing is mirrored.
        window = grid.inside(origin)
        inner = np.ascontiguousarray(pixels[window])
        last = count == len(origins)
        pixels[window] = run(inner[np.newaxis, np.newaxis], last)[0, 0]
        grid.write(pixels, origin, out)
        if progress is not None:
            progress(count, len(origins))
    out[shown.invalid] = 0.0
    return shown


def prepare(
    image: NDArray[np.float32], invalid: NDArray[np.bool_], scale: Scale
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Scale, Light | None]:
    """Return a frame as networks are shown it, and the light that is still to be taken off.

    Parameters
    ----------
    image, invalid
        As in `detect_into`; not changed.
    scale : Scale

    Returns
    -------
    image, invalid, scale
        Those given where nothing is to be done; pixels in gaps are invalid.
    Light or None
        None = none.
    """
    image, invalid = raise_lows(image, invalid, scale)
    image, scale = even_noise(image, invalid, scale)
    return image, invalid, scale, find_light(image, invalid, scale)
