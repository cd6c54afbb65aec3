"""Areas of one value hold no measurement, and flat tops of stars are saturated, unsaid."""

import re
import warnings

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend._implied import judge_exposure, judge_pixels
from crmend.errors import CrmendWarning

NOISE = 5.0
SHAPE = (300, 320)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
TILTED = np.abs((X - 160) + 0.12 * (Y - 150)) > 130


def sky(level=0.0, noise=NOISE):
    """Return a sky with cosmic rays of five pixels, and where they are."""
    rng = np.random.default_rng(3)
    image = rng.normal(level, noise, SHAPE)
    rays = np.zeros(SHAPE, bool)
    for y, x in rng.integers((10, 60), (290, 250), (40, 2)):
        rays[y, x : x + 5] = True
    image[rays] += 60.0 * noise
    return image.astype(np.float32), rays


def with_star(image, peak, full=60000.0, at=(150, 160), trail=40):
    """Return the image with a star that saturates and bleeds along its column."""
    y0, x0 = at
    star = peak * np.exp(-((X - x0) ** 2 + (Y - y0) ** 2) / 2 / 1.5**2)
    star += 0.02 * peak / (1.0 + ((X - x0) ** 2 + (Y - y0) ** 2) / 9.0) ** 1.5
    image = image + star
    image[y0 - trail : y0 + trail, x0] = full
    return np.minimum(image, full).astype(np.float32)


def judged(image, saturated=None, cr_mask=None):
    """Return invalid, excluded and the level, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = judge_pixels(image, ~np.isfinite(image), saturated, cr_mask)
    return usable.invalid, usable.excluded, usable.saturation, [str(w.message) for w in said]


@pytest.mark.parametrize("value", [0.0, 12.0, -999.0, -1e30, 1e30, 65535.0])
def test_an_area_of_one_value_is_as_good_as_nan(value):
    image, rays = sky()
    gaps, filled = (np.where(TILTED, np.float32(v), image) for v in (np.nan, value))
    nothing = crmend.clean(gaps, model="generic", views=1)
    with pytest.warns(CrmendWarning, match=re.escape(f"areas that are exactly {value:g}")):
        same = crmend.clean(filled, model="generic", views=1)
    np.testing.assert_array_equal(same.cr_mask, nothing.cr_mask)
    np.testing.assert_array_equal(same.error, nothing.error)
    np.testing.assert_array_equal(same.image[~TILTED], nothing.image[~TILTED])
    assert (same.image[TILTED] == np.float32(value)).all()
    assert same.cr_mask[rays & ~TILTED].mean() > 0.9


@pytest.mark.parametrize("area", [X < 9, Y >= 289, (X > 99) & (X < 121) & (Y > 40) & (Y < 60)])
def test_borders_and_boxes(area):
    image = np.where(area, np.float32(1.0), sky()[0])
    invalid, excluded, _, said = judged(image)
    np.testing.assert_array_equal(invalid, area)
    assert excluded is invalid
    assert len(said) == 1


def poisson(level):
    return np.random.default_rng(1).poisson(level, SHAPE).astype(np.float32)


@pytest.mark.parametrize(
    "image",
    [
        np.full(SHAPE, 7.0, np.float32),
        np.where(Y < 2, np.float32(3.0), np.float32(0.0)),
        *(poisson(level) for level in (0.001, 0.02, 0.3, 2.0)),
        poisson(3.0 * np.exp(-(((X - 160) / 60.0) ** 2))),
        *(np.round(sky(100.0, noise)[0]) for noise in (0.1, 0.3, 0.6, 1.0, 3.0)),
        np.round(sky(100.0, 0.2)[0] + np.float32(0.01) * X.astype(np.float32)),
        np.maximum(sky()[0], 0.0),
        np.maximum(sky()[0], 12.0),
        np.minimum(sky()[0], 0.0),
        # Without noise, what is around a constant sky fades into it.
        (1e4 * np.exp(-((X - 160) ** 2 + (Y - 150) ** 2) / 900.0)).astype(np.float32),
        np.round(1e4 * np.exp(-((X - 160) ** 2 + (Y - 150) ** 2) / 900.0)).astype(np.float32),
        with_star(sky(100.0)[0], 3e7),
    ],
)
def test_digits_counts_and_constants_are_no_areas(image):
    invalid = judged(image)[0]
    assert not invalid.any()


def test_what_is_said_to_be_a_cosmic_ray_is_mended():
    image, rays = sky(100.0)
    rays[100:140, 100:140] = True
    image[rays] = 0.0
    mended = crmend.inpaint(image, rays, model="generic").image
    assert np.abs(mended[rays] - 100.0).max() < 8.0 * NOISE


@pytest.mark.parametrize("digits", [False, True])
def test_flat_tops_and_trails_of_stars_are_saturated(digits):
    image = sky(100.0)[0]
    image = with_star(image, 5e6)
    image = np.round(image) if digits else image
    full = image == 60000.0
    given = crmend.clean(image, model="generic", saturated=full)
    with pytest.warns(CrmendWarning, match="exactly 60000, the maximum"):
        found = crmend.clean(image, model="generic")
    np.testing.assert_array_equal(found.cr_mask, given.cr_mask)
    np.testing.assert_array_equal(found.image, given.image)
    assert (found.stats.saturation_found, given.stats.saturation_found) == (60000.0, None)
    assert not found.cr_mask[full].any()
    # Nobody saying so, the trail is flagged.
    untold = crmend.clean(image, model="generic", saturated=np.zeros(SHAPE, bool))
    assert untold.cr_mask[full].sum() > 20


def test_what_a_cosmic_ray_saturates_may_be_one():
    image = sky(100.0)[0]
    track = np.s_[50, 60:67]
    blob = np.s_[200:204, 70:74]
    image[track] = image[blob] = 60000.0
    assert judged(image)[2:] == (None, [])
    _, excluded, level, said = judged(with_star(image, 5e6))
    assert (level, len(said)) == (60000.0, 1)
    assert not excluded[track].any()
    assert not excluded[blob].any()
    assert excluded[145:155, 160].all()


@pytest.mark.parametrize(
    "image",
    [
        np.full(SHAPE, 7.0, np.float32),
        *(poisson(level) for level in (0.02, 0.3, 2.0)),
        np.round(sky(100.0, 0.6)[0]),
        np.minimum(sky()[0], 3.0),
        with_star(sky(100.0)[0], 5e4, full=1e6, trail=0),
        np.round(with_star(sky(100.0)[0], 5e4, full=1e6, trail=0)),
        with_star(sky(100.0)[0], 5e6) * np.random.default_rng(2).normal(1.0, 0.01, SHAPE),
        np.full(SHAPE, np.nan, np.float32),
        np.where((X > 100) & (X < 112) & (Y > 99) & (Y < 106), np.float32(3e38), sky()[0]),
    ],
)
def test_other_maxima_are_no_saturation(image):
    assert judged(image.astype(np.float32))[2] is None


def test_files_are_judged_alike_and_tell_the_level(tmp_path, capsys):
    from crmend.cli import main

    image = with_star(sky(100.0)[0], 5e6)
    image[:, 300:] = 1e30
    for name, known in (("plain", {}), ("known", {"SATURATE": 60000.0})):
        header = fits.Header([("BUNIT", "electron"), *known.items()])
        fits.PrimaryHDU(image, header).writeto(tmp_path / f"{name}.fits")
        for command in ("clean", "detect"):
            out = tmp_path / f"{name}_{command}.fits"
            options = ["--instrument", "generic", "-o", str(out)]
            assert main([command, str(tmp_path / f"{name}.fits"), *options]) == 0
            told = capsys.readouterr()
            with fits.open(out) as hdus:
                assert hdus[0].header["CRMSATUR"] == (None if known else 60000.0)
                flag = hdus["FLAG"].data
                errors = hdus["ERR"].data if command == "clean" else NOISE
            assert not flag[image >= 60000.0].any()
            assert flag[:, 290:300].sum() == 0
            assert np.median(errors) == pytest.approx(NOISE, rel=0.03)
            assert "areas that are exactly 1e+30" in told.err
            assert ("saturation found" in told.out + told.err) is not bool(known)
            assert ("the maximum of the image" in told.err) is not bool(known)


def saturated_frame(level1, keywords=None, flag=None):
    """Return the exposure of a Level 1 file whose star has a flat top at 400 e/s."""
    image = with_star(sky(10.0, 0.1)[0], 4e4, full=400.0)
    flag = np.zeros(SHAPE, np.int32) if flag is None else flag
    return crmend.read_exposure(level1([("SCI", image), ("FLAG", flag)], keywords))


@pytest.mark.parametrize(
    ("keywords", "why"),
    [
        ({}, "the flag plane marks none as saturated"),
        ({"SATURATE": 65535}, "none reaches the header's saturation level, 65535"),
    ],
)
def test_knowledge_that_names_no_pixel_tells_nothing(level1, keywords, why):
    exposure = saturated_frame(level1, keywords)
    with pytest.warns(CrmendWarning, match=f"exactly 400, the maximum of .*{why}"):
        usable = judge_exposure(exposure)
    assert usable.saturation == 400.0
    np.testing.assert_array_equal(usable.excluded, exposure.image == np.float32(400.0))


def test_a_level_that_only_gaps_reach_tells_nothing(level1):
    image = with_star(sky(10.0, 0.1)[0], 4e4, full=400.0)
    image[:, 300:] = 1e30
    exposure = crmend.read_exposure(level1([("SCI", image)], {"SATURATE": 65535}))
    with (
        pytest.warns(CrmendWarning, match=r"areas that are exactly 1e\+30"),
        pytest.warns(CrmendWarning, match="none reaches the header's"),
    ):
        assert judge_exposure(exposure).saturation == 400.0


def test_one_flagged_pixel_and_a_level_of_the_caller_are_believed(level1):
    flag = np.zeros(SHAPE, np.int32)
    flag[3, 4] = 8
    flagged = saturated_frame(level1, {"SATURATE": 65535}, flag)
    given = crmend.read_exposure(flagged.path, saturation=65000.0)
    given.flag[:] = 0
    for exposure, expected in ((flagged, flag == 8), (given, np.zeros(SHAPE, bool))):
        usable = judge_exposure(exposure)
        assert usable.saturation is None
        np.testing.assert_array_equal(usable.excluded, expected)


@pytest.mark.parametrize("keywords", [{}, {"SATURATE": 65535}])
def test_without_flat_tops_nothing_is_said(level1, keywords):
    image = with_star(sky(10.0, 0.1)[0], 300.0, full=1e6, trail=0)
    flag = np.zeros(SHAPE, np.int32)
    exposure = crmend.read_exposure(level1([("SCI", image), ("FLAG", flag)], keywords))
    usable = judge_exposure(exposure)
    assert usable.saturation is None
    assert not usable.excluded.any()
