"""The networks: DeepCR and a folded U-Net for detection, UNet++ for inpainting.

`build` makes any of them from the configuration that stands in its checkpoint.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crmend_training._bytes import BYTES_FROM, rounded_to_bytes
from crmend_training._sections import checked


def halo_of(config: dict[str, Any]) -> int:
    """Return a detection network's receptive-field radius [px], rounded up to its stride.

    Parity tests measure it.  UNet++ sees its whole cutout and has none (0).
    """
    architecture = config["architecture"]
    if architecture == "deepcr":
        return 10
    if architecture == "folded":
        return FoldedNet.halo_at(config["depth"])
    return 0


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


class _NormedConv(nn.Sequential):
    """Two 3×3 convolutions with batch normalisation, which export folds into their weights."""

    def __init__(self, inputs: int, outputs: int):
        layers: list[nn.Module] = []
        for before in (inputs, outputs):
            layers += [
                nn.Conv2d(before, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def settle(self) -> None:
        """Merge the normalisation into the weights, in place; for a network that is trained."""
        for at in (0, 3):
            if isinstance(self[at + 1], nn.BatchNorm2d):
                self[at] = fuse_conv_bn_eval(self[at], self[at + 1])
                self[at + 1] = nn.Identity()


class FoldedNet(nn.Module):
    """A U-Net on the image folded 2×2: four channels at half the resolution.

    All its convolutions cost a quarter of what they would at full resolution; the last layer
    unfolds its four channels into 2×2 pixels again.  With `width` 32 and `depth` 2 it needs
    14 kMAC per pixel, DeepCR 53.

    Parameters
    ----------
    width : int
        Channels of the first level; each deeper one has twice as many.
    depth : int
        Levels.
    """

    def __init__(self, width: int = 32, depth: int = 2):
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.stride = 2**depth
        self.down = nn.ModuleList(
            _NormedConv(inputs, outputs)
            for inputs, outputs in zip([4, *widths], widths, strict=False)
        )
        pairs = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 2, stride=2) for shallow, deep in pairs
        )
        self.merge = nn.ModuleList(_NormedConv(2 * shallow, shallow) for shallow, _ in pairs)
        self.head = nn.Conv2d(width, 4, 1)

    @staticmethod
    def halo_at(depth: int) -> int:
        """Return the receptive-field radius of a net of that depth, rounded up [px].

        Two 3×3 convolutions reach two of a level's own pixels, 2·2^level px each; every level
        but the deepest is passed twice.  Pooled blocks add less than one stride.
        """
        reach = sum(2 * 2 ** (level + 1) * 2 for level in range(depth - 1)) + 2 * 2**depth
        stride = 2**depth
        return stride * -(-(reach + stride - 1) // stride)

    def logits(self, image: Tensor) -> Tensor:
        """Return the log-odds that each pixel is a cosmic ray, (n, 1, h, w)."""
        x = functional.pixel_unshuffle(image, 2)
        passed = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            passed.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([passed[level], self.up[level](x)], dim=1))
        return functional.pixel_shuffle(self.head(x), 2)

    def settled(self) -> FoldedNet:
        """Return itself in evaluation mode as graphs hold it, which cannot be trained on.

        Normalisation is merged into the weights; these are rounded to half precision, the many
        of the deeper levels to 8 bits and a scale per first index (`rounded_to_bytes`).
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, _NormedConv):
                module.settle()
        with torch.no_grad():
            for weight in self.parameters():
                many = weight.numel() >= BYTES_FROM
                weight.copy_(rounded_to_bytes(weight) if many else weight.half())
        return self

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
    sigma : bool
        Give the uncertainty of the mended pixels as a second output.
    profile : bool
        Take the source's fitted profile (`crmend._profile`) as a third input: the network sees
        what the fit left over around the hole, as it is and turned.
    sigma_filters : int
        Channels of two 3×3 convolutions of the uncertainty's own, which see the network's
        inputs beside its last features; 0 = it sees the features of its own pixel alone.
    """

    floor = 10.0
    reach = 1
    limit = 6.0

    def __init__(
        self,
        filters: tuple[int, ...] = (16, 32, 64),
        mirror: bool = False,
        sigma: bool = False,
        profile: bool = False,
        sigma_filters: int = 0,
    ):
        super().__init__()
        self.mirror = mirror
        self.sigma = sigma
        self.profile = profile
        self.filters = tuple(filters)
        depth = len(self.filters)
        self.nodes = nn.ModuleDict()
        self.ups = nn.ModuleDict()
        for level, width in enumerate(self.filters):
            views = 4 + 2 * mirror + 2 * profile
            inputs = views if level == 0 else self.filters[level - 1]
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
        self.sigma_filters = sigma_filters
        if sigma and sigma_filters:
            inputs = self.filters[0] + 4 + 2 * mirror + 2 * profile
            self.spread = nn.Sequential(
                nn.Conv2d(inputs, sigma_filters, 1),
                nn.LeakyReLU(0.1),
                *_DoubleConv(sigma_filters, sigma_filters),
                nn.Conv2d(sigma_filters, 1, 1),
            )
        elif sigma:
            width = self.filters[0]
            self.spread = nn.Sequential(
                nn.Conv2d(width, width, 1), nn.LeakyReLU(0.1), nn.Conv2d(width, 1, 1)
            )

    def pruned(self, depth: int) -> UNetPlusPlus:
        """Return the network that ends at an earlier head (Zhou et al. 2020: L1, L2, …).

        It holds the nodes that this head needs and gives no uncertainty, which only the
        deepest has.

        Parameters
        ----------
        depth : int
            1 to the number of heads.
        """
        small = UNetPlusPlus(self.filters[: depth + 1], self.mirror, profile=self.profile)
        weights = self.state_dict()
        small.load_state_dict({name: weights[name] for name in small.state_dict()})
        return small.train(self.training)

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

    def corrections(
        self, image: Tensor, cr_mask: Tensor, profile: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Return the correction of every depth, in units of the local scale, and the scale.

        The last of the three is the uncertainty in the same units, or None.  It learns from
        what the corrections need; its own errors do not reach their weights.
        """
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
        if self.profile:
            rest = 5.0 * (image - profile) * (1.0 - cr_mask)
            x = torch.cat(
                [x, torch.asinh(rest / scale), torch.asinh(self.turned(rest) / scale)], 1
            )
        depth = len(self.filters)
        seen = x
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
        if not self.sigma:
            return outputs, scale, None
        features = grid[0, depth - 1].detach()
        exponent = self.spread(
            torch.cat([features, seen], dim=1) if self.sigma_filters else features
        )
        return outputs, scale, torch.exp(torch.clamp(exponent, -self.limit, self.limit))

    def forward(
        self, image: Tensor, cr_mask: Tensor, profile: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the mended cutout [noise units], (n, 1, h, w), from the deepest head.

        With `sigma` also the 1-sigma difference [noise units] between a mended pixel and
        what would have been measured there without the CR, noise included; 0 outside the
        mask.
        """
        outputs, scale, spread = self.corrections(image, cr_mask, profile)
        mended = image + outputs[-1] * scale
        return mended if spread is None else (mended, cr_mask * spread * scale)


def _sinh(x: Tensor, limit: float) -> Tensor:
    """Return sinh of x clamped to ±limit, from operations that every runtime has."""
    x = torch.clamp(x, -limit, limit)
    return 0.5 * (torch.exp(x) - torch.exp(-x))


def build(config: dict[str, Any]) -> nn.Module:
    """Build the network that a checkpoint's configuration describes.

    Parameters
    ----------
    config : dict
        ``{"architecture": "deepcr", "hidden": 32}``,
        ``{"architecture": "folded", "width": 32, "depth": 2}`` or
        ``{"architecture": "unetplusplus", "filters": [24, 48, 96], "mirror": true,
        "sigma": true, "profile": true, "sigma_filters": 16}``.

    Raises
    ------
    ValueError
        The architecture is unknown, or its configuration has another key or type.
    """
    check_config(config)
    options = {k: tuple(v) if k == "filters" else v for k, v in config.items()}
    return _ARCHITECTURES[options.pop("architecture")](**options)


_ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "deepcr": DeepCRNet,
    "folded": FoldedNet,
    "unetplusplus": UNetPlusPlus,
}

FINDERS, MENDERS = ("deepcr", "folded"), ("unetplusplus",)
"""Architectures that find cosmic rays, and that mend them."""


def check_config(config: Mapping[str, Any], known: Sequence[str] = FINDERS + MENDERS) -> None:
    """Refuse what describes none of the `known` architectures.

    Raises
    ------
    ValueError
        The architecture is another, or its configuration has another key, type or size.
    """
    architecture = config.get("architecture")
    if architecture not in known:
        what = "is for another task" if architecture in _ARCHITECTURES else "is unknown"
        raise ValueError(f"architecture {architecture!r} {what}; expected {' or '.join(known)}")
    options = {name: value for name, value in config.items() if name != "architecture"}
    sizes = checked(options, _ARCHITECTURES[architecture], f"config of {architecture}")
    for name in ("hidden", "width", "depth", "filters"):
        size = sizes.get(name, 1)
        if min(size if isinstance(size, tuple) else (size,), default=0) < 1:
            raise ValueError(f"{architecture}: {name} is {size}; expected 1 or more")
