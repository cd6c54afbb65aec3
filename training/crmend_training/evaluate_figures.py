"""Figures of `tools/evaluate_detection.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from crmend_training import evaluate
from crmend_training.evaluate_detection import INTENSITIES, SHAPES, Tally
from crmend_training.evaluate_real import RealFrame

WINDOW = 256
"""Side of the pictures of real exposures [px]."""

_COLOURS = {"tracks": "tab:purple", "points": "tab:green", None: "black"}
_HIT, _FALSE, _MISSED = (0.1, 0.85, 0.2), (1.0, 0.15, 0.1), (0.2, 0.6, 1.0)


def draw_intensities(ours: Mapping[str, Mapping[str, Tally]], path: Path) -> None:
    """Draw recall against charge, a panel per detector: the paper's Figure 3."""
    names = sorted({name for tallies in ours.values() for name in tallies})
    columns = min(6, len(names))
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.0 * columns + 1, 2.4 * rows + 0.8),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    centres = np.sqrt(np.array(INTENSITIES[1:]) * np.array(INTENSITIES[:-1]))
    for panel, name in zip(panels.flat, names, strict=False):
        for quality, style in (("reference", ":"), ("fast", "-")):
            if name in ours.get(quality, {}):
                for shape in (None, *SHAPES):
                    recall = ours[quality][name].recall_by_intensity(shape)
                    label = f"{shape or 'all'}, {quality}"
                    panel.plot(
                        centres, recall, style, color=_COLOURS[shape], label=label, lw=1.2
                    )
        panel.axvline(evaluate.RECALL_ABOVE, color="tab:red", ls="--", lw=0.8)
        panel.axvline(20.0, color="0.6", ls=":", lw=0.8)
        panel.set(xscale="log", ylim=(0.0, 1.02), title=f"detector {name}")
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    figure.supxlabel("CR charge [e-/px]")
    figure.supylabel("recall")
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=6
    )
    _save(figure, path)


def draw_reliability(ours: Mapping[str, Mapping[str, Tally]], path: Path) -> None:
    """Draw the share of CR pixels against probability, a line per detector."""
    figure, panels = plt.subplots(
        1, len(ours), figsize=(5.5 * len(ours), 5.2), squeeze=False, layout="constrained"
    )
    for panel, (quality, tallies) in zip(panels.flat, ours.items(), strict=True):
        for _, tally in sorted(tallies.items()):
            total, predicted, share = evaluate.reliability(tally.counter)
            kept = total >= 30
            panel.plot(predicted[kept], share[kept], color="0.65", lw=0.9)
        every = evaluate.pooled_counts([tally.counter for tally in tallies.values()])
        _, predicted, share = evaluate.reliability(every)
        error = evaluate.calibration_error(every)
        above = evaluate.calibration_error(every, 0.05)
        panel.plot(predicted, share, "o-", color="tab:blue", label="all detectors")
        panel.plot([0, 1], [0, 1], "k--", lw=0.8, label="calibrated")
        panel.set(
            title=f"{quality}: ECE {error:.4f}, where p > 0.05 {above:.4f}",
            xlabel="cr_probability", ylabel="share of pixels > 1 e-", xlim=(0, 1), ylim=(0, 1),
        )  # fmt: skip
        panel.grid(alpha=0.3)
        panel.legend()
    _save(figure, path)


def draw_real(
    frame: RealFrame, masks: Mapping[str, NDArray[np.bool_]], path: Path, title: str
) -> None:
    """Draw the part of a real exposure with most CR pixels: image, truth, and masks over it."""
    window = busiest_window(frame.truth & ~frame.ignore, WINDOW)
    pixels = frame.filled[window]
    low, high = np.percentile(pixels, [1.0, 99.7])
    grey = np.arcsinh(8 * np.clip((pixels - low) / max(high - low, 1e-6), -0.05, 2.0))
    grey = np.clip(grey / np.arcsinh(8.0), 0, 1)
    count = 2 + len(masks)
    across = min(count, 4)
    down = -(-count // across)
    figure, grid = plt.subplots(
        down, across, figsize=(5.5 * across, 5.9 * down + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    panels = grid.flat
    for panel in panels[count:]:
        panel.set_axis_off()
    truth, ignore = frame.truth[window], frame.ignore[window]
    _show(panels[0], grey, {}, "image")
    _show(panels[1], grey, {_HIT: truth & ~ignore, (0.55, 0.45, 0.0): ignore}, "truth (ochre: left out)")  # fmt: skip  # noqa: E501
    for panel, (name, mask) in zip(panels[2:count], masks.items(), strict=True):
        found = mask[window] & ~ignore
        overlay = {
            _MISSED: truth & ~ignore & ~found,
            _FALSE: found & ~truth,
            _HIT: found & truth,
        }
        _show(panel, grey, overlay, f"{name}: found, missed (blue), false (red)")
    rows, columns = window
    figure.suptitle(f"{title}, rows from {rows.start}, columns from {columns.start}")
    _save(figure, path)


def busiest_window(mask: NDArray[np.bool_], side: int) -> tuple[slice, slice]:
    """Return the window of side × side with most True pixels, in steps of a quarter side."""
    total = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    ny, nx = mask.shape
    height, width = min(side, ny), min(side, nx)
    ys = sorted({*range(0, ny - height + 1, max(side // 4, 1)), ny - height})
    xs = sorted({*range(0, nx - width + 1, max(side // 4, 1)), nx - width})
    y, x = max(
        ((y, x) for y in ys for x in xs),
        key=lambda c: total[c[0] + height, c[1] + width] - total[c[0], c[1] + width]
        - total[c[0] + height, c[1]] + total[c[0], c[1]],
    )  # fmt: skip
    return slice(y, y + height), slice(x, x + width)


def _show(
    panel: Axes,
    grey: NDArray[np.floating],
    overlay: Mapping[tuple[float, float, float], NDArray[np.bool_]],
    title: str,
) -> None:
    """Show a grey image with pixels in colours over it."""
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    for colour, mask in overlay.items():
        picture[mask] = colour
    panel.imshow(picture, origin="lower", interpolation="nearest")
    panel.set_title(title, fontsize=11)
    panel.set_axis_off()


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=80)
    plt.close(figure)
