"""Damaged FITS files end in a `FileFormatError`, at once, and lose no chip in silence."""


import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import FileFormatError
from crmend.exposure import read_exposure


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
    with pytest.raises(FileFormatError, match="cannot be read as FITS .CfitsioException"):
        read_exposure(path)


def test_a_column_whose_name_is_a_number(level1):
    path = level1([("SCI", fits.CompImageHDU(np.ones((64, 64), np.int32)))])
    patched(path, "TTYPE1  =", "TTYPE1  =                    1")
    with pytest.raises(FileFormatError, match="cannot be read as FITS"):
        read_exposure(path)
