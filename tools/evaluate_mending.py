"""Score mending beside classical fills: photometry, shapes, error bars, sky, speed.

    python tools/evaluate_mending.py FRAMES --science SET --out report
    python tools/evaluate_mending.py FRAMES --only sigma sky --rounds 4 --out report
    python tools/evaluate_mending.py FRAMES --only policy --out report

FRAMES holds Level 1 + CR-truth pairs with CR-free twins and catalogues
(`crmend-train simulate --keep-clean`), SET what `crmend-train dataset science` writes of such
frames.  Writes ``report.md``, ``report.json``, ``sheet.png``, what README shows as
``measured.csv``, and ``science.png`` where there is a SET.  The peers need ``pip install
scikit-image maskfill opencv-python-headless``; one that is not installed is named there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crmend._cli_options import positive_count
from crmend_training import (
    classical_fills,
    datasets,
    measured,
    measured_figures,
    mending_bars,
    mending_figures,
    mending_frames,
    mending_pixels,
    mending_policy,
    mending_report,
    mending_science,
    mending_sheet,
    mending_summary,
)
from crmend_training._results import make_folder
from crmend_training._script import run as run_script

SECTIONS = ("science", "frames", "sigma", "sky", "policy", "speed")
DRAWN_PEERS = ("5×5 median", "biharmonic")
"""Run with the masks that detection draws as well; the others with true masks only."""

SKY_PEERS = ("3×3 median", "5×5 median", "7×7 median", "biharmonic", "maskfill")


def main() -> None:
    """Measure what was asked for; write and print the report."""
    options = parse()
    make_folder(options.out)
    started = time.time()
    fills, missing = classical_fills.load_fills(options.peers)
    result: dict[str, Any] = {
        "machine": measured.machine(),
        "missing": missing,
        "frames": 0,
    }
    if "science" in options.only and options.science is not None:
        rows = mending_science.score_science(options.science, fills, most=options.most)
        mending_figures.draw_science(options.out / "science.png", rows)
        result["science"] = mending_science.summarise(rows)
    if set(options.only) - {"science"}:
        result |= score_frames(options, fills)
    result["bars"] = [bar._asdict() for bar in mending_bars.bars(result)]
    measured.write_figures(options.out, measured_figures.of_mending(result))
    result["minutes"] = round((time.time() - started) / 60, 1)
    text = json.dumps(without_nan(result), indent=1, allow_nan=False)
    (options.out / "report.json").write_text(text + "\n")
    text = mending_report.make_report(result)
    (options.out / "report.md").write_text(text)
    print(text)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("--science", type=Path, help="folder of a science set")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=classical_fills.PEERS,
        default=classical_fills.PEERS,
        metavar="NAME",
        help=f"classical fills (default all: {', '.join(classical_fills.PEERS)})",
    )
    parser.add_argument(
        "--rounds", type=positive_count, default=1, help="times that a frame is hit"
    )
    parser.add_argument(
        "--most",
        type=positive_count,
        help="use so many of the frames, and of the sources of the science set, evenly chosen",
    )
    parser.add_argument(
        "--sources",
        type=positive_count,
        help="measure so many hit sources of a frame, drawn at random",
    )
    parser.add_argument("--seed", type=int, default=0, help="of shifts and of the sheet")
    parser.add_argument(
        "--threads", type=positive_count, help="of the network in policy and speed"
    )
    parser.add_argument("--out", type=Path, default=Path("report"))
    return parser.parse_args()


def without_nan(value: Any) -> Any:
    """Return nested lists and dicts with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


# --- frames ---------------------------------------------------------------------------


class Collected:
    """What was measured on the frames so far."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.sources: list[dict] = []
        self.pulls: dict[str, list[dict]] = defaultdict(list)
        self.sky: list[dict] = []
        self.unchanged: list[dict] = []
        self.policy: list[dict] = []
        self.speed: dict[str, float] = {}
        self.gallery = mending_sheet.Gallery(rng)


def score_frames(
    options: argparse.Namespace, fills: dict[str, classical_fills.Fill]
) -> dict[str, Any]:
    """Return the summaries of all frames; draw the contact sheet."""
    pairs = datasets.few_of(datasets.find_pairs(options.frames), options.most)
    rng = np.random.default_rng(options.seed)
    collected = Collected(rng)
    used = 0
    for pair in tqdm(pairs, desc="frames", disable=None):
        whole = mending_frames.read_frame(pair)
        used += 1
        if "speed" in options.only and not collected.speed.get("cutouts"):
            collected.speed = mending_policy.measure_speed(whole, threads=options.threads)
        if set(options.only) <= {"science", "speed"}:
            if collected.speed["cutouts"]:
                break
            continue
        for number, frame in enumerate(mending_frames.rounds_of(whole, options.rounds, rng)):
            score_frame(frame, collected, fills, options, first=number == 0)
    if collected.gallery.candidates:
        mending_sheet.draw_sheet(options.out / "sheet.png", collected.gallery)
    return summarise(collected) | {"frames": used, "rounds": options.rounds}


def score_frame(
    frame: mending_frames.HitFrame,
    collected: Collected,
    fills: dict[str, classical_fills.Fill],
    options: argparse.Namespace,
    first: bool,
) -> None:
    """Mend one frame with each mask and collect what the options ask for."""
    only = set(options.only)
    sources = mending_frames.usable_sources(frame)
    hits = mending_frames.hit_table(frame, sources)
    if options.sources is not None and len(hits) > options.sources:
        hits = hits[np.sort(collected.rng.permutation(len(hits))[: options.sources])]
    if only & {"frames", "sigma", "sky"}:
        near = np.zeros(frame.clean.shape, bool)
        if "frames" in only:
            near |= mending_frames.near_sources(frame, hits)
        if "sky" in only:
            near |= mending_pixels.sky_tiles(frame, collected.rng)
        mended = mend_all(frame, fills, only, near)
        collect_pixels(frame, mended, collected, only)
        if "frames" in only:
            rows = mending_frames.score_sources(frame, sources, hits, mended)
            collected.sources += rows
            if first:
                collected.gallery.add(frame, mended["true"], "true", rows)
    if "policy" in only and len(hits):
        collected.policy += mending_policy.score_policy(frame, hits, options.threads)


def mend_all(
    frame: mending_frames.HitFrame,
    fills: dict[str, classical_fills.Fill],
    only: set[str],
    near: np.ndarray,
) -> dict[str, mending_frames.Mended]:
    """Return the frame mended with each mask that the sections in `only` need."""
    wanted = set(fills) if "frames" in only else set()
    if "sky" in only:
        wanted |= set(SKY_PEERS) | {"adaptive median"}
    by_mask: dict[str, set[str]] = {"true": wanted}
    if "frames" in only:
        by_mask |= {"drawn": set(DRAWN_PEERS), "drawn +1 px": set()}
    elif "sigma" in only:
        by_mask["drawn"] = set()
    masks = mending_frames.masks_of(frame, list(by_mask))
    return {
        name: mending_frames.mend(
            frame, masks[name], {k: fill for k, fill in fills.items() if k in names}, near
        )
        for name, names in by_mask.items()
    }


def collect_pixels(
    frame: mending_frames.HitFrame,
    mended: dict[str, mending_frames.Mended],
    collected: Collected,
    only: set[str],
) -> None:
    """Collect what pixels say: outside the masks, error bars, sky."""
    for name, one in mended.items():
        changed = mending_pixels.changed_outside(frame, one)
        pixels = int((~one.mask).sum())
        collected.unchanged.append({"mask": name, "pixels": pixels, "changed": changed})
    if only & {"sigma", "sky"}:
        sky = mending_pixels.sky_mask(frame)
        if "sigma" in only:
            for name in ("true", "drawn"):
                pulls = mending_pixels.pulls_of(frame, mended[name], sky)
                collected.pulls[name].append(pulls)
        if "sky" in only:
            collected.sky.append(mending_pixels.sky_differences(frame, mended["true"], sky))


def summarise(collected: Collected) -> dict[str, Any]:
    """Return the tables of the report."""
    result: dict[str, Any] = {"speed": collected.speed, "unchanged": collected.unchanged}
    if collected.sources:
        result["sources"] = mending_summary.summarise_sources(collected.sources)
        result["shapes"] = mending_summary.summarise_shapes(collected.sources)
    if collected.pulls:
        result["sigma"] = mending_summary.summarise_pulls(collected.pulls)
    if collected.sky:
        result["sky"] = mending_summary.summarise_sky(collected.sky)
    if collected.policy:
        result["policy"] = mending_policy.summarise_policy(collected.policy)
    return result


if __name__ == "__main__":
    run_script(main)
