"""Saturated pixels that cosmic rays made: a hole to the network, not the core of a star."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from crmend._background import Surface

_LARGEST = 60
"""Pixels that a CR saturates, at most; stars that bleed have more."""

_REACH = 2
"""So far around it is looked for the light of a star [px]."""

_FAINT, _DARK = 0.005, 10.0
"""Part of the saturated value, and noise, of which the larger one is more than what lies there
around a CR (median), and less than around a star: an undersampled one has 2 % of its peak at
that distance."""


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
    ny, nx = image.shape
    saturated = np.flatnonzero(excluded)
    saturated = saturated[~invalid.ravel()[saturated]]
    if saturated.size == 0:
        return saturated
    places = np.stack(np.divmod(saturated, nx), axis=1)
    pairs = cKDTree(places).query_pairs(1.5, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(places),) * 2)
    count, group = connected_components(links, directed=False)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=count))
    offsets = np.stack(np.meshgrid(*[np.arange(-_REACH, _REACH + 1)] * 2), axis=-1)
    found = []
    for members in np.split(order, ends[:-1]):
        if len(members) > _LARGEST:
            continue
        around = (places[members, np.newaxis] + offsets.reshape(1, -1, 2)).reshape(-1, 2)
        inside = (around >= 0).all(axis=1) & (around < (ny, nx)).all(axis=1)
        rows, columns = np.unique(around[inside], axis=0).T
        hit = cr_mask[rows, columns]
        usable = ~hit & ~excluded[rows, columns] & np.isfinite(image[rows, columns])
        if not hit.any() or not usable.any():
            continue
        rows, columns = rows[usable], columns[usable]
        light = float(np.median(image[rows, columns] - background.of(rows, columns)))
        peak = float(
            image.flat[saturated[members]].max() - background.of(*places[members].T).min()
        )
        if light < max(_FAINT * peak, _DARK * noise):
            found.append(members)
    return np.sort(saturated[np.concatenate(found)]) if found else saturated[:0]
