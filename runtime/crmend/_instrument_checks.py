"""Checks of the entries of an instrument profile, before an `Instrument` is made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from crmend.errors import InvalidInputError

_TABLES = ("planes", "keywords", "flags", "flag_roles")
_OTHER_TABLES = ("match", "siblings", "bands", "pixel_sizes_um", "flag_codes")
_TEXTS = ("title", "model_pack", "default_unit", "file_pattern", "detector_pattern")
_SWITCHES = ("trained", "gain_required")
_NEEDED = {
    **dict.fromkeys(("title", "model_pack", "default_unit"), "text in quotes"),
    **dict.fromkeys(_SWITCHES, "true or false"),
}
_NUMBERS = ("pixel_size_um", "default_read_noise")
_LISTS_OF_TEXT = ("positions", "detectors")
_TABLES_OF_TEXT = ("siblings", "bands")
_TABLES_OF_LISTS = ("planes", "keywords", "match")
_KEYWORDS = ("unit", "exposure_time")
_QUANTITIES = (*_KEYWORDS, "detector", "band", "gain", "read_noise", "saturation")
_MOST_CODES = 2**16 - 1
_ROLES = ("invalid", "saturated", "cosmic_ray")

ENTRIES = (
    *_TEXTS, *_SWITCHES, *_NUMBERS, *_LISTS_OF_TEXT, "detector_digits", *_TABLES, *_OTHER_TABLES
)  # fmt: skip
"""What may stand in a profile."""


def check_profile(table: Mapping[str, Any], kinds: tuple[str, ...], most_flags: int) -> None:
    """Check the types and values of a profile's entries, as TOML gives them.

    Parameters
    ----------
    table : mapping
        The whole file.
    kinds : tuple of str
        Kinds of planes.
    most_flags : int
        All bits of a flag plane.

    Raises
    ------
    InvalidInputError
        An entry is missing, not known, or not what is expected.
    """
    for name in table:
        _require(name in ENTRIES, "an entry", name, "a known one")
    for name in _TABLES:
        _require(name in table, name, None, f"a table; add [{name}]")
    for name, expected in _NEEDED.items():
        _require(name in table, name, None, f"{expected}; add it")
    for name in (*_TABLES, *_OTHER_TABLES):
        _expect(table, name, lambda value: isinstance(value, dict), "a table")
    for name in _TEXTS:
        _expect(table, name, _is_text, "text in quotes")
    for name in _SWITCHES:
        _expect(table, name, lambda value: isinstance(value, bool), "true or false")
    for name in _NUMBERS:
        _expect(table, name, _is_positive, "a number above 0")
    for name in _LISTS_OF_TEXT:
        _expect(table, name, _is_list_of_text, "a list of texts")
    for name in _TABLES_OF_TEXT:
        _expect_all(table, name, _is_text, "text in quotes")
    for name in _TABLES_OF_LISTS:
        _expect_all(table, name, _is_list_of_text, "a list of texts")
    _expect_all(table, "pixel_sizes_um", _is_positive, "a number above 0")
    _expect(table, "file_pattern", _is_pattern, "a regular expression")
    _expect(
        table,
        "detector_pattern",
        lambda value: _is_pattern(value) and "detector" in re.compile(value).groupindex,
        "a regular expression with a group (?P<detector>…)",
    )
    digits = table.get("detector_digits", 1)
    _require(_is_count(digits), "detector_digits", digits, "a whole number of at least 1")
    for name in (*table["planes"], *table.get("siblings", ()), *table.get("positions", ())):
        _require(name in kinds, "the kind of a plane", name, f"one of {', '.join(kinds)}")
    for within, known in (("keywords", _QUANTITIES), ("flag_roles", _ROLES)):
        for name in table[within]:
            _require(name in known, f"an entry of {within}", name, f"one of {', '.join(known)}")
    wanted = (*_KEYWORDS, "gain") if table.get("gain_required") else _KEYWORDS
    for name in wanted:
        keys = table["keywords"].get(name)
        _require(keys is not None, f"keywords.{name}", keys, "a list of header keywords")
    _check_flags(table, most_flags)


def _check_flags(table: Mapping[str, Any], most_flags: int) -> None:
    """Check the bits, their roles and the codes."""
    flags, roles = table["flags"], table["flag_roles"]
    _expect_all(
        table,
        "flags",
        lambda value: _is_count(value) and value <= most_flags,
        f"a whole number from 1 to {most_flags}",
    )
    codes = table.get("flag_codes", {})
    for code in codes:
        known = re.fullmatch("[0-9]{1,5}", code) and 1 <= int(code) <= _MOST_CODES
        expected = f"a whole number from 1 to {_MOST_CODES} (0 = good)"
        _require(bool(known), "a key of flag_codes", code, expected)
    for role in _ROLES:
        _require(role in roles, f"flag_roles.{role}", None, "names of flags; add it")
    for role in ("invalid", "saturated"):
        names = roles[role]
        _require(_is_list_of_text(names), f"flag_roles.{role}", names, "a list of texts")
    named = [*roles["invalid"], *roles["saturated"], roles["cosmic_ray"]]
    for name in (*named, *codes.values()):
        known = isinstance(name, str) and name in flags
        _require(known, "the name of a flag", name, f"one of {', '.join(flags)}")
    for name, bit in flags.items():
        expected = "one bit: a power of 2; give each bit a name of its own"
        _require(bit & (bit - 1) == 0, f"flags.{name}", bit, expected)
    own = flags[roles["cosmic_ray"]]
    for role in ("invalid", "saturated"):
        for name in roles[role]:
            expected = (
                f"another bit than cosmic_ray's, since {role} pixels are never cosmic rays; "
                "give one of them a bit of its own"
            )
            _require(flags[name] != own, f"flags.{name}", flags[name], expected)


def _expect(
    table: Mapping[str, Any], name: str, fits: Callable[[Any], bool], expected: str
) -> None:
    """Raise unless an entry, where there is one, fits."""
    if name in table:
        _require(fits(table[name]), name, table[name], expected)


def _expect_all(
    table: Mapping[str, Any], name: str, fits: Callable[[Any], bool], expected: str
) -> None:
    """Raise unless all values of a table, where there is one, fit."""
    for key, value in table.get(name, {}).items():
        _require(fits(value), f"{name}.{key}", value, expected)


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        met = "is missing" if value is None else f"is {value!r}"
        raise InvalidInputError(f"{name} {met}, expected {expected}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0.0 < value < math.inf


def _is_pattern(value: str) -> bool:
    try:
        re.compile(value)
    except re.error:
        return False
    return True
