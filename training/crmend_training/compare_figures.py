"""Picture of `tools/compare_models.py`: cosmic rays, and what each model flags of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crmend_training.evaluate_real import RealFrame

SIDE = 24
"""Of the part that is shown around a cosmic ray [px]."""

_HIT, _FALSE, _MISSED, _UNSURE = (0.1, 0.85, 0.2), (1.0, 0.15, 0.1), (0.2, 0.6, 1.0), (0.5,) * 3


def draw_events(
    path: Path,
    frames: Sequence[RealFrame],
    masks: Mapping[str, Sequence[NDArray[np.bool_]]],
    most: int = 12,
) -> None:
    """Draw a column for each cosmic ray: the image, and below it what each model flags.

    Of all cosmic rays of the exposures, ordered by brightness, every so-many-th is shown, from
    the faintest to the brightest.

    Parameters
    ----------
    path : Path
        Of the picture.
    frames : sequence of RealFrame
    masks : mapping
        By model, a mask for each exposure.
    most : int
        Columns.
    """
    events = choose(frames, most)
    figure, panels = plt.subplots(
        1 + len(masks), len(events), squeeze=False, layout="constrained",
        figsize=(1.0 * len(events) + 0.3, 1.02 * (1 + len(masks)) + 0.25),
    )  # fmt: skip
    for column, (number, window) in zip(panels.T, events, strict=True):
        frame = frames[number]
        _show(column[0], grey(frame.filled[window]))
        for panel, model in zip(column[1:], masks, strict=True):
            _show(panel, coloured(frame, masks[model][number], window))
    for row, name in zip(panels, ("image", *masks), strict=True):
        row[0].set_ylabel(name, fontsize=7)
    figure.suptitle(
        "cosmic rays, the faintest on the left: found (green), missed (blue), false (red), "
        "left out (grey)",
        fontsize=7,
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def choose(frames: Sequence[RealFrame], most: int) -> list[tuple[int, tuple[slice, slice]]]:
    """Return frame numbers and windows of cosmic rays, evenly from faint to bright."""
    found = []
    for number, frame in enumerate(frames):
        labels, count = ndimage.label(frame.truth & ~frame.ignore, np.ones((3, 3)))
        light = ndimage.maximum(
            frame.filled - ndimage.median_filter(frame.filled, 7), labels, range(1, count + 1)
        )
        for one, (rows, columns) in zip(light, ndimage.find_objects(labels), strict=True):
            y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
            found.append((float(one), number, y, x))
    found.sort()
    kept = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).astype(int))
    return [(found[k][1], _window(found[k][2:], frames[found[k][1]].image.shape)) for k in kept]


def grey(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a window as shades between its faint pixels and its bright ones."""
    low, high = np.percentile(pixels, [2.0, 99.5])
    shade = np.clip((pixels - low) / max(high - low, 1e-6), 0.0, 1.0)
    return np.repeat(shade[..., np.newaxis], 3, axis=2)


def coloured(
    frame: RealFrame, mask: NDArray[np.bool_], window: tuple[slice, slice]
) -> NDArray[np.float64]:
    """Return a window with the pixels of a mask, and those that it misses, in colours."""
    picture = 0.6 * grey(frame.filled[window])
    ignore = frame.ignore[window]
    truth, flagged = frame.truth[window] & ~ignore, mask[window] & ~ignore
    for colour, pixels in (
        (_UNSURE, ignore),
        (_HIT, truth & flagged),
        (_FALSE, flagged & ~truth),
        (_MISSED, truth & ~flagged),
    ):
        picture[pixels] = colour
    return picture


def _window(centre: Sequence[int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return SIDE × SIDE pixels around a place, moved inside the frame."""
    starts = [
        max(0, min(place - SIDE // 2, length - SIDE))
        for place, length in zip(centre, shape, strict=True)
    ]
    return slice(starts[0], starts[0] + SIDE), slice(starts[1], starts[1] + SIDE)


def _show(panel: plt.Axes, picture: NDArray[np.float64]) -> None:
    panel.imshow(picture, origin="lower", interpolation="nearest")
    panel.set(xticks=[], yticks=[])
