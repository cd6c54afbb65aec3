"""CHECKSUM and DATASUM of an HDU that was just written (FITS Standard 4.0, appendix J)."""

from __future__ import annotations

from typing import IO

import numpy as np
from astropy.io import fits

from crmend._fits_header import header_bytes

CHECKSUMS = {"CHECKSUM": ("0" * 16, "HDU checksum"), "DATASUM": ("0", "data unit checksum")}
"""Value and comment to write at first: the sum is of a header with this CHECKSUM."""

_ONES = 2**32 - 1
_BLOCK_BYTES = 2880 * 2**9
_PUNCTUATION = frozenset(b":;<=>?@[\\]^_`")


def has_checksums(header: fits.Header) -> bool | str:
    """Return which ones to write in place of a header's own, as astropy wants to be told."""
    return "CHECKSUM" in header or ("datasum" if "DATASUM" in header else False)


def write_checksums(stream: IO[bytes], header: fits.Header, start: int) -> None:
    """Set those that a header has, in it and at the start of the HDU that ends here.

    Parameters
    ----------
    stream : binary stream
        Of a file that can be read too, behind the HDU; left there.
    header : fits.Header
        As written, with the values of `CHECKSUMS`.
    start : int
        Where the HDU begins.
    """
    if not has_checksums(header):
        return
    end = stream.tell()
    stream.seek(start + len(header_bytes(header)))
    data = 0
    while block := stream.read(min(_BLOCK_BYTES, end - stream.tell())):
        data = _add(data, block)
    if "DATASUM" in header:
        header["DATASUM"] = str(data)
    if "CHECKSUM" in header:
        header["CHECKSUM"] = _encode(_ONES - _add(data, header_bytes(header)))
    stream.seek(start)
    stream.write(header_bytes(header))
    stream.seek(end)


def _add(total: int, content: bytes) -> int:
    """Return a sum and that of big-endian words of 32 bits, in ones' complement."""
    total += int(np.frombuffer(content, ">u4").sum(dtype=np.uint64))
    while total > _ONES:
        total = (total & _ONES) + (total >> 32)
    return total


def _encode(value: int) -> str:
    """Return 16 letters and digits whose sum is that of a word."""
    text = bytearray(16)
    for i, byte in enumerate(value.to_bytes(4, "big")):
        quarter, rest = divmod(byte, 4)
        letters = [quarter + rest + ord("0"), *[quarter + ord("0")] * 3]
        while _PUNCTUATION.intersection(letters):
            for j in (0, 2):
                if _PUNCTUATION.intersection(letters[j : j + 2]):
                    letters[j] += 1
                    letters[j + 1] -= 1
        text[i::4] = bytes(letters)
    # Values begin in the twelfth column, the last of a word.
    return (text[-1:] + text[:-1]).decode("ascii")
