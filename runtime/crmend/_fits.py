"""Open FITS files, prove them complete, and read image planes in blocks of rows."""

from __future__ import annotations

import errno
import gzip
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend._fits_raw import EXTENSION, check_counts, check_extension, raw_header
from crmend._quiet import without_astropy_warnings
from crmend.errors import CrmendError, FileFormatError, InvalidInputError, MissingFileError
from crmend.flags import to_int32

BLOCK_BYTES = 16 * 2**20
"""Size of the row blocks in which planes are read and written [bytes]."""

Blocks = Iterator[tuple[slice, NDArray[Any]]]
"""Slices of whole rows, and their pixels."""

_BZERO_64 = 2**63
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)
_GZIP_MAGIC = b"\x1f\x8b"
_FOREIGN_MAGIC = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress",
}
# Not the file's fault: memory, the installation, and warnings that the caller made errors.
_NOT_OF_READING = (CrmendError, MemoryError, ImportError, Warning)


def check_exists(path: Path) -> None:
    """Raise unless the path is a regular file.

    Raises
    ------
    MissingFileError
        If nothing is there.
    FileFormatError
        If it is a folder, a device or a pipe, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(
            f"{path} does not exist, expected a FITS file; check the path{here()}"
        ) from None
    except OSError as error:
        raise _cannot_open(path, error) from error
    if stat.S_ISDIR(mode):
        raise FileFormatError(
            f"{path} is a folder, expected a FITS file; give the path of a file"
        )
    if not stat.S_ISREG(mode):
        raise FileFormatError(
            f"{path} is a device, pipe or socket, expected a FITS file; save the exposure to a "
            "file first"
        )


def here() -> str:
    """Return, for a message, from where relative paths count."""
    try:
        return f" (now in {Path.cwd()})"
    except OSError:
        return " (the working folder has been removed)"


def _cannot_open(path: Path, error: OSError) -> FileFormatError:
    """Return the error for a path that the system does not open."""
    return FileFormatError(
        f"{path} cannot be opened: {error.strerror or error}; check its name and permissions"
    )


@contextmanager
def open_fits(path: Path, **options: Any) -> Iterator[Any]:
    """Open a FITS file for reading, without a memory map.

    Warnings of astropy are dropped on purpose: what matters of them is checked by
    `check_complete`, and the rest (non-standard cards) does not touch the pixels.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    FileFormatError
        If it cannot be read as FITS, on opening or inside the ``with`` block.
    """
    check_exists(path)
    with without_astropy_warnings():
        try:
            with open_bytes(path) as stream:
                check_counts(path, 0, raw_header(stream, 0))
            # Absolute, since astropy takes http:x.fits for an address.
            place = path.absolute()
            with fits.open(place, mode="readonly", memmap=False, **options) as hdus:
                yield hdus
        except _NOT_OF_READING:
            raise
        except PermissionError as error:
            raise _cannot_open(path, error) from error
        except Exception as error:  # astropy's and cfitsio's, which share no base
            if getattr(error, "errno", None) in _NO_ROOM:
                # On the disk, for what is written inside the block, or in memory: it is not
                # the file's fault.
                raise
            raise FileFormatError(
                f"{path} cannot be read as FITS ({type(error).__name__}: {error}); "
                "expected an intact FITS file, plain, gzipped or tile-compressed; "
                "transfer or make it again"
            ) from error


def is_gzipped(path: Path) -> bool:
    """Return True if the file is gzipped as a whole, whatever its name."""
    return _magic(path).startswith(_GZIP_MAGIC)


def begins_as_fits(path: Path) -> bool:
    """Return True if the file begins as FITS files do, or is packed."""
    magic = _magic(path)
    return magic.startswith((b"SIMPLE", _GZIP_MAGIC, *_FOREIGN_MAGIC))


def _magic(path: Path) -> bytes:
    """Return the first bytes of a file, which tell how it is packed."""
    check_exists(path)
    try:
        with path.open("rb") as stream:
            return stream.read(6)
    except OSError as error:
        raise _cannot_open(path, error) from error


def _foreign_packer(path: Path) -> str | None:
    """Return the name of what a file is packed with, unless that is gzip or nothing."""
    magic = _magic(path)
    return next((name for key, name in _FOREIGN_MAGIC.items() if magic.startswith(key)), None)


def _check_packing(path: Path) -> None:
    """Raise a `FileFormatError` for a file packed in a way that is not read."""
    packer = _foreign_packer(path)
    if packer is not None:
        raise FileFormatError(
            f"{path} is packed with {packer}, expected a FITS file, plain, gzipped or "
            "tile-compressed; unpack it, or pack it with gzip instead"
        )


def check_complete(path: Path) -> None:
    """Check that every header and data unit of a FITS file is there in full.

    Missing padding behind the last data unit is forgiven.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    FileFormatError
        If it is truncated, not FITS, packed with anything but gzip, or holds an extension
        that cannot be parsed.
    """
    _check_packing(path)
    size = _unzipped_size(path) if is_gzipped(path) else path.stat().st_size
    with open_fits(path, disable_image_compression=True) as hdus:
        end = 0
        for index, hdu in enumerate(checked_hdus(path, hdus)):
            place = hdu.fileinfo()
            needed, end = place["datLoc"] + hdu.size, place["datLoc"] + place["datSpan"]
            if needed > size:
                raise FileFormatError(
                    f"{path} is truncated: HDU {index} ({hdu.name or 'unnamed'}) needs "
                    f"{needed} bytes, the file has {size}; transfer or make it again"
                )
        leftover = read_at(path, end, 8) if size > end else b""
        if leftover == EXTENSION:
            raise FileFormatError(
                f"{path} is damaged or truncated: the extension at byte {end} has no readable "
                "header; transfer or make the file again"
            )


def checked_hdus(path: Path, hdus: Any) -> Iterator[Any]:
    """Yield the HDUs of an open file; look at each header before astropy reads it.

    Raises
    ------
    FileFormatError
        If one is damaged so that astropy would count without end, or lose HDUs.
    """
    if _foreign_packer(path) is not None:  # a catalogue that astropy unpacks
        yield from hdus
        return
    reader, end = iter(hdus), 0
    with open_bytes(path) as stream:
        for index in count():
            header = raw_header(stream, end)
            check_counts(path, index, header)
            hdu = next(reader, None)
            if hdu is None:
                return
            check_extension(path, index, header)
            yield hdu
            place = hdu.fileinfo()
            end = place["datLoc"] + place["datSpan"]


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Return bytes of a file (of its content, if gzipped)."""
    with open_bytes(path) as stream:
        stream.seek(offset)
        content: bytes = stream.read(length)
    return content


def open_bytes(path: Path) -> Any:
    """Open a file for reading as bytes, through gzip where needed."""
    return gzip.open(path, "rb") if is_gzipped(path) else path.open("rb")


def row_blocks(shape: tuple[int, int], row_bytes: int, multiple: int = 1) -> Iterator[slice]:
    """Yield slices of whole rows of about `BLOCK_BYTES`, `multiple` rows at a time."""
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    rows = max(multiple, rows // multiple * multiple)
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def plane_blocks(hdu: Any) -> Blocks:
    """Yield the rows of an image HDU in blocks, scaled to physical values.

    Of an image with more than two axes, the others being of length 1, the blocks are 2-D.
    """
    *others, ny, nx = hdu.shape
    # A tile of a compressed image is unpacked whole: never split one.
    tile_rows = int(hdu.tile_shape[-2]) if is_compressed(hdu) else 1
    for rows in row_blocks((ny, nx), nx * 8, tile_rows):
        yield rows, hdu.section[(*(0 for _ in others), rows, slice(None))]


@contextmanager
def open_values(path: Path, index: int) -> Iterator[tuple[Any, Blocks]]:
    """Open a plane of physical values: give its HDU, and its rows in blocks, BLANK as NaN."""
    # Not uint: astropy looks for no BLANK in planes that it returns as unsigned.
    with open_fits(path, uint=False) as hdus:
        hdu = hdus[index]
        if not _is_unsigned64(hdu.header):
            yield hdu, plane_blocks(hdu)
            return
        blank = hdu.header.get("BLANK")
    # But here float64 would lose the last digits of stored + 2^63.
    with open_fits(path, uint=True) as hdus:
        blocks = plane_blocks(hdus[index])
        if blank is not None:
            unsigned = np.uint64(int(blank) + _BZERO_64)
            blocks = ((rows, np.where(b == unsigned, np.nan, b)) for rows, b in blocks)
        yield hdus[index], blocks


def _is_unsigned64(header: fits.Header) -> bool:
    """Return True for unsigned 64-bit integers, which FITS stores less 2^63."""
    scaled = header.get("BZERO", 0) == _BZERO_64 and header.get("BSCALE", 1) == 1
    return bool(header.get("BITPIX") == 64 and scaled)


def is_compressed(hdu: Any) -> bool:
    """Return True for a tile-compressed image."""
    return isinstance(hdu, fits.CompImageHDU)


def read_image(
    path: Path, index: int, convert: Callable[[NDArray[Any]], NDArray[Any]] | None = None
) -> NDArray[np.float32]:
    """Read a 2-D plane as native float32, never a second full copy.  BLANK becomes NaN.

    Parameters
    ----------
    path : Path
    index : int
        Number of the HDU.
    convert : callable or None
        Applied to each block of rows, as stored (scaled), before it becomes float32.

    Raises
    ------
    FileFormatError
        If the plane cannot be read.
    """
    with open_values(path, index) as (hdu, blocks):
        image = np.empty(hdu.shape[-2:], np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for rows, block in blocks:
                image[rows] = block if convert is None else convert(block)
    return image


def read_flag(
    path: Path, index: int, codes: Mapping[int, int] | None = None
) -> NDArray[np.int32]:
    """Read a 2-D flag plane as native int32 with the same bits (see `flags.to_int32`).

    Parameters
    ----------
    path : Path
    index : int
        Number of the HDU.
    codes : mapping or None
        For a plane of one number per pixel: the bit value of each number.  0 is good.

    Raises
    ------
    FileFormatError
        If the plane cannot be read or does not hold flags.
    """
    with open_fits(path, ignore_blank=True) as hdus:
        flag = np.empty(hdus[index].shape[-2:], np.int32)
        for rows, block in plane_blocks(hdus[index]):
            flag[rows] = flag_values(f"{path} HDU {index}", block)
    return _decoded(path, flag, codes) if codes else flag


def _decoded(
    path: Path, flag: NDArray[np.int32], codes: Mapping[int, int]
) -> NDArray[np.int32]:
    """Return a flag plane of codes as one of bits."""
    known = np.zeros(max(codes) + 1, np.int32)
    known[list(codes)] = list(codes.values())
    strange = (flag < 0) | (flag >= known.size)
    strange |= (flag != 0) & (known[np.where(strange, 0, flag)] == 0)
    if strange.any():
        raise FileFormatError(
            f"{path}: the flag plane holds {flag[strange].flat[0]}, expected one of the codes "
            f"0, {', '.join(str(code) for code in codes)} of the profile; it may "
            "be of another version: use a profile of your own, or instrument='generic'"
        )
    return known[flag]


def flag_values(label: str, block: NDArray[Any]) -> NDArray[np.int32]:
    """Return rows of a flag plane as int32, or raise a `FileFormatError` with its label."""
    try:
        return to_int32(block)
    except InvalidInputError as error:
        raise FileFormatError(
            f"{label}: {error} Name the right one by --plane flag=..., or leave it out by "
            "--plane flag=none (planes={'flag': None})"
        ) from error


def _unzipped_size(path: Path) -> int:
    """Return the size of a gzipped file's content, reading all of it.

    Raises
    ------
    FileFormatError
        If it is truncated or damaged.
    """
    size = 0
    try:
        with gzip.open(path, "rb") as stream:
            while block := stream.read(2**20):
                size += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(
            f"{path} is a truncated or damaged gzip file ({error}); transfer or make it again"
        ) from error
    return size
