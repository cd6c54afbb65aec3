"""Catalogues in sky coordinates: names and units of their columns."""

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import QTable, Table

from crmend.errors import FileFormatError
from crmend.sources import as_catalog, is_of_pixels, read_catalog

RA, DEC = np.array([150.0, 150.0]), np.array([2.0, 2.0 + 3.0 / 3600])


def write(path, names, ra, dec, unit_of_ra, unit_of_dec):
    """Write a FITS table with such TUNIT, which need not be a unit of astropy's."""
    columns = [
        fits.Column(name=name, format="D", array=values, unit=unit)
        for name, values, unit in zip(names, (ra, dec), (unit_of_ra, unit_of_dec), strict=True)
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


def assert_there(catalog):
    np.testing.assert_allclose(catalog.x, [9.0, 9.0], atol=1e-4)
    np.testing.assert_allclose(catalog.y, [19.0, 49.0], atol=1e-4)


@pytest.mark.parametrize(
    ("ra_unit", "per_degree", "dec_unit", "dec_per_degree"),
    [
        ("deg", 1.0, "deg", 1.0),
        ("Degrees", 1.0, "degree", 1.0),
        ("rad", np.pi / 180, "radians", np.pi / 180),
        ("hourangle", 1 / 15, "deg", 1.0),
        ("h", 1 / 15, "arcsec", 3600.0),
        ("of J2000", 1.0, None, 1.0),
    ],
)
def test_units_of_the_columns(tmp_path, header, ra_unit, per_degree, dec_unit, dec_per_degree):
    path = tmp_path / "a.fits"
    write(path, ("RA", "DEC"), RA * per_degree, DEC * dec_per_degree, ra_unit, dec_unit)
    assert_there(read_catalog(path, header))
    assert not is_of_pixels(path)


@pytest.mark.parametrize("names", ["ALPHA_J2000 DELTA_J2000", "ALPHAWIN_J2000 DELTAWIN_J2000"])
def test_names_of_sextractor(tmp_path, header, names):
    path = write(tmp_path / "a.fits", names.split(), RA, DEC, "deg", "deg")
    assert_there(read_catalog(path, header))
    assert not is_of_pixels(path)


@pytest.mark.parametrize("kind", [Table, QTable])
def test_units_of_tables(header, kind):
    table = kind({"ra": RA * units.deg, "dec": (DEC * units.deg).to(units.rad)})
    assert_there(as_catalog(table, header))
    assert_there(as_catalog(Table({"ra": RA, "dec": DEC}).as_array(), header))


def test_units_that_are_no_angles(tmp_path, header):
    path = write(tmp_path / "a.fits", ("RA", "DEC"), RA, DEC, "deg", "Jy")
    with pytest.raises(FileFormatError, match=r"column DEC .* is in Jy \(TUNIT\), expected an"):
        read_catalog(path, header)


@pytest.mark.parametrize("form", ["ascii.csv", "ascii.ecsv", "votable"])
def test_tables_of_other_formats(tmp_path, form):
    Table({"x": [1.0], "y": [2.0]}).write(tmp_path / "a.cat", format=form)
    with pytest.raises(FileFormatError, match=r"is no FITS file, expected .*: convert it"):
        read_catalog(tmp_path / "a.cat")


def write_with_nulls(path, kind):
    """Write x of 3, nothing, 5 and FLUX_AUTO of nothing, 20, 30 in integer columns."""
    numbers = {"x": [3, -9, 5], "y": [1, 2, 4], "FLUX_AUTO": [-9, 20, 30]}
    more = {"format": "I6", "null": "-9", "ascii": True}
    if kind != "ascii":
        more = {"format": "I", "null": -9}
    if kind == "unsigned":
        numbers = {name: np.uint16(32768 + np.array(n)) for name, n in numbers.items()}
        more["bzero"] = 32768
    columns = [fits.Column(name=n, array=np.array(a), **more) for n, a in numbers.items()]
    table = fits.TableHDU if kind == "ascii" else fits.BinTableHDU
    table.from_columns(columns).writeto(path)
    if kind == "scaled":
        fits.setval(path, "TSCAL1", value=0.5, ext=1)
        fits.setval(path, "TSCAL3", value=10.0, ext=1)
    return path


@pytest.mark.parametrize(
    ("kind", "x", "flux"),
    [
        ("plain", [3, 5], [np.nan, 30]),
        ("ascii", [3, 5], [np.nan, 30]),
        ("unsigned", [32771, 32773], [np.nan, 32798]),
        ("scaled", [1.5, 2.5], [np.nan, 300]),
    ],
)
def test_null_integers_are_no_numbers(tmp_path, kind, x, flux):
    """A TNULL of -9 was a source at x = -9; FITS applies it before TSCAL and TZERO."""
    catalog = read_catalog(write_with_nulls(tmp_path / "a.fits", kind))
    np.testing.assert_array_equal(catalog.x, x)
    np.testing.assert_array_equal(catalog.flux, flux)


def test_masked_integers_of_tables_are_no_numbers(tmp_path):
    table = Table({"x": [3, 4, 5], "y": [1, 2, 4]}, masked=True)
    table["x"].mask = [False, True, False]
    np.testing.assert_array_equal(as_catalog(table).x, [3, 5])
    table.write(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_catalog(tmp_path / "a.fits").x, [3, 5])
