"""Overlapping tiles of a frame.

Tiles of one frame all have the same size, so memory stays flat.  Their origins are multiples of
the network's stride, and each is read with a margin as wide as its receptive field: any tiling
then gives what one run over the whole frame would give.  At the frame's borders a network gets
the part `TileGrid.inside` and pads as it learnt to; only the last rows and columns may be
mirrored ones, up to a multiple of the stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) after each step of long work."""


@dataclass(frozen=True)
class TileGrid:
    """A frame cut into equal tiles.

    The last row and column of tiles may reach past the frame; what lies there is read by
    reflection and never written back.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the frame [px].
    size : tuple of int
        (height, width) of every tile without its margin [px], multiples of the stride.
    margin : int
        Width of the margin on each side [px], a multiple of the stride.
    stride : int
        Of the network [px].
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    margin: int
    stride: int = 1

    @property
    def origins(self) -> list[tuple[int, int]]:
        """Return the (y, x) of the first pixel of every tile, row by row."""
        (ny, nx), (height, width) = self.shape, self.size
        return [(y, x) for y in range(0, ny, height) for x in range(0, nx, width)]

    def read(
        self, array: NDArray[Any], origin: tuple[int, int], extra: int = 0
    ) -> NDArray[Any]:
        """Copy a tile with its margin, and `extra` more pixels on each side.

        Parameters
        ----------
        array : (ny, nx) array
            The frame, any dtype.
        origin : tuple of int
            One of `origins`.
        extra : int
            Pixels beyond the margin.

        Returns
        -------
        (height + 2·(margin + extra), width + 2·(margin + extra)) array
            A new C-contiguous array; pixels outside the frame mirror those inside (the
            border pixel is not repeated).
        """
        border = self.margin + extra
        rows, columns = (
            _span(start - border, start + size + border, length)
            for start, size, length in zip(origin, self.size, self.shape, strict=True)
        )
        if isinstance(rows, slice) and isinstance(columns, slice):
            return array[rows, columns].copy()
        # Rows first: a row slice is a view, and the reflected columns then copy little.
        return np.ascontiguousarray(array[rows][:, columns])

    def places(self, origin: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows and the columns of the frame that `read` copies."""
        rows, columns = (
            reflect(np.arange(start - self.margin, start + size + self.margin), length)
            for start, size, length in zip(origin, self.size, self.shape, strict=True)
        )
        return rows, columns

    def inside(self, origin: tuple[int, int]) -> tuple[slice, slice]:
        """Return the part of a tile, as `read` gives it, that does not lie beyond the frame.

        Where the frame's length is no multiple of the stride, reflected pixels fill the last.
        """
        rows, columns = (
            slice(
                max(self.margin - start, 0),
                min(_round_up(length, self.stride) - start, size + self.margin) + self.margin,
            )
            for start, size, length in zip(origin, self.size, self.shape, strict=True)
        )
        return rows, columns

    def write(
        self, values: NDArray[Any], origin: tuple[int, int], out: NDArray[Any]
    ) -> tuple[slice, slice]:
        """Copy a tile's inner part back into a frame.

        Parameters
        ----------
        values : (height + 2·margin, width + 2·margin) array
            A tile as `read` returns it without `extra`.
        origin : tuple of int
            One of `origins`.
        out : (ny, nx) array
            Written in place.

        Returns
        -------
        tuple of slice
            The (rows, columns) of `out` that were written.
        """
        y, x = origin
        rows = slice(y, min(y + self.size[0], self.shape[0]))
        columns = slice(x, min(x + self.size[1], self.shape[1]))
        inner = values[self.margin :, self.margin :]
        out[rows, columns] = inner[: rows.stop - y, : columns.stop - x]
        return rows, columns


def make_grid(shape: tuple[int, int], tile: int, halo: int, stride: int) -> TileGrid:
    """Cut a frame into equal tiles of about `tile` pixels a side.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the frame [px], each >= 1.
    tile : int
        Largest side of a tile without its margin [px], >= 1.
    halo : int
        Receptive-field radius of the network [px].
    stride : int
        Tile origins and sizes are multiples of it [px].

    Returns
    -------
    TileGrid
    """
    largest = max(tile // stride, 1) * stride
    height, width = (_equal_size(length, largest, stride) for length in shape)
    margin = _round_up(halo, stride)
    return TileGrid(shape=shape, size=(height, width), margin=margin, stride=stride)


def reflect(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Mirror indices into 0 … length − 1, as often as it takes.

    Parameters
    ----------
    index : int array
        Any integers.
    length : int
        Pixels along the axis, >= 1.
    """
    period = max(2 * (length - 1), 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)


def _span(start: int, stop: int, length: int) -> slice | NDArray[np.intp]:
    """Return the pixels start … stop − 1 of an axis: a slice where none is reflected."""
    if start >= 0 and stop <= length:
        return slice(start, stop)
    return reflect(np.arange(start, stop), length)


def _equal_size(length: int, largest: int, stride: int) -> int:
    """Return the tile size that cuts an axis into the fewest, equal tiles."""
    count = -(-length // largest)
    return _round_up(-(-length // count), stride)


def _round_up(value: int, stride: int) -> int:
    return -(-value // stride) * stride
