"""Recipes: TOML files that say what to simulate, train and export."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from crmend_training._training import Schedule
from crmend_training.train_detect import DetectRecipe
from crmend_training.train_inpaint import InpaintRecipe

DETECTORS = (6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25)
"""The 18 imaging detectors (chips 10 and 21 in 6–25 are spectroscopic; csster/csst)."""

STAGES = ("teacher", "detect", "fast", "fine_detect", "inpaint", "fine_inpaint")
"""Trainings of a recipe, in their order; those that begin with ``fine_`` make a network for
each detector, from the base's weights."""

_SECTIONS = {"simulate", "dataset", *STAGES}
_SCHEDULE = {"steps", "budget", "rate"}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Recipe:
    """One parsed recipe; `trainings` holds the sections of its `STAGES`."""

    name: str
    simulate: dict[str, Any]
    dataset: dict[str, Any]
    trainings: dict[str, dict[str, Any]]

    def settings(self, stage: str) -> DetectRecipe | InpaintRecipe:
        """Return the settings of one training."""
        kind = InpaintRecipe if stage.endswith("inpaint") else DetectRecipe
        section = self._training(stage)
        return kind(**{k: v for k, v in section.items() if k not in _SCHEDULE})

    def schedule(self, stage: str, budget: str | None = None) -> Schedule:
        """Return steps, budget and rate of one training; ``budget`` overrides the file's."""
        section = self._training(stage)
        return Schedule(
            steps=section["steps"],
            budget=parse_time(budget or section["budget"]),
            rate=section["rate"],
        )

    def _training(self, stage: str) -> dict[str, Any]:
        if stage not in self.trainings:
            raise ValueError(
                f"recipe {self.name!r} has no section {stage!r}; it has "
                f"{', '.join(self.trainings) or 'no training at all'}"
            )
        return self.trainings[stage]


def load_recipe(name: str) -> Recipe:
    """Read a recipe by path, or by the name of a bundled one.

    Raises
    ------
    FileNotFoundError
        Neither a file nor a bundled recipe has that name.
    ValueError
        A section is unknown.
    """
    path = Path(name)
    if not path.is_file():
        bundled = resources.files("crmend_training.recipes")
        candidate = bundled / f"{path.stem}.toml"
        if not candidate.is_file():
            known = sorted(f.name for f in bundled.iterdir() if f.name.endswith(".toml"))
            raise FileNotFoundError(f"recipe {name!r} is no file and not one of {known}")
        text = candidate.read_text()
    else:
        text = path.read_text()
    sections = tomllib.loads(text)
    unknown = set(sections) - _SECTIONS
    if unknown:
        raise ValueError(
            f"recipe {name!r} has unknown sections {unknown}; expected {_SECTIONS}"
        )
    return Recipe(
        path.stem,
        sections.get("simulate", {}),
        sections.get("dataset", {}),
        {stage: sections[stage] for stage in STAGES if stage in sections},
    )


def parse_time(text: str) -> float:
    """Return seconds from ``"90s"``, ``"35m"`` or ``"2h"``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None:
        raise ValueError(f"time {text!r} is not a number and one of s, m, h (such as 35m)")
    return float(match[1]) * _UNITS[match[2]]
