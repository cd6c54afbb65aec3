"""Figures that README shows: each tool writes its own, one CSV file keeps them all.

A tool's report holds ``measured.csv``, a row per figure with the command that made it.
`merged` puts such rows into the file that the repository keeps, where a new row replaces the
one of the same key, and `with_tables` writes that file as tables between two marks of README.
"""

from __future__ import annotations

import csv
import datetime
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from crmend_training._results import whole_file

NAME = "measured.csv"
"""File of a report, and of the folder `docs` that keeps all."""

DETECTION, MENDING = "Detection", "Mending"
PAPER, COST = "The paper's results", "Speed, size and agreement"

SECTIONS = (DETECTION, MENDING, PAPER, COST)
"""Headings of README, in their order; others follow."""

BEGIN = (
    "<!-- measured: written by tools/update_measured.py from docs/measured.csv, not by hand -->"
)
END = "<!-- end of measured -->"


class Figure(NamedTuple):
    """One measured figure.

    Attributes
    ----------
    key : str
        ``topic/name``; names the same figure for ever.
    section : str
        Heading that it stands under.
    what : str
        What was measured, on how much.
    figure : str
        Value with its unit.
    """

    key: str
    section: str
    what: str
    figure: str


class Measured(NamedTuple):
    """A row of the CSV file: a figure, and how it was made.

    Attributes
    ----------
    key, section, what, figure : str
        As of `Figure`.
    command : str
        That made it, from the root of a clone.
    machine : str
    date : str
        Of the measurement, ISO 8601.
    """

    key: str
    section: str
    what: str
    figure: str
    command: str
    machine: str
    date: str


class MeasuredError(ValueError):
    """A file of measured figures, or README, is not as expected."""


# --- what a tool writes ------------------------------------------------------------------


def write_figures(folder: Path, figures: Iterable[Figure], command: str | None = None) -> None:
    """Write the figures of a report, with the command that runs and this machine.

    Parameters
    ----------
    folder : Path
        Of the report.
    figures : iterable of Figure
    command : str, optional
        Instead of that of this process.
    """
    how = (command or command_of(sys.argv), machine(), datetime.date.today().isoformat())
    write(folder / NAME, [Measured(*figure, *how) for figure in figures])


def command_of(arguments: Sequence[str]) -> str:
    """Return a tool's command as it is typed at the root of a clone.

    Of paths that lead out of a folder the last part is kept: the rest says nothing elsewhere.
    """
    words = [Path(word).name if _leads_out(Path(word)) else word for word in arguments[1:]]
    return shlex.join(["python", f"tools/{Path(arguments[0]).name}", *words])


def _leads_out(path: Path) -> bool:
    return path.is_absolute() or ".." in path.parts


def machine() -> str:
    """Return the processor's name, or its architecture, and the number of cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


# --- the file that keeps them ------------------------------------------------------------


def read(path: Path) -> list[Measured]:
    """Return the rows of a file.

    Raises
    ------
    MeasuredError
        It is no such file, a cell is empty, or a key stands there twice.
    FileNotFoundError
        There is none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Measured._fields:
            raise MeasuredError(
                f"{path} has the columns {reader.fieldnames}, expected "
                f"{', '.join(Measured._fields)}; give a file that a tool wrote"
            )
        cells = list(reader)
    rows: list[Measured] = []
    for number, row in enumerate(cells, start=2):
        fault = _fault(row, {one.key for one in rows})
        if fault:
            raise MeasuredError(f"{path} has {fault} in row {number}; expected a figure a row")
        rows.append(Measured(**row))
    return rows


def _fault(row: dict[str, str], keys: Container[str]) -> str:
    """Return what is wrong with a row as `csv.DictReader` gives it, or nothing."""
    if None in row:
        return "too many cells"
    if not all(row.values()):
        return "an empty cell"
    return f"the key {row['key']!r} twice" if row["key"] in keys else ""


def write(path: Path, rows: Iterable[Measured]) -> None:
    """Write rows, whole or not at all."""
    with (
        whole_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Measured._fields)
        writer.writerows(rows)


def merged(old: Sequence[Measured], new: Sequence[Measured]) -> list[Measured]:
    """Return the old rows, new ones in place of their keys or at the end of their section."""
    replaced = {row.key: row for row in new}
    rows = [replaced.pop(row.key, row) for row in old]
    for row in replaced.values():
        places = [k for k, other in enumerate(rows) if other.section == row.section]
        rows.insert(places[-1] + 1 if places else len(rows), row)
    order = {section: k for k, section in enumerate(SECTIONS)}
    return sorted(rows, key=lambda row: order.get(row.section, len(order)))


# --- README ------------------------------------------------------------------------------


def tables(rows: Sequence[Measured]) -> str:
    """Return the rows as Markdown: a heading per section, a table per command."""
    parts = []
    for section, group in itertools.groupby(rows, lambda row: row.section):
        parts.append(f"### {section}")
        for (command, *how), own in itertools.groupby(
            group, lambda row: (row.command, row.machine, row.date)
        ):
            lines = ["| what | figure |", "|---|---|"]
            lines += [f"| {_cell(row.what)} | {_cell(row.figure)} |" for row in own]
            parts.append(f"`{command}` ({', '.join(how)}):")
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def with_tables(text: str, rows: Sequence[Measured]) -> str:
    """Return a README's text with what stands between `BEGIN` and `END` written anew.

    Raises
    ------
    MeasuredError
        The marks are not there, or not in this order.
    """
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise MeasuredError(f"no section between {BEGIN!r} and {END!r}; add these two lines")
    return f"{text[:start]}{BEGIN}\n\n{tables(rows)}\n\n{text[end:]}"
