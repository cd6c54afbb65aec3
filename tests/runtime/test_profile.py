"""The fitted profile that fills a hole in a source: against profiles drawn by numpy."""

import numpy as np
import pytest
from scipy import special

from crmend._cutout_network import network_inputs
from crmend._profile import FADE, fit_profiles

SIZE = 64


def moffat(amplitude, *, x=32.0, y=32.0, width=2.2, ratio=1.0, angle=0.0, beta=3.0):
    """Return a Moffat profile on a (64, 64) grid."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    dx, dy = xx - x, yy - y
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / ratio
    return amplitude * (1.0 + (along**2 + across**2) / width**2) ** -beta


def hole(y, x, half=1):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y - half : y + half + 1, x - half : x + half + 1] = True
    return mask


def fitted(image, mask, guess=0.0):
    """Return (filled, profile) of one cutout whose lost pixels hold a guess."""
    stamps = np.where(mask, guess, image).astype(np.float32)[np.newaxis]
    profiles = np.empty_like(stamps)
    fit_profiles(stamps, mask[np.newaxis], np.empty((0, 4)), profiles)
    return stamps[0], profiles[0]


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"x": 32.6, "y": 31.5},
        {"width": 3.5, "ratio": 0.6, "angle": 0.7, "beta": 2.2},
        {"width": 2.3, "ratio": 0.8, "angle": -1.0, "beta": 3.5},
    ],
)
def test_a_lost_core_comes_back(source):
    image = moffat(300.0, **source)
    mask = hole(32, 32)
    filled, _ = fitted(image, mask)
    lost = image[mask].sum()
    assert filled[mask].sum() == pytest.approx(lost, rel=0.03)
    np.testing.assert_array_equal(filled[~mask], image[~mask].astype(np.float32))


def test_noise_moves_a_lost_core_little_and_to_both_sides():
    image, mask = moffat(100.0), hole(32, 32)
    errors = []
    for seed in range(60):
        noisy = image + np.random.default_rng(seed).normal(size=image.shape)
        filled, _ = fitted(noisy, mask)
        errors.append(filled[mask].sum() / image[mask].sum() - 1.0)
    assert abs(np.median(errors)) < 0.05
    assert np.std(errors) < 0.25


def test_a_background_is_not_light_of_the_source():
    image, mask = moffat(200.0) + 1.0, hole(32, 33)
    filled, profile = fitted(image, mask)
    assert profile[0, 0] == pytest.approx(0.0, abs=0.1)
    assert filled[mask] == pytest.approx(image[mask], rel=0.06)


def test_a_neighbour_does_not_draw_the_fit_away():
    mask = hole(32, 32)
    image = moffat(200.0) + moffat(400.0, x=39.0, y=34.0)
    filled, _ = fitted(image, mask)
    assert filled[mask].sum() == pytest.approx(image[mask].sum(), rel=0.1)


def test_far_holes_keep_their_first_fill():
    image = moffat(200.0)
    mask = hole(32, 32) | hole(32, 32 + int(FADE[1]) + 4)
    filled, _ = fitted(image, mask, guess=7.0)
    far = hole(32, 32 + int(FADE[1]) + 4)
    assert (filled[far] == 7.0).all()
    assert (filled[hole(32, 32)] != 7.0).all()


def test_an_empty_cutout_stays_near_its_noise():
    noise = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    filled, profile = fitted(noise, hole(32, 32))
    assert np.abs(filled[hole(32, 32)]).max() < 5.0
    assert np.abs(profile).max() < 5.0


def test_a_cutout_that_is_lost_altogether_stays_finite():
    filled, profile = fitted(np.zeros((SIZE, SIZE)), np.ones((SIZE, SIZE), bool), guess=3.0)
    assert np.isfinite(filled).all()
    assert np.isfinite(profile).all()


PSF = np.array([[0.6, 1.2, 0.0, 1.2], [0.4, 6.0, 0.0, 6.0]])
"""A sum of two Gaussians: part of the light, and covariance."""


def star(flux, x=32.0, y=32.0):
    yy, xx = np.mgrid[:SIZE, :SIZE]
    r2 = (xx - x) ** 2 + (yy - y) ** 2
    return sum(flux * a * np.exp(-0.5 * r2 / v) / (2.0 * np.pi * v) for a, v, *_ in PSF)


def star_under(half, light):
    """Return the part of a star's lost light that comes back below a hole of 2 half + 1 px."""
    mask, image = hole(32, 32, half), light
    stamps = np.where(mask, 0.0, image).astype(np.float32)[np.newaxis]
    profiles = np.empty_like(stamps)
    fit_profiles(stamps, mask[np.newaxis], PSF, profiles)
    return stamps[0][mask].sum() / image[mask].sum()


@pytest.mark.parametrize(("half", "flux"), [(4, 3e4), (4, 1e5), (5, 1e5)])
def test_the_wings_of_a_star_tell_its_core(half, flux):
    """Of 50 to 120 times the brightest pixel that is left; the hole has 9 or 11 px."""
    rng = np.random.default_rng(3)
    light = star(flux, 32.3, 31.8) + rng.normal(size=(SIZE, SIZE))
    ratio = light.max() / light[~hole(32, 32, half)].max()
    assert ratio > 40.0
    assert star_under(half, light) == pytest.approx(1.0, abs=0.25)


def airy(flux, x, y, fwhm=2.0):
    """Return a star as an unobstructed mirror makes it, with its rings, on a (64, 64) grid."""
    fine = (np.arange(SIZE * 5) + 0.5) / 5 - 0.5
    r = np.hypot(*np.meshgrid(fine - x, fine - y)) * np.pi * 1.029 / fwhm
    light = (2.0 * special.j1(r) / np.maximum(r, 1e-9)) ** 2
    return flux * light.reshape(SIZE, 5, SIZE, 5).sum(axis=(1, 3)) / light.sum()


AIRY = np.array(
    [
        [-0.094, 0.15, 0.0, 0.15],
        [0.089, 0.295, 0.0, 0.295],
        [0.909, 0.602, 0.0, 0.602],
        [0.07, 4.718, 0.0, 4.717],
        [0.026, 9.628, 0.0, 9.627],
    ]
)
"""What `crmend._psf.measure_psf` says of stars that `airy` drew: Gaussians have no rings."""


def test_a_star_with_rings_is_no_galaxy():
    """Tracks 3 px wide cross the core of stars of 50,000 noises."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIZE, :SIZE]
    kept = []
    for _ in range(12):
        cx, cy, turn = *rng.uniform(31.5, 32.5, 2), rng.uniform(0.0, np.pi)
        light = airy(5e4, cx, cy)
        noisy = light + rng.normal(size=light.shape) * np.sqrt(1.0 + light / 13.0)
        along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        mask = (np.abs(along) < 4.5) & (np.abs(across) < 1.5)
        stamps = np.where(mask, 0.0, noisy).astype(np.float32)[np.newaxis]
        fit_profiles(stamps, mask[np.newaxis], AIRY, np.empty_like(stamps))
        kept.append(stamps[0][mask].sum() / light[mask].sum())
    assert np.median(kept) == pytest.approx(1.1, abs=0.2)
    assert min(kept) > 0.5


def test_no_star_is_made_of_nothing():
    rng = np.random.default_rng(4)
    for _ in range(20):
        image, mask = rng.normal(size=(SIZE, SIZE)), hole(32, 32, 5)
        stamps = np.where(mask, 0.0, image).astype(np.float32)[np.newaxis]
        fit_profiles(stamps, mask[np.newaxis], PSF, np.empty_like(stamps))
        assert np.abs(stamps[0][mask]).max() < 5.0


def test_graphs_without_a_profile_get_two_inputs_and_the_old_fill():
    image, mask = moffat(300.0).astype(np.float32), hole(32, 32)
    old = network_inputs(image[None].copy(), mask[None], ("image", "cr_mask"))
    new = network_inputs(image[None].copy(), mask[None], ("image", "cr_mask", "profile"))
    assert [a.shape for a in old] == [(1, 1, SIZE, SIZE)] * 2
    assert [a.shape for a in new] == [(1, 1, SIZE, SIZE)] * 3
    truth = image[mask].sum()
    worse, better = (abs(arrays[0][0, 0][mask].sum() / truth - 1.0) for arrays in (old, new))
    assert better < 0.03 < worse
