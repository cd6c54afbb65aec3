"""The mean of the weights of checkpoints."""

import pytest

torch = pytest.importorskip("torch")

from crmend_training._checkpoints import load_network, write_checkpoint  # noqa: E402
from crmend_training.averaging import average  # noqa: E402
from crmend_training.cli import main  # noqa: E402
from crmend_training.networks import build  # noqa: E402

CONFIG = {"architecture": "deepcr", "hidden": 4}


def checkpoint(path, seed, config=CONFIG):
    torch.manual_seed(seed)
    weights = {name: w.half() for name, w in build(config).state_dict().items()}
    info = {"recipe": path.stem, "seed": seed, "data_fingerprint": f"{seed:016x}"}
    write_checkpoint({"state_dict": weights, "config": config, "info": info}, path)
    return weights


def test_weights_lie_between_those_of_the_parts(tmp_path, capsys):
    a, b = (checkpoint(tmp_path / f"{name}.pt", i) for i, name in enumerate("ab"))
    out = tmp_path / "deep" / "mean.pt"
    paths = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    assert main(["average", *paths, "--shares", "3", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out == "0.75 a + 0.25 b\n"
    saved = torch.load(out, weights_only=False)
    for name, mean in saved["state_dict"].items():
        expected = 0.75 * a[name].double() + 0.25 * b[name].double()
        assert mean.dtype == a[name].dtype
        torch.testing.assert_close(mean.double(), expected, rtol=1e-3, atol=1e-6)
    info = saved["info"]
    assert (info["seed"], info["data_fingerprint"]) == (0, f"{0:016x}")
    assert [part["share"] for part in info["average_of"]] == [0.75, 0.25]
    assert [part["info"]["recipe"] for part in info["average_of"]] == ["a", "b"]
    assert load_network(out)[1] == CONFIG


def test_a_mean_of_means_names_the_shares_of_all_trainings(tmp_path):
    paths = [tmp_path / f"{name}.pt" for name in "abc"]
    for seed, path in enumerate(paths):
        checkpoint(path, seed)
    average(paths[:2], [1, 1], tmp_path / "half.pt")
    info = average([tmp_path / "half.pt", paths[2], paths[0]], [2, 1, 1], tmp_path / "mean.pt")
    assert info["recipe"] == "0.5 a + 0.25 b + 0.25 c"


@pytest.mark.parametrize(
    ("shares", "said"),
    [([1.0], "a share each"), ([1.0, 0.0], "above 0"), ([1.0, float("inf")], "above 0")],
)
def test_shares_are_checked_before_anything_is_written(tmp_path, shares, said):
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for seed, path in enumerate(paths):
        checkpoint(path, seed)
    with pytest.raises(ValueError, match=said):
        average(paths, shares, tmp_path / "mean.pt")
    assert not (tmp_path / "mean.pt").exists()


def test_networks_that_differ_have_no_mean(tmp_path):
    checkpoint(tmp_path / "a.pt", 0)
    checkpoint(tmp_path / "b.pt", 1, CONFIG | {"hidden": 8})
    with pytest.raises(ValueError, match=r"b\.pt is a network of .*expected the same"):
        average([tmp_path / "a.pt", tmp_path / "b.pt"], [1, 1], tmp_path / "mean.pt")


def test_a_lineage_that_both_parts_share_is_written_once(tmp_path):
    notes = [f"a note {number}" for number in range(2000)]
    paths = [tmp_path / "one.pt", tmp_path / "two.pt"]
    for path, seed in zip(paths, (1, 2), strict=True):
        checkpoint(path, seed)
        saved = torch.load(path, weights_only=False)
        write_checkpoint(saved | {"info": saved["info"] | {"initial": {"notes": notes}}}, path)
    info = average(paths, [1, 1], tmp_path / "mean.pt")
    larger = (tmp_path / "mean.pt").stat().st_size / paths[0].stat().st_size
    assert larger < 1.1
    assert torch.load(tmp_path / "mean.pt", weights_only=False)["info"] == info
