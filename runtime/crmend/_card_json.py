"""JSON → dataclasses, strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from crmend._card_checks import REMEDY
from crmend.errors import ModelError

_T = TypeVar("_T")


def build(kind: type[_T], content: object, path: Path, where: str) -> _T:
    """Make a dataclass from a JSON object with its fields; those with a default may lack.

    Parameters
    ----------
    kind : type
        The dataclass; fields are numbers, texts, dataclasses, and tuples and dicts of them.
    content : object
        As `json.loads` returns it.
    path : Path
        For messages only.
    where : str
        The key of `content` in the card, for messages.

    Raises
    ------
    ModelError
        A key is unknown, missing or mistyped.
    """
    if not isinstance(content, dict):
        raise ModelError(f"{path}: card key '{where}' is {content!r}; expected keys. {REMEDY}")
    hints = typing.get_type_hints(kind)
    for key in content:
        if key not in hints:
            raise ModelError(
                f"{path}: unknown card key '{_join(where, key)}'; "
                f"known are {', '.join(hints)}. {REMEDY}"
            )
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in content and field.default is dataclasses.MISSING:
            name = _join(where, field.name)
            raise ModelError(f"{path}: card key '{name}' is missing. {REMEDY}")
    return kind(
        **{
            key: _convert(hints[key], value, path, _join(where, key))
            for key, value in content.items()
        }
    )


def _convert(hint: Any, value: object, path: Path, where: str) -> Any:
    """Check one value against its annotation; lists become tuples."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and types.NoneType in typing.get_args(hint):
            return None
        options = [option for option in typing.get_args(hint) if option is not types.NoneType]
        hint = next((option for option in options if _fits(option, value)), options[0])
        return _convert(hint, value, path, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, path, where)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v, path, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(hint)[1]
        return {key: _convert(item, v, path, _join(where, key)) for key, v in value.items()}
    if isinstance(hint, type) and _fits(hint, value):
        return float(value) if hint is float else value  # type: ignore[arg-type]
    wanted = getattr(hint, "__name__", str(hint))
    raise ModelError(f"{path}: card key '{where}' is {value!r}; expected {wanted}. {REMEDY}")


def _fits(hint: object, value: object) -> bool:
    """Return whether a JSON value has the plain type asked for (an int is also a float)."""
    if isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(hint, type) and isinstance(value, hint)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
