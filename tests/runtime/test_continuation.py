"""Where a source is none of the profiles, smooth surroundings say what a hole in it held."""

import numpy as np
import pytest
from scipy import ndimage, signal

import crmend
from crmend._continuation import AGREES, misfit_of_continued
from crmend._profile import fit_profiles

SIZE = 64


def ring():
    """Return a star of a telescope out of focus, its light being 1, on a (25, 25) grid."""
    y, x = np.mgrid[-12:13, -12:13]
    light = ndimage.gaussian_filter(((np.hypot(x, y) < 9) & (np.hypot(x, y) > 3.5)) * 1.0, 1.0)
    return light / light.sum()


def cutout(light, mask, seed=0):
    """Return a cutout of some light with its noise, filled, and the profile of its source."""
    noisy = light + np.random.default_rng(seed).normal(size=light.shape) * np.sqrt(
        1 + light / 10
    )
    stamps = np.where(mask, 0.0, noisy).astype(np.float32)[np.newaxis]
    profiles = np.empty_like(stamps)
    fit_profiles(stamps, mask[np.newaxis], np.empty((0, 4)), profiles)
    return stamps, profiles


def bar(half=1):
    """Return a track across the middle of a cutout."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[SIZE // 2 - half : SIZE // 2 + half + 1, 20:45] = True
    return mask


def defocused(flux):
    light = np.zeros((SIZE, SIZE))
    light[SIZE // 2 - 12 : SIZE // 2 + 13, SIZE // 2 - 12 : SIZE // 2 + 13] = flux * ring()
    return light


def focused(flux):
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    light = (1.0 + (x**2 + y**2) / 2.2**2) ** -3.0
    return flux * light / light.sum()


@pytest.mark.parametrize("flux", [3e3, 1e5])
def test_a_star_agrees_with_its_profile(flux):
    stamps, profiles = cutout(focused(flux), bar())
    assert np.isnan(misfit_of_continued(stamps, bar()[np.newaxis], profiles)).all()


def test_a_ring_contradicts_any_profile_and_goes_on_smoothly():
    mask = bar()[np.newaxis]
    stamps, profiles = cutout(defocused(1e5), bar())
    before = stamps.copy()
    misfit = misfit_of_continued(stamps, mask, profiles)
    assert misfit.shape == (1,)
    assert misfit[0] > 0.0
    np.testing.assert_array_equal(stamps, before)
    # Another source beside it does not matter.
    others = cutout(focused(1e4), bar())
    both = [np.concatenate(pair) for pair in zip((stamps, profiles), others, strict=True)]
    two = misfit_of_continued(both[0], np.repeat(mask, 2, axis=0), both[1])
    np.testing.assert_allclose(two, [misfit[0], np.nan])
    # Nor does it whether the profile was believed.
    assert misfit_of_continued(stamps, mask, np.zeros_like(profiles)) > 0.0


def test_a_hidden_peak_is_not_cut_off():
    """Of a star in a wide halo, whose profile agrees with neither."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    halo = 3000.0 * np.exp(-np.hypot(x / 6.0, y / 3.0))
    stamps, profiles = cutout(focused(2e5) + halo, bar(2))
    profiles[:] = focused(2e5)
    assert np.isnan(misfit_of_continued(stamps, bar(2)[np.newaxis], profiles)).all()
    profiles[:] = np.minimum(profiles, 2000.0)
    assert np.isfinite(misfit_of_continued(stamps, bar(2)[np.newaxis], profiles)).all()


def test_faint_rings_are_left_to_the_network():
    """What is within a few noises of a profile does not contradict it."""
    stamps, profiles = cutout(defocused(300.0), bar())
    assert np.isnan(misfit_of_continued(stamps, bar()[np.newaxis], profiles)).all()
    assert AGREES > 5.0


@pytest.mark.parametrize("seed", [3, 9, 10])
def test_defocused_stars_are_mended(seed):
    """Fourteen of 1e4 to 1e6 e-; by their profiles alone residuals are of 10 to 50 noises."""
    rng = np.random.default_rng(seed)
    points = np.zeros((160, 160))
    x, y = rng.integers(14, 146, (2, 14))
    points[y, x] = 10 ** rng.uniform(4, 6, 14)
    light = 100.0 + signal.fftconvolve(points, ring(), mode="same").clip(0.0)
    clean = rng.poisson(light) + rng.normal(0.0, 5.0, light.shape)
    mask = np.zeros(light.shape, bool)
    for left, top in zip(x + rng.integers(-5, 6, 14), y + rng.integers(-4, 5, 14), strict=True):
        mask[top : top + rng.integers(1, 4), max(left - 5, 0) : left + 6] = True
    image = np.where(mask, clean + rng.uniform(100.0, 5000.0, light.shape), clean)
    mended = crmend.inpaint(image, mask, model="generic", threads=1)
    on_light = mask & (light > 130.0)
    rest = (mended.image - clean)[on_light]
    assert np.sqrt(np.mean(rest**2 / (light[on_light] + 25.0))) < 5.5
    assert np.mean(np.abs(rest) < 2.0 * mended.error[on_light]) > 0.9
