"""Exposures with masks that say nothing, or are not there in full."""

import os

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")

from crmend.errors import CrmendWarning
from crmend_training import _training, cli, compare_models
from crmend_training.datasets import Reading, find_masked, load_masked


@pytest.fixture
def folder(tmp_path, rng, drawn_recipe):
    """Write three exposures with masks without a cosmic ray, a recipe and a checkpoint."""
    for name in "abc":
        image = rng.normal(100.0, 5.0, (64, 64)).astype(np.float32)
        planes = [fits.PrimaryHDU(image)]
        planes += [fits.ImageHDU(np.zeros((64, 64), np.uint8), name="CRTRUTH")]
        fits.HDUList(planes).writeto(tmp_path / f"{name}.fits")
    run = _training.start({"architecture": "deepcr", "hidden": 4}, 1, {}, None)
    _training.save(run, tmp_path / "net.pt", final=True)
    return tmp_path


def dataset(folder):
    reading = ["--masks", str(folder), "--instrument", "generic", "--jobs", "1"]
    recipe = ["--recipe", str(folder / "recipe.toml"), "--out", str(folder / "set")]
    return cli.main(["dataset", "detect", str(folder), *reading, *recipe])


def calibrate(folder):
    reading = ["--masks", str(folder), "--instrument", "generic"]
    options = ["--validation", str(folder), *reading, "--out", str(folder / "c.json")]
    return cli.main(["calibrate", "--detect", str(folder / "net.pt"), *options])


def test_masks_without_a_cosmic_ray_choose_no_threshold(folder, capsys):
    assert calibrate(folder) == 3
    assert "the 3 frames that choose a threshold hold no cosmic ray" in capsys.readouterr().err
    assert not (folder / "c.json").exists()


@pytest.mark.parametrize("how", ["right", "mirrored", "shifted"])
@pytest.mark.filterwarnings("default::crmend.errors.CrmendWarning")
def test_masks_that_do_not_lie_on_cosmic_rays_choose_no_threshold(folder, rng, capsys, how):
    """They gave a threshold of 0.02, whatever the network."""
    for name in "abc":
        hit = rng.random((64, 64)) < 0.01
        marked = {"right": hit, "mirrored": hit[::-1], "shifted": np.roll(hit, 4, axis=1)}[how]
        with fits.open(folder / f"{name}.fits", mode="update") as hdus:
            hdus[0].data[hit] += 400.0
            hdus["CRTRUTH"].data = marked.astype(np.uint8)
    assert calibrate(folder) == (0 if how == "right" else 3)
    assert (folder / "c.json").exists() == (how == "right")
    told = "on 3 of the 3 frames that choose a threshold the truth marks groups of pixels"
    assert (told in capsys.readouterr().err) == (how != "right")


def test_a_set_whose_masks_hold_no_cosmic_ray_says_so(folder, capsys):
    assert dataset(folder) == 0
    assert "warning: no mask of the exposures in" in capsys.readouterr().err
    with fits.open(folder / "b.fits", mode="update") as hdus:
        hdus["CRTRUTH"].data[5, 5] = 1
    (folder / "set" / "set.json").unlink()
    assert dataset(folder) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("how", ["right", "mirrored", "shifted"])
def test_a_mask_that_does_not_lie_on_cosmic_rays_is_doubted(folder, rng, how):
    hit = rng.random((64, 64)) < 0.01
    marked = {"right": hit, "mirrored": hit[::-1], "shifted": np.roll(hit, 4, axis=1)}[how]
    with fits.open(folder / "b.fits", mode="update") as hdus:
        hdus[0].data[hit] += 400.0
        hdus["CRTRUTH"].data = marked.astype(np.uint8)
    reading = Reading("generic")
    one = find_masked(folder, folder, reading)[1]
    if how == "right":
        load_masked(one, reading)
        return
    with pytest.warns(CrmendWarning, match="b: of the groups of pixels .* marks .% stand out"):
        load_masked(one, reading)


def test_a_set_of_other_exposures_is_not_complete(folder, capsys):
    again = ["--masks", str(folder), "--instrument", "generic", "--resume"]
    again += ["--recipe", str(folder / "recipe.toml"), "--out", str(folder / "set")]
    assert dataset(folder) == 0
    assert cli.main(["dataset", "detect", str(folder), *again]) == 0
    assert "is complete" in capsys.readouterr().out
    (folder / "b.fits").rename(folder / "d.fits")
    assert cli.main(["dataset", "detect", str(folder), *again]) == 3
    assert "made of other exposures: it has b where c is now" in capsys.readouterr().err


def test_exposures_of_which_no_pixel_takes_part_are_told(folder):
    for path in folder.glob("*.fits"):
        fits.append(path, np.ones((64, 64), np.uint8), fits.Header({"EXTNAME": "UNSURE"}))
    reading = Reading("generic")
    frames = compare_models.read_masked(find_masked(folder, folder, reading), reading)
    found = [np.zeros((64, 64), np.float32)] * 3
    with pytest.raises(ValueError, match="hold no cosmic ray on a pixel that takes part"):
        compare_models.score("mine", frames, "generic", found)


@pytest.mark.parametrize("whose", ["exposure", "mask"])
def test_a_file_that_was_cut_off_is_named(folder, capsys, whose):
    path = folder / "b.fits"
    if whose == "mask":
        path = folder / "b_crtruth.fits"
        fits.writeto(path, np.zeros((64, 64), np.uint8))
    os.truncate(path, 4000)
    assert dataset(folder) == 3
    assert f"{path} is truncated: HDU 0" in capsys.readouterr().err
    assert not (folder / "set").exists() or not list((folder / "set").iterdir())


def test_an_exposure_and_its_compressed_copy_are_not_two(folder, capsys):
    """Both would have one mask, and one would be held out from what the other teaches."""
    with fits.open(folder / "b.fits") as hdus:
        hdus.writeto(folder / "b.fits.gz")
    assert dataset(folder) == 3
    assert f"several exposures in {folder} are named b, and so" in capsys.readouterr().err
    assert not (folder / "set").exists()
