"""Write FITS files in blocks of rows, and put them in place in one step."""

from __future__ import annotations

import gzip
import io
import os
import secrets
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from crmend._fits import FITS_BLOCK, row_blocks
from crmend._provenance import Provenance
from crmend.errors import CrmendError, OutputError

_BITPIX = {"uint8": 8, "int16": 16, "int32": 32, "float32": -32}
_PROBABILITY_STEP = 1e-4
_COPY_BYTES = 2**20

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
    return fits.Header(
        [card for card in header.cards if not is_structural(card.keyword)], copy=True
    )


def merged_header(primary: fits.Header, image: fits.Header) -> fits.Header:
    """Return the primary header overlaid with the image's, without structural keywords."""
    result = clean_header(primary)
    commentary = {"COMMENT", "HISTORY", ""}
    for card in clean_header(image).cards:
        if card.keyword in commentary:
            continue
        if card.keyword in result:
            result[card.keyword] = (card.value, card.comment)
        else:
            result.append(card)
    return result


def add_provenance(header: fits.Header, provenance: Provenance | None) -> None:
    """Set the provenance cards in a header, and add a HISTORY line; in place."""
    if provenance is None:
        return
    for keyword, value, comment in provenance.to_cards():
        header[keyword] = (value, comment)
    header.add_history(provenance.history())


@contextmanager
def atomic_output(
    path: Path,
    *,
    overwrite: bool,
    inputs: Iterable[Path] = (),
    gzipped: bool | None = None,
    mode_of: Path | None = None,
) -> Iterator[Path]:
    """Give a temporary name in the same folder, and rename it when all went well.

    Parameters
    ----------
    path : Path
        Final name.
    overwrite : bool
        Replace a file that exists.
    inputs : iterable of Path
        Files that must not be replaced, under whatever name (links included).
    gzipped : bool or None
        Gzip the file; None = if its name ends in .gz.
    mode_of : Path or None
        File whose permissions to copy.

    Raises
    ------
    OutputError
        If the file cannot be written; the temporary file is then removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    packed = temporary.with_name(temporary.name + ".gz")
    try:
        check_output(path, inputs, overwrite=overwrite)
        with warnings.catch_warnings():
            # Non-standard cards of the input are passed on as they are.
            warnings.simplefilter("ignore", AstropyWarning)
            yield temporary
        if path.suffix.lower() == ".gz" if gzipped is None else gzipped:
            with temporary.open("rb") as plain, gzip.open(packed, "wb", compresslevel=4) as out:
                shutil.copyfileobj(plain, out, _COPY_BYTES)
            packed.replace(temporary)
        if mode_of is not None:
            shutil.copymode(mode_of, temporary)
        _sync(temporary)
        temporary.replace(path)
        with suppress(OSError):
            # Some file systems cannot sync a folder; the file itself is safe by then.
            _sync(path.parent)
    except CrmendError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}; free some space, or choose "
            "a folder that you may write to"
        ) from error
    finally:
        for leftover in (temporary, packed):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def write_primary(path: Path, primary: fits.Header, size: int = 0) -> int:
    """Write a primary HDU without pixels at the start of a file, new or not.

    Parameters
    ----------
    path : Path
    primary : fits.Header
        Cards to keep; structural ones are replaced.
    size : int
        Bytes to fill, with blank cards; for a header that replaces a longer one.

    Returns
    -------
    int
        Bytes written.
    """
    header = fits.Header()
    header["SIMPLE"] = (True, "conforms to FITS standard")
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (0, "number of array dimensions")
    header["EXTEND"] = (True, "extensions follow")
    header.extend(clean_header(primary), strip=False, unique=False, update=False)
    while len(content := header_bytes(header)) < size:
        header.append(("", ""), end=True)
    with path.open("r+b" if path.exists() else "xb") as stream:
        return stream.write(content)


def append_plane(
    path: Path, values: NDArray[Any], header: fits.Header, *, name: str, version: int
) -> None:
    """Append a 2-D image extension to a file, a block of rows at a time.

    Parameters
    ----------
    path : Path
    values : (ny, nx) array
        float32, int32, int16 or uint8, any byte order.
    header : fits.Header
        Cards to keep; structural ones are replaced.
    name, version : str, int
        EXTNAME and EXTVER.
    """
    with path.open("ab") as stream:
        stream.write(header_bytes(plane_header(header, values, name=name, version=version)))
        write_blocks(
            stream, (values[rows] for rows in row_blocks(values.shape, values.shape[1] * 4))
        )


def append_probability(path: Path, probability: NDArray[np.float32], *, version: int) -> None:
    """Append probabilities as a tile-compressed extension CRPROB.

    They are rounded to steps of 1e-4 (half a step at most is lost), so that the plane
    stays small; the mask itself is in the flag plane.
    """
    plane = fits.CompImageHDU(
        data=np.asarray(probability, dtype=np.float32),
        name="CRPROB",
        compression_type="RICE_1",
        tile_shape=(1, probability.shape[1]),
        quantize_level=-_PROBABILITY_STEP,
        quantize_method=-1,
    )
    plane.header["EXTVER"] = version
    with path.open("ab") as stream:
        write_packed(stream, plane)


def plane_header(
    header: fits.Header, values: NDArray[Any], *, name: str, version: int
) -> fits.Header:
    """Return the full header of an image extension."""
    ny, nx = values.shape
    result = fits.Header()
    result["XTENSION"] = ("IMAGE", "image extension")
    result["BITPIX"] = (_BITPIX[values.dtype.newbyteorder("=").name], "array data type")
    result["NAXIS"] = (2, "number of array dimensions")
    result["NAXIS1"] = (nx, "pixels along x")
    result["NAXIS2"] = (ny, "pixels along y")
    result["PCOUNT"] = (0, "number of parameters")
    result["GCOUNT"] = (1, "number of groups")
    result["EXTNAME"] = (name, "extension name")
    result["EXTVER"] = (version, "extension version")
    result.extend(clean_header(header), strip=False, unique=False, update=False)
    return result


def write_blocks(stream: IO[bytes], blocks: Iterable[NDArray[Any]]) -> None:
    """Write blocks of rows as a FITS data unit: big-endian, padded with zeros."""
    written = 0
    for block in blocks:
        big = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder(">"))
        written += stream.write(big.data.cast("B"))
    stream.write(bytes(-written % FITS_BLOCK))


def write_packed(stream: IO[bytes], plane: Any) -> None:
    """Write a tile-compressed HDU at the stream's position."""
    # astropy writes whole files only: drop the empty primary HDU before the plane.
    memory = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), plane]).writeto(memory)
    stream.write(memory.getbuffer()[FITS_BLOCK:])


def header_bytes(header: fits.Header) -> bytes:
    """Return the header's cards, END and padding."""
    text: str = header.tostring(sep="", endcard=True, padding=True)
    return text.encode("ascii")


def check_output(path: Path, inputs: Iterable[Path] = (), *, overwrite: bool = True) -> None:
    """Raise an `OutputError` for an output that must not or cannot be written.

    Cheap, so that long work can fail before it starts.  `inputs` are files that must not
    be replaced, under whatever name (links included).
    """
    for source in inputs:
        if source.exists() and path.exists() and os.path.samefile(source, path):
            raise OutputError(
                f"the output {path} is the input {source}; crmend never overwrites an "
                "exposure: choose another name"
            )
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder, expected a file name; add one")
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder {path.parent} of the output {path.name} does not exist or is not a "
            "folder; make it first"
        )
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} exists; choose another name, or overwrite=True (--overwrite)"
        )


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
