"""What the header says of an exposure: detector, band, unit, gain, times and limits."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from astropy.io import fits

from crmend._fits_header import read_value
from crmend._instruments import Instrument
from crmend.errors import (
    CrmendWarning,
    FileFormatError,
    InvalidInputError,
    UnknownDetectorError,
)

_ELECTRONS = {"e", "e-", "el", "electron", "electrons", "photoelectron", "photoelectrons"}
_ADU = {"adu", "adus", "dn", "ct", "cts", "count", "counts"}
_PER_SECOND = re.compile(r"[ .*]*(?:/ ?(?:s|sec|second|seconds)|s(?:\^|\*\*)?\(?-1\)?)$")
_SAYS_NOTHING = {"", "na", "n/a", "none", "null", "nan", "indef", "undefined", "unknown", "-"}
_BRACKET = re.compile(r"/ ?\(([^()/]*)\)")
_PER_PIXEL = re.compile(
    r"[ .*]*(?:/ ?(?:pix|pixel|px)s?(?![a-z0-9*^])"
    r"|\b(?:pix|pixel|px)s?(?:\^|\*\*)?\(?-1\)?(?!\d))"
)
_LOGARITHM = re.compile(
    r"(?<![a-z])(?:(?:m|ab|st|vega)?mag(?:s|nitudes?)?|dex|db|log(?:10)?)(?![a-z])"
)
_UNITS = {
    "gain": "e-/ADU",
    "read_noise": "e-",
    "exposure_time": "s",
    "saturation": "the image's unit",
}


@dataclass(frozen=True)
class Calibration:
    """Figures that tie the image's values to electrons.

    Attributes
    ----------
    unit : str
        As the header writes it, or the profile's default; empty = not known.
    electrons_per_unit : float or None
        Multiply image values by this to have electrons; None = unknown.
    exposure_time : float or None
        [s]
    read_noise : float or None
        [e-]
    saturation : float or None
        In the image's unit.
    """

    unit: str
    electrons_per_unit: float | None
    exposure_time: float | None
    read_noise: float | None
    saturation: float | None


@dataclass(frozen=True)
class Known:
    """What the caller knows better than the header; None = as the header says.

    Attributes
    ----------
    gain : float or None
        [e-/ADU]
    read_noise : float or None
        [e-]
    exposure_time : float or None
        [s]
    saturation : float or None
        In the image's unit.
    """

    gain: float | None = None
    read_noise: float | None = None
    exposure_time: float | None = None
    saturation: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            number = isinstance(value, float | int | np.floating | np.integer)
            number = number and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value > 0):
                raise InvalidInputError(
                    f"{item.name} is {value!r}, expected a positive number "
                    f"[{_UNITS[item.name]}]"
                )


def find_detector(
    header: fits.Header, instrument: Instrument, file_name: str, detector: int | str | None
) -> str | None:
    """Return the detector's name: as given, from the header, or from the file name.

    Raises
    ------
    UnknownDetectorError
        If the instrument has detectors and this is none of them, or none is named.
    InvalidInputError
        If `detector` is neither a name nor a whole number.
    """
    keyword = next(
        (key for key in instrument.keywords.get("detector", ()) if key in header), None
    )
    if detector is not None:
        if not isinstance(detector, str | int | np.integer):
            raise InvalidInputError(
                f"detector is {detector!r}; expected a name or a whole number, such as 8"
            )
        name, source = str(detector).strip(), "as given"
    elif keyword is not None and str(header[keyword]).strip():
        name, source = str(header[keyword]).strip(), f"{keyword} = {header[keyword]!r}"
    else:
        name, source = _detector_from_name(instrument, file_name), f"from the name {file_name}"
    if instrument.detector_digits is not None and not name.startswith("-"):
        start = 0 if detector is not None else -instrument.detector_digits
        number = re.search(r"[0-9]+$", name[start:])
        name = number.group().lstrip("0") or name if number else name
    if not instrument.detectors:
        return name or None
    if name.upper() in instrument.detectors:
        return name.upper()
    choices = ", ".join(instrument.detectors)
    if not name:
        raise UnknownDetectorError(
            f"{file_name} names no detector: {instrument.title} expects the keyword "
            f"{' or '.join(instrument.keywords['detector'])} (or the usual file name); pass "
            f"detector=... (--detector), one of {choices}"
        )
    raise UnknownDetectorError(
        f"{instrument.title} has no imaging detector {name!r} ({source}); expected one of "
        f"{choices}; pass detector=... (--detector), or instrument='generic' for other data"
    )


def find_band(header: fits.Header, instrument: Instrument, detector: str | None) -> str | None:
    """Return the band of the detector, or else the filter that the header names."""
    if detector is not None and detector in instrument.bands:
        return instrument.bands[detector]
    names = (str(header.get(key, "")).strip() for key in instrument.keywords.get("band", ()))
    return next((name for name in names if name and not name.upper().startswith("CLEAR")), None)


def find_calibration(
    header: fits.Header, instrument: Instrument, file_name: str, known: Known
) -> Calibration:
    """Collect unit, gain, exposure time, read noise and saturation.

    Parameters
    ----------
    header : fits.Header
        Primary header merged with the image's.
    instrument : Instrument
    file_name : str
        For messages.
    known : Known
        Goes before the header.

    Warns
    -----
    CrmendWarning
        A keyword that should have a number has a text that is none, or 0 and less.

    Raises
    ------
    InvalidInputError
        If an ADU image has no gain and the profile requires one, or the exposure time of
        an image per second is not a positive number.
    FileFormatError
        If the exposure time of such an image is missing, or the unit is not understood or no
        linear one.
    """
    keys = instrument.keywords
    unit = written_unit(header, instrument) or instrument.default_unit
    exposure_time = known.exposure_time or first_positive(header, keys["exposure_time"])
    read_noise = known.read_noise or first_positive(header, keys.get("read_noise", ()))
    found = Calibration(
        unit=unit,
        electrons_per_unit=_electrons_per_unit(header, instrument, file_name, unit, known),
        exposure_time=exposure_time,
        read_noise=instrument.default_read_noise if read_noise is None else read_noise,
        saturation=known.saturation or first_positive(header, keys.get("saturation", ())),
    )
    _warn_of_values(header, instrument, file_name, found, known)
    return found


def _warn_of_values(
    header: fits.Header,
    instrument: Instrument,
    file_name: str,
    found: Calibration,
    known: Known,
) -> None:
    """Warn where a keyword that should have a number above 0 has something else."""
    used = {item.name: getattr(found, item.name) for item in fields(found)}
    counted = (parse_unit(found.unit or "ADU") or ("",))[0] == "adu"
    if counted:
        used["gain"] = first_positive(header, instrument.keywords.get("gain", ()))
    for name in sorted(used.keys() & instrument.keywords.keys() - {"unit"}):
        if getattr(known, name, None) is not None:
            continue
        keys = instrument.keywords[name]
        # A noise of 0 may be meant, and beside a number above 0 another may be a setting.
        numbers = name != "read_noise" and first_positive(header, keys) is None
        for key in keys:
            expected = _expected(header.get(key), numbers=numbers)
            if expected is None:
                continue
            what = name.replace("_", " ")
            instead = "is not known" if used[name] is None else f"is taken as {used[name]:g}"
            warnings.warn(
                f"{file_name}: {key} is {header[key]!r}, expected {expected}; it counts as "
                f"absent, and the {what} {instead}: mend the keyword",
                CrmendWarning,
                stacklevel=4,
            )


def _expected(value: Any, *, numbers: bool) -> str | None:
    """Return what should stand in place of a value, or None if it is right or says nothing.

    With `numbers` numbers are looked at, too, and not texts alone.
    """
    number = _number(value)
    if isinstance(value, str) and number is None:
        return None if value.strip().lower() in _SAYS_NOTHING else "a number alone"
    wrong = isinstance(value, bool) or (number is not None and number <= 0.0)
    return "a number above 0" if wrong and numbers else None


def written_unit(header: fits.Header, instrument: Instrument) -> str:
    """Return the unit that a header names, as written, or an empty string."""
    texts = (str(header.get(key, "")).strip() for key in instrument.keywords["unit"])
    return next((text for text in texts if text), "")


def parse_unit(unit: str) -> tuple[str, bool] | None:
    """Return ("electron" or "adu", per second?), or None for any other unit.

    Whether it is per pixel says nothing of an image.
    """
    text = _BRACKET.sub(_each_divides, unit.strip().lower())
    text = _PER_PIXEL.sub("", text).strip()
    if text == "cps":
        return "adu", True
    base = _PER_SECOND.sub("", text).strip()
    rate = base != text
    if base in _ELECTRONS:
        return "electron", rate
    return ("adu", rate) if base in _ADU else None


def is_logarithm(unit: str) -> bool:
    """Return whether a unit is of magnitudes or another logarithm."""
    return parse_unit(unit) is None and _LOGARITHM.search(unit.lower()) is not None


def _each_divides(bracket: re.Match[str]) -> str:
    """Return ``/pix/s`` for ``/ (pix s)``."""
    return "".join(f"/{factor}" for factor in re.split("[ .*]+", bracket.group(1).strip()))


def first_positive(header: fits.Header, keys: Iterable[str]) -> float | None:
    """Return the first keyword's value that is a finite number above zero."""
    values = (_number(read_value(header, key)) for key in keys)
    return next((value for value in values if value is not None and value > 0), None)


def _electrons_per_unit(
    header: fits.Header, instrument: Instrument, file_name: str, unit: str, known: Known
) -> float | None:
    """Return the electrons of one unit, or None where a lenient profile allows that."""
    parsed = parse_unit(unit or "ADU")
    if parsed is None:
        if is_logarithm(unit):
            raise FileFormatError(
                f"{file_name}: BUNIT is {unit!r}, a logarithm, expected a linear unit, such as "
                "ADU, electrons or Jy: convert the image to one, or mend BUNIT if it is wrong"
            )
        if not instrument.gain_required:
            _warn_of_gain(known, unit, file_name)
            return None
        raise FileFormatError(
            f"{file_name}: BUNIT is {unit!r}, expected e/s, electrons or ADU; mend BUNIT, or "
            "use instrument='generic' (--instrument generic), which takes any linear unit"
        )
    kind, rate = parsed
    factor: float | None = 1.0
    if kind == "adu":
        factor = known.gain or first_positive(header, instrument.keywords.get("gain", ()))
        if factor is None and instrument.gain_required:
            keys = ", ".join(instrument.keywords["gain"])
            raise InvalidInputError(
                f"{file_name} is in {unit} and has no gain: {keys} missing or not positive, "
                "expected [e-/ADU]; pass gain=..., or write that keyword"
            )
    seconds: float | None = 1.0
    if rate:
        seconds = known.exposure_time or _seconds(header, instrument, file_name, unit)
    return None if factor is None or seconds is None else factor * seconds


def _warn_of_gain(known: Known, unit: str, file_name: str) -> None:
    """Warn where the caller gave a gain that the unit leaves no use for."""
    if known.gain is not None:
        warnings.warn(
            f"{file_name}: BUNIT is {unit!r}, so that the gain given is not used; expected "
            "ADU (DN, counts), per second or not, or electrons: mend BUNIT, or leave the gain "
            "out where the image is calibrated",
            CrmendWarning,
            stacklevel=5,
        )


def _seconds(
    header: fits.Header, instrument: Instrument, file_name: str, unit: str
) -> float | None:
    """Return the exposure time, which an image per second cannot do without."""
    keys = instrument.keywords["exposure_time"]
    found = [key for key in keys if key in header]
    seconds = first_positive(header, keys)
    if seconds is not None or (not found and not instrument.gain_required):
        return seconds
    if not found:
        raise FileFormatError(
            f"{file_name} is in {unit} and has no exposure time: {', '.join(keys)} missing; "
            "pass exposure_time=..., or write that keyword [s]"
        )
    raise InvalidInputError(
        f"{file_name} is in {unit} and {found[0]} is {header[found[0]]!r}, expected a positive "
        "number of seconds; mend that keyword"
    )


def _number(value: Any) -> float | None:
    """Return a header value as a finite float, or None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _detector_from_name(instrument: Instrument, file_name: str) -> str:
    """Return the detector that the file name holds, or an empty string."""
    if instrument.detector_pattern is None:
        return ""
    found = re.search(instrument.detector_pattern, file_name, re.IGNORECASE)
    return found.group("detector") if found else ""
