"""Holes of large cosmic rays, filled before sources are looked for."""

import numpy as np
import pytest

import crmend
from crmend._holes import DEEP, fill_holes
from crmend._normalise import Scale
from crmend._star_cores import check_star_cores

LEVEL = 100.0
SCALE = Scale(background=LEVEL, noise=5.0)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def disk(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) < radius


@pytest.fixture
def sky(rng):
    return rng.normal(LEVEL, SCALE.noise, (120, 140)).astype(np.float32)


def glow(shape, height=40.0, width=14.0):
    """Return light around (60, 70) that reaches beyond any hole of these tests."""
    rows, columns = np.indices(shape)
    square = (rows - 60.0) ** 2 + (columns - 70.0) ** 2
    return (height * np.exp(-0.5 * square / width**2)).astype(np.float32)


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_a_hole_continues_the_light_around_it(sky, tilt):
    columns = np.indices(sky.shape)[1]
    clean = LEVEL + tilt * (columns - 70.0) + glow(sky.shape)
    hole = disk(sky.shape, 60, 70, 6.0)
    image = np.where(hole, LEVEL, clean).astype(np.float32)
    fill_holes(image, hole, SCALE)
    # The first guess was wrong by up to 40.
    np.testing.assert_allclose(image, clean, atol=12.0)


@pytest.mark.parametrize("width", [2 * DEEP, 2 * DEEP + 1])
def test_only_holes_with_a_deep_pixel_are_written(sky, width):
    mask = np.zeros(sky.shape, bool)
    mask[57 : 57 + width, 67 : 67 + width] = True
    mask[80:82, 20:90] = True
    image = np.where(mask, np.float32(SCALE.background), sky + glow(sky.shape))
    before = image.copy()
    fill_holes(image, mask, SCALE)
    changed = image != before
    assert not changed[~mask].any()
    assert not changed[80:82].any()
    assert changed.any() == (width > 2 * DEEP)


def test_long_holes_are_filled_piece_by_piece_up_to_the_edge(sky):
    mask = np.zeros(sky.shape, bool)
    mask[56:65] = True
    clean = LEVEL + glow(sky.shape, width=20.0)
    image = np.where(mask, np.float32(LEVEL + 90.0), sky - LEVEL + clean)
    fill_holes(image, mask, SCALE)
    near = mask & (np.abs(np.indices(sky.shape)[1] - 70) < 10)
    assert np.abs(image - clean)[near].max() < 6.0 * SCALE.noise
    mask[:] = True
    fill_holes(image, mask, SCALE)
    assert np.isfinite(image).all()


def test_without_light_around_it_a_hole_stays(sky):
    hole = disk(sky.shape, 60, 70, 8.0)
    image = np.where(hole, np.float32(LEVEL), sky)
    before = image.copy()
    fill_holes(image, hole, SCALE)
    np.testing.assert_array_equal(image, before)


def test_nan_around_a_hole_stays_and_does_not_spread(sky):
    hole = disk(sky.shape, 60, 70, 8.0)
    image = np.where(hole, np.float32(SCALE.background), sky)
    image[60, 78] = np.nan
    fill_holes(image, hole, SCALE)
    assert np.isnan(image).sum() == 1


@pytest.fixture
def field(rng):
    """Return a clean field of stars with a galaxy in its middle, and a blob on that."""
    rows, columns = np.indices((256, 256))
    radius = np.hypot(rows - 128.3, columns - 127.6)
    clean = 100.0 + 300.0 * np.exp(-radius / 4.0)
    for y, x in [(y, x) for y in range(30, 250, 63) for x in range(30, 250, 63)]:
        distance = np.hypot(rows - y + rng.uniform(), columns - x + rng.uniform())
        clean += 3000.0 * np.exp(-0.5 * (distance / 1.1) ** 2)
    clean = (clean + rng.normal(0.0, 5.0, radius.shape)).astype(np.float32)
    return clean, disk(clean.shape, 129, 127, 7.8)


def test_a_galaxy_below_a_blob_is_found_and_mended(field):
    clean, blob = field
    image = clean + np.float32(3000.0) * blob
    done = crmend.inpaint(image, blob, model="generic")
    missing = (clean - done.image)[blob].sum()
    assert np.hypot(done.sources.x - 127.6, done.sources.y - 128.3).min() < 1.0
    assert (done.method[blob] == 2).all()
    assert abs(missing) < 0.2 * (clean - 100.0)[blob].sum()
    np.testing.assert_array_equal(done.image[~blob], image[~blob])


def test_the_judge_of_stars_finds_it_too_and_frees_nothing(field):
    clean, blob = field
    image, mask = clean + np.float32(3000.0) * blob, blob.copy()
    before, none = image.copy(), np.zeros(blob.shape, bool)
    cores = check_star_cores(image, mask, none, none)
    assert np.hypot(cores.sources.x - 127.6, cores.sources.y - 128.3).min() < 3.0
    assert cores.freed == 0
    np.testing.assert_array_equal(image, before)


def test_blobs_on_the_sky_make_no_sources(rng):
    clean = rng.normal(100.0, 5.0, (512, 512)).astype(np.float32)
    mask = np.zeros(clean.shape, bool)
    for y in range(40, 500, 48):
        for x in range(40, 500, 48):
            mask |= disk(mask.shape, y, x, 7.8)
    done = crmend.inpaint(clean + np.float32(2000.0) * mask, mask, model="generic")
    assert len(done.sources) == 0
    spread = np.std((done.image - 100.0)[mask]) / 5.0
    assert spread < 1.1
