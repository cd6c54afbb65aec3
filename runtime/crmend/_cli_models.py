"""``crmend models list | info | verify``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from crmend.errors import ModelError, UnknownDetectorError
from crmend.models import (
    ModelCard,
    Verification,
    available_detectors,
    available_packs,
    load_card,
    split_name,
    verify,
)

_DAMAGED = 4


@dataclass(frozen=True)
class Listing:
    """The cards of all packs, and what is wrong with those that cannot be read."""

    cards: tuple[ModelCard, ...]
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 0, or 4 if any card cannot be read."""
        return _DAMAGED if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "models": [
                {
                    "name": card.name,
                    "band": card.band,
                    "detect": card.finder.architecture,
                    "qualities": list(_qualities(card)),
                    "default_quality": card.default_quality,
                    "inpaint": card.inpaint.architecture,
                    "threshold": card.finder.threshold,
                    "seed_threshold": card.finder.seed_threshold,
                    "views": card.finder.views,
                    "date": card.finder.training.date,
                }
                for card in self.cards
            ],
            "failed": _as_plain(self.failed),
        }

    def as_text(self) -> str:
        """Return a table."""
        failed = _failed_lines(self.failed)
        if not self.cards:
            return "\n".join(failed) or "no model packs are installed"
        rows = [("model", "band", "detect", "quality", "inpaint", "threshold", "exported")]
        for card in self.cards:
            finder = card.finder
            rows.append(
                (
                    card.name, card.band or "-", finder.architecture,
                    "|".join(_qualities(card)), card.inpaint.architecture,
                    str(finder.threshold), finder.training.date,
                )
            )  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                f"{text:<{width}}" for text, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join(lines + failed)


@dataclass(frozen=True)
class Description:
    """One card in full."""

    card: ModelCard
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the card as it stands in its file."""
        card: dict[str, Any] = json.loads(self.card.to_json())
        return card

    def as_text(self) -> str:
        """Return the card as an indented list."""
        return "\n".join(_indented(dataclasses.asdict(self.card), 0))


@dataclass(frozen=True)
class Verdict:
    """What became of the packs that were verified."""

    passed: tuple[Verification, ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def exit_code(self) -> int:
        """Return 0, or 4 if any pack failed."""
        return _DAMAGED if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "passed": [dataclasses.asdict(each) for each in self.passed],
            "failed": _as_plain(self.failed),
        }

    def as_text(self) -> str:
        """Return one line per pack and one for all."""
        lines = [
            f"ok      {v.name:<20}|dp| {v.detect_difference:.1e}   inpainted "
            f"{v.inpaint_difference:.1e}   {_fast(v)}{v.provider}"
            for v in self.passed
        ]
        lines += _failed_lines(self.failed)
        lines.append(f"{len(self.passed)} verified, {len(self.failed)} failed")
        return "\n".join(lines)


def _as_plain(failed: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """Return what failed as plain values."""
    return [{"name": name, "message": text} for name, text in failed]


def _failed_lines(failed: tuple[tuple[str, str], ...]) -> list[str]:
    """Return a line for each that failed."""
    return [f"FAILED  {name:<20}{' '.join(text.split())}" for name, text in failed]


def _qualities(card: ModelCard) -> tuple[str, ...]:
    """Return the qualities of detection that a pack has."""
    return ("reference",) if card.detect_fast is None else ("reference", "fast")


def _fast(found: Verification) -> str:
    """Return the fast variant's column of a line."""
    return "" if found.fast_difference is None else f"fast |dp| {found.fast_difference:.1e}   "


def run_list(options: argparse.Namespace) -> Listing:
    """List every card; go on after one that cannot be read."""
    cards, failed = [], []
    for name in _models_of(available_packs()):
        try:
            cards.append(load_card(*split_name(name)))
        except (ModelError, UnknownDetectorError) as error:
            failed.append((name, str(error)))
    return Listing(tuple(cards), tuple(failed))


def run_info(options: argparse.Namespace) -> Description:
    """Describe one card."""
    return Description(load_card(*split_name(options.model)))


def run_verify(options: argparse.Namespace) -> Verdict:
    """Verify the packs named, or all; go on after a failure."""
    passed, failed = [], []
    for name in _models_of(options.models or available_packs()):
        try:
            passed.append(
                verify(*split_name(name), device=options.device, threads=options.threads)
            )
        except (ModelError, UnknownDetectorError) as error:
            failed.append((name, str(error)))
    return Verdict(tuple(passed), tuple(failed))


def _models_of(names: Iterable[str]) -> Iterator[str]:
    """Return the names of models; a pack alone stands for all its detectors.

    A pack that does not exist stays as it is named: to load it fails.
    """
    for each in names:
        name = each.removesuffix("/")
        detectors = available_detectors(name) if name in available_packs() else ()
        yield from [f"{name}/{detector}" for detector in detectors] or [name]


def _indented(value: Any, depth: int) -> list[str]:
    """Return ``key: value`` lines; nested tables are indented by two spaces."""
    lines: list[str] = []
    for key, item in value.items():
        pad = "  " * depth
        if isinstance(item, dict):
            lines += [f"{pad}{key}:", *_indented(item, depth + 1)]
        elif isinstance(item, list | tuple):
            words = [
                " ".join(str(part) for part in each.values())
                if isinstance(each, dict)
                else each
                for each in item
            ]
            lines.append(f"{pad}{key}: {'; '.join(str(word) for word in words)}")
        else:
            lines.append(f"{pad}{key}: {'-' if item is None else item}")
    return lines
