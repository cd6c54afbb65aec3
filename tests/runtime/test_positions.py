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
