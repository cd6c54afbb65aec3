"""Read an exposure from FITS, and write the corrected one beside it.

This module and its ``_fits`` helpers are the only ones that touch FITS images.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from crmend._fits import read_flag, read_image, row_blocks
from crmend._fits_ccddata import with_own_mask
from crmend._fits_error import read_error, warn_of_scale
from crmend._fits_header import merged_header, readable
from crmend._fits_keywords import (
    Known,
    find_band,
    find_calibration,
    find_detector,
    written_unit,
)
from crmend._fits_layout import Layout, find_chips, locate
from crmend._fits_output import (
    Corrected,
    ResultPlanes,
    source_files,
    update_all_flags,
    update_flags,
    write_exposure,
    write_exposures,
    write_flag,
)
from crmend._fits_planes import Extra, Plane, scan
from crmend._fits_values import warn_of_values
from crmend._fits_write import check_output
from crmend._inputs import check_error, check_path
from crmend._instruments import Instrument, load_instrument, match_instrument
from crmend.errors import CrmendWarning, FileFormatError, InvalidInputError, UntrainedWarning
from crmend.flags import has_flag

__all__ = [
    "Corrected", "Exposure", "ResultPlanes", "check_output", "count_extvers", "list_extvers",
    "list_images", "read_exposure", "source_files", "update_all_flags", "update_flags",
    "write_exposure", "write_exposures", "write_flag",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Exposure:
    """One image of one detector, with what its file says of it.

    Attributes
    ----------
    image : (ny, nx) float32 array
        In `unit`, as in the file, native byte order.
    error : (ny, nx) float32 array or None
        1-sigma, in `unit`; infinite where the weight is zero.
    flag : (ny, nx) int32 array or None
        Bits as in the profile's `Instrument.flags`.
    header : fits.Header
        Primary header merged with the image's, without structural keywords.
    instrument : Instrument
    detector, band : str or None
        "8" and "g" for CSST chip 08.
    unit : str
        As the header writes it, or the profile's default; empty = not known.
    electrons_per_unit : float or None
        Multiply the image by this to have electrons; None = unknown.
    exposure_time : float or None
        [s]
    read_noise : float or None
        [e-]
    saturation : float or None
        In `unit`.
    extver : int
        Number of the chip in the file, from 1.
    path : Path or None
    planes : mapping
        Where image, error and flag came from: `Plane` by these names.
    primary_header : fits.Header
        The primary header alone.
    extras : tuple of Extra
        Other HDUs of the file, which go into the corrected one unchanged.
    """

    image: NDArray[np.float32]
    error: NDArray[np.float32] | None
    flag: NDArray[np.int32] | None
    header: fits.Header = field(repr=False)
    instrument: Instrument = field(repr=False)
    detector: str | None
    band: str | None
    unit: str
    electrons_per_unit: float | None
    exposure_time: float | None
    read_noise: float | None
    saturation: float | None
    extver: int = 1
    path: Path | None = None
    planes: Mapping[str, Plane] = field(default_factory=dict, repr=False)
    primary_header: fits.Header = field(default_factory=fits.Header, repr=False)
    extras: tuple[Extra, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        facts = [
            *([] if self.path is None else [self.path.name]),
            f"shape {np.shape(self.image)}",
            f"in {self.unit or 'unknown units'}",
            *([] if self.detector is None else [f"detector {self.detector}"]),
            *([] if self.band is None else [f"band {self.band}"]),
            f"{'no ' if self.error is None else ''}error plane",
            f"{'no ' if self.flag is None else ''}flag plane",
        ]
        return f"<Exposure {', '.join(facts)}>"

    @property
    def invalid(self) -> NDArray[np.bool_]:
        """True where the value carries no information; a new (ny, nx) bool array.

        That is: NaN or infinite, or flagged with one of the profile's invalid bits (CSST:
        bad, hot).  Without a flag plane, pixels of infinite error count as well; beside a
        flag plane they do not, since pipelines give old cosmic rays zero weight.
        """
        result = np.empty(self.image.shape, np.bool_)
        for rows in row_blocks(self.image.shape, self.image.shape[1] * 4):
            np.isfinite(self.image[rows], out=result[rows])
            if self.flag is not None:
                result[rows] &= ~has_flag(self.flag[rows], self.instrument.invalid_flags)
            elif self.error is not None:
                result[rows] &= np.isfinite(self.error[rows])
        return np.logical_not(result, out=result)

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """True where flagged as saturated, or at or above `saturation`; a new array."""
        result = np.zeros(self.image.shape, np.bool_)
        for rows in row_blocks(self.image.shape, self.image.shape[1] * 4):
            if self.flag is not None:
                result[rows] = has_flag(self.flag[rows], self.instrument.saturated_flags)
            if self.saturation is not None:
                result[rows] |= self.image[rows] >= np.float32(self.saturation)
        return result


def read_exposure(
    path: str | Path,
    *,
    instrument: str | Path | Instrument | None = None,
    detector: int | str | None = None,
    extver: int | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    exposure_time: float | None = None,
    saturation: float | None = None,
    planes: Mapping[str, str | int | None] | None = None,
    bad_flags: int | str | None = None,
) -> Exposure:
    """Read one exposure of one detector.

    Planes are found by EXTNAME, else by position, else in sibling files (``_img_``,
    ``_wht_``, ``_flg_``); see the instrument's profile.  Plain, gzipped and tile-compressed
    files are read alike; axes of length 1 before the last two are dropped.

    Parameters
    ----------
    path : str or Path
        File with the science image.
    instrument : str, Path, Instrument or None
        Name of a profile, or the path of your own (.toml); None = from the header.
        "generic" reads any 2-D image.
    detector : int, str or None
        Instead of the header's.
    extver : int or None
        Chip of a file with several, from 1 (see `count_extvers`); None = the first, and a
        warning where there are more.
    gain : float or None
        [e-/ADU], instead of the header's; matters for images in ADU only.
    read_noise : float or None
        [e-], instead of the header's; no step of crmend depends on it.
    exposure_time : float or None
        [s], instead of the header's; matters for the CR rate and for units per second.
    saturation : float or None
        In the image's unit, instead of the header's: pixels at or above it are saturated,
        and so are those that the flag plane says are.
    planes : mapping or None
        Kind of plane (image, error, weight, variance, flag) to its EXTNAME or the number of
        its HDU, where the profile does not know them; None leaves a plane of that kind out.
    bad_flags : int, "any" or None
        Bits of the flag plane (their sum) that mark pixels without information, or "any" of
        them but the cosmic rays'; None = the profile's, and with "generic" the pixels that the
        MASK of an astropy CCDData masks.

    Returns
    -------
    Exposure

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If it is truncated, not FITS, has no 2-D image, or planes of different shapes, an
        unknown UTYPE, or no flag plane and `bad_flags` is given.
    InvalidInputError
        If the image has no finite pixel, is in ADU without gain, its exposure time is
        not positive, its error plane is in another unit or below zero where the image is
        neither bad nor saturated, or an argument is out of range.
    UnknownInstrumentError, UnknownDetectorError
        If no profile fits, or the profile has no such detector.

    Warns
    -----
    UntrainedWarning
        If no network was trained for the instrument.
    CrmendWarning
        If the file holds more chips and `extver` is None, a flag file is missing, flag or
        error planes belong to none of the images, images without a known name are left
        alone, a keyword cannot be parsed, one names a mosaic of colours or asinh magnitudes, or
        errors are far off the image's noise.
    """
    path = check_path(path)
    known = Known(gain, read_noise, exposure_time, saturation)
    content = scan(path)
    profile = _profile(instrument, content.identity(), path.name, planes)
    if extver is None:
        extver = 1
        _warn_of_more_chips(len(find_chips(content, profile)), path.name)
    layout = locate(content, profile, extver)
    if bad_flags is not None:
        profile = profile.with_bad_flags(bad_flags)
        _check_flag_plane(layout, path, extver)
    header = merged_header(content.primary, layout.image.header)
    wanted = [key for keys in profile.keywords.values() for key in keys]
    values = readable(header, wanted, path.name)
    warn_of_values(values, path.name)
    name = find_detector(values, profile, path.name, detector)
    calibration = find_calibration(values, profile, path.name, known)
    if not profile.trained:
        warnings.warn(
            f"{path.name}: no network was trained for {profile.title} (its default pack, "
            f"{profile.model_pack!r}, learnt from simulated exposures): check the result",
            UntrainedWarning,
            stacklevel=2,
        )
    image, error, flag = _read_planes(layout, profile, written_unit(values, profile))
    if bad_flags is None:
        profile = with_own_mask(profile, content, layout, flag)
    if layout.error is not None and error is not None:
        warn_of_scale(layout.error, image, error, flag, profile.invalid_flags)
    found = {"image": layout.image, "error": layout.error, "flag": layout.flag}
    exposure = Exposure(
        image=image,
        error=error,
        flag=flag,
        header=header,
        instrument=profile.for_detector(name),
        detector=name,
        band=find_band(values, profile, name),
        unit=calibration.unit,
        electrons_per_unit=calibration.electrons_per_unit,
        exposure_time=calibration.exposure_time,
        read_noise=calibration.read_noise,
        saturation=calibration.saturation,
        extver=extver,
        path=path,
        planes={kind: plane for kind, plane in found.items() if plane is not None},
        primary_header=content.primary,
        extras=layout.extras,
    )
    if layout.error is not None and error is not None:
        label = f"the error plane {layout.error.label}"
        remedy = "leave the plane out (--plane error=none, planes={'error': None})"
        check_error(error, lambda: unused_pixels(exposure), label, remedy)
    return exposure


def unused_pixels(exposure: Exposure) -> NDArray[np.bool_]:
    """Return the pixels that are invalid, whatever their error, or saturated; a new array."""
    return replace(exposure, error=None).invalid | exposure.saturated


def count_extvers(
    path: str | Path,
    *,
    instrument: str | Path | Instrument | None = None,
    planes: Mapping[str, str | int | None] | None = None,
) -> int:
    """Return how many chips a file holds: the images that `read_exposure` can read.

    Raises
    ------
    MissingFileError, FileFormatError, UnknownInstrumentError
        As `read_exposure`.
    """
    return len(list_extvers(path, instrument=instrument, planes=planes))


def list_extvers(
    path: str | Path,
    *,
    instrument: str | Path | Instrument | None = None,
    planes: Mapping[str, str | int | None] | None = None,
) -> tuple[int, ...]:
    """Return what the header of each chip has as EXTVER, 1 for the first where all have one.

    `read_exposure` counts chips in this order, from 1.  Raises as `count_extvers`.
    """
    images = list_images(path, instrument=instrument, planes=planes)
    return tuple(image.version for image in images)


def list_images(
    path: str | Path,
    *,
    instrument: str | Path | Instrument | None = None,
    planes: Mapping[str, str | int | None] | None = None,
) -> tuple[Plane, ...]:
    """Return the image plane of each chip, in the order of `list_extvers`."""
    path = check_path(path)
    content = scan(path)
    profile = _profile(instrument, content.identity(), path.name, planes)
    return tuple(find_chips(content, profile))


def _profile(
    instrument: str | Path | Instrument | None,
    header: fits.Header,
    file_name: str,
    planes: Mapping[str, str | int | None] | None,
) -> Instrument:
    """Return the profile asked for, or the one that fits the header."""
    if instrument is None:
        instrument = match_instrument(header, file_name)
    elif isinstance(instrument, str | Path):
        instrument = load_instrument(str(instrument))
    elif not isinstance(instrument, Instrument):
        raise InvalidInputError(
            f"instrument is a {type(instrument).__name__}; expected the name of a profile, "
            "such as 'generic', the path of one of your own (.toml), or an Instrument"
        )
    if planes is not None and not isinstance(planes, Mapping):
        raise InvalidInputError(
            f"planes is a {type(planes).__name__}; expected a mapping such as "
            "{'image': 'SCI', 'flag': 'MASK'}"
        )
    return instrument.with_planes(planes) if planes else instrument


def _warn_of_more_chips(count: int, file_name: str) -> None:
    if count > 1:
        warnings.warn(
            f"{file_name} holds {count} chips, and this is the first; extver=1 to {count} "
            "names one, and `crmend clean` treats them all",
            CrmendWarning,
            stacklevel=3,
        )


def _check_flag_plane(layout: Layout, path: Path, extver: int) -> None:
    if layout.flag is None:
        raise FileFormatError(
            f"{path} has no flag plane for bad_flags (--bad-flags) beside the image HDU "
            f"{layout.image.index} of chip {extver}; expected one, name it by "
            "planes={'flag': 'MASK'} (--plane flag=MASK), or leave bad_flags out"
        )


def _read_planes(
    layout: Layout, instrument: Instrument, unit: str
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.int32] | None]:
    """Read the pixels of image, error and flag; `unit` is the image's, as written.

    Raises
    ------
    InvalidInputError
        If the image has no finite pixel, or the errors are in another unit.
    """
    image = read_image(layout.image.path, layout.image.index)
    blocks = row_blocks(image.shape, image.shape[1] * 4)
    if not any(np.isfinite(image[rows]).any() for rows in blocks):
        raise InvalidInputError(
            f"the image plane {layout.image.label} has no finite pixel ({image.size} pixels "
            "are NaN, infinite or beyond float32, 3.4e38), expected data; make the file again, "
            "in another unit if its values are so large"
        )
    error = flag = None
    if layout.flag is not None:
        flag = read_flag(layout.flag.path, layout.flag.index, instrument.flag_codes)
    if layout.error is not None:
        unnamed = not layout.error.name and layout.error.path == layout.image.path
        unnamed = unnamed and "UTYPE" not in layout.error.header
        error = read_error(layout.error, image, unit, guess=unnamed)
    return image, error, flag
