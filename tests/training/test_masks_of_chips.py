"""Which plane of a file is the mask of which chip."""

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")

from crmend_training import cli
from crmend_training.datasets import Reading, find_masked, load_masked

GENERIC = Reading(instrument="generic")
SIZE = 64


@pytest.mark.parametrize("extvers", [(2, 3), (1, 2), (1, 1)])
def test_masks_go_by_the_extver_of_chips_else_by_their_order(tmp_path, rng, extvers):
    """The exposure's chips are SCI,2 and SCI,3, its images have a third axis."""
    planes, masks = [fits.PrimaryHDU()], [fits.PrimaryHDU()]
    for number, ver in enumerate(extvers):
        image = rng.normal(500.0, 10.0, (SIZE, SIZE)).astype(np.float32)
        planes.append(fits.ImageHDU(image[None], name="SCI", ver=2 + number))
        mask = np.zeros((1, SIZE, SIZE), np.uint8)
        mask[0, number, 7] = 1
        masks.append(fits.ImageHDU(mask, name="CRTRUTH", ver=ver))
        masks.append(fits.ImageHDU(np.roll(mask, 1), name="UNSURE", ver=ver))
    if extvers == (2, 3):
        masks[1:] = masks[:0:-1]  # EXTVER goes before order
    fits.HDUList(planes).writeto(tmp_path / "two.fits")
    fits.HDUList(masks).writeto(tmp_path / "two_crtruth.fits")
    frames = [load_masked(one, GENERIC) for one in find_masked(tmp_path, tmp_path, GENERIC)]
    assert [np.argwhere(frame.cr > 0).tolist() for frame in frames] == [[[0, 7]], [[1, 7]]]
    assert [np.argwhere(frame.unsure).tolist() for frame in frames] == [[[0, 8]], [[1, 8]]]


@pytest.mark.parametrize("named", [True, False])
def test_masks_without_extver_follow_one_another_as_the_chips_do(tmp_path, rng, named):
    """The exposure's chips are SCI,3, SCI,1 and SCI,2; crmend counts them by EXTVER."""
    planes, masks, unsure = [fits.PrimaryHDU()], [fits.PrimaryHDU()], []
    for ver in (3, 1, 2):
        image = rng.normal(500.0, 10.0, (SIZE, SIZE)).astype(np.float32)
        planes.append(fits.ImageHDU(image, name="SCI", ver=ver))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[ver, 7] = 1
        masks.append(fits.ImageHDU(mask, name="CRTRUTH", ver=10 * ver if named else 1))
        unsure.append(fits.ImageHDU(np.roll(mask, 1), name="UNSURE"))
    fits.HDUList(planes).writeto(tmp_path / "three.fits")
    fits.HDUList(masks + unsure).writeto(tmp_path / "three_crtruth.fits")
    frames = [load_masked(one, GENERIC) for one in find_masked(tmp_path, tmp_path, GENERIC)]
    hits = [np.argwhere(frame.cr > 0).tolist() for frame in frames]
    assert hits == [[[1, 7]], [[2, 7]], [[3, 7]]]
    assert [np.argwhere(frame.unsure).tolist() for frame in frames] == [
        [[row, 8]] for row in (1, 2, 3)
    ]


def test_names_of_masks_may_be_in_capitals(tmp_path, rng):
    image = rng.normal(500.0, 10.0, (SIZE, SIZE)).astype(np.float32)
    fits.writeto(tmp_path / "Aa.FITS", image)
    fits.writeto(tmp_path / "Aa_CRTRUTH.FITS", np.eye(SIZE, dtype=np.uint8))
    fits.writeto(tmp_path / "aa_crtruth.fits", np.zeros((SIZE, SIZE), np.uint8))
    np.save(tmp_path / "b[1].npy", image)
    np.save(tmp_path / "b[1]_Crtruth.npy", np.eye(SIZE, dtype=np.uint8))
    np.save(tmp_path / "b[1]_UNSURE.npy", np.eye(SIZE, k=1, dtype=np.uint8))
    frames = [load_masked(one, GENERIC) for one in find_masked(tmp_path, tmp_path, GENERIC)]
    assert [frame.name for frame in frames] == ["Aa", "b[1]"]
    for frame in frames:
        np.testing.assert_array_equal(frame.cr > 0, np.eye(SIZE, dtype=bool))
    np.testing.assert_array_equal(frames[1].unsure, np.eye(SIZE, k=1, dtype=bool))


@pytest.mark.parametrize("date", ["yesterday", "2027-13-01", "10.8.2027"])
def test_the_date_of_a_pack_is_one(capsys, date):
    words = ["export", "--detect", "D", "--calibration", "C", "--validation", "E"]
    with pytest.raises(SystemExit):
        cli.main([*words, "--recipe", "R", "--out", "O", "--date", date])
    assert f"'{date}' is no date; expected such as 2027-08-10" in capsys.readouterr().err
