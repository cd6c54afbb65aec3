"""The quick-look picture: before, the cosmic rays found, and after.

The whole frame is shown reduced, then the cutouts with the most cosmic rays on sources and
off them.  Before and after always share one stretch, and the origin is at the lower left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crmend._normalise import Scale
from crmend.cutouts import CUTOUT
from crmend.inpaint import MEDIAN, NETWORK

_PANEL = 480  # side of a panel of the whole frame [screen px]
_ZOOM = 236  # side of a panel of a cutout [screen px]
_GAP, _MARGIN = 12, 24
_WIDTH = 3 * _PANEL + 2 * _GAP + 2 * _MARGIN
_MAX_CUTOUTS = 4
_BRIGHT = 400.0  # signal [noise units] above which a source weighs no more

_PAPER = (15, 18, 24)
_INK, _FAINT = (232, 236, 241), (150, 160, 172)
_FRAME = (62, 70, 82)
_COLOURS = {MEDIAN: (86, 190, 232), NETWORK: (255, 176, 64)}
_NO_DATA = (74, 32, 48)

# Stretch limits: sky minus 2 sigma is black; the brightest 0.3 % and at least 15 sigma white.
_BLACK_SIGMA, _WHITE_SIGMA, _WHITE_PERCENTILE = -2.0, 15.0, 99.7
# Least brightness of a square of the reduced mask with a single hit, and the hits at which a
# square of a nearly empty mask has full brightness.
_FAINTEST, _FAINTEST_FULL = 0.35, 4
_HALF_MAX = 60_000.0  # below the largest float16
_BAND = 512


@dataclass(frozen=True, eq=False)
class Before:
    """What the picture needs to know of a frame before it is cleaned in place.

    Attributes
    ----------
    values : (ny, nx) float16 array
        (image - background) / noise, NaN where the image is not finite: good to three
        digits, which is more than a screen shows, at half the memory of the frame.
    scale : Scale
        Background and noise, in the image's unit.
    """

    values: NDArray[np.float16]
    scale: Scale


@dataclass(frozen=True, eq=False)
class Chip:
    """One image of the picture.

    Attributes
    ----------
    before : Before
        From `keep_before`.
    after : (ny, nx) float32 array
        The cleaned image, in the unit that it had.
    method : (ny, nx) uint8 array
        0 = untouched, `MEDIAN` or `NETWORK` = cosmic ray, and what mended it.
    title : str
        Which frame this is.
    facts : tuple of str
        Lines of figures under the title.
    """

    before: Before
    after: NDArray[np.float32]
    method: NDArray[np.uint8]
    title: str
    facts: tuple[str, ...]


def keep_before(image: NDArray[np.float32], scale: Scale) -> Before:
    """Keep a small copy of an image, (ny, nx), before it is cleaned."""
    values = np.empty(image.shape, dtype=np.float16)
    for start in range(0, image.shape[0], _BAND):
        rows = slice(start, start + _BAND)
        values[rows] = _in_noise(image[rows], scale)
    return Before(values, scale)


def stack(blocks: list[Image.Image]) -> Image.Image:
    """Put the pictures of several chips below each other."""
    height = sum(block.height for block in blocks)
    picture = Image.new("RGB", (_WIDTH, height), _PAPER)
    top = 0
    for block in blocks:
        picture.paste(block, (0, top))
        top += block.height
    return picture


# --- one chip -----------------------------------------------------------------------


def draw_chip(chip: Chip) -> Image.Image:
    """Draw the picture of one image."""
    centres = choose_cutouts(chip.method, chip.after, chip.before.scale)
    overview = _overview(chip, centres)
    rows = [_cutout_row(chip, centres, first) for first in range(0, len(centres), 2)]
    head = _MARGIN + 40 + 24 * len(chip.facts)
    height = head + sum(part.height + 16 for part in [overview, *rows]) + 12
    block = Image.new("RGB", (_WIDTH, height), _PAPER)
    _heading(ImageDraw.Draw(block), chip)
    top = head
    for part in [overview, *rows]:
        block.paste(part, (_MARGIN, top))
        top += part.height + 16
    return block


def _heading(draw: ImageDraw.ImageDraw, chip: Chip) -> None:
    draw.text((_MARGIN, _MARGIN - 6), chip.title, fill=_INK, font=_font(26))
    for number, fact in enumerate(chip.facts):
        draw.text((_MARGIN, _MARGIN + 30 + 24 * number), fact, fill=_FAINT, font=_font(17))
    x = _WIDTH - _MARGIN - 200
    for method, label in ((NETWORK, "mended by the network"), (MEDIAN, "mended by the median")):
        y = _MARGIN + (0 if method == NETWORK else 26)
        draw.rectangle((x, y, x + 14, y + 14), fill=_COLOURS[method])
        draw.text((x + 22, y - 3), label, fill=_INK, font=_font(17))


def _overview(chip: Chip, centres: list[tuple[int, int]]) -> Image.Image:
    """Draw the whole frame, reduced: before, mask, after."""
    ny, nx = chip.after.shape
    step = math.ceil(max(ny, nx) / _PANEL)
    before = _reduce_mean(chip.before.values, step, None)
    after = _reduce_mean(chip.after, step, chip.before.scale)
    limits = _limits(after)
    width, height = _fit(nx, ny, _PANEL)
    panels = [
        _grey(before, limits),
        _coloured(_reduce_max(chip.method, step), _visibility(chip.method, step)),
        _grey(after, limits),
    ]
    row = Image.new("RGB", (3 * _PANEL + 2 * _GAP, height + 28), _PAPER)
    draw = ImageDraw.Draw(row)
    for number, (panel, label) in enumerate(
        zip(panels, ("before", "cosmic rays", "after"), strict=True)
    ):
        left = number * (_PANEL + _GAP) + (_PANEL - width) // 2
        row.paste(_resize(panel, (width, height), smooth=number != 1), (left, 26))
        draw.rectangle((left, 26, left + width - 1, 25 + height), outline=_FRAME)
        draw.text((left, 2), label, fill=_INK, font=_font(17))
        for index, centre in enumerate(centres, start=1):
            _mark(draw, (left, 26, width, height), chip.after.shape, centre, str(index))
    draw.text(
        (3 * _PANEL + 2 * _GAP - 4, 2),
        f"{nx} x {ny} px",
        fill=_FAINT,
        font=_font(15),
        anchor="ra",
    )
    return row


def _mark(
    draw: ImageDraw.ImageDraw,
    area: tuple[int, int, int, int],
    shape: tuple[int, ...],
    centre: tuple[int, int],
    label: str,
) -> None:
    """Mark on a panel (left, top, width, height) where a cutout is: a box and its number."""
    left, top, width, height = area
    rows, columns = cutout_view(shape, *centre)
    zoom_y, zoom_x = height / shape[0], width / shape[1]
    middle = (
        left + zoom_x * (columns.start + columns.stop) / 2,
        top + height - zoom_y * (rows.start + rows.stop) / 2,
    )
    half_x = max(8.0, zoom_x * (columns.stop - columns.start) / 2)
    half_y = max(8.0, zoom_y * (rows.stop - rows.start) / 2)
    x0, x1 = max(middle[0] - half_x, left), min(middle[0] + half_x, left + width - 1)
    y0, y1 = max(middle[1] - half_y, top), min(middle[1] + half_y, top + height - 1)
    draw.rectangle((x0, y0, x1, y1), outline=_INK)
    right = x1 + 20 < left + width
    draw.text(
        (x1 + 5 if right else x0 - 5, middle[1]),
        label,
        fill=_INK,
        font=_font(15),
        anchor="lm" if right else "rm",
        stroke_width=2,
        stroke_fill=_PAPER,
    )


def _cutout_row(chip: Chip, centres: list[tuple[int, int]], first: int) -> Image.Image:
    """Draw two cutouts side by side, three panels each."""
    row = Image.new("RGB", (3 * _PANEL + 2 * _GAP, _ZOOM + 28), _PAPER)
    draw = ImageDraw.Draw(row)
    half_width = 3 * _ZOOM + _GAP
    for place, index in enumerate(range(first, min(first + 2, len(centres)))):
        left = place * (half_width + 2 * _GAP)
        y, x = centres[index]
        label = f"{index + 1}   around pixel ({x + 1}, {y + 1})"
        draw.text((left, 2), label, fill=_INK, font=_font(15))
        for number, panel in enumerate(_cutout_panels(chip, y, x)):
            edge = left + number * (_ZOOM + _GAP // 2)
            row.paste(_resize(panel, (_ZOOM, _ZOOM), smooth=False), (edge, 26))
            draw.rectangle((edge, 26, edge + _ZOOM - 1, 25 + _ZOOM), outline=_FRAME)
    return row


def _cutout_panels(chip: Chip, y: int, x: int) -> list[Image.Image]:
    view = cutout_view(chip.after.shape, y, x)
    # Rounded like the copy of before, so that they differ at cosmic rays only.
    after = keep_before(chip.after[view], chip.before.scale).values.astype(np.float32)
    limits = _limits(after)
    return [
        _grey(chip.before.values[view].astype(np.float32), limits),
        _coloured(chip.method[view]),
        _grey(after, limits),
    ]


def cutout_view(shape: tuple[int, ...], y: int, x: int) -> tuple[slice, slice]:
    """Return the cutout around a pixel, moved inward at the frame's edges."""
    sides = [min(CUTOUT, length) for length in shape]
    starts = [
        min(max(centre - side // 2, 0), length - side)
        for centre, side, length in zip((y, x), sides, shape, strict=True)
    ]
    return (
        slice(starts[0], starts[0] + sides[0]),
        slice(starts[1], starts[1] + sides[1]),
    )


def choose_cutouts(
    method: NDArray[np.uint8], after: NDArray[np.float32], scale: Scale
) -> list[tuple[int, int]]:
    """Choose what to show enlarged: two places on sources, two off them.

    The frame is cut into squares of half a cutout; those with the most pixels mended by
    the network come first, where pixels on bright sources weigh more, then those with the
    most mended by the median.

    Parameters
    ----------
    method : (ny, nx) uint8 array
        As in `Chip`.
    after : (ny, nx) float32 array
        The cleaned image.
    scale : Scale
        Its background and noise.

    Returns
    -------
    list of (y, x)
        Centres [px, first pixel = 0], at most four, no two closer than a cutout.
    """
    nx = method.shape[1]
    side = CUTOUT // 2
    chosen: list[tuple[int, int]] = []
    for value, wanted in ((NETWORK, _MAX_CUTOUTS // 2), (MEDIAN, _MAX_CUTOUTS)):
        flat = np.flatnonzero(method == value)
        y, x = np.divmod(flat, nx)
        block = (y // side) * (nx // side + 1) + x // side
        weights = None
        if value == NETWORK:
            signal = np.nan_to_num(_in_noise(after.flat[flat], scale))
            weights = np.sqrt(np.clip(signal, 1.0, _BRIGHT))
        scores = np.bincount(block, weights=weights, minlength=1)
        for best in np.argsort(-scores, kind="stable")[: 16 * _MAX_CUTOUTS]:
            if scores[best] == 0 or len(chosen) >= wanted:
                break
            inside = block == best
            centre = (int(np.median(y[inside])), int(np.median(x[inside])))
            if all(_apart(centre, other) for other in chosen):
                chosen.append(centre)
    return chosen


def _apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) >= CUTOUT


# --- arrays to pixels ---------------------------------------------------------------


def _in_noise(image: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Return the image in units of its noise, clipped to what float16 holds."""
    values = (image - np.float32(scale.background)) / np.float32(scale.noise)
    values = np.clip(values, -_HALF_MAX, _HALF_MAX)
    values[~np.isfinite(image)] = np.nan
    return np.asarray(values, dtype=np.float32)


def _reduce_mean(values: NDArray[Any], step: int, scale: Scale | None) -> NDArray[np.float32]:
    """Average squares of `step` pixels without the pixels that are not finite."""
    ny, nx = values.shape
    out = np.empty((math.ceil(ny / step), math.ceil(nx / step)), dtype=np.float32)
    edges = np.arange(0, nx, step)
    for row in range(out.shape[0]):
        band = values[row * step : (row + 1) * step]
        band = band.astype(np.float32) if scale is None else _in_noise(band, scale)
        good = np.isfinite(band)
        total = np.add.reduceat(np.where(good, band, 0.0).sum(axis=0), edges)
        count = np.add.reduceat(good.sum(axis=0), edges)
        out[row] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def _reduce_max(method: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Keep the highest value of each square, so that thin tracks stay visible."""
    ny, nx = method.shape
    rows = np.maximum.reduceat(method, np.arange(0, ny, step), axis=0)
    return np.asarray(np.maximum.reduceat(rows, np.arange(0, nx, step), axis=1))


def _visibility(method: NDArray[np.uint8], step: int) -> NDArray[np.float32]:
    """Return how bright each square of the mask is: by the share of it that was hit.

    A single hit pixel is still seen, and a full frame, where most squares are hit, is not
    one block of colour.
    """
    rows = np.add.reduceat(
        method > 0, np.arange(0, method.shape[0], step), axis=0, dtype=np.int32
    )
    hits = np.add.reduceat(rows, np.arange(0, method.shape[1], step), axis=1)
    brightest = max(float(np.percentile(hits, _WHITE_PERCENTILE)), min(step, _FAINTEST_FULL))
    return np.clip(np.sqrt(hits / brightest), _FAINTEST, 1.0).astype(np.float32)


def _limits(values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return black, white and the softening of the asinh stretch."""
    good = values[np.isfinite(values)]
    if good.size == 0:
        return 0.0, 1.0, 1.0
    sky = float(np.median(good))
    sigma = max(1.4826 * float(np.median(np.abs(good - sky))), 1e-3)
    white = max(float(np.percentile(good, _WHITE_PERCENTILE)), sky + _WHITE_SIGMA * sigma)
    return sky + _BLACK_SIGMA * sigma, white, 3.0 * sigma


def _grey(values: NDArray[np.float32], limits: tuple[float, float, float]) -> Image.Image:
    """Stretch with asinh; what is not finite becomes dark red.  Row 0 ends at the bottom."""
    black, white, softening = limits
    shown = np.arcsinh((values - black) / softening) / np.arcsinh((white - black) / softening)
    bad = ~np.isfinite(shown)
    grey = np.rint(255.0 * np.clip(np.where(bad, 0.0, shown), 0.0, 1.0)).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    pixels[bad] = _NO_DATA
    return Image.fromarray(np.ascontiguousarray(pixels[::-1]))


def _coloured(
    method: NDArray[np.uint8], visibility: NDArray[np.float32] | None = None
) -> Image.Image:
    """Colour the pixels by what mended them; row 0 ends at the bottom."""
    pixels = np.zeros((*method.shape, 3), dtype=np.float32)
    for value, colour in _COLOURS.items():
        pixels[method == value] = colour
    if visibility is not None:
        pixels *= visibility[..., None]
    return Image.fromarray(np.ascontiguousarray(pixels[::-1].astype(np.uint8)))


def _fit(nx: int, ny: int, side: int) -> tuple[int, int]:
    """Return width and height on the screen, the longer one equal to `side`."""
    longest = max(nx, ny)
    return max(1, round(side * nx / longest)), max(1, round(side * ny / longest))


def _resize(panel: Image.Image, size: tuple[int, int], *, smooth: bool) -> Image.Image:
    """Enlarge a panel; masks and cutouts keep their hard pixels."""
    kind = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return panel.resize(size, kind)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
