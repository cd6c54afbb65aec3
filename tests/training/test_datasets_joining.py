import json

import numpy as np
import pytest

pytest.importorskip("torch")

from crmend_training import cli, datasets


@pytest.fixture
def two_sets(tmp_path, rng):
    """Make two detection sets, of two frames of one field each."""
    nothing = np.zeros((64, 64), bool)
    for name in ("first", "second"):
        frames = []
        for number in range(2):
            image = rng.normal(0.0, 1.0, nothing.shape).astype(np.float32)
            cr = np.where(rng.random(nothing.shape) < 0.01, 60.0, 0.0).astype(np.float32)
            frame = datasets.Frame(image + cr, cr, nothing, nothing, f"{name}{number}", image)
            frames.append(frame)
        datasets.build_detection_set(frames, tmp_path / name, stamp=32)
    return tmp_path / "first", tmp_path / "second"


def test_a_joined_set_has_the_rows_frames_and_fields_of_both(two_sets, tmp_path, capsys):
    out = tmp_path / "both"
    assert cli.main(["join", *map(str, two_sets), "--out", str(out)]) == 0
    counts = json.loads(capsys.readouterr().out)
    infos = [datasets.load_info(folder) for folder in two_sets]
    assert counts["detect/image"] == sum(info["counts"]["detect/image"] for info in infos)
    info = datasets.load_info(out)
    assert info["frames"] == ["first0", "first1", "second0", "second1"]
    assert info["fields"] == [0, 1, 2, 3]
    for column in ("detect/image", "detect/mask", "detect/ignore"):
        parts = [np.asarray(datasets.load_column(folder, column)) for folder in two_sets]
        np.testing.assert_array_equal(datasets.load_column(out, column), np.concatenate(parts))
    owners = [datasets.load_column(folder, "detect/frame") for folder in two_sets]
    joined = np.concatenate([owners[0], owners[1] + 2])
    np.testing.assert_array_equal(datasets.load_column(out, "detect/frame"), joined)


def test_only_sets_of_the_same_columns_are_joined(two_sets, sets, tmp_path, capsys):
    command = ["join", str(two_sets[0]), str(sets / "inpaint"), "--out", str(tmp_path / "new")]
    assert cli.main(command) == 3
    assert "inpaint has format, normalisation and columns" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_set_is_not_joined_into_itself(two_sets, capsys):
    before = (two_sets[1] / "set.json").read_bytes()
    into = ["--out", str(two_sets[1]), "--overwrite"]
    assert cli.main(["join", *map(str, two_sets), *into]) == 3
    assert "one of the sets to join; expected another folder" in capsys.readouterr().err
    assert (two_sets[1] / "set.json").read_bytes() == before


def test_a_frame_in_two_sets_is_named(two_sets, tmp_path, capsys):
    again = tmp_path / "again"
    assert cli.main(["join", *map(str, two_sets), "--out", str(again)]) == 0
    out = tmp_path / "new"
    assert cli.main(["join", str(two_sets[1]), str(again), "--out", str(out)]) == 3
    assert "expected sets of different frames" in capsys.readouterr().err
    assert not out.exists()


def test_a_drawn_frame_in_two_sets_has_a_remedy(drawn_recipe, tmp_path, capsys):
    pytest.importorskip("galsim")
    for name in ("one", "two"):
        out = ["--out", str(tmp_path / name), "--jobs", "1"]
        assert cli.main(["dataset", "detect", "--recipe", str(drawn_recipe), *out]) == 0
    command = ["join", str(tmp_path / "one"), str(tmp_path / "two")]
    assert cli.main([*command, "--out", str(tmp_path / "both")]) == 3
    told = capsys.readouterr().err
    assert "frame generic 3 is in" in told
    assert "another seed in [dataset.generic], or with frames = 0 there" in told
