"""Compiled loops that follow charged particles through the silicon.

Lengths in µm inside the silicon, pixels on the image.  All add charge in place.
"""

from __future__ import annotations

import math

from numba import njit

from crmend_training.simulate._kernels import deposit

BORDER = 100
"""Width and height by which the area where paper events fall exceeds the frame [px]."""

_STEP = 2.0
"""Step along a track [µm]."""

_MIP = 60.0
"""Most probable charge of a minimum-ionising particle in one step [e-/µm]; with the tail of
the law the most probable value of a whole crossing of 16–40 µm is about 80 e-/µm."""

_STRAGGLING = 0.3
"""Moyal width over most probable charge in one step; it makes a crossing of 20 µm vary by
about half (FWHM), as Bichsel's thin-layer spectra do."""

_HARDEST_STEP = 25.0
"""Most charge of a step over its most probable one; harder losses are delta rays."""


@njit(cache=True, nogil=True)
def add_paper_events(rng, charge, lengths, energies, diffusion):
    """Add straight tracks of even charge, at random positions and angles."""
    ny, nx = charge.shape
    for i in range(lengths.size):
        angle = rng.random() * 2.0 * math.pi
        x = rng.random() * (nx + BORDER) - 0.5 * (BORDER + 1)
        y = rng.random() * (ny + BORDER) - 0.5 * (BORDER + 1)
        steps = int(lengths[i] / 0.2) + 1
        dx = lengths[i] / steps * math.cos(angle)
        dy = lengths[i] / steps * math.sin(angle)
        # Tracks start half their length before (x, y): edges see as many as the middle.
        x -= 0.5 * (steps - 1) * dx
        y -= 0.5 * (steps - 1) * dy
        for _ in range(steps):
            deposit(charge, x, y, energies[i] / steps, diffusion)
            x += dx
            y += dy


@njit(cache=True, nogil=True)
def add_particles(rng, charge, target, thickness, pixel, near, far):
    """Add particles of all kinds until `target` pixels hold at least half an electron.

    Parameters
    ----------
    rng : numpy.random.Generator
    charge : (ny, nx) float32 array
    target : int
    thickness, pixel : float
        Of the slab and of a pixel [µm].
    near, far : float
        Diffusion sigma [px] at the electrodes and at the far side.
    """
    ny, nx = charge.shape
    reached = 0
    while reached < target:
        x = (rng.random() * (nx + 60.0) - 30.5) * pixel
        y = (rng.random() * (ny + 60.0) - 30.5) * pixel
        kind = rng.random()
        if kind < 0.70:
            reached += _crossing(rng, charge, x, y, thickness, pixel, near, far)
        elif kind < 0.994:
            # Secondary electrons and Compton electrons born anywhere in the slab.
            energy = 5.0 * 160.0 ** rng.random()
            depth = rng.random() * thickness
            reached += _electron(rng, charge, x, y, depth, energy, thickness, pixel, near, far)
        else:
            reached += _heavy_ion(rng, charge, x, y, thickness, pixel, far)


@njit(cache=True, nogil=True)
def _packet(charge, x, y, depth, amount, thickness, pixel, near, far):
    """Deposit the charge freed at one point of the slab, diffused by its depth."""
    sigma = near + (far - near) * math.sqrt(min(max(depth / thickness, 0.0), 1.0))
    return deposit(charge, x / pixel, y / pixel, amount, sigma)


@njit(cache=True, nogil=True)
def _moyal(rng):
    """Return a number of the standard Moyal law (most probable value 0)."""
    normal = rng.standard_normal()
    return -math.log(max(normal * normal, 1e-30))


@njit(cache=True, nogil=True)
def _crossing(rng, charge, x, y, thickness, pixel, near, far):
    """Follow an energetic particle straight through, with straggling and delta rays."""
    # An isotropic flux crosses a plane with p(cos) ∝ cos.
    cosine = max(math.sqrt(rng.random()), 0.005)
    angle = 2.0 * math.pi * rng.random()
    sine = math.sqrt(1.0 - cosine * cosine)
    # Slower protons lose more: one in four, up to ten times a minimum-ionising particle.
    loss = _MIP
    if rng.random() < 0.25:
        loss *= min((1.0 - rng.random()) ** -0.8, 10.0)
    path = thickness / cosine
    steps = int(path / _STEP) + 1
    step = path / steps
    reached = 0
    for i in range(steps):
        along = (i + rng.random()) * step
        depth = along * cosine
        px, py = x + along * sine * math.cos(angle), y + along * sine * math.sin(angle)
        amount = loss * step * max(0.05, 1.0 + _STRAGGLING * _moyal(rng))
        amount = min(amount, _HARDEST_STEP * loss * step)
        reached += _packet(charge, px, py, depth, amount, thickness, pixel, near, far)
        if rng.random() < step / 400.0:
            energy = min(4.0 / (1.0 - rng.random()), 200.0)
            reached += _electron(
                rng, charge, px, py, depth, energy, thickness, pixel, near, far
            )
    return reached


@njit(cache=True, nogil=True)
def _electron(rng, charge, x, y, depth, energy, thickness, pixel, near, far):
    """Follow a slow electron [keV]: it curls up, and loses more the slower it gets."""
    angle = 2.0 * math.pi * rng.random()
    cosine = 2.0 * rng.random() - 1.0
    reached = 0
    while energy > 0.5:
        if depth < 0.0 or depth > thickness:
            # Half of them leave; half are scattered back by what lies around.
            if rng.random() < 0.5:
                break
            depth = -depth if depth < 0.0 else 2.0 * thickness - depth
            cosine = -cosine
        # Stopping power of silicon for electrons: about 1 keV/µm at 50 keV, E^-0.75.
        loss = min(9.0, 0.95 * (energy / 50.0) ** -0.75 + 0.25)
        spent = min(energy, loss * _STEP * max(0.2, 1.0 + 0.2 * _moyal(rng)))
        # 3.65 eV free one electron.
        reached += _packet(charge, x, y, depth, spent / 0.00365, thickness, pixel, near, far)
        energy -= spent
        # Multiple scattering, rms angle about 0.2 rad per µm^0.5 at 100 keV.
        bend = 0.2 * math.sqrt(_STEP) * (100.0 / max(energy, 3.0)) ** 0.8
        angle += bend * rng.standard_normal()
        cosine = min(max(cosine + 0.5 * bend * rng.standard_normal(), -1.0), 1.0)
        sine = math.sqrt(1.0 - cosine * cosine)
        x += _STEP * sine * math.cos(angle)
        y += _STEP * sine * math.sin(angle)
        depth += _STEP * cosine
    return reached


@njit(cache=True, nogil=True)
def _heavy_ion(rng, charge, x, y, thickness, pixel, far):
    """Add the broad track of an ion: so much charge that it spreads by repulsion."""
    cosine = max(math.sqrt(rng.random()), 0.2)
    angle = 2.0 * math.pi * rng.random()
    length = thickness / cosine * math.sqrt(1.0 - cosine * cosine)
    amount = _MIP * thickness / cosine * (10.0 ** (0.8 + 1.5 * rng.random()))
    spread = max(far, min(1.5, far * (1.0 + 0.25 * math.log(amount / 2000.0))))
    steps = int(length / (0.5 * pixel)) + 1
    reached = 0
    for i in range(steps):
        along = (i + 0.5) / steps * length
        px = (x + along * math.cos(angle)) / pixel
        py = (y + along * math.sin(angle)) / pixel
        reached += deposit(charge, px, py, 0.97 * amount / steps, spread)
        reached += deposit(charge, px, py, 0.03 * amount / steps, 2.0 * spread)
    return reached
