"""Lay the cosmic rays of simulated frames beside the published figures.

    python tools/cosmic_ray_statistics.py --simulate 4 --size 2048 --out statistics
    python tools/cosmic_ray_statistics.py --truth frames/*_CRS_*.fits --out statistics

Writes cosmic_rays.png and cosmic_rays.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from crmend._cli_options import positive_count
from crmend_training._results import make_folder
from crmend_training._script import run as run_script
from crmend_training.datasets import read_image
from crmend_training.simulate.cosmic_rays import SUBPIXEL, Slab, draw_cosmic_rays
from crmend_training.statistics import (
    TRACK_LENGTH,
    event_rate,
    intensity_histograms,
    label_events,
    pixel_fractions,
)

EDGES = np.concatenate([np.arange(0.5, 10.0), np.geomspace(9.5, 30_000.0, 45)[1:]])
EXPOSURE_TIME = 150.0

# Law, rate (None: the law's own), slab, paper's law.  0.45 % is the middle of the physical
# law's range.  The HST-like slab, 15 µm of silicon and 15 µm pixels, is assumed.
SIMULATED = {
    "paper law": ("paper", None, None, None),
    "paper law, sub-pixel": ("paper", None, None, SUBPIXEL),
    "physical, 16 µm": ("physical", 0.0045, Slab(16.0), None),
    "physical, 28 µm": ("physical", 0.0045, Slab(28.0), None),
    "physical, 40 µm": ("physical", 0.0045, Slab(40.0), None),
    "physical, HST-like": ("physical", 0.0045, Slab(15.0, 15.0, (0.2, 0.4)), None),
}

PUBLISHED = {
    "pixels > 0 e- [%]": "2–3 (CSST simulation); 2.05 (Euclid, 566 s)",
    "pixels > 1 e- [%]": "–",
    "1 e- among CR pixels [%]": "10 (paper, 4.1)",
    "tracks among 1–5 e- [%]": "high (paper, figure 4)",
    "tracks among 6–20 e- [%]": "rapid decline (paper, figure 4)",
    "tracks among 21–100 e- [%]": "–",
    "events / cm² / s": "see rate",
    "event size > 0 e- [px, median]": "–",
    "event size > 20 e- [px, median]": "7 (HST, Miles 2021); 4–5 (ACS handbook, mode)",
    "event charge [e-, median]": "2700 (HST, Miles 2021); 1995 (paper's law)",
    "log10 charge, FWHM": "0.6 (paper's law)",
}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--truth", type=Path, nargs="+", help="cosmic-ray truth files [e-/px]")
    source.add_argument(
        "--simulate", type=positive_count, metavar="N", help="frames of each law"
    )
    parser.add_argument(
        "--size", type=positive_count, default=2048, help="of simulated frames [px]"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(), help="folder")
    options = parser.parse_args()
    make_folder(options.out)
    if options.truth:
        results = {"files": Sample("files", map(read_image, options.truth))}
    else:
        results = {name: Sample(name, _simulated(name, options)) for name in SIMULATED}
    _write_figure(results, options.out / "cosmic_rays.png")
    table = _table(results)
    (options.out / "cosmic_rays.md").write_text(table, encoding="utf-8")
    print(table)


class Sample:
    """Counts and event tables summed over the frames of one law."""

    def __init__(self, name: str, frames: Iterator[np.ndarray]) -> None:
        self.name, self.n_pixels = name, 0
        self.every, self.tracks = (np.zeros(len(EDGES) - 1, int) for _ in range(2))
        fractions, events, bright = [], [], []
        for charge in frames:
            self.n_pixels += charge.size
            every, tracks = intensity_histograms(charge, EDGES)
            self.every += every
            self.tracks += tracks
            fractions.append(pixel_fractions(charge))
            events.append(label_events(charge)[1])
            bright.append(label_events(charge, 20.0)[1])
        self.events, self.bright = np.concatenate(events), np.concatenate(bright)
        if not len(self.bright):
            raise ValueError(
                f"{name}: no cosmic ray above 20 e- in {len(events)} frame(s); expected "
                "charges in e-, such as the CR truth that `crmend-train simulate` writes"
            )
        self.above_0 = np.mean([f.above_0 for f in fractions])
        self.above_1 = np.mean([f.above_1 for f in fractions])
        self.one_electron = np.mean([f.one_electron for f in fractions])

    def track_share(self, low: float, high: float) -> float:
        """Return tracks among the pixels of a range of charge [e-]."""
        inside = (EDGES[:-1] >= low) & (EDGES[1:] <= high)
        return self.tracks[inside].sum() / max(self.every[inside].sum(), 1)

    def rows(self) -> list[str]:
        """Return the values in the order of `PUBLISHED`."""
        pixel_size = 15.0 if "HST" in self.name else 10.0
        energies = np.log10(self.events["energy"])
        low, high = np.percentile(energies, [15.87, 84.13])
        rate = event_rate(len(self.events), self.n_pixels, EXPOSURE_TIME, pixel_size)
        return [
            f"{100 * self.above_0:.2f}",
            f"{100 * self.above_1:.2f}",
            f"{100 * self.one_electron:.1f}",
            f"{100 * self.track_share(0.5, 5.5):.0f}",
            f"{100 * self.track_share(5.5, 20.5):.0f}",
            f"{100 * self.track_share(20.5, 101.0):.0f}",
            f"{rate:.2f}",
            f"{np.median(self.events['size']):.0f}",
            f"{np.median(self.bright['size']):.0f}",
            f"{np.median(self.events['energy']):.0f}",
            f"{2.3548 * (high - low) / 2:.2f}",
        ]


def _simulated(name: str, options: argparse.Namespace) -> Iterator[np.ndarray]:
    """Yield cosmic-ray images of one law."""
    law, rate, slab, paper = SIMULATED[name]
    for number in range(options.simulate):
        rng = np.random.default_rng([options.seed, number])
        shape = (options.size, options.size)
        yield draw_cosmic_rays(rng, shape, law, rate, slab, paper).charge


def _table(results: dict[str, Sample]) -> str:
    """Return the Markdown table."""
    head = ["", "published", *results]
    lines = [head, ["---"] * len(head)]
    columns = [sample.rows() for sample in results.values()]
    for number, (what, published) in enumerate(PUBLISHED.items()):
        lines.append([what, published, *(column[number] for column in columns)])
    note = (
        "\nEvents: 8-connected pixels. Rates for 150 s; physical laws drawn at 0.45 % of "
        f"pixels.\nTracks: events at least {TRACK_LENGTH:g} px long.\n"
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + note


def _write_figure(results: dict[str, Sample], path: Path) -> None:
    """Draw one panel like the paper's figure 4 per law, and sizes and charges below."""
    n = max(len(results), 2)
    figure, axes = plt.subplots(2, n, figsize=(4.6 * n, 8.4), layout="constrained")
    for axis, (name, sample) in zip(axes[0], results.items(), strict=False):
        _draw_intensities(axis, name, sample)
    for axis in axes.ravel()[len(results) : n]:
        axis.axis("off")
    for axis in axes[1, 2:]:
        axis.axis("off")
    _draw_events(axes[1, 0], results, "energy", np.geomspace(50, 2e5, 60), (2700, 1995))
    _draw_events(axes[1, 1], results, "size", np.geomspace(0.9, 300, 40), (7,))
    axes[1, 0].set_xlabel("charge of an event [e-]; dotted: HST 2700, paper 1995")
    axes[1, 1].set_xlabel("pixels > 20 e- of an event; dotted: HST 7")
    axes[1, 0].legend(fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_intensities(axis, name, sample) -> None:
    """Draw pixels by charge, all and of tracks, and their ratio."""
    axis.stairs(sample.every, EDGES, fill=True, color="peru", label="all")
    axis.stairs(sample.tracks, EDGES, fill=True, color="indigo", alpha=0.7, label="tracks")
    axis.set(xscale="log", yscale="log", title=name, xlabel="e-/px", ylabel="pixels")
    axis.legend(loc="lower left", fontsize=8)
    ratio = axis.twinx()
    middle = np.sqrt(EDGES[:-1] * EDGES[1:])
    enough = sample.every > 30
    ratio.plot(middle[enough], (sample.tracks / np.maximum(sample.every, 1))[enough], "k-")
    ratio.set(ylim=(0, 1), ylabel="tracks / all")


def _draw_events(axis, results, column, edges, published) -> None:
    """Draw how a property of events is distributed under each law."""
    for name, sample in results.items():
        values = (sample.bright if column == "size" else sample.events)[column]
        counts, _ = np.histogram(values, edges)
        axis.stairs(counts / max(counts.sum(), 1), edges, label=name, fill=False)
    for value in published:
        axis.axvline(value, color="k", linestyle=":")
    axis.set(xscale="log", ylabel="share of events")


if __name__ == "__main__":
    run_script(main)
