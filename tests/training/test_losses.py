import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crmend_training import losses  # noqa: E402


def test_weighted_mse_counts_cr_pixels_five_times_at_alpha_4():
    truth = torch.zeros(1, 1, 1, 2)
    predicted = torch.tensor([[[[1.0, 1.0]]]])
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert float(losses.weighted_mse(predicted, truth, mask, alpha=4.0)) == pytest.approx(3.0)


def test_ignored_pixels_take_no_part_in_the_detection_loss():
    logits = torch.tensor([[[[0.0, 100.0]]]])
    mask = torch.tensor([[[[1.0, 0.0]]]])
    ignore = torch.tensor([[[[0.0, 1.0]]]])
    assert float(losses.detection_loss(logits, mask, ignore)) == pytest.approx(np.log(2.0))


def test_inpainting_loss_is_zero_for_the_right_correction_at_every_depth():
    truth = torch.full((1, 1, 4, 4), 30.0)
    filled = torch.full((1, 1, 4, 4), 10.0)
    scale = torch.full((1, 1, 4, 4), 20.0)
    right, wrong = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask = torch.ones(1, 1, 4, 4)
    args = (scale, 2 * scale, filled, truth, mask)
    assert float(losses.inpainting_loss([right, right], *args)) == 0.0
    # Off by 20 in units of a true scale of 40: 0.25, weighted by 5, on one depth of two.
    assert float(losses.inpainting_loss([right, wrong], *args)) == pytest.approx(0.625)
