"""Which plane of a file is the mask of which chip."""

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")

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
