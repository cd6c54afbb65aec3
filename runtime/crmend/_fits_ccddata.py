"""Tell the mask that CCDData of astropy wrote, whose pixels are bad, from any other flags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crmend._fits import row_blocks
from crmend._fits_header import read_value
from crmend._fits_layout import Layout
from crmend._fits_planes import STATED_KINDS, FileHeaders, Plane
from crmend._instruments import Instrument

_MASKED = 1


def with_own_mask(
    instrument: Instrument, content: FileHeaders, layout: Layout, flag: NDArray[np.int32] | None
) -> Instrument:
    """Return a profile that takes the mask of a CCDData for what it is.

    `CCDData.write` puts the mask as 0 and 1 into a plane MASK without a unit, and states in
    UTYPE what its UNCERT holds.  Only the profile generic knows no bad flags of its own.

    Parameters
    ----------
    instrument : Instrument
    content : FileHeaders
        The file.
    layout : Layout
    flag : (ny, nx) int32 array or None
        The flag plane's pixels.

    Returns
    -------
    Instrument
        The same one for any other file.
    """
    mask = layout.flag
    if instrument.name != "generic" or instrument.invalid_flags or mask is None:
        return instrument
    elsewhere = mask.path != content.path or mask.name != "MASK" or not mask.integer
    if flag is None or elsewhere or "BUNIT" in mask.header:
        return instrument
    # Flags of ours may have been added (--update-flags).
    others = ~np.int32(_MASKED | instrument.cr_bit)
    if any((flag[rows] & others).any() for rows in row_blocks(flag.shape, flag.shape[1] * 4)):
        return instrument
    if not any(_is_uncertainty(plane) for plane in content.planes):
        # Others write such a MASK with 1 = good.
        few = 2 * np.count_nonzero(flag) < flag.size
        if not (few and _holds_mask_alone(content, layout.image, mask)):
            return instrument
    return instrument.with_bad_flags(_MASKED)


def _is_uncertainty(plane: Plane) -> bool:
    stated = str(read_value(plane.header, "UTYPE") or "").strip().lower()
    return plane.name == "UNCERT" and stated in STATED_KINDS


def _holds_mask_alone(content: FileHeaders, image: Plane, mask: Plane) -> bool:
    """Return True for a file of two HDUs: the image with its unit, and a mask of bytes."""
    two = len(content.planes) == 2 and not content.others
    return two and image.index == 0 and "BUNIT" in image.header and mask.header["BITPIX"] == 8
