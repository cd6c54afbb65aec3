"""The cutout batcher: 64×64 stamps around sources, in batches, and back again.

The inpainting network sees one source at a time.  `plan_cutouts` decides which source
mends which cosmic-ray pixel; `CutoutPlan.batches` reads the stamps; the caller runs the
network and hands its output to `CutoutPlan.pick`, which returns the pixels asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend._background import Surface
from crmend._kernels import assign_nearest, fill_invalid
from crmend._tiling import reflect
from crmend.sources import SourceCatalog

CUTOUT = 64
"""Side of a cutout [px] (paper, section 2.2)."""

# A source's pixels lie within about three of sep's semi-major axes of its centroid.
_FOOTPRINT = 3.0


@dataclass(frozen=True, eq=False)
class CutoutBatch:
    """Stamps of some sources, ready for the network, and the pixels they are to mend.

    Attributes
    ----------
    image : (n, 64, 64) float32 array
        In the image's unit; CR pixels pre-filled, invalid pixels filled.
    cr_mask : (n, 64, 64) bool array
        True = cosmic ray, whichever source mends it.
    pixels : slice
        Which of the plan's pixels these stamps mend.
    background : (n, 64, 64) float32 array
        In the image's unit.
    saturated : (n, 64, 64) bool array
        True = more than was measured.
    """

    image: NDArray[np.float32]
    cr_mask: NDArray[np.bool_]
    pixels: slice
    background: NDArray[np.float32]
    saturated: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CutoutPlan:
    """Which source mends which cosmic-ray pixel.

    Attributes
    ----------
    centre_x, centre_y : (n,) int64 arrays
        The centre of each cutout: it spans the pixels centre − 32 … centre + 31.
    sources : (n,) int64 array
        Index of each cutout's source in the catalogue.
    starts : (n + 1,) int64 array
        Cutout i mends `pixels[starts[i]:starts[i + 1]]`, at least one.
    pixels : (m,) int64 array
        Flat indices into the frame, ordered by cutout.
    order : (m,) int64 array
        Position of each of `pixels` in ``np.flatnonzero(cr_mask)``.
    """

    centre_x: NDArray[np.int64]
    centre_y: NDArray[np.int64]
    sources: NDArray[np.int64]
    starts: NDArray[np.int64]
    pixels: NDArray[np.int64]
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.sources.size)

    def batches(
        self,
        image: NDArray[np.float32],
        cr_mask: NDArray[np.bool_],
        invalid: NDArray[np.bool_],
        background: Surface,
        size: int,
        excluded: NDArray[np.bool_] | None = None,
    ) -> Iterator[CutoutBatch]:
        """Read the cutouts, `size` at a time.

        Outside the frame a stamp mirrors the inside (the border pixel is not repeated).
        Pixels that are invalid or not finite are replaced by the median of their valid
        neighbours, else by the background.

        Parameters
        ----------
        image : (ny, nx) float32 array
            CR pixels pre-filled.  It must not change between batches.
        cr_mask, invalid : (ny, nx) bool arrays
            True = cosmic ray; True = no measurement (bad, hot).
        background : Surface
            In the image's unit.
        size : int
            Cutouts in a batch; the last one may hold fewer.
        excluded : (ny, nx) bool array or None
            The invalid and the saturated pixels; None = none is saturated.  Those of the
            mask are filled with the background.
        """
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            stamps = np.empty((last - first, CUTOUT, CUTOUT), dtype=np.float32)
            masks = np.empty(stamps.shape, dtype=np.bool_)
            levels = np.empty_like(stamps)
            saturated = np.zeros_like(masks)
            for stamp, mask, level, full, i in zip(
                stamps, masks, levels, saturated, range(first, last), strict=True
            ):
                rows, columns = self._span(i, image.shape)
                window = np.ix_(rows, columns)
                stamp[...] = image[window]
                mask[...] = cr_mask[window]
                level[...] = background.at(rows, columns)
                if excluded is not None:
                    full[...] = excluded[window] & ~invalid[window]
                    stamp[full & mask] = level[full & mask]
                    full &= ~mask
                unusable = (invalid[window] & ~mask) | ~np.isfinite(stamp)
                if unusable.any():
                    fill_invalid(stamp, unusable, float(np.median(level)), stamp)
            pixels = slice(int(self.starts[first]), int(self.starts[last]))
            yield CutoutBatch(stamps, masks, pixels, levels, saturated)

    def pick(
        self, values: NDArray[np.float32], batch: CutoutBatch, nx: int
    ) -> NDArray[np.float32]:
        """Return the network's values at the pixels that a batch mends.

        Parameters
        ----------
        values : (n, 64, 64) float32 array
            One plane per stamp of `batch`.
        batch : CutoutBatch
            From `batches`.
        nx : int
            Columns of the frame.

        Returns
        -------
        (m,) float32 array
            For the plan's `pixels[batch.pixels]`, in that order.
        """
        pixels = self.pixels[batch.pixels]
        cutout = (
            np.searchsorted(
                self.starts, np.arange(batch.pixels.start, batch.pixels.stop), "right"
            )
            - 1
        )
        rows = pixels // nx - self.centre_y[cutout] + CUTOUT // 2
        columns = pixels % nx - self.centre_x[cutout] + CUTOUT // 2
        chosen: NDArray[np.float32] = values[cutout - cutout[0], rows, columns]
        return chosen

    def _span(
        self, i: int, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and columns of cutout i, mirrored outside the frame."""
        y, x = int(self.centre_y[i]) - CUTOUT // 2, int(self.centre_x[i]) - CUTOUT // 2
        span = np.arange(CUTOUT)
        return reflect(y + span, shape[0]), reflect(x + span, shape[1])


def plan_cutouts(
    cr_mask: NDArray[np.bool_], sources: SourceCatalog, *, reach: float | None = None
) -> CutoutPlan:
    """Decide which source mends which cosmic-ray pixel.

    A CR pixel belongs to the nearest source (by centroid) among those whose cutout holds
    it; of two at the same distance, to the first in the catalogue.  Sources whose centre
    lies outside the frame take no part.

    Parameters
    ----------
    cr_mask : (ny, nx) bool array
        True = cosmic ray.
    sources : SourceCatalog
        Positions; with `reach` also the semi-major axes.
    reach : float, optional
        Mend only CR pixels within so many pixels of a source's footprint (three of its
        semi-major axes around the centroid); of a source of unknown size, as without a
        limit, every CR pixel of its cutout, which is what the paper does (section 3.2).

    Returns
    -------
    CutoutPlan
    """
    ny, nx = cr_mask.shape
    flat = np.flatnonzero(cr_mask)
    row_starts = np.searchsorted(flat, np.arange(ny + 1, dtype=np.int64) * nx)
    centre_x, centre_y = (np.floor(v + 0.5).astype(np.int64) for v in (sources.x, sources.y))
    kept = np.flatnonzero((centre_x >= 0) & (centre_x < nx) & (centre_y >= 0) & (centre_y < ny))
    limit = np.full(kept.size, np.inf)
    if reach is not None:
        size = sources.a[kept]
        limit = np.where(np.isfinite(size), reach + _FOOTPRINT * size, np.inf)
    owner = np.full(flat.size, -1, dtype=np.int32)
    distance = np.full(flat.size, np.inf, dtype=np.float32)
    assign_nearest(
        row_starts, (flat % nx).astype(np.int32), centre_x[kept], centre_y[kept],
        sources.x[kept], sources.y[kept], limit, CUTOUT // 2, owner, distance,
    )  # fmt: skip
    order = np.argsort(owner, kind="stable")
    order = order[np.count_nonzero(owner < 0) :]
    owners, starts = np.unique(owner[order], return_index=True)
    chosen = kept[owners]
    return CutoutPlan(
        centre_x=centre_x[chosen],
        centre_y=centre_y[chosen],
        sources=chosen,
        starts=np.append(starts, order.size),
        pixels=flat[order],
        order=order,
    )
