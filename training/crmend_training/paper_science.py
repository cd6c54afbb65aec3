"""Figure 5: known CRs on four representative sources, contaminated, median-filtered, mended.

The sources have the types and the magnitudes of the paper's four panels.  They are drawn into a
simulated frame without CRs; the CRs are isolated ones of another simulated exposure of the same
detector, 0 to 15 px from the source's centre (paper, section 2.3).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmend import _normalise
from crmend_training import classical_fills
from crmend_training.closure import Frame, expose_catalog
from crmend_training.datasets.frames import make_frame
from crmend_training.datasets.inpainting import CUTOUT, frame_psf
from crmend_training.datasets.science_files import ScienceSource
from crmend_training.datasets.science_rays import CosmicRayClip, isolated_clips, place_clips
from crmend_training.evaluate_mending import kron_fluxes, magnitude
from crmend_training.mending_frames import HitFrame
from crmend_training.mending_science import Runtime, inpaint, score_cases
from crmend_training.paper_values import REPRESENTATIVE
from crmend_training.simulate import SimulationConfig
from crmend_training.simulate.bands import FULL_SHAPE
from crmend_training.simulate.catalog import draw_catalog
from crmend_training.simulate.setups import csst_setup

MEDIAN_FILTER = "5×5 median"
"""The conventional median filter; the paper does not give its size.  5×5 is deepCR's."""

METHODS = {"contaminated": "contaminated", MEDIAN_FILTER: "median filter", "ours": "mended"}
"""Names in `mending_science`, and here."""

_PITCH = 160  # px from source to source
_QUIET = 20.0  # px around a source without another, assumed
_SHAPE = (1024, 1024)  # in fields of the Galactic plane: their stars tell the PSF
_EXCLUDED = 1 | 2 | 8  # bad, hot, saturated
_TRIES = 20
_FEW = 5


def measure_science(
    frame: HitFrame, seed: int, count: int = 100, threads: int | None = None
) -> dict[str, Any]:
    """Inject CRs of a frame into the representative sources; measure Δmag of every method.

    Parameters
    ----------
    frame : HitFrame
        Whose CRs are used; their masks are the true ones.
    seed : int
        Of the sources' frame and of the places.
    count : int
        CRs per source, or as many isolated ones as the frame has.
    threads : int or None
        Of the network.

    Returns
    -------
    dict
        ``detector``; ``sources`` (type, mag, ``offset``: CR-free − catalogue magnitude, and
        the stamp ``clean`` in units of its noise); ``cases``, one per source, CR and method,
        with ``kron`` = Δmag against the same stamp without the CR, ``distance`` [px] and
        ``energy`` [e-].

    Raises
    ------
    ValueError
        The frame has no isolated CR.
    """
    detector = int(frame.detector)
    rng = np.random.default_rng([seed, detector])
    sources = representative_sources(rng, detector, seed)
    clips = choose_clips(rng, frame, count)
    fills, errors = classical_fills.load_fills([MEDIAN_FILTER])
    assert not errors, errors  # it needs numpy only
    runtime = Runtime(partial(inpaint, threads=threads), detect=None)
    rows = [
        row
        for source in sources
        for row in score_cases(place_clips(rng, source, clips), fills, runtime)
    ]
    names = ("type", "mag", "distance", "energy", "kron")
    cases = [
        {"method": METHODS[row["method"]]} | {name: _short(row[name]) for name in names}
        for row in rows
        if row["method"] in METHODS
    ]
    described = [_describe(source) for source in sources]
    return {"detector": detector, "crs": len(clips), "sources": described, "cases": cases}


def representative_sources(
    rng: np.random.Generator, detector: int, seed: int
) -> list[ScienceSource]:
    """Return the sources of `paper_values.REPRESENTATIVE` on a detector, without CRs.

    Raises
    ------
    RuntimeError
        Every frame tried has a bad pixel on a source.
    """
    for attempt in range(_TRIES):
        config = SimulationConfig(
            detector, _SHAPE, seed=seed + attempt, field="plane", cr_rate=0.0
        )
        catalog = planted_catalog(rng, config)
        frame = expose_catalog(config, catalog)
        planted = catalog[: len(REPRESENTATIVE)]
        ignore = (frame.flag & _EXCLUDED) != 0
        if not any(ignore[_window(row, 6)].any() for row in planted):
            psf = _psf_without(frame, ignore, planted)
            return [_cut_out(frame, ignore, row, config, psf) for row in planted]
    raise RuntimeError(
        f"detector {detector}: every one of {_TRIES} frames has a bad pixel on a source's core"
    )


def planted_catalog(rng: np.random.Generator, config: SimulationConfig) -> NDArray[np.void]:
    """Return the representative sources, then a field's own away from them.

    Each has the shape of a source of its type and of like magnitude on a full chip, of five the
    most compact: the 64×64 stamp is to hold it.
    """
    sky = csst_setup(np.random.default_rng(0), config).sky_model
    whole = draw_catalog(rng, FULL_SHAPE, sky, margin=0)
    planted = np.concatenate([_nearest(whole, *wanted) for wanted in REPRESENTATIVE])
    planted["mag"] = [wanted for _, wanted in REPRESENTATIVE]
    planted["flux"] = 10.0 ** (0.4 * (sky.zero_point - planted["mag"]))
    for number, row in enumerate(planted):
        corner = (np.array(config.shape) - 2 * _PITCH) / 2
        cell = (np.array(divmod(number, 2)) + 0.5) * _PITCH
        place = corner + cell + rng.uniform(-8.0, 8.0, 2)
        row["y"], row["x"] = place
    field = draw_catalog(rng, config.shape, sky)
    apart = np.hypot(*(np.subtract.outer(field[axis], planted[axis]) for axis in "xy"))
    return np.concatenate([planted, field[apart.min(axis=1) > _QUIET]])


def choose_clips(rng: np.random.Generator, frame: HitFrame, count: int) -> list[CosmicRayClip]:
    """Return isolated CRs of a frame, evenly over its energies, faintest first.

    Raises
    ------
    ValueError
        There is none.
    """
    added = np.where(frame.excluded, 0, frame.image - frame.clean)
    clips = isolated_clips(added, frame.truth, frame.excluded, 3 * count, rng)
    if not clips:
        raise ValueError(
            f"a frame of detector {frame.detector}, {frame.image.shape} px, holds no isolated "
            "cosmic ray; expected one at least, so take a larger frame (--size)"
        )
    clips.sort(key=lambda clip: clip.energy)
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).astype(int)
    return [clips[k] for k in chosen]


def _nearest(catalog: NDArray[np.void], kind: str, wanted: float) -> NDArray[np.void]:
    """Return one row: the most compact of the few of a type whose magnitudes are nearest."""
    own = catalog[catalog["type"] == kind]
    own = own[np.argsort(np.abs(own["mag"] - wanted), kind="stable")[:_FEW]]
    return own[[own["r_half"].argmin()]]


def _window(row: np.void, half: int) -> tuple[slice, slice]:
    """Return the pixels around a source, `half` to the right of and above its own too."""
    y, x = (int(np.floor(row[axis] + 0.5)) for axis in "yx")
    return np.s_[y - half : y + half + 1, x - half : x + half + 1]


def _psf_without(
    frame: Frame, ignore: NDArray[np.bool_], planted: NDArray[np.void]
) -> NDArray[np.float64]:
    """Return the PSF of the stars that were not planted; without a row if they are too few."""
    nothing = np.zeros(ignore.shape, np.float32)
    level1 = make_frame(frame.image, ignore, np.zeros_like(ignore), nothing, "")
    places = [(float(row["x"]), float(row["y"])) for row in planted]
    psf = frame_psf(level1, without=places)
    return np.empty((0, 4)) if psf is None else psf


def _cut_out(
    frame: Frame,
    ignore: NDArray[np.bool_],
    row: np.void,
    config: SimulationConfig,
    psf: NDArray[np.float64],
) -> ScienceSource:
    """Return the stamp of one source."""
    scale = _normalise.measure_scale(frame.image, ignore)
    rows, columns = _window(row, CUTOUT // 2)
    window = slice(rows.start, rows.stop - 1), slice(columns.start, columns.stop - 1)
    return ScienceSource(
        clean=frame.image[window].copy(),
        ignore=ignore[window].copy(),
        detector=config.detector,
        band=config.band.name,
        file="",
        kind=str(row["type"]),
        x=float(row["x"]),
        y=float(row["y"]),
        magnitude=float(row["mag"]),
        wanted=float(row["mag"]),
        zero_point=config.band.zero_point,
        noise=scale.noise,
        background=scale.background,
        unit="e-/s",
        psf=psf,
    )


def _describe(source: ScienceSource) -> dict[str, Any]:
    """Return what the report says and shows of a source."""
    data = (source.clean - np.float32(source.background)).astype(np.float32)
    place = np.array([source.stamp_x]), np.array([source.stamp_y])
    kron = magnitude(kron_fluxes(data, source.noise, *place))[0] + source.zero_point
    return {
        "type": source.kind,
        "mag": source.magnitude,
        "offset": _short(float(kron) - source.magnitude),
        "clean": np.round(data / source.noise, 2).tolist(),
    }


def _short(value: Any) -> Any:
    """Return a number with five significant decimals, None for NaN."""
    if not isinstance(value, float):
        return value
    return round(value, 5) if np.isfinite(value) else None
