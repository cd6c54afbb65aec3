"""Losses: masked cross entropy for detection, the paper's weighted MSE for inpainting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def detection_loss(logits: Tensor, cr_mask: Tensor, ignore: Tensor) -> Tensor:
    """Binary cross entropy over the pixels that are not ignored.

    Parameters
    ----------
    logits, cr_mask, ignore : (n, 1, h, w) tensors
        Log-odds; 1 = CR; 1 = leave the pixel out (bad, saturated).
    """
    loss = functional.binary_cross_entropy_with_logits(logits, cr_mask, reduction="none")
    keep = 1.0 - ignore
    return (loss * keep).sum() / keep.sum().clamp(min=1.0)


def weighted_mse(
    predicted: Tensor, truth: Tensor, cr_mask: Tensor, alpha: float = 4.0
) -> Tensor:
    """MSE weighted with W = α·M + 1 (paper, section 3.2; α = 4 from its grid search)."""
    weight = alpha * cr_mask + 1.0
    return (weight * (predicted - truth) ** 2).mean()


def inpainting_loss(
    corrections: Sequence[Tensor],
    scale: Tensor,
    true_scale: Tensor,
    filled: Tensor,
    truth: Tensor,
    cr_mask: Tensor,
    alpha: float = 4.0,
) -> Tensor:
    """Weighted MSE in units of the true local scale, mean over the supervised depths.

    Parameters
    ----------
    corrections : sequence of (n, 1, h, w) tensors
        One per depth (deep supervision, Zhou et al. 2020), in units of `scale`.
    scale, true_scale : (n, 1, h, w) tensors
        Local scale of the first fill and of the truth [noise units].
    filled, truth, cr_mask : (n, 1, h, w) tensors
        First fill and CR-free cutout [noise units]; 1 = CR.
    """
    total = 0.0
    for correction in corrections:
        predicted = (filled + correction * scale) / true_scale
        total = total + weighted_mse(predicted, truth / true_scale, cr_mask, alpha)
    return total / len(corrections)
