"""What a header says of pixel values that no network expects: mosaics of colours, asinh."""

from __future__ import annotations

import warnings
from typing import Any

from astropy.io import fits

from crmend.errors import CrmendWarning

_MOSAIC_KEYWORDS = ("BAYERPAT", "COLORTYP", "CFAPAT", "BAYER")
_MOSAICS = {"RGGB", "BGGR", "GRBG", "GBRG"}

_ASINH_KEYWORDS = ("BSOFTEN", "BOFFSET")
"""Both stand in the headers of Pan-STARRS' images, whose values are asinh magnitudes (Waters et
al. 2020, ApJS 251, 4, section on the asinh compression)."""


def warn_of_values(header: fits.Header, file_name: str) -> None:
    """Warn where a header says that the values are not those of one colour, or not linear.

    Parameters
    ----------
    header : fits.Header
    file_name : str
        For the message.

    Warns
    -----
    CrmendWarning
        It names one of the four orders of a Bayer mosaic, or the constants of an asinh.
    """
    named = ((key, header.get(key)) for key in _MOSAIC_KEYWORDS)
    for key, value in [(key, value) for key, value in named if _is_mosaic(value)][:1]:
        _warn(
            f"{file_name} is a raw colour frame ({key} = {value!r}), expected one colour: the "
            "networks take the steps between colours for structure; split it into its four "
            f"colour planes first, and leave {key} out of their headers"
        )
    if all(isinstance(header.get(key), (int, float)) for key in _ASINH_KEYWORDS):
        soften, offset = (header[key] for key in _ASINH_KEYWORDS)
        _warn(
            f"{file_name} has BSOFTEN = {soften:g} and BOFFSET = {offset:g}: its values v are "
            "asinh magnitudes, as Pan-STARRS writes them, expected linear ones; make them so "
            "first (BOFFSET + 2 BSOFTEN sinh(0.4 ln(10) v)), and leave both keywords out"
        )


def _is_mosaic(value: Any) -> bool:
    return isinstance(value, str) and value.strip().upper() in _MOSAICS


def _warn(text: str) -> None:
    # For whoever called `read_exposure`.
    warnings.warn(text, CrmendWarning, stacklevel=4)
