"""Cosmic rays on the cores of stars, judged by the image's own PSF."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend._star_cores import check_star_cores
from crmend._star_judge import HALF, judge_star, least_neighbour
from crmend.detect import wants_star_cores
from crmend.errors import InvalidInputError
from crmend.models import load_model

PACKS = Path(__file__).parent.parent / "data" / "packs"
SHAPE = (330, 330)
WIDTH = 1.0  # of the stars, a Gaussian's standard deviation [px]
PSF = np.array([[1.0, WIDTH**2, 0.0, WIDTH**2]])


def gaussian(y, x, width=WIDTH, shape=SHAPE):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / width**2) / (2 * np.pi * width**2)


@pytest.fixture(scope="module")
def field():
    """A grid of 36 stars with photon noise [e-], noise of the sky 4; and where they are."""
    rng = np.random.default_rng(5)
    places = [
        (y + dy, x + dx)
        for y in range(30, 310, 50)
        for x in range(30, 310, 50)
        for dy, dx in [rng.uniform(-0.5, 0.5, 2)]
    ]
    light = sum(rng.uniform(8e3, 6e4) * gaussian(*place) for place in places)
    image = (rng.poisson(light) + rng.normal(0.0, 4.0, SHAPE)).astype(np.float32)
    return image, np.array(places)


def checked(image, cr_mask=None, excluded=None, **options):
    """Return the mask afterwards, and what is said about it; the image stays as it is."""
    mask = np.zeros(image.shape, bool) if cr_mask is None else cr_mask.copy()
    nothing = np.zeros(image.shape, bool)
    before = image.copy()
    found = check_star_cores(
        image, mask, nothing, nothing if excluded is None else excluded, **options
    )
    np.testing.assert_array_equal(image, before)
    return mask, found


def hit(image, places, charges, star=14):
    """Return a copy with charges [e-] at offsets (dy, dx) from a star's middle pixel."""
    y, x = np.rint(places[star]).astype(int)
    image = image.copy()
    pixels = [(y + dy, x + dx) for dy, dx in charges]
    for pixel, charge in zip(pixels, charges.values(), strict=True):
        image[pixel] += charge
    return image, pixels


@pytest.mark.parametrize("unit", [1.0, 1.0 / 150.0])
@pytest.mark.parametrize("charges", [{(0, 1): 4e3}, {(0, 0): 5e3}, {(-1, 0): 4e3, (0, 1): 4e3}])
def test_a_cosmic_ray_on_a_core_is_found_and_nothing_else(field, charges, unit):
    image, pixels = hit(*field, charges)
    mask, found = checked(image * np.float32(unit), electrons_per_unit=1.0 / unit)
    assert sorted(map(tuple, np.argwhere(mask))) == sorted(pixels)
    assert (found.added, found.freed) == (len(charges), 0)


def test_stars_without_cosmic_rays_stay(field):
    mask, found = checked(field[0])
    assert len(found.psf)
    assert len(found.sources) == 36
    assert not mask.any()


@pytest.mark.parametrize("distance", [1.6, 2.0, 2.5, 3.0])
def test_a_companion_is_no_cosmic_ray(field, distance):
    image, places = field
    y, x = places[14]
    pair = image + (9e3 * gaussian(y, x + distance)).astype(np.float32)
    assert not checked(pair)[0].any()


def test_a_galaxy_is_left_alone(field):
    image, places = field
    y, x = places[14]
    wide = image + (3e5 * gaussian(y + 25, x + 25, 3.0)).astype(np.float32)
    wide[round(y) + 25, round(x) + 25] += 6e3
    assert not checked(wide)[0].any()


def test_flagged_pixels_of_a_core_are_freed_if_they_fit(field):
    image, places = field
    image, (struck,) = hit(image, places, {(0, 1): 4e3})
    mask = np.zeros(SHAPE, bool)
    mask[struck[0] - 1 : struck[0] + 2, struck[1] : struck[1] + 2] = True
    mask[5, 5] = True
    left, found = checked(image, mask, electrons_per_unit=1.0)
    assert set(map(tuple, np.argwhere(left))) >= {(5, 5), struck}
    assert found.added == 0
    assert found.freed == 7 - left.sum() >= 2


def test_saturated_cores_and_pixels_without_a_value_are_not_judged(field):
    image, places = field
    image, (struck,) = hit(image, places, {(0, 1): 4e3})
    excluded = np.zeros(SHAPE, bool)
    excluded[struck[0], struck[1] - 1] = True
    assert not checked(image, excluded=excluded)[0].any()


def test_where_many_stars_are_unlike_the_psf_nothing_changes(field):
    image, places = field
    for star in range(1, 36, 6):
        image, _ = hit(image, places, {(0, 1): 4e3}, star)
    mask, found = checked(image)
    assert len(found.psf)
    assert not mask.any()


def test_a_psf_like_a_cosmic_ray_judges_nothing(field, monkeypatch):
    image, _ = hit(*field, {(0, 1): 4e3})
    monkeypatch.setattr("crmend._star_cores.LEAST_NEIGHBOUR", 0.9)
    assert not checked(image)[0].any()


def test_too_few_stars_tell_no_psf(field):
    image, places = field
    image, _ = hit(image, places, {(0, 1): 4e3})
    y, x = np.rint(places[14]).astype(int)
    mask, found = checked(np.ascontiguousarray(image[y - 40 : y + 40, x - 40 : x + 40]))
    assert not mask.any()
    assert len(found.psf) == 0


@pytest.mark.parametrize("charge", [0.0, 400.0])
def test_what_is_left_of_a_star_is_judged_by_its_pixels(charge):
    stamp = (900.0 * gaussian(HALF, HALF, shape=(13, 13))).astype(np.float32)
    stamp[HALF + 1, HALF] += charge
    nothing = np.zeros(stamp.shape, bool)
    found, rest = judge_star(stamp, nothing, PSF, 0.25, 0.5 * least_neighbour(PSF))
    assert [*map(tuple, np.argwhere(found))] == ([(HALF + 1, HALF)] if charge else [])
    assert np.abs(rest[~found]).max() < 1.0


def test_the_faintest_but_one_neighbour_of_a_peak():
    # A point in a pixel's corner: two neighbours as bright, two 1.5 px away and 0.5 px aside.
    expected = np.exp(-0.5 * (1.5**2 - 0.5**2) / WIDTH**2)
    assert least_neighbour(PSF) == pytest.approx(expected, rel=1e-6)


def test_a_psf_far_narrower_than_a_pixel_has_no_neighbour():
    assert least_neighbour(np.array([[1.0, 0.005, 0.0, 0.005]])) == 0.0


def test_clean_and_detect_flag_alike_and_can_do_without(field, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    image, (struck,) = hit(*field, {(0, 1): 4e3})
    found = crmend.detect(image, model="tiny")
    cleaned = crmend.clean(image, model="tiny")
    np.testing.assert_array_equal(cleaned.cr_mask, found.cr_mask)
    np.testing.assert_array_equal(cleaned.flag != 0, found.cr_mask)
    assert found.cr_mask[struck]
    plain = crmend.clean(image, model="tiny", star_cores=False)
    bare = crmend.detect(image, model="tiny", star_cores=False)
    np.testing.assert_array_equal(bare.cr_mask, plain.cr_mask)
    np.testing.assert_array_equal(bare.cr_probability, found.cr_probability)
    assert plain.stats.star_pixels_added is None
    added = np.count_nonzero(found.cr_mask & ~bare.cr_mask)
    freed = np.count_nonzero(bare.cr_mask & ~found.cr_mask)
    assert cleaned.stats.star_pixels_added == added
    assert cleaned.stats.star_pixels_freed == freed


def test_only_true_and_false_are_wishes(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    model = load_model("tiny", None, "detect")
    assert wants_star_cores(model, None) is True
    assert wants_star_cores(model, False) is False
    with pytest.raises(InvalidInputError, match=r"star_cores is 'no'; expected True or False"):
        wants_star_cores(model, "no")


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_the_command_line_counts_and_can_do_without(field, command, crmend_cli, tmp_path):
    image, (struck,) = hit(*field, {(0, 1): 4e3})
    frame = tmp_path / "frame.fits"
    fits.PrimaryHDU(image).writeto(frame)
    known = ("--instrument", "generic", "--model", "tiny", "--json")
    masks, cards, counts = [], [], []
    for name, options in (("with.fits", ()), ("without.fits", ("--no-star-cores",))):
        done = crmend_cli(command, frame, "-o", tmp_path / name, *known, *options)
        assert done.code == 0
        chip = done.json["chips"][0]
        counts.append([chip["star_pixels_added"], chip["star_pixels_freed"]])
        with fits.open(tmp_path / name) as hdus:
            (flag,) = (
                hdu for hdu in hdus if hdu.data is not None and hdu.data.dtype.kind == "i"
            )
            masks.append(flag.data != 0)
            headers = [hdu.header for hdu in hdus if "CRMNADD" in hdu.header]
        cards.append([headers[0]["CRMNADD"], headers[0]["CRMNFRE"]])
    judged, plain = masks
    assert judged[struck]
    added, freed = np.count_nonzero(judged & ~plain), np.count_nonzero(plain & ~judged)
    assert counts == [[added, freed], [None, None]]
    assert cards[0] == [added, freed]
    assert not any(isinstance(card, int) for card in cards[1])


def test_an_image_without_its_noise_has_no_psf():
    """Of a sky clipped at two sigma 98 % are zero, and each peak looks like a star."""
    noise = np.random.default_rng(0).normal(size=(300, 300))
    image = np.where(noise < 2.0, 0.0, noise).astype(np.float32)
    nothing = np.zeros(image.shape, bool)
    cores = check_star_cores(image, nothing.copy(), nothing, nothing)
    assert len(cores.psf) == 0
    assert cores.added is cores.freed is None
