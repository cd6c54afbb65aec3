"""Arrays and names of a caller, as the checks hand them on."""

import numpy as np
import pytest

import crmend
from crmend._inputs import check_image, check_mask, check_path
from crmend.errors import InvalidInputError, OutputError


@pytest.mark.parametrize("mask", [np.ma.nomask, np.eye(3, 4, dtype=bool)])
def test_masked_images_are_contiguous_however_they_lie_in_memory(image, mask):
    # Compiled loops are compiled once more, for ten seconds, for any other layout.
    given = np.ma.array(np.asfortranarray(image), mask=np.asfortranarray(mask))
    pixels = check_image(given)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.where(mask, np.nan, image))


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">i2", np.int64])
def test_masks_are_contiguous_however_they_lie_in_memory(dtype):
    # 256 has no bit in its last byte.
    marks = np.array([[0, 1], [0, 0], [1, 1]]) * (256 if np.dtype(dtype).itemsize > 1 else 1)
    mask = check_mask(marks.astype(dtype).T, (2, 3), "invalid")
    assert mask.dtype == np.bool_
    assert mask.flags.c_contiguous
    np.testing.assert_array_equal(mask, [[False, False, True], [True, False, True]])


def test_paths_hold_no_null_bytes():
    with pytest.raises(InvalidInputError, match=r"path is 'a\\x00b.fits'; expected a name"):
        check_path("a\0b.fits")


def test_an_output_has_a_name(level1):
    exposure = crmend.read_exposure(level1())
    with pytest.raises(OutputError, match=r"the output \. is a folder, expected a file name"):
        crmend.write_exposure("", exposure)
