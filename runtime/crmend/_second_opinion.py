"""What a second network says of pixels that the first one doubts.

Networks of two kinds err on different pixels.  Of the groups that the fast network of CSST's
packs takes for cosmic rays without being sure DeepCR knows most that are none, such as cores
of stars, and some that it leaves out are cosmic rays to DeepCR.  Such groups are few, and
DeepCR sees 10 px around a pixel, so that its opinion of them takes hardly any time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from crmend._beside import AROUND, bright_beside
from crmend._cards import OpinionCard
from crmend._events import keep_seeded
from crmend._normalise import Scale
from crmend._probability import Shown
from crmend._tiling import TileGrid
from crmend._views import in_views, log_odds
from crmend.models import Model

_TILE = 16
"""Side of what the second network is asked about at a time, without its margin [px]."""

_BATCH = 16
"""Tiles that it sees at once."""

_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Neighbours of a pixel that come after it, row by row."""


def find_with_second(
    cr_probability: NDArray[np.float32],
    threshold: float,
    shown: Shown,
    second: Model,
    opinion: OpinionCard,
) -> NDArray[np.bool_]:
    """Return which pixels are cosmic rays by the word of two networks.

    Pixels from the threshold on count, in 8-connected groups.  Where no pixel of a group is
    sure, both networks judge it as a whole; of the other groups they judge what lies apart
    from all rather sure pixels.  Bright pixels beside what is left join it where both say so,
    or where no star explains them (`crmend._beside`).

    Parameters
    ----------
    cr_probability : (ny, nx) float32 array
        The first network's; 0 at excluded pixels.
    threshold : float
        Of every pixel.
    shown : Shown
        The frame as networks are shown it.
    second : Model
        A ``detect`` graph with the preprocessing of the first.
    opinion : OpinionCard

    Returns
    -------
    cr_mask : (ny, nx) bool array

    Raises
    ------
    ModelError, OutOfMemoryError
        onnxruntime refuses the image, or runs out of memory.
    """
    cr_mask = cr_probability >= threshold
    certain = cr_mask.copy()
    keep_seeded(certain.view(np.uint8), cr_probability, opinion.sure)
    alone = np.flatnonzero(cr_mask & ~certain)
    apart = _lying_apart(np.flatnonzero(certain), cr_probability, opinion.rather_sure)
    del certain
    for pixels, least in ((alone, opinion.threshold), (apart, opinion.apart_threshold)):
        judged = _judge(pixels, cr_probability, shown, second, opinion)
        cr_mask.reshape(-1)[pixels[judged < _odds(least)]] = False
    _join_beside(cr_mask, cr_probability, shown, second, opinion)
    return cr_mask


def _join_beside(
    cr_mask: NDArray[np.bool_],
    cr_probability: NDArray[np.float32],
    shown: Shown,
    second: Model,
    opinion: OpinionCard,
) -> None:
    """Add to the cr_mask, in place, the bright pixels beside it that are cosmic rays."""
    if opinion.beside_least is None or not isinstance(shown.scale, Scale):
        return
    scale, first = shown.scale, cr_probability.reshape(-1)
    pixels, sharp = bright_beside(
        cr_mask, cr_probability, shown.image, shown.invalid, scale.background, scale.noise
    )
    asked = pixels[~sharp & (first[pixels] >= opinion.beside_least)]
    cr_mask.reshape(-1)[pixels[sharp]] = True
    if asked.size == 0:
        return
    both = (1 - opinion.share) * log_odds(first[asked])
    both += opinion.share * log_odds(_ask(asked, shown, second, opinion.views))
    cr_mask.reshape(-1)[asked[both >= _odds(opinion.apart_threshold)]] = True


def _odds(probability: float) -> float:
    """Return the log-odds of a probability."""
    return float(np.log(probability / (1.0 - probability)))


def _lying_apart(
    pixels: NDArray[np.intp], cr_probability: NDArray[np.float32], rather_sure: float
) -> NDArray[np.intp]:
    """Return those of some pixels, by flat index, that touch none of at least a probability."""
    ny, nx = cr_probability.shape
    limit = np.float32(rather_sure)
    pixels = pixels[cr_probability.reshape(-1)[pixels] < limit]
    rows, columns = np.divmod(pixels, nx)
    touches = np.zeros(pixels.size, dtype=bool)
    for dy, dx in AROUND:
        y, x = np.clip(rows + dy, 0, ny - 1), np.clip(columns + dx, 0, nx - 1)
        touches |= cr_probability[y, x] >= limit
    return pixels[~touches]


def _judge(
    pixels: NDArray[np.intp],
    cr_probability: NDArray[np.float32],
    shown: Shown,
    second: Model,
    opinion: OpinionCard,
) -> NDArray[np.float32]:
    """Return for each of some pixels, by flat index, what both networks say of its group.

    That is the mean of the largest log-odds that either has in the group, weighted.
    """
    if pixels.size == 0:
        return np.zeros(0, dtype=np.float32)
    groups = _groups_of(pixels, cr_probability.shape[1])
    count, share = int(groups.max()) + 1, np.float32(opinion.share)
    best = np.full((2, count), -np.inf, dtype=np.float32)
    first = log_odds(cr_probability.reshape(-1)[pixels])
    other = log_odds(_ask(pixels, shown, second, opinion.views))
    np.maximum.at(best[0], groups, first)
    np.maximum.at(best[1], groups, other)
    judged: NDArray[np.float32] = ((1 - share) * best[0] + share * best[1])[groups]
    return judged


def _groups_of(pixels: NDArray[np.intp], nx: int) -> NDArray[np.int32]:
    """Return the 8-connected group of each pixel; flat indices of a frame, ascending."""
    columns = pixels % nx
    edges = []
    for dy, dx in _LATER:
        neighbour = pixels + dy * nx + dx
        inside = (columns + dx >= 0) & (columns + dx < nx)
        at = np.minimum(np.searchsorted(pixels, neighbour), pixels.size - 1)
        found = np.flatnonzero(inside & (pixels[at] == neighbour))
        edges.append(np.stack([found, at[found]]))
    ends = np.concatenate(edges, axis=1)
    graph = sparse.coo_array((np.ones(ends.shape[1]), ends), (pixels.size, pixels.size))
    labels: NDArray[np.int32] = csgraph.connected_components(graph, directed=False)[1]
    return labels


def _ask(
    pixels: NDArray[np.intp], shown: Shown, second: Model, views: int
) -> NDArray[np.float32]:
    """Return the second network's cr_probability at some pixels, by flat index."""
    (ny, nx), stride = shown.image.shape, second.graph.stride
    margin = -(-second.graph.halo // stride) * stride
    grid = TileGrid((ny, nx), (_TILE, _TILE), margin, stride)
    run = in_views(lambda x, last: second.run(x, last=last)[0], views)
    rows, columns = np.divmod(pixels, nx)
    found = np.empty(pixels.size, dtype=np.float32)
    batches = _batches(rows // _TILE, columns // _TILE, grid)
    for number, batch in enumerate(batches, start=1):
        tiles = [shown.read(grid, origin) for origin, _ in batch]
        windows = [grid.inside(origin) for origin, _ in batch]
        seen = np.stack([tile[w] for tile, w in zip(tiles, windows, strict=True)])
        said = run(seen[:, np.newaxis], number == len(batches))[:, 0]
        for (origin, chosen), window, values in zip(batch, windows, said, strict=True):
            y = rows[chosen] - origin[0] + margin - window[0].start
            x = columns[chosen] - origin[1] + margin - window[1].start
            found[chosen] = values[y, x]
    return found


_Batch = list[tuple[tuple[int, int], NDArray[np.intp]]]


def _batches(down: NDArray[np.intp], along: NDArray[np.intp], grid: TileGrid) -> list[_Batch]:
    """Return tiles that hold pixels, each with those, in batches of one size.

    Parameters
    ----------
    down, along : (n,) int arrays
        Row and column of each pixel's tile.
    grid : TileGrid
        Less of tiles at the frame's borders lies within it.
    """
    tile = down * (along.max() + 1) + along
    order = np.argsort(tile, kind="stable")
    starts = np.flatnonzero(np.diff(tile[order], prepend=-1))
    by_size: dict[tuple[int, int], _Batch] = {}
    for chosen in np.split(order, starts[1:]):
        origin = int(down[chosen[0]]) * _TILE, int(along[chosen[0]]) * _TILE
        rows, columns = grid.inside(origin)
        size = rows.stop - rows.start, columns.stop - columns.start
        by_size.setdefault(size, []).append((origin, chosen))
    return [
        alike[first : first + _BATCH]
        for alike in by_size.values()
        for first in range(0, len(alike), _BATCH)
    ]
