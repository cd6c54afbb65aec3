"""What commands write: kept where it exists, whole or not at all."""

import resource

import numpy as np
import pytest
from astropy.io import fits

torch = pytest.importorskip("torch")

from crmend.errors import OutputError  # noqa: E402
from crmend_training import _checkpoints, _training, cli, datasets  # noqa: E402


@pytest.fixture
def recipe(drawn_recipe):
    return str(drawn_recipe)


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exposures(folder):
    """Write three exposures of one field, and return their paths."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in "abc":
        image = rng.normal(100.0, 5.0, (64, 64)).astype(np.float32)
        image[20 + ord(name) % 20, 30:34] += 500.0
        fits.PrimaryHDU(image).writeto(folder / f"{name}.fits")
    return sorted(map(str, folder.iterdir()))


def assert_replaced_only_if_told(command, folder, capsys):
    """Run a command three times: it writes, refuses, and writes again with --overwrite."""
    assert cli.main(command) == 0, capsys.readouterr().err
    before = files_below(folder)
    assert cli.main(command) == 3
    assert "exists; choose another --out" in capsys.readouterr().err
    assert files_below(folder) == before
    assert cli.main([*command, "--overwrite"]) == 0


def test_simulated_frames_are_replaced_only_if_told(tmp_path, capsys):
    command = ["simulate", "--detector", "8", "--shape", "64x64", "--jobs", "1"]
    out = tmp_path / "frames"
    assert_replaced_only_if_told([*command, "--out", str(out)], out, capsys)


def test_data_sets_are_replaced_only_if_told(tmp_path, recipe, capsys):
    command = ["dataset", "detect", "--recipe", recipe, "--jobs", "1"]
    out = tmp_path / "set"
    assert_replaced_only_if_told([*command, "--out", str(out)], out, capsys)
    joined = tmp_path / "joined"
    assert_replaced_only_if_told(["join", str(out), "--out", str(joined)], joined, capsys)


def test_masks_are_replaced_only_if_told(tmp_path, capsys):
    paths, out = exposures(tmp_path / "field"), tmp_path / "masks"
    assert_replaced_only_if_told(["truth", *paths, "--out", str(out)], out, capsys)


def test_checkpoints_and_thresholds_are_replaced_only_if_told(tmp_path, recipe, capsys):
    config = {"architecture": "deepcr", "hidden": 4}
    for seed in (1, 2):
        run = _training.start(config, seed, {"recipe": str(seed)}, None)
        _training.save(run, tmp_path / f"{seed}.pt", final=True)
    two = [str(tmp_path / "1.pt"), str(tmp_path / "2.pt")]
    out = tmp_path / "mean" / "mean.pt"
    assert_replaced_only_if_told(["average", *two, "--out", str(out)], out.parent, capsys)
    chosen = tmp_path / "chosen" / "chosen.json"
    command = ["calibrate", "--detect", two[0], "--generic-only", "--recipe", recipe]
    command += ["--out", str(chosen)]
    assert_replaced_only_if_told(command, chosen.parent, capsys)
    assert cli.main([*command[:-1], str(tmp_path)]) == 3
    assert "is a folder, expected the name of a file" in capsys.readouterr().err


def test_a_pack_is_replaced_only_if_told(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.json").write_text("{}")
    command = ["export", "--name", "mine", "--detect", "D", "--calibration", "C"]
    command += ["--validation", "V", "--masks", "V", "--recipe", "r", "--out", str(tmp_path)]
    assert cli.main(command) == 3
    assert "card.json exists; choose another --out" in capsys.readouterr().err


@pytest.fixture
def full_disk():
    """Let no file grow beyond 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(tmp_path, request):
    path = tmp_path / "final.pt"
    _checkpoints.write_checkpoint({"info": {}}, path)
    before = path.read_bytes()
    request.getfixturevalue("full_disk")
    with pytest.raises(OutputError, match=r"final\.pt cannot be written: File too large"):
        _checkpoints.write_checkpoint({"weights": torch.zeros(10_000)}, path)
    assert files_below(tmp_path) == {path: before}


def test_masks_on_a_full_disk_are_not_half_written(tmp_path, capsys, request):
    paths = exposures(tmp_path / "field")
    request.getfixturevalue("full_disk")
    assert cli.main(["truth", *paths, "--out", str(tmp_path / "masks")]) == 3
    assert "a_crtruth.fits cannot be written" in capsys.readouterr().err
    assert files_below(tmp_path / "masks") == {}


def test_a_set_that_fails_leaves_nothing_and_other_files_alone(tmp_path):
    def frames():
        yield datasets.generic_frame(1, (64, 64))
        raise ValueError("the next one cannot be read")

    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="the next one"):
        datasets.build_detection_set(frames(), tmp_path / "set", stamp=64)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["notes.txt"]


def test_a_chain_goes_on_over_what_it_wrote(tmp_path):
    options = cli._parser().parse_args(["all", "--recipe", "smoke", "--resume"])
    *steps, last = cli._steps(cli.load_recipe("smoke"), options, tmp_path)
    assert last[0] == "validate"
    assert all("--resume" in step or "--overwrite" in step for step in steps)
