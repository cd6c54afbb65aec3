"""Figures of the peers' benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from crmend_training import evaluate, evaluate_figures
from crmend_training.evaluate_real import RealFrame
from crmend_training.mending_frames import usable_sources
from crmend_training.peers_frames import BenchFrame
from crmend_training.peers_scores import FALSE_RATES, RECALL, Points

PICTURED = ("crmend own pack", "crmend generic", "deepCR ACS-WFC", "deepCR decam",
            "Cosmic-CoNN ground_imaging", "astroscrappy", "lacosmic")  # fmt: skip
"""Detections drawn over real exposures, where they ran."""

EXAMPLES = 3
"""Stars, and as many galaxies, on the sheet of mended sources."""

_HALF = 12  # px: half width of the stamps
_SWEEP = 300  # points of a network's curve that are drawn, at most


def colours_of(names: Sequence[str]) -> dict[str, Any]:
    """Return a colour per method: reds for ours, other hues for the peers."""
    ours = [name for name in names if name.startswith("crmend")]
    others = [name for name in names if name not in ours]
    reds = plt.get_cmap("autumn")(np.linspace(0.0, 0.6, max(len(ours), 1)))
    hues = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, max(len(others), 1)))
    return dict(zip(ours, reds, strict=False)) | dict(zip(others, hues, strict=False))


def draw_curves(curves: Mapping[str, Mapping[str, Points]], path: Path) -> None:
    """Draw precision against recall and recall against false rate, a row per group."""
    rows = len(curves)
    figure, panels = plt.subplots(
        rows, 2, figsize=(14.0, 5.2 * rows), squeeze=False, layout="constrained"
    )
    names = sorted({name for group in curves.values() for name in group})
    colours = colours_of(names)
    for row, (group, methods) in zip(panels, curves.items(), strict=True):
        for name, points in methods.items():
            _draw_points(row, name, points, colours[name])
        row[0].axvline(RECALL, color="0.5", ls=":", lw=0.8)
        row[0].set(
            xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title=group
        )
        for rate in FALSE_RATES:
            row[1].axvline(rate, color="0.5", ls=":", lw=0.8)
        row[1].set(xlabel="false-positive rate", ylabel="true-positive rate", xscale="log",
                   xlim=(1e-6, 0.1), ylim=(0, 1.01), title=group)  # fmt: skip
        for panel in row:
            panel.grid(alpha=0.3)
        row[1].legend(*row[0].get_legend_handles_labels(), fontsize=8, loc="center left",
                      bbox_to_anchor=(1.02, 0.5))  # fmt: skip
    _save(figure, path)


def _draw_points(row: Sequence[Axes], name: str, points: Points, colour: Any) -> None:
    """Draw a network's curve as a line, the settings of others as dots on their envelope."""
    network = points.hits.size > 500
    step = max(1, points.hits.size // _SWEEP) if network else 1
    recall, precision = points.recall[::step], points.precision[::step]
    rate = points.false_rate[::step]
    style = {"color": colour, "label": name, "lw": 2.0 if name.startswith("crmend") else 1.1}
    if network:
        row[0].plot(recall, precision, "-", **style)
        row[1].plot(np.maximum(rate, 1e-7), recall, "-", **style)
        return
    for panel, x, y in ((row[0], recall, precision), (row[1], rate, recall)):
        panel.plot(np.maximum(x, 1e-7), y, "o", ms=3.5, color=colour, label=name)


def draw_mending(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw bias and scatter of every method by place."""
    places = list(dict.fromkeys(row["place"] for row in table if row["n"] > 0))
    figure, panels = plt.subplots(
        1, len(places), figsize=(3.6 * len(places) + 2.0, 5.6), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    names = list(dict.fromkeys(row["peer"] for row in table))
    colours = colours_of(names)
    for panel, place in zip(panels.flat, places, strict=True):
        own = {row["peer"]: row for row in table if row["place"] == place}
        reach = [abs(r["bias"]) + r["scatter"] for n, r in own.items() if n != "untouched"]
        limit = 1.15 * max((x for x in reach if np.isfinite(x)), default=1.0)
        for k, name in enumerate(names):
            if name in own:
                row = own[name]
                panel.errorbar(row["bias"], k, xerr=row["scatter"], color=colours[name],
                               fmt="o", capsize=3, lw=1.6)  # fmt: skip
        panel.axvline(0.0, color="0.4", lw=0.8)
        unit = "noise" if place == "sky" else "mag"
        count = max((int(row["n"]) for row in own.values()), default=0)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.set(title=f"{place} (n ≤ {count})", xlabel=f"mended − CR-free [{unit}]",
                  xlim=(-limit, limit))  # fmt: skip
        panel.grid(alpha=0.3)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].invert_yaxis()
    figure.suptitle("median (dot) and half the 16–84 % range (bar)")
    _save(figure, path)


def draw_costs(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw CPU seconds per megapixel and peak memory of every method."""
    rows = [row for row in table if row["cpu_seconds_per_mpx"] is not None]
    figure, panels = plt.subplots(
        1, 2, figsize=(13.0, 1.2 + 0.26 * len(rows)), sharey=True, layout="constrained"
    )
    names = [f"{row['task']}: {row['peer']}" for row in rows]
    colours = colours_of([row["peer"] for row in rows])
    for panel, key, label in (
        (panels[0], "cpu_seconds_per_mpx", "CPU seconds per megapixel, one setting"),
        (panels[1], "peak_mib", "peak memory [MiB], whole process"),
    ):
        values = [row[key] for row in rows]
        panel.barh(range(len(rows)), values, color=[colours[row["peer"]] for row in rows])
        panel.set(xlabel=label, xscale="log")
        panel.grid(alpha=0.3, axis="x")
    panels[0].set_yticks(range(len(rows)), names, fontsize=8)
    panels[0].invert_yaxis()
    _save(figure, path)


# --- pictures ---------------------------------------------------------------------------


def draw_found(frame: BenchFrame, masks: Mapping[str, NDArray[np.bool_]], path: Path) -> None:
    """Draw the busiest part of a frame: image, truth, and the masks of some methods."""
    work = frame.work
    real = RealFrame(frame.name, work.image, work.filled, work.invalid, work.saturated,
                     frame.cr > 5.0, frame.ignore)  # fmt: skip
    title = f"{frame.stratum}: {frame.name}, each at its best F1"
    evaluate_figures.draw_real(real, masks, path, title)


def draw_sheet(
    frame: BenchFrame, images: Mapping[str, NDArray[np.float32]], path: Path
) -> None:
    """Draw sources that CRs hit, mended by every method, and what is left of each.

    Parameters
    ----------
    frame : BenchFrame
        With its CR-free twin.
    images : mapping
        Mended frames [e-] by method.
    path : Path
    """
    places = _hardest_sources(frame)
    if not places or frame.hit is None:
        return
    clean = frame.hit.clean * np.float32(frame.hit.electrons)
    columns = {"CR-free": clean, "with CRs": frame.work.filled} | dict(images)
    figure, panels = plt.subplots(
        2 * len(places), len(columns), squeeze=False, layout="constrained",
        figsize=(1.5 * len(columns), 3.1 * len(places)),
    )  # fmt: skip
    for k, (label, x, y) in enumerate(places):
        window = np.s_[max(y - _HALF, 0) : y + _HALF + 1, max(x - _HALF, 0) : x + _HALF + 1]
        low, high = frame.work.background - 3 * frame.work.noise, float(clean[window].max())
        for column, (name, image) in enumerate(columns.items()):
            upper, lower = panels[2 * k, column], panels[2 * k + 1, column]
            shown = np.arcsinh((image[window] - low) / (2 * frame.work.noise))
            top = np.arcsinh((high - low) / (2 * frame.work.noise))
            upper.imshow(shown, origin="lower", cmap="gray", vmin=0, vmax=top)
            residual = (image[window] - clean[window]) / frame.work.noise
            lower.imshow(residual, origin="lower", cmap="RdBu_r", vmin=-10, vmax=10)
            for panel in (upper, lower):
                panel.set(xticks=[], yticks=[])
            if k == 0:
                upper.set_title(name, fontsize=7)
        panels[2 * k, 0].set_ylabel(label, fontsize=7)
        panels[2 * k + 1, 0].set_ylabel("− CR-free, ±10σ", fontsize=7)
    _save(figure, path)


def _hardest_sources(frame: BenchFrame) -> list[tuple[str, int, int]]:
    """Return stars, then galaxies, with most masked pixels within 2 px of their centre."""
    if frame.hit is None:
        return []
    table = usable_sources(frame.hit)
    if len(table) == 0:
        return []
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    inner = evaluate.aperture_sum(frame.hit.true_mask, x, y, 2.0)
    inner = np.where(evaluate.hit_sources(frame.hit.true_mask, x, y, 2.0), inner, -1.0)
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    places = []
    for kind in ("star", "galaxy"):
        own = [i for i in np.argsort(-inner) if kinds[i] == kind and inner[i] > 0]
        places += [
            (f"{kind}, mag {float(table['mag'][i]):.1f}", round(x[i]), round(y[i]))
            for i in own[:EXAMPLES]
        ]
    return places


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=80)
    plt.close(figure)
