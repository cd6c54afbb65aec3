"""Cosmic rays harvested from dark frames, and injected into exposures.

A dark frame has no light, so what stands out of its noise and is not a defect of the chip
hit it from the side: the second source of truth that the paper (section 2.1, with Chen et al.
2024) plans for orbit.  What stands out in several darks at the same pixel is a hot pixel.

A library is one ``.npz`` file: of event i the pixels ``start[i] … start[i + 1] − 1`` of the
columns ``y``, ``x`` (int16, from the event's corner) and ``charge`` (float32, e-), with
``exposed`` (px·s that were searched), ``noise`` (e-, of each dark) and ``sources`` (names).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend import _normalise
from crmend.errors import InvalidInputError
from crmend.exposure import Exposure
from crmend_training._results import whole_file
from crmend_training.datasets.fields import place_of
from crmend_training.datasets.frames import Frame, make_frame, read_any

_EIGHT = np.ones((3, 3), dtype=bool)
_CR_BITS = (1 << 20) | 16
"""FLAG bits of cosmic rays: the paper's 2^20 and the 2022 pipeline's 16."""


@dataclass(frozen=True)
class HarvestSettings:
    """What counts as an event in a dark frame; all assumed, in units of its noise.

    Attributes
    ----------
    seed : float
        An event has a pixel above this.
    grow : float
        Pixels that touch an event's pixels, sides and corners, belong to it above this.
    hot : float
        A pixel whose median over the darks stands out by more than this is hot.
    mesh : int
        Side of the boxes whose median is the local bias and dark level [px].
    """

    seed: float = 6.0
    grow: float = 2.0
    hot: float = 4.0
    mesh: int = 64


@dataclass(frozen=True, eq=False)
class CosmicRayLibrary:
    """Events with the charge of each of their pixels; see the module for the columns."""

    start: NDArray[np.int64]
    y: NDArray[np.int16]
    x: NDArray[np.int16]
    charge: NDArray[np.float32]
    exposed: float
    noise: NDArray[np.float32]
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def energy(self) -> NDArray[np.float32]:
        """Charge of each event [e-]."""
        return np.add.reduceat(self.charge, self.start[:-1]) if len(self) else self.charge[:0]

    def event(self, i: int) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32]]:
        """Return rows, columns (from the corner) and charges of one event."""
        pixels = slice(self.start[i], self.start[i + 1])
        return self.y[pixels], self.x[pixels], self.charge[pixels]

    def save(self, path: Path) -> None:
        """Write the library to a ``.npz`` file."""
        columns = {k: v for k, v in vars(self).items() if k != "sources"}
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, sources=np.array(self.sources, dtype=np.str_), **columns)


def load_library(path: Path) -> CosmicRayLibrary:
    """Read a library that `CosmicRayLibrary.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    columns["exposed"] = float(columns["exposed"])
    columns["sources"] = tuple(str(name) for name in columns["sources"])
    return CosmicRayLibrary(**columns)


def read_dark(path: Path, gain: float | None = None) -> tuple[NDArray[np.float32], float]:
    """Return a dark frame in electrons and its exposure time [s].

    Raises
    ------
    InvalidInputError
        The header does not say what the unit or the exposure time is.
    """
    dark = read_any(path, gain)
    if dark.electrons_per_unit is None or dark.exposure_time is None:
        raise InvalidInputError(
            f"{path} has unit {dark.unit!r} and exposure time {dark.exposure_time}; expected "
            "electrons, electrons per second, or ADU with a gain, and EXPTIME in the header"
        )
    return dark.image * np.float32(dark.electrons_per_unit), dark.exposure_time


def harvest_darks(
    darks: Sequence[NDArray[np.float32]],
    exposure_time: float,
    settings: HarvestSettings | None = None,
    sources: Sequence[str] = (),
) -> CosmicRayLibrary:
    """Find the cosmic rays of dark frames of one chip.

    Parameters
    ----------
    darks : sequence of (ny, nx) float32 arrays
        In electrons, all of one shape and exposure time; NaN = no measurement.  Three or more,
        since a single dark cannot tell a hot pixel from a cosmic ray of one pixel.
    exposure_time : float
        Of each dark [s].
    settings : HarvestSettings or None
    sources : sequence of str
        Names for the library.

    Raises
    ------
    InvalidInputError
        Fewer than three darks, or shapes that differ.
    """
    settings = settings or HarvestSettings()
    shapes = {dark.shape for dark in darks}
    if len(darks) < 3 or len(shapes) != 1:
        raise InvalidInputError(
            f"got {len(darks)} dark(s) of shapes {sorted(shapes)}; expected three of one"
        )
    flat = [dark - _local_level(dark, settings.mesh) for dark in darks]
    master = np.median(np.stack(flat), axis=0).astype(np.float32)
    noises = [_normalise.measure_scale(d, ~np.isfinite(d)).noise for d in flat]
    usable = np.isfinite(master) & (np.abs(master) < settings.hot * float(np.median(noises)))
    start, columns = [0], [[], [], []]
    for dark, noise in zip(flat, noises, strict=True):
        for event in _events(dark - master, noise, usable & np.isfinite(dark), settings):
            for column, values in zip(columns, event, strict=True):
                column.append(values)
            start.append(start[-1] + len(event[0]))
    y, x, charge = (np.concatenate(c) if c else np.zeros(0) for c in columns)
    return CosmicRayLibrary(
        start=np.array(start, dtype=np.int64),
        y=y.astype(np.int16),
        x=x.astype(np.int16),
        charge=charge.astype(np.float32),
        exposed=float(usable.sum()) * len(darks) * exposure_time,
        noise=np.array(noises, dtype=np.float32),
        sources=tuple(sources),
    )


def draw_from_library(
    rng: np.random.Generator,
    shape: tuple[int, int],
    library: CosmicRayLibrary,
    exposure_time: float,
    rate: float = 1.0,
) -> NDArray[np.float32]:
    """Draw the cosmic rays of an exposure: library events, turned, at random places.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    library : CosmicRayLibrary
    exposure_time : float
        [s]
    rate : float
        In units of the rate of the dark frames.

    Returns
    -------
    (ny, nx) float32 array
        Charge [e-/px].
    """
    charge = np.zeros(shape, dtype=np.float32)
    if len(library) == 0:
        return charge
    expected = rate * len(library) * charge.size * exposure_time / library.exposed
    for i in rng.integers(len(library), size=rng.poisson(expected)):
        y, x, values = library.event(int(i))
        y, x = (y.astype(int), x.astype(int)) if rng.random() < 0.5 else (x.astype(int), y)
        flip_y, flip_x = rng.integers(2, size=2)
        y = (y.max() - y if flip_y else y) + rng.integers(shape[0])
        x = (x.max() - x if flip_x else x) + rng.integers(shape[1])
        # Around the edge, so that tracks that leave the frame are cut as in the sky.
        y, x = y - int(y.max() - y.min()) // 2, x - int(x.max() - x.min()) // 2
        on = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
        charge[y[on], x[on]] += values[on]
    return np.maximum(charge, 0.0, out=charge)


def injected_frame(exposure: Exposure, cr: NDArray[np.float32]) -> Frame:
    """Return a training frame: an exposure with known cosmic rays added to it.

    Pixels that the exposure's FLAG already calls a cosmic ray take no part, since they are no
    truth; cosmic rays of its own that nobody flagged count as background.  Clean the exposure
    first, or use one of those that several exposures of the field have cleaned.

    Parameters
    ----------
    exposure : Exposure
    cr : (ny, nx) float32 array
        Charge [e-/px], such as from `draw_from_library`.

    Raises
    ------
    InvalidInputError
        What an electron is in the exposure's unit is not known.
    """
    if exposure.electrons_per_unit is None:
        raise InvalidInputError(
            f"{exposure.path} has unit {exposure.unit!r}; expected one that says how many "
            "electrons it is, so that charge can be added"
        )
    image = exposure.image + cr / np.float32(exposure.electrons_per_unit)
    saturated = exposure.saturated
    if exposure.saturation is not None:
        np.minimum(image, np.float32(exposure.saturation), out=image)
        saturated |= image >= np.float32(exposure.saturation)
    unsure = None if exposure.flag is None else (exposure.flag & _CR_BITS) != 0
    name = "injected" if exposure.path is None else f"{exposure.path.stem} injected"
    place = place_of(exposure.header, image.shape)
    frame = make_frame(image, exposure.invalid, saturated, cr, name)
    return replace(frame, unsure=unsure, place=place)


def _local_level(dark: NDArray[np.float32], mesh: int) -> NDArray[np.float32]:
    """Return the median of the box that each pixel lies in."""
    level = np.empty_like(dark)
    for y in range(0, dark.shape[0], mesh):
        for x in range(0, dark.shape[1], mesh):
            box = np.s_[y : y + mesh, x : x + mesh]
            finite = dark[box][np.isfinite(dark[box])]
            level[box] = np.median(finite) if finite.size else 0.0
    return level


def _events(
    residual: NDArray[np.float32],
    noise: float,
    usable: NDArray[np.bool_],
    settings: HarvestSettings,
) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Return rows, columns and charges of the events of one dark.

    Events that touch an unusable pixel are left out whole: their charge is not known.
    """
    member = (residual > settings.grow * noise) & usable
    labels, count = ndimage.label(member, structure=_EIGHT)
    if count == 0:
        return []
    number = np.arange(1, count + 1)
    peak = ndimage.maximum(residual, labels, number)
    beside = ndimage.binary_dilation(~usable, structure=_EIGHT)
    spoilt = ndimage.maximum(beside, labels, number)
    good = (np.asarray(peak) > settings.seed * noise) & ~np.asarray(spoilt).astype(bool)
    boxes, events = ndimage.find_objects(labels), []
    for k in np.flatnonzero(good):
        y, x = np.nonzero(labels[boxes[k]] == k + 1)
        events.append((y, x, residual[boxes[k]][y, x]))
    return events
