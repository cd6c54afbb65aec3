"""Unusable files: one clear error each."""

import gzip
import shutil

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import FileFormatError, InvalidInputError, MissingFileError
from crmend.exposure import count_extvers, read_exposure

BIG = np.arange(10000, dtype=np.float32).reshape(100, 100)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist") as caught:
        read_exposure(tmp_path / "none.fits")
    assert isinstance(caught.value, FileNotFoundError)


def test_missing_file_from_a_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(MissingFileError, match="the working folder has been removed"):
        read_exposure("none.fits")


@pytest.mark.parametrize("path", [None, 7, b"a.fits", ["a.fits"], fits.HDUList()])
def test_no_path(path):
    for call in (read_exposure, count_extvers):
        with pytest.raises(InvalidInputError, match=r"path is a .*; expected the name"):
            call(path)


def test_folder(tmp_path):
    with pytest.raises(FileFormatError, match="is a folder"):
        read_exposure(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"SIMPLE", b"hello\n" * 1000, b"\x1f\x8bxx", b"\x1f\x8b"]
)
def test_not_fits(tmp_path, content):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=str(path)):
        read_exposure(path)


@pytest.mark.parametrize("size", [100, 2880, 5000, 2 * 2880 + 1, 2 * 2880 + 39999])
def test_truncated(level1, size):
    path = level1([("SCI", BIG)])
    truncate(path, size)
    with pytest.raises(FileFormatError):
        read_exposure(path)


def test_truncated_says_how_much_is_missing(level1):
    path = level1([("SCI", BIG), ("FLAG", BIG.astype("i4"))])
    size = path.stat().st_size
    truncate(path, size - 2880)
    with pytest.raises(FileFormatError, match=rf"truncated: HDU 2 \(FLAG\).*has {size - 2880}"):
        read_exposure(path)


def test_truncated_inside_a_later_header(level1):
    path = level1([("SCI", BIG), ("FLAG", BIG.astype("i4"))])
    header = 2 * 2880 + -(-40000 // 2880) * 2880
    truncate(path, header + 400)
    with pytest.raises(FileFormatError, match="damaged or truncated"):
        read_exposure(path)


def test_missing_padding_is_forgiven(level1):
    path = level1([("SCI", BIG)])
    truncate(path, 2 * 2880 + 40000)
    np.testing.assert_array_equal(read_exposure(path).image, BIG)


def test_fewer_rows_than_the_header_says(level1):
    path = level1([("SCI", BIG)])
    content = path.read_bytes().replace(
        b"NAXIS2  =                  100", b"NAXIS2  =                 1000"
    )
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="truncated"):
        read_exposure(path)


@pytest.mark.parametrize("fraction", [0.2, 0.6, 0.95, 0.999])
def test_truncated_gzip(level1, tmp_path, fraction):
    noise = np.random.default_rng(1).normal(size=(100, 100)).astype(np.float32)
    plain = level1([("SCI", noise), ("FLAG", np.zeros((100, 100), "i4"))])
    packed = tmp_path / "b.fits.gz"
    with plain.open("rb") as source, gzip.open(packed, "wb") as out:
        shutil.copyfileobj(source, out)
    truncate(packed, int(packed.stat().st_size * fraction))
    with pytest.raises(FileFormatError, match="truncated or damaged gzip"):
        read_exposure(packed)


@pytest.mark.parametrize("fraction", [0.3, 0.7, 0.8])
def test_truncated_tile_compressed(level1, fraction):
    noise = np.random.default_rng(1).normal(size=(100, 100)).astype(np.float32)
    path = level1([("SCI", fits.CompImageHDU(noise))], name="a.fits.fz")
    truncate(path, int(path.stat().st_size * fraction))
    with pytest.raises(FileFormatError):
        read_exposure(path)


def test_damaged_tiles(level1):
    noise = np.arange(10000, dtype=np.int32).reshape(100, 100) ** 2
    path = level1(
        [("SCI", fits.CompImageHDU(noise, compression_type="GZIP_1"))], name="a.fits.fz"
    )
    content = bytearray(path.read_bytes())
    start = 3 * 2880
    content[start : start + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(content))
    with pytest.raises(FileFormatError):
        read_exposure(path)


def test_no_image_plane(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])], name="CAT")
    primary = fits.PrimaryHDU()
    primary.header.update(INSTRUME="MSC", DETECTOR="08", EXPTIME=150.0)
    fits.HDUList([primary, table]).writeto(tmp_path / "a.fits")
    for call in (read_exposure, count_extvers):
        with pytest.raises(FileFormatError, match=r"no image plane: found .*CAT.*SCI, IMG"):
            call(tmp_path / "a.fits")


@pytest.mark.parametrize("number", ["0", "7"])
def test_an_image_named_by_a_number_that_is_none(level1, number):
    match = (
        rf"found HDU 0 \(unnamed, no image\); HDU 1 \(SCI, image, \(3, 4\)\), expected the HDU "
        rf"{number}; .*extension or HDU"
    )
    with pytest.raises(FileFormatError, match=match):
        read_exposure(level1(), planes={"image": number})


def test_only_a_flag_plane(level1):
    path = level1([("FLAG", np.zeros((3, 4), "i4"))])
    with pytest.raises(FileFormatError, match="not its sibling"):
        read_exposure(path)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), (3, 1, 4)])
def test_not_two_dimensional(level1, shape):
    with pytest.raises(FileFormatError, match=r"has shape \(.*expected 2-D"):
        read_exposure(level1([("SCI", np.ones(shape, "f4"))]))


@pytest.mark.parametrize("name", ["FLAG", "ERR", "WHT"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (12,), (2, 3, 4)])
def test_planes_of_other_shapes(level1, image, name, shape):
    data = np.ones(shape, "i4" if name == "FLAG" else "f4")
    with pytest.raises(FileFormatError, match=rf"\({name}\) has shape .*expected \(3, 4\)"):
        read_exposure(level1([("SCI", image), (name, data)]))


@pytest.mark.parametrize(
    ("value", "dtype", "held"),
    [(0.5, "f4", "0.5"), (np.nan, "f4", "nan"), (2**35, "i8", "34359738368")],
)
def test_flag_plane_that_holds_none_is_named_and_may_be_left_out(
    level1, image, value, dtype, held
):
    path = level1([("SCI", image), ("FLAG", np.full((3, 4), value, dtype))])
    match = (
        rf"frame_L1.fits HDU 2: .* holds {held}, expected whole numbers .*"
        r"leave it out by --plane flag=none \(planes=\{'flag': None\}\)"
    )
    with pytest.raises(FileFormatError, match=match):
        read_exposure(path)
    exposure = read_exposure(path, planes={"flag": None})
    np.testing.assert_array_equal(exposure.image, image)
    assert exposure.flag is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_finite_pixel(level1, value):
    with pytest.raises(InvalidInputError, match=r"no finite pixel \(12 pixels"):
        read_exposure(level1([("SCI", np.full((3, 4), value, "f4"))]))


@pytest.mark.parametrize("extver", [0, 2, -1])
def test_extver_out_of_range(level1, extver):
    with pytest.raises(InvalidInputError, match=f"extver {extver} is out of range.*1 to 1"):
        read_exposure(level1(), extver=extver)


def test_nonstandard_cards_make_no_noise(level1, image):
    path = level1()
    content = path.read_bytes().replace(b"EXTNAME = 'SCI     '", b"EXTNAME = 'SCI'     ")
    content = content.replace(b"BUNIT   = 'e/s     ' ", b"BUNIT   = 'e/s'   /x ")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_exposure(path).image, image)
