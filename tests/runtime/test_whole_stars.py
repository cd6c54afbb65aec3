"""Stars that a network flags whole, freed where the image's own PSF explains them."""

import numpy as np
import pytest

import crmend
from crmend._star_cores import check_star_cores
from crmend._star_judge import opposite_neighbours

SHAPE = (330, 330)
WIDTH = 0.85  # of the stars, a Gaussian's standard deviation [px]: no wings
NOISE = 4.0


def gaussian(y, x, width=WIDTH):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / width**2) / (2 * np.pi * width**2)


@pytest.fixture(scope="module")
def field():
    """Return a noiseless grid of 36 stars [e-], and where they are."""
    rng = np.random.default_rng(8)
    places = [
        (y + dy, x + dx)
        for y in range(30, 310, 50)
        for x in range(30, 310, 50)
        for dy, dx in [rng.uniform(-0.5, 0.5, 2)]
    ]
    light = sum(10.0 ** rng.uniform(3.0, 5.5) * gaussian(*place) for place in places)
    return light, places


def exposed(light):
    rng = np.random.default_rng(9)
    return (rng.poisson(light) + rng.normal(0.0, NOISE, SHAPE)).astype(np.float32)


def flagged(*places, reach=2.5):
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.any([(yy - y) ** 2 + (xx - x) ** 2 < reach**2 for y, x in places], axis=0)


def checked(image, cr_mask, excluded=None):
    mask, nothing = cr_mask.copy(), np.zeros(SHAPE, bool)
    excluded = nothing if excluded is None else excluded
    return mask, check_star_cores(image, mask, nothing, excluded, electrons_per_unit=1.0)


@pytest.mark.parametrize("middle", [True, False])
def test_stars_that_are_flagged_whole_are_freed(field, middle):
    light, places = field
    mask = flagged(*places[::3])
    if not middle:
        for y, x in places[::3]:
            mask[round(y), round(x)] = False
    left, found = checked(exposed(light), mask)
    assert not left.any()
    assert found.freed == mask.sum() + found.rims
    assert len(found.sources) == len(places)


@pytest.mark.parametrize("edge", [(2.6, 160.2), (326.4, 3.1), (101.3, 326.0)])
def test_a_star_at_the_edge_is_freed(field, edge):
    image = exposed(field[0] + 8e4 * gaussian(*edge))
    left, _ = checked(image, flagged(edge))
    assert not left.any()


@pytest.mark.parametrize("width", [0.6, 1.15, 1.5])
def test_what_is_narrower_or_wider_than_stars_stays_flagged(field, width):
    ions = [(55.2, 55.4), (155.0, 205.3), (255.4, 105.1)]
    image = exposed(field[0] + sum(8e4 * gaussian(*ion, width) for ion in ions))
    mask = flagged(*ions)
    left, _ = checked(image, mask)
    np.testing.assert_array_equal(left, mask)


def test_a_track_stays_flagged_and_so_does_a_star_with_a_cosmic_ray(field):
    light, places = field
    track = np.zeros(SHAPE)
    track[55, 50:60] = 4e3
    y, x = (round(v) for v in places[14])
    track[y + 1, x] = 2e4
    mask = flagged(places[14]) | (track > 0.0)
    left, found = checked(exposed(light + track), mask)
    assert left[track > 0.0].all()
    assert found.added == 0


def test_a_group_with_a_pixel_without_a_value_stays_flagged(field):
    light, places = field
    excluded, mask = np.zeros(SHAPE, bool), flagged(places[14])
    excluded[round(places[14][0]) + 1, round(places[14][1])] = True
    left, _ = checked(exposed(light), mask, excluded)
    np.testing.assert_array_equal(left, mask)


def test_opposite_neighbours_of_a_gaussian_are_the_same_at_all_phases():
    low, high = opposite_neighbours(np.array([[1.0, 1.0, 0.0, 4.0]]))
    assert low == pytest.approx(np.exp([-0.25, -1.0]), rel=1e-4)
    assert high == pytest.approx(low, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "least"), [({}, 0), ({"threshold": 0.1}, 1), ({"threshold": 0.02}, 4)]
)
def test_no_star_without_wings_is_erased_by_a_pack_of_csst(field, options, least):
    """A low threshold flags some: its network learnt stars with wings above all."""
    pytest.importorskip("onnxruntime")
    light, places = field
    image = exposed(light + 100.0)
    bare = crmend.detect(image, detector=8, star_cores=False, **options).cr_mask
    taken = sum(bare[round(y), round(x)] for y, x in places)
    assert taken >= least
    left = crmend.detect(image, detector=8, **options).cr_mask
    assert not any(left[round(y), round(x)] for y, x in places)
