"""Full frames mended by every method, and what is measured on them.

A frame is hit by its own cosmic rays; more rounds move what they added to Level 1 by random
shifts, so that other sources are hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

import crmend
from crmend._normalise import measure_scale
from crmend_training.classical_fills import Fill, fill_groups, groups_near, prepared
from crmend_training.datasets import LABEL_THRESHOLD, Pair, read_clean, read_truth
from crmend_training.evaluate import hit_sources
from crmend_training.evaluate_mending import (
    APERTURE,
    aperture_fluxes,
    ellipticities,
    grown,
    kron_fluxes,
    magnitude,
)

LEAST_SNR = 20.0
"""Of a source in the 5 px circle, as the bars of the mending evaluation ask."""

MASKS = ("true", "drawn", "drawn +1 px")
"""CR truth > 1 e-; as detection draws it; that one grown by a pixel."""

_EDGE = 16.0  # px: sources nearer to the frame's edge are left out
_NEAR = 32  # px: half width of the squares in which sources are measured


@dataclass(frozen=True, eq=False)
class HitFrame:
    """A simulated exposure with CRs, and the same without; images in the exposure's unit.

    ``background`` is the smooth background of the CR-free image, ``excluded`` holds bad, hot
    and saturated pixels, ``catalog`` the stars and galaxies, ``zero_point`` is the magnitude of
    one unit and ``electrons`` the charge of one unit [e-].
    """

    detector: str
    image: NDArray[np.float32]
    clean: NDArray[np.float32]
    truth: NDArray[np.float32]
    error: NDArray[np.float32] | None
    invalid: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    background: NDArray[np.float32]
    noise: float
    electrons: float
    zero_point: float
    catalog: Table

    @property
    def excluded(self) -> NDArray[np.bool_]:
        """True = bad, hot or saturated."""
        return self.invalid | self.saturated

    @property
    def true_mask(self) -> NDArray[np.bool_]:
        """True = CR > 1 e-, where a pixel could be mended."""
        return (self.truth > LABEL_THRESHOLD) & ~self.excluded


@dataclass(frozen=True, eq=False)
class Mended:
    """One mask and what became of the frame: images by method, ours with error and method.

    ``filled`` holds the masked pixels that the classical fills filled; elsewhere their images
    are ours.
    """

    mask: NDArray[np.bool_]
    images: dict[str, NDArray[np.float32]]
    error: NDArray[np.float32]
    method: NDArray[np.uint8]
    filled: NDArray[np.bool_]


def read_frame(pair: Pair) -> HitFrame:
    """Read a pair with its CR-free twin and catalogue.

    Raises
    ------
    FileNotFoundError
        It has no twin or no catalogue.
    """
    if pair.clean is None or pair.catalog is None:
        raise FileNotFoundError(
            f"{pair.level1.name} has no CR-free twin (NCR) or no catalogue (CAT); "
            "simulate with --keep-clean"
        )
    exposure = crmend.read_exposure(pair.level1)
    clean = read_clean(pair, exposure.image.shape)
    excluded = exposure.invalid | exposure.saturated
    unusable = excluded | ~np.isfinite(clean)
    smooth = sep.Background(np.where(unusable, 0.0, clean).astype(np.float32), mask=unusable)
    table = Table.read(pair.catalog, hdu=1)
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    return HitFrame(
        detector=str(exposure.detector),
        image=exposure.image,
        clean=clean,
        truth=read_truth(pair, exposure.image.shape),
        error=exposure.error,
        invalid=exposure.invalid,
        saturated=exposure.saturated,
        background=smooth.back(dtype=np.float32),
        noise=measure_scale(clean, unusable).noise,
        electrons=float(exposure.electrons_per_unit or 1.0),
        zero_point=float(exposure.header["ZP"]),
        catalog=table[(kinds == "star") | (kinds == "galaxy")],
    )


def rounds_of(frame: HitFrame, rounds: int, rng: np.random.Generator) -> Iterator[HitFrame]:
    """Yield the frame as it is, then with its CRs shifted at random, `rounds` in all."""
    yield frame
    known = ~frame.excluded
    added = np.where(known, frame.image - frame.clean, 0).astype(np.float32)
    truth = np.where(known, frame.truth, 0).astype(np.float32)
    for _ in range(rounds - 1):
        shift = tuple(int(rng.integers(n // 8, n - n // 8)) for n in frame.image.shape)
        image = frame.clean + np.roll(added, shift, (0, 1))
        yield replace(frame, image=image, truth=np.roll(truth, shift, (0, 1)))


def masks_of(frame: HitFrame, names: Sequence[str] = MASKS) -> dict[str, NDArray[np.bool_]]:
    """Return masks of `MASKS`; none holds a bad, hot or saturated pixel."""
    masks = {"true": frame.true_mask}
    if set(names) - {"true"}:
        masks["drawn"] = crmend.detect(
            frame.image,
            detector=frame.detector,
            invalid=frame.invalid,
            saturated=frame.saturated,
            electrons_per_unit=frame.electrons,
        ).cr_mask
        masks["drawn +1 px"] = grown(masks["drawn"], 1) & ~frame.excluded
    return {name: masks[name] for name in names}


def mend(
    frame: HitFrame,
    mask: NDArray[np.bool_],
    fills: dict[str, Fill],
    near: NDArray[np.bool_] | None = None,
) -> Mended:
    """Mend a frame by ours and by the fills given; ``masked`` leaves the masked light out.

    Parameters
    ----------
    frame : HitFrame
    mask : (ny, nx) bool array
        True = mend.
    fills : dict
        From `classical_fills.load_fills`.
    near : (ny, nx) bool array or None
        Where the fills are looked at: groups of masked pixels that have none there are spared
        them, which changes nothing there.  None = everywhere.
    """
    done = crmend.inpaint(
        frame.image,
        mask,
        detector=frame.detector,
        invalid=frame.invalid,
        saturated=frame.saturated,
        error=frame.error,
    )
    images = {
        "contaminated": frame.image,
        "masked": np.where(mask, frame.background, frame.image),
        "ours": done.image,
    }
    filled = mask if near is None else groups_near(mask, near)
    base = prepared(frame.image, frame.invalid & ~mask, float(np.median(frame.background)))
    for name, fill in fills.items():
        images[name] = np.where(filled, fill_groups(fill, base, mask, only=filled), done.image)
    return Mended(mask, images, done.error, done.method, filled)


# --- sources --------------------------------------------------------------------------


def usable_sources(frame: HitFrame) -> Table:
    """Return catalogue sources with S/N > 20 that can be measured at all.

    No bad or saturated pixel and no brighter source within 5 px, 16 px off the edges.  Columns
    added: ``snr``, ``half_light`` [px], the radius with half the light of 10 px on the CR-free
    image.
    """
    ny, nx = frame.clean.shape
    table = frame.catalog
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    inside = (x > _EDGE) & (y > _EDGE) & (x < nx - 1 - _EDGE) & (y < ny - 1 - _EDGE)
    table, x, y = table[inside], x[inside], y[inside]
    if len(table) == 0:
        return table
    data = without_background(frame, frame.clean)
    # Not more than the catalogue's: the rest is the light of a neighbour.
    flux = np.minimum(aperture_fluxes(data, x, y), np.asarray(table["flux"], float))
    area = np.pi * APERTURE**2
    variance = np.maximum(flux, 0.0) / frame.electrons + area * frame.noise**2
    table["snr"] = flux / np.sqrt(variance)
    table["half_light"], _ = sep.flux_radius(data, x, y, np.full(x.size, 10.0), 0.5, subpix=5)
    kept = (table["snr"] > LEAST_SNR) & ~hit_sources(frame.excluded, x, y)
    return table[np.asarray(kept) & _brightest(x, y, np.asarray(table["mag"], float))]


def _brightest(x: NDArray, y: NDArray, mag: NDArray) -> NDArray[np.bool_]:
    """Return which sources have no brighter one within the aperture."""
    tree = cKDTree(np.column_stack([x, y]))
    alone = np.ones(x.size, bool)
    for i, j in tree.query_pairs(APERTURE):
        alone[i if mag[i] > mag[j] else j] = False
    return alone


def hit_table(frame: HitFrame, table: Table) -> Table:
    """Return the sources that a true CR pixel hits within 5 px.

    Column added: ``inside``, whether one does within the half-light radius.
    """
    if len(table) == 0:
        return table
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    hit = hit_sources(frame.true_mask, x, y)
    own = table[hit]
    inner = np.maximum(np.asarray(own["half_light"], float), 1.0)
    own["inside"] = hit_sources(frame.true_mask, x[hit], y[hit], inner)
    return own


def near_sources(frame: HitFrame, table: Table) -> NDArray[np.bool_]:
    """Return True in the squares of 65×65 px around sources: all that is measured of them."""
    near = np.zeros(frame.clean.shape, bool)
    for x, y in zip(table["x"], table["y"], strict=True):
        row, column = round(float(y)), round(float(x))
        near[
            max(row - _NEAR, 0) : row + _NEAR + 1, max(column - _NEAR, 0) : column + _NEAR + 1
        ] = True
    return near


def score_sources(
    frame: HitFrame, table: Table, hits: Table, mended: dict[str, Mended]
) -> list[dict]:
    """Return one row per source that is hit.

    ``aperture`` and ``kron`` hold measured − catalogue magnitude by "mask: method" and
    "CR-free", with the median difference of CR-free sources of its type and size taken off
    (the light outside of the aperture); ``shape`` holds e1, e2.

    Parameters
    ----------
    frame : HitFrame
    table : Table
        From `usable_sources`.
    hits : Table
        From `hit_table`: those that are measured; all or some.
    mended : dict
        By name of the mask.
    """
    if len(hits) == 0:
        return []
    near = near_sources(frame, hits)
    losses = _losses(frame, table, hits)
    measured = {"CR-free": _measure(frame, hits, frame.clean, near, losses)}
    for name, one in mended.items():
        for method, image in one.images.items():
            # The same image whatever the mask.
            if method != "contaminated" or name == "true":
                measured[f"{name}: {method}"] = _measure(frame, hits, image, near, losses)
    rows = []
    for i, source in enumerate(hits):
        row = {name: _plain(source[name]) for name in ("type", "mag", "snr", "x", "y")}
        row |= {"detector": frame.detector, "inside": bool(source["inside"])}
        for name in ("aperture", "kron"):
            row[name] = {key: float(one[name][i]) for key, one in measured.items()}
        row["shape"] = {key: one["shape"][i].tolist() for key, one in measured.items()}
        rows.append(row)
    return rows


def _measure(
    frame: HitFrame,
    hits: Table,
    image: NDArray[np.float32],
    near: NDArray[np.bool_],
    losses: dict[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Return measured − catalogue magnitudes, less what such sources miss, and shapes."""
    x, y = (np.asarray(hits[name], float) for name in ("x", "y"))
    data = without_background(frame, image)
    expected = np.asarray(hits["mag"], float) - frame.zero_point
    kron = magnitude(kron_fluxes(data, frame.noise, x, y, near))
    return {
        "aperture": magnitude(aperture_fluxes(data, x, y)) - expected - losses["aperture"],
        "kron": kron - expected - losses["kron"],
        "shape": ellipticities(data, x, y),
    }


def _losses(frame: HitFrame, table: Table, hits: Table) -> dict[str, NDArray[np.float64]]:
    """Return how much of their light the CR-free sources like those that are hit miss [mag].

    Of all sources, hit or not.
    """
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    data = without_background(frame, frame.clean)
    expected = np.asarray(table["mag"], float) - frame.zero_point
    fluxes = {
        "aperture": aperture_fluxes(data, x, y),
        "kron": kron_fluxes(data, frame.noise, x, y),
    }
    own = np.isin(np.asarray(table["id"]), np.asarray(hits["id"]))
    return {
        name: _offsets(table, magnitude(flux) - expected)[own] for name, flux in fluxes.items()
    }


def _offsets(table: Table, differences: NDArray) -> NDArray[np.float64]:
    """Return the median difference over sources of the same type and of like size.

    Those are the 15 nearest in half-light radius of the catalogue; of stars, all.
    """
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    result = np.zeros(differences.size)
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        values = differences[own]
        middle = np.nanmedian(values) if np.isfinite(values).any() else 0.0
        if kind == "star":
            result[own] = middle
            continue
        order = np.argsort(np.asarray(table["r_half"], float)[own])
        known = np.where(np.isfinite(values), values, middle)[order]
        result[own[order]] = ndimage.median_filter(known, size=15, mode="reflect")
    return result


def without_background(frame: HitFrame, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image without the CR-free background, bad pixels zero."""
    data = np.where(frame.invalid, 0, image - frame.background)
    return np.ascontiguousarray(np.nan_to_num(data), dtype=np.float32)


def _plain(value):
    """Return a table's entry as a Python value."""
    return str(value).strip() if isinstance(value, str | np.str_) else float(value)
