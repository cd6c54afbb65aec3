"""Figures 2 to 7 of the paper, drawn from our tables; each is written as PNG and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from crmend_training import paper_values as paper
from crmend_training.evaluate import RECALL_ABOVE
from crmend_training.paper_frames import METHODS
from crmend_training.paper_summary import KINDS, binned, science_bins

COLOURS = {
    "contaminated": "tab:blue", "median filter": "tab:green",
    "direct": "tab:blue", "masked": "hotpink", "mended": "tab:orange", "CR-free": "black",
}  # fmt: skip
"""As in the paper's figures, but ours is orange in all of them."""

_PLURAL = {"star": "Stars", "galaxy": "Galaxies"}


def draw_all(tables: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draw every figure that has something to show; return the PNG of each."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "figure2": draw_recall_precision(tables["figure2"]),
        "figure3": draw_recall_by_charge(tables["figure3"]),
        "figure4": draw_charges(tables["figure4"]),
        "figure6": draw_magnitude_errors(tables),
        "figure7": draw_counts(tables),
    }
    if tables["figure5_cases"]:
        figures["figure5"] = draw_science(tables["figure5_sources"], tables["figure5_cases"])
    paths = {}
    for name, figure in sorted(figures.items()):
        paths[name] = folder / f"{name}.png"
        figure.savefig(paths[name], dpi=110)
        # Neither a date nor random names: the same numbers give the same file.
        with mpl.rc_context({"svg.hashsalt": name}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    return paths


def draw_recall_precision(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw Figure 2: median and quartiles per detector, the paper's mean as a band."""
    figure, panels = plt.subplots(2, 1, figsize=(9, 5.6), sharex=True, layout="constrained")
    detectors = [row["detector"] for row in rows]
    place = np.arange(len(rows))
    for panel, name, value, deviation in (
        (panels[0], "recall", paper.RECALL, paper.RECALL_SD),
        (panels[1], "precision", paper.PRECISION, paper.PRECISION_SD),
    ):
        middle, low, high = (
            np.array([row[key] for row in rows], float)
            for key in (name, f"{name}_25", f"{name}_75")
        )
        panel.axhspan(
            value - deviation, value + deviation, color="0.8", label="paper, mean ± SD"
        )
        panel.errorbar(
            place, middle, [middle - low, high - middle], fmt="o", color="tab:orange",
            capsize=3, label="ours, median and quartiles over frames",
        )  # fmt: skip
        for x, y in zip(place, middle, strict=True):
            panel.annotate(
                f"{y:.2f}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=7
            )
        panel.set_ylabel(f"{name} [%]")
        panel.margins(y=0.25)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8, ncols=2, loc="lower left")
    panels[1].set(xlabel="detector", xticks=place, xticklabels=detectors)
    return figure


def draw_recall_by_charge(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw Figure 3: recall against charge, a panel per detector."""
    detectors = sorted({row["detector"] for row in rows})
    columns = max(min(6, len(detectors)), 1)
    lines = max(-(-len(detectors) // columns), 1)
    figure, panels = plt.subplots(
        lines, columns, figsize=(2.4 * columns + 1, 2.0 * lines + 0.7),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for panel, detector in zip(panels.flat, detectors, strict=False):
        own = [row for row in rows if row["detector"] == detector]
        centre = np.sqrt([row["from"] * row["to"] for row in own])
        recall = np.array([row["recall"] for row in own]) / 100.0
        panel.plot(centre, recall, color="tab:orange", marker=".", ms=4, lw=1.2)
        panel.axvline(RECALL_ABOVE, color="tab:red", ls="--", lw=0.8)
        panel.axvspan(*paper.DIP, color="0.9", zorder=0)
        panel.set(xscale="log", ylim=(0.75, 1.005))
        panel.set_title(f"detector {detector}", fontsize=8)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(detectors) :]:
        panel.set_axis_off()
    figure.supxlabel(
        "charge of the CR pixel [e-]  (dashed: 5 e-; grey: the paper's dip)", fontsize=9
    )
    figure.supylabel("recall, median over frames", fontsize=9)
    return figure


def draw_charges(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw Figure 4: CR pixels by charge, all and those of tracks, and the share of tracks."""
    figure, panel = plt.subplots(figsize=(7, 4.2), layout="constrained")
    low, high, every, tracks, share = (
        np.array([row[key] for row in rows], float)
        for key in ("from", "to", "pixels", "of tracks", "share")
    )
    whole = max(every.sum(), 1.0)
    for counts, colour, label in (
        (every, "peru", "all CRs"), (tracks, "tab:purple", "track-like CRs"),
    ):  # fmt: skip
        panel.bar(
            low, counts / whole / np.log10(high / low), high - low, align="edge",
            color=colour, alpha=0.75, label=label,
        )  # fmt: skip
    panel.axvspan(*paper.DIP, color="0.85", zorder=0, label="dip of recall in the paper")
    panel.set(xscale="log", xlabel="charge of the CR pixel [e-]")
    panel.set_ylabel("share of CR pixels per decade")
    right = panel.twinx()
    # A dozen pixels say nothing.
    shown = np.where(every >= 50, share, np.nan)
    right.plot(np.sqrt(low * high), shown, color="black", label="share of tracks")
    right.set_ylabel("of tracks / all")
    right.set_ylim(0.0, 1.0)
    handles = [*panel.get_legend_handles_labels()[0], *right.get_lines()]
    panel.legend(handles=handles, fontsize=8, loc="upper right")
    return figure


def draw_science(sources: Sequence[dict[str, Any]], cases: Sequence[dict[str, Any]]) -> Figure:
    """Draw Figure 5 for the first detector: each source, Δmag against distance and energy."""
    detector = cases[0]["detector"]
    figure, panels = plt.subplots(
        len(sources), 3, figsize=(11, 2.7 * len(sources)), squeeze=False,
        width_ratios=(1, 1.6, 1.6), layout="constrained",
    )  # fmt: skip
    for line, source, letter in zip(panels, sources, "abcdefgh", strict=False):
        own = [
            case
            for case in cases
            if (case["detector"], case["type"], case["mag"])
            == (detector, source["type"], source["mag"])
        ]
        image = np.arcsinh(np.array(source["clean"]) / 3.0)
        line[0].imshow(image, origin="lower", cmap="gray", vmin=-1.0)
        line[0].set(xticks=[], yticks=[])
        line[0].set_title(f"{letter}) {source['type']}, {source['mag']:.2f} mag", fontsize=9)
        for panel, name in zip(line[1:], ("distance", "energy"), strict=True):
            _draw_cases(panel, own, name)
        line[1].set_ylabel("Δmag, with − without CR")
    panels[-1, 1].set_xlabel("distance of the CR from the source's centre [px]")
    panels[-1, 2].set_xlabel("energy of the CR [e-]")
    for panel in panels[:, 2]:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0, 1].legend(fontsize=8, markerscale=3)
    figure.suptitle(f"detector {detector}; lines: mean in bins, bands: ± 1 SD", fontsize=10)
    return figure


def _draw_cases(panel: Axes, cases: Sequence[dict[str, Any]], name: str) -> None:
    """Draw the points, means and SDs of every method."""
    everything = []
    for method in ("contaminated", "median filter", "mended"):
        own = [case for case in cases if case["method"] == method]
        x, y = (np.array([case[key] for case in own], float) for key in (name, "kron"))
        everything.append(y[np.isfinite(y)])
        colour = COLOURS[method]
        panel.plot(x, y, ".", ms=3, alpha=0.45, color=colour, label=method)
        if lines := binned(x, y, science_bins(name)):
            centre, mean, deviation = np.array(lines).T
            panel.fill_between(
                centre, mean - deviation, mean + deviation, color=colour, alpha=0.15, lw=0
            )
            panel.plot(centre, mean, color=colour, lw=1.3)
    panel.axhline(0.0, color="black", lw=0.5)
    values = np.concatenate(everything)
    if values.size:
        low, high = np.percentile(values, [1, 99])
        margin = max(0.15 * (high - low), 0.005)
        panel.set_ylim(low - margin, high + margin)
    panel.grid(alpha=0.3)


def draw_magnitude_errors(tables: dict[str, Any]) -> Figure:
    """Draw Figure 6: Δmag against true magnitude, mended (left) and all methods (right)."""
    figure, panels = plt.subplots(
        2, 2, figsize=(11, 7.6), sharex=True, sharey="row", layout="constrained"
    )
    sources = tables["sources"]
    for (left, right), kind in zip(panels, KINDS, strict=True):
        chosen = tables["affected"] & (sources["type"] == kind)
        rows = [row for row in tables["figure6"] if row["type"] == kind]
        x, y = sources["mag"][chosen], (sources["mended"] - sources["mag"])[chosen]
        good = np.isfinite(y)
        _draw_density(left, x[good], y[good])
        for method in METHODS:
            own = [r for r in rows if r["method"] == method and r["n"] >= _LEAST_SHOWN]
            if own:
                _draw_percentiles(left if method == "mended" else None, right, own, method)
        for panel in (left, right):
            panel.axhline(0.0, color="0.4", lw=0.6)
            panel.set_ylim(-2.0, 1.5)
            panel.grid(alpha=0.3)
        left.set_ylabel(f"{_PLURAL[kind]}: measured − true [mag]")
    panels[0, 0].set_title("mended", fontsize=10)
    panels[0, 1].set_title("lines: median, bands: 5–95 %", fontsize=10)
    if panels[0, 1].get_legend_handles_labels()[0]:
        panels[0, 1].legend(fontsize=8, loc="lower left")
    for panel in panels[1]:
        panel.set_xlabel("true magnitude")
    return figure


_LEAST_SHOWN = 5  # sources of a bin that percentiles are drawn of


def _draw_density(panel: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points coloured by how many lie in their cell of a coarse grid."""
    if x.size == 0:
        return
    edges = np.linspace(14.0, 28.0, 57), np.linspace(-3.0, 3.0, 61)
    counts = np.histogram2d(x, y, edges)[0]
    cell = [
        np.clip(np.digitize(v, e) - 1, 0, e.size - 2)
        for v, e in zip((x, y), edges, strict=True)
    ]
    density = counts[cell[0], cell[1]]
    order = np.argsort(density)
    panel.scatter(
        x[order], y[order], c=np.log1p(density[order]), s=3, cmap="jet", rasterized=True
    )


def _draw_percentiles(
    left: Axes | None, right: Axes, rows: Sequence[dict[str, Any]], method: str
) -> None:
    """Draw the 5th, 50th and 95th percentile of one method; as error bars on the left."""
    centre, p5, p50, p95 = (
        np.array([0.5 * (row["from"] + row["to"]) if key == "x" else row[key] for row in rows])
        for key in ("x", "p5", "p50", "p95")
    )
    if left is not None:
        left.errorbar(
            centre, p50, [p50 - p5, p95 - p50], fmt="o", ms=4, color="gold",
            ecolor="goldenrod", mec="black", mew=0.5, capsize=3,
        )  # fmt: skip
    colour = COLOURS[method]
    right.fill_between(centre, p5, p95, color=colour, alpha=0.15, lw=0)
    for edge in (p5, p95):
        right.plot(centre, edge, color=colour, lw=0.7, alpha=0.7)
    right.plot(centre, p50, color=colour, lw=1.6, label=method)


def draw_counts(tables: dict[str, Any]) -> Figure:
    """Draw Figure 7: distributions of magnitudes, galaxies (left) and stars (right)."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for panel, kind in zip(panels, ("galaxy", "star"), strict=True):
        rows = [row for row in tables["figure7"] if row["type"] == kind]
        edges = np.array([rows[0]["from"], *(row["to"] for row in rows)])
        for method in METHODS[:3]:
            values = [row[method] for row in rows]
            panel.stairs(values, edges, color=COLOURS[method], label=method, lw=1.3)
        true = [row["true"] for row in rows]
        panel.stairs(true, edges, color="navy", ls="--", label="truth", lw=1.3)
        found = [row for row in tables["figure7_ssim"] if row["type"] == kind]
        lines = [f"{row['method']}: {row['SSIM']:.3f}" for row in found]
        text = "\n".join(["SSIM", *lines, f"paper, mended: {paper.SSIM[kind]:.3f}"])
        panel.text(0.02, 0.97, text, transform=panel.transAxes, va="top", fontsize=8)
        shown = [row for row in rows if row["true"] > 0]
        if shown:
            panel.set_xlim(shown[0]["from"] - 0.5, shown[-1]["to"] + 0.5)
        panel.set(title=_PLURAL[kind], xlabel="magnitude")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share of sources per 0.25 mag")
    panels[1].legend(fontsize=8, loc="center left")
    return figure
