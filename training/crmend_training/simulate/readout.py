"""From light and cosmic rays to a calibrated Level 1 image.

The order is that of nature and then of the pipeline: light through each pixel's response;
repulsion by the charge already there (brighter-fatter); dark current; shot noise; the
charge of cosmic rays; bleeding over the full well; parallel, then serial transfer through
traps; read noise; the amplifier's non-linearity; gain, bias and pattern; the converter.
Level 1 then undoes bias, gain, non-linearity, dark current and flat field, each with an
error, so that a cosmic ray's Level 1 value is not its charge times a constant.

Read noise is quoted in electrons at the amplifier's input, where it comes before the
non-linearity: that belongs to the amplifier's output stage, which sees charge after all
transfers, and so bends signal and noise of the sum of all that came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate._charge import (
    bleed,
    poisson_from_normal,
    repel,
    trail_columns,
    trail_rows,
)
from crmend_training.simulate.detector import (
    BAD,
    SATURATED,
    Camera,
    Chip,
    Trap,
    channel_edges,
    reads_upwards,
)

_BAND_ROWS = 256
_WAVES = 4  # of which a slow run is made
_STREAMS = (
    "shot",
    "read",
    "flat",
    "master",
    "gain",
    "bias",
    "curve",
    "dark",
    "hot",
    "rows",
    "streaks",
    "bias_structure",
    "flat_structure",
)


@dataclass(frozen=True)
class Readout:
    """What comes out of `expose`: all (ny, nx), images in e-/s."""

    image: NDArray[np.float32]
    error: NDArray[np.float32]
    flag: NDArray[np.int32]
    image_without_cr: NDArray[np.float32]


@dataclass(frozen=True)
class _Channels:
    """Errors of this exposure: (rows, columns of channels) arrays unless said otherwise."""

    gain: NDArray[np.float64]  # factor
    bias: NDArray[np.float64]  # ADU
    curve: NDArray[np.float64]  # coefficient that Level 1 takes
    dark: NDArray[np.float64]  # e-/s that Level 1 subtracts
    along_columns: NDArray[np.float32]  # (columns of channels, ny), ADU
    along_rows: NDArray[np.float32]  # (rows of channels, nx), ADU


@dataclass(frozen=True)
class _Band:
    """Rows of one channel row, with arrays that broadcast against them, float32."""

    rows: slice
    noise: NDArray[np.float32] | np.float32
    offset: NDArray[np.float32]
    gain: NDArray[np.float32]
    curve: NDArray[np.float32]
    bias: NDArray[np.float32]
    assumed_gain: NDArray[np.float32]
    assumed_curve: NDArray[np.float32]
    dark: NDArray[np.float32]
    flat: NDArray[np.float32]
    master: NDArray[np.float32] | np.float32


def expose(
    rng: np.random.Generator,
    scene: NDArray[np.float32],
    cosmic_rays: NDArray[np.float32],
    camera: Camera,
    chip: Chip,
    exposure_time: float,
) -> Readout:
    """Expose and read a chip twice with the same noise: with cosmic rays and without.

    The two images differ only where charge of cosmic rays went, by itself, bleeding or
    trailing; there, rounding adds up to one ADU.

    Parameters
    ----------
    rng : numpy.random.Generator
        Only its children are drawn from, one for each effect.
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
    streams = dict(zip(_STREAMS, rng.spawn(len(_STREAMS)), strict=True))
    clean = _collect(streams["shot"], scene, camera, chip, exposure_time)
    image = clean + cosmic_rays
    flag = chip.flag.copy()
    if camera.full_well > 0.0:
        bleed(clean, camera.full_well)
        bleed(image, camera.full_well)
        # A float32 pixel may hold a little less than a float64 full well.
        full = np.float32(camera.full_well * (1.0 - 1e-6))
        for rows, _ in _bands(flag.shape[0], 1):
            flag[rows][image[rows] >= full] |= SATURATED
    _trail(clean, camera)
    _trail(image, camera)
    error = np.empty_like(image)
    for band in _draw_bands(streams, camera, chip):
        counts = _digitise(image[band.rows], band, camera)
        if camera.adc_max > 0.0:
            flag[band.rows][counts >= camera.adc_max] |= SATURATED
        image[band.rows] = _calibrate(counts, band, camera, exposure_time)
        counts = _digitise(clean[band.rows], band, camera)
        clean[band.rows] = _calibrate(counts, band, camera, exposure_time)
        error[band.rows] = _predict_error(image[band.rows], band, chip, exposure_time)
    return Readout(image=image, error=error, flag=flag, image_without_cr=clean)


def _collect(rng, scene, camera, chip, exposure_time):
    """Turn light into photo-electrons and add the dark current, in place."""
    ny = scene.shape[0]
    for rows, _ in _bands(ny, 1):
        scene[rows] *= chip.response[rows]
    if camera.brighter_fatter > 0.0:
        repel(scene, camera.brighter_fatter * exposure_time, camera.reference / exposure_time)
    y, x, hot = chip.extra_dark
    np.add.at(scene, (y, x), hot.astype(np.float32))
    for rows, _ in _bands(ny, 1):
        part = scene[rows]
        part += np.float32(camera.dark)
        part *= np.float32(exposure_time)
        if camera.shot_noise:
            poisson_from_normal(part, rng.standard_normal(part.shape, dtype=np.float32))
    return scene


def _trail(charge, camera):
    """Drag charge through the traps on its way to the amplifiers, in place."""
    row_edges = channel_edges(charge.shape[0], camera.channels[0])
    column_edges = channel_edges(charge.shape[1], camera.channels[1])
    if camera.parallel_traps:
        traps, kept = _pack_traps(camera.parallel_traps, camera)
        for number, (first, end) in enumerate(pairwise(row_edges)):
            upwards = reads_upwards(number, camera.channels[0])
            step = (camera.transfers[0] or end - first) / (end - first)
            trail_columns(charge[first:end], upwards, step, traps, kept)
    if camera.serial_traps:
        traps, kept = _pack_traps(camera.serial_traps, camera)
        for first, end in pairwise(column_edges):
            step = (camera.transfers[1] or end - first) / (end - first)
            trail_rows(charge[:, first:end], step, traps, kept)


def _pack_traps(traps: tuple[Trap, ...], camera: Camera):
    """Return the two arrays that `_charge.transfer` wants."""
    densities = [trap.density for trap in traps]
    kept = np.exp([-1.0 / trap.release for trap in traps])
    return np.array([*densities, camera.reference, camera.trap_power]), kept


def _draw_bands(streams, camera, chip) -> Iterator[_Band]:
    """Yield the noise and the calibration of one band of rows after another."""
    ny, nx = chip.flag.shape
    errors = _draw_channels(streams, camera, chip)
    streaks = _draw_streaks(streams["streaks"], camera, (ny, nx))
    hot = _draw_known_dark(streams["hot"], camera, chip)
    slow_flat = _draw_flat_structure(streams["flat_structure"], camera, (ny, nx))
    column_of = np.repeat(
        np.arange(camera.channels[1]), np.diff(channel_edges(nx, camera.channels[1]))
    )
    for rows, row in _bands(ny, camera.channels[0]):
        shape = (rows.stop - rows.start, nx)

        def along(values, row=row):
            return values[row][column_of].astype(np.float32)

        offset = errors.along_columns[:, rows][column_of].T + errors.along_rows[row]
        offset += along(chip.bias + errors.bias)
        _add_streaks(offset, rows, streaks)
        flat = _normal(streams["flat"], shape, camera.flat_residual) + slow_flat(rows)
        flat += np.float32(1.0)
        flat *= np.where(chip.flag[rows] & BAD, np.float32(1.0), chip.response[rows])
        dark = np.broadcast_to(along(errors.dark), shape).copy()
        here = (hot[0] >= rows.start) & (hot[0] < rows.stop)
        np.add.at(dark, (hot[0][here] - rows.start, hot[1][here]), hot[2][here])
        yield _Band(
            rows=rows,
            noise=_normal(streams["read"], shape, camera.read_noise and along(chip.read_noise)),
            offset=offset,
            gain=along(chip.gain),
            curve=along(chip.nonlinearity / camera.reference),
            bias=along(chip.bias),
            assumed_gain=along(chip.gain * errors.gain),
            assumed_curve=along(errors.curve / camera.reference),
            dark=dark,
            flat=flat,
            master=_normal(streams["master"], shape, camera.master_noise),
        )


def _digitise(charge, band, camera):
    """Return the raw numbers of a band of charge [ADU]."""
    signal = charge + band.noise
    if camera.nonlinearity > 0.0:
        signal *= np.float32(1.0) - band.curve * signal
    signal /= band.gain
    signal += band.offset
    if camera.adc_max > 0.0:
        np.rint(signal, out=signal)
        np.clip(signal, 0.0, camera.adc_max, out=signal)
    return signal


def _calibrate(counts, band, camera, exposure_time):
    """Return the Level 1 values of raw numbers [e-/s]; overwrites them."""
    counts -= band.bias
    counts *= band.assumed_gain
    if camera.nonlinearity > 0.0:
        # The root of q (1 − c q) = counts, in the form that stays exact for small c.
        root = np.maximum(np.float32(1.0) - 4.0 * band.assumed_curve * counts, 0.0)
        counts *= np.float32(2.0) / (np.float32(1.0) + np.sqrt(root))
    counts -= band.master
    counts /= np.float32(exposure_time)
    counts -= band.dark
    counts /= band.flat
    return counts


def _predict_error(image, band, chip, exposure_time):
    """Return the pipeline's 1 sigma [e-/s]: photons, dark current and read noise."""
    variance = np.maximum(image, np.float32(0.0)) + np.maximum(band.dark, np.float32(0.0))
    variance *= np.float32(exposure_time)
    variance += np.float32(np.mean(chip.read_noise**2))
    np.sqrt(variance, out=variance)
    variance /= np.float32(exposure_time)
    return variance


def _draw_channels(streams, camera, chip):
    """Draw the errors that a whole channel shares, and its slow run of bias."""
    ny, nx = chip.flag.shape
    n_rows, n_columns = shape = camera.channels
    pattern = camera.pattern * streams["rows"].standard_normal((n_columns, ny))
    along_rows = np.repeat(chip.column_pattern[None].astype(np.float64), n_rows, axis=0)
    if camera.bias_structure > 0.0:
        half = camera.bias_structure / np.sqrt(2.0)
        rng = streams["bias_structure"]
        pattern += half * np.array([_slow_run(rng, ny) for _ in range(n_columns)])
        along_rows += half * np.array([_slow_run(rng, nx) for _ in range(n_rows)])
    curve_error = camera.nonlinearity_residual * streams["curve"].standard_normal(shape)
    return _Channels(
        gain=1.0 + camera.gain_residual * streams["gain"].standard_normal(shape),
        bias=camera.bias_residual * streams["bias"].standard_normal(shape),
        curve=chip.nonlinearity * (1.0 + curve_error),
        dark=camera.dark
        * (1.0 + camera.dark_residual * streams["dark"].standard_normal(shape)),
        along_columns=pattern.astype(np.float32),
        along_rows=along_rows.astype(np.float32),
    )


def _draw_known_dark(rng, camera, chip):
    """Return rows, columns and the dark current that Level 1 takes off hot pixels [e-/s]."""
    y, x, level = (part[chip.known_dark] for part in chip.extra_dark)
    level = level * (1.0 + camera.dark_residual * rng.standard_normal(level.size))
    return y, x, level.astype(np.float32)


def _slow_run(rng, n):
    """Return n values of mean 0 and rms near 1 that wander over a few thousand pixels."""
    u = np.arange(n) / n
    waves = np.cos(2.0 * np.pi * (rng.uniform(0.3, 3.0, (_WAVES, 1)) * u + rng.random((4, 1))))
    run = waves.sum(axis=0) * np.sqrt(2.0 / _WAVES)
    return run - run.mean()


def _draw_flat_structure(rng, camera, shape):
    """Return a function of a slice of rows: the large-scale error of the flat field.

    Plane waves of up to two periods on the chip, written as sums of products of a row and
    a column term; their mean over the chip is 0.
    """
    if camera.flat_structure == 0.0:
        return lambda _: np.float32(0.0)
    fy, fx = rng.uniform(-2.0, 2.0, (2, _WAVES, 1))
    angle_y = 2.0 * np.pi * (fy * np.arange(shape[0]) / shape[0] + rng.random((_WAVES, 1)))
    angle_x = 2.0 * np.pi * fx * np.arange(shape[1]) / shape[1]
    down = np.concatenate([np.cos(angle_y), -np.sin(angle_y)])
    down *= camera.flat_structure * np.sqrt(2.0 / _WAVES)
    across = np.concatenate([np.cos(angle_x), np.sin(angle_x)])
    mean = np.float32((down.mean(axis=1) * across.mean(axis=1)).sum())
    down, across = down.astype(np.float32), across.astype(np.float32)

    def structure(rows):
        total = np.full((rows.stop - rows.start, shape[1]), -mean, dtype=np.float32)
        for y_term, x_term in zip(down[:, rows], across, strict=True):
            total += y_term[:, None] * x_term
        return total

    return structure


def _draw_streaks(rng, camera, shape):
    """Return (row, column, length, amplitude [ADU], along row) of bright lines without light.

    Their lengths of 40–1200 px, amplitudes of 2–30 ADU and fading are assumed.
    """
    if camera.pattern == 0.0 or camera.streaks == 0.0:
        return []
    ny, nx = shape
    streaks = []
    for _ in range(rng.poisson(camera.streaks * ny * nx / 8.5e7 + 0.3)):
        amplitude = float(np.exp(rng.uniform(np.log(2.0), np.log(30.0))))
        length = int(rng.uniform(40, 1200))
        y, x = int(rng.integers(ny)), int(rng.integers(nx))
        streaks.append((y, x, length, amplitude, bool(rng.random() < 0.6)))
    return streaks


def _add_streaks(offset, rows, streaks):
    """Add the part of the streak lines that lies in a band of rows, in place."""
    for y, x, length, amplitude, along_row in streaks:
        fade = (amplitude * np.exp(-np.arange(length) / (0.5 * length))).astype(np.float32)
        if along_row and rows.start <= y < rows.stop:
            part = offset[y - rows.start, x : x + length]
            part += fade[: part.size]
        elif not along_row and y < rows.stop and y + length > rows.start:
            skipped = max(0, rows.start - y)
            part = offset[max(0, y - rows.start) :, x]
            part = part[: length - skipped]
            part += fade[skipped : skipped + part.size]


def _normal(rng, shape, sigma):
    """Return normal deviates times sigma, or 0 without drawing any."""
    if np.isscalar(sigma) and sigma == 0.0:
        return np.float32(0.0)
    deviates = rng.standard_normal(shape, dtype=np.float32)
    deviates *= np.asarray(sigma, dtype=np.float32)
    return deviates


def _bands(ny: int, n_rows: int) -> Iterator[tuple[slice, int]]:
    """Yield slices over the rows with their channel row: temporaries stay small."""
    edges = channel_edges(ny, n_rows)
    for row in range(n_rows):
        for start in range(edges[row], edges[row + 1], _BAND_ROWS):
            yield slice(start, min(start + _BAND_ROWS, edges[row + 1])), row
