"""Look at the headers of a FITS file as bytes, before astropy believes what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from crmend.errors import FileFormatError

FITS_BLOCK = 2880
"""Headers and data units of a FITS file are padded to this [bytes]."""

EXTENSION = b"XTENSION"
"""Keyword that the header of an extension begins with."""

_CARD_BYTES = 80
_MOST = 999
"""Axes of an image, and columns of a table, at most (FITS 4.0, sections 4.4.1 and 7.3.1)."""

_COUNT = re.compile(rb"(NAXIS|ZNAXIS|TFIELDS) *= *\+?(\d+)")


@dataclass(frozen=True)
class RawHeader:
    """What is wrong with a header, without a look at the values of all others.

    Attributes
    ----------
    begins : bytes
        Its first eight bytes; empty at the end of the file.
    swallows : bool
        Another header begins before this one has ended.
    count : tuple of str and int, or None
        The first of NAXIS, ZNAXIS and TFIELDS that FITS does not allow, over which a reader
        would loop without end.
    """

    begins: bytes
    swallows: bool = False
    count: tuple[str, int] | None = None


def raw_header(stream: IO[bytes], offset: int) -> RawHeader:
    """Look through the header at this place, block by block, up to its END."""
    begins, count = b"", None
    stream.seek(offset)
    while block := stream.read(FITS_BLOCK):
        if begins and block.startswith(EXTENSION + b"="):
            return RawHeader(begins, swallows=True, count=count)
        begins = begins or block[: len(EXTENSION)]
        for start in range(0, len(block), _CARD_BYTES):
            card = block[start : start + _CARD_BYTES]
            if card.startswith(b"END     "):
                return RawHeader(begins, count=count)
            found = _COUNT.match(card)
            if count is None and found and int(found[2]) > _MOST:
                count = found[1].decode(), int(found[2])
    return RawHeader(begins, count=count)


def check_counts(path: Path, index: int, header: RawHeader) -> None:
    """Raise a `FileFormatError` for a number of axes or columns that FITS does not allow."""
    if header.count is not None:
        key, value = header.count
        raise FileFormatError(
            f"{path} is damaged: HDU {index} has {key} = {value}, expected at most {_MOST}, as "
            "FITS allows; transfer or make the file again"
        )


def check_extension(path: Path, index: int, header: RawHeader) -> None:
    """Raise a `FileFormatError` unless this is the whole header of one extension."""
    if index and header.begins != EXTENSION:
        raise FileFormatError(
            f"{path} is damaged: HDU {index} begins with {header.begins!r}, expected XTENSION; "
            "a card of the HDU before may be lost, transfer or make the file again"
        )
    if header.swallows:
        raise FileFormatError(
            f"{path} is damaged: the header of HDU {index} has no END, expected one before the "
            "next header; transfer or make the file again"
        )
