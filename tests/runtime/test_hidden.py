"""Stars whose core a cosmic ray took are looked for, and mended as stars."""

import numpy as np
import pytest

import crmend
from crmend._background import Surface
from crmend._hidden import find_hidden
from crmend._normalise import Scale
from crmend._targets import find_targets
from crmend.models import choose_model
from crmend.sources import SourceCatalog

SCALE = Scale(100.0, 2.0)


def star(y, x, flux, shape=(128, 128), sigma=0.9):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    light = np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / sigma**2)
    return flux * light / (2 * np.pi * sigma**2)


def frame(flux, seed=0):
    """Return a frame with one star, in units of twice the noise above 100, and its hit core."""
    sky = np.random.default_rng(seed).normal(size=(128, 128))
    image = SCALE.background + SCALE.noise * (sky + star(60, 70, flux))
    mask = np.zeros(image.shape, bool)
    mask[59:62, 69:72] = True
    return image.astype(np.float32), mask


NOTHING = SourceCatalog(*(np.empty(0) for _ in range(8)))
SKY = Surface(SCALE.background * np.eye(1, 6)[0])


def search(image, mask, excluded=None):
    excluded = np.zeros(image.shape, bool) if excluded is None else excluded
    return find_hidden(image, mask, excluded, SKY, SCALE.noise, np.flatnonzero(mask), None)


def test_a_star_under_a_cosmic_ray_is_found():
    image, mask = frame(300.0)
    image[mask] = 9e4
    found = search(image, mask)
    assert len(found) == 1
    assert abs(found.x[0] - 70) <= 1
    assert abs(found.y[0] - 60) <= 1
    assert 0.6 < found.flux[0] / (300.0 * SCALE.noise) < 1.6


def test_nothing_is_found_in_noise():
    image, mask = frame(0.0)
    mask |= np.random.default_rng(1).random(mask.shape) < 0.05
    assert len(search(image, mask)) == 0


def test_light_that_is_no_point_is_not_found():
    image, mask = frame(0.0)
    image += np.float32(30.0)  # a halo
    assert len(search(image, mask)) == 0
    image, mask = frame(0.0)
    image[58, 66:75] += 60.0  # the edge of a track that the mask left out
    assert len(search(image, mask)) == 0


def test_two_bright_pixels_that_a_mask_left_are_no_star():
    for seed in range(5):
        image, mask = frame(0.0, seed)
        image[58, 70:72] += np.float32([9.0, 8.0]) * SCALE.noise
        assert len(search(image, mask)) == 0
        image, mask = frame(350.0, seed)  # brighter in its good pixels, and on all sides
        assert len(search(image, mask)) == 1


RING = [(y, x) for y in range(59, 63) for x in range(69, 73) if {y, x} & {59, 62, 69, 72}]
"""Pixels around a hole of 2 × 2."""


def rims(charge):
    """Yield forty images with four pixels of 5 noises beside such a hole, and their masks."""
    rng = np.random.default_rng(2)
    for seed in range(40):
        image, _ = frame(0.0, seed)
        mask = np.zeros(image.shape, bool)
        mask[60:62, 70:72] = True
        image[mask] += charge * SCALE.noise
        for y, x in rng.permutation(RING)[:4]:
            image[y, x] += 5.0 * SCALE.noise
        yield image, mask


def test_what_a_mask_left_around_a_cosmic_ray_is_seldom_a_star():
    """One in eight was mended to a star."""
    found = {c: sum(len(search(*one)) for one in rims(c)) for c in (60.0, np.nan, 0.0)}
    assert found[60.0] <= 1
    assert found[np.nan] <= 1
    assert found[0.0] >= 3  # Nothing there that it could have come from.


@pytest.mark.parametrize("charge", [60.0, 0.0, -50.0, np.nan])
def test_values_of_a_mask_that_mean_nothing_make_no_star(charge):
    """Zeros in masked pixels, say: the rims beside them are what they are."""
    found = 0
    for image, mask in rims(charge):
        nothing = np.zeros(mask.shape, bool)
        filled = np.where(mask, np.float32(SCALE.background), image)
        sources, _, _ = find_targets(
            filled, mask, nothing, nothing, SCALE, SKY,
            sources=NOTHING, reach=None, hidden=True, observed=image[mask],
        )  # fmt: skip
        found += len(sources)
    assert found <= 1


def test_a_faint_star_is_told_from_a_rim_by_the_charge_beside_it():
    """A cosmic ray of five pixels, as faint and as bright as its wings allow."""
    found = {5.0: 0, 200.0: 0}
    for charge in found:
        for seed in range(20):
            image, mask = frame(80.0, seed)
            mask[59:62:2, 69:72:2] = False
            image[mask] += charge * SCALE.noise
            found[charge] += len(search(image, mask))
    assert found[5.0] >= 5
    assert found[200.0] <= 1


def test_bad_neighbours_are_not_looked_at():
    image, mask = frame(0.0)
    excluded = np.zeros(image.shape, bool)
    excluded[62:64, 69:72] = True
    image[excluded] = 9e4
    assert len(search(image, mask, excluded)) == 0


def test_nothing_to_look_at_is_no_error():
    image, mask = frame(300.0)
    assert len(search(image, np.zeros_like(mask))) == 0


def test_the_network_mends_it_and_the_light_comes_back():
    """One star, so that the PSF is not known; nine tenths of its light are lost."""
    model = choose_model("08", None, "inpaint", "cpu", 1)
    errors = {"network": [], "median": []}
    for seed in range(8):
        image, mask = frame(600.0, seed)
        damaged = np.where(mask, np.float32(9e4), image)
        for name, sources in (("network", None), ("median", NOTHING)):
            done = crmend.inpaint(damaged, mask, model=model, sources=sources)
            errors[name].append((done.image - image)[mask].sum() / (600.0 * SCALE.noise))
    assert np.abs(np.median(errors["network"])) < 0.4
    assert np.median(errors["median"]) < -0.6
