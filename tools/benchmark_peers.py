"""Run crmend and its peers on the same frames, masks and metrics; write a report.

    python tools/benchmark_peers.py setup --env peers_env
    python tools/benchmark_peers.py run [FRAMES] [--validation VALIDATION] --env peers_env
        --out report [--frames N] [--size S] [--real DATA] [--peers NAME ...] [--jobs 2]
    python tools/benchmark_peers.py report --out report [--readme README.md]

FRAMES and VALIDATION are folders of Level 1 + CR-truth pairs with CR-free twins and catalogues
(`crmend-train simulate --keep-clean`); without them a small seeded set is simulated below
``report/frames``.  ``setup`` makes a virtual environment for the peers and one for Cosmic-CoNN,
which is GPL and runs as a program of its own; both share torch with this interpreter where it
has it.  Each method runs on each frame in a process of its own, one result file each: a second
call goes on where the first one stopped, and tries again what failed.  Mending is scored on
copies of each frame in which its CRs have been put on its stars and galaxies (``--rounds``).
``report`` writes ``detection.csv``, ``mending.csv``, ``costs.csv``, ``runs.csv``, figures and
``report.html``, and with ``--readme`` the section of that file that stands between two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from crmend_training import (
    datasets,
    measured,
    peers_catalogue,
    peers_environment,
    peers_figures,
    peers_frames,
    peers_hits,
    peers_jobs,
    peers_page,
    peers_readme,
    peers_real,
    peers_run,
)
from crmend_training._script import existing_folder
from crmend_training._script import run as run_script

VALIDATION_SIZE = 512
"""Side of the parts of frames on which settings are tuned [px]."""

REAL_PICTURES = 2
"""Exposures of an instrument that pictures are drawn of."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status.

    2 = a folder, environment, result or section is missing.
    """
    options = parse(arguments)
    if options.command == "setup":
        status = peers_environment.setup(options.env)
        print(json.dumps(status, indent=1))
        return 1 if any(one["failed"] for one in status.values()) else 0
    try:
        if options.command == "run":
            run(options)
        write_report(options.out)
        if options.readme is not None:
            peers_readme.rewrite(options.readme, options.out)
    except (FileNotFoundError, peers_readme.NoSectionError) as error:
        print(f"benchmark_peers: {error}", file=sys.stderr)
        return 2
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="make the peers' environments")
    setup.add_argument("--env", type=Path, default=Path("peers_env"))
    run_ = commands.add_parser("run", help="run what has not run yet, then report")
    run_.add_argument("folder", type=Path, nargs="?", help="pairs (default: simulated)")
    run_.add_argument("--validation", type=Path, help="pairs for tuning (default: simulated)")
    run_.add_argument("--env", type=Path, default=Path("peers_env"))
    run_.add_argument("--frames", type=positive, help="so many frames, evenly chosen; of real "
                      "ones so many of each instrument, with most CRs")  # fmt: skip
    run_.add_argument("--size", type=positive, help="their middle so many pixels wide; of real "
                      "ones the part with most CRs")  # fmt: skip
    run_.add_argument("--rounds", type=int, default=3, help="of CRs put on a frame's sources, "
                      "for mending (default: 3; 0 = the frame as it is)")  # fmt: skip
    run_.add_argument("--validation-frames", type=positive, default=2)
    run_.add_argument("--real", type=existing_folder, help="folder of real exposures")
    run_.add_argument("--peers", nargs="+", metavar="NAME", help="methods that begin so")
    run_.add_argument("--tasks", nargs="+", choices=peers_catalogue.TASKS,
                      default=peers_catalogue.TASKS)  # fmt: skip
    run_.add_argument("--threads", type=positive, default=1, help="of every method")
    run_.add_argument("--jobs", type=positive, default=min(2, os.cpu_count() or 1),
                      help="methods at a time (default: %(default)s)")  # fmt: skip
    run_.add_argument("--timeout", type=float, default=3600.0, help="of a method [s]")
    report = commands.add_parser("report", help="write the report of stored results")
    for command in (run_, report):
        command.add_argument("--out", type=Path, default=Path("report"))
        command.add_argument("--readme", type=Path, help="file whose section is rewritten")
    options = parser.parse_args(arguments)
    try:
        peers_catalogue.choose(getattr(options, "peers", None), "detect")
    except ValueError as error:
        parser.error(str(error))
    return options


def positive(text: str) -> int:
    """Return a positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}; expected a number above 0")
    return number


# --- run --------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Tune, run every method on every frame, and draw the pictures that need the frames."""
    bench = peers_jobs.Bench(
        options.out, options.env, options.threads, options.timeout, options.jobs
    )
    peers = [p for task in options.tasks for p in peers_catalogue.choose(options.peers, task)]
    peers_environment.check_set_up(options.env, peers)
    pairs, validation = simulated_pairs(options)
    about(options)
    parts = [peers_frames.read_pair(pair, VALIDATION_SIZE) for pair in validation]
    families = peers_run.tune_all(bench, peers, parts, "simulated")
    for number, pair in enumerate(pairs):
        frame = peers_frames.read_pair(pair, options.size)
        frames = peers_hits.task_frames(frame, options.rounds)
        peers_run.run_all(bench, peers, frames, families)
        if number == 0:
            for one in frames[:2]:
                draw(bench, peers, one)
    if options.real is not None:
        run_real(bench, [peer for peer in peers if peer.task == "detect"], options)


def simulated_pairs(
    options: argparse.Namespace,
) -> tuple[list[datasets.Pair], list[datasets.Pair]]:
    """Return the pairs to score and those to tune on, simulated where no folder is given."""
    size, own = options.size or 1024, options.out / "frames"
    if options.folder is None:
        pairs = peers_frames.simulate_frames(own / "test", "test", options.frames or 2, size)
    else:
        pairs = datasets.find_pairs(options.folder)
    most = options.validation_frames
    if options.validation is None:
        folder = own / "validation"
        tuning = peers_frames.simulate_frames(folder, "validation", most, VALIDATION_SIZE)
    else:
        tuning = datasets.find_pairs(options.validation)
    return datasets.few_of(pairs, options.frames), datasets.few_of(tuning, most)


def run_real(
    bench: peers_jobs.Bench, peers: list[peers_catalogue.Peer], options: argparse.Namespace
) -> None:
    """Run the detections on every real exposure with a truth; note the others.

    Methods are tuned on the exposure of each instrument that has most CR pixels, which is
    scored as well: in their favour.
    """
    peers = [peer for peer in peers if not peer.name.startswith("crmend own pack")]
    notes = []
    for instrument, exposures, truth in peers_real.real_sets(options.real):
        if not exposures:
            notes.append(f"No truth for {instrument.name}: {truth}.")
            continue
        every = [peers_frames.real_frame(one, instrument) for one in exposures]
        frames = peers_frames.busiest_frames(every, options.frames, options.size)
        notes.append(
            f"{instrument.name}: {len(frames)} of {len(every)} exposure(s), truth: {truth}."
        )
        families = peers_run.tune_all(bench, peers, frames[:1], instrument.name)
        peers_run.run_all(bench, peers, frames, families)
        for frame in frames[:REAL_PICTURES]:
            draw(bench, peers, frame)
    (bench.out / "real.json").write_text(json.dumps(notes, indent=1) + "\n")


def draw(
    bench: peers_jobs.Bench,
    peers: list[peers_catalogue.Peer],
    frame: peers_frames.BenchFrame,
) -> None:
    """Draw what the methods made of a frame, from stored pixels."""
    folder = bench.out / "pictures"
    folder.mkdir(exist_ok=True)
    kept = dict(stored_pixels(bench.out, peers, frame, "detect"))
    masks = {name: kept[name] for name in peers_figures.PICTURED if name in kept}
    if masks:
        peers_figures.draw_found(frame, masks, folder / f"found_{frame.name}.png")
    images = dict(stored_pixels(bench.out, peers, frame, "mend"))
    images.pop("untouched", None)  # the sheet shows the frame with its CRs anyway
    if images:
        peers_figures.draw_sheet(frame, images, folder / f"mended_{frame.name}.png")


def stored_pixels(
    out: Path,
    peers: list[peers_catalogue.Peer],
    frame: peers_frames.BenchFrame,
    task: str,
) -> Iterator[tuple[str, object]]:
    """Yield name and pixels of the methods of a task that have a result."""
    for peer in peers:
        if peer.task == task:
            pixels = peers_jobs.kept_pixels(out, peer, frame)
            if pixels is not None:
                yield peer.name, pixels


# --- report -----------------------------------------------------------------------------


def about(options: argparse.Namespace) -> None:
    """Write down how the run was started."""
    options.out.mkdir(parents=True, exist_ok=True)
    failed = peers_environment.failures(options.env)
    said = {
        "command": command_of(options),
        "machine": f"{measured.machine()}, no GPU used",
        "threads": options.threads,
        "jobs": options.jobs,
        "rounds": options.rounds,
        "notes": [f"Could not be installed: {name}: {why}" for name, why in failed.items()],
    }
    (options.out / "about.json").write_text(json.dumps(said, indent=1) + "\n")


def command_of(options: argparse.Namespace) -> str:
    """Return the command that does the same elsewhere: words for the caller's own folders."""
    words = ["python tools/benchmark_peers.py run"]
    words += ["FRAMES"] if options.folder is not None else []
    words += ["--validation VALIDATION"] if options.validation is not None else []
    words += ["--env peers_env --out report"]
    for name in ("frames", "size"):
        value = getattr(options, name)
        words += [f"--{name} {value}"] if value is not None else []
    words += [f"--validation-frames {options.validation_frames} --rounds {options.rounds}"]
    words += [f"--threads {options.threads} --jobs {options.jobs}"]
    words += ["--real DATA"] if options.real is not None else []
    words += ["--peers " + " ".join(f'"{p}"' for p in options.peers)] if options.peers else []
    if tuple(options.tasks) != peers_catalogue.TASKS:
        words += ["--tasks " + " ".join(options.tasks)]
    return " ".join(words)


def write_report(out: Path) -> None:
    """Write the report of what is stored."""
    results = peers_run.stored_results(out)
    said = {"threads": 1, "notes": []}
    if (out / "about.json").is_file():
        said |= json.loads((out / "about.json").read_text())
    if (out / "real.json").is_file():
        said["notes"] = said["notes"] + json.loads((out / "real.json").read_text())
    print(peers_page.write_report(out, results, said))


if __name__ == "__main__":
    run_script(main)
