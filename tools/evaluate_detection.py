"""Score detection on unseen simulated frames, the zoo and real exposures; write a report.

    python tools/evaluate_detection.py --paper FRAMES --physical FRAMES --out report
        [--teacher CHECKPOINT.pt --teacher-frames 1] [--quality reference fast]
        [--real EXPOSURES] [--only frames zoo stars real] [--most N] [--threads N]

FRAMES are folders of Level 1 + CR-truth pairs with catalogues, as `crmend-train simulate`
writes them, from seeds that training never used.  Writes ``report.md``, ``report.json``,
figures, and what README shows as ``measured.csv``; what the numbers mean stands in
`crmend_training.evaluate_detection` and `evaluate_real`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from crmend._cli_options import positive_count
from crmend_training import datasets, measured, measured_figures
from crmend_training import evaluate_figures as figures
from crmend_training import evaluate_report as report
from crmend_training._results import make_folder
from crmend_training._script import existing_folder
from crmend_training._script import run as run_script
from crmend_training.evaluate_detection import (
    STAR_COUNTS,
    StratumScores,
    score_frames,
    teacher_rows,
)
from crmend_training.evaluate_lookalikes import CLASSES, QUALITY_KINDS, pooled_zoo, score_zoo
from crmend_training.evaluate_peers import RealScores, score_instrument
from crmend_training.evaluate_real import INSTRUMENTS, read_instrument

SECTIONS = ("frames", "zoo", "stars", "real")


def main() -> None:
    """Score what was asked for and write the report."""
    options = parse()
    make_folder(options.out)
    started = time.time()
    parts, result, shown = ["# Detection\n"], {}, []
    if {"frames", "stars"} & set(options.only):
        texts, result["frames"] = frames_sections(options, shown)
        parts += texts
    if "zoo" in options.only and options.zoo_seeds:
        text, result["zoo"] = zoo_section(options, shown)
        parts.append(text)
    if "real" in options.only:
        texts, result["real"] = real_sections(options, shown)
        parts += texts
    result["machine"] = measured.machine()
    result["minutes"] = round((time.time() - started) / 60, 1)
    measured.write_figures(options.out, shown)
    text = "\n".join(parts)
    (options.out / "report.md").write_text(text)
    (options.out / "report.json").write_text(json.dumps(plain(result), indent=1) + "\n")
    print(text)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", type=Path, help="pairs with the paper's CR law")
    parser.add_argument("--physical", type=Path, help="pairs with the physical CR law")
    parser.add_argument(
        "--most", type=positive_count, help="so many frames per detector at most"
    )
    parser.add_argument("--teacher", type=Path, help="checkpoint of a larger network")
    parser.add_argument("--teacher-frames", type=positive_count, default=1, help="per detector")
    parser.add_argument("--quality", nargs="+", choices=list(QUALITY_KINDS),
                        default=list(QUALITY_KINDS))  # fmt: skip
    parser.add_argument("--zoo-seeds", type=int, default=12, help="zoos per detector")
    parser.add_argument("--real", type=existing_folder, help="folder of real exposures")
    parser.add_argument("--instruments", nargs="+", choices=[i.name for i in INSTRUMENTS],
                        help="of the real exposures (default: all)")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--threads", type=positive_count, help="of the networks (default: all)")
    parser.add_argument("--out", type=Path, default=Path("report"))
    options = parser.parse_args()
    if set(options.only) <= {"frames", "stars"} and not (options.paper or options.physical):
        parser.error(f"--only {' '.join(options.only)} needs --paper or --physical, or both")
    if "real" in options.only and options.real is None:
        others = " ".join(name for name in SECTIONS if name != "real")
        parser.error(
            "the section real needs --real, a folder of real exposures; without it, give "
            f"--only {others}"
        )
    return options


def plain(value: Any) -> Any:
    """Return a value as JSON has it: lists, null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


# --- simulated frames -----------------------------------------------------------------


def frames_sections(
    options: argparse.Namespace, shown: list[measured.Figure]
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts and figures of both strata, and draw; add what README shows."""
    texts, stars, result = [], ["## Star cores\n"], {}
    for name, folder in (("paper", options.paper), ("physical", options.physical)):
        if folder is None:
            texts.append(f"## Stratum: {name}\n\nNo frames given (--{name}).\n")
            continue
        scores = score_frames(
            first_of_each(datasets.find_pairs(folder), options.most),
            options.quality,
            threads=options.threads,
            teacher=options.teacher,
            teacher_frames=options.teacher_frames,
        )
        result[name] = stratum_result(scores)
        shown += measured_figures.of_stratum(folder.name, scores)
        stars += [report.stars_text(name, t, q) for q, t in scores.ours.items()]
        if "frames" in options.only:
            texts.append(report.frames_text(name, scores))
            figures.draw_intensities(scores.ours, options.out / f"recall_{name}.png")
            figures.draw_reliability(scores.ours, options.out / f"reliability_{name}.png")
            texts.append(f"Figures: `recall_{name}.png`, `reliability_{name}.png`.\n")
    return texts + (stars if "stars" in options.only and len(stars) > 1 else []), result


def first_of_each(pairs: list[datasets.Pair], most: int | None) -> list[datasets.Pair]:
    """Return the first so many pairs of each detector."""
    seen: dict[int, int] = {}
    kept = []
    for pair in pairs:
        seen[pair.detector] = seen.get(pair.detector, 0) + 1
        if most is None or seen[pair.detector] <= most:
            kept.append(pair)
    return kept


def stratum_result(scores: StratumScores) -> dict[str, Any]:
    """Return what the JSON holds of a stratum."""
    qualities = {}
    for quality, tallies in scores.ours.items():
        rows = {name: tally.row() for name, tally in sorted(tallies.items())}
        qualities[quality] = {
            "detectors": rows,
            "over_detectors": {
                key: report.spread([row[key] for row in rows.values()])
                for key in report.COLUMNS
            },
            "teacher": teacher_rows(scores, quality),
            "counts": {
                name: {
                    key: getattr(tally, key)
                    for key in (
                        "bright",
                        "missed",
                        "total",
                        "found",
                        *STAR_COUNTS,
                    )
                }
                for name, tally in sorted(tallies.items())
            },
            "events": {
                name: {"total": tally.events.total, "missed": tally.events.missed}
                for name, tally in sorted(tallies.items())
            },
        }
    return {"laws": scores.laws, "shape": scores.shape, "notes": scores.notes} | qualities


# --- look-alikes and real exposures ------------------------------------------------------


def zoo_section(
    options: argparse.Namespace, shown: list[measured.Figure]
) -> tuple[str, dict[str, Any]]:
    """Return the zoo's text and figures; add what README shows."""
    tallies = score_zoo(range(options.zoo_seeds), options.quality, threads=options.threads)
    result = {}
    for quality, group in tallies.items():
        every = pooled_zoo(group.values())
        result[quality] = {
            "per_million": every.per_million,
            "by_detector": {name: tally.per_million for name, tally in group.items()},
            "pixels": dict(zip(CLASSES, every.pixels, strict=True)),
            "flagged": dict(zip(CLASSES, every.flagged, strict=True)),
        }
    shown += measured_figures.of_zoo(tallies)
    return report.zoo_text(tallies), result


def real_sections(
    options: argparse.Namespace, shown: list[measured.Figure]
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts and figures of the real exposures, and draw each; add README's."""
    texts, result = ["## Real exposures, pack `generic`\n"], {}
    for instrument in INSTRUMENTS:
        if options.instruments and instrument.name not in options.instruments:
            continue
        frames = read_instrument(options.real, instrument)
        if not frames:
            files = f"{options.real}/{instrument.pattern}"
            texts.append(f"### {instrument.name}\n\nSkipped: there is no {files}.\n")
            continue
        scores = score_instrument(frames, instrument, options.quality)
        texts.append(report.real_text(instrument.name, scores))
        result[instrument.name] = {
            "networks": scores.networks,
            "astroscrappy": scores.astroscrappy,
        }
        shown.append(measured_figures.of_real(instrument.name, scores.networks))
        draw_instrument(instrument.name, scores, options.out)
    return texts, result


def draw_instrument(name: str, scores: RealScores, out: Path) -> None:
    """Draw every exposure: image, truth, the default network and deepCR's, at 90 % recall."""
    ours = [method for method in scores.masks if method.startswith("crmend")]
    shown = next((method for method in ours if method.endswith("fast")), ours[0])
    for number, frame in enumerate(scores.frames):
        masks = {method: scores.masks[method][number] for method in (shown, "deepCR ACS-WFC")}
        path = out / f"real_{frame.name}.png"
        figures.draw_real(frame, masks, path, f"{name}: {frame.name}, at 90 % recall")


if __name__ == "__main__":
    run_script(main)
