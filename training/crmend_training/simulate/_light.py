"""Compiled loops of the simulator's light: spikes, lines, discs and large galaxies.

All of them add to an array given by the caller.
"""

from __future__ import annotations

import math

import numpy as np

from crmend_training.simulate._numba import njit


@njit
def add_spikes(image, x, y, flux, shape, inner, outer):
    """Add the diffraction spikes of bright stars outside their stamps, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    x, y, flux : (m,) float64 arrays
    shape : (5,) float64 array
        Number of spikes, share of the light in all of them, direction of the first [rad],
        length scale [px], sigma across [px]; the profile is `Psf.spike_brightness`.
    inner : int
        Half width of the stamps: pixels that `add_stamps` draws are left out.
    outer : (m,) int64 array
        Length in pixels.
    """
    ny, nx = image.shape
    n, share, first, reach, width = int(shape[0]), shape[1], shape[2], shape[3], shape[4]
    inner2 = (inner + 0.5) ** 2
    peak = share / n * 2.0 / (math.pi * reach) / (math.sqrt(2.0 * math.pi) * width)
    for i in range(x.size):
        column, row = math.floor(x[i] + 0.5), math.floor(y[i] + 0.5)
        for number in range(n):
            angle = first + 2.0 * math.pi * number / n
            c, s = math.cos(angle), math.sin(angle)
            steep = abs(s) > abs(c)
            # Walk along the axis that the spike is nearer to, and go across it.
            part = abs(s) if steep else abs(c)
            side = math.ceil(4.5 * width / part)
            for step in range(int(outer[i] * part) + 1):
                if steep:
                    j0 = row + (step if s > 0.0 else -step)
                    k0 = math.floor(x[i] + (j0 - y[i]) * c / s + 0.5)
                else:
                    k0 = column + (step if c > 0.0 else -step)
                    j0 = math.floor(y[i] + (k0 - x[i]) * s / c + 0.5)
                for t in range(-side, side + 1):
                    j, k = (j0, k0 + t) if steep else (j0 + t, k0)
                    if j < 0 or k < 0 or j >= ny or k >= nx:
                        continue
                    if (j - row) ** 2 + (k - column) ** 2 <= inner2:
                        continue
                    dx, dy = k - x[i], j - y[i]
                    along = dx * c + dy * s
                    if along > 0.0:
                        across = (dy * c - dx * s) / width
                        value = math.exp(-0.5 * across * across) / (1.0 + (along / reach) ** 2)
                        image[j, k] += flux[i] * peak * value


@njit
def add_line(image, mark, start, direction, along, across, step, limit, bit):
    """Add a straight line with a profile across and a brightness along it, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    mark : (ny, nx) int32 array
        `bit` is set where the line adds more than `limit`.
    start : (2,) float64 array
        x, y where the line begins [px].
    direction : (2,) float64 array
        Unit vector x, y.
    along : (n,) float64 array
        Flux per pixel of length, at whole pixels from `start`.
    across : (m,) float64 array
        Profile at `step` · index from the middle, its integral over both sides 1.
    step, limit : float
    bit : int
    """
    ny, nx = image.shape
    c, s = direction[0], direction[1]
    width = (across.size - 2) * step
    steep = abs(s) > abs(c)
    lines, places = (ny, nx) if steep else (nx, ny)
    part = abs(s) if steep else abs(c)
    side = math.ceil(width / part) + 1
    for line in range(lines):
        if steep:
            middle = start[0] + (line - start[1]) * c / s
        else:
            middle = start[1] + (line - start[0]) * s / c
        for place in range(
            max(0, math.floor(middle) - side),
            min(places, math.floor(middle) + side + 2),
        ):
            j, k = (line, place) if steep else (place, line)
            dx, dy = k - start[0], j - start[1]
            length = dx * c + dy * s
            distance = abs(dy * c - dx * s) / step
            whole, where = int(distance), math.floor(length)
            if whole >= across.size - 1 or where < 0 or where >= along.size - 1:
                continue
            f, g = distance - whole, length - where
            value = (1.0 - f) * across[whole] + f * across[whole + 1]
            value *= (1.0 - g) * along[where] + g * along[where + 1]
            image[j, k] += value
            if value > limit:
                mark[j, k] |= bit


@njit
def add_disc(image, mark, x, y, radius, hole, tilt, flux, limit, bit):
    """Add a defocused pupil: a disc or ring of even light, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    mark : (ny, nx) int32 array
        `bit` is set where the disc adds more than `limit`.
    x, y, radius : float
        Centre and outer radius [px].
    hole : float
        Inner over outer radius.
    tilt : (2,) float64 array
        Change of the brightness from the centre to the edge, along x and y.
    flux : float
        Of the whole disc.
    limit : float
    bit : int
    """
    ny, nx = image.shape
    inner = hole * radius
    level = flux / (math.pi * (radius * radius - inner * inner))
    reach = int(radius + 2.0)
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    for j in range(max(0, row - reach), min(ny, row + reach + 1)):
        for k in range(max(0, column - reach), min(nx, column + reach + 1)):
            r = math.sqrt((j - y) ** 2 + (k - x) ** 2)
            # Edges two pixels wide, half inside and half outside.
            cover = min(1.0, max(0.0, 0.5 * (radius + 1.0 - r)))
            if inner > 1.0:
                cover *= min(1.0, max(0.0, 0.5 * (r - inner + 1.0)))
            if cover > 0.0:
                slope = 1.0 + (tilt[0] * (k - x) + tilt[1] * (j - y)) / radius
                value = level * cover * slope
                image[j, k] += value
                if value > limit:
                    mark[j, k] |= bit


@njit
def _disk(u, v, q, shape):
    """Return the brightness of a disk with arms and dust, 1 in the centre without them.

    u, v are sky offsets along the major and minor axis; `shape` is as in `add_disk`.
    """
    scale, pitch, phase, arms = shape[0], shape[1], shape[2], shape[3]
    sharp, dust, band = shape[4], shape[5], shape[6]
    w = v / q
    r = math.sqrt(u * u + w * w)
    value = math.exp(-r / scale)
    if value < 1e-8:
        return 0.0
    if arms > 0.0 or dust > 0.0:
        inner = r / (0.5 * scale)
        # Arms begin outside the bulge.
        onset = inner * inner / (1.0 + inner * inner)
        turn = math.log(max(r, 0.3 * scale) / scale) / pitch
        psi = 2.0 * (math.atan2(w, u) - turn - phase)
        value *= 1.0 + arms * onset * math.exp(sharp * (math.cos(psi) - 1.0))
        lane = math.exp(2.0 * sharp * (math.cos(psi - 0.7) - 1.0))
        value *= math.exp(-dust * onset * lane)
    if band > 0.0:
        # Seen from the side, the dust of the mid-plane crosses in front, off the centre.
        height = (v - 0.25 * q * scale) / (0.12 * scale)
        value *= math.exp(-band * math.exp(-0.5 * height * height - abs(u) / (2.5 * scale)))
    return value


@njit
def disk_flux(q, shape, n):
    """Return the integral of `_disk` over the sky, from an n × n grid of ±10 scales."""
    step_u, step_v = 20.0 * shape[0] / n, 20.0 * shape[0] * q / n
    total = 0.0
    for j in range(n):
        for k in range(n):
            u, v = (
                (k + 0.5) * step_u - 10.0 * shape[0],
                (j + 0.5) * step_v - 10.0 * shape[0] * q,
            )
            total += _disk(u, v, q, shape)
    return total * step_u * step_v


@njit
def add_disk(image, x, y, angle, q, shape, flux, reach):
    """Add a large disk with spiral arms and dust lanes, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    x, y : float
    angle : float
        Of the major axis [rad].
    q : float
        Axis ratio.
    shape : (7,) float64 array
        Scale length [px], tangent of the pitch with its sense, phase of the arms [rad],
        contrast and sharpness of the arms, optical depth of the dust along the arms and of
        the mid-plane in front of an inclined disk.
    flux : float
        Over the integral `disk_flux`.
    reach : int
        Half width of the drawn square [px].
    """
    ny, nx = image.shape
    c, s = math.cos(angle), math.sin(angle)
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    for j in range(max(0, row - reach), min(ny, row + reach + 1)):
        for k in range(max(0, column - reach), min(nx, column + reach + 1)):
            dx, dy = k - x, j - y
            image[j, k] += flux * _disk(dx * c + dy * s, dy * c - dx * s, q, shape)


@njit
def add_bulge(image, x, y, angle, q, profile, flux, reach):
    """Add an elliptical bulge from a table of its radial profile, in place.

    Parameters
    ----------
    image : (ny, nx) float32 array
    x, y, angle, q : float
    profile : (n,) float64 array
        Brightness at radii (index / 8)² / 8 px of the major axis.
    flux : float
    reach : int
    """
    ny, nx = image.shape
    c, s = math.cos(angle), math.sin(angle)
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    for j in range(max(0, row - reach), min(ny, row + reach + 1)):
        for k in range(max(0, column - reach), min(nx, column + reach + 1)):
            dx, dy = k - x, j - y
            u, v = dx * c + dy * s, (dy * c - dx * s) / q
            place = 8.0 * math.sqrt(8.0 * math.sqrt(u * u + v * v))
            whole = int(place)
            if whole < profile.size - 1:
                part = place - whole
                value = (1.0 - part) * profile[whole] + part * profile[whole + 1]
                image[j, k] += flux * value


PROFILE_RADII = (np.arange(800) / 8.0) ** 2 / 8.0
"""Radii [px] of the profiles of `add_bulge`: dense in the middle, to 1247 px."""
