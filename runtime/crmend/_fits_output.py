"""Write corrected exposures and flags: the public writers behind `crmend.exposure`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend._fits_extras import append_extras
from crmend._fits_header import add_provenance, wcs_header
from crmend._fits_layout import locate
from crmend._fits_planes import Extra, Plane, scan
from crmend._fits_raw import FITS_BLOCK
from crmend._fits_update import or_into_flag_planes
from crmend._fits_write import (
    append_plane,
    append_probability,
    atomic_output,
    check_output,
    output_path,
    write_primary,
)
from crmend._inputs import check_path
from crmend._output_checks import check_array, check_plane, checked_pairs
from crmend._provenance import Provenance, combine
from crmend.errors import FileFormatError, InvalidInputError

if TYPE_CHECKING:
    from crmend.exposure import Exposure


class ResultPlanes(Protocol):
    """What the writer takes from a result; `CleanResult` and `Corrected` have it.

    A further attribute ``provenance`` is used where there is one.
    """

    @property
    def image(self) -> NDArray[np.float32] | None:
        """Corrected image, (ny, nx), in the exposure's unit."""
        ...

    @property
    def error(self) -> NDArray[np.float32] | None:
        """1-sigma error, (ny, nx), in the exposure's unit."""
        ...

    @property
    def flag(self) -> NDArray[np.int32] | None:
        """Flag plane, (ny, nx)."""
        ...

    @property
    def cr_probability(self) -> NDArray[np.float32] | None:
        """Probability of a cosmic ray, (ny, nx), 0 to 1."""
        ...


@dataclass(frozen=True, eq=False)
class Corrected:
    """Planes to write for one exposure; attributes as in `ResultPlanes`.

    Without an image, the provenance stands in the header of the flag plane.
    """

    image: NDArray[np.float32] | None
    error: NDArray[np.float32] | None = None
    flag: NDArray[np.int32] | None = None
    cr_probability: NDArray[np.float32] | None = None
    provenance: Provenance | None = None


def write_exposure(
    path: str | Path,
    exposure: Exposure,
    result: ResultPlanes | None = None,
    *,
    probability: bool = False,
    overwrite: bool = True,
) -> None:
    """Write a corrected exposure: SCI, ERR, FLAG and, if asked for, CRPROB.

    SCI and ERR are float32 in the exposure's unit, FLAG is int32, CRPROB is
    tile-compressed.  Headers, WCS and axes of length 1 of the input planes are kept, provenance
    is added.
    The file appears under its name only when it is complete and on the disk.

    Behind the planes stand the other HDUs of the image's file, byte for byte: tables that the
    WCS needs, catalogues, images that were not cleaned.  Left out are planes of chips that are
    not written, and an earlier CRPROB; of sibling files only their planes are used.

    Parameters
    ----------
    path : str or Path
        A name that ends in .gz is gzipped; .fz and the like are refused.
    exposure : Exposure
    result : ResultPlanes or None
        The planes to write, such as a `CleanResult`; None = the exposure's own.
    probability : bool
        Write `cr_probability` of the result.
    overwrite : bool
        Replace a file that exists (never the exposure's own).

    Raises
    ------
    OutputError
        If the file is the input, exists, or cannot be written; nothing is left behind.
    InvalidInputError
        If a plane is no array of the exposure's shape, flags are no integers, or there is no
        probability to write.

    Warns
    -----
    CrmendWarning
        If an HDU cannot be carried over: pixels of the primary HDU that are no plane, one
        with EXTNAME and EXTVER of a plane that is written, or all if the input is gone.
    """
    write_exposures(path, [(exposure, result)], probability=probability, overwrite=overwrite)


def write_exposures(
    path: str | Path,
    items: Iterable[tuple[Exposure, ResultPlanes | None]],
    *,
    probability: bool = False,
    overwrite: bool = True,
    finish: Callable[[], None] | None = None,
) -> None:
    """Write several chips into one file; see `write_exposure`.

    The planes of each chip share an EXTVER, from 1.  Items are taken one at a time, so a
    generator that cleans chip by chip keeps only one in memory.  Each SCI header has the
    provenance of its chip, the primary header the sums.  `finish` is called when the file is
    complete, before it appears under its name; if it raises, the file does not.

    Raises
    ------
    OutputError, InvalidInputError
        As `write_exposure`; also if there are no items.
    """
    path = output_path(path)
    chips: list[Provenance] = []
    extras: dict[Extra, None] = {}
    written: set[tuple[str, int]] = set()
    count, primary, size = 0, fits.Header(), 0
    with atomic_output(path, overwrite=overwrite, finish=finish) as temporary:
        for count, (exposure, given) in enumerate(checked_pairs(items, "result"), 1):
            check_output(path, source_files(exposure), overwrite=overwrite)
            result = _planes_of(exposure, given)
            provenance = getattr(result, "provenance", None)
            chips += [provenance] if provenance is not None else []
            if count == 1:
                primary = exposure.primary_header.copy()
                # Any of the chips may bring the provenance, which is known at the end.
                size = write_primary(temporary, primary, spare=FITS_BLOCK)
            names = _append_chip(temporary, exposure, result, count, probability=probability)
            written |= {(name, count) for name in names}
            if result.image is not None:
                extras.update(dict.fromkeys(exposure.extras))
        if count == 0:
            raise InvalidInputError(
                f"there are no exposures to write to {path}; pass at least one"
            )
        write_primary(temporary, _with_provenance(primary, chips), size)
        append_extras(temporary, extras, written)


def write_flag(
    path: str | Path,
    exposure: Exposure,
    flag: NDArray[np.int32],
    provenance: Provenance | None = None,
    probability: NDArray[np.float32] | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write a FITS file with the FLAG plane alone (and CRPROB, if given); nothing is carried.

    Parameters
    ----------
    path : str or Path
    exposure : Exposure
        Whose headers to keep.
    flag : (ny, nx) integer array
        Written as int32, bits kept.
    provenance : Provenance or None
    probability : (ny, nx) float32 array or None
    overwrite : bool
        Replace a file that exists (never the exposure's own).

    Raises
    ------
    OutputError, InvalidInputError
        As `write_exposure`.
    """
    planes = Corrected(None, None, flag, probability, provenance)
    write_exposures(
        path, [(exposure, planes)], probability=probability is not None, overwrite=overwrite
    )


def update_flags(path: str | Path, exposure: Exposure, cr_mask: NDArray[np.bool_]) -> Path:
    """OR the cosmic-ray bit into the flag plane of a Level 1 file, in one step.

    The file is rewritten under a temporary name and renamed.  All other HDUs stay byte for
    byte; other bits are kept.  The plane becomes int32 (a 16-bit plane stays so if the bit
    fits, as with HST); a tile-compressed plane is packed again, losslessly.  For
    exposures of three files, the flag file changes.  A link is followed; hard links
    to the old file keep the old content.

    Parameters
    ----------
    path : str or Path
        The exposure's own file, or a copy of it.
    exposure : Exposure
        For profile, chip and shape.
    cr_mask : (ny, nx) bool array
        True = cosmic ray.

    Returns
    -------
    Path
        The file that changed.

    Raises
    ------
    FileFormatError
        If the file has no flag plane.
    InvalidInputError
        If the mask is not bool or its shape is not the plane's.
    OutputError
        If the file cannot be rewritten; it is then as before.
    """
    return update_all_flags(path, [(exposure, cr_mask)])


def update_all_flags(
    path: str | Path, chips: Sequence[tuple[Exposure, NDArray[np.bool_]]]
) -> Path:
    """Do what `update_flags` does for several chips of one file, all in one step."""
    path = check_path(path)
    pairs = list(checked_pairs(chips, "cr_mask"))
    if not pairs:
        raise InvalidInputError(f"there are no exposures to flag in {path}; pass at least one")
    planes = [(_flag_plane(path, exposure, mask), mask) for exposure, mask in pairs]
    or_into_flag_planes(planes, pairs[0][0].instrument.cr_bit)
    return planes[0][0].path


def _flag_plane(path: Path, exposure: Exposure, cr_mask: NDArray[np.bool_]) -> Plane:
    """Return where the flags of a chip are, or raise if the mask cannot go there."""
    layout = locate(scan(path), exposure.instrument, exposure.extver)
    if layout.flag is None:
        names = ", ".join(exposure.instrument.planes.get("flag", ()))
        raise FileFormatError(
            f"{path} has no flag plane to update, expected an extension named {names}; write "
            "the flags to a file of their own instead (crmend detect)"
        )
    check_array(exposure, "the cosmic-ray mask", cr_mask)
    if cr_mask.dtype != np.bool_:
        raise InvalidInputError(
            f"the cosmic-ray mask has dtype {cr_mask.dtype}, expected bool; "
            "use mask.astype(bool)"
        )
    check_holds_bits(exposure, layout.flag.label)
    return layout.flag


def check_holds_bits(exposure: Exposure, name: str) -> None:
    """Check that a bit can be set in the flag plane of that name.

    Raises
    ------
    FileFormatError
        It holds one code per pixel.
    """
    if exposure.instrument.flag_codes:
        raise FileFormatError(
            f"the flag plane {name} holds one code per pixel, into which no bit can be ORed; "
            "write the flags to a file of their own instead (crmend detect)"
        )


def source_files(exposure: Exposure) -> list[Path]:
    """Return the files that an exposure was read from: never write over these."""
    files = {plane.path for plane in exposure.planes.values()}
    return sorted(files | ({exposure.path} if exposure.path is not None else set()))


def _with_provenance(header: fits.Header, chips: list[Provenance]) -> fits.Header:
    """Return a copy of a primary header with the provenance of all chips."""
    result = header.copy()
    add_provenance(result, combine(chips) if chips else None)
    return result


def _planes_of(exposure: Exposure, result: ResultPlanes | None) -> ResultPlanes:
    """Return the planes to write: the result's, or the exposure's own."""
    if result is None:
        return Corrected(exposure.image, exposure.error, exposure.flag)
    provenance = getattr(result, "provenance", None)
    if provenance is not None and not isinstance(provenance, Provenance):
        raise InvalidInputError(
            f"the provenance is a {type(provenance).__name__}; expected that of a CleanResult, "
            "or None"
        )
    if not all(hasattr(result, name) for name in ("image", "error", "flag")):
        raise InvalidInputError(
            f"the result is a {type(result).__name__}; expected what crmend.clean returns "
            "(image, error, flag), or None for the exposure's own planes. A Detection's mask "
            "goes into a flag plane by crmend detect."
        )
    return result


def _append_chip(
    path: Path, exposure: Exposure, result: ResultPlanes, version: int, *, probability: bool
) -> list[str]:
    """Append the planes of one chip to a file, and return their names."""
    provenance = getattr(result, "provenance", None)
    alone = provenance if result.image is None else None
    planes = [
        ("SCI", result.image, _plane_header(exposure, "image", provenance)),
        ("ERR", result.error, _plane_header(exposure, "error")),
        ("FLAG", result.flag, _plane_header(exposure, "flag", alone)),
    ]
    names = []
    for name, values, header in planes:
        if values is not None:
            _append(path, exposure, name, values, header, version)
            names.append(name)
    if probability:
        if result.cr_probability is None:
            raise InvalidInputError("probability=True, and the result has no cr_probability")
        chances = check_plane(exposure, "CRPROB", result.cr_probability)
        append_probability(
            path, chances, _plane_header(exposure, "probability"), version=version
        )
    return names


def _append(
    path: Path,
    exposure: Exposure,
    name: str,
    values: NDArray[Any],
    header: fits.Header,
    version: int,
) -> None:
    """Append one plane as float32, or as int32 if it holds flags."""
    values = check_plane(exposure, name, values)
    append_plane(path, values, header, name=name, version=version)


def _plane_header(
    exposure: Exposure, kind: str, provenance: Provenance | None = None
) -> fits.Header:
    """Return the header of an output plane: that of the input plane, or the image's WCS."""
    plane, image = exposure.planes.get(kind), exposure.planes.get("image")
    if plane is not None:
        header = plane.header.copy()
    elif kind == "image":
        header = exposure.header.copy()
    else:
        header = wcs_header(exposure.header if image is None else image.header)
    if kind in ("flag", "probability") or not exposure.unit:
        header.remove("BUNIT", ignore_missing=True)
    else:
        # A weight plane has become an error.
        header["BUNIT"] = exposure.unit
    if kind == "error" and "UTYPE" in header:
        header["UTYPE"] = "StdDevUncertainty"
    add_provenance(header, provenance)
    return header
