"""The two networks: DeepCR for detection, UNet++ for inpainting.

`build` makes either from the configuration that stands in its checkpoint.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HALO = {"deepcr": 10}
"""Receptive-field radius [px], rounded up to the stride; a parity test measures it."""


class DeepCRNet(nn.Module):
    """The DeepCR U-Net of Zhang & Bloom 2020, from the deepCR package's definition.

    Parameters
    ----------
    hidden : int
        Channels of the first layer (32 in deepCR-2-32).
    """

    stride = 2

    def __init__(self, hidden: int = 32):
        super().__init__()
        with warnings.catch_warnings():
            # deepCR uses torch.nn.utils.weight_norm, which newer torch deprecates.
            warnings.simplefilter("ignore")
            from deepCR.unet import UNet2

            self.net = UNet2(1, 1, hidden)

    def logits(self, image: Tensor) -> Tensor:
        """Return the log-odds that each pixel is a cosmic ray, (n, 1, h, w)."""
        return self.net(image)

    def forward(self, image: Tensor) -> Tensor:
        """Return cr_probability (n, 1, h, w) from `crmend._normalise.to_detect_input`."""
        return torch.sigmoid(self.logits(image))


class _DoubleConv(nn.Sequential):
    """Two 3×3 convolutions.

    Leaky: with plain ReLU and torch's default weights every feature of the last node died
    within a few hundred steps, since errors are small against the local scale.
    """

    slope = 0.1

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.LeakyReLU(self.slope, inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.LeakyReLU(self.slope, inplace=True),
        )
        for layer in (self[0], self[2]):
            nn.init.kaiming_normal_(layer.weight, a=self.slope)
            nn.init.zeros_(layer.bias)


class UNetPlusPlus(nn.Module):
    """UNet++ of Zhou et al. 2020 (nested dense skips, deep supervision) for inpainting.

    The graph takes the cutout in units of the noise, its CR pixels filled smoothly, so
    everything about scaling happens here.  A local scale s(x) (the largest value within
    `reach` pixels, smoothed, plus a floor) makes faint and bright pixels look alike; the
    network predicts a correction to the fill of each CR pixel, s·sinh(o): a star's core may
    be many times what its wings suggest, and a linear output learns such corrections very
    slowly.  The asinh of the cutout and the log of s tell it where the noise is.  Pixels
    outside the mask leave the graph as they came.

    Parameters
    ----------
    filters : sequence of int
        Channels per level, full resolution first.
    mirror : bool
        Also show the network the cutout and its mask turned by 180° around the source:
        stars and most galaxies look the same that way.
    """

    floor = 10.0
    reach = 1
    limit = 6.0

    def __init__(self, filters: tuple[int, ...] = (16, 32, 64), mirror: bool = False):
        super().__init__()
        self.mirror = mirror
        self.filters = tuple(filters)
        depth = len(self.filters)
        self.nodes = nn.ModuleDict()
        self.ups = nn.ModuleDict()
        for level, width in enumerate(self.filters):
            inputs = (6 if mirror else 4) if level == 0 else self.filters[level - 1]
            self.nodes[f"{level}_0"] = _DoubleConv(inputs, width)
            for column in range(1, depth - level):
                self.ups[f"{level}_{column}"] = nn.ConvTranspose2d(
                    self.filters[level + 1], width, 2, stride=2
                )
                self.nodes[f"{level}_{column}"] = _DoubleConv(width * (column + 1), width)
        self.heads = nn.ModuleList(nn.Conv2d(self.filters[0], 1, 1) for _ in range(1, depth))
        for head in self.heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def local_scale(self, image: Tensor) -> Tensor:
        """Return the local scale s(x) [noise units] of a cutout, (n, 1, h, w)."""
        size = 2 * self.reach + 1
        peak = functional.max_pool2d(image, size, stride=1, padding=self.reach)
        peak = functional.avg_pool2d(
            functional.pad(peak, (1, 1, 1, 1), mode="replicate"), 3, stride=1
        )
        return functional.relu(peak) + self.floor

    def turned(self, image: Tensor) -> Tensor:
        """Return a cutout turned by 180° around its source, which is at (h // 2, w // 2)."""
        return torch.roll(torch.flip(image, (2, 3)), (1, 1), (2, 3))

    def corrections(self, image: Tensor, cr_mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the correction of every depth, in units of the local scale, and the scale."""
        scale = self.local_scale(image)
        grid: dict[tuple[int, int], Tensor] = {}
        x = torch.cat(
            [
                torch.asinh(image / scale),
                torch.asinh(image) / 5.0,
                torch.log(scale) / 5.0,
                cr_mask,
            ],
            dim=1,
        )
        if self.mirror:
            x = torch.cat([x, torch.asinh(self.turned(image) / scale), self.turned(cr_mask)], 1)
        depth = len(self.filters)
        for level in range(depth):
            x = self.nodes[f"{level}_0"](x if level == 0 else functional.max_pool2d(x, 2))
            grid[level, 0] = x
        for column in range(1, depth):
            for level in range(depth - column):
                up = self.ups[f"{level}_{column}"](grid[level + 1, column - 1])
                row = [grid[level, k] for k in range(column)]
                grid[level, column] = self.nodes[f"{level}_{column}"](torch.cat([*row, up], 1))
        outputs = [
            cr_mask * _sinh(head(grid[0, k + 1]), self.limit)
            for k, head in enumerate(self.heads)
        ]
        return outputs, scale

    def forward(self, image: Tensor, cr_mask: Tensor) -> Tensor:
        """Return the mended cutout [noise units], (n, 1, h, w), from the deepest head."""
        outputs, scale = self.corrections(image, cr_mask)
        return image + outputs[-1] * scale


def _sinh(x: Tensor, limit: float) -> Tensor:
    """Return sinh of x clamped to ±limit, from operations that every runtime has."""
    x = torch.clamp(x, -limit, limit)
    return 0.5 * (torch.exp(x) - torch.exp(-x))


def build(config: dict[str, Any]) -> nn.Module:
    """Build the network that a checkpoint's configuration describes.

    Parameters
    ----------
    config : dict
        ``{"architecture": "deepcr", "hidden": 32}`` or
        ``{"architecture": "unetplusplus", "filters": [24, 48, 96], "mirror": true}``.

    Raises
    ------
    ValueError
        The architecture is unknown.
    """
    options = dict(config)
    architecture = options.pop("architecture")
    if architecture == "deepcr":
        return DeepCRNet(**options)
    if architecture == "unetplusplus":
        return UNetPlusPlus(tuple(options["filters"]), options.get("mirror", False))
    raise ValueError(
        f"architecture {architecture!r} is unknown; expected deepcr or unetplusplus"
    )
