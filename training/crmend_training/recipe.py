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

_SECTIONS = {"simulate", "dataset", "detect", "inpaint"}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Recipe:
    """One parsed recipe; the sections keep the names that they have in the file."""

    name: str
    simulate: dict[str, Any]
    dataset: dict[str, Any]
    detect: dict[str, Any]
    inpaint: dict[str, Any]

    def detect_recipe(self) -> DetectRecipe:
        """Return the settings of the detection training."""
        return DetectRecipe(**_without_schedule(self.detect))

    def inpaint_recipe(self) -> InpaintRecipe:
        """Return the settings of the inpainting training."""
        return InpaintRecipe(**_without_schedule(self.inpaint))

    def schedule(self, kind: str, budget: str | None = None) -> Schedule:
        """Return steps, budget and rate of one training; ``budget`` overrides the file's."""
        section = getattr(self, kind)
        return Schedule(
            steps=section["steps"],
            budget=parse_time(budget or section["budget"]),
            rate=section["rate"],
        )


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
    return Recipe(path.stem, **{key: sections.get(key, {}) for key in _SECTIONS})


def parse_time(text: str) -> float:
    """Return seconds from ``"90s"``, ``"35m"`` or ``"2h"``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None:
        raise ValueError(f"time {text!r} is not a number and one of s, m, h (such as 35m)")
    return float(match[1]) * _UNITS[match[2]]


def _without_schedule(section: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in section.items() if k not in {"steps", "budget", "rate"}}
