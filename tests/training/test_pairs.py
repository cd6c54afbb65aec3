"""Pairs on disk whose files do not belong together are named, by whatever reads them."""

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("torch")
pytest.importorskip("galsim")

from crmend_training import calibrate, datasets, evaluate_detection, mending_frames, simulate
from crmend_training.datasets import science


@pytest.fixture(scope="module")
def made():
    """Return a simulated exposure of 96²."""
    return simulate.simulate_exposure(simulate.SimulationConfig(8, (96, 96)))


@pytest.fixture
def pair(made, tmp_path):
    """Return the exposure on disk, with its CR-free twin and its catalogue."""
    simulate.write_pair(made, tmp_path, without_cr=True)
    return datasets.find_pairs(tmp_path)[0]


def _science(pair):
    return science._read_one(pair, science.ScienceSettings(), np.random.default_rng(0))


READERS = [
    datasets.load_frame,
    mending_frames.read_frame,
    _science,
    evaluate_detection.read_scene,
    lambda pair: list(calibrate.read_frames([pair])),
]


def _change(path, change):
    with fits.open(path, mode="update") as hdus:
        hdus[1].data = change(hdus[1].data)


@pytest.mark.parametrize("read", READERS)
def test_truth_of_another_shape_or_with_nan_is_named(pair, read):
    """Compiled code read and wrote beyond its end; NaN was taught as no cosmic ray."""
    read(pair)
    _change(pair.truth, lambda data: np.where(np.arange(96) < 3, np.nan, data))
    with pytest.raises(ValueError, match=r"_CRS_.*is NaN or infinite at 288 of 9216 pixels"):
        read(pair)
    _change(pair.truth, lambda data: data[:60])
    with pytest.raises(ValueError, match=r"_CRS_.*has shape \(60, 96\), its Level 1 image"):
        read(pair)


@pytest.mark.parametrize("read", READERS)
def test_truth_below_zero_is_named_but_for_rounding(pair, read):
    """Noise or a sky in it made false cosmic rays, and hid true ones."""
    sky = np.arange(9216).reshape(96, 96) % 9 == 0
    _change(pair.truth, lambda data: np.where(sky, -0.5, data))
    read(pair)
    assert datasets.read_truth(pair, (96, 96)).min() == 0.0
    _change(pair.truth, lambda data: np.where(sky, -7.5, data))
    with pytest.raises(ValueError, match=r"_CRS_.*below zero at 1024 of 9216 .* to -7\.5; exp"):
        read(pair)


def test_truth_that_is_flipped_is_doubted(pair):
    assert next(calibrate.read_frames([pair])).doubtful is None
    _change(pair.truth, lambda data: data[::-1])
    assert next(calibrate.read_frames([pair])).doubtful < 0.5


@pytest.mark.parametrize("read", READERS[:3])
def test_a_twin_of_another_shape_is_named(pair, read):
    _change(pair.clean, lambda data: data[:60])
    with pytest.raises(ValueError, match=r"_NCR_.*has shape \(60, 96\), its Level 1 image"):
        read(pair)
