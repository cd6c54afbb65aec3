"""Where a frame lies on its chip and in the focal plane, and how the optics vary there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate.bands import FULL_SHAPE

_CHIPS_PER_COLUMN, _COLUMNS = 5, 6
# 30 chips; columns of five follow from the numbering, whose filters are symmetric about the
# centre (chip n has the band of chip 31 - n).  The gaps between chips are left out (assumed).


@dataclass(frozen=True)
class Place:
    """A frame on the focal plane.

    Attributes
    ----------
    detector : int or None
        Chip number 1–30; None for a chip that fills the field of view alone.
    origin : (int, int)
        Row and column of the chip where the frame's first pixel lies.
    shape : (int, int)
        Rows and columns of the frame.
    """

    detector: int | None = None
    origin: tuple[int, int] = (0, 0)
    shape: tuple[int, int] = FULL_SHAPE

    def positions(self, n_side: int) -> NDArray[np.float64]:
        """Return the centres of n_side² equal cells of the frame, row by row.

        Returns
        -------
        (n_side², 2) float64 array
            Column and row coordinate on the focal plane, −1 to 1.
        """
        cell = (np.arange(n_side) + 0.5) / n_side
        row, column = np.meshgrid(cell, cell, indexing="ij")
        u = (self.origin[1] + self.shape[1] * column.ravel()) / FULL_SHAPE[1]
        v = (self.origin[0] + self.shape[0] * row.ravel()) / FULL_SHAPE[0]
        if self.detector is None:
            return np.stack([2.0 * u - 1.0, 2.0 * v - 1.0], axis=1)
        chip_column, chip_row = divmod(self.detector - 1, _CHIPS_PER_COLUMN)
        # Columns are counted from the right.
        u = 2.0 * (_COLUMNS - 1 - chip_column + u) / _COLUMNS - 1.0
        v = 2.0 * (chip_row + v) / _CHIPS_PER_COLUMN - 1.0
        return np.stack([u, v], axis=1)


def draw_place(rng: np.random.Generator, detector: int, shape: tuple[int, int]) -> Place:
    """Put a frame somewhere on its chip; a full frame lies at the origin."""
    room = [max(full - part, 0) for full, part in zip(FULL_SHAPE, shape, strict=True)]
    origin = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)))
    return Place(detector, origin, shape)


def grid_side(shape: tuple[int, int]) -> int:
    """Return how many PSFs per axis a frame of this size wants: 1, 2 or 3."""
    return int(np.searchsorted([1500, 6000], max(shape))) + 1


@dataclass(frozen=True)
class FieldPattern:
    """How sharpness and ellipticity vary over the focal plane (all amounts assumed).

    The fixed part is that of a corrected three-mirror telescope: focus and astigmatism grow
    with the square of the field angle.  To it every exposure adds a tilt of the focus, a
    jitter that is longer one way, and a rotation of the field.

    Attributes
    ----------
    focus : (2,) float64 array
        Change of R_EE80 across the field [arcsec].
    shake : (2,) float64 array
        Ellipticity of the jitter.
    gradient : (2, 2) float64 array
        Change of the ellipticity across the field.
    """

    focus: NDArray[np.float64]
    shake: NDArray[np.float64]
    gradient: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> FieldPattern:
        """Draw the part that changes from exposure to exposure."""
        return cls(
            focus=rng.normal(0.0, 0.003, 2),
            shake=rng.normal(0.0, 0.02, 2),
            gradient=rng.normal(0.0, 0.01, (2, 2)),
        )

    def radius(self, position: NDArray[np.float64]) -> float:
        """Return the change of R_EE80 [arcsec] at a position."""
        curvature = 0.004 * (float(position @ position) - 2.0 / 3.0)
        return float(self.focus @ position) + curvature

    def ellipticity(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return e1, e2, with (a² − b²) / (a² + b²) at most 0.1."""
        u, v = position
        astigmatism = 0.025 * np.array([u * u - v * v, 2.0 * u * v])
        e = self.shake + self.gradient @ position + astigmatism
        return e * min(1.0, 0.1 / max(float(np.hypot(*e)), 1e-12))
