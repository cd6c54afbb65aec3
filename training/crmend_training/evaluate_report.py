"""Tables and figures of `tools/evaluate_detection.py`, from what the scoring modules count."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend_training import evaluate
from crmend_training.evaluate_detection import (
    INTENSITIES,
    PAPER_PRECISION,
    PAPER_RECALL,
    SHAPES,
    SIGNAL_TO_NOISE,
    StratumScores,
    Tally,
    largest_drop,
    pooled_tally,
    teacher_rows,
)
from crmend_training.evaluate_events import LEAST, EventCounts, size_names
from crmend_training.evaluate_lookalikes import (
    CLASSES,
    MAGNITUDES,
    NEW_HOT,
    ZooTally,
    pooled_zoo,
)
from crmend_training.evaluate_peers import RealScores
from crmend_training.evaluate_real import RECALL, best_f1, nearest_recall

COLUMNS = {
    "cr_share": "CR pixels %",
    "recall": "recall > 5 e- %",
    "precision": "precision > 0 e- %",
    "recall_at_precision": f"recall at precision {100 * PAPER_PRECISION:.2f} %",
    "precision_at_recall": f"precision at recall {100 * PAPER_RECALL:.2f} %",
    "calibration_error": "ECE %",
    "calibration_error_above": "ECE where p > 0.05 %",
}
"""Keys of `Tally.row` and their headings, all in percent."""


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def percent(value: float, digits: int = 2) -> str:
    """Return a share as percent, or a dash."""
    return f"{100 * value:.{digits}f}" if np.isfinite(value) else "–"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation and max − min of a column, NaN left out."""
    kept = np.array([v for v in values if np.isfinite(v)])
    if kept.size == 0:
        return dict.fromkeys(("mean", "std", "range"), float("nan"))
    return {"mean": kept.mean(), "std": kept.std(), "range": float(np.ptp(kept))}


# --- simulated frames ------------------------------------------------------------------


def frames_text(name: str, scores: StratumScores) -> str:
    """Return the sections on recall, misses, intensity and calibration of a stratum."""
    frames = sum(t.frames for t in next(iter(scores.ours.values()), {}).values())
    parts = [
        f"## Stratum: {name}\n",
        f"{frames} frames of {' × '.join(map(str, scores.shape))} px, CR law "
        f"{', '.join(scores.laws)}.  The pack of each detector, at its card's threshold.\n",
        *(f"- {note}\n" for note in scores.notes[:3]),
    ]
    if len(scores.notes) > 3:
        parts.append(f"- … and {len(scores.notes) - 3} more packs alike\n")
    for quality, tallies in scores.ours.items():
        parts += [f"### {name}: quality {quality}\n", detection_table(tallies)]
        if scores.teacher:
            parts += [teacher_table(teacher_rows(scores, quality))]
        every = pooled_tally(tallies.values())
        parts += [missed_table(every), events_table(every.events)]
        parts += [intensity_text(tallies), reliability_table(tallies)]
    return "\n".join(parts)


def detection_table(tallies: Mapping[str, Tally]) -> str:
    """Return figures per detector with their mean and spread."""
    rows = {name: tally.row() for name, tally in sorted(tallies.items())}
    lines: list[list[object]] = [
        [name, int(row["frames"]), *(percent(row[key]) for key in COLUMNS)]
        for name, row in rows.items()
    ]
    stats = {key: spread([row[key] for row in rows.values()]) for key in COLUMNS}
    for label, key in (("**mean**", "mean"), ("std", "std"), ("max − min", "range")):
        lines.append([label, "", *(percent(stats[column][key]) for column in COLUMNS)])
    return table(["detector", "frames", *COLUMNS.values()], lines)


def teacher_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return recall beside the teacher's at the same precision."""
    keys = ("precision", "recall", "teacher_recall", "gap")
    lines: list[list[object]] = [
        [name, int(row["frames"]), *(percent(row[key]) for key in keys)]
        for name, row in sorted(rows.items())
    ]
    means = [spread([row[key] for row in rows.values()])["mean"] for key in keys]
    lines.append(["**mean**", "", *(percent(mean) for mean in means)])
    headings = ["detector", "frames", "precision %", "recall %", "teacher's recall %", "gap"]
    return "The teacher at our precision, on the same frames:\n\n" + table(headings, lines)


def noise_bins() -> list[str]:
    """Return the names of the bins of S/N."""
    low, high = SIGNAL_TO_NOISE[0], SIGNAL_TO_NOISE[-1]
    middle = [f"{a:g}–{b:g}" for a, b in itertools.pairwise(SIGNAL_TO_NOISE)]
    return [f"< {low:g}", *middle, f"> {high:g}"]


def missed_table(tally: Tally) -> str:
    """Return the S/N of CR pixels > 5 e- and of those missed."""
    lines = [
        ["all CR pixels > 5 e- %", *(percent(v) for v in _shares(tally.bright))],
        ["of the missed %", *(percent(v) for v in _shares(tally.missed))],
        ["missed in the bin %", *(percent(v) for v in _ratio(tally.missed, tally.bright))],
        [
            "points of recall lost",
            *(percent(v) for v in tally.missed / max(tally.bright.sum(), 1.0)),
        ],
    ]
    intro = (
        "Missed pixels by charge over the pixel's error (the error plane, which holds the "
        "photon noise of the cosmic ray too), all detectors:\n\n"
    )
    return intro + table(["S/N", *noise_bins()], lines)


def events_table(counts: EventCounts) -> str:
    """Return the cosmic rays by size, and those without a flagged pixel."""
    total, missed = (np.append(n, n.sum()) for n in (counts.total, counts.missed))
    lines = [
        ["cosmic rays", *map(int, total)],
        ["without a flagged pixel", *map(int, missed)],
        ["%", *(percent(v, 3) for v in _ratio(missed, total))],
    ]
    intro = (
        f"Cosmic rays of more than {LEAST:g} noises of the sky by their pixels above "
        f"{evaluate.RECALL_ABOVE:g} e-, and those missed altogether, which pass for sources, "
        "all detectors:\n\n"
    )
    return intro + table(["pixels", *size_names(), "**all**"], lines)


def intensity_text(tallies: Mapping[str, Tally]) -> str:
    """Return recall per bin of charge, and whether it is monotonic."""
    every = pooled_tally(tallies.values())
    edges = [f"{a:g}–{b:g}" for a, b in itertools.pairwise(INTENSITIES)]
    curves = {"all": None, **{shape: shape for shape in SHAPES}}
    lines = [
        [label, *map(percent, every.recall_by_intensity(s))] for label, s in curves.items()
    ]
    falls, dips = [], []
    for name, tally in sorted({**tallies, "all": every}.items()):
        recalls = [tally.recall_by_intensity(shape) for shape in curves.values()]
        falls.append((name, *(largest_drop(recall) for recall in recalls)))
        dips.append((name, *(largest_drop(recall, 1.0, 20.0) for recall in recalls)))
    bad = [fall[0] for fall in falls if max(fall[1:]) > 0.01]
    verdict = (
        "Recall is monotonic to within 1 point above 20 e- on every detector"
        if not bad
        else f"Recall is not monotonic to within 1 point above 20 e- on: {', '.join(bad)}"
    )
    worst = [percent(max(fall[k] for fall in falls)) for k in (1, 2, 3)]
    dip = [percent(max(row[k] for row in dips)) for k in (1, 2, 3)]
    return (
        "Recall % against charge [e-/px], all detectors (bins under 300 pixels left out):\n\n"
        + table(["e-", *edges], lines)
        + f"\n{verdict}; largest fall {worst[0]} points (tracks {worst[1]}, points "
        f"{worst[2]}).  Largest dip below 20 e-: {dip[0]} points (tracks {dip[1]}, points "
        f"{dip[2]}).\n"
    )


def reliability_table(tallies: Mapping[str, Tally]) -> str:
    """Return the reliability of the probabilities of all detectors together."""
    counter = evaluate.pooled_counts([tally.counter for tally in tallies.values()])
    total, predicted, share = evaluate.reliability(counter)
    lines = [
        [f"{k / total.size:.2f}–{(k + 1) / total.size:.2f}", int(n), percent(p), percent(s)]
        for k, (n, p, s) in enumerate(zip(total, predicted, share, strict=True))
    ]
    headings = ["probability", "pixels", "mean probability %", "CR pixels > 1 e- %"]
    return "Reliability, all detectors:\n\n" + table(headings, lines)


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1.0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1.0), np.nan)


# --- look-alikes -----------------------------------------------------------------------


def zoo_text(tallies: Mapping[str, Mapping[str, ZooTally]]) -> str:
    """Return flagged pixels per class of the zoo, and per detector."""
    parts = ["## False-positive zoo\n"]
    for quality, group in tallies.items():
        every = pooled_zoo(group.values())
        lines = [
            [name, int(every.pixels[k]), int(every.flagged[k]), _rate(every, k)]
            for k, name in enumerate(CLASSES)
        ]
        lines += [["**all**", *_total(every, ())], ["but new hot pixels", *_total(every, _NEW)]]
        each = ", ".join(f"{name} {t.per_million:.2f}" for name, t in sorted(group.items()))
        parts += [
            f"Quality {quality}: {every.frames} frames without a cosmic ray; invalid (bad, "
            "hot) and saturated pixels left out.\n",
            table(["class", "pixels", "flagged", "per 10^6"], lines),
            f"Per 10^6 pixels, by detector: {each}.\n",
        ]
    return "\n".join(parts)


_NEW = (NEW_HOT,)


def _total(tally: ZooTally, without: Sequence[str]) -> list[object]:
    kept = [name not in without for name in CLASSES]
    pixels, flagged = int(tally.pixels[kept].sum()), int(tally.flagged[kept].sum())
    return [pixels, flagged, f"{1e6 * flagged / max(pixels, 1):.2f}"]


def _rate(tally: ZooTally, number: int) -> str:
    pixels = int(tally.pixels[number])
    return f"{1e6 * tally.flagged[number] / pixels:.1f}" if pixels else "–"


def stars_text(name: str, tallies: Mapping[str, Tally], quality: str) -> str:
    """Return the shares of unsaturated stars with a flagged core and no CR there."""
    every = pooled_tally(tallies.values())
    edges = [f"{edge:g}" for edge in MAGNITUDES]
    bins = [
        f"< {edges[0]}",
        *(f"{a}–{b}" for a, b in itertools.pairwise(edges)),
        f"> {edges[-1]}",
    ]
    counts = np.array([every.stars, every.wrong_stars, every.lone_stars]).T
    seen = np.array([every.seen_stars, every.seen_wrong_stars, every.seen_lone_stars]).T
    lines = [
        [label, *_star_cells(one), *_star_cells(brighter)]
        for label, one, brighter in zip(bins, counts, seen, strict=True)
        if one[0]
    ]
    lines.append(["**all**", *_star_cells(counts.sum(axis=0)), *_star_cells(seen.sum(axis=0))])
    columns = ["stars", "flagged", "%", "without any CR"]
    return (
        f"### {name}, quality {quality}\n\n"
        "Unsaturated stars with a flagged pixel in their 3×3 core that has no CR charge in it "
        "or beside it, and those of them whose group of flagged pixels holds no CR at all (the "
        "others: the mask of a CR reaches too far).  First all stars of the catalogue, many of "
        "which are too faint to be seen; then those brighter than the limit of their band (5 "
        "sigma in 150 s, `crmend_training.simulate.BANDS`):\n\n"
        + table(["magnitude", *columns, *(f"{name}, above limit" for name in columns)], lines)
    )


def _star_cells(counts: NDArray[np.float64]) -> list[object]:
    """Return the cells of stars, flagged ones, their share and those without any CR."""
    n, wrong, alone = (int(count) for count in counts)
    return [n, wrong, percent(wrong / n, 3) if n else "–", alone]


# --- real exposures ----------------------------------------------------------------------


def real_text(name: str, scores: RealScores) -> str:
    """Return the comparison on one instrument's exposures."""
    truth = sum(int((f.truth & ~f.ignore).sum()) for f in scores.frames)
    pixels = sum(int((~f.ignore).sum()) for f in scores.frames)
    lines = [
        [
            method,
            *_cells(rows["at_90"]),
            *_cells(rows["at_80"]),
            f"{rows['default']['threshold']:g}",
            percent(rows["default"]["recall"]),
            *_cells(rows["default"]),
        ]
        for method, rows in scores.networks.items()
    ]
    headings = [
        "network",
        f"precision at {100 * RECALL:.0f} % recall", "no edges",
        "precision at 80 %", "no edges",
        "default threshold", "recall there", "precision", "no edges",
    ]  # fmt: skip
    return "\n".join(
        [
            f"### {name}\n",
            f"{len(scores.frames)} exposures, {truth} truth pixels of {pixels} that take part "
            "(bad, hot, saturated and unsure pixels left out alike).  No edges: false pixels "
            "that touch a truth pixel are not counted.  All in percent.\n",
            table(headings, lines),
            _astroscrappy_table(scores),
        ]
    )


def _cells(row: Mapping[str, float]) -> list[str]:
    return [percent(row["precision"]), percent(row["precision_loose"])]


def _astroscrappy_table(scores: RealScores) -> str:
    """Return astroscrappy's settings beside every network at the same recall."""
    chosen = {
        f"nearest to {100 * RECALL:.0f} % recall": nearest_recall(scores.astroscrappy),
        "best F1": best_f1(scores.astroscrappy),
        "default": next(r for r in scores.astroscrappy if r["setting"] == _DEFAULT),
    }
    lines = []
    for label, row in chosen.items():
        setting = ", ".join(f"{key} {value:g}" for key, value in row["setting"].items())
        same = [r.at_recall(row["recall"]) for r in scores.rankings.values()]
        lines.append(
            [label, setting, percent(row["recall"]), *_cells(row)]
            + [percent(at["precision"]) for at in same]
        )
    headings = ["setting of astroscrappy", "", "recall", "precision", "no edges"]
    return (
        f"astroscrappy, {len(scores.astroscrappy)} settings tried on these very frames; beside "
        "it each network's precision at the same recall:\n\n"
        + table([*headings, *scores.rankings], lines)
    )


_DEFAULT: dict[str, Any] = {"sigclip": 4.5, "sigfrac": 0.3, "objlim": 5.0}
