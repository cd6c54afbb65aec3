"""``crmend models list | info | verify``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from crmend._cards import QUALITIES, GraphCard
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
    """The cards of all packs."""

    cards: tuple[ModelCard, ...]
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "models": [
                {
                    "name": card.name,
                    "band": card.band,
                    "detect": _default(card).architecture,
                    "qualities": list(_qualities(card)),
                    "default_quality": card.default_quality,
                    "inpaint": card.inpaint.architecture,
                    "threshold": _default(card).threshold,
                    "seed_threshold": _default(card).seed_threshold,
                    "views": _default(card).views,
                    "date": _default(card).training.date,
                }
                for card in self.cards
            ]
        }

    def as_text(self) -> str:
        """Return a table."""
        if not self.cards:
            return "no model packs are installed"
        lines = [
            f"{'model':<20}{'band':<6}{'detect':<14}{'quality':<18}{'inpaint':<16}{'threshold':>9}"
            "  exported"
        ]
        for card in self.cards:
            lines.append(
                f"{card.name:<20}{card.band or '-':<6}{_default(card).architecture:<14}"
                f"{'|'.join(_qualities(card)):<18}{card.inpaint.architecture:<16}{_default(card).threshold:>9}"
                f"  {_default(card).training.date}"
            )
        return "\n".join(lines)


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
            "failed": [{"name": name, "message": text} for name, text in self.failed],
        }

    def as_text(self) -> str:
        """Return one line per pack and one for all."""
        lines = [
            f"ok      {v.name:<20}|dp| {v.detect_difference:.1e}   inpainted "
            f"{v.inpaint_difference:.1e}   {_fast(v)}{v.provider}"
            for v in self.passed
        ]
        lines += [f"FAILED  {name:<20}{text}" for name, text in self.failed]
        lines.append(f"{len(self.passed)} verified, {len(self.failed)} failed")
        return "\n".join(lines)


def _qualities(card: ModelCard) -> tuple[str, ...]:
    """Return the qualities of detection that a pack has."""
    return ("reference",) if card.detect_fast is None else ("reference", "fast")


def _default(card: ModelCard) -> GraphCard:
    """Return the graph that finds cosmic rays unless the user says."""
    return card.graph(QUALITIES[card.default_quality])


def _fast(found: Verification) -> str:
    """Return the fast variant's column of a line."""
    return "" if found.fast_difference is None else f"fast |dp| {found.fast_difference:.1e}   "


def run_list(options: argparse.Namespace) -> Listing:
    """List every card."""
    models = _models_of(available_packs())
    return Listing(tuple(load_card(*split_name(name)) for name in models))


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
