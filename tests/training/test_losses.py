import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crmend_training import losses  # noqa: E402


def test_weighted_mse_counts_cr_pixels_five_times_at_alpha_4():
    truth = torch.zeros(1, 1, 1, 2)
    mask = torch.tensor([[[[1.0, 0.0]]]])
    inside, outside = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert float(losses.weighted_mse(inside, truth, mask, alpha=4.0)) == pytest.approx(4.0)
    assert float(losses.weighted_mse(outside, truth, mask, alpha=4.0)) == pytest.approx(0.8)


def test_alpha_cancels_for_what_leaves_other_pixels_alone():
    truth, mask = torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    predicted = torch.tensor([[2.0, 1.0], [0.0, 0.0]])
    found = [float(losses.weighted_mse(predicted, truth, mask, alpha=a)) for a in (1, 3, 5)]
    assert found == pytest.approx([2.5, 2.5, 2.5])


def test_flux_error_counts_the_circle_around_the_source():
    truth = torch.zeros(2, 1, 40, 40)
    truth[:, :, 20, 20] = 1000.0
    predicted = truth.clone()
    predicted[0, 0, 20, 25] += 100.0
    predicted[1, 0, 20, 26] += 100.0
    errors = losses.flux_error(predicted, truth).tolist()
    # 81 pixels lie within 5 px of a pixel's centre.
    assert errors == pytest.approx([100.0 / (1000.0 + 10.0 * 81**0.5), 0.0])


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
    # Off by 20 in units of a true scale of 40: 0.25, on one depth of two.
    loss = losses.inpainting_loss([right, wrong], *args, flux_weight=0.0)
    assert float(loss) == pytest.approx(0.125)
    # The flux: 320 of 480 + 10·√16 missing, far above the softening, on one depth of two.
    loss = losses.inpainting_loss([right, wrong], *args, flux_weight=1.0)
    size = np.hypot(320 / 520, losses.FLUX_SOFTENING) - losses.FLUX_SOFTENING
    assert float(loss) == pytest.approx(0.125 + 0.5 * size)


def test_only_sources_without_a_cosmic_ray_weigh_more():
    image = torch.zeros(1, 1, 24, 24)
    image[..., 4:7, 4:7] = 9.0  # a star
    image[..., 14:17, 14:17] = 9.0  # a star that is hit
    image[..., 20, 4] = 9.0  # a pixel of noise or a CR that is not known
    mask = torch.zeros_like(image)
    mask[..., 15, 15] = 1.0
    weight = losses.source_weight(image, mask, 9.0)
    assert weight[0, 0, 5, 5] == 10.0
    assert (weight[..., 13:18, 13:18] == 1.0).all()
    assert (weight[..., 18:23, 2:7] == 1.0).all()
    assert (weight[..., 9:12, :] == 1.0).all()
    assert (losses.source_weight(image, mask, 0.0) == 1.0).all()
