"""Instrument profiles: everything crmend knows about an instrument's files.

Facts stand in `instruments/*.toml`, one file per instrument; this module only parses
them, and chooses one for a header.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from importlib import resources
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from crmend._fits import here
from crmend._instrument_checks import ENTRIES, check_profile
from crmend.errors import (
    FileFormatError,
    InvalidInputError,
    MissingFileError,
    UnknownInstrumentError,
)

PLANE_KINDS = ("image", "error", "weight", "variance", "flag")
"""What a plane of a file may be."""

ALL_FLAGS = 2**31 - 1
"""All bits of a flag plane (int32, not negative)."""

_ANY_FLAG = 2**32 - 1  # with the highest bit of unsigned planes

ERROR_KINDS = ("error", "weight", "variance")
"""Kinds that an error can be made of, best first."""

_NO_MAP: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Instrument:
    """One instrument's files, keywords and flag bits.

    Attributes
    ----------
    name : str
        Name of the profile, as in ``instrument="hst_acs"``.
    title : str
        For people.
    model_pack : str
        Folder of graphs to use.
    trained : bool
        True if the graphs of that pack were trained for this instrument.
    match : mapping of keyword to tuple of str
        Header keywords and the values that identify the instrument; empty = never
        chosen by itself.
    file_pattern : str or None
        Regular expression found in the names of its files, if the header lacks the
        keywords.
    planes : mapping
        Plane kind (image, error, weight, variance, flag) to its EXTNAME values.
    positions : tuple of str
        Plane kinds by position, for files without EXTNAME.
    siblings : mapping
        Plane kind to its tag in file names, for one file per plane.
    keywords : mapping
        Quantity to the header keywords that may hold it, best first.
    detectors : tuple of str
        Detector names; empty = any.
    bands : mapping
        Detector to band, where the detector decides it.
    detector_digits : int or None
        Take so many last characters of the detector keyword, as a number.
    detector_pattern : str or None
        Regular expression with a group ``detector`` to find it in the file name.
    default_unit : str
        Unit of images without BUNIT; "" = not known, their gain is that of ADU.
    gain_required : bool
        Refuse ADU images without gain.
    default_read_noise : float or None
        [e-], where no keyword has it.
    pixel_size_um : float or None
        Pixel side [µm]; None = unknown.
    pixel_sizes_um : mapping
        Detector to pixel side [µm], where detectors differ.
    flags : mapping
        Name of a defect to its bit value in the flag plane.
    invalid_flags, saturated_flags : int
        Sums of the bits that mean: the value carries no information; saturated.
    cr_bit : int
        Bit value that marks a cosmic ray.
    flag_codes : mapping
        For files whose flag plane holds one number per pixel instead of bits: that number to
        its bit value; empty = bits.
    named : tuple of str
        Kinds of planes that the caller named, so that the file must have them.
    left_out : tuple of str
        Kinds of planes that the caller wants not to be read.
    """

    name: str
    title: str
    model_pack: str
    trained: bool
    planes: Mapping[str, tuple[str, ...]]
    keywords: Mapping[str, tuple[str, ...]]
    default_unit: str
    gain_required: bool
    flags: Mapping[str, int]
    invalid_flags: int
    saturated_flags: int
    cr_bit: int
    positions: tuple[str, ...] = ()
    siblings: Mapping[str, str] = field(default_factory=dict)
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    file_pattern: str | None = None
    detectors: tuple[str, ...] = ()
    bands: Mapping[str, str] = field(default_factory=dict)
    detector_digits: int | None = None
    detector_pattern: str | None = None
    default_read_noise: float | None = None
    pixel_size_um: float | None = None
    pixel_sizes_um: Mapping[str, float] = field(default_factory=dict)
    flag_codes: Mapping[int, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def for_detector(self, detector: str | None) -> Instrument:
        """Return the profile with `pixel_size_um` of that detector."""
        size = self.pixel_sizes_um.get(detector or "", self.pixel_size_um)
        return self if size == self.pixel_size_um else replace(self, pixel_size_um=size)

    def with_planes(self, planes: Mapping[str, str | int | None]) -> Instrument:
        """Return the profile with planes named, or left out, by the caller.

        Parameters
        ----------
        planes : mapping
            Kind (image, error, weight, variance, flag) to EXTNAME or number of the HDU;
            None = not to be read.

        Raises
        ------
        InvalidInputError
            A kind is none of those, or the image is to be left out.
        """
        unknown = [kind for kind in planes if kind not in PLANE_KINDS]
        if unknown:
            raise InvalidInputError(
                f"there is no kind of plane {unknown[0]!r}; expected {', '.join(PLANE_KINDS)}"
            )
        left_out = tuple(kind for kind, name in planes.items() if name is None)
        if "image" in left_out:
            raise InvalidInputError(
                "planes['image'] is None; expected the EXTNAME or the HDU number of the image: "
                "only other kinds can be left out"
            )
        chosen: dict[str, tuple[str, ...]] = {
            kind: (str(name).strip().upper(),)
            for kind, name in planes.items()
            if name is not None
        }
        if not chosen.keys().isdisjoint(ERROR_KINDS):
            # A weight that was named goes before an error that the profile would find.
            chosen = {
                kind: chosen.get(kind, ())
                for kind in PLANE_KINDS
                if kind in chosen or kind in ERROR_KINDS
            }
        named = tuple(kind for kind in planes if kind not in left_out)
        return replace(self, planes={**self.planes, **chosen}, named=named, left_out=left_out)

    def with_bad_flags(self, bits: int | str) -> Instrument:
        """Return the profile with other bits that mean: the value carries no information.

        Parameters
        ----------
        bits : int or "any"
            Sum of the bits, 1 to 2^31 - 1; any = all but the cosmic rays'.

        Raises
        ------
        InvalidInputError
            It is neither, or holds the bit of cosmic rays.
        """
        if isinstance(bits, str) and bits == "any":
            return replace(self, invalid_flags=_ANY_FLAG & ~self.cr_bit)
        whole = isinstance(bits, int | np.integer) and not isinstance(bits, bool)
        if not whole or not 1 <= int(bits) <= ALL_FLAGS or int(bits) & self.cr_bit:
            raise InvalidInputError(
                f"bad_flags is {bits!r}; expected a sum of bits from 1 to {ALL_FLAGS}, without "
                f"that of cosmic rays ({self.cr_bit}), or 'any'"
            )
        return replace(self, invalid_flags=int(bits))


def available_instruments() -> tuple[str, ...]:
    """Return the names of the built-in profiles, sorted."""
    folder = resources.files("crmend.instruments")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_instrument(name: str) -> Instrument:
    """Return a built-in profile by name, or one from a TOML file of your own.

    Parameters
    ----------
    name : str
        One of `available_instruments`, or a path that ends in ``.toml``.

    Raises
    ------
    UnknownInstrumentError
        If there is no such profile.
    FileFormatError, MissingFileError
        If a profile of your own cannot be read or parsed, or does not exist.
    """
    if name.endswith(".toml"):
        path = Path(name)
        try:
            content = path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise FileFormatError(
                f"instrument profile {path} cannot be read: {error.strerror or error}; check "
                "its name and permissions"
            ) from error
        if content is None:
            raise MissingFileError(
                f"instrument profile {path} does not exist{here()}; "
                f"check its path, or use one of {', '.join(available_instruments())}"
            )
        return _parse(path.stem, content, str(path))
    if name not in available_instruments():
        raise UnknownInstrumentError(
            f"there is no instrument profile {name!r}; available: "
            f"{', '.join(available_instruments())}. Use one of these, instrument='generic' "
            "(--instrument generic) for any 2-D image, "
            "or the path of a profile of your own (.toml)"
        )
    return _load_builtin(name)


def match_instrument(header: Mapping[str, Any], file_name: str = "") -> Instrument:
    """Return the profile that fits a header, or else a file name.

    Parameters
    ----------
    header : FITS header or mapping
        Primary header merged with the image's.
    file_name : str
        Name of the file, without folder.

    Raises
    ------
    UnknownInstrumentError
        If none fits.
    """
    profiles = [load_instrument(name) for name in available_instruments()]
    for profile in profiles:
        if profile.match and all(
            str(header.get(key, "")).strip().upper() in values
            for key, values in profile.match.items()
        ):
            return profile
    for profile in profiles:
        if (
            profile.file_pattern
            and "INSTRUME" not in header
            and re.search(profile.file_pattern, file_name, re.IGNORECASE)
        ):
            return profile
    seen = ", ".join(
        f"{key}={header.get(key)!r}"
        for key in ("TELESCOP", "INSTRUME", "DETECTOR")
        if key in header
    )
    raise UnknownInstrumentError(
        f"no instrument profile fits {file_name or 'the header'} "
        f"({seen or 'no TELESCOP, INSTRUME or DETECTOR keyword'}); available: "
        f"{', '.join(available_instruments())}. Name one by instrument='generic' "
        "(--instrument generic), say, which reads any 2-D image"
    )


@cache
def _load_builtin(name: str) -> Instrument:
    """Parse a built-in profile once."""
    source = resources.files("crmend.instruments") / f"{name}.toml"
    return _parse(name, source.read_bytes(), f"profile {name}")


def _parse(name: str, content: bytes, where: str) -> Instrument:
    """Build an `Instrument` from the bytes of a TOML file.

    Raises
    ------
    FileFormatError
        If the file is not TOML, lacks an entry, or has one that is not known or out of range.
    """
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
        check_profile(table, PLANE_KINDS, ALL_FLAGS)
        roles, flags = table.pop("flag_roles"), table["flags"]
        table["invalid_flags"] = _sum_of_bits(flags, roles["invalid"])
        table["saturated_flags"] = _sum_of_bits(flags, roles["saturated"])
        table["cr_bit"] = flags[roles["cosmic_ray"]]
        codes = table.get("flag_codes", _NO_MAP)
        table["flag_codes"] = {int(code): flags[name] for code, name in codes.items()}
        table["planes"] = _upper_tuples(table["planes"])
        table["match"] = _upper_tuples(table.get("match", _NO_MAP))
        table["keywords"] = _upper_tuples(table["keywords"])
        table["positions"] = tuple(table.get("positions", ()))
        # The detector of a file is looked for in capitals.
        for key in ("bands", "pixel_sizes_um"):
            table[key] = {
                name.upper(): value for name, value in table.get(key, _NO_MAP).items()
            }
        table["detectors"] = tuple(
            name.upper() for name in table.get("detectors", table["bands"])
        )
        return Instrument(name=name, **table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{where} is not a usable instrument profile: {error}. Known entries: "
            f"{', '.join(ENTRIES)}; see crmend/instruments/csst_msc.toml for an example"
        ) from error


def _sum_of_bits(flags: Mapping[str, int], names: Iterable[str]) -> int:
    """Return the bits of some flags, each once, also where two names share one."""
    return reduce(or_, (flags[name] for name in names), 0)


def _upper_tuples(table: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Return the table with its lists as tuples of upper-case strings."""
    return {key: tuple(value.upper() for value in values) for key, values in table.items()}
