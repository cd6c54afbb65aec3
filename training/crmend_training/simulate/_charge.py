"""Compiled loops of the detector: shot noise, repulsion, bleeding, charge transfer.

All of them change an array given by the caller.
"""

from __future__ import annotations

import math

import numpy as np

from crmend_training.simulate._numba import njit


@njit
def poisson_from_normal(expected, deviate):
    """Replace expected counts by Poisson counts, one normal deviate per pixel, in place.

    The count is the Poisson quantile at the deviate's probability.  A pixel's count so
    depends on its own deviate only, and a change in one pixel leaves all others alone.
    Below 20 the cumulative sum is searched; above, the Cornish–Fisher expansion of the
    smooth variable that rounds to the count (variance λ − 1/12, the third and fourth
    cumulants close to λ) is rounded.

    Parameters
    ----------
    expected : (ny, nx) float32 array
        Counts; negative ones are taken as 0.
    deviate : (ny, nx) float32 array
        Standard normal.
    """
    ny, nx = expected.shape
    for j in range(ny):
        for k in range(nx):
            mean, z = float(expected[j, k]), float(deviate[j, k])
            if mean <= 0.0:
                expected[j, k] = 0.0
            elif mean < 20.0:
                goal = 0.5 * math.erfc(-z * math.sqrt(0.5))
                term = math.exp(-mean)
                total = term
                count = 0
                while total < goal and count < 200:
                    count += 1
                    term *= mean / count
                    total += term
                expected[j, k] = count
            else:
                variance = mean - 1.0 / 12.0
                skew = mean / variance
                shift = skew * (z * z - 1.0) / 6.0
                bend = (z - z * z * z) / (72.0 * math.sqrt(variance))
                count = round(mean + math.sqrt(variance) * z + shift + bend)
                expected[j, k] = max(0, count)


@njit
def repel(light, strength, limit):
    """Move collected light out of bright pixels into fainter neighbours, in place.

    First order of Antilogus et al. (2014): the boundary between two pixels moves away from
    the fuller one by `strength` times the difference of their charges.  While the charge
    grows steadily from nothing, a quarter of `strength` times the difference of the squares
    crosses it.  No charge passes the edges of the array.

    Parameters
    ----------
    light : (ny, nx) float32 array
        Charge, or charge per second with `strength` and `limit` to match.
    strength : float
        Pixels per unit of charge.
    limit : float
        A pixel repels no more than this charge does: the full well.
    """
    ny, nx = light.shape
    below, here, above = np.zeros(nx), np.zeros(nx), np.zeros(nx)
    for k in range(nx):
        here[k] = min(float(light[0, k]), limit) ** 2
    for j in range(ny):
        for k in range(nx):
            above[k] = min(float(light[j + 1, k]), limit) ** 2 if j + 1 < ny else here[k]
            if j == 0:
                below[k] = here[k]
        for k in range(nx):
            left = here[k - 1] if k > 0 else here[k]
            right = here[k + 1] if k + 1 < nx else here[k]
            gained = below[k] + above[k] + left + right - 4.0 * here[k]
            light[j, k] += 0.25 * strength * gained
        below, here, above = here, above, below


@njit
def bleed(charge, full_well):
    """Spill charge above the full well up and down its column, in place.

    Half of the excess goes each way and fills the pixels it meets up to the full well;
    what passes the edge of the chip is lost.

    Parameters
    ----------
    charge : (ny, nx) float32 array
        e-.
    full_well : float
        e-.
    """
    ny, nx = charge.shape
    peak = np.zeros(nx, dtype=np.float32)
    for j in range(ny):
        for k in range(nx):
            peak[k] = max(peak[k], charge[j, k])
    excess = np.zeros(ny)
    for k in range(nx):
        if peak[k] <= full_well:
            continue
        for j in range(ny):
            excess[j] = max(0.0, charge[j, k] - full_well)
            if excess[j] > 0.0:
                charge[j, k] = full_well
        for up in range(2):
            carried = 0.0
            for step in range(ny):
                j = step if up else ny - 1 - step
                carried += 0.5 * excess[j]
                if carried > 0.0:
                    taken = min(carried, max(0.0, full_well - charge[j, k]))
                    charge[j, k] += taken
                    carried -= taken


@njit
def transfer(charge, filled, transfers, traps, kept):
    """Pass one charge packet by the traps on its way; return what arrives.

    Traps first free what decayed since the packet before, then catch until those that the
    packet's volume reaches are filled: Short et al. (2013, MNRAS 430, 3078) with capture
    much faster than a transfer, and all transfers of a packet taken in one step.

    Parameters
    ----------
    charge : float
        e-.
    filled : (n,) float64 array
        Electrons held by each species in all pixels on the way; changed in place.
    transfers : float
        Number of pixels on the way.
    traps : (n + 2,) float64 array
        Traps per pixel of each species, then the full well [e-] and the power of it that
        gives a packet's volume.
    kept : (n,) float64 array
        Share of its electrons that a species still holds after one transfer.
    """
    n = kept.size
    for s in range(n):
        freed = filled[s] * (1.0 - kept[s])
        filled[s] -= freed
        charge += freed
    if charge <= 0.0:
        return charge
    part = min(1.0, charge / traps[n])
    volume = math.sqrt(part) if traps[n + 1] == 0.5 else part ** traps[n + 1]
    density = 0.0
    for s in range(n):
        density += traps[s]
    # No more can be caught than there is: the packet shrinks while it fills the traps.
    scarce = 1.0 / (1.0 + transfers * density * volume / charge)
    for s in range(n):
        room = transfers * traps[s] * volume - filled[s]
        if room > 0.0:
            caught = room * scarce
            filled[s] += caught
            charge -= caught
    return charge


@njit
def trail_columns(charge, upwards, step, traps, kept):
    """Read a block of rows through its parallel traps, in place.

    Parameters
    ----------
    charge : (ny, nx) float32 array
        e-.
    upwards : bool
        The amplifiers are beyond the last row; otherwise before the first.
    step : float
        Transfers from one row to the next.
    traps, kept : float64 arrays
        See `transfer`.
    """
    ny, nx = charge.shape
    filled = np.zeros((nx, kept.size))
    for i in range(ny):
        j = ny - 1 - i if upwards else i
        for k in range(nx):
            charge[j, k] = transfer(charge[j, k], filled[k], (i + 1) * step, traps, kept)


@njit
def trail_rows(charge, step, traps, kept):
    """Read a block of columns through its serial traps, in place.

    The amplifier is before the first column; each row finds the traps empty.  Parameters
    as in `trail_columns`.
    """
    ny, nx = charge.shape
    filled = np.zeros(kept.size)
    for j in range(ny):
        filled[:] = 0.0
        for k in range(nx):
            charge[j, k] = transfer(charge[j, k], filled, (k + 1) * step, traps, kept)
