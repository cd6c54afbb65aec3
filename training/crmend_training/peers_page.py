"""The benchmark's page: one HTML file that holds its figures."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crmend_training import peers_figures as figures
from crmend_training import peers_report as report
from crmend_training.peers_catalogue import DETECTION, MENDING, TUNING_LEVELS
from crmend_training.peers_hits import REACH

_STYLE = """
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 1250px; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0 }
th, td { border-bottom: 1px solid #ccc; padding: 2px 8px; text-align: right }
th:first-child, td:first-child { text-align: left } tr.ours { background: #fdeae6 }
td.error { color: #a00; text-align: left } img { max-width: 100% }
"""

_COSTS = {
    "frames": "frames",
    "failed": "failed",
    "cpu_seconds_per_mpx": "CPU s/Mpx",
    "seconds_per_mpx": "s/Mpx",
    "peak_mib": "peak MiB",
}


def write_report(out: Path, results: Sequence[report.Result], about: Mapping[str, Any]) -> Path:
    """Write CSV files, figures and ``report.html``.

    Parameters
    ----------
    out : Path
    results : sequence of dict
        From `peers_run.stored_results`.
    about : mapping
        What the page says of the run: ``command``, ``machine``, ``threads``, ``notes``.

    Returns
    -------
    Path
        Of the page.
    """
    detection, mending = report.detection_table(results), report.mending_table(results)
    costs = report.costs_table(results)
    for name, rows in (
        ("detection", detection),
        ("mending", mending),
        ("costs", costs),
        ("runs", report.runs_table(results)),
    ):
        report.write_csv(out / f"{name}.csv", rows)
    curves = report.curves(results)
    if curves:
        figures.draw_curves(curves, out / "curves.png")
    scored = [row for row in mending if row["place"] != "none"]
    if scored:
        figures.draw_mending(scored, out / "mending.png")
    figures.draw_costs(costs, out / "costs.png")
    parts = [
        "<h1>crmend and its peers</h1>",
        _first_paragraph(results, detection, mending, costs),
        _about(about, results),
        "<h2>Detection</h2>" if detection else "",
        *_detection_parts(detection),
        _picture(out / "curves.png"),
        "<h2>Mending</h2>" if mending else "",
        *_mending_parts(mending),
        _picture(out / "mending.png"),
        "<h2>Time and memory</h2>",
        _picture(out / "costs.png"),
        "<h2>Settings</h2>",
        _settings(out),
        "<h2>Pictures</h2>",
        *[_picture(path) for path in sorted((out / "pictures").glob("*.png"))],
    ]
    head = "<!doctype html><meta charset=utf-8><title>crmend and its peers</title>"
    path = out / "report.html"
    page = f"{head}<style>{_STYLE}</style>" + "\n".join(parts)
    path.write_text(page, encoding="utf-8")
    return path


def _first_paragraph(
    results: Sequence[report.Result],
    detection: Sequence[report.Result],
    mending: Sequence[report.Result],
    costs: Sequence[report.Result],
) -> str:
    """Return where we lose, before anything else."""
    sentences, count = report.losses(detection, mending)
    if not count:
        text = "<b>Where we lose:</b> nothing was compared."
    elif sentences:
        listed = "; ".join(html.escape(one) for one in sentences)
        text = f"<b>Where we lose:</b> in {len(sentences)} of {count} figures: {listed}."
    else:
        text = f"<b>Where we lose:</b> in none of {count} figures."
    missing = "; ".join(html.escape(one) for one in report.gaps(results, mending))
    missing = f" <b>Failed or missing:</b> {missing}." if missing else ""
    return f"<p>{text} {html.escape(report.cost_sentence(costs))}.{missing}</p>"


def _about(about: Mapping[str, Any], results: Sequence[report.Result]) -> str:
    detected = [r for r in results if r["task"] == "detect"]
    simulated = {r["frame"] for r in detected if r["stratum"].startswith("simulated")}
    real = {r["frame"] for r in detected} - simulated
    mended = {r["frame"] for r in results if r["task"] == "mend"}
    sizes = ", ".join(sorted({r["pixels"] for r in results}))
    lines = [
        f"Command: <code>{html.escape(str(about.get('command', '')))}</code>",
        f"Machine: {html.escape(str(about.get('machine', '')))}; "
        f"{about.get('threads', 1)} thread(s) "
        f"for every method, each in a process of its own, {about.get('jobs', 1)} at a time; "
        "loading, and a 64 × 64 corner as a warm-up, are not timed; CPU seconds count what the "
        "process and its children used, seconds what a clock says; memory is the peak of the "
        "whole process.",
        f"Detection: {len(simulated)} simulated, {len(real)} real frames; mending: "
        f"{len(mended)}; sizes: {sizes}. Recall (TPR) counts CR pixels "
        "above 5 e-, precision and FPR count pixels with or without any CR charge; bad and "
        "saturated pixels take no part. In real exposures a CR pixel is one of the truth.",
        "Methods without probabilities show the best of their settings on these very frames: "
        "a choice in their favour. Mending: every star and galaxy with S/N above 20 is hit by "
        f"a copy of one of the frame's own CRs within {REACH:g} px of its centre, in "
        f"{about.get('rounds', 0)} round(s) (none: the frame as it is). All fill the same "
        "mask, that of the true CRs above 1 e-; change of magnitude in a 5 px circle against "
        "the same frame without CRs.",
        "Real exposures of instruments that the tool does not know: where the sky is much "
        "quieter than the photons of its level, the rest of the level is subtracted as bias.",
        *[html.escape(note) for note in about.get("notes", ())],
    ]
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _detection_parts(rows: Sequence[report.Result]) -> list[str]:
    columns = report.DETECTION_FIGURES | {"recall": "its recall", "precision": "its precision"}
    parts = []
    for group in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == group]
        parts += [f"<h3>{html.escape(group)}</h3>", _table(own, "peer", columns | _COSTS)]
    return parts


def _mending_parts(rows: Sequence[report.Result]) -> list[str]:
    columns = {"n": "n", "lost": "lost", "bias": "bias", "scatter": "scatter", "rms": "rms"}
    shape = {"shape_bias": "added ellipticity", "shape_scatter": "its scatter"}
    parts = []
    for place in dict.fromkeys(row["place"] for row in rows):
        own = [row for row in rows if row["place"] == place]
        more = shape if any("shape_bias" in row for row in own) else {}
        title = "failed" if place == "none" else place
        unit = " [noise]" if place == "sky" else " [mag]"
        parts.append(f"<h3>{html.escape(title)}{'' if place == 'none' else unit}</h3>")
        parts.append(_table(own, "peer", ({} if place == "none" else columns | more) | _COSTS))
    return parts


def _table(rows: Sequence[report.Result], first: str, columns: Mapping[str, str]) -> str:
    """Return an HTML table; errors stand in a last column."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns.values()))
    errors = any(row.get("error") for row in rows)
    lines = [f"<tr>{head}{'<th>error</th>' if errors else ''}</tr>"]
    for row in rows:
        ours = " class=ours" if row[first].startswith("crmend") else ""
        cells = "".join(f"<td>{_cell(name, row.get(name))}</td>" for name in columns)
        said = html.escape(row.get("error") or "")
        error = f"<td class=error>{said}</td>" if errors else ""
        lines.append(f"<tr{ours}><td>{html.escape(row[first])}</td>{cells}{error}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "not reached" if name == "precision_at_95" else "–"
    if not isinstance(value, float):
        return html.escape(str(value))
    return f"{value:.0f}" if name in ("peak_mib", "n", "lost") else f"{value:.4f}"


def _settings(out: Path) -> str:
    """Return the settings of every method, and what tuning chose."""
    lines = [
        f"<li>{peer.task}: {html.escape(peer.name)}: {html.escape(peer.note)}</li>"
        for peer in (*DETECTION, *MENDING)
    ]
    for path in sorted(out.glob("tuning_*.json")):
        tuned = json.loads(path.read_text())
        for name, one in tuned["peers"].items():
            if one["chosen"]:
                kept = html.escape(json.dumps(one["families"]))
                where = f"{html.escape(tuned['name'])}, {one['frames']} frame(s)"
                lines.append(f"<li>tuned on {where}: {html.escape(name)}: {kept}</li>")
            elif one["error"]:
                said = html.escape(one["error"])
                lines.append(f"<li>not tuned: {html.escape(name)}: {said}</li>")
    swept = "; ".join(
        f"{html.escape(peer.name)}: {', '.join(f'{x:g}' for x in peer.levels)} sigma"
        for peer in DETECTION
        if peer.sweep
    )
    tuned = ", ".join(f"{x:g}" for x in TUNING_LEVELS)
    said = f"Thresholds of methods without probabilities: {swept}; tuned at {tuned} sigma."
    return f"<p>{said}</p><ul>{''.join(lines)}</ul>"


def _picture(path: Path) -> str:
    """Return a picture within the page, nothing where there is no file."""
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'
