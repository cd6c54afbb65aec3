"""Headers of FITS files: read them leniently, merge them, and make those of new planes."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable
from typing import Any

from astropy.io import fits
from numpy.typing import NDArray

from crmend._provenance import Provenance
from crmend.errors import CrmendWarning

_BITPIX = {"uint8": 8, "int16": 16, "int32": 32, "float32": -32}
_COMMENTARY = {"COMMENT", "HISTORY", ""}

# Keywords that describe how pixels were stored, which the new plane decides itself.
_STRUCTURE = {
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "GROUPS", "EXTEND",
    "BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM", "EXTNAME",
    "EXTVER", "INHERIT", "NEXTEND", "TFIELDS", "THEAP", "END", "FZALGOR", "FZTILE",
}  # fmt: skip
_STRUCTURE_NUMBERED = ("NAXIS", "TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TSCAL", "TZERO")
_COMPRESSION = {
    "ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL", "ZQUANTIZ",
    "ZDITHER0", "ZMASKCMP", "ZSIMPLE", "ZEXTEND", "ZTENSION", "ZPCOUNT", "ZGCOUNT",
    "ZBLOCKED", "ZHECKSUM", "ZDATASUM", "ZBLANK", "ZSCALE", "ZZERO",
}  # fmt: skip

_WCS = re.compile(
    r"(?:WCS(?:AXES|NAME)|RADE(?:CSYS|SYS)|EQUINOX|EPOCH|L(?:ON|AT)POLE"
    r"|C(?:TYPE|UNIT|RVAL|RPIX|DELT|ROTA)\d+|(?:CD|PC|PV|PS)\d+_\d+)[A-Z]?"
    r"|[AB]P?_(?:ORDER|\d_\d)|WAT\d_\d{3}"
)


def is_structural(keyword: str) -> bool:
    """Return True for a keyword that belongs to the stored pixels, not to the exposure."""
    name = keyword.upper()
    stem = name.rstrip("0123456789")
    return (
        name in _STRUCTURE
        or (stem != name and stem in _STRUCTURE_NUMBERED)
        or name in _COMPRESSION
        or (stem != name and stem in _COMPRESSION)
    )


def clean_header(header: fits.Header) -> fits.Header:
    """Return a copy without the keywords that describe how pixels were stored."""
    # Header(cards) shares its cards, so copy each.
    return fits.Header(
        [copy.copy(card) for card in header.cards if not is_structural(card.keyword)]
    )


def wcs_header(header: fits.Header) -> fits.Header:
    """Return a copy of the cards that say where pixels lie, for a plane beside that one.

    NAXIS is among them; tables of distortions, in other HDUs, are not.
    """
    return fits.Header(
        [
            copy.copy(card)
            for card in header.cards
            if card.keyword == "NAXIS" or _WCS.fullmatch(card.keyword)
        ]
    )


def drop_unwritable(header: fits.Header) -> None:
    """Remove cards that FITS does not allow and astropy does not write, in place.

    Control characters elsewhere, in comments say, become blanks; astropy would write them.

    Warns
    -----
    CrmendWarning
        If there are any.
    """
    lost = []
    for index, card in reversed(list(enumerate(header.cards))):
        try:
            image = str(card)
        except (ValueError, fits.VerifyError):
            lost.append(card.keyword)
            del header[index]
            continue
        if not image.isprintable():
            blanked = "".join(c if c.isprintable() else " " for c in image)
            del header[index]
            header.insert(index, fits.Card.fromstring(blanked))
    if lost:
        warnings.warn(
            f"not carried over to the output: the header card(s) {', '.join(sorted(lost))} "
            "with a tab or another control character, which FITS does not allow; mend the "
            "input's header",
            CrmendWarning,
            stacklevel=4,
        )


def merged_header(primary: fits.Header, image: fits.Header) -> fits.Header:
    """Return the primary header overlaid with the image's, without structural keywords.

    Comments are the primary's.  Cards are copied as they are, those that cannot be parsed
    and those that repeat a keyword included.
    """
    own = [card for card in clean_header(image).cards if card.keyword not in _COMMENTARY]
    replaced = {card.keyword for card in own}
    kept = [card for card in clean_header(primary).cards if card.keyword not in replaced]
    return fits.Header(kept + own)


def read_value(header: fits.Header, keyword: str) -> Any:
    """Return a keyword's value, or None if it is absent, undefined or cannot be parsed."""
    try:
        return header.get(keyword)
    except fits.VerifyError:
        return None


def readable(header: fits.Header, wanted: Iterable[str], where: str) -> fits.Header:
    """Return a header of the cards that have a value, so that all others count as absent.

    Parameters
    ----------
    header : fits.Header
    wanted : iterable of str
        Keywords whose loss matters.
    where : str
        Name of the file, for the warning.

    Warns
    -----
    CrmendWarning
        If a wanted keyword is there and cannot be parsed.
    """
    cards = []
    broken = []
    for card in header.cards:
        try:
            if not isinstance(card.value, fits.card.Undefined):
                cards.append(card)
        except fits.VerifyError:
            broken.append(card.keyword)
    lost = sorted(set(broken).intersection(wanted))
    if lost:
        warnings.warn(
            f"{where}: the value of {', '.join(lost)} cannot be parsed, expected a number or "
            "text in quotes; it counts as absent: mend the header, or pass the value",
            CrmendWarning,
            stacklevel=3,
        )
    return fits.Header(cards)


def add_provenance(header: fits.Header, provenance: Provenance | None) -> None:
    """Set the provenance cards in a header, and add a HISTORY line; in place."""
    if provenance is None:
        return
    for keyword, value, comment in provenance.to_cards():
        header[keyword] = (value, comment)
    header.add_history(provenance.history())


def plane_header(
    header: fits.Header, values: NDArray[Any], *, name: str, version: int
) -> fits.Header:
    """Return the full header of an image extension.

    Where the header given has more than two axes (the others of length 1), so has the new one:
    the WCS counts them.
    """
    ny, nx = values.shape
    axes = max(2, header.get("NAXIS", 2))
    result = fits.Header()
    result["XTENSION"] = ("IMAGE", "image extension")
    result["BITPIX"] = (_BITPIX[values.dtype.newbyteorder("=").name], "array data type")
    result["NAXIS"] = (axes, "number of array dimensions")
    result["NAXIS1"] = (nx, "pixels along x")
    result["NAXIS2"] = (ny, "pixels along y")
    for axis in range(3, axes + 1):
        result[f"NAXIS{axis}"] = 1
    result["PCOUNT"] = (0, "number of parameters")
    result["GCOUNT"] = (1, "number of groups")
    result["EXTNAME"] = (name, "extension name")
    result["EXTVER"] = (version, "extension version")
    if "INHERIT" in header:
        result.append(copy.copy(header.cards["INHERIT"]))
    result.extend(clean_header(header), strip=False, unique=False, update=False)
    drop_unwritable(result)
    return result


def header_bytes(header: fits.Header) -> bytes:
    """Return the header's cards, END and padding."""
    text: str = header.tostring(sep="", endcard=True, padding=True)
    return text.encode("ascii")
