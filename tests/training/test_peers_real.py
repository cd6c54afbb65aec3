"""Real exposures of any folder, and where their truth is from."""

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")

from crmend_training import peers_real


def test_every_chip_and_every_mask_of_a_folder_counts(tmp_path, rng):
    """A mask beside its exposure is no third exposure of its field."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header.update(INSTRUME="ACS", DETECTOR="WFC", EXPTIME=500.0, BUNIT="ELECTRONS")
    for chip, hit in ((1, 10), (2, 20)):
        image = rng.normal(50.0, 5.0, (90, 90)).astype(np.float32)
        flag = np.zeros(image.shape, np.int16)
        flag[50, 50 : 50 + hit] = 4096
        for name, plane in (("SCI", image), ("DQ", flag)):
            hdus.append(fits.ImageHDU(plane, name=name, ver=chip))
    (tmp_path / "hst").mkdir()
    hdus.writeto(tmp_path / "hst" / "a_flc.fits")
    (tmp_path / "own").mkdir()
    mask = np.zeros((80, 70), np.uint8)
    mask[5, 7:12] = 1
    image = rng.normal(900.0, 9.0, mask.shape).astype(np.float32)
    for name, plane in (("y", image), ("y_crtruth", mask), ("z", image)):
        fits.PrimaryHDU(plane).writeto(tmp_path / "own" / f"{name}.fits")
    found = [
        ([(frame.name, int(frame.truth.sum())) for frame in frames], why)
        for _, frames, why in peers_real.real_sets(tmp_path)
    ]
    flags = "flag plane: what a pipeline found, which may be little of what is there"
    assert found == [
        ([("a_flc chip 1", 10)], flags),
        ([("a_flc chip 2", 20)], flags),
        ([("y", 5)], "CRTRUTH"),
        ([], "1 exposure(s) without truth; three of one field would give it"),
    ]
