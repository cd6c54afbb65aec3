"""The look-alikes of the zoo, one painter each: light first, then the chip and its readout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening

from crmend_training.simulate import SimulationConfig
from crmend_training.simulate._light import add_line
from crmend_training.simulate.artefacts import TRAIL, Artefacts, add_artefacts, trail_profile
from crmend_training.simulate.bands import PIXEL_SCALE
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.detector import (
    BAD,
    HOT,
    SATURATED,
    WARM,
    Camera,
    Chip,
    channel_edges,
)
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.psf_models import PsfRequest, csst_psfs
from crmend_training.simulate.readout import Readout, expose
from crmend_training.simulate.scene import Optics, render_scene
from crmend_training.simulate.setups import sky_noise

SHAPE = (640, 640)

CLASSES = (
    "sky",
    "ghost",
    "channel seam",
    "row streak",
    "column streak",
    "star wing",
    "galaxy",
    "diffraction ring",
    "satellite trail",
    "moving object",
    "galaxy nucleus",
    "close pair",
    "star core",
    "saturated star",
    "bleed end",
    "bad column",
    "warm pixel",
    "hot pixel",
    "new hot pixel",
)
"""Names of the labels 0, 1, 2 …; where two meet, the larger one stays."""

ZOO_SEED = 20_250_301
_BANDS_OF_HOT = {"warm pixel": 440, "hot pixel": 475, "new hot pixel": 510}
_HOT_LEVELS = {
    "warm pixel": (0.2, 1.0),
    "hot pixel": (1.0, 100.0),
    "new hot pixel": (0.3, 80.0),
}
_WELLS = ((400, 200, 8.0), (470, 200, 20.0), (540, 200, 50.0), (440, 470, 240.0))
# Column, row and light, in full wells, of the saturated stars.
_SEPARATIONS = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
_COLUMN_STREAKS = {12: 4.0, 333: 8.0, 632: 20.0}  # column: ADU
_BAD_COLUMNS = ((622, 150, 320, 0.3), (306, 320, 455, 0.0))  # column, rows, response
_TRAILS = ((552.0, 0.03, 12.0), (598.0, 0.045, 40.0))  # row at x = 0, slope, peak in noise


class Canvas:
    """The scene with its labels and catalogue, while it is being painted."""

    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self.camera = zoo_camera()
        self.sky = 0.5 * (config.band.sky_low + config.band.sky_high)
        self.noise = sky_noise(self.camera, self.sky, config.exposure_time)
        self.psf = zoo_psf(config)
        self.optics = Optics.from_psfs([self.psf])
        self.scene = np.zeros(SHAPE, dtype=np.float32)
        self.labels = np.zeros(SHAPE, dtype=np.uint8)
        self.rows: list[NDArray[np.void]] = []

    @property
    def peak_share(self) -> float:
        """Share of a star's light in its brightest pixel, at best."""
        return float(self.optics.stamps.max())

    def label(self, name: str, where: NDArray[np.bool_]) -> None:
        """Label pixels, unless they have a larger label."""
        number = np.uint8(CLASSES.index(name))
        np.maximum(self.labels, np.where(where, number, np.uint8(0)), out=self.labels)

    def label_boxes(self, name: str, rows: NDArray[np.void]) -> None:
        """Label the 3 × 3 pixels around sources."""
        where = np.zeros(SHAPE, dtype=bool)
        x, y = (np.floor(rows[axis] + 0.5).astype(int) for axis in ("x", "y"))
        where[y, x] = True
        self.label(name, binary_dilation(where, np.ones((3, 3))))

    def paint(self, rows: NDArray[np.void], rng: np.random.Generator) -> NDArray[np.float32]:
        """Add sources to scene and catalogue; return their light alone."""
        light = render_scene(
            rng, rows, self.optics, SHAPE, floor=0.01 * self.noise, faint_galaxies=0.0
        )
        self.scene += light
        self.rows.append(rows)
        return light


def zoo_psf(config: SimulationConfig) -> Psf:
    """Return the sharpest PSF of a band: R_EE80 0.11 arcsec, or as near as it gets."""
    rng = np.random.default_rng([ZOO_SEED, config.seed])
    request = PsfRequest(r_ee80=0.11, variation=0.0)
    return csst_psfs(rng, config.band.pivot, PIXEL_SCALE, 1, request=request)[0]


def zoo_camera() -> Camera:
    """Return a CSST chip whose seams and streaks are plain to see.

    Bias and gain residuals are ten times a chip's, 0.2 sigma of empty sky rms between two
    channels, and ten streaks are expected in the frame instead of one in two.
    """
    return Camera(
        defect_rate=0.0,
        channels=(2, 2),
        bias_residual=1.5,
        gain_residual=0.02,
        streaks=10.0 * 8.5e7 / (SHAPE[0] * SHAPE[1]),
    )


# --- light ----------------------------------------------------------------------------


def _sources(kind: str, values: Iterable[tuple[float, ...]]) -> NDArray[np.void]:
    """Return catalogue rows of (x, y, flux)."""
    values = np.array(list(values), dtype=np.float64)
    rows = np.zeros(len(values), dtype=SOURCE_DTYPE)
    rows["type"], rows["axis_ratio"] = kind, 1.0
    rows["x"], rows["y"], rows["flux"] = values.T
    return rows


def _star_grid(canvas, rng):
    """Paint stars at 16 sub-pixel phases, from 15 sigma to 0.85 of saturation in the peak."""
    brightest = 0.85 * canvas.camera.ceiling / canvas.config.exposure_time
    peaks = np.geomspace(15.0 * canvas.noise, brightest, 8)
    rows = _sources(
        "star",
        (
            (18 + 19 * i + 0.25 * (i % 4), 18 + 19 * j + 0.25 * (i // 4), flux)
            for j, flux in enumerate(peaks / canvas.peak_share)
            for i in range(16)
        ),
    )
    light = canvas.paint(rows, rng)
    canvas.label("star wing", light > canvas.noise)
    canvas.label_boxes("star core", rows)


def _pairs(canvas, rng):
    """Paint pairs at 0.5–6 px with partners of the same, a third and a tenth of the light."""
    flux = 200.0 * canvas.noise / canvas.peak_share
    values = []
    for j, ratio in enumerate((1.0, 0.3, 0.1)):
        for i, separation in enumerate(_SEPARATIONS):
            x, y = 348 + 28 * i + rng.random(), 20 + 28 * j + rng.random()
            angle = rng.uniform(0.0, 2.0 * np.pi)
            values.append((x, y, flux))
            x, y = x + separation * np.cos(angle), y + separation * np.sin(angle)
            values.append((x, y, flux * ratio))
    rows = _sources("star", values)
    light = canvas.paint(rows, rng)
    canvas.label("star wing", light > canvas.noise)
    canvas.label_boxes("close pair", rows)


def _saturated(canvas, rng):
    """Paint stars of 8 to 240 full wells, with their rings; the chip makes them bleed."""
    well = canvas.camera.full_well / canvas.config.exposure_time
    rows = _sources("star", ((x + 0.3, y + 0.2, n * well) for x, y, n in _WELLS))
    light = canvas.paint(rows, rng)
    canvas.label("star wing", light > canvas.noise)
    # From the first dark ring on; beyond some ten rings the pixel washes them out.
    y, x = np.indices(SHAPE)
    for row in rows:
        radius = np.hypot(x - row["x"], y - row["y"]) / canvas.psf.airy
        rings = (radius > 1.22) & (radius < 10.0) & (light > 5.0 * canvas.noise)
        canvas.label("diffraction ring", rings)


def _galaxies(canvas, rng):
    """Paint galaxies with sharp bulges, and a large one where four channels meet."""
    n = 20
    unit = 100.0 * canvas.noise
    grid = ((348 + 28 * (i % 10), 116 + 34 * (i // 10)) for i in range(n))
    rows = _sources("galaxy", ((x, y, unit) for x, y in grid))
    rows["x"] += rng.random(n)
    rows["y"] += rng.random(n)
    rows["flux"] *= np.geomspace(3.0, 300.0, n)[rng.permutation(n)]
    rows["r_half"] = rng.uniform(3.0, 7.0, n)
    rows["r_bulge"] = rng.uniform(0.3, 1.2, n)
    rows["axis_ratio"] = rng.uniform(0.3, 1.0, n)
    rows["position_angle"] = rng.uniform(0.0, np.pi, n)
    rows["bulge_fraction"] = rng.uniform(0.3, 0.9, n)
    large = _sources("galaxy", [(322.3, 328.4, 4e4 * canvas.noise)])
    large["r_half"], large["r_bulge"], large["axis_ratio"] = 27.0, 4.0, 0.6
    large["position_angle"], large["bulge_fraction"] = 0.5, 0.15
    rows = np.concatenate([rows, large])
    light = canvas.paint(rows, rng)
    canvas.label("galaxy", light > canvas.noise)
    canvas.label_boxes("galaxy nucleus", rows)


def _ghosts(canvas, rng):
    """Paint the ghosts of the brightest star; strong ones, as WFPC2's field flattener made."""
    band = canvas.config.band
    settings = Artefacts(
        ghost_share=(5e-4, 1.5e-3),
        ghost_radius=(12.0, 25.0),
        trails=0.0,
        moving_objects=0.0,
        zero_point=band.zero_point,
        faintest=band.limit,
        noise=canvas.noise,
        flag_limit=0.3,
        exposure_time=canvas.config.exposure_time,
        detector=canvas.config.detector,
    )
    well = canvas.camera.full_well / canvas.config.exposure_time
    brightest = _sources("star", [(x, y, n * well) for x, y, n in _WELLS[-1:]])
    flag, _ = add_artefacts(rng, canvas.scene, brightest, canvas.optics, settings)
    canvas.label("ghost", flag > 0)


def _trails(canvas, rng):
    """Paint satellites that cross the frame: one out of focus, a bright one nearly sharp."""
    profiles = [trail_profile(rng, canvas.psf.fwhm, PIXEL_SCALE) for _ in range(21)]
    profiles.sort(key=len)
    for (row, slope, peak), across in zip(_TRAILS, (profiles[10], profiles[0]), strict=True):
        light = np.zeros(SHAPE, dtype=np.float32)
        flag = np.zeros(SHAPE, dtype=np.int32)
        direction = np.array([1.0, slope]) / np.hypot(1.0, slope)
        along = np.full(SHAPE[1] + 64, peak * canvas.noise / across[0])
        start = np.array([-20.0, row])
        # Steps of the profile are a quarter of a pixel.
        add_line(light, flag, start, direction, along, across, 0.25, canvas.noise, TRAIL)
        canvas.scene += light
        canvas.label("satellite trail", flag > 0)
        trail = _sources("trail", [(319.5, row + 339.5 * slope, float(light.sum()))])
        trail["r_half"], trail["position_angle"] = 0.5 * SHAPE[1], np.arctan(slope)
        canvas.rows.append(trail)


def _moving(canvas, rng):
    """Paint objects that move by 1–34 px: up to the 60 arcsec/h of the main belt in 150 s."""
    light = np.zeros(SHAPE, dtype=np.float32)
    rows = []
    for number, length in enumerate(np.geomspace(1.0, 34.0, 10)):
        middle = 30 + 48 * (number % 5) + rng.random(), 355 + 42 * (number // 5) + rng.random()
        angle = rng.uniform(0.0, np.pi)
        steps = length * (np.arange(200) / 199 - 0.5)
        # As bright per pixel whatever the length.
        flux = 30.0 * canvas.noise / canvas.peak_share * max(1.0, 0.6 * length)
        x, y = middle[0] + steps * np.cos(angle), middle[1] + steps * np.sin(angle)
        parts, floor = np.full(200, flux / 200), 0.01 * canvas.noise / 200
        canvas.optics.add_points(light, x, y, parts, floor)
        rows.append(_sources("moving", [(*middle, flux)]))
        rows[-1]["r_half"], rows[-1]["position_angle"] = 0.5 * length, angle
    canvas.scene += light
    canvas.rows.extend(rows)
    canvas.label("moving object", light > canvas.noise)


# --- chip -----------------------------------------------------------------------------


def add_defects(canvas: Canvas, rng: np.random.Generator, chip: Chip) -> Chip:
    """Return the chip with hot pixels, bad columns and column lines in known places."""
    y, x, level, known = [], [], [], []
    flag, response = chip.flag.copy(), chip.response.copy()
    pattern = chip.column_pattern.copy()
    for name, first in _BANDS_OF_HOT.items():
        for number in range(24):
            y.append(first + 12 * (number // 12) + int(rng.integers(8)))
            x.append(20 + 22 * (number % 12) + int(rng.integers(16)))
            level.append(float(np.exp(rng.uniform(*np.log(_HOT_LEVELS[name])))))
            known.append(name != "new hot pixel")
            where = np.zeros(SHAPE, dtype=bool)
            where[y[-1], x[-1]] = True
            canvas.label(name, where)
            if known[-1]:
                flag[where] |= HOT if name == "hot pixel" else WARM
    for column, first, end, share in _BAD_COLUMNS:
        response[first:end, column] *= share
        flag[first:end, column] |= BAD
        canvas.label("bad column", flag & BAD > 0)
    for column, level_adu in _COLUMN_STREAKS.items():
        pattern[column] += level_adu
        where = np.zeros(SHAPE, dtype=bool)
        where[:, column] = True
        canvas.label("column streak", where)
    return replace(
        chip,
        flag=flag,
        response=response,
        column_pattern=pattern,
        extra_dark=(np.array(y), np.array(x), np.array(level)),
        known_dark=np.array(known),
    )


def read_chip(canvas: Canvas, chip: Chip) -> Readout:
    """Read the chip; label the streaks, which are what differs from one without streaks."""
    nothing = np.zeros(SHAPE, dtype=np.float32)
    time, seeds = canvas.config.exposure_time, [ZOO_SEED, canvas.config.seed, 1]
    with_streaks, without = (
        expose(np.random.default_rng(seeds), canvas.scene.copy(), nothing, camera, chip, time)
        for camera in (canvas.camera, replace(canvas.camera, streaks=0.0))
    )
    differs = with_streaks.image - without.image > 0.3 * canvas.noise
    canvas.label("row streak", binary_opening(differs, np.ones((1, 9))))
    canvas.label("column streak", binary_opening(differs, np.ones((9, 1))))
    return with_streaks


def label_readout(canvas: Canvas, readout: Readout) -> None:
    """Label seams, saturation and the ends of bleed trails."""
    where = np.zeros(SHAPE, dtype=bool)
    row, column = (
        channel_edges(n, parts)[1]
        for n, parts in zip(SHAPE, canvas.camera.channels, strict=True)
    )
    where[row - 1 : row + 1] = True
    where[:, column - 1 : column + 1] = True
    canvas.label("channel seam", where)
    saturated = readout.flag & SATURATED > 0
    canvas.label("saturated star", binary_dilation(saturated, np.ones((3, 3))))
    # A run along a column that is longer than wide stars are; its end and what it sheds.
    runs = binary_opening(saturated, np.ones((8, 1)))
    ends = np.zeros_like(runs)
    ends[1:] |= runs[1:] & ~runs[:-1]
    ends[:-1] |= runs[:-1] & ~runs[1:]
    canvas.label("bleed end", binary_dilation(ends, np.ones((7, 1))))


PAINTERS = (_star_grid, _pairs, _saturated, _galaxies, _ghosts, _trails, _moving)
"""What puts light on a canvas: each is called with the canvas and a generator of its own."""
