"""Cosmic rays as charge in the silicon, before saturation and read-out.

Two laws: the paper's (section 2: straight tracks, log-normal energies) and a physical
one (isotropic particles through a thin slab).  The kernels that follow the particles are
in `_tracks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from crmend_training.simulate._tracks import (
    BOOK,
    KINDS,
    PAPER_BORDER,
    PARTICLE_BORDER,
    Medium,
    add_paper_events,
    add_particles,
)

PAPER_RATE = 0.0075
"""Impact fraction of the paper: here, the number of pixels on the cores of all tracks over
the number of pixels, before diffusion."""

PAPER_LOG_ENERGY = (3.3, 0.6 / 2.3548)
"""Mean and sigma of log10 of an event's charge [e-]; the paper gives FWHM 0.6."""

EVENT_DTYPE = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("length", "f8"),
        ("angle", "f8"),
        ("energy", "f8"),
        ("kind", "U8"),
    ]
)
"""One particle: mean position of its charge on the frame [px, 0-based], projected length of
its whole path (an electron's: from its birth to its end) [px], angle from +x towards +y
[rad, 0 to 2 pi], charge on the frame [e-, before rounding], kind (one of `KINDS`)."""

LONGEST_SHARP = 10.0**1.9
"""Length of the longest sharp track [px], 79."""

_LONGEST = 100.0
"""Longest event of the paper's law [px] (paper, section 2)."""

_MANY_IONS = 0.06
"""Share of ions among the particles of the law ``physical-ions``."""

_PILOT_SHAPE = (1536, 1536)
_PILOT_EVENTS = 6000


@dataclass(frozen=True)
class PaperLaw:
    """What the paper leaves open of its law.

    With the defaults 0.75 % of pixels on cores become 2–3 % with charge, 1 e- pixels are about
    10 % of those, and the share of tracks among pixels falls steeply between 1 and 20 e-:
    chosen so that these agree with sections 1 and 4.1 of the paper.

    Attributes
    ----------
    length_shape : (float, float)
        Beta law of the event length over 0–100 px (the paper gives the range only).  The
        default has a mean of 1.5 px.
    diffusion : float
        Sigma [px] (paper, section 2).
    on_grid : bool
        True frees charge in the middle of pixels only and drops fractions of an electron.
        Then the four neighbours of a point get 0.6 % of its charge, 5–30 e-: where the
        paper sees its share of tracks and its recall fall.  That the official simulation
        works so is inferred from this, not published.  False frees charge anywhere and
        rounds: softer edges, closer to nature, no such fall (see `SUBPIXEL`).
    """

    length_shape: tuple[float, float] = (0.15, 10.0)
    diffusion: float = 0.2
    on_grid: bool = True


SUBPIXEL = PaperLaw(length_shape=(0.3, 8.0), on_grid=False)
"""The paper's numbers with tracks at any sub-pixel position: also 2–3 % of pixels with charge
and 1 e- pixels about 9 % of those, but tracks are most frequent near 100 e-/px."""


@dataclass(frozen=True)
class Slab:
    """The silicon that particles of the physical law cross, and what crosses it.

    Attributes
    ----------
    thickness : float
        Of the collecting layer [µm].
    pixel : float
        Pixel size [µm].
    diffusion : (float, float)
        Sigma [px] of charge freed next to the electrodes and at the far side.
    electrons, ions : float
        Shares of the particles; the others cross straight.  Assumed; 0 switches them off.
    """

    thickness: float
    pixel: float = 10.0
    diffusion: tuple[float, float] = (0.2, 0.45)
    electrons: float = 0.2
    ions: float = 0.006


@dataclass(frozen=True)
class Sharp:
    """Straight tracks and points that are sharper and brighter than those of both laws.

    For training: thin or cold detectors hardly diffuse charge, other materials free more of
    it, and tracks along rows or columns are few although they look like bad columns, bleeding
    and spectra.  All numbers are assumed.

    Attributes
    ----------
    events : float
        Per pixel of the frame.
    diffusion : float
        Sigma [px].
    charge : (float, float)
        Per pixel of path, log-uniform [e-].
    points : float
        Share of events shorter than a pixel.
    aligned : float
        Share of events nearly along the rows or columns.
    spread : float
        How far off those are, standard deviation [degree].
    shortest : float
        Least length of those that are no points [px], below `LONGEST_SHARP`.
    """

    events: float
    diffusion: float
    charge: tuple[float, float] = (100.0, 2e5)
    points: float = 0.5
    aligned: float = 0.4
    spread: float = 2.0
    shortest: float = 1.0


@dataclass(frozen=True)
class CosmicRays:
    """The cosmic rays of one exposure.

    Attributes
    ----------
    charge : (ny, nx) float32 array
        e-/px, whole electrons; see `draw_cosmic_rays` for the rounding.
    events : (n,) structured array of `EVENT_DTYPE`
        Every particle that left at least half an electron on the frame.
    """

    charge: NDArray[np.float32]
    events: NDArray[np.void]


def draw_cosmic_rays(
    rng: np.random.Generator,
    shape: tuple[int, int],
    law: str,
    rate: float | None = None,
    slab: Slab | None = None,
    paper: PaperLaw | None = None,
    sharp: Sharp | None = None,
) -> CosmicRays:
    """Draw the cosmic rays of one exposure.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    law : {"paper", "physical", "physical-ions"}
        The last is the physical law with ten times as many heavy ions, whose blobs are the
        hardest to tell from stars: for training.
    rate : float or None
        Expected fraction of pixels, see `SimulationConfig.cr_rate`: the number of events is
        a Poisson number.  None: `PAPER_RATE`, or log-uniform 0.0008–0.025.  0: none.
    slab : Slab or None
        For the physical law; None draws 16–40 µm of silicon with 10 µm pixels.
    paper : PaperLaw or None
        For the paper's law; None takes its defaults.
    sharp : Sharp or None
        Further events.

    Returns
    -------
    CosmicRays
        The physical law rounds the sum of all charge in a pixel to whole electrons; the
        paper's does as `PaperLaw.on_grid` says.
    """
    charge = np.zeros(shape, dtype=np.float32)
    if law == "paper":
        paper = paper or PaperLaw()
        book = _draw_paper(rng, charge, PAPER_RATE if rate is None else rate, paper)
        whole = np.floor if paper.on_grid else np.rint
    else:
        book, whole = _draw_physical(rng, charge, rate, slab, law), np.rint
    if sharp is not None:
        book = np.concatenate([book, _draw_sharp(rng, charge, sharp)])
    return CosmicRays(whole(charge, out=charge), _event_table(book))


def draw_sharp(
    rng: np.random.Generator, shape: tuple[int, int], sharp: Sharp
) -> NDArray[np.float32]:
    """Return the charge of sharp events alone, float32 of `shape`, in units of their charge.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
    sharp : Sharp
    """
    charge = np.zeros(shape, dtype=np.float32)
    _draw_sharp(rng, charge, sharp)
    return charge


def core_pixels_per_event(paper: PaperLaw) -> float:
    """Return the mean number of pixels on the core of a paper event, at least one.

    Parameters
    ----------
    paper : PaperLaw
    """
    if not paper.on_grid:
        longer = np.linspace(1.0, _LONGEST, 20_001)
        tail = beta.sf(longer / _LONGEST, *paper.length_shape)
        return 1.0 + float(np.trapezoid(tail, longer))
    # A track meets one pixel more than the whole pixels that it spans along x or along y.
    angles = (np.arange(64) + 0.5) * np.pi / 256
    whole = np.arange(1, int(_LONGEST) + 1)[:, None]
    spans = beta.sf(whole / np.cos(angles) / _LONGEST, *paper.length_shape)
    return 1.0 + float(spans.sum(axis=0).mean())


def _draw_paper(rng, charge, rate, paper):
    """Add the events of the paper's law, and return what `_tracks` books of them."""
    # Events fall on a border around the frame, too: half of a track may still cross it.
    ny, nx = charge.shape
    area = (ny + PAPER_BORDER) * (nx + PAPER_BORDER)
    n_events = rng.poisson(rate * area / core_pixels_per_event(paper))
    mean, sigma = PAPER_LOG_ENERGY
    lengths = _LONGEST * rng.beta(*paper.length_shape, n_events)
    energies = 10.0 ** rng.normal(mean, sigma, n_events)
    book = np.zeros((n_events, len(BOOK)))
    add_paper_events(rng, charge, book, lengths, energies, paper.diffusion, paper.on_grid)
    return book


def _draw_sharp(rng, charge, sharp):
    """Add sharp events, and return what `_tracks` books of them."""
    ny, nx = charge.shape
    n_events = rng.poisson(sharp.events * (ny + PAPER_BORDER) * (nx + PAPER_BORDER))
    is_point = rng.random(n_events) < sharp.points
    shortest, longest = np.log10([sharp.shortest, LONGEST_SHARP])
    lengths = 10.0 ** np.where(
        is_point, rng.uniform(-1.5, 0.0, n_events), rng.uniform(shortest, longest, n_events)
    )
    low, high = np.log10(sharp.charge)
    energies = 10.0 ** rng.uniform(low, high, n_events) * np.maximum(lengths, 1.0)
    along = 0.5 * np.pi * rng.integers(0, 4, n_events)
    along += np.radians(rng.normal(0.0, sharp.spread, n_events))
    angles = np.where(
        rng.random(n_events) < sharp.aligned, along, rng.uniform(0.0, 2.0 * np.pi, n_events)
    )
    book = np.zeros((n_events, len(BOOK)))
    add_paper_events(rng, charge, book, lengths, energies, sharp.diffusion, False, angles)
    return book


def _draw_physical(rng, charge, rate, slab, law):
    """Add the particles of the physical law, and return what `_tracks` books of them."""
    if rate is None:
        rate = float(np.exp(rng.uniform(np.log(0.0008), np.log(0.025))))
    if rate == 0.0:
        return np.zeros((0, len(BOOK)))
    slab = slab or _draw_slab(rng, law)
    # Footprints overlap: with n of s pixels on A pixels, exp(-n s / A) of them stay free.
    per_pixel = -np.log1p(-rate) / pixels_per_particle(slab)
    return _add_particles(rng, charge, per_pixel, slab)


def _add_particles(rng, charge, per_pixel, slab):
    """Add so many particles per pixel of the frame and its border."""
    ny, nx = charge.shape
    n_events = rng.poisson(per_pixel * (ny + PARTICLE_BORDER) * (nx + PARTICLE_BORDER))
    book = np.zeros((n_events, len(BOOK)))
    shares = (1.0 - slab.electrons - slab.ions, slab.electrons, slab.ions)
    medium = Medium(float(slab.thickness), float(slab.pixel), *map(float, slab.diffusion))
    add_particles(rng, charge, book, shares, medium)
    return book


@lru_cache(maxsize=256)
def pixels_per_particle(slab: Slab) -> float:
    """Return the mean number of pixels in which a particle leaves half an electron or more.

    Counted on particles of a fixed seed; it does not touch the stream of an exposure.

    Parameters
    ----------
    slab : Slab
    """
    charge = np.zeros(_PILOT_SHAPE, dtype=np.float32)
    # Fewer in thick silicon, where each takes longer to follow.
    per_pixel = _PILOT_EVENTS / max(1.0, slab.thickness / 25.0) / charge.size
    rng = np.random.default_rng(20_240_813)
    _add_particles(rng, charge, per_pixel, slab)
    return float(-np.log(np.mean(charge < 0.5)) / per_pixel)


def _event_table(book):
    """Return the booked events that left charge on the frame."""
    book = book[book[:, BOOK.index("charge")] >= 0.5]
    events = np.empty(len(book), dtype=EVENT_DTYPE)
    total = book[:, BOOK.index("charge")]
    events["x"] = book[:, BOOK.index("charge_x")] / total
    events["y"] = book[:, BOOK.index("charge_y")] / total
    events["length"] = book[:, BOOK.index("length")]
    events["angle"] = book[:, BOOK.index("angle")]
    events["energy"] = total
    events["kind"] = np.array(KINDS)[book[:, BOOK.index("kind")].astype(int)]
    return events


def _draw_slab(rng: np.random.Generator, law: str) -> Slab:
    near = rng.uniform(0.2, 0.25)
    return Slab(
        thickness=float(rng.uniform(16.0, 40.0)),
        diffusion=(float(near), float(rng.uniform(near, 0.45))),
        ions=_MANY_IONS if law == "physical-ions" else Slab.ions,
    )
