"""Write FITS files in blocks of rows, and put them in place in one step."""

from __future__ import annotations

import errno
import gzip
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend._fits import row_blocks
from crmend._fits_header import clean_header, drop_unwritable, header_bytes, plane_header
from crmend._fits_raw import FITS_BLOCK
from crmend._inputs import check_path
from crmend._quiet import without_astropy_warnings
from crmend._signals import hold
from crmend.errors import CrmendError, OutputError

_PROBABILITY_STEP = 1e-4
# File systems allow 255 bytes; what a temporary name adds takes 18.
_LONG_NAME = 230
_COPY_BYTES = 2**20
_UNWRITTEN = {".fz", ".bz2", ".xz", ".zip", ".z"}


@contextmanager
def atomic_output(
    path: Path,
    *,
    overwrite: bool,
    inputs: Iterable[Path] = (),
    gzipped: bool | None = None,
    owned_as: Path | None = None,
    finish: Callable[[], None] | None = None,
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
    owned_as : Path or None
        File whose permissions to copy, and whose owner and group as far as the system allows.
    finish : callable or None
        Called when the file is complete and on the disk, before it is renamed: for what
        should happen only if nothing can go wrong any more.

    Raises
    ------
    OutputError
        If the file cannot be written; the temporary file is then removed.
    """
    temporary = _temporary(path)
    packed = temporary.with_name(temporary.name + ".gz")
    try:
        if gzipped is None:
            check_output(path, inputs, overwrite=overwrite)
        else:
            _check_place(path, inputs, overwrite=overwrite)
        # Non-standard cards of the input are passed on as they are.
        with without_astropy_warnings():
            yield temporary
        if path.suffix.lower() == ".gz" if gzipped is None else gzipped:
            _pack(temporary, packed, path.name)
            packed.replace(temporary)
        if owned_as is not None:
            _copy_owner(owned_as, temporary)
            # Afterwards, since a new owner may cost some of the bits.
            shutil.copymode(owned_as, temporary)
        _sync(temporary)
        # Another process may have written it meanwhile.
        _check_place(path, inputs, overwrite=overwrite)
        if finish is not None:
            finish()
        hold()
        temporary.replace(path)
        with suppress(OSError):
            # Some file systems cannot sync a folder; the file itself is safe by then.
            _sync(path.parent)
    except CrmendError:
        raise
    except OSError as error:
        if error.errno == errno.ENOMEM:
            # Memory, not the disk, is full.
            raise
        raise _cannot_write(path, error) from error
    finally:
        for leftover in (temporary, packed):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a name beside a path that nobody has, without the path's own if that is long."""
    own = path.name if len(os.fsencode(path.name)) <= _LONG_NAME else "crmend"
    return path.with_name(f".{own}.{secrets.token_hex(4)}.part")


def _copy_owner(source: Path, target: Path) -> None:
    """Give a file the owner and the group of another one, or the group alone, or neither."""
    if not hasattr(os, "chown"):  # Windows
        return
    status = source.stat()
    for owner in (status.st_uid, -1):
        with suppress(OSError):
            os.chown(target, owner, status.st_gid)
            return


def _pack(plain: Path, packed: Path, name: str) -> None:
    """Gzip a file; `name`, without .gz, is what ``gunzip -N`` makes of it."""
    with (
        plain.open("rb") as source,
        packed.open("wb") as out,
        gzip.GzipFile(name, "wb", 4, out) as stream,
    ):
        shutil.copyfileobj(source, stream, _COPY_BYTES)


def write_primary(path: Path, primary: fits.Header, size: int = 0, *, spare: int = 0) -> int:
    """Write a primary HDU without pixels at the start of a file, new or not.

    Parameters
    ----------
    path : Path
    primary : fits.Header
        Cards to keep; structural ones are replaced.  Those that cannot be written are removed
        from it.
    size : int
        Bytes to fill, with blank cards, for a header that replaces another one; 0 = as many
        as it takes.
    spare : int
        Bytes to keep free, with blank cards, for a longer header to come.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    OutputError
        The header is longer than `size`; the file is as before.
    """
    drop_unwritable(primary)
    header = fits.Header()
    header["SIMPLE"] = (True, "conforms to FITS standard")
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (0, "number of array dimensions")
    header["EXTEND"] = (True, "extensions follow")
    header.extend(clean_header(primary), strip=False, unique=False, update=False)
    content = header_bytes(header)
    if 0 < size < len(content):
        raise OutputError(
            f"the primary header takes {len(content)} bytes, expected at most the {size} that "
            "were kept for it; shorten the names of the models, or write each chip to a file "
            "of its own"
        )
    size = size or len(content) + spare
    while len(content) < size:
        header.append(("", ""), end=True)
        content = header_bytes(header)
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


def append_probability(
    path: Path, probability: NDArray[np.float32], header: fits.Header, *, version: int
) -> None:
    """Append probabilities as a tile-compressed extension CRPROB, with the cards of a header.

    They are rounded to steps of 1e-4 (half a step at most is lost), so that the plane
    stays small; the mask itself is in the flag plane.
    """
    plane = fits.CompImageHDU(
        data=np.asarray(probability, dtype=np.float32),
        header=clean_header(header),
        name="CRPROB",
        compression_type="RICE_1",
        tile_shape=(1, probability.shape[1]),
        quantize_level=-_PROBABILITY_STEP,
        quantize_method=-1,
    )
    plane.header["EXTVER"] = version
    with path.open("ab") as stream:
        write_packed(stream, plane)


def write_blocks(stream: IO[bytes], blocks: Iterable[NDArray[Any]]) -> None:
    """Write blocks of rows as a FITS data unit: big-endian, padded with zeros."""
    written = 0
    for block in blocks:
        big = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder(">"))
        written += stream.write(big.data.cast("B"))
    stream.write(bytes(-written % FITS_BLOCK))


def write_packed(stream: IO[bytes], plane: Any, *, checksum: bool | str = False) -> None:
    """Write a tile-compressed HDU at the stream's position; `checksum` as astropy has it."""
    # astropy writes whole files only: drop the empty primary HDU before the plane.
    memory = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), plane]).writeto(memory, checksum=checksum)
    stream.write(memory.getbuffer()[FITS_BLOCK:])


def copy_bytes(source: IO[bytes], out: IO[bytes], length: int) -> None:
    """Copy so many bytes from the source's position, or raise an `OSError`."""
    while length > 0:
        block = source.read(min(length, _COPY_BYTES))
        if not block:
            raise OSError(f"the file ends {length} bytes early")
        length -= out.write(block)


def check_output(path: Path, inputs: Iterable[Path] = (), *, overwrite: bool = True) -> None:
    """Raise an `OutputError` for an output that must not or cannot be written.

    Cheap, so that long work can fail before it starts.  `inputs` are files that must not
    be replaced, under whatever name (links included).
    """
    if path.suffix.lower() in _UNWRITTEN:
        raise OutputError(
            f"the output {path} ends in {path.suffix}, expected .fits or .fits.gz; crmend "
            "packs files with gzip only; choose such a name, and pack the file afterwards"
        )
    try:
        _check_place(path, inputs, overwrite=overwrite)
    except CrmendError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error


def output_path(name: str | Path) -> Path:
    """Return the path of a file to write.

    Raises
    ------
    OutputError
        The name is ``-``, or empty or ends in a slash, which `Path` drops: a folder is meant.
    InvalidInputError
        It is no path.
    """
    path = check_path(name)
    if str(name) == "-":
        raise OutputError(
            "the output is -, which stands for standard output, expected a file name: results "
            "are written to files only, so name one (./- for a file of that name)"
        )
    if os.path.basename(name) in ("", "."):
        if path.is_dir():
            raise _names_folder(name or path)
        raise OutputError(
            f"the output {name} ends like a folder, and there is none of that name, expected "
            "one that exists, or a file name: make the folder first, or leave the end out"
        )
    return path


def check_folder(path: Path) -> None:
    """Raise an `OutputError` if the folder of a file may not be written to."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _cannot_write(path, PermissionError(errno.EACCES, "its folder is read-only"))


def _check_place(path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise an `OutputError` if a file must not or cannot stand there."""
    for source in inputs:
        if os.path.exists(source) and path.exists() and os.path.samefile(source, path):
            raise OutputError(
                f"the output {path} is the input {source}; crmend never overwrites what it "
                "reads: choose another name"
            )
    if path.is_dir():
        raise _names_folder(path)
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder {path.parent} of the output {path.name} does not exist or is not a "
            "folder; make it first"
        )
    if _is_of_the_system(path) or (path.exists() and not path.is_file()):
        raise OutputError(
            f"the output {path} is a device, pipe or socket, expected a regular file or a new "
            "name; crmend renames a finished file into place: choose another name"
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            f"{path} exists; choose another name, or overwrite=True (--overwrite)"
        )
    check_folder(path)


def _is_of_the_system(path: Path) -> bool:
    """Return True for a name among the devices, such as /dev/stdout, which root could replace.

    It looks like a regular file where it leads to one.
    """
    folder = path.parent.resolve()
    return folder in (Path("/dev"), Path("/dev/fd")) or folder.is_relative_to("/proc")


def _names_folder(name: str | Path) -> OutputError:
    """Return the error for an output that names a folder."""
    return OutputError(f"the output {name} is a folder, expected a file name; add one")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a path on which the system refused to work."""
    remedy = "free some space, or choose a folder that you may write to"
    if error.errno == errno.ENAMETOOLONG:
        remedy = "choose a shorter name"
    return OutputError(f"{path} cannot be written: {error.strerror or error}; {remedy}")


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
