"""Reproduce the paper's Figures 2 to 7 and Table 1 on our simulation; write one report.

    python tools/reproduce_paper.py --frames 1 --size 1024 --out report   # a first look
    python tools/reproduce_paper.py --out report                          # the recipe's frames
    python tools/reproduce_paper.py --frames-folder FRAMES --out report   # existing frames

Simulates frames that no training saw, runs `crmend.clean` on them, measures, and writes
``report.html`` (images embedded), ``figures/`` (PNG, SVG), ``tables/`` (CSV), ``results/``
(JSON per frame) and what README shows (``measured.csv``).  A second call goes on where the
first was: with more frames or detectors only those are measured; with new graphs in the package
all are.  What the numbers mean stands in `crmend_training.paper_frames`, `paper_science` and
`paper_summary`.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path

from crmend_training import measured, measured_figures, paper_figures, paper_report
from crmend_training._script import run as run_script
from crmend_training.paper_run import Plan, run
from crmend_training.recipe import DETECTORS


def main(arguments: list[str] | None = None) -> None:
    """Run, then write figures, tables and the report."""
    plan = Plan(**vars(make_parser().parse_args(arguments)))
    frames, science = run(plan)
    tables = paper_report.make_tables(frames, science)
    figures = paper_figures.draw_all(tables, plan.out / "figures")
    path = plan.out / "report.html"
    bars = paper_report.write_report(tables, figures, path, describe(plan, frames))
    paper_report.write_tables(tables, bars, plan.out / "tables")
    command = describe(plan, frames)["command"]
    measured.write_figures(plan.out, measured_figures.of_paper(bars), command)
    for bar in bars:
        print(f"{bar.verdict:10} {bar.place}, {bar.what}: {bar.ours} (paper: {bar.paper})")
    print(path)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; its names are those of `paper_run.Plan`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder")
    parser.add_argument("--frames", type=int, help="per detector (default: the recipe's)")
    parser.add_argument("--size", type=int, help="rows and columns (default: the recipe's)")
    parser.add_argument(
        "--detectors", type=detectors, default=DETECTORS, metavar="8,9|all", help="default: all"
    )
    parser.add_argument("--seed", type=int, default=0, help="other frames for another one")
    parser.add_argument("--recipe", default="paper", help="file or bundled name")
    parser.add_argument("--frames-folder", type=Path, help="pairs with NCR and CAT to measure")
    parser.add_argument("--crs", type=int, default=100, help="per source of Figure 5")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--keep-frames", action="store_true", help="leave the FITS files")
    return parser


def detectors(text: str) -> tuple[int, ...]:
    """Return the detectors that an option names."""
    if text == "all":
        return DETECTORS
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of detectors; expected such as 8,9 or all"
        ) from None


def describe(plan: Plan, frames: list[dict]) -> dict[str, str]:
    """Return what the report says about the run."""
    command = f"python tools/reproduce_paper.py --seed {plan.seed} --recipe {plan.recipe}"
    for name in ("frames", "size", "crs"):
        value = getattr(plan, name)
        command += "" if value is None else f" --{name} {value}"
    if plan.detectors != DETECTORS:
        command += f" --detectors {','.join(map(str, plan.detectors))}"
    if plan.frames_folder is not None:
        command += f" --frames-folder {plan.frames_folder.name}"
    graphs = sorted({frame["detect"][:12] for frame in frames})
    menders = sorted({frame["inpaint"][:12] for frame in frames})
    return {
        "command": command,
        "crmend": version("crmend"),
        "detection graphs (sha256)": ", ".join(graphs),
        "inpainting graphs (sha256)": ", ".join(menders),
        "machine": measured.machine(),
        "seconds per frame (clean and measure)": f"{mean_seconds(frames):.1f}",
    }


def mean_seconds(frames: list[dict]) -> float:
    """Return the mean of what the frames took."""
    return sum(frame["seconds"] for frame in frames) / len(frames)


if __name__ == "__main__":
    run_script(main)
