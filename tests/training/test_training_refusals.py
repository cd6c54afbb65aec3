"""What a training refuses: runs, sets and checkpoints that are not what they should be."""

import json

import pytest

torch = pytest.importorskip("torch")

from crmend_training import _checkpoints, _training, cli, datasets  # noqa: E402

TINY = """
[dataset.detect]
stamp = 64
[dataset.generic]
seed = 3
frames = 2
shape = [64, 64]
[detect]
seed = 1
steps = 1
rate = 2e-3
budget = "60m"
crop = 32
batch = 2
[detect.config]
architecture = "deepcr"
hidden = 4
"""


@pytest.fixture
def tiny(tmp_path):
    """Return a recipe's path, and a function that trains with it; its set is in ``set``."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    make = ["dataset", "detect", "--recipe", str(path), "--jobs", "1"]
    assert cli.main([*make, "--out", str(tmp_path / "set")]) == 0

    def train(*more):
        known = ["detect", str(tmp_path / "set"), "--recipe", str(path)]
        return cli.main([*known, "--out", str(tmp_path / "run"), *more])

    return path, train


def test_a_training_is_neither_overwritten_nor_resumed_with_other_data(tiny, tmp_path, capsys):
    path, train = tiny
    assert train() == 0
    written = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    assert train() == 3
    assert "of an earlier training; use --resume to go on" in capsys.readouterr().err
    path.write_text(TINY.replace("seed = 1", "seed = 2"))
    assert train("--resume") == 3
    assert "was trained with seed 1, now it is 2" in capsys.readouterr().err
    path.write_text(TINY.replace("batch = 2", "batch = 4"))
    assert train("--resume") == 3
    assert "was trained with batch 2, now it is 4" in capsys.readouterr().err
    path.write_text(TINY)
    assert train("--resume", "--from", str(tmp_path / "run" / "final.pt")) == 3
    assert "did not start from the weights of --from" in capsys.readouterr().err
    info = json.loads((tmp_path / "set" / "set.json").read_text())
    (tmp_path / "set" / "set.json").write_text(json.dumps(info | {"fingerprint": "other"}))
    assert train("--resume") == 3
    assert "now it is other; give the data set" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == written


def test_a_resumed_training_tells_its_own_steps(tiny, capsys):
    path, train = tiny
    capsys.readouterr()
    assert train() == 0
    first = json.loads(capsys.readouterr().out)["steps"]
    path.write_text(TINY.replace(f"steps = {first}", f"steps = {first + 2}"))
    assert train("--resume") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == first + 2


def test_a_complete_training_is_left_as_it_is(tiny, tmp_path, capsys):
    """A rewritten file has another digest than the one that a calibration is bound to."""
    _, train = tiny
    assert train() == 0
    out = tmp_path / "run"
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert train("--resume") == 0
    assert "final.pt is of a training that is complete (steps: 1)" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    # One that was stopped between its last checkpoint and its end has none, or one of before.
    state = torch.load(out / "final.pt", weights_only=True)
    state["info"]["steps"] = 0
    torch.save(state, out / "final.pt")
    assert train("--resume") == 0
    assert _checkpoints.read_checkpoint(out / "final.pt")["info"]["steps"] == 1
    (out / "final.pt").unlink()
    assert train("--resume") == 0
    assert (out / "final.pt").is_file()


def test_a_resumed_training_still_knows_where_it_began(tiny, tmp_path, capsys):
    _, train = tiny
    start = _training.start(
        {"architecture": "deepcr", "hidden": 4}, 1, {"recipe": "first"}, None
    )
    _training.save(start, tmp_path / "start.pt", final=True)
    assert train("--from", str(tmp_path / "start.pt")) == 0
    assert train("--resume") == 0
    info = _checkpoints.read_checkpoint(tmp_path / "run" / "final.pt")["info"]
    assert info["initial"]["recipe"] == "first"
    assert '"initial"' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0s"], "budget 0 s"),
        (["--detectors", "8"], "--detectors is for the stage fine_detect, not for detect"),
        (["--from", "NOWHERE"], "does not exist; expected a checkpoint"),
        (["--from", "tiny.toml"], "cannot be read as a checkpoint"),
        (["--teacher", "mender.pt"], "architecture 'unetplusplus' is for another task"),
    ],
)
def test_a_training_says_what_it_expects(tiny, tmp_path, capsys, arguments, message):
    config = {"architecture": "unetplusplus", "filters": [4, 4]}
    _training.save(_training.start(config, 1, {}, None), tmp_path / "mender.pt", final=True)
    option, value = arguments
    if option in ("--from", "--teacher"):
        value = str(tmp_path / value)
    assert tiny[1](option, value) == 3
    assert message in capsys.readouterr().err


def test_a_stage_for_each_detector_needs_one(tiny, capsys):
    path, train = tiny
    path.write_text(TINY.replace("[detect", "[fine_detect"))
    assert train("--stage", "fine_detect") == 3
    assert "no frame of a CSST detector" in capsys.readouterr().err


@pytest.mark.parametrize("crop", [33, 128])
def test_a_crop_has_to_fit_the_network_and_the_set(tiny, capsys, crop):
    path, train = tiny
    path.write_text(TINY.replace("crop = 32", f"crop = {crop}"))
    assert train() == 3
    assert f"crop is {crop}; expected a multiple of 2" in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_refused_before_frames_are_read(tmp_path, capsys):
    config = {"architecture": "unetplusplus", "filters": [4, 4]}
    _training.save(_training.start(config, 1, {}, None), tmp_path / "mender.pt", final=True)
    out = tmp_path / "c.json"
    detect = ["--detect", str(tmp_path / "mender.pt"), "--generic-only", "--recipe", "smoke"]
    assert cli.main(["calibrate", *detect, "--out", str(out)]) == 3
    assert (
        "'unetplusplus' is for another task; expected deepcr or folded"
        in capsys.readouterr().err
    )


def test_a_folder_without_packs_is_no_success(tiny, tmp_path, capsys):
    assert tiny[1]() == 0
    final = str(tmp_path / "run" / "final.pt")
    assert cli.main(["validate", str(tmp_path / "nowhere"), "--detect", final]) == 3
    assert "expected a folder of model packs" in capsys.readouterr().err


def test_a_set_is_kept_only_if_it_was_made_with_the_same_settings(tiny, tmp_path, capsys):
    path, _ = tiny
    make = ["dataset", "detect", "--recipe", str(path), "--jobs", "1", "--resume"]
    make += ["--out", str(tmp_path / "set")]
    assert cli.main(make) == 0
    assert "is complete" in capsys.readouterr().out
    path.write_text(TINY.replace("stamp = 64", "stamp = 32"))
    assert cli.main(make) == 3
    assert (
        "made with settings {'stamp': 64}, now it is {'stamp': 32}" in capsys.readouterr().err
    )


def test_a_set_of_another_kind_is_not_broken_and_not_read(sets):
    before = (sets / "detect" / "set.json").read_bytes()
    with pytest.raises(ValueError, match=r"a set of detect/.*expected a folder for each set"):
        datasets.build_inpainting_set([], sets / "detect")
    assert (sets / "detect" / "set.json").read_bytes() == before
    with pytest.raises(ValueError, match="expected one with inpaint/image: make it with"):
        datasets.load_column(sets / "detect", "inpaint/image")


def interrupted():
    yield datasets.generic_frame(1, (128, 128))
    raise KeyboardInterrupt


def test_a_set_that_was_not_finished_is_not_complete(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        datasets.build_detection_set(interrupted(), tmp_path / "set", stamp=128)
    assert not list(tmp_path.iterdir())


def test_a_set_stays_until_the_one_that_replaces_it_is_complete(sets):
    before = {path: path.read_bytes() for path in sets.rglob("*") if path.is_file()}
    image = datasets.load_column(sets / "detect", "detect/image")
    first = image[0]
    with pytest.raises(KeyboardInterrupt):
        datasets.build_detection_set(interrupted(), sets / "detect", stamp=128)
    assert {path: path.read_bytes() for path in sets.rglob("*") if path.is_file()} == before
    frames = [datasets.generic_frame(seed, (64, 64)) for seed in (8, 9)]
    datasets.build_detection_set(frames, sets / "detect", stamp=64)
    assert len(datasets.load_column(sets / "detect", "detect/image")) == 2
    assert (image[0] == first).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalisation": "minmax-v0"}, "has format and normalisation (2, 'minmax-v0')"),
        ({"format": 9}, "has format and normalisation (9, "),
        ({"counts": {"detect/mask": 7}}, "rows, set.json says 7); make the set anew"),
        ({"frames": None}, "set.json is not what `crmend-train dataset` writes (it lacks"),
    ],
)
def test_a_set_that_networks_are_not_fed_with_is_refused(
    tiny, tmp_path, capsys, change, message
):
    path, train = tiny
    place = tmp_path / "set" / "set.json"
    info = json.loads(place.read_text()) | change
    place.write_text(json.dumps({key: info[key] for key in info if info[key] is not None}))
    assert train() == 3
    assert message in capsys.readouterr().err
    make = ["dataset", "detect", "--recipe", str(path), "--jobs", "1", "--overwrite"]
    assert cli.main([*make, "--out", str(tmp_path / "set")]) == 0
    assert train() == 0


def test_a_training_that_ran_away_leaves_the_checkpoint_of_before(tiny, tmp_path, capsys):
    path, train = tiny
    assert train() == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    path.write_text(TINY.replace("steps = 1", "steps = 9").replace("2e-3", "1e30"))
    assert train("--resume") == 3
    assert "not finite" in (told := capsys.readouterr().err)
    assert "lower the rate in the recipe" in told
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fast-own", "DIR"], "--fast-own needs --fast, the checkpoint"),
        (["--fast-views", "4"], "--fast-views 4 needs --fast, the network"),
    ],
)
def test_options_of_a_network_that_is_not_given_are_refused(tmp_path, capsys, options, message):
    detect = ["--detect", "D", "--generic-only", "--recipe", "smoke", *options]
    assert cli.main(["calibrate", *detect, "--out", str(tmp_path / "c.json")]) == 3
    assert message in capsys.readouterr().err


def test_a_set_that_is_damaged_is_named(tiny, tmp_path, capsys):
    path = tmp_path / "set" / "detect" / "image.npy"
    path.write_bytes(path.read_bytes()[:1000])
    assert tiny[1]() == 3
    assert f"{path} is damaged (" in capsys.readouterr().err
    (tmp_path / "set" / "set.json").write_text("{")
    assert tiny[1]() == 3
    assert "set.json is not what `crmend-train dataset` writes" in capsys.readouterr().err


def test_final_weights_are_no_checkpoint_to_go_on_from(tiny, tmp_path, capsys):
    assert tiny[1]() == 0
    run = tmp_path / "run"
    (run / "checkpoint.pt").write_bytes((run / "final.pt").read_bytes())
    assert tiny[1]("--resume") == 3
    assert "holds final weights and nothing to go on from" in capsys.readouterr().err


class Danger:
    """What runs code where a pickle is read as it stands."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def test_a_checkpoint_runs_no_code_and_holds_finite_weights(tiny, tmp_path, capsys):
    path = tmp_path / "other.pt"
    torch.save({"config": Danger()}, path)
    assert tiny[1]("--from", str(path)) == 3
    told = capsys.readouterr().err
    assert "cannot be read as a checkpoint (it is not only numbers and text)" in told
    assert "weights_only" not in told
    state = _training.start({"architecture": "deepcr", "hidden": 4}, 1, {}, None)
    _training.save(state, path, final=True)
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).fill_(float("nan"))
    torch.save(content, path)
    assert tiny[1]("--from", str(path)) == 3
    assert "weights are not finite, such as" in capsys.readouterr().err
