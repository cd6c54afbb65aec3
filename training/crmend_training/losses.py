"""Losses: masked cross entropy for detection, the paper's weighted MSE for inpainting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

FLUX_SOFTENING = 0.02
"""Relative error of a source's flux below which its loss is quadratic."""


def cross_entropy(logits: Tensor, target: Tensor, ignore: Tensor) -> Tensor:
    """Return the binary cross entropy of every pixel, 0 where it is ignored.

    Parameters
    ----------
    logits, target, ignore : (n, 1, h, w) tensors
        Log-odds; probability of a CR, 1 = CR; 1 = leave the pixel out (bad, saturated).
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss * (1.0 - ignore)


def detection_loss(logits: Tensor, cr_mask: Tensor, ignore: Tensor) -> Tensor:
    """Return the mean `cross_entropy` over the pixels that are not ignored."""
    keep = 1.0 - ignore
    return cross_entropy(logits, cr_mask, ignore).sum() / keep.sum().clamp(min=1.0)


SOURCE = 1.5
"""Mean of 3×3 pixels above which they are taken for a source's [noise units]."""


def source_weight(image: Tensor, cr_mask: Tensor, extra: float) -> Tensor:
    """Return the weight of every pixel in the loss: 1, and more on sources where no CR is.

    Cores of stars, of which a frame has few pixels, are what a mistake is dearest on.

    Parameters
    ----------
    image, cr_mask : (n, 1, h, w) tensors
        CR-hit image in noise units above the background; 1 = CR.
    extra : float
        Added to the weight of a pixel whose 3×3 have a mean above `SOURCE` and whose 5×5 hold
        no CR.
    """
    bright = functional.avg_pool2d(image, 3, stride=1, padding=1) > SOURCE
    far = functional.max_pool2d(cr_mask, 5, stride=1, padding=2) == 0
    return 1.0 + extra * (bright & far).to(image.dtype)


def weighted_mse(
    predicted: Tensor, truth: Tensor, cr_mask: Tensor, alpha: float = 4.0
) -> Tensor:
    """MSE weighted with W = α·M + 1 (paper, section 3.2; α = 4 from its grid search).

    It is divided by the sum of the weights of the CR pixels, not by the number of pixels: a
    network that leaves all others alone has errors in the mask only, and its loss should
    not depend on how large that is.  For such a network, as ours, `alpha` cancels.
    """
    weight = alpha * cr_mask + 1.0
    return (weight * (predicted - truth) ** 2).sum() / (weight * cr_mask).sum().clamp(min=1.0)


def flux_error(predicted: Tensor, truth: Tensor, radius: float = 5.0) -> Tensor:
    """Return the error of the central source's flux, relative to it, (n,).

    The flux is that within a circle around the cutout's centre, in noise units; ten times
    its noise is added to what the error is divided by, so that faint sources count less.
    """
    side = truth.shape[-1]
    offset = torch.arange(side, dtype=truth.dtype, device=truth.device) - side // 2
    circle = (offset[:, None] ** 2 + offset[None, :] ** 2 <= radius**2).to(truth.dtype)
    flux = (truth * circle).sum(dim=(1, 2, 3)).clamp(min=0.0)
    error = ((predicted - truth) * circle).sum(dim=(1, 2, 3))
    return error / (flux + 10.0 * circle.sum().sqrt())


ONE_SIGMA = 0.6827
"""Share of a Gaussian within one standard deviation."""


def spread_loss(spread: Tensor, error: Tensor, cr_mask: Tensor) -> Tensor:
    """Quantile loss of an uncertainty: least where 68 % of errors of its kind lie below it.

    A quantile does not care how far out the rare large errors are; a Gaussian likelihood
    would widen every error bar for them.

    Parameters
    ----------
    spread, error, cr_mask : (n, 1, h, w) tensors
        Predicted 1-sigma and true error in the same unit; 1 = CR.  No gradient flows into
        `error`.
    """
    difference = torch.log(error.detach().abs().clamp(min=1e-6)) - torch.log(spread)
    loss = torch.maximum(ONE_SIGMA * difference, (ONE_SIGMA - 1.0) * difference)
    return (loss * cr_mask).sum() / cr_mask.sum().clamp(min=1.0)


def inpainting_loss(
    corrections: Sequence[Tensor],
    scale: Tensor,
    true_scale: Tensor,
    filled: Tensor,
    truth: Tensor,
    cr_mask: Tensor,
    alpha: float = 4.0,
    flux_weight: float = 2.0,
) -> Tensor:
    """Weighted MSE in units of the true local scale, and the flux; mean over the depths.

    Parameters
    ----------
    corrections : sequence of (n, 1, h, w) tensors
        One per depth (deep supervision, Zhou et al. 2020), in units of `scale`.
    scale, true_scale : (n, 1, h, w) tensors
        Local scale of the first fill and of the truth [noise units].
    filled, truth, cr_mask : (n, 1, h, w) tensors
        First fill and CR-free cutout [noise units]; 1 = CR.
    alpha : float
        See `weighted_mse`.
    flux_weight : float
        Weight of the mean size of the `flux_error`: quadratic below `FLUX_SOFTENING`, linear
        above.  Squares would be the errors of a few lost star cores and of nothing else.
    """
    total = torch.zeros(())
    aim = torch.where(cr_mask > 0, truth, filled)
    for correction in corrections:
        predicted = filled + correction * scale
        total = total + weighted_mse(predicted / true_scale, aim / true_scale, cr_mask, alpha)
        error = flux_error(predicted, aim)
        size = torch.sqrt(error.square() + FLUX_SOFTENING**2) - FLUX_SOFTENING
        total = total + flux_weight * size.mean()
    return total / len(corrections)
