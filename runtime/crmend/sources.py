"""Stars and galaxies of an image: found with sep, or read from a catalogue."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from crmend._background import measure_background
from crmend._fits import begins_as_fits, check_exists, checked_hdus, open_fits
from crmend._inputs import check_count, check_image, check_mask, check_positive
from crmend._normalise import measure_scale
from crmend._positions import SKY, numbers_in, pair_of, positions_of
from crmend.errors import FileFormatError, InvalidInputError, MissingFileError

MIN_EXTENT = 11
"""Connected pixels above the threshold that make a source: more than 10, as in the paper
(section 2.2), which leaves out what is too faint to be mended as a source."""

THRESHOLD = 1.5
"""Detection threshold in units of the background noise, after sep's 3×3 smoothing."""

BAND_ROWS = 512
"""Rows that are searched at once, so that a full frame needs no copy of itself."""

_OVERLAP_ROWS = 192
# Share of the light they lie in that makes sources of their own: sep's, and where one source
# has more pixels than `_LARGE` (a galaxy that fills the frame), whose clusters have far less.
_CONTRAST, _FINE_CONTRAST, _LARGE = 5e-3, 5e-5, 10_000
_MAX_SUB_OBJECTS = 65_536
# Positions beyond this are no pixels of any frame.
_FAR = 1e9


@dataclass(frozen=True, eq=False)
class SourceCatalog:
    """Sources of one image; one row per source in every array, sorted by y, then x.

    Attributes
    ----------
    x, y : (n,) float64 arrays
        Centroid [px]; the centre of the first pixel of the array is (0, 0).
    flux : (n,) float64 array
        Sum over the source's pixels above the background, in the image's unit.
    a, b : (n,) float64 arrays
        Semi-major and semi-minor axes [px, standard deviations].
    theta : (n,) float64 array
        Angle of the major axis from x towards y [rad].
    npix : (n,) int64 array
        Pixels above the threshold; 0 = not known.
    peak : (n,) float64 array
        Highest pixel above the background, in the image's unit.

    What a table does not give is NaN, and so are its axes that are not above 0.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    theta: NDArray[np.float64]
    npix: NDArray[np.int64]
    peak: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.x.size)

    def __repr__(self) -> str:
        return f"<SourceCatalog of {len(self):,} sources>"


CatalogLike: TypeAlias = SourceCatalog | Table | NDArray[Any] | str | Path
"""What `as_catalog` takes."""


def find_sources(
    image: ArrayLike,
    *,
    invalid: ArrayLike | None = None,
    noise: float | None = None,
    threshold: float = THRESHOLD,
    band_rows: int = BAND_ROWS,
) -> SourceCatalog:
    """Find the stars and galaxies of an image.

    The image is searched in bands of rows with overlap; a source belongs to the band
    that its centroid lies in.  The background is one for the whole image, so the height
    of the bands moves no source, except for those more than 192 rows tall; but sep shares
    out the pixels between blended sources at random, so of those some may differ.

    Parameters
    ----------
    image : (ny, nx) array
        In any linear unit, cosmic rays already replaced; real numbers, used as float32 and not
        changed.
    invalid : (ny, nx) array of bool or integer, optional
        True = ignore this pixel (bad, hot).  Pixels that are not finite always are.
    noise : float, optional
        Standard deviation of the background, in the image's unit, above 0; measured if not
        given.
    threshold : float
        In units of `noise`, above 0.
    band_rows : int
        Rows searched at once, at least 1; extra memory is about 10 bytes per pixel of the band
        and its overlap (2 × 192 rows).

    Returns
    -------
    SourceCatalog
        Empty if there is nothing, or nothing but invalid pixels.

    Raises
    ------
    InvalidInputError
        The image is not a plane of real numbers, `invalid` has another shape or holds other
        than bool or integers, or a number is out of range.
    """
    image = check_image(image)
    invalid = check_mask(invalid, image.shape, "invalid")
    threshold = check_positive(threshold, "threshold")
    band_rows = check_count(band_rows, "band_rows")
    if invalid is None:
        invalid = ~np.isfinite(image)
    if noise is None:
        noise = measure_scale(image, invalid | ~np.isfinite(image)).noise
    else:
        noise = check_positive(noise, "noise")
    background = measure_background(image, invalid)
    # About the noise, since sep has limits of its own for fluxes; a power of 2 rounds nothing.
    unit = np.exp2(np.floor(np.log2(noise)))
    found = []
    for start in range(0, image.shape[0], band_rows):
        low = max(start - _OVERLAP_ROWS, 0)
        high = min(start + band_rows + _OVERLAP_ROWS, image.shape[0])
        band = image[low:high] - background.rows(low, high, image.shape[1])
        with np.errstate(over="ignore"):
            band /= np.float32(unit)
        mask = invalid[low:high] | ~np.isfinite(band)
        # sep itself lets masked pixels of the first row through.
        band[mask] = 0.0
        objects = _extract(band, threshold * noise / unit, mask)
        objects["y"] += low
        objects["flux"] *= unit
        objects["peak"] *= unit
        first, last = start == 0, start + band_rows >= image.shape[0]
        # Not where fluxes overflow.
        placed = np.isfinite(objects["x"]) & np.isfinite(objects["y"])
        inside = (first | (objects["y"] >= start)) & (last | (objects["y"] < start + band_rows))
        found.append(objects[inside & placed])
    return _catalog_of(np.concatenate(found))


def joined(first: SourceCatalog, second: SourceCatalog) -> SourceCatalog:
    """Return one catalogue of two, sorted by y, then x."""
    order = np.lexsort((np.append(first.x, second.x), np.append(first.y, second.y)))
    return SourceCatalog(
        **{
            field.name: np.append(getattr(first, field.name), getattr(second, field.name))[
                order
            ]
            for field in fields(SourceCatalog)
        }
    )


def as_catalog(sources: CatalogLike, header: fits.Header | None = None) -> SourceCatalog:
    """Return the sources that a caller gave, in any form, as a catalogue.

    Parameters
    ----------
    sources : SourceCatalog, astropy Table, structured array, str or Path
        A table, or the path of one, has the columns that `read_catalog` knows.  Rows without a
        finite position are left out.
    header : fits.Header, optional
        Header of the image, for tables in sky coordinates.

    Raises
    ------
    InvalidInputError
        It is none of these, has no positions, or they cannot be turned into pixels.
    MissingFileError, FileFormatError
        As `read_catalog`.
    """
    if isinstance(sources, SourceCatalog):
        return _placed(sources)
    if isinstance(sources, str | Path):
        return read_catalog(sources, header)
    if getattr(getattr(sources, "dtype", None), "names", None) is None:
        raise InvalidInputError(
            f"the source catalogue is a {type(sources).__name__}; expected a SourceCatalog, an "
            "astropy Table with the columns x and y (first pixel = 0), or the path of a FITS "
            "table"
        )
    try:
        return _first_catalog([sources], header, "the source catalogue")
    except FileFormatError as error:
        raise InvalidInputError(str(error)) from error


def read_catalog(path: str | Path, header: fits.Header | None = None) -> SourceCatalog:
    """Read source positions from a FITS table.

    The first table with positions is used: columns ``x`` and ``y`` (first pixel = 0),
    else ``X_IMAGE`` and ``Y_IMAGE`` (SExtractor's, first pixel = 1), else ``RA`` and
    ``DEC``, ``ALPHA_J2000`` and ``DELTA_J2000`` or ``ALPHAWIN_J2000`` and ``DELTAWIN_J2000``,
    which need the WCS of the image: in the unit of the column, degrees where it has none that
    is known.  Case does not matter.  Rows without a finite position are left out; other columns
    that hold no numbers are not read.

    Parameters
    ----------
    path : str or Path
        FITS file with a binary or ASCII table.
    header : fits.Header, optional
        Header of the image, for catalogues in sky coordinates.

    Returns
    -------
    SourceCatalog

    Raises
    ------
    MissingFileError
        There is no such file.
    FileFormatError
        It is no FITS file, or has no table with positions that are numbers, or angles where
        they should be.
    InvalidInputError
        It has sky coordinates only, and `header` holds no celestial WCS, or an unusable one.
    """
    return _first_catalog(_tables_in(Path(path)), header, str(path))


def is_of_pixels(path: str | Path) -> bool:
    """Return True where `read_catalog` takes the positions from columns in pixels.

    Raises
    ------
    MissingFileError, FileFormatError
        There is no such file, or it is no FITS file.
    """
    names = [{name.lower() for name in table.dtype.names} for table in _tables_in(Path(path))]
    pair = next((pair for pair in map(pair_of, names) if pair is not None), SKY[0])
    return pair not in SKY


def _tables_in(path: Path) -> list[Any]:
    """Return the tables of a FITS file."""
    try:
        check_exists(path)
    except MissingFileError:
        raise MissingFileError(
            f"no source catalogue at {path}; give an existing FITS table"
        ) from None
    except FileFormatError as error:
        raise FileFormatError(f"the source catalogue {error}") from error
    if not begins_as_fits(path):
        raise FileFormatError(
            f"the source catalogue {path} is no FITS file, expected one with a binary or ASCII "
            "table; text, CSV, ECSV and VOTable are not read: convert it, with astropy's "
            "Table.read(...).write('catalogue.fits'), say"
        )
    with open_fits(path) as hdus:
        found = checked_hdus(path, hdus)
        tables = [h.data for h in found if isinstance(h, fits.BinTableHDU | fits.TableHDU)]
    return [table for table in tables if table is not None]


def _extract(
    band: NDArray[np.float32], threshold: float, mask: NDArray[np.bool_]
) -> NDArray[Any]:
    """Run sep on a background-subtracted band; widen its buffers where they are full.

    The buffers are settings of the whole process: they are put back afterwards.
    """
    pixstack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    deblend_levels, contrast = 32, _CONTRAST
    try:
        while True:
            try:
                objects = np.asarray(
                    sep.extract(
                        band,
                        threshold,
                        mask=mask,
                        minarea=MIN_EXTENT,
                        deblend_nthresh=deblend_levels,
                        deblend_cont=contrast,
                    )
                )
                if contrast == _FINE_CONTRAST or objects["npix"].max(initial=0) <= _LARGE:
                    return objects
                contrast = _FINE_CONTRAST
            except Exception as error:  # sep raises no narrower class
                if "pixel buffer" in str(error) and sep.get_extract_pixstack() < band.size:
                    sep.set_extract_pixstack(min(8 * sep.get_extract_pixstack(), band.size))
                elif "deblend" in str(error) and sep.get_sub_object_limit() < _MAX_SUB_OBJECTS:
                    sep.set_sub_object_limit(8 * sep.get_sub_object_limit())
                elif "deblend" in str(error) and deblend_levels > 1:
                    # Overlapping sources are then found as one.
                    deblend_levels = 1
                else:
                    raise
    finally:
        sep.set_extract_pixstack(pixstack)
        sep.set_sub_object_limit(sub_objects)


def _catalog_of(objects: NDArray[Any]) -> SourceCatalog:
    """Turn sep's structured array into a sorted catalogue."""
    objects = objects[np.lexsort((objects["x"], objects["y"]))]
    values: dict[str, Any] = {
        field.name: objects[field.name].astype(np.float64) for field in fields(SourceCatalog)
    }
    values["npix"] = values["npix"].astype(np.int64)
    return SourceCatalog(**values)


def _first_catalog(tables: list[Any], header: fits.Header | None, name: str) -> SourceCatalog:
    """Return the catalogue in the first table that has positions; `name` is for messages."""
    for table in tables:
        columns = {column.lower(): column for column in table.dtype.names}
        positions = positions_of(table, columns, header, name)
        if positions is not None:
            return _catalog_of_table(table, columns, *positions)
    seen = "; ".join(", ".join(table.dtype.names) for table in tables)
    raise FileFormatError(
        f"{name} has no table with positions: expected columns x and y, X_IMAGE and Y_IMAGE, "
        f"RA and DEC, or ALPHA_J2000 and DELTA_J2000, got {seen or 'no table at all'}"
    )


def _placed(sources: SourceCatalog) -> SourceCatalog:
    """Return a catalogue without the rows whose position no frame has."""
    kept = _on_a_frame(sources.x, sources.y)
    if kept.all():
        return sources
    names = [field.name for field in fields(SourceCatalog)]
    return SourceCatalog(**{name: getattr(sources, name)[kept] for name in names})


def _on_a_frame(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which positions are finite, and not far from any pixel."""
    kept: NDArray[np.bool_] = (np.abs(x) < _FAR) & (np.abs(y) < _FAR)
    return kept


# Names that a catalogue's other columns may have; theta_image is in degrees.
_OTHER_COLUMNS = {
    "flux": ("flux", "flux_auto", "flux_iso"),
    "a": ("a", "a_image"),
    "b": ("b", "b_image"),
    "theta": ("theta", "theta_image"),
    "npix": ("npix", "isoarea_image"),
    "peak": ("peak", "flux_max"),
}


def _catalog_of_table(
    table: Any, columns: dict[str, str], x: NDArray[np.float64], y: NDArray[np.float64]
) -> SourceCatalog:
    """Build a sorted catalogue of the rows with a finite position."""
    values: dict[str, NDArray[Any]] = {"x": x, "y": y}
    for name, candidates in _OTHER_COLUMNS.items():
        found = next((columns[c] for c in candidates if c in columns), None)
        numbers = None if found is None else numbers_in(table, found)
        values[name] = np.full(x.size, np.nan) if numbers is None else numbers
        if found is not None and found.lower() == "theta_image":
            values[name] = np.deg2rad(values[name])
    for name in ("a", "b"):
        # Such as -99 for what was not measured.
        values[name] = np.where(values[name] > 0.0, values[name], np.nan)
    kept = np.flatnonzero(_on_a_frame(x, y))
    kept = kept[np.lexsort((x[kept], y[kept]))]
    values = {name: array[kept] for name, array in values.items()}
    npix = np.nan_to_num(values["npix"], posinf=0.0, neginf=0.0)
    values["npix"] = np.clip(npix, 0.0, _FAR).astype(np.int64)
    return SourceCatalog(**values)
