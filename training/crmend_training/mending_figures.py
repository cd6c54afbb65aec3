"""A picture of the mending evaluation: Δmag against distance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from crmend_training.mending_science import select

_COLOURS = {"contaminated": "tab:blue", "5×5 median": "tab:green", "ours": "tab:red"}


def draw_science(path: Path, rows: Sequence[dict]) -> None:
    """Draw Δmag in the fixed aperture against distance, as the paper's Figure 5."""
    cells = sorted({(row["type"], row["wanted"]) for row in rows}, reverse=True)
    figure, panels = plt.subplots(
        1, len(cells), figsize=(3.6 * len(cells), 3.4), squeeze=False, layout="constrained"
    )
    for panel, (kind, wanted) in zip(panels.flat, cells, strict=True):
        for method, colour in _COLOURS.items():
            chosen = {"type": kind, "wanted": wanted, "method": method}
            _draw_method(panel, rows, chosen, colour)
        panel.axhline(0.0, color="black", linewidth=0.5)
        panel.set(title=f"{kind}, mag {wanted:g}", xlabel="distance [px]")
        panel.set_yscale("symlog", linthresh=0.01)
    panels[0, 0].set_ylabel("mended − CR-free [mag]")
    panels[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_method(panel: plt.Axes, rows: Sequence[dict], chosen: dict, colour: str) -> None:
    """Draw the points of one method, its running median and 16–84 % range."""
    x, y = (select(rows, name, **chosen) for name in ("distance", "aperture"))
    good = np.isfinite(y)
    x, y = x[good], y[good]
    panel.plot(x, y, ".", color=colour, markersize=2, alpha=0.4)
    edges = np.linspace(0.0, 15.0, 11)
    lines = []
    for low, high in itertools.pairwise(edges):
        inside = y[(x >= low) & (x < high)]
        if inside.size >= 5:
            lines.append((0.5 * (low + high), *np.percentile(inside, [16, 50, 84])))
    if lines:
        centre, lower, middle, upper = np.array(lines).T
        panel.fill_between(centre, lower, upper, color=colour, alpha=0.15, linewidth=0)
        panel.plot(centre, middle, color=colour, label=chosen["method"])
