"""Frames whose pixels a network cannot judge give a warning, and real noise gives none."""

import warnings

import numpy as np
import pytest

import crmend
from crmend._normalise import measure_scale
from crmend._pixel_checks import filled_value, warn_of_digits, warn_of_mosaic, warn_of_pixels
from crmend.errors import CrmendWarning

SHAPE = (200, 300)


def sky(noise=4.0, level=100.0):
    """Return a sky with some stars."""
    rng = np.random.default_rng(4)
    image = rng.normal(level, noise, SHAPE)
    y, x = np.indices(SHAPE)
    for cx, cy in rng.uniform(0.0, 200.0, (40, 2)):
        image += 90.0 * noise * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 6.0)
    return image.astype(np.float32)


def with_gaps(image, value):
    """Return the image with a fifth of its rows filled."""
    image[:40] = value
    return image


@pytest.mark.parametrize(
    ("image", "value", "share"),
    [
        (with_gaps(sky(), 0.0), 0.0, 0.2),
        (with_gaps(sky(), -999.0), -999.0, 0.2),
        (with_gaps(sky(level=0.0), 0.0), 0.0, 0.2),
        (with_gaps(np.round(sky()), 0.0), 0.0, 0.2),
        # The sky's own levels are more common than the value of the gaps.
        (with_gaps(np.round(sky(noise=1.0)), 0.0), 0.0, 0.2),
        (with_gaps(np.round(sky(noise=0.3)) * np.float32(0.1), 65535.0), 65535.0, 0.2),
        (np.maximum(sky(level=0.0), 0.0), 0.0, 0.47),
        (np.maximum(np.round(sky(noise=9.0, level=0.0)), 0.0), 0.0, 0.49),
        (np.where(sky(level=0.0) < 8.0, np.float32(0.0), sky(level=0.0)), 0.0, 0.92),
    ],
)
def test_filled_and_clipped_values_are_found(image, value, share):
    found = filled_value(image.ravel())
    assert found is not None
    assert found == pytest.approx((value, share), abs=0.03)


@pytest.mark.parametrize(
    "image",
    [
        sky(),
        *(np.round(sky(noise)) for noise in (0.2, 0.3, 0.5, 0.8, 1.3, 2.0)),
        *(np.round(sky(noise, level=100.5)) for noise in (0.2, 0.5, 1.0)),
        np.floor(sky(20.0) / 64.0) * 64.0,
        np.round(sky(0.7)) * np.float32(0.137) + np.float32(3.3),
        np.random.default_rng(1).poisson(0.05, SHAPE).astype(np.float32),
        np.random.default_rng(1).poisson(0.5, SHAPE).astype(np.float32),
        np.full(SHAPE, 7.0, np.float32),
        np.where(np.arange(60_000).reshape(SHAPE) % 200, np.float32(0.0), sky()),
        with_gaps(sky(), np.nan)[40:],
    ],
)
def test_digitised_noise_and_constants_are_none(image):
    assert filled_value(image.ravel()) is None


def test_no_pixel_at_all():
    assert filled_value(np.empty(0, np.float32)) is None


def test_one_warning_says_share_value_and_remedy():
    image = with_gaps(sky(), -999.0)
    with pytest.warns(CrmendWarning, match="exactly -999.*set such pixels to NaN") as caught:
        crmend.detect(image, model="generic", device="cpu")
    assert len(caught) == 1
    assert "20 % of the pixels" in str(caught[0].message)


@pytest.mark.parametrize("value", [-999.0, -1e30, 0.0])
def test_a_few_rows_far_below_the_sky_are_told(value):
    image = sky()
    image[60] = value
    nothing = np.zeros(SHAPE, np.bool_)
    with pytest.warns(CrmendWarning, match="0.5 % of the valid pixels are exactly"):
        warn_of_pixels(image, nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_pixels(image, image == np.float32(value))


def with_overscan(image):
    """Return the image with a digitised strip of its bias level."""
    image[:, :12] = np.round(np.random.default_rng(5).normal(-500.0, 2.0, (SHAPE[0], 12)))
    return image


@pytest.mark.parametrize(
    "image",
    [
        sky(),
        *(np.round(sky(noise)) for noise in (0.2, 0.5, 0.8)),
        np.full(SHAPE, 7.0, np.float32),
        with_overscan(sky()),
    ],
)
def test_nothing_is_far_below_a_sky_without_gaps(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_pixels(image, np.zeros(SHAPE, np.bool_))


def test_marked_gaps_are_silent():
    image = with_gaps(sky(), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_pixels(image, image == 0.0)


@pytest.mark.parametrize(("rows", "warns"), [(90, False), (110, True)])
def test_most_pixels_excluded(rows, warns):
    excluded = np.zeros(SHAPE, np.bool_)
    excluded[:rows] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_pixels(sky(), excluded)
    assert [str(one.message)[:27] for one in caught] == ["55 % of the pixels are excl"] * warns


def test_digits_coarser_than_the_noise_are_said_once():
    counts = np.random.default_rng(1).poisson(0.01, SHAPE).astype(np.float32)
    with pytest.warns(CrmendWarning, match=r"below one digit \(1\)") as said:
        result = crmend.clean(counts, model="generic", views=1)
    assert len(said) == 1
    assert np.count_nonzero(result.cr_mask) < 5
    assert (result.error >= 1.0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_digits(measure_scale(np.round(sky(2.0)), np.zeros(SHAPE, np.bool_)))


# --- digits of float32 ------------------------------------------------------------------


def test_a_level_that_float32_rounds_by_more_than_the_noise():
    image = sky().astype(np.float64)
    with pytest.warns(CrmendWarning, match=r"below one digit of float32 .*\(64 at 1e\+09\)"):
        crmend.detect(image + 1e9, model="generic")
    crmend.detect(image + 1e7, model="generic")  # rounded to 1, a quarter of the noise


@pytest.mark.parametrize("level", [1e11, 0.0])
def test_noise_that_is_lost_or_was_never_there(level):
    """float32 rounds to 8192 at 1e11; a simulation may have no noise at all."""
    image = sky().astype(np.float64) + level if level else np.full(SHAPE, 7.0)
    image[20, 20:24] += 1e6
    with pytest.warns(CrmendWarning, match="no noise that could be measured") as said:
        crmend.detect(image, model="generic", views=1)
    assert len(said) == 1


# --- neighbours that alternate ----------------------------------------------------------


def alternating(step, both=True):
    """Return a sky of 100 whose every other column (and row) is higher."""
    y, x = np.indices(SHAPE)
    return sky() + np.float32(step) * ((x % 2) + (y % 2) * both).astype(np.float32)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_neighbours_that_alternate(both, turned):
    image = alternating(20.0, both)
    image = np.ascontiguousarray(image.T) if turned else image
    name = "rows" if turned and not both else "columns"
    with pytest.warns(CrmendWarning, match=rf"^{name} next to each other .* colour camera"):
        crmend.detect(image, model="generic")


def stripes(pitch):
    """Return traces of fibres so many pixels apart."""
    light = 500.0 * np.sin(np.pi * np.arange(SHAPE[1]) / pitch) ** 2
    return (sky() + light).astype(np.float32)


@pytest.mark.parametrize(
    "image",
    [
        sky(), alternating(2.0), np.round(sky(0.3)), np.round(sky(0.8)), np.zeros_like(sky()),
        np.random.default_rng(1).poisson(0.1, SHAPE).astype(np.float32),
        stripes(3), stripes(4), stripes(5), sky()[:2], sky()[:, :1], sky()[:8, :8],
        sky() + np.float32(50.0) * np.arange(SHAPE[1], dtype=np.float32),
        sky() + np.random.default_rng(1).normal(0.0, 100.0, SHAPE[1]).astype(np.float32),
    ],
)  # fmt: skip
def test_other_frames_do_not_alternate(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_mosaic(image, np.zeros(image.shape, np.bool_))


def test_bad_pixels_do_not_alternate():
    image = alternating(0.0)
    excluded = np.indices(SHAPE)[1] % 2 == 1
    image[excluded] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_mosaic(image, excluded)
