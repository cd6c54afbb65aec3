"""Stars whose core a cosmic ray took: found by the light that is left around it.

On an image whose CR pixels hold the median of their neighbours such a star is a faint stump,
with too few pixels above the threshold.  Here a point is matched to the good pixels alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crmend._background import Surface
from crmend._compiled import njit
from crmend._fit import PHOTONS, POINT, N, draw_source
from crmend._rims import charge_beside, measure_rim
from crmend.sources import SourceCatalog

LEAST_SNR = 7.0
"""Of the light of a point in the good pixels around it, above that farther out."""

LEAST_REST = 8.0
"""The same without the two pixels that say most, which must also be half of what a point has
there.  Light that a mask left of a cosmic ray lies in few pixels, a star's on all sides, but
there are a thousand times as many cosmic rays as such stars: on a real exposure of 512² that
light reached 7.3 for 16 cosmic rays (training/crmend_training/LOG.md, rounds 8 and 34).  Less
is enough with `LEAST_BESIDE_RIM`."""

LEAST_BESIDE_RIM = (4.0, 2.0)
"""`LEAST_SNR` and `LEAST_REST` where what may have come from the charge beside a pixel counts
as its error (`crmend._rims`)."""

TYPICAL_SIGMA = 0.9
"""Of a Gaussian that stands for a point in an image whose PSF is not known [px]."""

_NEAR, _FAR = 4, 8
# Half widths [px] of the window where a point is matched, and of that where its surroundings
# are measured.
_APART = 4.0  # Of two found within so many px the fainter one is left out.
_LEAST_SHARE = 0.5  # of the S/N that a point has without its two best pixels
_MISMATCH = 0.2  # part of the point's own value that counts as its error
_MOST_RATIO = 2.5  # sum of squares per pixel of the match, however much says that it is a star


def find_hidden(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    background: Surface,
    noise: float,
    candidates: NDArray[np.int64],
    psf: NDArray[np.float64] | None,
) -> SourceCatalog:
    """Find point sources centred on CR pixels.

    Parameters
    ----------
    image : (ny, nx) float32 array
        In any linear unit.  CR pixels hold what was observed, NaN = not known.
    cr_mask, excluded : (ny, nx) bool arrays
        True = cosmic ray; True = invalid or saturated: no light is looked for in either.
    background : Surface
        In the image's unit.
    noise : float
        Of the background, in the image's unit.
    candidates : (m,) int64 array
        Flat indices of the CR pixels that may be a centre.
    psf : (k, 4) float64 array or None
        See `crmend._psf.measure_psf`.

    Returns
    -------
    SourceCatalog
        The highest S/N first; `npix` is 0, `peak` that of the point.
    """
    known = np.array([[1.0, TYPICAL_SIGMA**2, 0.0, TYPICAL_SIGMA**2]]) if psf is None else psf
    point = np.empty((2 * _NEAR + 1, 2 * _NEAR + 1), dtype=np.float32)
    draw_source(np.eye(1, N)[0], known, POINT, point)
    found = np.zeros((candidates.size, 7))
    levels = background.of(*np.divmod(candidates, image.shape[1]))
    rim = measure_rim(image, cr_mask, excluded, levels, noise, candidates)
    _match(image, cr_mask, excluded, levels, noise, candidates, point, rim, found)
    flux, snr, misfit = found[:, :3].T
    rest, should = found[:, 3:5].T
    no_rim = (found[:, 5:] > LEAST_BESIDE_RIM).all(axis=1)
    believed = (snr > LEAST_SNR) & (misfit < _MOST_RATIO) & (rest > _LEAST_SHARE * should)
    believed &= (rest > LEAST_REST) | no_rim
    kept = np.flatnonzero(believed)
    kept = kept[np.argsort(-snr[kept], kind="stable")]
    y, x = np.divmod(candidates[kept], image.shape[1])
    chosen = _apart(np.stack([x, y], axis=1).astype(np.float64))
    kept, x, y = kept[chosen], x[chosen].astype(np.float64), y[chosen].astype(np.float64)
    axis = math.sqrt(float(known[:, 0] @ np.sqrt(known[:, 1] * known[:, 3])))
    size, own = np.full(kept.size, axis), flux[kept] * noise
    return SourceCatalog(
        x=x, y=y, flux=own, a=size, b=size.copy(), theta=np.zeros(kept.size),
        npix=np.zeros(kept.size, dtype=np.int64), peak=own * float(point[_NEAR, _NEAR]),
    )  # fmt: skip


def _apart(places: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of places that have no earlier one near."""
    if len(places) == 0:
        return np.empty(0, dtype=np.intp)
    near = cKDTree(places).query_ball_point(places, _APART)
    taken = np.zeros(len(places), dtype=bool)
    for i, others in enumerate(near):
        taken[i] = not any(taken[j] for j in others if j < i)
    return np.flatnonzero(taken)


@njit
def _match(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    levels: NDArray[np.float32],
    noise: float,
    candidates: NDArray[np.int64],
    point: NDArray[np.float32],
    rim: float,
    found: NDArray[np.float64],
) -> None:
    """Write what a point at every candidate has.

    Its flux [noise], S/N, sum of squares per pixel, S/N without its two best pixels, what the
    S/N without them should be, and both S/N where charge beside a pixel counts as its error.
    """
    ny, nx = image.shape
    for k in range(candidates.size):
        row, column = candidates[k] // nx, candidates[k] % nx
        background = levels[k]
        matched = weight = shares = 0.0
        for j in range(max(-_NEAR, -row), min(_NEAR + 1, ny - row)):
            for i in range(max(-_NEAR, -column), min(_NEAR + 1, nx - column)):
                if not (cr_mask[row + j, column + i] or excluded[row + j, column + i]):
                    value = (image[row + j, column + i] - background) / noise
                    share = point[_NEAR + j, _NEAR + i]
                    matched += share * value
                    weight += share * share
                    shares += share
        if weight <= 0.0 or matched < LEAST_SNR * math.sqrt(weight):
            continue
        total, count = 0.0, 0
        for j in range(max(-_FAR, -row), min(_FAR + 1, ny - row)):
            for i in range(max(-_FAR, -column), min(_FAR + 1, nx - column)):
                if max(abs(i), abs(j)) <= _NEAR:
                    continue
                if not (cr_mask[row + j, column + i] or excluded[row + j, column + i]):
                    value = (image[row + j, column + i] - background) / noise
                    # Neighbours count little.
                    total += min(max(value, -3.0), 3.0)
                    count += 1
        around = total / count if count else 0.0
        matched -= around * shares
        if not matched > 0.0:
            continue
        flux = matched / weight
        found[k, 0] = flux
        found[k, 1] = matched / math.sqrt(weight)
        level = background + around * noise
        _, rest, should = _snr(
            image, cr_mask, excluded, row, column, level, noise, flux, point, 0.0
        )
        told, rest_told, _ = _snr(
            image, cr_mask, excluded, row, column, level, noise, flux, point, rim
        )
        found[k, 3:] = rest, should, told, rest_told
        squares, count = 0.0, 0
        for j in range(max(-2, -row), min(3, ny - row)):
            for i in range(max(-2, -column), min(3, nx - column)):
                if not (cr_mask[row + j, column + i] or excluded[row + j, column + i]):
                    value = (image[row + j, column + i] - background) / noise - around
                    model = flux * point[_NEAR + j, _NEAR + i]
                    variance = 1.0 + PHOTONS * max(model, 0.0) + (_MISMATCH * model) ** 2
                    squares += (value - model) ** 2 / variance
                    count += 1
        found[k, 2] = squares / max(count, 1)


@njit
def _snr(
    image: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
    row: int,
    column: int,
    level: float,
    noise: float,
    flux: float,
    point: NDArray[np.float32],
    rim: float,
) -> tuple[float, float, float]:
    """Return a point's S/N, that without its two best pixels, and what this should be.

    A pixel's error is its noise and `rim` of the charge beside it, in quadrature.
    """
    ny, nx = image.shape
    matched = weight = 0.0
    first = second = first_weight = second_weight = 0.0
    for j in range(max(-_NEAR, -row), min(_NEAR + 1, ny - row)):
        for i in range(max(-_NEAR, -column), min(_NEAR + 1, nx - column)):
            y, x = row + j, column + i
            if cr_mask[y, x] or excluded[y, x]:
                continue
            charge = 0.0
            if rim > 0.0:
                charge = charge_beside(image, cr_mask, excluded, y, x, level, noise)
            share = point[_NEAR + j, _NEAR + i]
            own_weight = share * share / (1.0 + (rim * charge) ** 2)
            own = own_weight * ((image[y, x] - level) / noise) / share if share > 0.0 else 0.0
            matched += own
            weight += own_weight
            if own > first:
                second, second_weight = first, first_weight
                first, first_weight = own, own_weight
            elif own > second:
                second, second_weight = own, own_weight
    rest = weight - first_weight - second_weight
    if rest <= 0.0:
        return 0.0, 0.0, 0.0
    without = (matched - first - second) / math.sqrt(rest)
    return matched / math.sqrt(weight), without, flux * math.sqrt(rest)
