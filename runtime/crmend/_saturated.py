"""Saturated pixels that cosmic rays made: a hole to the network, not the core of a star."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from crmend._background import Surface

_LARGEST = 60
"""Pixels that a CR saturates, at most; stars that bleed have more."""

_REACH = 2
"""So far around it is looked for the light of a star [px]."""

_FAINT, _DARK = 0.005, 10.0
"""Part of the saturated value, and noise, of which the larger one is more than what lies there
around a CR (median), and less than around a star: an undersampled one has 2 % of its peak at
that distance."""

_FAR, _ENOUGH = 8, 16
"""Where a CR hides all of that, light is looked for so far, among so many pixels that touch no
CR: those around one have less than one noise (median; 0.5 on simulated CSST frames), around a
saturated star 5 at 6 px and 2 at 8 px."""


def saturated_by_rays(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    background: Surface,
    noise: float,
) -> NDArray[np.intp]:
    """Return saturated pixels that touch cosmic rays and have no star around them.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.
    cr_mask, invalid : (ny, nx) bool arrays
        True = cosmic ray; True = no measurement.
    excluded : (ny, nx) bool array
        The invalid and the saturated pixels.
    background : Surface
        In the image's unit.
    noise : float
        Of the background, in the image's unit.

    Returns
    -------
    (n,) intp array
        Flat indices, ascending.
    """
    nx = image.shape[1]
    found: list[int] = []
    for members in _groups(cr_mask, invalid, excluded):
        rows, columns = np.divmod(np.array(members), nx)
        ys, xs = (
            np.arange(max(index.min() - _FAR, 0), min(index.max() + _FAR + 1, length))
            for index, length in zip((rows, columns), image.shape, strict=True)
        )
        window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        above = image[window] - background.at(ys, xs)
        own = np.zeros(above.shape, dtype=bool)
        own[rows - ys[0], columns - xs[0]] = True
        good = np.isfinite(above) & ~excluded[window]
        near = good & ~cr_mask[window] & _within(own, _REACH)
        if near.any():
            least = max(_FAINT * above[own].max(), _DARK * noise)
            dark = np.median(above[near]) < least
        else:
            good &= ~_within(cr_mask[window], 1)
            rings = (good & _within(own, reach) for reach in range(_REACH + 1, _FAR + 1))
            far = next((ring for ring in rings if np.count_nonzero(ring) >= _ENOUGH), None)
            dark = far is not None and np.median(above[far]) < noise
        if dark:
            found += members
    return np.array(sorted(found), dtype=np.intp)


def _within(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Return what is so near to True pixels [px], in both directions."""
    return np.asarray(maximum_filter(mask, 2 * reach + 1))


def _groups(
    cr_mask: NDArray[np.bool_], invalid: NDArray[np.bool_], excluded: NDArray[np.bool_]
) -> Iterator[list[int]]:
    """Yield the flat indices of each small group of saturated pixels that touches a CR."""
    ny, nx = cr_mask.shape
    steps = [(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)]

    def around(flat: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the saturated pixels that touch some pixels, or are among them."""
        y, x = np.divmod(flat, nx)
        touched = []
        for j, i in steps:
            inside = (y + j >= 0) & (y + j < ny) & (x + i >= 0) & (x + i < nx)
            places = flat[inside] + j * nx + i
            touched.append(places[excluded.flat[places] & ~invalid.flat[places]])
        return np.unique(np.concatenate(touched))

    seen: set[int] = set()
    for seed in around(np.flatnonzero(cr_mask)):
        if int(seed) in seen:
            continue
        group, edge = {int(seed)}, np.array([seed])
        while edge.size and len(group) <= _LARGEST:
            edge = np.array([p for p in around(edge) if int(p) not in group], dtype=np.intp)
            group |= set(edge.tolist())
        # What meets a group that was too large belongs to it.
        whole = len(group) <= _LARGEST and not group & seen
        seen |= group
        if whole:
            yield sorted(group)
