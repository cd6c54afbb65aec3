"""Contact sheet of mended sources: stars on the left, galaxies on the right, worst below."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from crmend_training.mending_frames import HitFrame, Mended

MEDIAN = "5×5 median"
COLUMNS = ("contaminated", "CR-free", MEDIAN, "ours")
RESIDUALS = (MEDIAN, "ours")
"""Shown as differences from CR-free, in the last columns."""

BINS = (0.0, 18.0, 20.0, 22.0, 40.0)
"""Edges of the bins from which examples are taken [mag]."""

RANGE = 5.0
"""Of the residuals, in units of each pixel's noise."""

_HALF = 18  # half width of a stamp [px of the frame]
_ZOOM = 3
_SIDE, _GAP, _LABEL, _HEADER = 2 * _HALF * _ZOOM, 4, 124, 70  # px of the sheet
_BLOCK = _LABEL + (len(COLUMNS) + len(RESIDUALS)) * (_SIDE + _GAP)
_DPI = 100


@dataclass(frozen=True, eq=False)
class Example:
    """One source: its row of `mending_frames.score_sources`, and what the sheet shows.

    ``images`` are (36, 36), without background, in units of the background noise; ``noise`` is
    that of each pixel with the photons of the CR-free source; ``mask`` is True = mended.
    """

    row: dict
    change: dict[str, float]
    images: dict[str, NDArray[np.float32]]
    noise: NDArray[np.float32]
    mask: NDArray[np.bool_]


class Gallery:
    """Collects candidates frame by frame, so that few stamps are held.

    Parameters
    ----------
    rng : numpy.random.Generator
        Which examples are taken.
    typical : int
        Sources of each type and magnitude bin that are taken at random.
    worst : int
        Sources of each type with the largest |Δm| of ours.
    """

    def __init__(self, rng: np.random.Generator, typical: int = 2, worst: int = 4):
        self.rng, self.typical, self.worst = rng, typical, worst
        self.candidates: list[Example] = []

    def add(self, frame: HitFrame, mended: Mended, name: str, rows: Sequence[dict]) -> None:
        """Take examples from a frame; ``name`` is that of its mask in the rows."""
        known = [row for row in rows if np.isfinite(row["aperture"]["CR-free"])]
        changes = {id(row): _changes(row, name) for row in known}
        for kind in ("star", "galaxy"):
            own = [row for row in known if row["type"] == kind]
            own = _worst_first(own, [changes[id(row)] for row in own])
            chosen = own[: self.worst] + self._at_random(own[self.worst :])
            self.candidates += [
                _example(frame, mended, row, changes[id(row)]) for row in chosen
            ]

    def examples(self, kind: str) -> tuple[list[Example], list[Example]]:
        """Return typical sources of a type from bright to faint, and the worst."""
        own = [one for one in self.candidates if one.row["type"] == kind]
        own = _worst_first(own, [one.change for one in own])
        worst, rest = own[: self.worst], own[self.worst :]
        by_row = {id(one.row): one for one in rest}
        typical = [by_row[id(row)] for row in self._at_random([one.row for one in rest])]
        return sorted(typical, key=lambda one: one.row["mag"]), worst

    def _at_random(self, rows: Sequence[dict]) -> list[dict]:
        """Return rows from every magnitude bin; those that are hit near the core first."""
        chosen = []
        for low, high in itertools.pairwise(BINS):
            own = [row for row in rows if low <= row["mag"] < high]
            own = [own[k] for k in self.rng.permutation(len(own))]
            chosen += sorted(own, key=lambda row: not row["inside"])[: self.typical]
        return chosen


def _worst_first(items: Sequence, changes: Sequence[dict[str, float]]) -> list:
    """Return items by |Δm| of ours, largest first; what has none, was lost, comes before."""
    size = [abs(change["ours"]) for change in changes]
    order = np.argsort([-np.inf if np.isnan(one) else -one for one in size], kind="stable")
    return [items[k] for k in order]


def _changes(row: dict, name: str) -> dict[str, float]:
    """Return mended − CR-free magnitude in the aperture, by method."""
    found = row["aperture"]
    methods = [method for method in RESIDUALS if f"{name}: {method}" in found]
    return {method: found[f"{name}: {method}"] - found["CR-free"] for method in methods}


def _example(frame: HitFrame, mended: Mended, row: dict, change: dict[str, float]) -> Example:
    """Cut the stamps of a source out of the frame."""
    ny, nx = frame.clean.shape
    y = min(max(round(row["y"]) - _HALF, 0), ny - 2 * _HALF)
    x = min(max(round(row["x"]) - _HALF, 0), nx - 2 * _HALF)
    window = np.s_[y : y + 2 * _HALF, x : x + 2 * _HALF]

    def cut(image: NDArray[np.float32]) -> NDArray[np.float32]:
        stamp = np.nan_to_num(image[window] - frame.background[window])
        return (stamp / frame.noise).astype(np.float32)

    images = {name: cut(mended.images[name]) for name in COLUMNS if name in mended.images}
    images["CR-free"] = cut(frame.clean)
    photons = np.maximum(images["CR-free"], 0.0) / (frame.noise * frame.electrons)
    noise = np.sqrt(1.0 + photons).astype(np.float32)
    return Example(row, change, images, noise, mended.mask[window].copy())


# --- drawing ----------------------------------------------------------------------------


def draw_sheet(path: Path, gallery: Gallery) -> None:
    """Draw stars and galaxies side by side, 1600 px wide."""
    blocks = [gallery.examples(kind) for kind in ("star", "galaxy")]
    typical_lines = max(len(typical) for typical, _ in blocks)
    lines = max(typical_lines + max(len(worst) for _, worst in blocks), 1)
    width, height = 2 * _BLOCK, _HEADER + lines * (_SIDE + _GAP)
    figure = plt.figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = _Canvas(figure, width, height)
    for number, (name, (typical, worst)) in enumerate(
        zip(("Stars", "Galaxies"), blocks, strict=True)
    ):
        left = number * _BLOCK
        _draw_header(canvas, left, name)
        for line, one in enumerate(typical):
            _draw_line(canvas, left, line, one, "")
        for line, one in enumerate(worst):
            _draw_line(canvas, left, typical_lines + line, one, f"worst {line + 1}")
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


@dataclass(frozen=True)
class _Canvas:
    """A figure in pixels from its upper left corner."""

    figure: plt.Figure
    width: int
    height: int

    def panel(self, x: float, y: float) -> plt.Axes:
        """Add an empty panel for one stamp."""
        box = (
            x / self.width,
            1.0 - (y + _SIDE) / self.height,
            _SIDE / self.width,
            _SIDE / self.height,
        )
        panel = self.figure.add_axes(box)
        panel.set(xticks=[], yticks=[])
        return panel

    def write(self, x: float, y: float, text: str, **style: object) -> None:
        """Write text whose upper left corner is at a place."""
        place = x / self.width, 1.0 - y / self.height
        self.figure.text(*place, text, va="top", **style)


def _draw_header(canvas: _Canvas, left: int, name: str) -> None:
    canvas.write(left + 4, 4, name, fontsize=13, weight="bold")
    note = f"residuals: −{RANGE:g} (blue) to +{RANGE:g} (red) times each pixel's noise"
    canvas.write(left + _LABEL, 8, f"red outline: cosmic ray; {note}", fontsize=8)
    titles = ["before", "CR-free", MEDIAN, "ours"]
    titles += [f"{name} −\nCR-free" for name in RESIDUALS]
    for number, title in enumerate(titles):
        x = left + _LABEL + number * (_SIDE + _GAP) + _SIDE / 2
        canvas.write(x, 32, title, fontsize=9, ha="center")


def _draw_line(canvas: _Canvas, left: int, line: int, one: Example, title: str) -> None:
    """Draw one source."""
    y = _HEADER + line * (_SIDE + _GAP)
    row = one.row
    words = [title] if title else []
    words += [f"{row['mag']:.2f} mag", f"S/N {row['snr']:.0f}", f"chip {row['detector']}", "Δm"]
    words += [f"{'median' if n == MEDIAN else n} {one.change[n]:+.3f}" for n in one.change]
    colour = "tab:red" if title else "black"
    canvas.write(left + 4, y + 2, "\n".join(words), fontsize=8, color=colour, linespacing=1.1)
    clean = one.images["CR-free"]
    limits = np.arcsinh(np.array([-3.0, max(float(clean.max()), 10.0)]) / 3.0)
    panels = [
        canvas.panel(left + _LABEL + number * (_SIDE + _GAP), y)
        for number in range(len(COLUMNS) + len(RESIDUALS))
    ]
    for panel, name in zip(panels, COLUMNS, strict=False):
        if name in one.images:
            shown = np.arcsinh(one.images[name] / 3.0)
            panel.imshow(shown, origin="lower", cmap="gray", vmin=limits[0], vmax=limits[1])
    _outline(panels[0], one.mask)
    for panel, name in zip(panels[len(COLUMNS) :], RESIDUALS, strict=True):
        if name in one.images:
            difference = np.where(one.mask, (one.images[name] - clean) / one.noise, 0.0)
            limit = {"vmin": -RANGE, "vmax": RANGE}
            panel.imshow(difference, origin="lower", cmap="RdBu_r", **limit)
            _outline(panel, one.mask, "0.6")


def _outline(panel: plt.Axes, mask: NDArray[np.bool_], colour: str = "red") -> None:
    """Draw the edges of the mask's pixels."""
    if mask.any():
        fine = np.kron(np.pad(mask, 1), np.ones((4, 4)))
        size = mask.shape[0] + 0.5
        box = (-1.5, size, -1.5, size)
        style = {"colors": colour, "linewidths": 0.7}
        panel.contour(fine, levels=[0.5], extent=box, origin="lower", **style)
        panel.set(xlim=(-0.5, size - 1.0), ylim=(-0.5, size - 1.0))
