"""Sections of recipes: their keys, and the types of what those hold, checked once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from types import UnionType
from typing import Any, get_args, get_origin

DETECTORS = (6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25)
"""The 18 imaging detectors (chips 10 and 21 in 6–25 are spectroscopic; csster/csst)."""

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
}


@dataclass(frozen=True)
class SimulateSection:
    """Section ``simulate``: fields, and laws within each field, take turns over the frames."""

    seed: int
    shape: tuple[int, int]
    frames_per_detector: int
    fields: tuple[str, ...]
    laws: tuple[str, ...]
    detectors: tuple[int, ...] = DETECTORS
    without: tuple[str, ...] = ()
    keep_clean: bool = False

    def __post_init__(self) -> None:
        if self.frames_per_detector < 1 or not (self.fields and self.laws and self.detectors):
            raise ValueError(
                f"frames_per_detector is {self.frames_per_detector}, fields {self.fields}, "
                f"laws {self.laws}, detectors {self.detectors}; expected one or more of each"
            )
        if len(set(self.detectors)) < len(self.detectors):
            raise ValueError(
                f"detectors are {list(self.detectors)}; expected each once: frames of a name "
                "would replace each other"
            )


@dataclass(frozen=True)
class GenericSection:
    """Section ``dataset.generic``: frames of other instruments (`datasets.generic_frame`)."""

    seed: int
    frames: int
    shape: tuple[int, int]
    label_sigma: float = 0.0
    measured: bool = False
    tight: bool = False
    unusual: float = 0.0
    kinds: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.tight and not self.measured:
            raise ValueError(
                "tight is true, measured false; expected both true: only measured truth "
                "knows no rims"
            )
        if not 0.0 <= self.unusual <= 1.0:
            raise ValueError(f"unusual is {self.unusual}; expected a share, 0 to 1")
        if self.seed < 0 or self.frames < 0 or min(self.shape) < 1 or self.label_sigma < 0.0:
            raise ValueError(
                f"seed, frames and label_sigma are {self.seed}, {self.frames} and "
                f"{self.label_sigma}, shape {self.shape}; expected none below 0, no empty shape"
            )


@dataclass(frozen=True)
class ZooSection:
    """Section ``dataset.zoo``: frames of look-alikes (`datasets.zoo_frame`)."""

    seed: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0 or self.frames < 0:
            raise ValueError(f"seed {self.seed}, frames {self.frames}; expected none below 0")


def checked(
    section: object, target: Callable[..., Any], where: str, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a section as keywords for a callable, lists as tuples.

    Parameters
    ----------
    section : object
        What TOML gives.
    target : callable
        Its parameters, other than `without`, say what keys there are and of what types.
    where : str
        For messages.

    Raises
    ------
    ValueError
        It is no table, a key is unknown or missing, or a value has another type.
    """
    section = table(section, where)
    parameters = inspect.signature(target, eval_str=True).parameters
    known = {name: one for name, one in parameters.items() if name not in without}
    if unknown := sorted(set(section) - set(known)):
        raise ValueError(
            f"{where} has unknown keys {', '.join(unknown)}; expected some of "
            f"{', '.join(known)}"
        )
    for name, one in known.items():
        if name not in section and one.default is one.empty:
            raise ValueError(f"{where} lacks {name}; expected {_describe(one.annotation)}")
        if name in section and not _fits(section[name], one.annotation):
            raise ValueError(
                f"{where}: {name} is {section[name]!r}; expected {_describe(one.annotation)}"
            )
    return {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}


def table(section: object, where: str) -> Mapping[str, Any]:
    """Return a section, or refuse what is no table of TOML.

    Raises
    ------
    ValueError
        The section is no table.
    """
    if isinstance(section, Mapping):
        return section
    raise ValueError(f"{where} is {section!r}; expected a table of keys")


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a value of TOML can be what an annotation says."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_fits(value, one) for one in arguments)
    if kind in (int, float):
        number = int | float if kind is float else int
        # TOML knows nan and inf; no recipe does anything with them.
        return isinstance(value, number) and not isinstance(value, bool) and isfinite(value)
    if kind in (bool, str, dict):
        return isinstance(value, kind)
    if not isinstance(value, list | tuple):
        return False
    one_type = kind is not tuple or Ellipsis in arguments
    wanted = arguments[:1] * len(value) if one_type else arguments
    return len(value) == len(wanted) and all(map(_fits, value, wanted))


def _describe(hint: Any) -> str:
    """Return what an annotation asks for, in words."""
    kind = get_origin(hint) or hint
    arguments = [one for one in get_args(hint) if one not in (type(None), Ellipsis)]
    if kind is UnionType:
        return " or ".join(map(_describe, arguments))
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is dict:
        return "a table of keys"
    count = f"{len(arguments)} entries" if len(arguments) > 1 else "entries"
    return f"a list, its {count} each {_describe(arguments[0])}"
