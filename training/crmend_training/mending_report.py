"""The report of the mending evaluation: its bars, then the tables, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from crmend_training.mending_bars import NEVER_RANKED, NOT_MEASURED, PLURAL, bars
from crmend_training.mending_science import OURS


def make_report(result: dict[str, Any]) -> str:
    """Return the report of what was measured; sections that were not are left out."""
    sections: list[tuple[str, Callable[[Any], str]]] = [
        ("science", _science),
        ("sources", _sources),
        ("shapes", _shapes),
        ("sigma", _sigma),
        ("sky", _sky),
        ("policy", _policy),
        ("speed", _speed),
    ]
    parts = [f"# Mending\n\n{result['machine']}; {result['frames']} frames.\n"]
    verdicts = bars(result)
    if any(bar.verdict != NOT_MEASURED for bar in verdicts):
        parts.append("## Bars\n\n" + _table(("what", "bar", "found", "verdict"), verdicts))
    parts += [write(result[name]) for name, write in sections if result.get(name)]
    for name, message in result.get("missing", {}).items():
        parts.append(f"{name} did not run: `{message}`\n")
    return "\n".join(parts)


# --- tables ---------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _figures(spread: dict[str, float]) -> tuple[str, str, str]:
    return f"{spread['median']:+.4f}", f"{spread['scatter']:.4f}", f"{spread['rms']:.4f}"


_SPREADS = (
    "n",
    "median Δmag",
    "scatter",
    "rms",
    "Kron median Δmag",
    "scatter",
    "rms",
    "not found",
)


def _both(row: dict) -> tuple[Any, ...]:
    """Return the columns `_SPREADS` of a row."""
    aperture, kron = row["aperture"], row["kron"]
    return aperture["n"], *_figures(aperture), *_figures(kron), kron["lost"]


def _science(science: dict[str, list[dict]]) -> str:
    head: tuple[str, ...] = ("type", "mag", "method", *_SPREADS)
    lines: list[tuple[Any, ...]]
    parts = [
        "## Science set\n\nMended − CR-free magnitude in a 5 px circle and in sep's Kron "
        "ellipse; scatter: half of 16–84 %.\n"
    ]
    for name, title in (
        ("cells", "All CRs, 0–15 px"),
        ("touched", "CRs that reach into the circle"),
        ("central", "Mag 23 stars, CR within 2 px"),
    ):
        lines = [(r["type"], r["mag"], r["method"], *_both(r)) for r in science[name]]
        parts.append(f"### {title}\n\n" + _table(head, lines))
    for along, unit in (("distance", "px"), ("energy", "e-")):
        lines = [
            (r["type"], r["mag"], f"{r['from']:g}–{r['to']:g}", *_both(r))
            for r in science["bins"]
            if (r["along"], r["method"]) == (along, "ours") and r["aperture"]["n"]
        ]
        head = ("type", "mag", f"{along} [{unit}]", *_SPREADS)
        parts.append(f"### Ours by {along}\n\n" + _table(head, lines))
    names = ("aperture_distance", "aperture_energy", "kron_distance", "kron_energy")
    lines = [
        (
            r["type"],
            r["mag"],
            r["method"],
            *(f"{r[name]['range']:.4f} ± {r[name]['error']:.4f}" for name in names),
        )
        for r in science["trends"]
    ]
    title = "### Trends: largest − smallest median of those bins\n\n"
    columns = ("circle, distance", "circle, energy", "Kron, distance", "Kron, energy")
    parts.append(title + _table(("type", "mag", "method", *columns), lines))
    return "\n".join([*parts, _ranks(science["touched"])])


def _ranks(rows: Sequence[dict]) -> str:
    """Return ours' place among the classical fills, cell by cell."""
    lines = []
    for kind, mag in dict.fromkeys((row["type"], row["mag"]) for row in rows):
        own = {r["method"]: r["aperture"] for r in rows if (r["type"], r["mag"]) == (kind, mag)}
        fills = [name for name in own if name not in NEVER_RANKED and own[name]["n"]]
        if not fills or not own[OURS]["n"]:
            continue
        line: list[Any] = [PLURAL[kind], mag]
        for figure in ("median", "rms"):
            sizes = {name: abs(own[name][figure]) for name in (*fills, OURS)}
            order = sorted(sizes, key=sizes.__getitem__)
            best = next(name for name in order if name != OURS)
            line += [order.index(OURS) + 1, f"{sizes[OURS]:.4f}", f"{sizes[best]:.4f} ({best})"]
        lines.append(line)
    columns = ("type", "mag", "place in bias", "ours", "best fill", "place in rms", "ours")
    title = "### Places, circle, CRs that reach into it\n\n"
    return title + _table((*columns, "best fill"), lines)


def _sources(rows: Sequence[dict]) -> str:
    lines = []
    for row in rows:
        if row["aperture"]["change"]["n"] == 0:
            continue
        line = [row["type"], row["where"], row["mask"], row["method"]]
        line.append(row["aperture"]["change"]["n"])
        for name in ("aperture", "kron"):
            one = row[name]
            line += [f"{one['clean']:.4f}", f"{one['ratio']:.3f}", f"{one['implied']:.3f}"]
            line += _figures(one["change"])
        lines.append([*line, row["kron"]["change"]["lost"]])
    figures = ("CR-free scatter", "ratio", "implied", "median Δ", "scatter Δ", "rms Δ")
    kron = [f"Kron {name}" for name in figures]
    head = ("type", "hits", "mask", "method", "n", *figures, *kron, "not found")
    return (
        "## Full frames\n\nSources with S/N > 20 and a CR pixel within 5 px.  Ratio: scatter "
        "of mended − catalogue over that of CR-free − catalogue (what galaxies of like size "
        "miss in the median is taken off); implied: that ratio if photons and read noise alone "
        "scattered the CR-free magnitudes; Δ: mended − CR-free.  "
        "*outside*, *inside*: of the half-light radius.\n\n" + _table(head, lines)
    )


def _shapes(rows: Sequence[dict]) -> str:
    lines = [
        (
            row["type"],
            row["mask"],
            row["method"],
            row["e1"]["n"],
            *(
                text
                for name in ("e1", "e2")
                for text in (
                    f"{row[name]['mean']:+.5f} ± {row[name]['mean_error']:.5f}",
                    f"{row[name]['median']:+.5f}",
                    f"{row[name]['scatter']:.5f}",
                )
            ),
        )
        for row in rows
        if row["e1"]["n"]
    ]
    figures = ("e1 mean", "median", "scatter", "e2 mean", "median", "scatter")
    return "## Added ellipticity\n\n" + _table(("type", "mask", "method", "n", *figures), lines)


def _sigma(rows: Sequence[dict]) -> str:
    lines = [
        (
            row["mask"],
            row["filled"],
            row["place"],
            row["n"],
            f"{row['one']:.1f}",
            f"{row['two']:.1f}",
            f"{row['factor_68']:.3f}",
            f"{row['factor_95']:.3f}",
        )
        for row in rows
        if row["n"]
    ]
    shares = ("within 1 σ %", "within 2 σ %", "factor for 68.3 %", "factor for 95.5 %")
    head = ("mask", "filled by", "place", "pixels", *shares)
    return (
        "## Sigma\n\n(mended − CR-free pixel) over the error that comes with it; pixels within "
        "5 px of a source by its magnitude.\n\n" + _table(head, lines)
    )


def _sky(rows: Sequence[dict]) -> str:
    lines = [
        (row["method"], row["n"], f"{row['mean']:+.4f}", *_figures(row)[:2], _figures(row)[2])
        for row in rows
    ]
    return (
        "## Sky\n\nMended − CR-free pixel in units of the noise; the noise of the CR-free "
        "pixel alone makes an rms of 1.\n\n"
        + _table(("method", "pixels", "mean", "median", "scatter", "rms"), lines)
    )


def _policy(rows: Sequence[dict]) -> str:
    lines = [
        (
            "every CR pixel" if row["reach"] is None else f"{row['reach']:g}",
            row["cutouts"],
            row["pixels"],
            f"{row['seconds']:.2f}",
            row["star"]["n"],
            *_figures(row["star"]),
            row["galaxy"]["n"],
            *_figures(row["galaxy"]),
            f"{row['moved']:.4f}",
            row["left"]["n"],
            f"{row['left']['rms']:.3f}",
            f"{row['by_network']['rms']:.3f}",
        )
        for row in rows
    ]
    head = ("reach [px]", "cutouts", "network pixels", "s", "stars hit", "median Δ")
    head += ("scatter Δ", "rms Δ", "galaxies hit", "median Δ", "scatter Δ", "rms Δ")
    head += ("largest difference", "left to the median", "rms", "rms by the network")
    return (
        "## Policy: what is mended where\n\nCR pixels farther than *reach* from a source's "
        "footprint are left to the median.  Δ: mended − CR-free in the circle; largest "
        "difference: of any magnitude from that of the first line; rms: of the pixels left to "
        "the median, in units of the noise, and of the same pixels as the network has them.\n\n"
        + _table(head, lines)
    )


def _speed(speed: dict[str, float]) -> str:
    return (
        f"## Speed\n\n{speed['cutouts']} cutouts: {speed['all']:.1f} s, of which "
        f"{speed['graph']:.1f} s in the graph; {speed['processor']:.1f} s of processor "
        f"time; {speed['per_second']:.0f} cutouts per second.  Of a full frame like that one "
        f"{speed.get('sent', math.nan):.0f} would be sent.\n"
    )
