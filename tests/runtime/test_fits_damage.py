"""Damaged FITS files end in a `FileFormatError`, at once, and lose no chip in silence."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crmend.errors import FileFormatError
from crmend.exposure import count_extvers, read_exposure
from crmend.sources import read_catalog


def patched(path, old, new, start=0):
    """Replace the first card that begins with `old`, from a place on."""
    content = path.read_bytes()
    place = content.index(old.encode(), start)
    path.write_bytes(content[:place] + new.encode().ljust(80) + content[place + 80 :])
    return path


def header_at(path, index):
    with fits.open(path, disable_image_compression=True) as hdus:
        return hdus[index].fileinfo()["hdrLoc"]


@pytest.fixture
def two_chips(level1):
    """Return a file of two chips, and where the header of the second ERR begins."""
    planes = []
    for version in (1, 2):
        for name in ("SCI", "ERR"):
            plane = fits.ImageHDU(np.full((40, 50), 2.5, np.float32), name=name, ver=version)
            planes.append(("", plane))
    path = level1(planes)
    return path, header_at(path, 4)


# --- what astropy raises ------------------------------------------------------------


def test_a_damaged_rice_plane(level1):
    pixels = np.random.default_rng(1).integers(0, 1000, (64, 64), np.int32)
    path = level1([("SCI", fits.CompImageHDU(pixels, compression_type="RICE_1"))])
    content = bytearray(path.read_bytes())
    start = content.rindex(b"END" + b" " * 77) + 2880
    content[start : start + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot be read as FITS .CfitsioException"):
        read_exposure(path)


def test_a_column_whose_name_is_a_number(level1):
    path = level1([("SCI", fits.CompImageHDU(np.ones((64, 64), np.int32)))])
    patched(path, "TTYPE1  =", "TTYPE1  =                    1")
    with pytest.raises(FileFormatError, match="cannot be read as FITS"):
        read_exposure(path)


# --- headers ------------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_lost_card_loses_no_chip_in_silence(two_chips, gzipped):
    path, _ = two_chips
    patched(path, "NAXIS   =", "NOXIS   =                    2", header_at(path, 3))
    if gzipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FileFormatError, match=r"HDU 4 begins with .*, expected XTENSION"):
        count_extvers(path)


def test_a_lost_end_loses_no_chip_in_silence(two_chips):
    path, _ = two_chips
    patched(path, "END     ", "", header_at(path, 2))
    with pytest.raises(FileFormatError, match="the header of HDU 2 has no END"):
        count_extvers(path)


@pytest.mark.parametrize("kind", ["DUMP", "A3DTABLE", "FOREIGN", "FILEMARK", "TORTOISE"])
def test_other_extensions_are_no_damage(two_chips, kind):
    path, start = two_chips
    patched(path, "XTENSION= 'IMAGE   '", f"XTENSION= '{kind:8}'", start)
    assert count_extvers(path) == 2


@pytest.mark.parametrize("index", [0, 3])
def test_more_axes_than_fits_allows(two_chips, index):
    path, _ = two_chips
    patched(path, "NAXIS   =", "NAXIS   =          99999999999", header_at(path, index))
    with pytest.raises(FileFormatError, match=f"HDU {index} has NAXIS = 99999999999, expected"):
        count_extvers(path)


def test_more_columns_than_fits_allows(tmp_path):
    path = tmp_path / "cat.fits"
    Table({"x": [1.0], "y": [2.0]}).write(path)
    assert len(read_catalog(path)) == 1
    patched(path, "TFIELDS =", f"TFIELDS = {2**63}")
    with pytest.raises(FileFormatError, match=f"HDU 1 has TFIELDS = {2**63}"):
        read_catalog(path)


def test_a_catalogue_may_be_packed(tmp_path):
    path = tmp_path / "cat.fits"
    Table({"x": [1.0], "y": [2.0]}).write(path)
    for pack in (gzip.compress, bz2.compress):
        packed = tmp_path / "packed.fits"
        packed.write_bytes(pack(path.read_bytes()))
        assert len(read_catalog(packed)) == 1
