"""Compare the unit of an error plane with that of its image."""

from __future__ import annotations

import math
import warnings

from astropy import units

from crmend._fits_header import read_value
from crmend._fits_keywords import parse_unit
from crmend._fits_planes import Plane
from crmend.errors import InvalidInputError

_COUNTED = {"electron": units.electron, "adu": units.adu}
# What BUNIT calls by different names, and pixels, which it names or not.
_SAME = {units.ct: units.adu, units.DN: units.adu, units.pix: units.dimensionless_unscaled}
_POWERS = {"error": 1, "variance": 2, "weight": -2}
_EXPECTED = {1: "the same unit", 2: "its square", -2: "its inverse square"}


def error_factor(plane: Plane, kind: str, image_unit: str) -> float:
    """Return the factor that takes the errors of a plane to the unit of its image.

    Parameters
    ----------
    plane : Plane
    kind : str
        error, weight or variance: what the plane holds.
    image_unit : str
        BUNIT of the image, as written; empty = none.

    Returns
    -------
    float
        For 1-sigma errors; 1 where a BUNIT is missing or cannot be parsed, and for a weight
        or variance that has the image's own BUNIT, as many programs write it.

    Raises
    ------
    InvalidInputError
        If the units differ by more than a factor.
    """
    stated = str(read_value(plane.header, "BUNIT") or "").strip()
    try:
        return unit_factor(stated, image_unit, kind)
    except units.UnitConversionError:
        raise InvalidInputError(
            f"the {kind} plane {plane.label} is in {stated} and the image in {image_unit}; "
            f"expected {_EXPECTED[_POWERS[kind]]}: convert one, mend BUNIT, or leave the plane "
            f"out (--plane {kind}=none, planes={{{kind!r}: None}})"
        ) from None


def unit_factor(stated: str, image_unit: str, kind: str) -> float:
    """Return the factor of `error_factor` for the units of a plane and its image as texts.

    Raises
    ------
    astropy.units.UnitConversionError
        If they differ by more than a factor.
    """
    own, image = _parse(stated), _parse(image_unit)
    if own is None or image is None or own == image:
        return 1.0
    power = _POWERS[kind]
    wanted = image**power
    return 1.0 if own == wanted else math.pow(own.to(wanted), 1 / power)


def _parse(text: str) -> units.UnitBase | None:
    """Return a unit, without pixels; None where it says nothing: unknown, 1, mag(AB)."""
    known = parse_unit(text)
    if known is not None:
        name, rate = known
        return _COUNTED[name] / units.s if rate else _COUNTED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        parsed = units.Unit(text, parse_strict="silent")
    if not isinstance(parsed, units.UnitBase) or isinstance(parsed, units.UnrecognizedUnit):
        return None
    result = units.CompositeUnit(parsed.scale, [], [])
    for base, power in zip(parsed.bases, parsed.powers, strict=True):
        result = result * _SAME.get(base, base) ** power
    return None if result.physical_type == "dimensionless" else result
