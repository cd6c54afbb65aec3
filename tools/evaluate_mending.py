"""Score mending beside classical fills: photometry, shapes, error bars, sky, speed.

    python tools/evaluate_mending.py FRAMES --science SET --out report
    python tools/evaluate_mending.py FRAMES --only sigma sky --rounds 4 --out report

FRAMES holds Level 1 + CR-truth pairs with CR-free twins and catalogues
(`crmend-train simulate --keep-clean`), SET what `crmend-train dataset science` writes of such
frames.  Writes ``report.md``, ``report.json`` and ``sheet.png``, and ``science.png`` where
there is a SET.  The peers need ``pip install scikit-image maskfill opencv-python-headless``;
one that is not installed is named in the report.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crmend_training import (
    classical_fills,
    datasets,
    mending_figures,
    mending_frames,
    mending_report,
    mending_science,
    mending_summary,
)

SECTIONS = ("science", "frames", "sigma", "sky", "policy", "speed")
DRAWN_PEERS = ("5×5 median", "biharmonic")
"""Run with the masks that detection draws as well; the others with true masks only."""

SKY_PEERS = ("3×3 median", "5×5 median", "7×7 median", "biharmonic", "maskfill")


def main() -> None:
    """Measure what was asked for; write and print the report."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    fills, missing = classical_fills.load_fills(options.peers)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "missing": missing,
        "frames": 0,
    }
    if "science" in options.only and options.science is not None:
        rows = mending_science.score_science(options.science, fills)
        mending_figures.draw_science(options.out / "science.png", rows)
        result["science"] = mending_science.summarise(rows)
    if set(options.only) - {"science"}:
        result |= score_frames(options, fills)
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
    parser.add_argument("--rounds", type=int, default=1, help="times that a frame is hit")
    parser.add_argument("--most", type=int, help="use so many of the frames, evenly chosen")
    parser.add_argument("--seed", type=int, default=0, help="of shifts and of the sheet")
    parser.add_argument("--threads", type=int, help="of the network in policy and speed")
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

    def __init__(self) -> None:
        self.sources: list[dict] = []
        self.pulls: dict[str, list[dict]] = defaultdict(list)
        self.sky: list[dict] = []
        self.policy: list[dict] = []
        self.speed: dict[str, float] = {}


def score_frames(
    options: argparse.Namespace, fills: dict[str, classical_fills.Fill]
) -> dict[str, Any]:
    """Return the summaries of all frames; draw the contact sheet."""
    pairs = datasets.find_pairs(options.frames)
    if options.most is not None and options.most < len(pairs):
        pairs = [pairs[k] for k in np.linspace(0, len(pairs) - 1, options.most).astype(int)]
    collected = Collected()
    rng = np.random.default_rng(options.seed)
    for pair in tqdm(pairs, desc="frames", disable=None):
        whole = mending_frames.read_frame(pair)
        if "speed" in options.only and not collected.speed:
            collected.speed = mending_summary.measure_speed(whole, threads=options.threads)
        if set(options.only) <= {"science", "speed"}:
            break
        for number, frame in enumerate(mending_frames.rounds_of(whole, options.rounds, rng)):
            score_frame(frame, collected, fills, options, first=number == 0)
    if collected.sources:
        examples = mending_figures.choose_examples(collected.sources, rng)
        mending_figures.draw_sheet(options.out / "sheet.png", examples)
    return summarise(collected) | {"frames": len(pairs), "rounds": options.rounds}


def score_frame(
    frame: mending_frames.HitFrame,
    collected: Collected,
    fills: dict[str, classical_fills.Fill],
    options: argparse.Namespace,
    first: bool,
) -> None:
    """Mend one frame with each mask and collect what the options ask for."""
    only = set(options.only)
    mended = {}
    if only & {"frames", "sigma", "sky"}:
        mended = mend_all(frame, fills, only)
    sources = mending_frames.usable_sources(frame)
    if "frames" in only:
        collected.sources += mending_frames.score_sources(frame, sources, mended, crops=first)
    if only & {"sigma", "sky"}:
        sky = mending_frames.sky_mask(frame)
        if "sigma" in only:
            for name in ("true", "drawn"):
                pulls = mending_frames.pulls_of(frame, mended[name], sky)
                collected.pulls[name].append(pulls)
        if "sky" in only:
            collected.sky.append(mending_frames.sky_differences(frame, mended["true"], sky))
    if "policy" in only and first:
        collected.policy += mending_summary.score_policy(frame, sources, options.threads)


def mend_all(
    frame: mending_frames.HitFrame, fills: dict[str, classical_fills.Fill], only: set[str]
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
    masks = {"true": frame.true_mask}
    if len(by_mask) > 1:
        masks = mending_frames.masks_of(frame)
    return {
        name: mending_frames.mend(
            frame, masks[name], {k: fill for k, fill in fills.items() if k in names}
        )
        for name, names in by_mask.items()
    }


def summarise(collected: Collected) -> dict[str, Any]:
    """Return the tables of the report."""
    result: dict[str, Any] = {"speed": collected.speed}
    if collected.sources:
        result["sources"] = mending_summary.summarise_sources(collected.sources)
        result["shapes"] = mending_summary.summarise_shapes(collected.sources)
    if collected.pulls:
        result["sigma"] = mending_summary.summarise_pulls(collected.pulls)
    if collected.sky:
        result["sky"] = mending_summary.summarise_sky(collected.sky)
    if collected.policy:
        result["policy"] = mending_summary.summarise_policy(collected.policy)
    return result


if __name__ == "__main__":
    main()
