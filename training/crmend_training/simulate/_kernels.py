"""Compiled loops of the simulator: stamps and wings of sources.

All of them add to, or change, an array given by the caller.
"""

from __future__ import annotations

import math

from crmend_training.simulate._numba import njit


@njit
def add_stamps(image, library, which, x, y, flux, half):
    """Add sources from a library of pixel-convolved profiles, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    library : (n, phases, phases, size, size) float32 array
        Unit-flux stamps at sub-pixel phases, the source near the central pixel; `size`
        is odd.  Phase p puts the source at (p + 0.5) / phases − 0.5 of the pixel.
    which, half : (m,) int64 arrays
        Index into the library; half width in pixels to draw, <= size // 2.
    x, y, flux : (m,) float64 arrays
        0-based pixel coordinates and total flux in the image's unit.
    """
    ny, nx = image.shape
    phases = library.shape[1]
    centre = library.shape[3] // 2
    for i in range(x.size):
        column, row = math.floor(x[i] + 0.5), math.floor(y[i] + 0.5)
        px = min(phases - 1, int((x[i] + 0.5 - column) * phases))
        py = min(phases - 1, int((y[i] + 0.5 - row) * phases))
        stamp = library[which[i], py, px]
        h = half[i]
        h2 = (h + 0.5) ** 2
        for j in range(max(0, row - h), min(ny, row + h + 1)):
            for k in range(max(0, column - h), min(nx, column + h + 1)):
                if (j - row) ** 2 + (k - column) ** 2 <= h2:
                    image[j, k] += flux[i] * stamp[j - row + centre, k - column + centre]


@njit
def add_wings(image, profile, which, shear, x, y, flux, inner, outer):
    """Add the far wings of bright stars outside their stamps, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    profile : (radius,) float64 array
        Unit-flux surface brightness at whole pixels of radius.
    which : (m,) int64 array
        Row of `shear` that belongs to each star.
    shear : (n, 2) float64 array
        Reduced shear g1, g2 of the profile.
    x, y, flux : (m,) float64 arrays
    inner : int
        Half width of the stamps: pixels that `add_stamps` draws are left out.
    outer : (m,) int64 array
        Radius in pixels, <= profile.size - 2.
    """
    ny, nx = image.shape
    inner2 = (inner + 0.5) ** 2
    for i in range(x.size):
        g1, g2 = shear[which[i], 0], shear[which[i], 1]
        norm = 1.0 / math.sqrt(1.0 - g1 * g1 - g2 * g2)
        column, row = math.floor(x[i] + 0.5), math.floor(y[i] + 0.5)
        for j in range(max(0, row - outer[i]), min(ny, row + outer[i] + 1)):
            for k in range(max(0, column - outer[i]), min(nx, column + outer[i] + 1)):
                if (j - row) ** 2 + (k - column) ** 2 <= inner2:
                    continue
                dx, dy = k - x[i], j - y[i]
                u = norm * ((1.0 - g1) * dx - g2 * dy)
                v = norm * (-g2 * dx + (1.0 + g1) * dy)
                r = math.sqrt(u * u + v * v)
                whole = int(r)
                if whole < outer[i]:
                    part = r - whole
                    value = (1.0 - part) * profile[whole] + part * profile[whole + 1]
                    image[j, k] += flux[i] * value
