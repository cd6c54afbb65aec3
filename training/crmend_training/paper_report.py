"""The report of `tools/reproduce_paper.py`: tables as CSV, and one HTML page with all in it."""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crmend_training import paper_summary as summary
from crmend_training import paper_values as paper
from crmend_training.paper_bars import Bar, Tables, judge, number, shortfalls
from crmend_training.paper_frames import AFFECTED, CUTOUT_HALF
from crmend_training.paper_photometry import LEAST_PIXELS, REACH, THRESHOLD

Row = dict[str, Any]

CSV_TABLES = (
    "figure2", "figure3", "figure4", "figure5", "figure5_cases", "figure6", "figure6_bars",
    "table1", "table1_radii", "spurious", "contaminated", "figure7", "figure7_ssim",
)  # fmt: skip
"""Names of the tables that become CSV files."""

SAMPLE_DETECTOR = 9
"""The paper's example in Figure 4, which is taken alone where a run holds enough of it."""

_ENOUGH_FRAMES = 20  # of detector 09, as the paper's Figure 4


def make_tables(frames: Sequence[Row], science: Sequence[Row]) -> Tables:
    """Return every table of the report from the stored results.

    Raises
    ------
    ValueError
        There is no frame.
    """
    if not frames:
        raise ValueError("there is no measured frame; expected one at least")
    sources = summary.pool_sources(frames)
    figure2 = summary.recall_precision(frames)
    counts = summary.number_counts(sources)
    own = [f for f in frames if f["detector"] == SAMPLE_DETECTOR]
    sample = own if len(own) >= _ENOUGH_FRAMES else list(frames)
    cases = summary.science_cases(science)
    return {
        "frames": len(frames),
        "science": sum(len(one["sources"]) for one in science),
        "shapes": sorted({tuple(frame["shape"]) for frame in frames}),
        "fields": sorted({frame["field"] for frame in frames}),
        "laws": sorted({frame["law"] for frame in frames}),
        "sources": sources,
        "affected": summary.affected(sources),
        "figure2": figure2,
        "over_detectors": summary.over_detectors(figure2, frames),
        "pooled_recall": summary.pooled_by_charge(frames),
        "detector_recall": {
            detector: summary.pooled_by_charge(own)
            for detector, own in summary.by_detector(frames).items()
        },
        "figure3": summary.recall_by_charge(frames),
        "figure4": summary.charges(sample),
        "figure4_frames": len(sample),
        "one_electron": 100.0 * _mean(f["charges"]["one_electron"] for f in sample),
        "cr_share": 100.0 * _mean(f["charges"]["above_0"] for f in frames),
        "figure5": summary.science_table(cases),
        "figure5_cases": cases,
        "figure5_sources": science[0]["sources"] if science else [],
        "figure5_offsets": [
            {"detector": one["detector"]} | {k: s[k] for k in ("type", "mag", "offset")}
            for one in science
            for s in one["sources"]
        ],
        "figure6": summary.magnitude_errors(sources),
        "figure6_bars": summary.range_ratios(sources),
        "table1": summary.detected_sources(sources),
        "table1_radii": [
            {"radius": radius} | row
            for radius in summary.RADII
            for row in summary.detected_sources(sources, radius)
        ],
        "spurious": summary.spurious(frames),
        "contaminated": summary.contaminated(frames, sources),
        "figure7": counts,
        "figure7_ssim": summary.similarities(sources, counts),
    }


def write_tables(tables: Tables, bars: Sequence[Bar], folder: Path) -> None:
    """Write each of `CSV_TABLES`, and ``bars.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_of = {name: tables[name] for name in CSV_TABLES}
    rows_of["bars"] = [vars(bar) for bar in bars]
    for name, rows in rows_of.items():
        headings = list(dict.fromkeys(key for row in rows for key in row))
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, headings)
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def write_report(
    tables: Tables, figures: dict[str, Path], path: Path, run: dict[str, str]
) -> list[Bar]:
    """Write the HTML report, images embedded; return its bars.

    Parameters
    ----------
    tables : dict
        From `make_tables`.
    figures : dict
        PNG of each figure, from `paper_figures.draw_all`.
    path : Path
    run : dict
        What was run, such as command and version; shown as it is.
    """
    bars = judge(tables)
    parts = [
        f"<p><strong>{escape(shortfalls(bars))}</strong></p>",
        f"<p>{escape(_basis(tables))}</p>",
        _list(f"{name}: {text}" for name, text in run.items()),
        "<h2>Bars</h2>",
        _table([_bar_row(bar) for bar in bars]),
        *_detection_sections(tables, figures),
        *_science_section(tables, figures),
        *_source_sections(tables, figures),
    ]
    page = _PAGE.format(body="\n".join(parts))
    temporary = path.with_suffix(".part")
    temporary.write_text(page)
    temporary.replace(path)
    return bars


# --- sections -------------------------------------------------------------------------


def _basis(tables: Tables) -> str:
    shapes = ", ".join(" × ".join(map(str, shape)) for shape in tables["shapes"])
    detectors = len(tables["figure2"])
    return (
        f"From {tables['frames']} simulated frames of {shapes} px, {detectors} detectors, CR "
        f"law {', '.join(tables['laws'])}, fields {', '.join(tables['fields'])}.  The "
        "simulation is ours, not the official one that the paper used, and its frames are "
        "parts of a chip, so numbers stand beside the paper's, not against them.  CR pixels (> "
        f"0 e-) are {tables['cr_share']:.2f} % of all (paper: 2–3 %).  Masks are those that "
        "crmend.clean draws, except in Figure 5.  Bad and saturated pixels take no part in "
        "Figures 2 and 3, and a CR on them does not affect a source."
    )


def _detection_sections(tables: Tables, figures: dict[str, Path]) -> list[str]:
    found, frames = tables["over_detectors"], f"{tables['frames']} frames"
    two = (
        f"Recall of CR pixels > 5 e-, precision counting any pixel > 0 e- as true.  Paper: "
        f"recall {paper.RECALL:.2f} ± {paper.RECALL_SD:.2f} %, precision {paper.PRECISION:.2f} "
        f"± {paper.PRECISION_SD:.2f} %.  Ours, mean ± SD over detectors of the medians: "
        f"{number(found['recall'], '.2f')} ± {number(found['recall_sd'], '.2f', ' %')} and "
        f"{number(found['precision'], '.2f')} ± {number(found['precision_sd'], '.2f', ' %')}; "
        f"all pixels together {number(found['pooled_recall'], '.2f', ' %')} and "
        f"{number(found['pooled_precision'], '.2f', ' %')}."
    )
    three = (
        "Paper: recall tends to 1 with charge, with a minor dip at about 6 to 20 e- (no "
        f"numbers given).  Ours: the curves.  Bins with under {summary.LEAST_PIXELS} CR pixels "
        "in a frame are left out."
    )
    one = tables["one_electron"]
    four = (
        f"Paper: CRs of 1 e- are {paper.ONE_ELECTRON:.0f} % of all, and the share of "
        f"track-like CRs falls rapidly in the dip.  Ours: {one:.1f} % of CR pixels hold 1 e-; "
        f"the share of tracks (6 px or longer, assumed) is {_share(tables, 2.5, 5.5)} % at 3–5 "
        f"e-, {_share(tables, 5.5, 20.5)} % at 6–20 e- and {_share(tables, 20.5, 100.5)} % at "
        "21–100 e-."
    )
    sample = f"{tables['figure4_frames']} frames"
    return [
        *_section("Figure 2: recall and precision", two, "figure 2", frames),
        _image(figures, "figure2"),
        _table(tables["figure2"]),
        *_section("Figure 3: recall against charge", three, "figure 3", frames),
        _image(figures, "figure3"),
        *_section("Figure 4: charge of CR pixels", four, "figure 4", sample),
        _image(figures, "figure4"),
    ]


def _share(tables: Tables, low: float, high: float) -> str:
    """Return the share of tracks between two charges [e-], in percent."""
    rows = [row for row in tables["figure4"] if row["from"] >= low and row["to"] <= high]
    pixels = sum(row["pixels"] for row in rows)
    return f"{100 * sum(row['of tracks'] for row in rows) / pixels:.0f}" if pixels else "–"


def _science_section(tables: Tables, figures: dict[str, Path]) -> list[str]:
    offsets = [row["offset"] for row in tables["figure5_offsets"] if row["offset"] is not None]
    values = "; ".join(
        f"{method} {value:+.2f} ± {error:.2f}"
        for method, (value, error) in paper.FAINT_STAR.items()
    )
    text = (
        f"Paper, star of {paper.REPRESENTATIVE[-1][1]} mag with CRs on its centre: {values} "
        "mag; everywhere else medians close to zero.  Ours: the table, Kron magnitudes; Δmag "
        "is that of the source with the CR (left, median-filtered with 5×5 px, or mended) "
        "minus that of the same stamp without, so that the source's own noise and the light "
        "outside of the Kron ellipse (CR-free − catalogue: "
        f"{number(min(offsets, default=math.nan), '+.2f')} to "
        f"{number(max(offsets, default=math.nan), '+.2f', ' mag')}) "
        "drop out.  Masks are the true ones.  Sources are drawn with the types and magnitudes "
        "of the paper's panels."
    )
    basis = f"{tables['science']} sources, {len(tables['figure5_cases']) // 3} CRs on them"
    return [
        *_section("Figure 5: CRs on single sources", text, "figure 5", basis),
        _image(figures, "figure5"),
        _table(tables["figure5"]),
    ]


def _source_sections(tables: Tables, figures: dict[str, Path]) -> list[str]:
    frames = f"{tables['frames']} frames"
    photometry = (
        f"Sources found with sep at {THRESHOLD} σ in {LEAST_PIXELS} or more pixels, Kron "
        f"magnitudes, matched one to one within {REACH:g} px of the catalogue, brightest "
        f"first.  Affected by CRs: a true CR pixel within {AFFECTED:g} px of the centre."
    )
    six = (
        f"{photometry}  Paper: after mending the median is closer to zero and the variance "
        "significantly reduced (no numbers).  Ours: the table compares the mended with the "
        f"CR-free image on the same sources; bins of under {summary.LEAST_SOURCES} sources are "
        "not judged; errors from resampling."
    )
    contaminated = ", ".join(
        f"{share} % of {name}"
        for name, share in zip(("stars", "galaxies"), paper.CONTAMINATED.values(), strict=True)
    )
    table_1 = (
        f"{photometry}  Paper (900 full frames): {paper.TABLE_1['total']['direct']:,} sources "
        f"found directly, {paper.TABLE_1['total']['masked']:,} with a mask, "
        f"{paper.TABLE_1['total']['mended']:,} mended (+{paper.GAIN} %).  Which sources count "
        f"and the matching radius are not stated, only that CRs contaminate {contaminated}.  "
        "Spurious: detections that no source of the catalogue is matched with; near: those of "
        f"them within {AFFECTED:g} px of a true CR pixel.  agree: measured within "
        f"{summary.CLOSE:g} mag of the truth."
    )
    ssim = f"{paper.SSIM['star']} for stars, {paper.SSIM['galaxy']} for galaxies"
    seven = (
        f"Paper (detector 08, mended): SSIM {ssim}, of the "
        "distributions of magnitudes; bins and window are not stated.  Ours: affected sources "
        "above the limit, bins of 0.25 mag, window of 7 bins, all detectors together.  The "
        f"last column, not in the paper, is the mean SSIM of {2 * CUTOUT_HALF + 1} px cutouts "
        "of these sources with the CR-free image."
    )
    return [
        *_section("Figure 6: photometry on full frames", six, "figure 6", frames),
        _image(figures, "figure6"),
        _table(tables["figure6_bars"]),
        *_section("Table 1: detected sources", table_1, "table 1", frames),
        _table(_paper_rows()),
        _table(tables["table1"]),
        _table(tables["spurious"]),
        "<p>By the radius within which a CR pixel counts [px], all types; and the share of "
        "sources that are then affected:</p>",
        _table([row for row in tables["table1_radii"] if row["type"] == "total"]),
        _table(tables["contaminated"]),
        *_section("Figure 7: number counts", seven, "figure 7", frames),
        _image(figures, "figure7"),
        _table(tables["figure7_ssim"]),
    ]


def _paper_rows() -> list[Row]:
    """Return Table 1 of the paper."""
    rows = []
    for kind, counts in paper.TABLE_1.items():
        gain = 100.0 * (counts["mended"] / counts["masked"] - 1.0)
        rows.append({"type": f"{kind} (paper)"} | counts | {"gain %": gain})
    return rows


# --- HTML -----------------------------------------------------------------------------


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The paper's results reproduced</title>
<style>
body {{ font: 15px/1.45 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; margin: 1em 0; font-size: 13px; }}
th, td {{ border: 1px solid #ccc; padding: 2px 7px; text-align: right; }}
th:first-child, td:first-child, .text {{ text-align: left; }}
</style></head><body>
<h1>The paper's results reproduced</h1>
<p>Yu et al., <em>Cosmic Ray Detection and Rejection for CSST</em>, section 4.</p>
{body}
</body></html>
"""


def _section(title: str, text: str, name: str, basis: str) -> list[str]:
    whence = f"Paper: from {paper.FRAMES[name]}.  Ours: from {basis}."
    return [f"<h2>{escape(title)}</h2>", f"<p>{escape(text)}</p>", f"<p>{escape(whence)}</p>"]


def _image(figures: dict[str, Path], name: str) -> str:
    """Return an embedded image."""
    if name not in figures:
        return "<p>Not measured.</p>"
    data = base64.b64encode(figures[name].read_bytes()).decode("ascii")
    return f'<img alt="{name}" src="data:image/png;base64,{data}">'


def _table(rows: Sequence[Row]) -> str:
    """Return rows as a table; their keys are the headings."""
    if not rows:
        return "<p>Nothing measured.</p>"
    lines = [_line("th", {key: key for key in rows[0]}, like=rows[0])]
    lines += [_line("td", row, like=row) for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _line(tag: str, row: Row, like: Row) -> str:
    """Return one line of a table; text stands left, also above text."""
    kinds = [' class="text"' if isinstance(value, str) else "" for value in like.values()]
    cells = (
        f"<{tag}{kind}>{escape(_shown(value))}</{tag}>"
        for kind, value in zip(kinds, row.values(), strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _bar_row(bar: Bar) -> Row:
    return {
        "result": bar.place, "what": bar.what, "bar": bar.bar, "paper": bar.paper,
        "ours": bar.ours, "from": bar.basis, "verdict": bar.verdict,
    }  # fmt: skip


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _shown(value: Any) -> str:
    """Return a cell's text: four significant digits, a dash for what was not measured."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _cell(value: Any) -> Any:
    """Return a value as CSV has it; empty = not measured."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)
