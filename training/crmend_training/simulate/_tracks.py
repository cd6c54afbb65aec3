"""Compiled loops that follow charged particles through the silicon.

Lengths in µm inside the silicon, pixels on the image.  All add charge in place, and all
book what they add in the row of the event: see `BOOK`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from crmend_training.simulate._numba import njit

BOOK = ("charge", "charge_x", "charge_y", "length", "angle", "kind")
"""Columns of an event's row: charge that reached the frame [e-], its sums weighted with x
and y [e- px], projected length [px], angle [rad], and index into `KINDS`."""

KINDS = ("track", "delta", "electron", "ion")
"""Straight crossing; crossing that knocked out electrons with a path of their own; electron
that came from elsewhere; heavy ion."""

PAPER_BORDER = 100
PARTICLE_BORDER = 320
"""Width and height by which the area where events fall exceeds the frame [px].  Positions
are those of the middle of a track, so half of it is the longest reach over an edge."""

_LONGEST = 320.0
"""Longest projected track of the physical law [px]; 1 in 10⁴ of isotropic tracks through
32 µm with 10 µm pixels is longer and drawn again."""

_STEP = 2.0
"""Step along a track [µm]."""

_MIP = 80.0
"""Most probable charge of a minimum-ionising particle per path [e-/µm]: the usual figure."""

_WIDTH = 0.55
"""FWHM over most probable charge of a 20 µm path, and its fall with the path to the power
−0.2: assumed, close to the thin-layer spectra of Bichsel 1988 (Rev. Mod. Phys. 60, 663)."""

_MOYAL_FWHM = 3.586
"""FWHM of the standard Moyal law."""

_GRAIN = 0.3
"""Moyal width of the charge of one step over its mean: how much a track flickers; assumed."""

_DELTA_START = 8.0
"""Energy from which a delta ray is followed [keV]; slower ones stop within 1 µm."""

_DELTA_END = 300.0
"""Highest energy of a delta ray [keV]; assumed, about that of a 150 MeV proton."""

_XI = 0.0178
"""0.1535 MeV cm²/g · Z/A · density of silicon, in keV/µm: a fast particle knocks out _XI / T
delta rays per µm above T keV (Rutherford scattering)."""

_PAIR = 0.00365
"""Energy that frees one electron in silicon [keV]."""

_ELECTRON_MASS = 511.0
_RADIATION_LENGTH = 93_600.0
"""Of silicon [µm] (Particle Data Group)."""


class Medium(NamedTuple):
    """The slab as the kernels see it: `cosmic_rays.Slab` says what the numbers mean."""

    thickness: float
    pixel: float
    near: float
    far: float


@njit
def deposit(charge, book, x, y, amount, sigma):
    """Add a Gaussian charge packet, integrated over pixels, in place.

    Parameters
    ----------
    charge : (ny, nx) float32 array
        [e-].
    book : (6,) float64 array
        Row of the event: what falls on the frame is booked in its first three columns.
    x, y : float
        Centre [px, 0-based].
    amount : float
        Charge [e-].
    sigma : float
        [px].
    """
    ny, nx = charge.shape
    reach = 4.5 * sigma
    first_x, last_x = math.floor(x - reach + 0.5), math.floor(x + reach + 0.5)
    first_y, last_y = math.floor(y - reach + 0.5), math.floor(y + reach + 0.5)
    if last_x < 0 or last_y < 0 or first_x >= nx or first_y >= ny:
        return
    scale = 1.0 / (math.sqrt(2.0) * sigma)
    below_y = math.erf((first_y - 0.5 - y) * scale)
    for j in range(first_y, last_y + 1):
        above_y = math.erf((j + 0.5 - y) * scale)
        in_row = 0.25 * amount * (above_y - below_y)
        below_y = above_y
        if j < 0 or j >= ny:
            continue
        below_x = math.erf((first_x - 0.5 - x) * scale)
        for k in range(first_x, last_x + 1):
            above_x = math.erf((k + 0.5 - x) * scale)
            part = in_row * (above_x - below_x)
            below_x = above_x
            if 0 <= k < nx:
                charge[j, k] += part
                book[0] += part
                book[1] += part * k
                book[2] += part * j


@njit
def add_paper_events(rng, charge, book, lengths, energies, diffusion, on_grid, angles=None):
    """Add straight tracks of even charge, at random positions and angles.

    Parameters
    ----------
    rng : numpy.random.Generator
    charge : (ny, nx) float32 array
        [e-].
    book : (n, 6) float64 array
        Zeros; filled.
    lengths, energies : (n,) float64 arrays
        [px], [e-].
    diffusion : float
        Sigma [px].
    on_grid : bool
        True frees the charge in the middle of each pixel that a track meets, one pixel per
        row or column; False all along the track.
    angles : (n,) float64 array or None
        [rad]; None = random ones.
    """
    ny, nx = charge.shape
    for i in range(lengths.size):
        angle = rng.random() * 2.0 * math.pi if angles is None else angles[i]
        x = rng.random() * (nx + PAPER_BORDER) - 0.5 * (PAPER_BORDER + 1)
        y = rng.random() * (ny + PAPER_BORDER) - 0.5 * (PAPER_BORDER + 1)
        if on_grid:
            steps = int(lengths[i] * max(abs(math.cos(angle)), abs(math.sin(angle)))) + 1
        else:
            steps = int(lengths[i] / 0.2) + 1
        dx = lengths[i] / steps * math.cos(angle)
        dy = lengths[i] / steps * math.sin(angle)
        # Tracks start half their length before (x, y): edges see as many as the middle.
        x -= 0.5 * (steps - 1) * dx
        y -= 0.5 * (steps - 1) * dy
        for _ in range(steps):
            px = math.floor(x + 0.5) if on_grid else x
            py = math.floor(y + 0.5) if on_grid else y
            deposit(charge, book[i], px, py, energies[i] / steps, diffusion)
            x += dx
            y += dy
        book[i, 3], book[i, 4] = lengths[i], angle


@njit
def add_particles(rng, charge, book, shares, medium):
    """Add particles of all kinds at random positions.

    Parameters
    ----------
    rng : numpy.random.Generator
    charge : (ny, nx) float32 array
        [e-].
    book : (n, 6) float64 array
        Zeros; one row per particle, filled.
    shares : (float, float, float)
        Of crossings, electrons and ions, sum 1.
    medium : Medium
    """
    ny, nx = charge.shape
    for i in range(book.shape[0]):
        x = (rng.random() * (nx + PARTICLE_BORDER) - 0.5 * (PARTICLE_BORDER + 1)) * medium.pixel
        y = (rng.random() * (ny + PARTICLE_BORDER) - 0.5 * (PARTICLE_BORDER + 1)) * medium.pixel
        kind = rng.random()
        if kind < shares[0]:
            _crossing(rng, charge, book[i], x, y, medium)
        elif kind < shares[0] + shares[1]:
            # 0.5 to 800 keV, log-uniform (assumed): X-rays' electrons to hard secondaries.
            energy = 0.5 * 1600.0 ** rng.random()
            depth = rng.random() * medium.thickness
            cosine = 2.0 * rng.random() - 1.0
            azimuth = 2.0 * math.pi * rng.random()
            end_x, end_y = _electron(
                rng, charge, book[i], (x, y, depth), (cosine, azimuth), energy, medium
            )
            book[i, 3] = math.hypot(end_x - x, end_y - y) / medium.pixel
            book[i, 4] = math.atan2(end_y - y, end_x - x) % (2.0 * math.pi)
            book[i, 5] = 2.0
        else:
            _heavy_ion(rng, charge, book[i], x, y, medium)


@njit
def _packet(charge, book, x, y, depth, amount, medium):
    """Deposit the charge freed at one point of the slab, diffused by its depth."""
    part = min(max(depth / medium.thickness, 0.0), 1.0)
    # Drift through a constant field: the variance grows with the way to the electrodes.
    variance = medium.near**2 + (medium.far**2 - medium.near**2) * part
    deposit(charge, book, x / medium.pixel, y / medium.pixel, amount, math.sqrt(variance))


@njit
def moyal(rng):
    """Return a number of the standard Moyal law (most probable value 0)."""
    normal = rng.standard_normal()
    return -math.log(max(normal * normal, 1e-30))


@njit
def _direction(rng, medium):
    """Return the cosine of the incidence angle and the azimuth of an isotropic flux."""
    while True:
        # An isotropic flux crosses a plane with p(cos) ∝ cos.
        cosine = math.sqrt(1.0 - rng.random())
        tangent = math.sqrt(1.0 - cosine * cosine) / cosine
        if medium.thickness * tangent <= _LONGEST * medium.pixel:
            return cosine, 2.0 * math.pi * rng.random()


@njit
def path_charge(rng, path, loss):
    """Return the charge freed along a path, delta rays of long range left out [e-].

    Parameters
    ----------
    rng : numpy.random.Generator
    path : float
        [µm].
    loss : float
        Energy loss over that of a minimum-ionising particle.
    """
    # Slower particles lose more and scatter less about it.
    width = _WIDTH * (path / 20.0) ** -0.2 / _MOYAL_FWHM / math.sqrt(loss)
    return _MIP * loss * path * max(0.1, 1.0 + width * moyal(rng))


@njit
def _crossing(rng, charge, book, x, y, medium):
    """Follow an energetic particle straight through, with straggling and delta rays."""
    cosine, azimuth = _direction(rng, medium)
    sine = math.sqrt(1.0 - cosine * cosine)
    ux, uy = sine * math.cos(azimuth), sine * math.sin(azimuth)
    # Slower protons lose more: one in four, up to ten times as much (assumed).
    loss = 1.0
    if rng.random() < 0.25:
        loss = min((1.0 - rng.random()) ** -0.8, 10.0)
    path = medium.thickness / cosine
    steps = int(path / _STEP) + 1
    x -= 0.5 * path * ux
    y -= 0.5 * path * uy
    book[3], book[4] = path * sine / medium.pixel, azimuth
    weights = np.empty(steps)
    for i in range(steps):
        weights[i] = max(0.05, 1.0 + _GRAIN * moyal(rng))
    # The whole path's charge is drawn first, the steps share it: its law does not
    # depend on the step.
    per_weight = path_charge(rng, path, loss) / weights.sum()
    for i in range(steps):
        along = (i + rng.random()) * path / steps
        px, py, depth = x + along * ux, y + along * uy, along * cosine
        _packet(charge, book, px, py, depth, per_weight * weights[i], medium)
        if rng.random() < _XI * loss / _DELTA_START * path / steps:
            _delta(rng, charge, book, (px, py, depth), (ux, uy, cosine), medium)


@njit
def _delta(rng, charge, book, point, way, medium):
    """Knock out an electron: p(T) ∝ 1 / T², and the harder the more forward."""
    energy = _DELTA_START / (1.0 - rng.random() * (1.0 - _DELTA_START / _DELTA_END))
    along = math.sqrt(energy / (_DELTA_END + 2.0 * _ELECTRON_MASS))
    turn = 2.0 * math.pi * rng.random()
    # Any direction across the track will do: two unit vectors span the plane.
    flat = max(math.hypot(way[0], way[1]), 1e-9)
    ax, ay = -way[1] / flat, way[0] / flat
    bx, by, bz = -way[2] * ay, way[2] * ax, way[0] * ay - way[1] * ax
    across = math.sqrt(1.0 - along * along)
    c, s = across * math.cos(turn), across * math.sin(turn)
    vx, vy = along * way[0] + c * ax + s * bx, along * way[1] + c * ay + s * by
    vz = min(max(along * way[2] + s * bz, -1.0), 1.0)
    _electron(rng, charge, book, point, (vz, math.atan2(vy, vx)), energy, medium)
    book[5] = 1.0


@njit
def stopping_power(energy):
    """Return the energy loss of an electron in silicon [keV/µm] at an energy [keV].

    A fit to the Bethe formula (Berger and Seltzer 1982), 15 % between 10 and 500 keV.
    """
    return min(9.0, 0.95 * (energy / 50.0) ** -0.75 + 0.25)


@njit
def _electron(rng, charge, book, point, way, energy, medium):
    """Follow a slow electron: it curls up, and loses more the slower it gets.

    `point` is (x, y, depth) [µm], `way` (cosine to the normal, azimuth), `energy` in keV.
    Returns where it stops or leaves (x, y) [µm].
    """
    x, y, depth = point
    sine = math.sqrt(1.0 - way[0] * way[0])
    ux, uy, uz = sine * math.cos(way[1]), sine * math.sin(way[1]), way[0]
    while energy > 0.5:
        if depth < 0.0 or depth > medium.thickness:
            # About half leave; half are scattered back by what lies around (assumed).
            if rng.random() < 0.5:
                break
            depth = -depth if depth < 0.0 else 2.0 * medium.thickness - depth
            depth = min(max(depth, 0.0), medium.thickness)
            uz = -uz
        loss = stopping_power(energy) * _STEP
        spent = min(energy, loss * max(0.2, 1.0 + 0.2 * (moyal(rng) - 1.27)))
        _packet(charge, book, x, y, depth, spent / _PAIR, medium)
        energy -= spent
        # Multiple scattering (Highland's form; the logarithm makes it about 0.6).
        kinetic = max(energy, 3.0)
        momentum = kinetic * (kinetic + 2.0 * _ELECTRON_MASS) / (kinetic + _ELECTRON_MASS)
        bend = min(0.6 * 13_600.0 / momentum * math.sqrt(_STEP / _RADIATION_LENGTH), 1.5)
        ux += bend * rng.standard_normal()
        uy += bend * rng.standard_normal()
        uz += bend * rng.standard_normal()
        norm = 1.0 / max(math.sqrt(ux * ux + uy * uy + uz * uz), 1e-9)
        ux, uy, uz = ux * norm, uy * norm, uz * norm
        x += _STEP * ux
        y += _STEP * uy
        depth += _STEP * uz
    return x, y


@njit
def _heavy_ion(rng, charge, book, x, y, medium):
    """Add the broad track of an ion: so much charge that it spreads by repulsion.

    Six to 200 times a minimum-ionising particle (charge squared: helium is 4, iron 676);
    the law of the spread is assumed.
    """
    cosine, azimuth = _direction(rng, medium)
    cosine = max(cosine, 0.2)
    length = medium.thickness / cosine * math.sqrt(1.0 - cosine * cosine)
    amount = _MIP * medium.thickness / cosine * 10.0 ** (0.8 + 1.5 * rng.random())
    growth = 1.0 + 0.25 * math.log(amount / 2000.0)
    spread = max(medium.far, min(1.5, medium.far * growth))
    ux, uy = math.cos(azimuth), math.sin(azimuth)
    steps = int(length / (0.5 * medium.pixel)) + 1
    for i in range(steps):
        along = ((i + 0.5) / steps - 0.5) * length
        px, py = (x + along * ux) / medium.pixel, (y + along * uy) / medium.pixel
        deposit(charge, book, px, py, 0.97 * amount / steps, spread)
        deposit(charge, book, px, py, 0.03 * amount / steps, 2.0 * spread)
    book[3], book[4], book[5] = length / medium.pixel, azimuth, 3.0
