"""The report of the mending evaluation: the bars of issue 5, then the tables, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_PLURAL = {"star": "stars", "galaxy": "galaxies"}

PEERS_NEVER_RANKED = ("contaminated", "masked", "ours")

ONE_SIGMA, TWO_SIGMA = (66.0, 70.0), (94.0, 96.0)
"""Shares of mended pixels [%] that an honest sigma holds (issue 5)."""


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
    parts.append("## Bars\n\n" + _table(("what", "bar", "found", "holds"), bars(result)))
    parts += [write(result[name]) for name, write in sections if result.get(name)]
    for name, message in result.get("missing", {}).items():
        parts.append(f"{name} did not run: `{message}`\n")
    return "\n".join(parts)


# --- bars -----------------------------------------------------------------------------


def bars(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what issue 5 asks for, what was found, and whether it holds."""
    lines = []
    if science := result.get("science"):
        lines += _science_bars(science)
    if sources := result.get("sources"):
        lines += _source_bars(sources)
    for row in result.get("shapes") or []:
        if (row["mask"], row["method"]) == ("true", "ours") and row["e1"]["n"]:
            mean = max(abs(row["e1"]["mean"]), abs(row["e2"]["mean"]))
            lines.append(_bar(f"added ellipticity, {row['type']}", mean, 1e-3, "{:.5f}"))
    for row in result.get("sigma") or []:
        if row["mask"] == "true" and row["n"] >= 100:
            lines.append(_sigma_bar(row))
    if sky := result.get("sky"):
        rms = {row["method"]: row["rms"] for row in sky}
        medians = [value for name, value in rms.items() if name.endswith("median")]
        if medians:
            lines.append(_bar("sky: rms [noise], best median", rms["ours"], min(medians)))
    if speed := result.get("speed"):
        seconds = speed["all"] * 5000 / speed["cutouts"]
        lines.append(_bar("5,000 cutouts [s]", seconds, 15.0, "{:.1f}"))
    return lines


def _bar(
    what: str, found: float, limit: float, form: str = "{:.4f}"
) -> tuple[str, str, str, str]:
    """Return one line: found is to be at most the limit."""
    holds = "not measured" if math.isnan(found) else "yes" if found <= limit else "**no**"
    return what, "≤ " + form.format(limit), form.format(found), holds


def _science_bars(science: dict[str, list[dict]]) -> list[tuple[str, str, str, str]]:
    lines = []
    for name, photometry in (("fixed aperture", "aperture"), ("Kron", "kron")):
        bright = [r for r in science["cells"] if r["method"] == "ours" and r["mag"] <= 21]
        bias = _largest(abs(row[photometry]["median"]) for row in bright)
        lines.append(_bar(f"largest bias, mag ≤ 21, {name}", bias, 0.01))
        near = [r for r in science["touched"] if r["method"] == "ours" and r["mag"] <= 21]
        bias = _largest(abs(row[photometry]["median"]) for row in near)
        what = f"largest bias of CRs within the circle, mag ≤ 21, {name}"
        lines.append(_bar(what, bias, 0.01))
        trends = [r for r in science["trends"] if r["method"] == "ours" and r["mag"] <= 21]
        for along in ("distance", "energy"):
            found = _largest(row[f"{photometry}_{along}"] for row in trends)
            lines.append(_bar(f"trend with {along}, mag ≤ 21, {name}", found, 0.01))
        for row in science["central"]:
            if row["method"] == "ours":
                what, own = f"mag 23 star, central hit, {name}", row[photometry]
                lines.append(_bar(f"{what}: bias", abs(own["median"]), 0.03))
                lines.append(_bar(f"{what}: scatter", own["scatter"], 0.15))
    for kind in ("star", "galaxy"):
        own = [r for r in science["bins"] if r["type"] == kind and _is_close(r)]
        for name in ("median", "rms"):
            mean = _mean_by_method(own, name)
            peers = [v for method, v in mean.items() if method not in PEERS_NEVER_RANKED]
            if peers and "ours" in mean:
                what = f"{_PLURAL[kind]}, CR within 5 px: size of {name}; best classical fill"
                lines.append(_bar(what, mean["ours"], min(peers)))
    return lines


def _is_close(row: dict) -> bool:
    """Return whether a bin is one of distance, within 5 px, and holds five CRs or more."""
    return row["along"] == "distance" and row["to"] <= 5.0 and row["aperture"]["n"] >= 5


def _mean_by_method(rows: Sequence[dict], name: str) -> dict[str, float]:
    """Return the mean of a figure's size over magnitudes and distances, by method."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["method"], []).append(abs(row["aperture"][name]))
    return {method: sum(sizes) / len(sizes) for method, sizes in values.items()}


def _source_bars(sources: Sequence[dict]) -> list[tuple[str, str, str, str]]:
    lines = []
    for row in sources:
        if row["method"] != "ours" or row["type"] == "both" or row["where"] == "inside":
            continue
        if row["aperture"]["change"]["n"] == 0:
            continue
        limit = 1.3 if row["where"] == "all" else 1.05
        where = "all" if row["where"] == "all" else "outside the half-light radius"
        for name, photometry in (("fixed aperture", "aperture"), ("Kron", "kron")):
            kind = _PLURAL[row["type"]]
            what = f"scatter / CR-free, {kind}, {where}, mask {row['mask']}, {name}"
            lines.append(_bar(what, row[photometry]["ratio"], limit, "{:.3f}"))
    return lines


def _sigma_bar(row: dict) -> tuple[str, str, str, str]:
    good = ONE_SIGMA[0] <= row["one"] <= ONE_SIGMA[1]
    good = good and TWO_SIGMA[0] <= row["two"] <= TWO_SIGMA[1]
    return (
        f"sigma of {row['filled']} pixels, {row['place']}",
        "66–70 % / 94–96 %",
        f"{row['one']:.1f} % / {row['two']:.1f} %",
        "yes" if good else "**no**",
    )


def _largest(values: Iterable[float]) -> float:
    """Return the largest number; NaN where there is none."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)


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
        (r["type"], r["mag"], r["method"], *(f"{r[name]:.4f}" for name in names))
        for r in science["trends"]
    ]
    title = "### Trends: largest − smallest median of those bins\n\n"
    columns = ("circle, distance", "circle, energy", "Kron, distance", "Kron, energy")
    return "\n".join([*parts, title + _table(("type", "mag", "method", *columns), lines)])


def _sources(rows: Sequence[dict]) -> str:
    lines = []
    for row in rows:
        if row["aperture"]["change"]["n"] == 0:
            continue
        line = [row["type"], row["where"], row["mask"], row["method"]]
        line.append(row["aperture"]["change"]["n"])
        for name in ("aperture", "kron"):
            one = row[name]
            line += [f"{one['clean']:.4f}", f"{one['ratio']:.3f}", *_figures(one["change"])]
        lines.append([*line, row["kron"]["change"]["lost"]])
    figures = ("CR-free scatter", "ratio", "median Δ", "scatter Δ", "rms Δ")
    kron = [f"Kron {name}" for name in figures]
    head = ("type", "hits", "mask", "method", "n", *figures, *kron, "not found")
    return (
        "## Full frames\n\nSources with S/N > 20 and a CR pixel within 5 px.  Ratio: scatter "
        "of mended − catalogue over that of CR-free − catalogue (what galaxies of like size "
        "miss in the median is taken off); Δ: mended − CR-free.  "
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
            row["change"]["n"],
            *_figures(row["change"]),
        )
        for row in rows
    ]
    head = ("reach [px]", "cutouts", "network pixels", "s", "sources hit")
    return "## Policy\n\n" + _table((*head, "median Δ", "scatter Δ", "rms Δ"), lines)


def _speed(speed: dict[str, float]) -> str:
    return (
        f"## Speed\n\n{speed['cutouts']} cutouts: {speed['all']:.1f} s, of which "
        f"{speed['graph']:.1f} s in the graph; {speed['per_second']:.0f} cutouts per second.\n"
    )
