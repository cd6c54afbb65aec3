"""Fixtures of the training tests; all of them need the extra ``train``."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(12345)


@pytest.fixture
def sets(tmp_path, rng):
    """Make both sets from three synthetic frames with easy CRs and Gaussian sources."""
    from crmend_training import datasets

    frames = []
    y, x = np.mgrid[:256, :256]
    for number in range(3):
        image = rng.normal(0.0, 1.0, (256, 256))
        for cy, cx in rng.uniform(40, 216, (12, 2)):
            image += 400.0 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 0.9**2))
        cr = np.zeros((256, 256), np.float32)
        for row, column in rng.integers(34, 220, (60, 2)):
            cr[row, column : column + 3] = 60.0
        hit = (image + cr).astype(np.float32)
        nothing = np.zeros(cr.shape, bool)
        frames.append(
            datasets.Frame(hit, cr, nothing, nothing, str(number), image.astype(np.float32))
        )
    datasets.build_detection_set(frames, tmp_path / "detect", stamp=128)
    datasets.build_inpainting_set(frames, tmp_path / "inpaint")
    return tmp_path


@pytest.fixture
def paint_tracks():
    """Return what paints cosmic rays: paint_tracks(rng, shape, count)."""
    return _paint_tracks


def _paint_tracks(rng, shape, count, low=600.0, high=6000.0):
    """Return straight tracks of 1–12 px, isolated, and how much charge each has [e-]."""
    charge = np.zeros(shape, np.float32)
    free = np.zeros(shape, bool)
    free[14:-14, 14:-14] = True
    energies = []
    while len(energies) < count:
        y, x = rng.integers(14, np.array(shape) - 14)
        length, angle = rng.integers(1, 13), rng.uniform(0, np.pi)
        along = np.arange(length)
        ys = np.rint(y + along * np.sin(angle)).astype(int)
        xs = np.rint(x + along * np.cos(angle)).astype(int)
        if not free[ys.clip(0, shape[0] - 1), xs.clip(0, shape[1] - 1)].all():
            continue
        energy = rng.uniform(low, high)
        np.add.at(charge, (ys, xs), energy / length)  # a slanted track may stay on a pixel
        energies.append(energy)
        free[max(ys.min() - 4, 0) : ys.max() + 5, max(xs.min() - 4, 0) : xs.max() + 5] = False
    return charge, np.array(energies)


@pytest.fixture
def drawn_recipe(tmp_path):
    """Return the path of a recipe whose detection set is one drawn frame of 64 x 64 px."""
    path = tmp_path / "recipe.toml"
    path.write_text(
        "[dataset.detect]\nstamp = 64\n[dataset.generic]\nseed = 3\nframes = 1\n"
        "shape = [64, 64]\n"
    )
    return path
