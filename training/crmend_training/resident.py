"""Detection batches drawn where the network is, so that a GPU waits for nobody.

An H100 takes 60 to 100 million pixels per second, a process that crops and turns them one at
a time makes 2.  A set of 500 million pixels is 1.6 GB.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from crmend import _normalise
from crmend_training import augmentation, datasets
from crmend_training.datasets import compact
from crmend_training.simulate.cosmic_rays import draw_sharp

if TYPE_CHECKING:
    from collections.abc import Callable

    from crmend_training.simulate.cosmic_rays import Sharp
    from crmend_training.train_detect import DetectRecipe

HALO = 12
"""Most rows beyond a frame's border that a crop shows: a little more than DeepCR's halo."""

_CANDIDATES = 8
_AT_ONCE = 256

_LAYERS = 512
"""Layers of what is added, of each kind; each shows some `_LAYER_SIDES` ** 2 of a crop's
area, at any of the places and turns that a crop has there."""

_LAYER_SIDES = 3


class ResidentBatches:
    """Draws what `train_detect.DetectBatches` draws, all crops of a batch at a time.

    Parameters
    ----------
    folder : Path
        A detection set.
    frames : list of int
        Frames whose stamps are used.
    recipe : DetectRecipe
    device : torch.device or str
        Where the stamps are kept and the batches made, 3 bytes per pixel.
    """

    def __init__(
        self, folder: Path, frames: list[int], recipe: DetectRecipe, device: torch.device | str
    ):
        owner = np.asarray(datasets.load_column(folder, "detect/frame"))
        stamps = np.flatnonzero(np.isin(owner, frames))
        names = datasets.load_info(folder)["frames"]
        drawn = [i for i in frames if names[i].startswith(datasets.DRAWN)]
        is_drawn = torch.from_numpy(np.isin(owner[stamps], drawn))
        self.recipe = recipe
        self.device = torch.device(device)
        self.drawn_stamps = is_drawn.nonzero()[:, 0].to(self.device)
        self.read_stamps = (~is_drawn).nonzero()[:, 0].to(self.device)
        self.codes, self.bits = _load(folder, stamps, self.device)
        self.layers = [
            (share, _draw_layers(partial(_events, kind), recipe, self.device))
            for share, kind in recipe.additions()
            if share
        ]
        self.hot = None
        if recipe.hot:
            self.hot = _draw_layers(augmentation.hot_pixels, recipe, self.device)
        self.losses = torch.zeros(len(stamps), device=self.device)
        self.drawn = torch.zeros(0, dtype=torch.long, device=self.device)
        self._random = torch.Generator(device=self.device)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return (input, mask, ignore), each (batch, 1, crop, crop) float32 on the device."""
        recipe, count = self.recipe, self.recipe.batch
        self._random.manual_seed(int(rng.integers(2**62)))
        self.drawn = self._choose(count)
        room = self.codes.shape[-1] - recipe.crop + 1
        y, x = (self._integers(room, count)[:, None, None] for _ in range(2))
        row, column = self._turned_grid(count)
        at_border = self._uniform(count) < recipe.border
        beyond = torch.where(at_border, self._integers(HALO, count) + 1, 0)[:, None, None]
        outside = row < beyond
        # The border row is not repeated, as in `augmentation.mirrored`.
        inside = torch.where(outside, 2 * beyond - row, row)
        window = self.drawn[:, None, None], y + inside, x + column
        image = _values(self.codes[window])
        bits = self.bits[window]
        mask, ignore = (bits & 1) > 0, ((bits & 2) > 0) | outside
        for share, layers in self.layers:
            image, mask = self._with_events(image, mask, layers, share, row, column)
        if recipe.lines:
            image, mask = self._with_lines(image, mask, row, column)
        if self.hot is not None:
            added = self._windows(self.hot, recipe.hot, row, column)
            if recipe.hot_alone:
                added = torch.where(mask.any(dim=(1, 2), keepdim=True), 0.0, added)
            image = image + added
        noise = self._log_uniform(recipe.noise_range, count)
        offset = (recipe.offset * (2.0 * self._uniform(count) - 1.0))[:, None, None]
        image = torch.asinh((image - offset) / noise / _normalise.SOFTENING)
        return image[:, None], mask.float()[:, None], ignore.float()[:, None]

    def learn_losses(self, losses: Tensor) -> None:
        """Remember the mean loss of every crop of the last batch, for hard examples."""
        self.losses[self.drawn] = losses.to(self.losses)

    def _choose(self, count: int) -> Tensor:
        """Return stamps, drawn at random or as hard ones."""
        share = self.recipe.simulated
        candidates = self._integers(len(self.codes), count, _CANDIDATES)
        if share is not None and len(self.drawn_stamps) and len(self.read_stamps):
            from_drawn = self._uniform(count, 1) < share
            drawn, read = (
                side[self._integers(len(side), count, _CANDIDATES)]
                for side in (self.drawn_stamps, self.read_stamps)
            )
            candidates = torch.where(from_drawn, drawn, read)
        hardest = self.losses[candidates].argmax(dim=1, keepdim=True)
        hard = self._uniform(count) < self.recipe.hard
        return torch.where(hard, candidates.gather(1, hardest)[:, 0], candidates[:, 0])

    def _with_events(
        self,
        image: Tensor,
        mask: Tensor,
        layers: Tensor,
        share: float,
        row: Tensor,
        column: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return crops and masks, to a share of which windows of layers are added."""
        low, high = self.recipe.sharp_label
        label = (low + (high - low) * self._uniform(len(image)))[:, None, None]
        added = self._windows(layers, share, row, column)
        return image + added, mask | (added > label)

    def _windows(self, layers: Tensor, share: float, row: Tensor, column: Tensor) -> Tensor:
        """Return what is added to crops [noise]: windows of layers, 0 for all but a share."""
        count = len(row)
        room = layers.shape[-1] - self.recipe.crop + 1
        which = self._integers(len(layers), count)[:, None, None]
        y, x = (self._integers(room, count)[:, None, None] for _ in range(2))
        chosen = (self._uniform(count) < share)[:, None, None]
        return torch.where(chosen, _values(layers[which, y + row, x + column]), 0.0)

    def _with_lines(
        self, image: Tensor, mask: Tensor, row: Tensor, column: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return crops and masks, to a share of which lines are added as `with_line` does."""
        count, side = len(image), self.recipe.crop
        level = self._log_uniform(augmentation.LINE_LEVEL, count)
        widths = torch.tensor(augmentation.LINE_WIDTHS, device=self.device)
        width = widths[self._integers(len(widths), count)]
        first = (self._uniform(count) * (side - width + 1)).long()[:, None, None]
        start = (self._integers(2 * side, count) - side)[:, None, None]
        chosen = (self._uniform(count) < self.recipe.lines)[:, None, None]
        adds = (self._uniform(count) < 0.5)[:, None, None]
        along = (column >= first) & (column < first + width[:, None, None]) & (row >= start)
        along &= chosen
        mask = mask & ~(along & ~adds & (image <= level))
        on_line = torch.where(adds, image + level, torch.maximum(image, level))
        return torch.where(along, on_line, image), mask

    def _log_uniform(self, limits: tuple[float, float], count: int) -> Tensor:
        """Return numbers of (count, 1, 1), the logarithm of which is uniform."""
        low, high = (math.log(value) for value in limits)
        return torch.exp(low + (high - low) * self._uniform(count))[:, None, None]

    def _turned_grid(self, count: int) -> tuple[Tensor, Tensor]:
        """Return row and column in its crop of every pixel of `count` turned crops."""
        line = torch.arange(self.recipe.crop, device=self.device)
        row, column = torch.meshgrid(line, line, indexing="ij")
        row, column = row.expand(count, -1, -1), column.expand(count, -1, -1)
        last = self.recipe.crop - 1
        swap, down, right = ((self._uniform(count) < 0.5)[:, None, None] for _ in range(3))
        row, column = torch.where(swap, column, row), torch.where(swap, row, column)
        return torch.where(down, last - row, row), torch.where(right, last - column, column)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self._random)

    def _integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, device=self.device, generator=self._random)


def _values(codes: Tensor) -> Tensor:
    """Return what codes of `datasets.compact` stand for [noise units]."""
    return _normalise.SOFTENING * torch.sinh(codes.float() * compact.STEP)


def _events(
    kind: Callable[[np.random.Generator], Sharp], rng: np.random.Generator, shape: tuple
) -> np.ndarray:
    """Return the charge of one kind of cosmic rays alone."""
    return draw_sharp(rng, shape, kind(rng))


def _draw_layers(
    draw: Callable[[np.random.Generator, tuple], np.ndarray],
    recipe: DetectRecipe,
    device: torch.device,
) -> Tensor:
    """Return layers of what is added, as codes (n, side, side) int16."""
    rng = np.random.default_rng([recipe.seed, _LAYERS])
    side = _LAYER_SIDES * recipe.crop
    layers = torch.empty((_LAYERS, side, side), dtype=torch.int16)
    for layer in layers:
        layer[:] = torch.from_numpy(compact.encode(draw(rng, (side, side))))
    return layers.to(device)


def _load(folder: Path, stamps: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the stamps' codes (n, size, size) int16 and their bits: 1 = CR, 2 = ignored."""
    columns = [datasets.load_column(folder, f"detect/{k}") for k in ("image", "mask", "ignore")]
    image, mask, ignore = columns
    shape = (len(stamps), *image.shape[1:])
    codes = torch.empty(shape, dtype=torch.int16, device=device)
    bits = torch.empty(shape, dtype=torch.uint8, device=device)
    for first in range(0, len(stamps), _AT_ONCE):
        some = stamps[first : first + _AT_ONCE]
        part = slice(first, first + len(some))
        # As they are stored; old sets hold plain values.
        coded = isinstance(image, compact.CodedColumn)
        codes[part] = torch.from_numpy(
            image.stored[some] if coded else compact.encode(image[some])
        )
        both = mask[some].astype(np.uint8) | (ignore[some].astype(np.uint8) << 1)
        bits[part] = torch.from_numpy(both)
    return codes, bits
