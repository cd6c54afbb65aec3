"""Fields and cameras that are rare: what `generic_exposure` draws where it is asked to.

Each `Unusual` is one of `KINDS`, or of `MORE_KINDS` where a recipe names them.  Some change the
light of the sky before it is exposed (`add_unusual_light`), others what is done to the frame
afterwards (`processed`).  Ranges are assumed, wide on purpose, from what instrument handbooks
and observers' pictures show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from crmend_training.simulate.psf_models import log_uniform
from crmend_training.simulate.slit import Slit
from crmend_training.simulate.unusual_sources import add_rotating, add_stamp, nuclei

KINDS = (
    "trailed",
    "nebula",
    "planet",
    "comet",
    "fringes",
    "lamp",
    "slitlets",
    "emission",
    "subtracted",
    "resampled",
    "spikes",
    "uneven",
)
"""
trailed
    The telescope did not follow, or jumped: every star is a line or double.
nebula
    Emission nebula: filaments and clouds down to the PSF.
planet
    A disk with a limb and belts, larger than the PSF.
comet
    A coma and a tail, stars trailed.
fringes
    Interference of the sky's lines in the silicon.
lamp
    A slit full of the lines of an arc lamp.
slitlets
    Many short slits beside each other, each with its own wavelengths.
emission
    A slit with objects that have bright lines, short across the slit.
subtracted
    A slit from which the sky's light was subtracted, its noise being left.
resampled
    Interpolated on a shifted, turned and stretched grid.
spikes
    Single pixels high by chance all over the frame, as an electron-multiplying register makes
    them.
uneven
    Pixels with read noises of their own, as in CMOS chips.
"""

MORE_KINDS = ("shells", "crowded", "tilted", "rotating", "nuclei")
"""
shells
    Planetary nebulae, rings, arcs and other small bright things with sharp edges.
crowded
    Stars of an undersampled PSF nearly everywhere; all of it is drawn by `setups`.
tilted
    A slit whose lines lean and bend, of the sky or of a lamp.
rotating
    A slit with galaxies whose emission lines are long and bent.
nuclei
    Large galaxies with star clusters up to their nuclei, dust and arms.
"""

SLITS = ("lamp", "slitlets", "emission", "subtracted", "tilted", "rotating")
"""Kinds that are spectra."""

_SIGMA = 2.3548


@dataclass(frozen=True)
class Unusual:
    """One rare property of an exposure.

    Attributes
    ----------
    kind : str
        Of `KINDS` or `MORE_KINDS`.
    noise : float
        1 sigma of a pixel of empty sky [e-/s].
    fwhm : float
        Of the PSF [px].
    """

    kind: str
    noise: float
    fwhm: float


def draw_slit(rng: np.random.Generator, unusual: Unusual) -> Slit:
    """Return the slit of a kind of `SLITS`, with its dispersion along x or y."""
    along_rows = bool(rng.random() < 0.5)
    if unusual.kind == "lamp":
        return Slit(
            unusual.noise, unusual.fwhm, traces=0.0, lines=log_uniform(rng, 30.0, 200.0),
            line_peak=(1.0, 5000.0), continuum=1.0, along_rows=along_rows,
        )  # fmt: skip
    if unusual.kind == "tilted":
        return Slit(
            unusual.noise, unusual.fwhm, lines=log_uniform(rng, 10.0, 100.0),
            line_peak=(1.0, log_uniform(rng, 30.0, 3000.0)), along_rows=along_rows,
            tilt=log_uniform(rng, 0.005, 0.4), bend=log_uniform(rng, 0.5, 30.0),
        )  # fmt: skip
    traces = 0.7 if unusual.kind in ("emission", "rotating") else 1.5
    return Slit(unusual.noise, unusual.fwhm, traces=traces, along_rows=along_rows)


# --- light -------------------------------------------------------------------------------


def add_unusual_light(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    unusual: Unusual,
    spectrum: Slit | None = None,
) -> NDArray[np.float32]:
    """Change or add light of the sky, in place.

    Parameters
    ----------
    rng : numpy.random.Generator
    scene : (ny, nx) float32 array
        e-/s per pixel, without the sky's background.
    unusual : Unusual
    spectrum : Slit, optional
        For the kinds of `SLITS`, what the scene holds.

    Returns
    -------
    (ny, nx) float32 array
        `scene` itself.
    """
    if unusual.kind in ("trailed", "comet"):
        scene[:] = _trailed(rng, scene)
    added = {
        "nebula": _nebula,
        "planet": _planet,
        "comet": _comet,
        "fringes": _fringes,
        "shells": _shells,
        "nuclei": nuclei,
    }.get(unusual.kind)
    if added is not None:
        light = added(rng, scene.shape, unusual.fwhm)
        scene += (unusual.noise * light).astype(np.float32)
    if spectrum is not None:
        view = scene if spectrum.along_rows else scene.T
        if unusual.kind in ("slitlets", "lamp") and (
            unusual.kind == "slitlets" or rng.random() < 0.4
        ):
            _cut_into_slitlets(rng, view)
        if unusual.kind in ("emission", "slitlets"):
            _add_emission(rng, view, unusual)
        if unusual.kind == "rotating":
            add_rotating(rng, view, unusual.noise, unusual.fwhm)
    return scene


def _trailed(rng, scene):
    """Return a scene whose points became lines, or in one of six doubles."""
    length, angle = log_uniform(rng, 3.0, 60.0), rng.uniform(0.0, np.pi)
    if rng.random() < 1.0 / 6.0:
        at = np.array([-0.5, 0.5]) * min(length, 12.0)
        weight = np.array([1.0, log_uniform(rng, 0.1, 1.0)])
    else:
        at = np.linspace(-0.5, 0.5, int(2.0 * length) + 2) * length
        # Clouds and wind: brighter here than there.
        weight = 1.0 + rng.uniform(0.0, 0.5) * np.sin(
            rng.uniform(1.0, 6.0) * np.pi * at / length + rng.uniform(0.0, 6.0)
        )
    half = int(np.ceil(np.abs(at).max())) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    _spread(kernel, half + at * np.sin(angle), half + at * np.cos(angle), weight)
    return _convolved(scene, kernel / kernel.sum())


def _spread(image, y, x, weight):
    """Add points between pixels to the four around each, in place."""
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            part = np.abs(1 - dy - (y - row)) * np.abs(1 - dx - (x - column))
            np.add.at(image, (row + dy, column + dx), weight * part)


def _convolved(scene, kernel):
    """Return a convolution, mirrored at the borders, by Fourier transform."""
    padded = np.pad(scene, kernel.shape[0] // 2, mode="reflect")
    found = signal.fftconvolve(padded, kernel, mode="valid")
    return np.maximum(found, 0.0).astype(np.float32)


def _random_field(rng, shape, slope):
    """Return a Gaussian field of mean 0 and deviation 1 with a power law's spectrum."""
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    k = np.hypot(ky, kx)
    k[0, 0] = 1.0
    waves = rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape)
    waves *= k**-slope
    waves[0, 0] = 0.0
    field = np.fft.irfft2(waves, shape)
    return field / field.std()


def _nebula(rng, shape, fwhm):
    """Return clouds, filaments and knots [noise], as sharp as the PSF lets them be."""
    peak = log_uniform(rng, 2.0, 1000.0)
    slope = rng.uniform(1.3, 2.2)
    cloud = np.exp(rng.uniform(0.5, 1.5) * _random_field(rng, shape, slope))
    light = cloud / np.quantile(cloud, 0.99)
    if rng.random() < 0.7:
        # Where a field crosses zero stand filaments, where two do knots.
        width = log_uniform(rng, 0.02, 0.2)
        for _ in range(int(rng.integers(1, 4))):
            sheet = np.exp(-0.5 * (_random_field(rng, shape, slope) / width) ** 2)
            light += rng.uniform(0.1, 1.0) * sheet * cloud / np.quantile(cloud, 0.9)
    if rng.random() < 0.4:
        # Edges of dark clouds and of ionisation fronts.
        light *= 1.0 / (1.0 + np.exp(-_random_field(rng, shape, slope) / 0.05))
    light = ndimage.gaussian_filter(light, max(fwhm, 1.2) / _SIGMA, mode="reflect")
    return peak * light / np.quantile(light, 0.99)


def _planet(rng, shape, fwhm):
    """Return a disk with limb darkening, belts or maria [noise]; part of it may lie outside."""
    size = min(shape)
    radius = log_uniform(rng, 0.06, 1.5) * size
    place = rng.uniform(0.0, 1.0, 2) * shape
    if radius > 0.5 * size:
        # A limb through the frame.
        turn = rng.uniform(0.0, 2.0 * np.pi)
        place = np.array(shape) * 0.5 + radius * np.array([np.sin(turn), np.cos(turn)])
    y, x = np.ogrid[: shape[0], : shape[1]]
    r = np.sqrt((y - place[0]) ** 2 + (x - place[1]) ** 2) / radius
    darkening = rng.uniform(0.0, 0.8)
    disk = (r < 1.0) * (1.0 - darkening * (1.0 - np.sqrt(np.maximum(1.0 - r * r, 0.0))))
    turn = rng.uniform(0.0, np.pi)
    across = (np.sin(turn) * y + np.cos(turn) * x) / radius
    if rng.random() < 0.5:
        phase, waves = rng.uniform(0.0, 6.0), rng.uniform(3.0, 12.0)
        disk = disk * (1.0 + rng.uniform(0.0, 0.3) * np.sin(waves * across + phase))
    texture = _random_field(rng, shape, rng.uniform(1.0, 1.8))
    disk = disk * np.maximum(1.0 + rng.uniform(0.0, 0.15) * texture, 0.0)
    disk = ndimage.gaussian_filter(disk, max(fwhm, 1.2) / _SIGMA, mode="reflect")
    return log_uniform(rng, 10.0, 3000.0) * disk


def _comet(rng, shape, fwhm):
    """Return a coma that falls as 1/r, and a tail with rays [noise]."""
    place = rng.uniform(0.2, 0.8, 2) * shape
    y, x = np.ogrid[: shape[0], : shape[1]]
    dy, dx = y - place[0], x - place[1]
    soft = max(fwhm, 1.2)
    coma = soft / np.hypot(np.hypot(dy, dx), soft)
    turn = rng.uniform(0.0, 2.0 * np.pi)
    along, across = dy * np.sin(turn) + dx * np.cos(turn), dx * np.sin(turn) - dy * np.cos(turn)
    angle = np.arctan2(across, np.maximum(along, 1e-3))
    opening, ray_waves = log_uniform(rng, 0.05, 0.4), rng.uniform(20.0, 120.0)
    rays = 1.0 + 0.4 * np.sin(ray_waves * angle + rng.uniform(0.0, 6.0))
    tail = (along > 0) * np.exp(-0.5 * (angle / opening) ** 2) * rays
    tail = tail * np.sqrt(soft / np.maximum(along, soft)) * rng.uniform(0.0, 0.5)
    light = ndimage.gaussian_filter(coma + tail, soft / _SIGMA, mode="reflect")
    return log_uniform(rng, 30.0, 3000.0) * light


def _shells(rng, shape, fwhm):
    """Return shells, disks, arcs and lobes of 1 to 20 px [noise], some around a star."""
    light = np.zeros(shape)
    sharpest = max(fwhm, 1.2) / _SIGMA
    for _ in range(1 + rng.poisson(log_uniform(rng, 6.0, 80.0) * light.size / 512**2)):
        radius = log_uniform(rng, 1.0, 20.0)
        half = int(1.5 * radius + 4.0 * fwhm) + 3
        y, x = (rng.uniform(0.0, size) for size in shape)
        stamp = _shell(rng, half, radius, (y % 1.0, x % 1.0))
        stamp = ndimage.gaussian_filter(stamp, sharpest)
        stamp *= log_uniform(rng, 3.0, 2000.0) / stamp.max()
        add_stamp(light, stamp, int(y) - half, int(x) - half)
    return light


def _shell(rng, half, radius, centre):
    """Return the light of one such thing, in a stamp of 2 half + 1 pixels, before the PSF."""
    turn, axes = rng.uniform(0.0, np.pi), rng.uniform(0.5, 1.0)
    y, x = np.mgrid[-half : half + 1, -half : half + 1] - np.reshape(centre, (2, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    r = np.hypot(along, across / axes) / radius
    angle = np.arctan2(across / axes, along)
    hollow = rng.uniform(0.3, 0.95) if rng.random() < 0.7 else 0.0
    # What a line of sight passes of a shell: more at its inner edge.
    light = np.sqrt(np.maximum(1.0 - r**2, 0.0)) - np.sqrt(np.maximum(hollow**2 - r**2, 0.0))
    if rng.random() < 0.3:
        light = ((r < 1.0) & (r > hollow)).astype(float)  # seen flat
    sides = 1.0 + rng.uniform(0.0, 1.0) * np.cos(rng.integers(1, 4) * angle + rng.uniform(0, 6))
    light = light * sides
    if rng.random() < 0.3:
        light = light * (np.abs(angle) < rng.uniform(0.2, 2.0))  # an arc
    if rng.random() < 0.5:
        light[half, half] += log_uniform(rng, 0.5, 20.0) * light.max()
    return np.maximum(light, 0.0) + 1e-9


def _fringes(rng, shape, fwhm):
    """Return fringes [noise], which bend and change their period over the frame."""
    del fwhm  # they arise in the chip
    period = log_uniform(rng, 5.0, 60.0)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    turn = rng.uniform(0.0, np.pi)
    bent = x * np.sin(turn) + y * np.cos(turn)
    bent = bent + rng.normal(0.0, 0.3) * x * y + rng.normal(0.0, 0.3) * (x * x - y * y)
    bent = bent + 0.1 * rng.random() * _random_field(rng, shape, 2.5)
    phase = 2.0 * np.pi * max(shape) / period * bent
    waves = np.sin(phase) + rng.uniform(0.0, 0.5) * np.sin(2.0 * phase + rng.uniform(0.0, 6.0))
    swell = np.exp(0.5 * _random_field(rng, shape, 2.5))
    return log_uniform(rng, 0.3, 10.0) * (1.0 + waves) * swell


def _cut_into_slitlets(rng, view):
    """Shift pieces of a slit along the dispersion, with dark gaps between, in place."""
    n_space, n_wave = view.shape
    wave = np.arange(n_wave)
    start = int(rng.integers(-40, 0))
    while start < n_space:
        stop = start + int(log_uniform(rng, 10.0, 90.0))
        gap = int(rng.integers(0, 5))
        low, high = max(start, 0), min(stop, n_space)
        if low < high:
            # Mirrored at the ends, where the light goes on without a step.
            moved = (wave + rng.integers(n_wave)) % (2 * n_wave)
            view[low:high] = view[low:high][
                :, np.where(moved < n_wave, moved, 2 * n_wave - 1 - moved)
            ]
            view[high : high + gap] = 0.0
        start = stop + gap


def _add_emission(rng, view, unusual):
    """Add bright lines that are short across the slit, in place; some lean, by rotation."""
    n_space, n_wave = view.shape
    width = max(unusual.fwhm, 1.2) / _SIGMA
    space, wave = np.arange(n_space)[:, None], np.arange(n_wave)[None, :]
    for _ in range(int(rng.integers(1, 5))):
        place, extent = rng.uniform(0, n_space), log_uniform(rng, width, 12.0 * width)
        lean = rng.normal(0.0, 0.15)
        for _ in range(rng.poisson(n_wave / 60.0)):
            peak = log_uniform(rng, 1.0, 1000.0) * unusual.noise
            at, reach = rng.uniform(0, n_wave), int(5 * extent) + 1
            low, high = max(int(place) - reach, 0), min(int(place) + reach + 1, n_space)
            middle = at + lean * (space[low:high] - place)
            across = 5.0 * width + abs(lean) * reach
            left, right = max(int(at - across), 0), min(int(at + across) + 1, n_wave)
            if low >= high or left >= right:
                continue
            line = np.exp(-0.5 * ((wave[:, left:right] - middle) / width) ** 2)
            line = line * np.exp(-0.5 * ((space[low:high] - place) / extent) ** 2)
            view[low:high, left:right] += (peak * line).astype(np.float32)
