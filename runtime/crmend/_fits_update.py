"""Rewrite the flag planes of a FITS file and keep every other byte."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend._fits import (
    flag_values,
    is_compressed,
    is_gzipped,
    open_bytes,
    open_fits,
    plane_blocks,
    read_flag,
)
from crmend._fits_checksum import CHECKSUMS, has_checksums, write_checksums
from crmend._fits_header import drop_unwritable, header_bytes
from crmend._fits_planes import Plane
from crmend._fits_write import atomic_output, copy_bytes, write_blocks, write_packed
from crmend._shared_files import locked, unchanged
from crmend.errors import FileFormatError

_COPY_BYTES = 2**20


def or_into_flag_planes(chips: Sequence[tuple[Plane, NDArray[np.bool_]]], bit: int) -> None:
    """OR a bit into flag planes where their masks are True, in one atomic step.

    Parameters
    ----------
    chips : sequence of (Plane, (ny, nx) bool array)
        Where the flags are, all in one file, which is replaced; True = set the bit.
    bit : int
        Value of the bit.

    Raises
    ------
    OutputError
        If the file cannot be rewritten; it is then as before.
    FileFormatError
        If a plane does not hold flags, planes lie in several files, or the file changes
        meanwhile.
    """
    targets = {plane.path.resolve(): plane.path for plane, _ in chips}
    if len(targets) > 1:
        names = ", ".join(map(str, targets.values()))
        raise FileFormatError(
            f"the flag planes lie in {len(targets)} files ({names}), which cannot be replaced "
            "in one step; expected all of them in one file: write the flags to a file of their "
            "own instead (crmend detect)"
        )
    target = next(iter(targets))
    gzipped = is_gzipped(target)
    masks: dict[int, NDArray[np.bool_]] = {}
    for plane, cr_mask in chips:
        # Chips may share one plane of a sibling file.
        known = masks.get(plane.index)
        masks[plane.index] = cr_mask if known is None else cr_mask | known
    with (
        locked(target, to_write=True),
        atomic_output(target, overwrite=True, gzipped=gzipped, owned_as=target) as temporary,
        unchanged(target),
    ):
        with open_fits(target, disable_image_compression=True) as hdus:
            places = {index: hdus[index].fileinfo() for index in masks}
            # The header of an image in a table does not tell.
            checksums = {index: has_checksums(hdus[index].header) for index in masks}
        with open_bytes(target) as source, temporary.open("x+b") as out:
            for index in sorted(masks):
                place = places[index]
                copy_bytes(source, out, place["hdrLoc"] - source.tell())
                _write_flags(out, target, index, masks[index], bit, checksums[index])
                source.seek(place["datLoc"] + place["datSpan"])
            shutil.copyfileobj(source, out, _COPY_BYTES)


def _write_flags(
    out: IO[bytes],
    path: Path,
    index: int,
    cr_mask: NDArray[np.bool_],
    bit: int,
    checksum: bool | str,
) -> None:
    """Write the header and the data of the new flag plane."""
    with open_fits(path, ignore_blank=True) as hdus:
        hdu = hdus[index]
        short = _stays_short(hdu.header, bit)
        header = _new_header(hdu.header, short)
        if not is_compressed(hdu):
            start = out.tell()
            out.write(header_bytes(header))
            label, blocks = f"{path} HDU {index}", plane_blocks(hdu)
            write_blocks(
                out,
                (_flagged(label, block, cr_mask[rows], bit, short) for rows, block in blocks),
            )
            write_checksums(out, header, start)
            return
        compression, tile_shape = hdu.compression_type, tuple(int(n) for n in hdu.tile_shape)
        shape = hdu.shape
    flags = read_flag(path, index)
    np.bitwise_or(flags, np.int32(bit), out=flags, where=cr_mask)
    packed = fits.CompImageHDU(
        data=(_to_int16(flags) if short else flags).reshape(shape),
        header=header,
        # PLIO holds 24 bits only.
        compression_type="RICE_1" if compression == "PLIO_1" else compression,
        tile_shape=tile_shape,
        hcomp_scale=0,
    )
    write_packed(out, packed, checksum=checksum)


def _flagged(
    label: str, block: NDArray[Any], mask: NDArray[np.bool_], bit: int, short: bool
) -> NDArray[Any]:
    """Return rows of the plane with the bit set where the mask is True."""
    flags = flag_values(label, block)
    np.bitwise_or(flags, np.int32(bit), out=flags, where=mask)
    return _to_int16(flags) if short else flags


def _stays_short(header: fits.Header, bit: int) -> bool:
    """Return True for a plain 16-bit plane in which the bit fits."""
    plain = header.get("BZERO", 0) == 0 and header.get("BSCALE", 1) == 1
    return bool(header["BITPIX"] == 16 and plain and bit <= np.iinfo(np.int16).max)


def _to_int16(flags: NDArray[np.int32]) -> NDArray[np.int16]:
    """Return flags of at most 16 bits as the int16 plane that they came from."""
    return flags.astype(np.uint16).view(np.int16)


def _new_header(header: fits.Header, short: bool) -> fits.Header:
    """Return the plane's header for int32 (or int16) data; other cards stay as they are.

    But for checksums, which are still to be known.
    """
    result = header.copy()
    stale = ["BLANK"] if not short and header["BITPIX"] != 32 else []
    for key in (*stale, "BSCALE", "BZERO"):
        result.remove(key, ignore_missing=True, remove_all=True)
    for key, first in CHECKSUMS.items():
        if key in result:
            result[key] = first
    result["BITPIX"] = 16 if short else 32
    drop_unwritable(result)
    return result
