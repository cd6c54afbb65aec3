"""Truth from the fewest exposures, and where they do not overlap."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

pytest.importorskip("torch")

from crmend.errors import InvalidInputError
from crmend_training.cli import main
from crmend_training.datasets.multi_exposure import MultiExposureSettings, compare_exposures

_EIGHT = np.ones((3, 3))


@pytest.fixture
def field(rng, paint_tracks):
    """Three exposures of 256²: 40 Moffat stars, seeing that differs by 15 %, 40 tracks each."""
    y, x = np.mgrid[:256, :256]
    stars = np.stack([*rng.uniform(8, 248, (2, 40)), 10 ** rng.uniform(3.5, 5.0, 40)], axis=1)
    images, truths = [], []
    for width, (dy, dx) in zip(
        (2.5, 2.7, 2.85), ((0, 0), (1.4, -2.3), (-0.7, 1.6)), strict=True
    ):
        core = width / 2 / np.sqrt(2 ** (1 / 2.5) - 1)
        light = np.full(y.shape, 300.0)
        for sy, sx, flux in stars:
            r2 = (y - sy - dy) ** 2 + (x - sx - dx) ** 2
            light += 1.5 * flux / (np.pi * core**2) * (1 + r2 / core**2) ** -2.5
        truth, _ = paint_tracks(rng, light.shape, 40, 800.0, 5000.0)
        noisy = rng.poisson(light) + rng.normal(0, 5, light.shape) + truth
        images.append(noisy.astype(np.float32))
        truths.append(truth > 0)
    return images, truths


def test_stars_of_three_exposures_are_no_cosmic_rays(field):
    """Half of another exposure's CR in the model, or cores left out of the fit: 42 were."""
    found = compare_exposures(field[0], settings=MultiExposureSettings(gain=1.0))
    false = groups = 0
    for one, truth in zip(found, field[1], strict=True):
        labels, count = ndimage.label(one.mask, _EIGHT)
        near = ndimage.binary_dilation(truth, _EIGHT)
        false += count - len(set(labels[near]) - {0})
        groups += count
    assert groups >= 90
    assert false <= 15


def test_what_no_other_exposure_shows_is_unsure(field):
    """The first lies 30 px above the other two."""
    images, truths = field
    windows = (np.s_[:-30], np.s_[30:], np.s_[30:])
    first = compare_exposures([i[w] for i, w in zip(images, windows, strict=True)])[0]
    assert truths[0][:27].any()
    assert first.unsure[:27].all()
    assert not first.mask[:27].any()
    assert first.unsure[40:].mean() < 0.1


def test_a_cosmic_ray_of_the_only_other_exposure_leaves_no_ring(rng, paint_tracks):
    """Above row 60 the third has no pixel: what the second shows there is convolved alone."""
    y, x = np.mgrid[:200, :220]
    light = np.full(y.shape, 80.0)
    for sy, sx, flux in zip(
        *rng.uniform(5, 195, (2, 25)), 10 ** rng.uniform(2.5, 4.2, 25), strict=True
    ):
        light += flux * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / (2 * 1.4**2))
    truths = [paint_tracks(rng, light.shape, 40)[0] for _ in range(3)]
    images = [rng.poisson(light) + rng.normal(0, 5, y.shape) + truth for truth in truths]
    images[2][:60] = np.nan
    found = compare_exposures(
        [image.astype(np.float32) for image in images], settings=MultiExposureSettings(gain=1.0)
    )
    for one, truth in zip(found[:2], truths, strict=False):
        assert not one.mask[:57][truth[:57] == 0].any()
        assert one.mask[:57][truth[:57] > 60].mean() > 0.5


def test_an_exposure_that_is_there_twice_is_refused(field):
    """Each would hide the other's cosmic rays: the truth would say that there are none."""
    first, second, _ = field[0]
    first[5, 5] = np.nan
    with pytest.raises(InvalidInputError, match="exposures 1 and 3 of 3 hold the same values"):
        compare_exposures([first, second, first.copy()])


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (np.zeros((256, 256), np.float32), "exposure 2 of 3 holds the value 0 alone"),
        (np.ones((255, 256), np.float32), "exposure 2 of 3 has shape .255, 256., the first"),
    ],
)
def test_an_exposure_that_cannot_be_compared_is_named(field, second, told):
    images = [field[0][0], second, field[0][2]]
    with pytest.raises(InvalidInputError, match=told):
        compare_exposures(images)


def test_exposures_smaller_than_the_kernel_are_refused(field):
    with pytest.raises(InvalidInputError, match="expected at least 7 px per side"):
        compare_exposures([image[:1] for image in field[0]])


def test_truth_tells_of_an_exposure_that_drowns_in_cosmic_rays(field, rng, tmp_path, capsys):
    """It has none itself, and the others would have a thousand false pixels."""
    images = field[0]
    images[1] = images[1] + 10 ** rng.uniform(2, 4.5, images[1].shape).astype(np.float32)
    paths = [str(tmp_path / f"{number}.fits") for number in range(3)]
    for path, image in zip(paths, images, strict=True):
        fits.writeto(path, image)
    assert main(["truth", *paths, "--out", str(tmp_path / "masks")]) == 0
    told = capsys.readouterr().err
    assert told.count("warning:") == 1
    assert told.startswith(f"warning: {paths[1]} has ")
    assert "far noisier" in told
