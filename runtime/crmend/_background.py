"""The background of an image: a mesh that follows it, and a surface that no source bends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

# Mesh in pixels, and the pixels of a frame that are sampled for it.
_MESH = 128
_MAX_SAMPLES = 6_000_000
_ROUNDS = 20
_TOLERANCE = 3.0  # residual at which a mesh has lost half of its weight [median residual]
_TERMS = {1: 1, 2: 1, 3: 3}  # by the fewest meshes along an axis; more allow all six


@dataclass(frozen=True, eq=False)
class Background:
    """A smooth background, kept at every `step`-th pixel.

    Attributes
    ----------
    coarse : (my, mx) float32 array
        In the image's unit.
    step : int
        [px]
    """

    coarse: NDArray[np.float32]
    step: int

    def rows(self, low: int, high: int, nx: int) -> NDArray[np.float32]:
        """Return rows low…high−1 at every pixel, by its nearest sample."""
        if self.step == 1:
            return self.coarse[low:high]
        rows, columns = (
            np.minimum((index + self.step // 2) // self.step, size - 1)
            for index, size in zip(
                (np.arange(low, high), np.arange(nx)), self.coarse.shape, strict=True
            )
        )
        # Two steps: one gathers whole rows, which is several times as fast.
        wide = self.coarse[rows[0] : rows[-1] + 1][:, columns]
        return np.asarray(wide[rows - rows[0]])

    def surface(self) -> Surface:
        """Return the surface of second order that most of the background lies on.

        Halos of bright stars, clusters and galaxies lie above it, and hardly move it
        (Cauchy's weights).  Small images have a plane, or one level.
        """
        ny, nx = self.coarse.shape
        sides = [(n, _mesh_side(n, self.step)) for n in (ny, nx)]
        y, x = (np.arange(min(side // 2, n - 1), n, side) for n, side in sides)
        values = self.coarse[np.ix_(y, x)].astype(np.float64).ravel()
        middle, extent = (0.5 * ny * self.step, 0.5 * nx * self.step), max(ny, nx) * self.step
        count = _TERMS.get(min(y.size, x.size), 6)
        rows, columns = (each.ravel() for each in np.meshgrid(y, x, indexing="ij"))
        flat = Surface(np.zeros(6), middle, float(extent))
        terms = flat.terms(rows * self.step, columns * self.step)[:, :count]
        numbers = np.zeros(6)
        numbers[0] = np.median(values)
        rest = values - numbers[0]
        for _ in range(_ROUNDS):
            scale = _TOLERANCE * max(float(np.median(np.abs(rest))), 1e-30)
            weight = 1.0 / np.sqrt(1.0 + (rest / scale) ** 2)
            numbers[:count] = np.linalg.lstsq(
                terms * weight[:, np.newaxis], values * weight, rcond=None
            )[0]
            rest = values - terms @ numbers[:count]
        return Surface(numbers, middle, float(extent))


@dataclass(frozen=True, eq=False)
class Surface:
    """A background of second order in y and x.

    Attributes
    ----------
    numbers : (6,) float64 array
        Of 1, y, x, y², y·x and x², in the image's unit.
    middle : (float, float)
        y and x of the origin [px].
    extent : float
        Unit of y and x [px].
    """

    numbers: NDArray[np.float64]
    middle: tuple[float, float] = (0.0, 0.0)
    extent: float = 1.0

    def terms(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n, 6): the terms at pixels, each (n,) of a row and a column."""
        y, x = (rows - self.middle[0]) / self.extent, (columns - self.middle[1]) / self.extent
        return np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=-1)

    def of(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is at pixels, each (n,) of a row and a column."""
        return (self.terms(rows, columns) @ self.numbers).astype(np.float32)

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is where some rows (n,) cross some columns (m,): (n, m) float32."""
        grid = np.meshgrid(rows, columns, indexing="ij")
        return self.of(*grid)


def _mesh_side(size: int, step: int) -> int:
    """Return a side of meshes, not far below `_MESH`, with little overhang [samples].

    sep takes the middle of a mesh that overhangs for where its pixels are: with one row in
    the last mesh, 1153 rows in meshes of 128, a flat background is 160 noises off in it.
    """
    wanted = max(_MESH // step, 1)
    if size <= wanted:
        return wanted
    sides = range(max(wanted // 2, 1), wanted + 1)
    return min(sides, key=lambda side: -size % side + (wanted - side) / 8)


def measure_background(image: NDArray[np.float32], invalid: NDArray[np.bool_]) -> Background:
    """Return the smooth background of an image.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit, cosmic rays already replaced.
    invalid : (ny, nx) bool array
        True = ignore this pixel.
    """
    step = max(1, int(np.ceil(np.sqrt(image.size / _MAX_SAMPLES))))
    sample = np.ascontiguousarray(image[::step, ::step])
    mask = invalid[::step, ::step] | ~np.isfinite(sample)
    sample = np.where(mask, np.float32(0.0), sample)
    if sample.size == 1:  # of which sep returns the double
        return Background(sample, step)
    height, width = (_mesh_side(size, step) for size in sample.shape)
    coarse = sep.Background(sample, mask=mask, bw=width, bh=height).back(dtype=np.float32)
    return Background(np.asarray(coarse, dtype=np.float32), step)
