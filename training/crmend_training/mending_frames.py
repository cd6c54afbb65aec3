"""Full frames mended by every method, and what is measured on them.

A frame is hit by its own cosmic rays; more rounds move what they added to Level 1 by random
shifts, so that other sources are hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep
from astropy.table import Table
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

import crmend
from crmend._normalise import measure_scale
from crmend.sources import find_sources
from crmend_training.classical_fills import Fill, fill_groups, prepared
from crmend_training.datasets import LABEL_THRESHOLD, Pair, read_image
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
"""Of a source in the 5 px circle (issue 5)."""

MASKS = ("true", "drawn", "drawn +1 px")
"""CR truth > 1 e-; as detection draws it; that one grown by a pixel."""

MAGNITUDE_BINS = (0.0, 18.0, 20.0, 22.0, 24.0, 40.0)
"""Edges of the bins in which sigma is tested [mag]."""

_EDGE = 16.0  # px: sources nearer to the frame's edge are left out
_CROP = 20  # half width of the stamps that the contact sheet shows


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
    """One mask and what became of the frame: images by method, ours with error and method."""

    mask: NDArray[np.bool_]
    images: dict[str, NDArray[np.float32]]
    error: NDArray[np.float32]
    method: NDArray[np.uint8]


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
    clean = read_image(pair.clean)
    excluded = exposure.invalid | exposure.saturated
    unusable = excluded | ~np.isfinite(clean)
    smooth = sep.Background(np.where(unusable, 0.0, clean).astype(np.float32), mask=unusable)
    table = Table.read(pair.catalog, hdu=1)
    kinds = np.char.strip(np.asarray(table["type"]).astype(str))
    return HitFrame(
        detector=str(exposure.detector),
        image=exposure.image,
        clean=clean,
        truth=read_image(pair.truth),
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


def masks_of(frame: HitFrame) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of `MASKS`; none holds a bad, hot or saturated pixel."""
    drawn = crmend.detect(
        frame.image,
        detector=frame.detector,
        invalid=frame.invalid,
        saturated=frame.saturated,
    ).cr_mask
    masks = (frame.true_mask, drawn, grown(drawn, 1) & ~frame.excluded)
    return dict(zip(MASKS, masks, strict=True))


def mend(frame: HitFrame, mask: NDArray[np.bool_], fills: dict[str, Fill]) -> Mended:
    """Mend a frame by ours and by the fills given; ``masked`` leaves the masked light out."""
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
    base = prepared(frame.image, frame.invalid & ~mask, float(np.median(frame.background)))
    for name, fill in fills.items():
        images[name] = np.where(mask, fill_groups(fill, base, mask), frame.image)
    return Mended(mask, images, done.error, done.method)


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
    data = _without_background(frame, frame.clean)
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


def score_sources(
    frame: HitFrame, table: Table, mended: dict[str, Mended], crops: bool = False
) -> list[dict]:
    """Return one row per usable source that a true CR pixel hits within 5 px.

    ``aperture`` and ``kron`` hold measured − catalogue magnitude by "mask: method" and
    "CR-free", with the median difference of CR-free sources of its type and size taken off
    (the light outside of the aperture); ``shape`` holds e1, e2.

    Parameters
    ----------
    frame : HitFrame
    table : Table
        From `usable_sources`.
    mended : dict
        By name of the mask.
    crops : bool
        Add 40×40 images of the true mask's methods, in units of the noise.
    """
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    images = {"CR-free": frame.clean} | {
        f"{name}: {method}": image
        for name, one in mended.items()
        for method, image in one.images.items()
    }
    hit = hit_sources(frame.true_mask, x, y)
    inner = hit_sources(frame.true_mask, x, y, np.maximum(table["half_light"], 1.0))
    measured = _measure_all(frame, table, images, hit)
    rows = []
    for i in np.flatnonzero(hit):
        row = {name: _plain(table[name][i]) for name in ("type", "mag", "snr", "x", "y")}
        row |= {"detector": frame.detector, "inside": bool(inner[i])}
        for name in ("aperture", "kron"):
            row[name] = {key: float(one[name][i]) for key, one in measured.items()}
        row["shape"] = {key: one["shape"][i].tolist() for key, one in measured.items()}
        if crops:
            row["crops"] = _crops(frame, images, mended["true"].mask, x[i], y[i])
        rows.append(row)
    return rows


def _measure_all(
    frame: HitFrame, table: Table, images: dict[str, NDArray], hit: NDArray[np.bool_]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return `_measure` of every image, less what an aperture misses of like sources."""
    measured = {key: _measure(frame, table, image, hit) for key, image in images.items()}
    for name in ("aperture", "kron"):
        # Of all sources, hit or not.
        offsets = _offsets(table, measured["CR-free"][name])
        for one in measured.values():
            one[name] = one[name] - offsets
    return measured


def _measure(
    frame: HitFrame, table: Table, image: NDArray[np.float32], hit: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return measured − catalogue magnitudes, and shapes of the sources that are hit."""
    x, y = (np.asarray(table[name], float) for name in ("x", "y"))
    data = _without_background(frame, image)
    expected = np.asarray(table["mag"], float) - frame.zero_point
    shape = np.full((x.size, 2), np.nan)
    shape[hit] = ellipticities(data, x[hit], y[hit])
    return {
        "aperture": magnitude(aperture_fluxes(data, x, y)) - expected,
        "kron": magnitude(kron_fluxes(data, frame.noise, x, y)) - expected,
        "shape": shape,
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


def _without_background(frame: HitFrame, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image without the CR-free background, bad pixels zero."""
    data = np.where(frame.invalid, 0, image - frame.background)
    return np.ascontiguousarray(np.nan_to_num(data), dtype=np.float32)


def _crops(
    frame: HitFrame, images: dict, mask: NDArray, x: float, y: float
) -> dict[str, NDArray]:
    """Return stamps of the images of true masks around a source, in units of the noise."""
    row, column = max(round(y) - _CROP, 0), max(round(x) - _CROP, 0)
    window = np.s_[row : row + 2 * _CROP, column : column + 2 * _CROP]
    crops = {
        key.removeprefix("true: "): (image[window] - frame.background[window]) / frame.noise
        for key, image in images.items()
        if key == "CR-free" or key.startswith("true: ")
    }
    return crops | {"mask": mask[window].copy()}


def _plain(value):
    """Return a table's entry as a Python value."""
    return str(value).strip() if isinstance(value, str | np.str_) else float(value)


# --- pixels -----------------------------------------------------------------------------


def sky_mask(frame: HitFrame) -> NDArray[np.bool_]:
    """Return True far from every source of the CR-free image (seven of sep's axes, 3 px)."""
    clean = prepared(frame.clean, frame.invalid, float(np.median(frame.background)))
    found = find_sources(clean, invalid=frame.invalid, noise=frame.noise)
    touched = np.zeros(clean.shape, bool)
    axis = np.maximum(found.a, 0.5) + 0.5
    sep.mask_ellipse(touched, found.x, found.y, axis, axis, np.zeros(axis.size), r=7.0)
    # Faint sources of the catalogue, which sep does not find.
    bright = np.asarray(frame.catalog["flux"], float) > 5.0 * frame.noise
    x, y = (np.asarray(frame.catalog[name], float)[bright] for name in ("x", "y"))
    sep.mask_ellipse(touched, x, y, np.full(x.size, 1.0), np.full(x.size, 1.0), 0 * x, r=6.0)
    return ~touched & ~frame.excluded & np.isfinite(frame.clean)


def pixel_groups(frame: HitFrame, flat: NDArray[np.intp], sky: NDArray) -> NDArray[np.int8]:
    """Return where each pixel lies: −1 sky, 0 … the magnitude bin of a source within 5 px.

    The source is the nearest of the catalogue; −2 = neither on sky nor near a source.
    """
    groups = np.full(flat.size, -2, np.int8)
    rows, columns = np.divmod(flat, frame.clean.shape[1])
    x, y, mag = (np.asarray(frame.catalog[name], float) for name in ("x", "y", "mag"))
    if mag.size:
        tree = cKDTree(np.column_stack([x, y]))
        distance, nearest = tree.query(np.column_stack([columns, rows]), workers=1)
        bins = np.searchsorted(MAGNITUDE_BINS, mag[nearest], side="right") - 1
        groups = np.where(distance <= APERTURE, bins, groups).astype(np.int8)
    groups[sky.flat[flat]] = -1
    return groups


def pulls_of(frame: HitFrame, mended: Mended, sky: NDArray[np.bool_]) -> dict[str, NDArray]:
    """Return ``pull`` = (ours − CR-free) / error, ``method`` and ``group`` of mended pixels."""
    flat = np.flatnonzero(mended.mask & np.isfinite(frame.clean) & ~frame.excluded)
    difference = mended.images["ours"].flat[flat] - frame.clean.flat[flat]
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = difference / mended.error.flat[flat]
    return {
        "pull": pull.astype(np.float32),
        "method": mended.method.flat[flat],
        "group": pixel_groups(frame, flat, sky),
    }


def sky_differences(
    frame: HitFrame, mended: Mended, sky: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Return (mended − CR-free) / noise of mended sky pixels by method."""
    flat = np.flatnonzero(mended.mask & sky)
    clean, noise = frame.clean.flat[flat], np.float32(frame.noise)
    return {
        name: ((image.flat[flat] - clean) / noise).astype(np.float32)
        for name, image in mended.images.items()
        if name not in ("contaminated", "masked")
    }
