"""A source's light as a fitted model: the best first guess for what a hole in it held.

With the frame's PSF (`crmend._psf`) a point and a disk are fitted, without it a Moffat profile
(`crmend._fit`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crmend._fit import DISK, HALF_WIDTHS, MOFFAT, POINT, SKY, N, draw_source, fit_source

FADE = (6.0, 9.0)
"""Inside the first radius [px] a hole is filled with the profile, outside the second as
before, and with a mixture in between."""

RING = 12.0
"""Beyond this radius [px] a cutout shows what its source stands on."""

RISE = 0.1
"""How freely, as a part of the median there: a prior, which hundreds of pixels outweigh where
they agree on more."""

CEILING = 30.0
"""Largest peak, over the brightest pixel that is not lost, plus ten times the noise."""

CEILING_OF_STARS = 300.0
"""The same of stars whose light beside the hole is as the PSF says."""

RIM, RIM_FACTOR = 5.0, 2.0
"""Such light: its brightest pixel, at least [noise]; by how much the profile's may differ."""

STAR = (1.2, 5.0, 3.0)
"""A source is a star if the point's sum of squares is below a × the disk's + b, where points
and disks are mixed half and half; c is how fast that changes.  A point has five numbers less,
and the PSF is not quite the same everywhere (from 36 frames that no report uses; LOG.md)."""

POOR, STAR_IF_POOR = (225.0, 450.0), 1.6
"""Where even the disk's sum of squares is between these or above, some 150 pixels are fitted by
neither: the PSF has rings, say, that Gaussians have not.  A disk, with its five numbers more,
fits such a star's wings better, and loses its core; a of `STAR` grows to this."""


def fit_profiles(
    stamps: NDArray[np.float32],
    cr_mask: NDArray[np.bool_],
    psf: NDArray[np.float64],
    profiles: NDArray[np.float32],
    saturated: NDArray[np.bool_] | None = None,
) -> None:
    """Fit the source in the middle of each cutout and fill its lost pixels, in place.

    A plain loop over the compiled fits: compiled itself, it would hold all of their code once
    more, and take seconds to compile.

    Parameters
    ----------
    stamps : (n, ny, nx) float32 array
        In units of the background noise, background removed, finite; lost pixels hold a
        first guess.  Those around the middle are filled from the profile (`FADE`).
    cr_mask : (n, ny, nx) bool array
        True = lost.
    psf : (k, 4) float64 array
        See `crmend._psf.measure_psf`: a point and a disk are fitted.  With k = 0 it is not
        known: a Moffat profile is.
    profiles : (n, ny, nx) float32 array
        Filled with the profiles, without background.
    saturated : (n, ny, nx) bool array or None
        True = not looked at either, but kept.
    """
    ny, nx = stamps.shape[1:]
    radius = np.hypot(*np.ogrid[-(ny // 2) : ny - ny // 2, -(nx // 2) : nx - nx // 2])
    share = np.clip((FADE[1] - radius) / (FADE[1] - FADE[0]), 0.0, 1.0)
    near, far = radius < FADE[1], radius >= RING
    found = np.empty(N)
    unseen = cr_mask if saturated is None else cr_mask | saturated
    for stamp, hole, lost, profile in zip(stamps, cr_mask, unseen, profiles, strict=True):
        around = stamp[far & ~lost]
        # Where the sky rises to somewhere, the source may stand on as much.
        sky = max(SKY, RISE * abs(float(np.median(around)))) if around.size else SKY
        star = 0.0
        if len(psf):
            background, star = _fit_both(stamp, lost, psf, sky, found, profile)
        else:
            fit_source(stamp, lost, psf, MOFFAT, found, sky)
            draw_source(found, psf, MOFFAT, profile)
            background = float(found[7])
        if not _believable(stamp, hole, profile, star > 0.5):
            profile[:] = 0.0
            continue
        filled = hole & near
        part = share[filled]
        stamp[filled] = part * (profile[filled] + background) + (1.0 - part) * stamp[filled]


def _fit_both(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    psf: NDArray[np.float64],
    sky: float,
    found: NDArray[np.float64],
    profile: NDArray[np.float32],
) -> tuple[float, float]:
    """Write a point, a disk, or their mixture; return the background, and the point's share."""
    point = np.empty_like(profile)
    as_point = fit_source(stamp, lost, psf, POINT, found, sky)
    draw_source(found, psf, POINT, point)
    background = found[7]
    as_disk = fit_source(stamp, lost, psf, DISK, found, sky)
    draw_source(found, psf, DISK, profile)
    poor = min(max((as_disk - POOR[0]) / (POOR[1] - POOR[0]), 0.0), 1.0)
    factor = STAR[0] + poor * (STAR_IF_POOR - STAR[0])
    doubt = (as_point - factor * as_disk - STAR[1]) / STAR[2]
    star = 1.0 / (1.0 + math.exp(min(max(doubt, -50.0), 50.0)))
    profile[:] = star * point + (1.0 - star) * profile
    return float(star * background + (1.0 - star) * found[7]), star


def _believable(
    stamp: NDArray[np.float32],
    lost: NDArray[np.bool_],
    profile: NDArray[np.float32],
    is_star: bool,
) -> bool:
    """Say whether a profile is positive, finite, and not far above all that is left.

    The core of a star may be: what is left of its light says how bright it was.
    """
    row, column = (n // 2 for n in stamp.shape)
    reach = min(max(HALF_WIDTHS), row, column, *(n - 1 - n // 2 for n in stamp.shape))
    window = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
    top, rim = (
        max(0.0, float(np.max(light[window], where=~lost[window], initial=0.0)))
        for light in (stamp, profile)
    )
    ceiling = CEILING
    if is_star and top > RIM and top < RIM_FACTOR * rim and rim < RIM_FACTOR * top:
        ceiling = CEILING_OF_STARS
    return 0.0 < float(profile[window].max()) <= ceiling * (top + 10.0)
