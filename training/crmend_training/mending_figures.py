"""Pictures of the mending evaluation: a contact sheet, and Δmag against distance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from crmend_training.mending_science import select

COLUMNS = ("contaminated", "CR-free", "5×5 median", "biharmonic", "ours")
"""Of the contact sheet; the residuals of `RESIDUALS` follow."""

RESIDUALS = ("5×5 median", "biharmonic", "ours")

_COLOURS = {"contaminated": "tab:blue", "5×5 median": "tab:green", "ours": "tab:red"}
_RESIDUAL_RANGE = 10.0  # in units of the noise


def choose_examples(
    rows: Sequence[dict], rng: np.random.Generator, random: int = 4, worst: int = 4
) -> list[tuple[str, dict]]:
    """Return stars, then galaxies: some at random, then the worst of ours by |Δmag|."""
    chosen = []
    for kind in ("star", "galaxy"):
        own = [row for row in rows if row["type"] == kind and "crops" in row]
        own.sort(key=lambda row: -np.nan_to_num(abs(change_of(row)), nan=np.inf))
        rest = own[worst:]
        picked = rng.permutation(len(rest))[:random]
        chosen += [(f"{kind}, random", rest[k]) for k in picked]
        chosen += [(f"{kind}, worst", row) for row in own[:worst]]
    return chosen


def change_of(row: dict, key: str = "true: ours") -> float:
    """Return mended − CR-free magnitude in the aperture."""
    return row["aperture"][key] - row["aperture"]["CR-free"]


def draw_sheet(path: Path, examples: Sequence[tuple[str, dict]]) -> None:
    """Draw one row per source: before, CR-free, mended, and mended − CR-free.

    Stamps are 40×40 px, asinh-stretched on the range of the CR-free one; residuals run from
    −10 (blue) to 10 (red) times the noise.
    """
    names = [name for name in COLUMNS if not examples or name in examples[0][1]["crops"]]
    residuals = [name for name in RESIDUALS if name in names]
    size = (len(names) + len(residuals), max(len(examples), 1))
    figure, panels = plt.subplots(
        size[1], size[0], figsize=(1.5 * size[0] + 1.2, 1.55 * size[1]), squeeze=False
    )
    for line, (label, row) in zip(panels, examples, strict=False):
        _draw_row(line, label, row, names, residuals)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    titles = names + [f"residual:\n{name}" for name in residuals]
    for panel, name in zip(panels[0], titles, strict=True):
        panel.set_title(name, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_row(
    panels: NDArray, label: str, row: dict, names: Sequence[str], residuals: Sequence[str]
) -> None:
    """Draw the stamps of one source."""
    crops = row["crops"]
    clean = np.nan_to_num(crops["CR-free"])
    low, high = -3.0, max(float(clean.max()), 10.0)
    for panel, name in zip(panels, names, strict=False):
        shown = np.arcsinh(np.clip(np.nan_to_num(crops[name]), low, high) / 3.0)
        limits = np.arcsinh(np.array([low, high]) / 3.0)
        panel.imshow(shown, origin="lower", cmap="gray", vmin=limits[0], vmax=limits[1])
        if name not in ("contaminated", "CR-free"):
            change = change_of(row, f"true: {name}")
            panel.text(1, 1, f"{change:+.3f}", color="yellow", fontsize=7)
    panels[0].contour(crops["mask"], levels=[0.5], colors="tab:red", linewidths=0.5)
    for panel, name in zip(panels[len(names) :], residuals, strict=False):
        difference = np.where(crops["mask"], crops[name] - crops["CR-free"], 0.0)
        panel.imshow(
            difference,
            origin="lower",
            cmap="RdBu_r",
            vmin=-_RESIDUAL_RANGE,
            vmax=_RESIDUAL_RANGE,
        )
    title = f"{label}\n{row['detector']}: {row['mag']:.1f} mag\nS/N {row['snr']:.0f}"
    panels[0].set_ylabel(title, fontsize=7)


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
