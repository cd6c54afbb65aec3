"""Outputs that cannot or must not be written: an OutputError, and nothing left behind."""

import os

import numpy as np
import pytest
from astropy.io import fits

from crmend.errors import CrmendError, InvalidInputError, OutputError
from crmend.exposure import (
    Corrected,
    check_output,
    read_exposure,
    source_files,
    update_all_flags,
    update_flags,
    write_exposure,
    write_exposures,
    write_flag,
)


@pytest.fixture
def exposure(level1, image):
    return read_exposure(level1([("SCI", image), ("FLAG", np.zeros((3, 4), "i4"))]))


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "dotted"])
def test_output_is_the_input(tmp_path, exposure, link):
    path = exposure.path if link != "dotted" else tmp_path / "." / exposure.path.name
    if link in ("symlink", "hardlink"):
        path = tmp_path / "other.fits"
        path.symlink_to(exposure.path) if link == "symlink" else os.link(exposure.path, path)
    before = exposure.path.read_bytes()
    listing = sorted(tmp_path.iterdir())
    for call in (
        lambda: write_exposure(path, exposure),
        lambda: write_flag(path, exposure, exposure.flag),
        lambda: check_output(path, source_files(exposure)),
    ):
        with pytest.raises(OutputError, match="is the input"):
            call()
    assert exposure.path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == listing


def test_output_is_a_sibling_of_the_input(level1, tmp_path, image):
    path = level1([("", image)], name="CSST_MSC_x_08_img_L1.fits")
    sibling = tmp_path / "CSST_MSC_x_08_flg_L1.fits"
    fits.PrimaryHDU(np.zeros((3, 4), "u2")).writeto(sibling)
    with pytest.raises(OutputError, match="is the input"):
        write_exposure(sibling, read_exposure(path))


def test_existing_file(tmp_path, exposure):
    path = tmp_path / "out.fits"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists; choose another name"):
        write_exposure(path, exposure, overwrite=False)
    assert path.read_text() == "precious"
    write_exposure(path, exposure)
    np.testing.assert_array_equal(fits.getdata(path, "SCI"), exposure.image)


def test_missing_folder(tmp_path, exposure):
    with pytest.raises(OutputError, match="does not exist or is not a folder"):
        write_exposure(tmp_path / "none" / "out.fits", exposure)


def test_folder_is_a_file(exposure):
    with pytest.raises(OutputError, match="does not exist or is not a folder"):
        write_exposure(exposure.path / "out.fits", exposure)


def test_output_is_a_folder(tmp_path, exposure):
    with pytest.raises(OutputError, match="is a folder"):
        write_exposure(tmp_path, exposure)


@pytest.mark.parametrize("ending", ["/", "/."])
def test_output_is_a_folder_that_is_not_there(tmp_path, exposure, ending):
    with pytest.raises(OutputError, match=r"none/.* ends like a folder, and there is none"):
        write_exposure(f"{tmp_path}/none{ending}", exposure)
    assert [p.name for p in tmp_path.iterdir()] == [exposure.path.name]


@pytest.mark.parametrize("path", [None, b"out.fits", 7])
def test_output_is_no_path(exposure, path):
    with pytest.raises(InvalidInputError, match=r"path is a .*; expected the name of a file"):
        write_exposure(path, exposure)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, exposure):
    path, other = tmp_path / "out.fits", []

    def chips():
        yield exposure, None
        path.write_text("of another process")

    with pytest.raises(OutputError, match="exists; choose another name"):
        write_exposures(path, chips(), overwrite=False, finish=lambda: other.append(1))
    assert (path.read_text(), other) == ("of another process", [])
    assert sorted(p.name for p in tmp_path.iterdir()) == [exposure.path.name, "out.fits"]


def test_name_too_long(tmp_path, exposure):
    with pytest.raises(OutputError, match="cannot be written"):
        write_exposure(tmp_path / ("x" * 300 + ".fits"), exposure)
    assert [p.name for p in tmp_path.iterdir()] == [exposure.path.name]


def test_read_only_folder(read_only_folder, exposure):
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_exposure(read_only_folder / "out.fits", exposure)
    assert isinstance(caught.value, OSError)
    assert list(read_only_folder.iterdir()) == []
    with pytest.raises(OutputError, match="its folder is read-only"):
        check_output(read_only_folder / "out.fits")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("rows", [300, 20])
def test_full_disk(small_disk, level1, suffix, rows):
    noise = np.random.default_rng(3).normal(size=(rows, 1000)).astype(np.float32)
    exposure = read_exposure(level1([("SCI", noise)]))
    if rows == 20:
        # Room for SCI alone: the disk is full only when CRPROB is appended.
        (small_disk / "fill").write_bytes(bytes(2**20 - 25 * 4096))
    probability = np.abs(np.random.default_rng(4).normal(size=noise.shape)).astype(np.float32)
    result = Corrected(noise, cr_probability=np.clip(probability, 0, 1))
    before = sorted(small_disk.iterdir())
    with pytest.raises(OutputError, match="No space left"):
        write_exposure(small_disk / f"out.fits{suffix}", exposure, result, probability=True)
    assert sorted(small_disk.iterdir()) == before


def test_broken_second_chip_leaves_nothing(tmp_path, exposure):
    def chips():
        yield exposure, None
        raise CrmendError("the second chip failed")

    with pytest.raises(CrmendError, match="the second chip failed"):
        write_exposures(tmp_path / "out.fits", chips())
    assert [p.name for p in tmp_path.iterdir()] == [exposure.path.name]


def test_interrupt_leaves_nothing(tmp_path, exposure):
    def chips():
        yield exposure, None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_exposures(tmp_path / "out.fits", chips())
    assert [p.name for p in tmp_path.iterdir()] == [exposure.path.name]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (np.ones((3, 4), bool), r"FLAG has dtype bool, .*set_flag\(exposure.flag, mask\)"),
        (np.ones((3, 4), "f4"), r"FLAG has dtype float32, .*astype\(np.int32\)"),
        (np.ones((3, 4), "c8"), "FLAG has dtype complex64, expected integers"),
        (np.full((3, 4), "bad"), "FLAG has dtype <U3, expected integers"),
        (np.ma.masked_equal(np.eye(3, 4, dtype="i4"), 1), "FLAG is a masked array"),
        (np.ones((3, 4), "i4").tolist(), "FLAG is a list; expected an array"),
    ],
)
def test_what_is_no_flag_plane(tmp_path, exposure, flag, message):
    for call in (
        lambda: write_flag(tmp_path / "out.fits", exposure, flag),
        lambda: write_exposure(tmp_path / "out.fits", exposure, Corrected(None, None, flag)),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()
    assert not list(tmp_path.glob("*out.fits*"))


def test_masks_without_a_masked_pixel_and_all_integers_are_flags(tmp_path, exposure):
    for flag in (np.ma.array(np.eye(3, 4, dtype="i4")), np.eye(3, 4, dtype=">u2")):
        write_flag(tmp_path / "out.fits", exposure, flag)
        np.testing.assert_array_equal(fits.getdata(tmp_path / "out.fits", 1), np.eye(3, 4))


def test_masked_pixels_of_an_image_are_written_as_nan(tmp_path, exposure):
    image = np.ma.masked_greater(exposure.image, 9.0)
    write_exposure(tmp_path / "out.fits", exposure, Corrected(image))
    np.testing.assert_array_equal(
        np.isnan(fits.getdata(tmp_path / "out.fits", "SCI")), exposure.image > 9.0
    )


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ({"image": [[1.0]]}, "SCI is a list; expected an array"),
        ({"image": None, "error": 5.0}, "ERR is a float; expected an array"),
        ({"image": np.ones((3, 4), complex)}, "SCI has dtype complex128; expected real"),
        ({"image": None, "cr_probability": [[0.1]]}, "CRPROB is a list; expected an array"),
        ({"image": None, "provenance": 5}, "the provenance is a int; expected that of"),
    ],
)
def test_planes_that_are_no_arrays(tmp_path, exposure, planes, message):
    result = Corrected(**planes)
    with pytest.raises(InvalidInputError, match=message):
        write_exposure(
            tmp_path / "out.fits", exposure, result, probability="cr_probability" in planes
        )


def test_exposures_without_results(tmp_path, exposure):
    for items in ([exposure], exposure, 5):
        with pytest.raises(InvalidInputError, match=r"expected a .*\(exposure, result\)"):
            write_exposures(tmp_path / "out.fits", items)
    with pytest.raises(InvalidInputError, match=r"expected a tuple \(exposure, cr_mask\)"):
        update_all_flags(exposure.path, [exposure])
    with pytest.raises(InvalidInputError, match="the cosmic-ray mask is a list"):
        update_flags(exposure.path, exposure, [[True] * 4] * 3)
    with pytest.raises(InvalidInputError, match="there are no exposures to flag"):
        update_all_flags(exposure.path, [])
