"""Values of command-line options, parsed and checked (argparse turns errors into exit 2)."""

from __future__ import annotations

import argparse
import math
from functools import reduce
from operator import or_
from pathlib import Path

from crmend._instruments import ALL_FLAGS, PLANE_KINDS
from crmend._memory import byte_count
from crmend._sessions import MOST_THREADS
from crmend.errors import InvalidInputError

_ENDINGS = (".fits.fz", ".fits.gz", ".fit.gz", ".fits", ".fit", ".fts")


def memory(text: str) -> int:
    """Return bytes, at least 1, from ``2GB``, ``1.5 GiB`` or ``800M``."""
    try:
        count = byte_count(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory; give a size such as 2GB")
    return count


def probability(text: str) -> float:
    """Return a number between 0 and 1, both excluded."""
    value = _number(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability above 0 and below 1")
    return value


def positive_number(text: str) -> float:
    """Return a finite number above 0."""
    value = _number(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def positive_count(text: str) -> int:
    """Return a whole number, at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def thread_count(text: str) -> int:
    """Return a number of threads, of which onnxruntime takes so many at most."""
    count = positive_count(text)
    if count > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MOST_THREADS} threads")
    return count


def plane(text: str) -> tuple[str, str | None]:
    """Return kind and name from ``flag=MASK``; None from ``flag=none``, which leaves it out."""
    kind, _, name = text.partition("=")
    if kind not in PLANE_KINDS or not name.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} names no plane; expected KIND=NAME, KIND one of {', '.join(PLANE_KINDS)}"
        )
    if name.strip().lower() != "none":
        return kind, name.strip()
    if kind == "image":
        raise argparse.ArgumentTypeError(
            f"{text!r} leaves out the image; expected its EXTNAME or HDU number"
        )
    return kind, None


def flag_bits(text: str) -> int | str:
    """Return ``any``, or the sum of bits such as ``1,4,0x40``."""
    if text.strip() == "any":
        return "any"
    try:
        bits = [int(part.strip(), 0) for part in text.split(",")]
    except ValueError:
        bits = [0]
    if min(bits) < 1 or max(bits) > ALL_FLAGS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of bits; expected such as 1,4,64 (each from 1 to 2^31 - 1), "
            "or any"
        )
    return reduce(or_, bits)


def contradiction(options: argparse.Namespace) -> str | None:
    """Return what is wrong with options that exclude each other, or None."""
    kinds = [kind for kind, _ in getattr(options, "plane", [])]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        return f"argument --plane: the {twice} plane is named twice; expected once"
    # Other commands have no such options, and `models info` has a model without a detector.
    model, detector = getattr(options, "model", None), getattr(options, "detector", None)
    named = str(model).partition("/")[2]
    digits = named.isdecimal() and str(detector).isdecimal()
    if digits and int(named) != int(str(detector)):
        return (
            f"argument --detector: {detector} contradicts --model {model}; expected the same "
            "detector, or one of the two options"
        )
    lowest = getattr(options, "threshold", None)
    seed = getattr(options, "seed_threshold", None)
    if lowest is not None and seed is not None and seed < lowest:
        return (
            f"argument --seed-threshold: {seed:g} is below --threshold {lowest:g}; expected at "
            "least as much, since a group's best pixel is one of those above the threshold"
        )
    return None


def beside(frame: Path, suffix: str) -> Path:
    """Return the default name of a result: the frame's without its ending, plus a suffix."""
    if not frame.name:
        # Such as "" or "/": reading says what is wrong with it.
        return frame / suffix
    lower = frame.name.lower()
    ending = next((end for end in _ENDINGS if lower.endswith(end)), "")
    return frame.with_name(frame.name[: len(frame.name) - len(ending)] + suffix)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
