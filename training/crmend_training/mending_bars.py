"""The bars of the mending evaluation against what it found: one verdict per line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from crmend_training.mending_science import DRAWN, DRAWN_GROWN, OURS
from crmend_training.mending_summary import NO_FILLS

MET, NOT_MET, NOT_MEASURED = "met", "**not met**", "not measured"

NEVER_RANKED = (*NO_FILLS, OURS, DRAWN, DRAWN_GROWN)
"""What is no classical fill."""

BRIGHT = (17.0, 19.0, 21.0)
"""Magnitudes at which the bias has a bar."""

ONE_SIGMA, TWO_SIGMA = (66.0, 70.0), (94.0, 96.0)
"""Shares of mended pixels [%] that an honest sigma holds."""

LEAST_PULLS = 100
"""Pixels from which on their shares are judged: 5 % is then 1 sigma of the share."""

PLURAL = {"star": "stars", "galaxy": "galaxies", "both": "all sources"}

PHOTOMETRY = {"aperture": "circle", "kron": "Kron"}


class Bar(NamedTuple):
    """One line: what the bar asks for, what was found, and whether that holds."""

    what: str
    bar: str
    found: str
    verdict: str


def bars(result: dict[str, Any]) -> list[Bar]:
    """Return the bars in their order; what was not measured says so."""
    lines = _science_bars(result.get("science") or {})
    lines += _scatter_bars(result.get("sources") or [])
    lines += _rank_bars(result)
    lines += _sky_bars(result.get("sky") or [])
    lines += _shape_bars(result.get("shapes") or [])
    lines += _sigma_bars(result.get("sigma") or [])
    lines += _mask_bars(result)
    lines += _unchanged_bars(result.get("unchanged") or [])
    speed = result.get("speed") or {}
    for what, count in (
        ("5,000 cutouts [s]", 5000),
        (
            "as many cutouts as the policy sends of a full frame [s]",
            speed.get("sent", math.nan),
        ),
    ):
        seconds = speed["all"] * count / speed["cutouts"] if speed.get("cutouts") else math.nan
        lines.append(at_most(what, seconds, 15.0, "{:.1f}"))
    return lines


def at_most(
    what: str, found: float, limit: float, form: str = "{:.4f}", error: float = math.nan
) -> Bar:
    """Return one line: found is to be at most the limit."""
    if found is None or math.isnan(found):
        return Bar(what, "≤ " + form.format(limit), "—", NOT_MEASURED)
    text = form.format(found)
    if not math.isnan(error):
        text += " ± " + form.format(error)
    return Bar(what, "≤ " + form.format(limit), text, MET if found <= limit else NOT_MET)


# --- science set ------------------------------------------------------------------------


def _science_bars(science: dict[str, list[dict]]) -> list[Bar]:
    lines = []
    for kind in ("star", "galaxy"):
        for magnitude in BRIGHT:
            own = _pick(science.get("cells"), type=kind, mag=magnitude, method=OURS)
            what = f"bias, {PLURAL[kind]} of mag {magnitude:g}, CR at 0–15 px"
            lines += [_bias(f"{what}, {PHOTOMETRY[name]}", own, name) for name in PHOTOMETRY]
    for name, word in PHOTOMETRY.items():
        near = _bright_biases(_of(science.get("touched"), method=OURS), name)
        what = f"… largest of those cells, only CRs that reach into the circle, {word}"
        lines.append(at_most(what, largest(near), 0.01))
    own = _pick(science.get("central"), method=OURS)
    for name, word in PHOTOMETRY.items():
        spread = (own or {}).get(name, {})
        what = f"mag 23 star, central hit, {word}"
        lines.append(_bias(f"{what}: bias", own, name, 0.03))
        lines.append(at_most(f"{what}: scatter", spread.get("scatter", math.nan), 0.15))
    return lines + _trend_bars(science.get("trends"))


def _bright_biases(rows: Sequence[dict], name: str) -> list[float]:
    """Return |median Δm| of the rows of bright sources."""
    return [abs(row[name]["median"]) for row in rows if row["mag"] in BRIGHT]


def _bias(what: str, row: dict | None, name: str, limit: float = 0.01) -> Bar:
    """Return the line of a median Δm, with its sign."""
    spread = (row or {}).get(name, {"median": math.nan, "error": math.nan})
    line = at_most(what, abs(spread["median"]), limit)
    if line.verdict == NOT_MEASURED:
        return line
    return line._replace(
        bar=f"\\|median\\| ≤ {limit:g}",
        found=f"{spread['median']:+.4f} ± {spread['error']:.4f}",
    )


def _trend_bars(trends: Sequence[dict] | None) -> list[Bar]:
    """Return the worst cell's trend: a line each for distance, energy and photometry."""
    lines = []
    for along, span in (("distance", "0–15 px"), ("energy", "two decades")):
        for name, word in PHOTOMETRY.items():
            cells = [
                row[f"{name}_{along}"] | {"cell": f"{row['type']} {row['mag']:g}"}
                for row in _of(trends, method=OURS)
                if row["mag"] in BRIGHT and not math.isnan(row[f"{name}_{along}"]["range"])
            ]
            what = f"trend with {along} over {span}, mag ≤ 21, {word}"
            if not cells:
                lines.append(at_most(what, math.nan, 0.01))
                continue
            worst = max(cells, key=lambda cell: cell["range"])
            what += f" (worst cell: {worst['cell']})"
            lines.append(at_most(what, worst["range"], 0.01, error=worst["error"]))
    return lines


# --- frames -----------------------------------------------------------------------------


def _scatter_bars(sources: Sequence[dict]) -> list[Bar]:
    lines = []
    for mask in ("true", "drawn"):
        for where, limit in (("all", 1.3), ("outside", 1.05)):
            for kind in ("both", "star", "galaxy"):
                row = _pick(sources, type=kind, where=where, mask=mask, method=OURS)
                place = "" if where == "all" else ", hit outside the half-light radius"
                what = f"scatter / CR-free, {PLURAL[kind]} of S/N > 20{place}, mask {mask}"
                for name, word in PHOTOMETRY.items():
                    found = (row or {}).get(name, {}).get("ratio", math.nan)
                    lines.append(at_most(f"{what}, {word}", found, limit, "{:.3f}"))
    return lines


def _rank_bars(result: dict[str, Any]) -> list[Bar]:
    """Return ours against the best classical fill, in bias and rms, on stars and galaxies."""
    lines = []
    science, sources = result.get("science") or {}, result.get("sources") or []
    for kind in ("star", "galaxy"):
        near = [row for row in _of(science.get("bins"), type=kind) if _is_close(row)]
        own = _of(sources, type=kind, where="all", mask="true")
        for name, word in (("median", "bias"), ("rms", "rms")):
            means = _mean_by_method(near, name)
            what = f"{PLURAL[kind]}, CR within 5 px: {word}; best classical fill"
            lines.append(_first(what, means))
            natural = {row["method"]: row["aperture"]["shared"] for row in own}
            error = (
                natural.get(OURS, {}).get("error", math.nan) if name == "median" else math.nan
            )
            sizes = {method: abs(spread[name]) for method, spread in natural.items()}
            what = f"{PLURAL[kind]} hit by a frame's own CRs: {word}; best classical fill"
            lines.append(_first(what, sizes, error))
    return lines


def _first(what: str, by_method: dict[str, float], error: float = math.nan) -> Bar:
    """Return whether ours has the smallest figure."""
    peers = {
        method: value
        for method, value in by_method.items()
        if method not in NEVER_RANKED and not math.isnan(value)
    }
    if not peers or math.isnan(by_method.get(OURS, math.nan)):
        return Bar(what, "first", "—", NOT_MEASURED)
    best = min(peers, key=peers.__getitem__)
    line = at_most(what, by_method[OURS], peers[best], error=error)
    return line._replace(bar=f"first: {line.bar} ({best})")


def _is_close(row: dict) -> bool:
    """Return whether a bin is one of distance, within 5 px, and holds five CRs or more."""
    return row["along"] == "distance" and row["to"] <= 5.0 and row["aperture"]["n"] >= 5


def _mean_by_method(rows: Sequence[dict], name: str) -> dict[str, float]:
    """Return the mean of a figure's size over magnitudes and distances, by method."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["method"], []).append(abs(row["aperture"][name]))
    return {method: sum(sizes) / len(sizes) for method, sizes in values.items()}


def _sky_bars(sky: Sequence[dict]) -> list[Bar]:
    rms = {row["method"]: row["rms"] for row in sky}
    what = "sky: rms of mended pixels [noise]; 5×5 median"
    if "5×5 median" not in rms:
        return [Bar(what, "no worse", "—", NOT_MEASURED)]
    return [at_most(what, rms[OURS], rms["5×5 median"])]


def _shape_bars(shapes: Sequence[dict]) -> list[Bar]:
    lines = []
    for kind in ("star", "galaxy"):
        row = _pick(shapes, type=kind, mask="true", method=OURS) or {}
        for name in ("e1", "e2"):
            own = row.get(name, {"mean": math.nan, "mean_error": math.nan, "scatter": math.nan})
            what = f"added ellipticity, {PLURAL[kind]}, mean {name}"
            line = at_most(what, abs(own["mean"]), 1e-3, "{:.5f}", own["mean_error"])
            if line.verdict != NOT_MEASURED:
                line = line._replace(found=f"{line.found}, scatter {own['scatter']:.4f}")
            lines.append(line)
    return lines


def _sigma_bars(sigma: Sequence[dict]) -> list[Bar]:
    lines = []
    for row in _of(sigma, mask="true", filled="any"):
        what = f"sigma, {row['place']}"
        shares = f"{ONE_SIGMA[0]:g}–{ONE_SIGMA[1]:g} % / {TWO_SIGMA[0]:g}–{TWO_SIGMA[1]:g} %"
        if row["n"] < LEAST_PULLS:
            lines.append(Bar(what, shares, f"{row['n']} pixels", NOT_MEASURED))
            continue
        good = ONE_SIGMA[0] <= row["one"] <= ONE_SIGMA[1]
        good = good and TWO_SIGMA[0] <= row["two"] <= TWO_SIGMA[1]
        found = f"{row['one']:.1f} % / {row['two']:.1f} % ({row['n']} pixels)"
        lines.append(Bar(what, shares, found, MET if good else NOT_MET))
    return lines


def _mask_bars(result: dict[str, Any]) -> list[Bar]:
    """Return whether the masks as detection draws them, the default, beat grown ones."""
    rms = {}
    for mask in ("drawn", "drawn +1 px"):
        row = _pick(result.get("sources"), type="both", where="all", mask=mask, method=OURS)
        rms[mask] = (row or {}).get("aperture", {}).get("change", {}).get("rms", math.nan)
    what = "masks as drawn: rms of mended − CR-free, S/N > 20; grown by 1 px"
    line = at_most(what, rms["drawn"], rms["drawn +1 px"])
    limit = "" if line.verdict == NOT_MEASURED else f": {line.bar}"
    line = line._replace(bar=f"the better is the default{limit}")
    lines = [line]
    science = result.get("science") or {}
    for method in (DRAWN, DRAWN_GROWN):
        for name, word in PHOTOMETRY.items():
            cells = _bright_biases(_of(science.get("cells"), method=method), name)
            what = f"largest bias, mag ≤ 21, CR at 0–15 px, {method}, {word}"
            lines.append(at_most(what, largest(cells), 0.01))
    return lines


def _unchanged_bars(rows: Sequence[dict]) -> list[Bar]:
    what = "pixels outside the mask that changed in any bit (image, error)"
    if not rows:
        return [Bar(what, "0", "—", NOT_MEASURED)]
    changed, pixels = (sum(row[name] for row in rows) for name in ("changed", "pixels"))
    return [Bar(what, "0", f"{changed} of {pixels}", NOT_MET if changed else MET)]


def largest(values: Iterable[float]) -> float:
    """Return the largest number; NaN where there is none."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _of(rows: Sequence[dict] | None, **wanted: object) -> list[dict]:
    """Return the rows with the values given."""
    return [row for row in rows or [] if all(row[k] == v for k, v in wanted.items())]


def _pick(rows: Sequence[dict] | None, **wanted: object) -> dict | None:
    """Return the first row with the values given, None = there is none."""
    return next(iter(_of(rows, **wanted)), None)
