"""Recipes: TOML files that say what to simulate, train and export."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from crmend_training._sections import (
    DETECTORS,
    GenericSection,
    SimulateSection,
    ZooSection,
    checked,
    table,
)
from crmend_training._training import Schedule
from crmend_training.datasets import build_detection_set, build_inpainting_set
from crmend_training.datasets.science import ScienceSettings
from crmend_training.networks import FINDERS, MENDERS, check_config
from crmend_training.train_detect import DetectRecipe
from crmend_training.train_inpaint import InpaintRecipe

__all__ = ["DETECTORS", "STAGES", "Recipe", "load_recipe", "parse_time"]

STAGES = ("teacher", "detect", "fast", "fine_detect", "inpaint", "fine_inpaint")
"""Trainings of a recipe, in their order; those that begin with ``fine_`` make a network for
each detector, from the base's weights."""

_SECTIONS = ("simulate", "dataset", *STAGES)
_SCHEDULE = ("steps", "rate", "budget")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_T = TypeVar("_T")
_BUILDERS = {"detect": build_detection_set, "inpaint": build_inpainting_set}
_OTHERS = {"generic": GenericSection, "zoo": ZooSection, "science": ScienceSettings}


@dataclass(frozen=True)
class Recipe:
    """One parsed recipe, all of it checked.

    Attributes
    ----------
    name : str
    simulate : SimulateSection or None
        None = it simulates nothing.
    dataset : dict
        By section: ``detect`` and ``inpaint`` are keywords of what builds such sets,
        ``generic`` a `GenericSection`, ``zoo`` a `ZooSection`, ``science`` `ScienceSettings`.
    trainings : dict
        Settings and schedule of its `STAGES`.
    """

    name: str
    simulate: SimulateSection | None
    dataset: dict[str, Any]
    trainings: dict[str, tuple[DetectRecipe | InpaintRecipe, Schedule]]

    @property
    def frames(self) -> SimulateSection:
        """Return what to simulate.

        Raises
        ------
        ValueError
            The recipe does not say it.
        """
        if self.simulate is None:
            raise ValueError(
                f"recipe {self.name!r} has no section [simulate]; expected one with seed, "
                "shape, frames_per_detector, fields and laws, such as recipe 'paper'"
            )
        return self.simulate

    @property
    def generic(self) -> GenericSection:
        """Return which frames of other instruments to draw.

        Raises
        ------
        ValueError
            The recipe does not say it.
        """
        if "generic" not in self.dataset:
            raise ValueError(
                f"recipe {self.name!r} has no section [dataset.generic]; expected one with "
                "seed, frames (0 = none) and shape, such as recipe 'fine_tune'"
            )
        section: GenericSection = self.dataset["generic"]
        return section

    def settings(self, stage: str) -> DetectRecipe | InpaintRecipe:
        """Return the settings of one training."""
        return self._training(stage)[0]

    def schedule(self, stage: str, budget: str | None = None) -> Schedule:
        """Return steps, budget and rate of one training; ``budget`` overrides the file's."""
        schedule = self._training(stage)[1]
        return schedule if budget is None else replace(schedule, budget=parse_time(budget))

    def _training(self, stage: str) -> tuple[DetectRecipe | InpaintRecipe, Schedule]:
        if stage not in self.trainings:
            raise ValueError(
                f"recipe {self.name!r} has no section {stage!r}; it has "
                f"{', '.join(self.trainings) or 'no training at all'}"
            )
        return self.trainings[stage]


def load_recipe(name: str) -> Recipe:
    """Read a recipe by path, or by the name of a bundled one, with or without its ending.

    A path that is no file is never a bundled one, whose settings are not those of a copy.

    Raises
    ------
    FileNotFoundError
        Neither a file nor a bundled recipe has that name.
    ValueError
        It is no TOML; a section or a key is unknown, a key is missing, or a value cannot be.
    """
    path = Path(name)
    if path.is_file():
        content = path.read_bytes()
    else:
        bundled = resources.files("crmend_training.recipes")
        candidate = bundled / f"{path.stem}.toml"
        if str(name) not in (path.stem, candidate.name) or not candidate.is_file():
            known = sorted(f.name for f in bundled.iterdir() if f.name.endswith(".toml"))
            raise FileNotFoundError(
                f"recipe {str(name)!r} is no file (now in {Path.cwd()}) and not one of "
                f"{known}; expected the path of a file, or one of these names"
            )
        content = candidate.read_bytes()
    try:
        return _parsed(path.stem, tomllib.loads(content.decode()))
    except ValueError as error:
        raise ValueError(f"recipe {name!r}: {error}") from error


def _parsed(name: str, sections: Mapping[str, Any]) -> Recipe:
    """Check every section of a recipe."""
    if unknown := sorted(set(sections) - set(_SECTIONS)):
        raise ValueError(
            f"unknown sections {', '.join(unknown)}; expected some of {', '.join(_SECTIONS)}"
        )
    simulate = sections.get("simulate")
    return Recipe(
        name,
        None if simulate is None else _built(SimulateSection, simulate, "simulate"),
        _dataset(sections.get("dataset", {})),
        {
            stage: _read_training(stage, sections[stage])
            for stage in STAGES
            if stage in sections
        },
    )


def _dataset(sections: object) -> dict[str, Any]:
    """Check the sections of data sets."""
    sections = table(sections, "section dataset")
    if unknown := sorted(set(sections) - {*_BUILDERS, *_OTHERS}):
        raise ValueError(
            f"unknown sections dataset.{', dataset.'.join(unknown)}; expected some of "
            f"{', '.join((*_BUILDERS, *_OTHERS))}"
        )
    given = ("frames", "folder", "made_with")
    return {
        name: checked(section, _BUILDERS[name], f"section dataset.{name}", given)
        if name in _BUILDERS
        else _built(_OTHERS[name], section, f"dataset.{name}")
        for name, section in sections.items()
    }


def _read_training(stage: str, section: Any) -> tuple[DetectRecipe | InpaintRecipe, Schedule]:
    """Return settings and schedule of one training."""
    kind = InpaintRecipe if stage.endswith("inpaint") else DetectRecipe
    section = table(section, f"section {stage}")
    schedule = {key: value for key, value in section.items() if key in _SCHEDULE}
    settings = {key: value for key, value in section.items() if key not in _SCHEDULE}
    built = _built(kind, settings, stage), _built(_schedule, schedule, stage)
    try:
        check_config(built[0].config, MENDERS if kind is InpaintRecipe else FINDERS)
    except ValueError as error:
        raise ValueError(f"section {stage}: {error}") from error
    return built


def _schedule(steps: int, rate: float, budget: str) -> Schedule:
    return Schedule(steps, parse_time(budget), rate)


def _built(kind: Callable[..., _T], section: object, name: str) -> _T:
    """Return what a section describes; its errors name the section."""
    keywords = checked(section, kind, f"section {name}")
    try:
        return kind(**keywords)
    except ValueError as error:
        raise ValueError(f"section {name}: {error}") from error


def parse_time(text: str) -> float:
    """Return seconds from ``"90s"``, ``"35m"`` or ``"2h"``.

    Raises
    ------
    ValueError
        The text is no such time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None:
        raise ValueError(f"time {text!r} is not a number and one of s, m, h (such as 35m)")
    return float(match[1]) * _UNITS[match[2]]
