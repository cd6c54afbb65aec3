"""The chip: from light and cosmic rays to a calibrated Level 1 image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate._kernels import bleed

BAD, HOT, WARM, SATURATED = 1, 2, 4, 8
"""Bits of the FLAG plane (2022 pipeline)."""

_BAND_ROWS = 256


@dataclass(frozen=True)
class Camera:
    """A CCD and its read-out; the defaults are those of a CSST imaging chip.

    Gain, noise, dark, PRNU, channels and defect rates are the published ones; bias,
    spreads, pattern noise and calibration residuals are assumed.

    Attributes
    ----------
    gain, gain_spread : float
        [e-/ADU], and its relative spread over the channels.
    read_noise, read_noise_spread : float
        [e-], and its relative spread over the channels.
    dark : float
        [e-/s/px].
    bias, adc_max : float
        [ADU].
    full_well : float
        [e-].
    prnu : float
        Pixel response, rms.
    defect_rate : float
        Bad and, as many again, hot pixels per pixel.
    bad_columns : float
        Mean number in a full frame.
    pattern : float
        Row and column pattern noise [ADU rms]; 0 switches streak lines off too.
    gain_residual, flat_residual : float
        Relative errors of the calibration.
    bias_residual : float
        Error of a channel's bias [ADU rms].
    channels : (int, int)
        Rows and columns of read-out channels.
    """

    gain: float = 1.1
    gain_spread: float = 0.02
    read_noise: float = 5.0
    read_noise_spread: float = 0.03
    dark: float = 0.02
    bias: float = 500.0
    adc_max: float = 65535.0
    full_well: float = 90_000.0
    prnu: float = 0.01
    defect_rate: float = 5e-5
    bad_columns: float = 4.0
    pattern: float = 0.25
    gain_residual: float = 0.002
    flat_residual: float = 0.001
    bias_residual: float = 0.15
    channels: tuple[int, int] = (2, 8)

    @property
    def ceiling(self) -> float:
        """Largest charge that the converter can tell [e-]."""
        return (self.adc_max - self.bias) * self.gain


@dataclass(frozen=True)
class Chip:
    """The fingerprint of one chip: everything that does not change between exposures.

    Attributes
    ----------
    response : (ny, nx) float32 array
        Relative, 0 where dead.
    extra_dark : sparse triple (rows, columns, e-/s)
    flag : (ny, nx) int32 array
        Bad, hot and warm pixels as the pipeline knows them.
    gain, read_noise : (rows, columns of channels) float64 arrays
    column_pattern : (nx,) float32 array
        [ADU].
    """

    response: NDArray[np.float32]
    extra_dark: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
    flag: NDArray[np.int32]
    gain: NDArray[np.float64]
    read_noise: NDArray[np.float64]
    column_pattern: NDArray[np.float32]


@dataclass(frozen=True)
class Readout:
    """What comes out of `expose`: all (ny, nx), images in e-/s."""

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    flag: NDArray[np.int32]
    image_without_cr: NDArray[np.float32]


def make_chip(rng: np.random.Generator, camera: Camera, shape: tuple[int, int]) -> Chip:
    """Draw the fingerprint of a chip."""
    response = rng.standard_normal(shape, dtype=np.float32)
    response *= np.float32(camera.prnu)
    response += np.float32(1.0)
    flag = np.zeros(shape, dtype=np.int32)
    n_defects = camera.defect_rate * response.size
    y, x = _positions(rng, rng.poisson(n_defects), shape)
    response[y, x] = rng.uniform(0.0, 0.6, y.size)
    flag[y, x] |= BAD
    _add_bad_columns(rng, camera, response, flag)
    hot_y, hot_x = _positions(rng, rng.poisson(n_defects), shape)
    hot = 0.2 * (1.0 - rng.random(hot_y.size)) ** -1.2
    hot = np.minimum(hot, 600.0)
    # One in fifty hot pixels is new since the last calibration and not flagged.
    known = rng.random(hot_y.size) > 0.02
    level = np.where(hot > 1.0, HOT, WARM)
    flag[hot_y[known], hot_x[known]] |= level[known].astype(np.int32)
    spread = rng.normal(0.0, 1.0, (2, *camera.channels))
    return Chip(
        response=response,
        extra_dark=(hot_y, hot_x, hot),
        flag=flag,
        gain=camera.gain * (1.0 + camera.gain_spread * spread[0]),
        read_noise=camera.read_noise * (1.0 + camera.read_noise_spread * spread[1]),
        column_pattern=(camera.pattern * 0.5 * rng.standard_normal(shape[1])).astype(
            np.float32
        ),
    )


def expose(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    cosmic_rays: NDArray[np.float32],
    camera: Camera,
    chip: Chip,
    exposure_time: float,
) -> Readout:
    """Expose and read a chip twice with the same noise: with cosmic rays and without.

    Parameters
    ----------
    rng : numpy.random.Generator
    scene : (ny, nx) float32 array
        Light with sky, e-/s; overwritten.
    cosmic_rays : (ny, nx) float32 array
        e-/px.
    camera : Camera
    chip : Chip
    exposure_time : float
        Seconds.

    Returns
    -------
    Readout
    """
    clean = _collect(rng, scene, camera, chip, exposure_time)
    image = clean + cosmic_rays
    bleed(clean, camera.full_well)
    bleed(image, camera.full_well)
    flag = chip.flag.copy()
    _read_out(rng, (image, clean), flag, camera, chip, exposure_time)
    dark = camera.dark * exposure_time
    variance = np.maximum(image * np.float32(exposure_time) + np.float32(dark), 0)
    variance += np.float32(camera.read_noise**2)
    error = np.sqrt(variance, out=variance)
    error /= np.float32(exposure_time)
    return Readout(image=image, error=error, flag=flag, image_without_cr=clean)


def _collect(rng, scene, camera, chip, exposure_time):
    """Turn light into photo-electrons and add the dark current, in place."""
    for rows in _bands(scene.shape[0]):
        scene[rows] *= chip.response[rows]
    y, x, hot = chip.extra_dark
    np.add.at(scene, (y, x), hot.astype(np.float32))
    for rows in _bands(scene.shape[0]):
        expected = (scene[rows] + camera.dark) * exposure_time
        scene[rows] = rng.poisson(np.maximum(expected, 0.0))
    return scene


def _read_out(rng, images, flag, camera, chip, exposure_time):
    """Digitise and calibrate in place; the noise is the same for all images."""
    ny, nx = flag.shape
    n_rows, n_columns = camera.channels
    column_of = np.minimum(np.arange(nx) * n_columns // nx, n_columns - 1)
    gain_error = 1.0 + camera.gain_residual * rng.standard_normal(camera.channels)
    bias_error = camera.bias_residual * rng.standard_normal(camera.channels)
    row_pattern = camera.pattern * rng.standard_normal((ny, n_columns))
    streaks = _draw_streaks(rng, camera, (ny, nx))
    for rows in _bands(ny):
        row_of = np.minimum(np.arange(rows.start, rows.stop) * n_rows // ny, n_rows - 1)
        where = np.ix_(row_of, column_of)
        gain = chip.gain[where].astype(np.float32)
        offset = row_pattern[rows][:, column_of].astype(np.float32)
        offset += chip.column_pattern
        offset += bias_error[where].astype(np.float32)
        offset += np.float32(camera.bias)
        offset += streaks[rows] if streaks is not None else np.float32(0.0)
        noise = rng.standard_normal(gain.shape, dtype=np.float32)
        noise *= chip.read_noise[where].astype(np.float32)
        flat = rng.standard_normal(gain.shape, dtype=np.float32)
        flat *= np.float32(camera.flat_residual)
        flat += np.float32(1.0)
        flat *= np.where(flag[rows] & BAD, np.float32(1.0), chip.response[rows])
        scale = gain * gain_error[where].astype(np.float32) / flat
        scale /= np.float32(exposure_time)
        for number, image in enumerate(images):
            counts = np.rint((image[rows] + noise) / gain + offset)
            if number == 0:
                flag[rows][counts >= camera.adc_max] |= SATURATED
            np.clip(counts, 0.0, camera.adc_max, out=counts)
            counts -= np.float32(camera.bias)
            image[rows] = counts * scale - np.float32(camera.dark)


def _draw_streaks(rng, camera, shape):
    """Return streak lines [ADU]: faint bright rows and columns that no light made."""
    if camera.pattern == 0.0:
        return None
    ny, nx = shape
    streaks = np.zeros(shape, dtype=np.float32)
    for _ in range(rng.poisson(40.0 * ny * nx / 8.5e7 + 0.3)):
        amplitude = np.exp(rng.uniform(np.log(2.0), np.log(30.0)))
        length = int(rng.uniform(40, 1200))
        y, x = rng.integers(ny), rng.integers(nx)
        fade = np.exp(-np.arange(length) / (0.5 * length)).astype(np.float32)
        along_row = rng.random() < 0.6
        part = streaks[y, x : x + length] if along_row else streaks[y : y + length, x]
        part += np.float32(amplitude) * fade[: part.size]
    return streaks


def _add_bad_columns(rng, camera, response, flag):
    """Add columns of low response, from a random row to the chip's end, in place."""
    if camera.defect_rate == 0.0:
        return
    ny, nx = response.shape
    for _ in range(rng.poisson(camera.bad_columns * nx / 9216)):
        x, y, upwards = rng.integers(nx), rng.integers(ny), rng.random() < 0.5
        rows = slice(y, ny) if upwards else slice(0, y)
        response[rows, x] *= rng.uniform(0.0, 0.7)
        flag[rows, x] |= BAD


def _positions(rng, n, shape):
    """Return n random rows and columns."""
    return rng.integers(shape[0], size=n), rng.integers(shape[1], size=n)


def _bands(ny: int) -> Iterator[slice]:
    """Yield slices over the rows, so that temporaries stay small."""
    for start in range(0, ny, _BAND_ROWS):
        yield slice(start, min(start + _BAND_ROWS, ny))
