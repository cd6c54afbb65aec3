"""What a command tells its user: a table for people, one JSON object for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crmend._provenance import Provenance, combine

_LABEL_WIDTH = 24
_COLUMN_WIDTH = 13
_OUTPUTS = {
    "corrected": "corrected frame",
    "flag": "flag plane",
    "quicklook": "quick-look",
    "updated": "flags updated in",
}


@dataclass(frozen=True)
class ChipReport:
    """What was found and done on one chip.

    Attributes
    ----------
    extver : int
        Number of the chip in its file, from 1.
    detector, band : str or None
        Such as "8" and "g".
    shape : tuple of int
        (ny, nx).
    provenance : Provenance
        The figures, as in the header of the result.
    stages : mapping
        Seconds by stage, in the order in which they ran.
    """

    extver: int
    detector: str | None
    band: str | None
    shape: tuple[int, ...]
    provenance: Provenance
    stages: Mapping[str, float]

    @property
    def name(self) -> str:
        """Return ``detector 8, g`` or, where neither is known, ``chip 1``."""
        if self.detector is None:
            return f"chip {self.extver}" + (f", {self.band}" if self.band else "")
        return f"detector {self.detector}" + (f", {self.band}" if self.band else "")

    @property
    def fraction(self) -> float:
        """Return the fraction of pixels that are cosmic rays."""
        return self.provenance.cr_pixels / (self.shape[0] * self.shape[1])

    @property
    def facts(self) -> tuple[str, str]:
        """Return two lines of figures for the quick-look picture."""
        found = self.provenance
        rate = "" if found.cr_rate is None else f"  ·  {found.cr_rate:.2f} per cm2 and second"
        return (
            f"{found.cr_pixels:,} cosmic-ray pixels ({100.0 * self.fraction:.2f} %) in "
            f"{found.cr_events:,} events{rate}",
            f"{_count(found.sources_touched)} sources touched  ·  mended: "
            f"{_count(found.pixels_network)} pixels by the network, "
            f"{_count(found.pixels_median)} by the median",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "extver": self.extver,
            "detector": self.detector,
            "band": self.band,
            "shape": list(self.shape),
            "cr_fraction": self.fraction,
            **_figures_of(self.provenance),
            "seconds_per_stage": {stage: round(s, 4) for stage, s in self.stages.items()},
        }


@dataclass(frozen=True)
class FrameReport:
    """What was done with one file.

    Attributes
    ----------
    frame : Path
        The input.
    chips : tuple of ChipReport
        At least one.
    outputs : mapping
        What was written: "corrected", "flag", "quicklook", "updated" (the input's flags).
    stages : mapping
        Seconds of what was done once for all chips.
    mended : bool
        False if cosmic rays were only flagged.
    """

    frame: Path
    chips: tuple[ChipReport, ...]
    outputs: Mapping[str, Path]
    stages: Mapping[str, float]
    mended: bool = True
    exit_code: int = field(default=0, init=False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "input": str(self.frame),
            "outputs": {
                kind: str(self.outputs[kind]) if kind in self.outputs else None
                for kind in _OUTPUTS
            },
            "chips": [chip.as_dict() for chip in self.chips],
            "seconds_per_stage": {stage: round(s, 4) for stage, s in self.stages.items()},
            "total": _figures_of(combine([chip.provenance for chip in self.chips])),
        }

    def as_text(self) -> str:
        """Return the table: a column per chip and, with several, their sum."""
        chips = [chip.provenance for chip in self.chips]
        columns = chips if len(chips) == 1 else [*chips, combine(chips)]
        lines = [self._title(), ""]
        if len(columns) > 1:
            lines.append(_row("", [*(f"chip {chip.extver}" for chip in self.chips), "all"]))
        lines += [_row(label, values) for label, values in self._figures(columns)]
        lines += ["", *self._seconds(), *_running(chips)]
        for kind, path in self.outputs.items():
            lines.append(f"{_OUTPUTS[kind]:<{_LABEL_WIDTH}}{path}")
        return "\n".join(lines)

    def as_line(self) -> str:
        """Return the sums in one line, for one frame of several."""
        total = combine([chip.provenance for chip in self.chips])
        pixels = sum(chip.shape[0] * chip.shape[1] for chip in self.chips)
        seconds = sum(self.stages.values())
        seconds += sum(sum(chip.stages.values()) for chip in self.chips)
        files = ", ".join(str(path) for path in self.outputs.values())
        share = 100.0 * total.cr_pixels / pixels
        return (
            f"{self.frame}: {total.cr_pixels:,} CR pixels ({share:.2f} %) in "
            f"{total.cr_events:,} events, {seconds:.1f} s: {files}"
        )

    def _title(self) -> str:
        ny, nx = self.chips[0].shape
        what = f"{self.chips[0].name}, {nx} x {ny} px"
        if len(self.chips) > 1:
            what = f"{len(self.chips)} chips of {nx} x {ny} px"
        return f"{self.frame.name}: {what}"

    def _figures(self, columns: list[Provenance]) -> list[tuple[str, list[str]]]:
        sizes = [chip.shape[0] * chip.shape[1] for chip in self.chips]
        sizes = sizes if len(sizes) == 1 else [*sizes, sum(sizes)]
        rows = [
            ("CR pixels", [f"{p.cr_pixels:,}" for p in columns]),
            (
                "  of the frame",
                [
                    f"{100.0 * p.cr_pixels / n:.2f} %"
                    for p, n in zip(columns, sizes, strict=True)
                ],
            ),
            ("  added on stars", [_count(p.star_pixels_added) for p in columns]),
            ("  freed on stars", [_count(p.star_pixels_freed) for p in columns]),
            ("  added beside others", [_count(p.rim_pixels_added) for p in columns]),
            ("CR events", [f"{p.cr_events:,}" for p in columns]),
            ("CR rate [1/cm2/s]", [_rate(p.cr_rate) for p in columns]),
        ]
        if any(p.saturation_found is not None for p in columns):
            rows.append(("saturation found", [_level(p.saturation_found) for p in columns]))
        if self.mended:
            rows += [
                ("sources touched", [_count(p.sources_touched) for p in columns]),
                ("pixels by the network", [_count(p.pixels_network) for p in columns]),
                ("pixels by the median", [_count(p.pixels_median) for p in columns]),
            ]
        return rows

    def _seconds(self) -> list[str]:
        stages: dict[str, float] = {}
        for each in (*(chip.stages for chip in self.chips), self.stages):
            for stage, seconds in each.items():
                stages[stage] = stages.get(stage, 0.0) + seconds
        rows = [_row(f"seconds: {stage}", [f"{s:.2f}"]) for stage, s in stages.items()]
        return [*rows, _row("seconds: all", [f"{sum(stages.values()):.2f}"])]


def _figures_of(provenance: Provenance) -> dict[str, Any]:
    """Return the figures as JSON can hold them: None for what is no number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(provenance).items()
    }


def _row(label: str, values: list[str]) -> str:
    return f"{label:<{_LABEL_WIDTH}}" + "".join(f"{value:>{_COLUMN_WIDTH}}" for value in values)


def _rate(rate: float | None) -> str:
    """Return the rate, or a dash where exposure time or pixel size is unknown."""
    return "-" if rate is None else f"{rate:.2f}"


def _count(count: int | None) -> str:
    """Return a count, or a dash where nothing was counted."""
    return "-" if count is None else f"{count:,}"


def _level(level: float | None) -> str:
    """Return a level, or a dash where none was found or they differ."""
    return "-" if level is None or math.isnan(level) else f"{level:g}"


def _running(chips: list[Provenance]) -> list[str]:
    """Return which models ran where."""
    total = combine(chips)
    finder = total.detect_model
    if finder and total.second_model:
        finder += f" (asking {total.second_model})"
    models = " and ".join(m for m in (finder, total.inpaint_model) if m)
    threshold = " ".join(sorted({_limits(chip) for chip in chips}))
    return [
        f"{'models':<{_LABEL_WIDTH}}{models}, threshold {threshold}",
        f"{'provider':<{_LABEL_WIDTH}}{total.provider}",
    ]


def _limits(chip: Provenance) -> str:
    """Return the threshold, that of a group's best pixel, and the views, if there are such."""
    seed = "" if chip.seed_threshold is None else f" (groups {chip.seed_threshold:g})"
    seed = " (groups by both networks)" if chip.second_model else seed
    views = "" if chip.views == 1 else f", {chip.views} views"
    return f"{chip.threshold:g}{seed}{views}"
