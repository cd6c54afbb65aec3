"""The chip: what a CCD and its electronics are like, before any exposure.

`readout.expose` uses it to turn light and cosmic rays into a Level 1 image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend.errors import InvalidInputError

BAD, HOT, WARM, SATURATED = 1, 2, 4, 8
"""Bits of the FLAG plane (2022 pipeline)."""

_STREAMS = ("response", "defects", "columns", "hot", "channels", "pattern", "curve")


@dataclass(frozen=True)
class Trap:
    """One species of charge trap.

    Attributes
    ----------
    density : float
        Traps per pixel.
    release : float
        Transfers after which 1/e of the caught electrons are still held [px].
    """

    density: float
    release: float


@dataclass(frozen=True)
class Camera:
    """A CCD, its read-out and the flaws of its calibration; defaults are a CSST chip's.

    Gain, read noise, dark, ADC range and channels are the published ones (csster/csst
    ``backbone.py``); the full well is derived from the published saturation.  All else is
    assumed, with its reason where there is one.  0, or an empty tuple, switches an effect
    off; no effect's random draws depend on another's setting.

    Attributes
    ----------
    gain, gain_spread : float
        [e-/ADU], and its relative spread over the channels (assumed).
    read_noise, read_noise_spread : float
        [e-], and its relative spread over the channels (assumed).
    shot_noise : bool
        Poisson noise of light and dark current.
    dark : float
        [e-/s/px].
    bias, bias_spread : float
        [ADU], and its spread over the channels [ADU] (both assumed).
    adc_max : float
        Largest number of the converter [ADU], which means saturated.  0: neither a limit
        nor rounding.
    full_well : float
        [e-]; 0: no bleeding.
    prnu : float
        Pixel response, rms (assumed).
    defect_rate : float
        Bad and, as many again, hot pixels per pixel (assumed).  0 also removes bad columns.
    unknown_hot : float
        Share of the hot pixels that are new since the last dark: neither subtracted nor
        flagged (assumed).
    bad_columns : float
        Mean number in a full frame (assumed).
    pattern : float
        Row and column pattern noise [ADU rms] (assumed); 0 switches streaks off too.
    streaks : float
        Mean number of streak lines in a full frame (assumed).
    nonlinearity, nonlinearity_spread : float
        Relative deficit of the amplifier at the full well, growing in proportion to the
        charge, and its relative spread over the channels.  Assumed: 2 per cent is ordinary
        for a scientific CCD.
    parallel_traps, serial_traps : tuple of Trap
        Assumed: a young device with a 25th of the 1.3 traps per pixel that ACS/WFC had
        after eight years in orbit (Massey 2010, MNRAS 409, L109), fewer in the register.
    trap_power : float
        A packet of charge q takes up (q / full well)**power of a pixel's volume: about 0.5
        for ACS/WFC (Massey et al. 2014, MNRAS 439, 887).
    transfers : (int, int)
        Parallel and serial transfers of the pixel farthest from its amplifier.  A smaller
        frame keeps them, so that it shows the whole range of trails.  0: as many as the
        frame has pixels.
    brighter_fatter : float
        Shift of a pixel's boundary per electron of difference across it [px/e-].  With
        4e-6 a star of FWHM 3.5 px grows by 2 per cent up to the full well, the most that
        Antilogus et al. (2014, arXiv:1402.0725) measure.
    gain_residual : float
        Relative error of a channel's gain in Level 1 (assumed).
    bias_residual, bias_structure : float
        Error of a channel's bias, and rms of what remains of its slow run along rows and
        columns, in Level 1 [ADU] (assumed).
    dark_residual : float
        Relative error of the subtracted dark current, per channel and per hot pixel
        (assumed).
    flat_residual, flat_structure : float
        Relative error of the flat field, per pixel and on the scale of the chip (assumed).
        The large scale has mean zero: the zero point stands.
    master_noise : float
        Noise of the subtracted bias and dark frames [e-] (assumed: some hundred frames).
    nonlinearity_residual : float
        Relative error of a channel's correction for non-linearity (assumed).
    channels : (int, int)
        Rows and columns of read-out channels.
    """

    gain: float = 1.1
    gain_spread: float = 0.02
    read_noise: float = 5.0
    read_noise_spread: float = 0.03
    shot_noise: bool = True
    dark: float = 0.02
    bias: float = 500.0
    bias_spread: float = 20.0
    adc_max: float = 65535.0
    full_well: float = 90_000.0
    prnu: float = 0.01
    defect_rate: float = 5e-5
    unknown_hot: float = 0.02
    bad_columns: float = 4.0
    pattern: float = 0.25
    streaks: float = 40.0
    nonlinearity: float = 0.02
    nonlinearity_spread: float = 0.2
    parallel_traps: tuple[Trap, ...] = (Trap(0.03, 1.0), Trap(0.02, 10.0))
    serial_traps: tuple[Trap, ...] = (Trap(0.01, 1.5),)
    trap_power: float = 0.5
    transfers: tuple[int, int] = (4616, 1152)
    brighter_fatter: float = 0.0
    gain_residual: float = 0.002
    bias_residual: float = 0.15
    bias_structure: float = 0.1
    dark_residual: float = 0.05
    flat_residual: float = 0.001
    flat_structure: float = 0.002
    master_noise: float = 0.5
    nonlinearity_residual: float = 0.1
    channels: tuple[int, int] = (2, 8)

    def __post_init__(self) -> None:
        if not 0.0 <= self.nonlinearity <= 0.2:
            raise InvalidInputError(
                f"nonlinearity is {self.nonlinearity}; expected 0 to 0.2 at the full well"
            )
        if not 0.0 <= self.brighter_fatter * self.reference <= 0.9:
            raise InvalidInputError(
                f"brighter_fatter is {self.brighter_fatter}; expected 0 to 0.9 divided by "
                "the full well, or a pixel gives away more than it holds"
            )

    @property
    def ceiling(self) -> float:
        """Largest charge that the converter can tell, as a linear one would [e-]."""
        if self.adc_max == 0.0:
            return self.full_well or np.inf
        return (self.adc_max - self.bias) * self.gain

    @property
    def reference(self) -> float:
        """Charge to which non-linearity and trap volume refer [e-]: the full well.

        Without one it is the converter's ceiling, and without that a CSST chip's full well.
        """
        if self.full_well == 0.0 and self.adc_max == 0.0:
            return Camera.full_well
        return self.full_well or self.ceiling


@dataclass(frozen=True)
class Chip:
    """The fingerprint of one chip: everything that does not change between exposures.

    Attributes
    ----------
    response : (ny, nx) float32 array
        Relative, 0 where dead.
    extra_dark : sparse triple (rows, columns, e-/s)
    known_dark : (n,) bool array
        Which of `extra_dark` the pipeline knows, subtracts and flags.
    flag : (ny, nx) int32 array
        Bad, hot and warm pixels as the pipeline knows them.
    gain, read_noise, bias, nonlinearity : (rows, columns of channels) float64 arrays
        [e-/ADU], [e-], [ADU], relative deficit at the full well.
    column_pattern : (nx,) float32 array
        [ADU].
    """

    response: NDArray[np.float32]
    extra_dark: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
    known_dark: NDArray[np.bool_]
    flag: NDArray[np.int32]
    gain: NDArray[np.float64]
    read_noise: NDArray[np.float64]
    bias: NDArray[np.float64]
    nonlinearity: NDArray[np.float64]
    column_pattern: NDArray[np.float32]


def make_chip(rng: np.random.Generator, camera: Camera, shape: tuple[int, int]) -> Chip:
    """Draw the fingerprint of a chip.

    Parameters
    ----------
    rng : numpy.random.Generator
        Only its children are drawn from, one for each property.
    camera : Camera
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    Chip
    """
    streams = dict(zip(_STREAMS, rng.spawn(len(_STREAMS)), strict=True))
    response = _draw_response(streams["response"], camera, shape)
    flag = np.zeros(shape, dtype=np.int32)
    n_defects = camera.defect_rate * response.size
    y, x = _positions(streams["defects"], n_defects, shape)
    response[y, x] = streams["defects"].uniform(0.0, 0.6, y.size)
    flag[y, x] |= BAD
    _add_bad_columns(streams["columns"], camera, response, flag)
    hot_y, hot_x = _positions(streams["hot"], n_defects, shape)
    hot = 0.2 * (1.0 - streams["hot"].random(hot_y.size)) ** -1.2
    known = streams["hot"].random(hot_y.size) > camera.unknown_hot
    np.bitwise_or.at(
        flag,
        (hot_y[known], hot_x[known]),
        np.where(hot[known] > 1.0, HOT, WARM).astype(np.int32),
    )
    spread = streams["channels"].standard_normal((3, *camera.channels))
    curve = streams["curve"].standard_normal(camera.channels)
    pattern = camera.pattern * 0.5 * streams["pattern"].standard_normal(shape[1])
    return Chip(
        response=response,
        extra_dark=(hot_y, hot_x, np.minimum(hot, 600.0)),
        known_dark=known,
        flag=flag,
        gain=camera.gain * (1.0 + camera.gain_spread * spread[0]),
        read_noise=camera.read_noise * (1.0 + camera.read_noise_spread * spread[1]),
        bias=camera.bias + camera.bias_spread * spread[2],
        nonlinearity=camera.nonlinearity * (1.0 + camera.nonlinearity_spread * curve),
        column_pattern=pattern.astype(np.float32),
    )


def channel_edges(n_pixels: int, n_channels: int) -> list[int]:
    """Return where the read-out channels along one axis begin, and the axis' end.

    Parameters
    ----------
    n_pixels, n_channels : int

    Returns
    -------
    list of n_channels + 1 int
    """
    return [-(-i * n_pixels // n_channels) for i in range(n_channels + 1)]


def reads_upwards(row: int, n_rows: int) -> bool:
    """Whether a row of channels has its amplifiers above it: the upper half does."""
    return row >= (n_rows + 1) // 2


def _draw_response(rng, camera, shape):
    """Return the relative response of good pixels, mean 1."""
    if camera.prnu == 0.0:
        return np.ones(shape, dtype=np.float32)
    response = rng.standard_normal(shape, dtype=np.float32)
    response *= np.float32(camera.prnu)
    response += np.float32(1.0)
    return response


def _add_bad_columns(rng, camera, response, flag):
    """Add columns of low response, in place.

    A blockage stops the charge of all pixels that have to pass it: from a random row to
    the end of the channel that is far from the amplifiers.
    """
    if camera.defect_rate == 0.0:
        return
    ny, nx = response.shape
    n_rows = camera.channels[0]
    edges = channel_edges(ny, n_rows)
    for _ in range(rng.poisson(camera.bad_columns * nx / 9216)):
        x, y = rng.integers(nx), int(rng.integers(ny))
        row = min(y * n_rows // ny, n_rows - 1)
        blocked = (
            slice(edges[row], y + 1) if reads_upwards(row, n_rows) else slice(y, edges[row + 1])
        )
        response[blocked, x] *= rng.uniform(0.0, 0.7)
        flag[blocked, x] |= BAD


def _positions(rng, mean_number, shape):
    """Return random rows and columns, a Poisson number of them."""
    n = rng.poisson(mean_number)
    return rng.integers(shape[0], size=n), rng.integers(shape[1], size=n)
