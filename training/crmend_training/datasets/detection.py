"""Detection sets (paper, section 2.1): stamps of Level 1 with the mask of their CRs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend._kernels import fill_invalid
from crmend._normalise import Scale, to_noise_units
from crmend._probability import prepare
from crmend_training.datasets.frames import Frame
from crmend_training.datasets.storage import ASINH, BITS, PLAIN, SetWriter

STAMPS_PER_FRAME = 400
"""Stamps that a set keeps of a frame, at most.

A full frame has 36 × 36 stamps of 256 px; 400 of them are 31 % of it.  Sixteen frames then
make 6400 stamps, 419 Mpx, 0.944 GB at 2.25 bytes per pixel (aim: one set per detector ≤ 1 GB).
"""

_COLUMNS = {
    "detect/image": (ASINH, None),
    "detect/mask": (BITS, None),
    "detect/ignore": (BITS, None),
    "detect/frame": (PLAIN, np.int32),
}


def shown_to_detection(frame: Frame) -> Frame:
    """Return a frame as the runtime shows it to a detection network.

    Without broad light, dark parts and noise that differs from line to line; where nothing of
    that is, the frame itself.  Pixels in gaps between lit parts become invalid.
    """
    here = Scale(0.0, 1.0)
    image, invalid, scale, light = prepare(frame.image, frame.invalid, here)
    if light is not None:
        rows, columns = (np.arange(length) for length in image.shape)
        image = light.taken_off(image, rows, columns, scale)
    if image is frame.image and invalid is frame.invalid:
        return frame
    filled = np.empty_like(image)
    fill_invalid(np.ascontiguousarray(image), invalid, scale.background, filled)
    seen = to_noise_units(filled, scale)
    return replace(frame, image=seen, invalid=invalid)


def detection_stamps(
    frame: Frame,
    size: int,
    most: int | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield (image, mask, ignore) stamps of size × size that tile the frame.

    Parameters
    ----------
    frame : Frame
    size : int
        Side of a stamp [px]; rows and columns left over at the far edges are not used.
    most : int or None
        Keep so many stamps, drawn with `rng` without regard to what they hold, so that sky,
        sources and saturated stars keep their shares.  None = all.
    rng : numpy.random.Generator or None
        Needed where `most` is less than what the frame has.

    Raises
    ------
    ValueError
        The frame is smaller than a stamp, or a choice among stamps needs a generator.
    """
    ny, nx = frame.image.shape
    if min(ny, nx) < size:
        raise ValueError(
            f"{frame.name} has {ny} x {nx} pixels and holds no stamp of {size} x {size}; lower "
            "`stamp` in the recipe's section dataset.detect (crops must fit into it)"
        )
    corners = [
        (y, x) for y in range(0, ny - size + 1, size) for x in range(0, nx - size + 1, size)
    ]
    if most is not None and len(corners) > most:
        if rng is None:
            raise ValueError(f"{len(corners)} stamps, {most} wanted: a generator must choose")
        corners = [corners[k] for k in np.sort(rng.permutation(len(corners))[:most])]
    ignore = frame.ignore
    for y, x in corners:
        window = np.s_[y : y + size, x : x + size]
        yield frame.image[window], frame.cr[window] > frame.label, ignore[window]


def build_detection_set(
    frames: Iterable[Frame],
    folder: Path,
    *,
    stamp: int = 256,
    stamps_per_frame: int | None = STAMPS_PER_FRAME,
    seed: int = 0,
    made_with: Mapping[str, Any] | None = None,
) -> dict:
    """Write a detection set made of frames, and return what its ``set.json`` says.

    Parameters
    ----------
    frames : iterable of Frame
        Read one at a time.
    folder : Path
    stamp : int
        Side of a stamp [px].
    stamps_per_frame : int or None
        See `detection_stamps`; None = all.
    seed : int
        Which stamps are kept depends on it and on the frame's number.
    made_with : mapping or None
        For `storage.check_made_with`.

    Raises
    ------
    ValueError
        A stamp or the number of stamps is none, or a frame is smaller than a stamp.
    """
    if stamp < 1 or (stamps_per_frame is not None and stamps_per_frame < 1):
        raise ValueError(
            f"stamp is {stamp}, stamps_per_frame {stamps_per_frame}; expected at least 1"
        )
    with SetWriter(Path(folder), _COLUMNS) as writer:
        for number, frame in enumerate(map(shown_to_detection, frames)):
            index = writer.add_frame(frame.name, frame.place)
            rng = np.random.default_rng([seed, number])
            for image, mask, ignore in detection_stamps(frame, stamp, stamps_per_frame, rng):
                writer.add("detect/image", image)
                writer.add("detect/mask", mask)
                writer.add("detect/ignore", ignore)
                writer.add("detect/frame", index)
        return writer.finish(made_with)
