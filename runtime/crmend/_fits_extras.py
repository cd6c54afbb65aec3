"""Carry HDUs of the input over to the corrected file, byte for byte."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from astropy.io import fits

from crmend._fits import open_bytes, open_fits
from crmend._fits_planes import Extra, name_and_version
from crmend._fits_raw import FITS_BLOCK
from crmend._fits_write import copy_bytes
from crmend._shared_files import locked, unchanged
from crmend.errors import CrmendWarning, FileFormatError


def append_extras(path: Path, extras: Iterable[Extra], written: set[tuple[str, int]]) -> None:
    """Append HDUs of other files to a file, as they are.

    Parameters
    ----------
    path : Path
        File to append to.
    extras : iterable of Extra
    written : set of (str, int)
        EXTNAME and EXTVER of what the file holds; no HDU of another file may share them.

    Raises
    ------
    FileFormatError
        An input has other HDUs than when it was read, or changes meanwhile.

    Warns
    -----
    CrmendWarning
        If one cannot be carried.
    """
    # Where each came from; one file may have an EXTNAME and EXTVER twice.
    taken: dict[tuple[str, int], Path | None] = dict.fromkeys(written)
    carried: dict[Path, list[Extra]] = {}
    left = []
    for extra in extras:
        key = (extra.name, extra.version)
        free = taken.get(key, extra.path) == extra.path
        if extra.index == 0 or not free or not extra.path.is_file():
            left.append(extra)
            continue
        if extra.name:
            taken[key] = extra.path
        carried.setdefault(extra.path, []).append(extra)
    with path.open("ab") as out:
        for source, wanted in carried.items():
            with locked(source, to_write=False), unchanged(source):
                _copy_hdus(source, sorted(wanted, key=lambda extra: extra.index), out)
    if left:
        names = ", ".join(f"{extra.path.name} {extra.label}" for extra in left)
        warnings.warn(
            f"not carried over to the output: {names}; only extensions of an input that is "
            "still there can be, under names that no plane and no other input has",
            CrmendWarning,
            stacklevel=4,
        )


def _copy_hdus(source: Path, wanted: list[Extra], out: IO[bytes]) -> None:
    """Copy whole HDUs of a file, if they are still those that were seen when it was read."""
    with open_fits(source, disable_image_compression=True) as hdus:
        for extra in wanted:
            header = hdus[extra.index].header if extra.index < len(hdus) else fits.Header()
            if name_and_version(source, header) != (extra.name, extra.version):
                raise FileFormatError(
                    f"{source} has changed since it was read: {extra.label} of EXTVER "
                    f"{extra.version} is no longer there, expected the same HDUs; run again "
                    "when nobody writes to it"
                )
        places = [hdus[extra.index].fileinfo() for extra in wanted]
        sizes = [hdus[extra.index].size for extra in wanted]
    with open_bytes(source) as stream:
        for place, size in zip(places, sizes, strict=True):
            stream.seek(place["hdrLoc"])
            needed = place["datLoc"] + size - place["hdrLoc"]
            copy_bytes(stream, out, needed)
            padding = -needed % FITS_BLOCK
            # The last HDU's may be missing.
            out.write(stream.read(padding).ljust(padding, b"\0"))
