import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crmend_training import networks  # noqa: E402
from crmend_training._graphs import build_graph  # noqa: E402


def test_deepcr_is_the_published_network():
    network = networks.build({"architecture": "deepcr", "hidden": 32})
    from deepCR.unet import UNet2Sigmoid

    with pytest.warns(FutureWarning):
        published = UNet2Sigmoid(1, 1, 32).eval()
    network.net.load_state_dict(published.state_dict())
    image = torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        np.testing.assert_array_equal(network.eval()(image), published(image))


def test_untrained_unetplusplus_returns_its_first_fill():
    network = networks.build({"architecture": "unetplusplus", "filters": [8, 16, 16]})
    image = torch.randn(3, 1, 64, 64) * 20
    mask = (torch.rand(3, 1, 64, 64) < 0.02).float()
    with torch.no_grad():
        np.testing.assert_array_equal(network(image, mask), image)


def test_unetplusplus_has_every_nested_node_and_a_head_per_depth():
    network = networks.build({"architecture": "unetplusplus", "filters": [8, 16, 32, 64]})
    assert sorted(network.nodes) == [
        "0_0", "0_1", "0_2", "0_3", "1_0", "1_1", "1_2", "2_0", "2_1", "3_0"
    ]  # fmt: skip
    assert len(network.heads) == 3


def test_local_scale_is_the_peak_next_to_a_point_source_and_the_floor_three_pixels_off():
    network = networks.UNetPlusPlus((8, 16))
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 32, 32] = 500.0
    scale = network.local_scale(image)[0, 0]
    assert scale[32, 32] == pytest.approx(510.0)
    assert scale[32, 35] == pytest.approx(10.0)


@pytest.mark.parametrize("mirror", [False, True])
def test_unetplusplus_writes_masked_pixels_only(mirror):
    torch.manual_seed(0)
    network = networks.UNetPlusPlus((8, 16), mirror)
    torch.nn.init.ones_(network.heads[-1].weight)
    image = torch.randn(2, 1, 64, 64) * 20
    mask = (torch.rand(2, 1, 64, 64) < 0.1).float()
    with torch.no_grad():
        mended = network(image, mask)
    assert ((mended != image) == (mask > 0)).float().mean() > 0.999
    np.testing.assert_array_equal(mended[mask == 0], image[mask == 0])


def test_mirror_shows_each_pixel_the_one_opposite_the_source():
    network = networks.UNetPlusPlus((4, 4), mirror=True)
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 32 + 5, 32 - 7] = 100.0
    turned = network.turned(image)
    assert torch.nonzero(turned)[0].tolist() == [0, 0, 32 - 5, 32 + 7]


def test_a_pruned_network_gives_what_its_head_gave():
    torch.manual_seed(2)
    network = networks.UNetPlusPlus((4, 6, 8), mirror=True, sigma=True, profile=True)
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=0.1)
    image, profile = (100.0 * torch.rand(2, 1, 16, 16) for _ in range(2))
    mask = (torch.rand(2, 1, 16, 16) < 0.2).float()
    with torch.no_grad():
        corrections, scale, _ = network.corrections(image, mask, profile)
        for depth, correction in enumerate(corrections, 1):
            small = network.pruned(depth)
            found = small(image, mask, profile)
            torch.testing.assert_close(found, image + correction * scale)
    assert (corrections[0] - corrections[1]).abs().max() > 1e-3
    assert set(network.pruned(1).nodes) == {"0_0", "1_0", "0_1"}


def test_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="'resnet' is unknown; expected deepcr"):
        networks.build({"architecture": "resnet"})


def test_a_settled_network_is_small_exact_and_nearly_what_it_was():
    torch.manual_seed(3)
    network = networks.FoldedNet(width=32, depth=3)
    image = torch.randn(2, 1, 64, 64) * 2.0
    for _ in range(20):  # statistics of the normalisation
        network.logits(image + torch.randn_like(image))
    with torch.no_grad():
        before = network.eval()(image)
        after = network.settled()(image)
    assert float((before - after).abs().max()) < 0.02
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    graph = build_graph(network, "detect_fast").SerializeToString()
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights < len(graph) < 1.3 * weights
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image.numpy()})
    assert np.abs(found - after.numpy()).max() < 1e-6


def test_weights_as_bytes_keep_zeros_and_signs():
    weight = torch.randn(3, 8, 4, 4)
    weight[1] = 0.0
    weight[2, 0, 0, 0] = -40.0
    rounded = networks.rounded_to_bytes(weight)
    assert float((rounded[0] - weight[0]).abs().max()) <= float(weight[0].abs().max()) / 250
    assert not rounded[1].any()
    assert float(rounded[2].min()) == pytest.approx(-40.0, rel=1e-3)
    assert torch.equal(networks.rounded_to_bytes(rounded), rounded)
