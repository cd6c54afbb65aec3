"""The flag plane of a Level 1 file, updated in place: every other byte stays."""

import gzip
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits

from crmend import _fits_update, _shared_files
from crmend._fits_checksum import CHECKSUMS, write_checksums
from crmend._fits_header import header_bytes, plane_header
from crmend._fits_write import write_blocks
from crmend.errors import FileFormatError, InvalidInputError, OutputError
from crmend.exposure import read_exposure, update_all_flags, update_flags

FLAG = np.array([[0, 1, 2, 4], [8, 16, 32, 64], [128, 3, 0, 9]])
MASK = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
EXPECTED = FLAG + MASK * 1048576


def hdu_bytes(path):
    """Return header and data of every HDU, as bytes."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    with fits.open(path, disable_image_compression=True) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    return [content[p["hdrLoc"] : p["datLoc"] + p["datSpan"]] for p in places]


def three_planes(image, flag):
    after = fits.ImageHDU(image * 3)
    return [("SCI", image), ("ERR", image), ("FLAG", flag), ("EXTRA", after)]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4", "i8", "f4"])
def test_only_the_flag_plane_changes(level1, image, dtype):
    hdu = fits.ImageHDU(FLAG.astype(dtype))
    hdu.header["COMMENT"] = "kept"
    path = level1(three_planes(image, hdu))
    before = hdu_bytes(path)
    assert update_flags(path, read_exposure(path), MASK) == path
    after = hdu_bytes(path)
    assert len(after) == 5
    assert [i for i in range(5) if before[i] != after[i]] == [3]
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus["FLAG"].header["BITPIX"] == 32
        assert "BZERO" not in hdus["FLAG"].header
        assert hdus["FLAG"].header["COMMENT"] == ["kept"]
        np.testing.assert_array_equal(hdus["FLAG"].data, EXPECTED)
    assert len(list(path.parent.iterdir())) == 1


def test_twice_is_once(level1, image):
    path = level1(three_planes(image, FLAG.astype("u2")))
    update_flags(path, read_exposure(path), MASK)
    once = path.read_bytes()
    update_flags(path, read_exposure(path), MASK)
    assert path.read_bytes() == once


def test_tile_compressed(level1, image):
    planes = [
        (name, fits.CompImageHDU(data, compression_type=kind, tile_shape=(2, 4)))
        for name, data, kind in (
            ("SCI", image, "GZIP_2"),
            ("FLAG", FLAG.astype("u2"), "RICE_1"),
            ("EXTRA", image, "GZIP_2"),
        )
    ]
    path = level1(planes, name="a.fits.fz")
    before = hdu_bytes(path)
    update_flags(path, read_exposure(path), MASK)
    after = hdu_bytes(path)
    assert [i for i in range(4) if before[i] != after[i]] == [2]
    with fits.open(path) as hdus:
        assert isinstance(hdus["FLAG"], fits.CompImageHDU)
        assert (hdus["FLAG"].compression_type, tuple(hdus["FLAG"].tile_shape)) == (
            "RICE_1",
            (2, 4),
        )
        np.testing.assert_array_equal(hdus["FLAG"].data, EXPECTED)
    np.testing.assert_array_equal(read_exposure(path).flag, EXPECTED)


def test_sibling_file(level1, tmp_path, image):
    path = level1([("", image)], name="CSST_MSC_x_08_img_L1.fits")
    sibling = tmp_path / "CSST_MSC_x_08_flg_L1.fits"
    fits.PrimaryHDU(FLAG.astype("u2")).writeto(sibling)
    before = path.read_bytes()
    assert update_flags(path, read_exposure(path), MASK) == sibling
    assert path.read_bytes() == before
    np.testing.assert_array_equal(fits.getdata(sibling), EXPECTED)


def test_gzipped_file(level1, tmp_path, image):
    plain = level1(three_planes(image, FLAG.astype("u2")))
    path = tmp_path / "b.fits.gz"
    with plain.open("rb") as source, gzip.open(path, "wb") as out:
        shutil.copyfileobj(source, out)
    before = hdu_bytes(path)
    update_flags(path, read_exposure(path), MASK)
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert [i for i in range(5) if before[i] != hdu_bytes(path)[i]] == [3]
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), EXPECTED)


@pytest.mark.filterwarnings("ignore:.*no network was trained")
def test_hst_planes_stay_16_bit(level1, image):
    flag = FLAG.astype("i2")
    flag[0, 1] = -32768
    path = level1(
        [("SCI", image), ("DQ", flag)],
        {"INSTRUME": "ACS", "DETECTOR": "WFC"},
        bunit="ELECTRONS",
    )
    update_flags(path, read_exposure(path), MASK)
    with fits.open(path) as hdus:
        assert hdus["DQ"].header["BITPIX"] == 16
        np.testing.assert_array_equal(hdus["DQ"].data, flag + MASK * 4096)


def test_one_chip_of_two(level1, image):
    planes = [("SCI", image), ("FLAG", FLAG.astype("i4"))] * 2
    path = level1(planes)
    before = hdu_bytes(path)
    update_flags(path, read_exposure(path, extver=2), MASK)
    assert [i for i in range(5) if before[i] != hdu_bytes(path)[i]] == [4]


def test_two_chips_in_one_step(level1, image):
    path = level1([("SCI", image), ("FLAG", FLAG.astype("u2")), ("ERR", image)] * 2)
    before = hdu_bytes(path)
    chips = [read_exposure(path, extver=number) for number in (1, 2)]
    with pytest.raises(InvalidInputError, match="cosmic-ray mask"):
        update_all_flags(path, [(chips[0], MASK), (chips[1], MASK[:2])])
    assert hdu_bytes(path) == before
    assert update_all_flags(path, [(chips[1], ~MASK), (chips[0], MASK)]) == path
    assert [i for i in range(7) if before[i] != hdu_bytes(path)[i]] == [2, 5]
    np.testing.assert_array_equal(fits.getdata(path, 2), EXPECTED)
    np.testing.assert_array_equal(fits.getdata(path, 5), FLAG + ~MASK * (1 << 20))


def test_planes_in_two_files_are_not_mixed_up(level1, tmp_path, image):
    """Of one chip in the file of the image, of the other in the file beside it."""
    planes = [("SCI", image), ("SCI", image), ("FLAG", FLAG.astype("i4"))]
    path = level1(planes, name="CSST_MSC_x_08_img_L1.fits")
    sibling = tmp_path / "CSST_MSC_x_08_flg_L1.fits"
    beside = fits.ImageHDU(FLAG.astype("i4"), name="FLAG", ver=2)
    empty = [fits.ImageHDU(name=f"OTHER{number}") for number in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *empty, beside]).writeto(sibling)
    chips = [(read_exposure(path, extver=number), MASK) for number in (1, 2)]
    assert {chip.planes["flag"].path for chip, _ in chips} == {path, sibling}
    before = path.read_bytes(), sibling.read_bytes()
    with pytest.raises(FileFormatError, match=f"lie in 2 files .*{sibling.name}"):
        update_all_flags(path, chips)
    assert (path.read_bytes(), sibling.read_bytes()) == before


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("checksum", "keys"),
    [(True, ["CHECKSUM", "DATASUM"]), ("datasum", ["DATASUM"]), (False, [])],
)
def test_checksums_are_made_anew(tmp_path, level1, image, packed, checksum, keys):
    flag = fits.CompImageHDU(FLAG.astype("u2")) if packed else FLAG.astype("u2")
    path = level1(three_planes(image, flag), name="plain.fits")
    with fits.open(path) as hdus:
        hdus.writeto(tmp_path / "a.fits", checksum=checksum)
    update_flags(tmp_path / "a.fits", read_exposure(path), MASK)
    # astropy warns of wrong ones.
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        np.testing.assert_array_equal(hdus["FLAG"].data, EXPECTED)
    with fits.open(tmp_path / "a.fits", disable_image_compression=True) as hdus:
        assert [key for key in ("CHECKSUM", "DATASUM") if key in hdus[3].header] == keys


@pytest.mark.parametrize("side", [2, 41])
def test_checksums_of_any_word(tmp_path, side):
    """Sums whose first encoding holds punctuation, and those that carry."""
    values = np.random.default_rng(1).integers(-(2**15), 2**15, (100, side, 41), dtype="i2")
    for plane in values:
        header = plane_header(fits.Header(), plane, name="DQ", version=1)
        header.update(CHECKSUMS)
        with (tmp_path / "a.fits").open("w+b") as stream:
            stream.write(header_bytes(fits.PrimaryHDU().header))
            start = stream.tell()
            stream.write(header_bytes(header))
            write_blocks(stream, [plane])
            write_checksums(stream, header, start)
            assert stream.tell() == (tmp_path / "a.fits").stat().st_size
        with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
            assert (hdus[1].verify_datasum(), hdus[1].verify_checksum()) == (1, 1)


def test_link_and_permissions_are_kept(level1, tmp_path, image):
    path = level1(three_planes(image, FLAG.astype("u2")))
    path.chmod(0o604)
    link = tmp_path / "link.fits"
    link.symlink_to(path)
    update_flags(link, read_exposure(link), MASK)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o604
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), EXPECTED)


def owner_of(path):
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away"
)
def test_owner_and_group_are_kept(level1, image):
    path = level1(three_planes(image, FLAG.astype("u2")))
    os.chown(path, 12345, 23456)
    path.chmod(0o2640)
    update_flags(path, read_exposure(path), MASK)
    assert owner_of(path) == (12345, 23456, 0o2640)


@pytest.mark.parametrize("group_too", [False, True])
def test_an_owner_who_may_not_be_kept_is_no_error(level1, image, monkeypatch, group_too):
    path = level1(three_planes(image, FLAG.astype("u2")))
    before = owner_of(path)
    asked = []

    def refuse(target, owner, group):
        asked.append((owner, group))
        if owner != -1 or group_too:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    update_flags(path, read_exposure(path), MASK)
    assert asked == [before[:2], (-1, before[1])]
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), EXPECTED)


def test_no_flag_plane(level1):
    path = level1()
    before = path.read_bytes()
    with pytest.raises(
        FileFormatError, match=r"no flag plane to update, expected .*FLAG, FLG, DQ"
    ):
        update_flags(path, read_exposure(path), MASK)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mask", [MASK.T, MASK.astype(int), MASK[:2]])
def test_unusable_mask(level1, image, mask):
    path = level1(three_planes(image, FLAG.astype("u2")))
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="cosmic-ray mask"):
        update_flags(path, read_exposure(path), mask)
    assert path.read_bytes() == before


def test_full_disk_leaves_the_file_as_it_was(small_disk, level1, image):
    wide = np.tile(image, (300, 30))
    path = level1([("SCI", wide), ("FLAG", np.zeros(wide.shape, "u2"))])
    copy = small_disk / "a.fits"
    shutil.copy(path, copy)
    # The file takes 0.7 MiB of the 1 MiB: its copy does not fit beside it.
    with pytest.raises(OutputError, match="No space left"):
        update_flags(copy, read_exposure(copy), np.ones(wide.shape, bool))
    assert copy.read_bytes() == path.read_bytes()
    assert [p.name for p in small_disk.iterdir()] == ["a.fits"]


# --- others write to the file, too --------------------------------------------------


def test_updates_at_the_same_time_lose_nothing(level1, image):
    pytest.importorskip("fcntl")
    path = level1(three_planes(image, FLAG.astype("u2")))
    before, exposure = hdu_bytes(path), read_exposure(path)
    masks = [np.arange(12).reshape(3, 4) == pixel for pixel in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda mask: update_flags(path, exposure, mask), masks))
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), FLAG | 1 << 20)
    after = hdu_bytes(path)
    assert [i for i in range(5) if before[i] != after[i]] == [3]


def test_a_file_that_another_program_replaces_meanwhile(level1, image, monkeypatch):
    path = level1(three_planes(image, FLAG.astype("u2")))
    exposure = read_exposure(path)

    def write(stream, blocks):
        write_blocks(stream, blocks)
        path.write_bytes(b"of another program")

    monkeypatch.setattr(_fits_update, "write_blocks", write)
    with pytest.raises(FileFormatError, match="has changed while it was copied"):
        update_flags(path, exposure, MASK)
    assert path.read_bytes() == b"of another program"
    assert [file.name for file in path.parent.iterdir()] == ["frame_L1.fits"]


def test_a_lock_that_another_program_keeps_is_not_waited_for_for_ever(
    level1, image, monkeypatch
):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(_shared_files, "_PATIENCE", 0.1)
    path = level1(three_planes(image, FLAG.astype("i4")))
    exposure = read_exposure(path)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        update_flags(path, exposure, MASK)
    np.testing.assert_array_equal(fits.getdata(path, "FLAG"), FLAG | MASK.astype("i4") << 20)
