"""A frame's PSF from its stars, and stars and galaxies fitted with it."""

import numpy as np
import pytest
from scipy import ndimage, special

from crmend._fit import DISK, POINT, SKY, N, draw_source, fit_source
from crmend._mixture import BULGE_SIGMAS, BULGE_WEIGHTS, DISK_SIGMAS, DISK_WEIGHTS
from crmend._normalise import Scale
from crmend._profile import fit_profiles
from crmend._psf import HALO_STARS, LEAST_STARS, measure_psf
from crmend._star_cores import check_star_cores
from crmend.sources import SourceCatalog, find_sources, joined

PSF = np.array([[0.7, 0.8, 0.1, 0.9], [0.3, 2.2, 0.2, 2.4]])
NOISE = Scale(0.0, 1.0)


def point(y, x, psf=PSF, shape=(64, 64), flux=1.0):
    """Return a star drawn by numpy."""
    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(float)
    dx, dy = xx - x, yy - y
    image = np.zeros(shape)
    for part, vx, cov, vy in psf:
        det = vx * vy - cov**2
        q = (vy * dx**2 - 2 * cov * dx * dy + vx * dy**2) / det
        image += part * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))
    return flux * image


def disk(y, x, *, flux, scale_length, ratio=1.0, psf=PSF):
    """Return an exponential disk convolved with the PSF by brute force, (64, 64)."""
    yy, xx = np.mgrid[-12:13, -12:13] / 2.0
    light = np.exp(-np.hypot(xx, yy / ratio) / scale_length)
    image = sum(
        weight * point(y + dy, x + dx, psf)
        for weight, dy, dx in zip(light.ravel(), yy.ravel(), xx.ravel(), strict=True)
    )
    return flux * image / light.sum()


def star_field(rng, stars=40, shape=(300, 300), galaxies=0):
    """Return a noisy frame of stars, and of galaxies three times as wide."""
    image = rng.normal(size=shape)
    wide = PSF * [1, 9, 9, 9]
    for k in range(stars + galaxies):
        y, x = rng.uniform(20, 280, 2)
        psf = PSF if k < stars else wide
        image += point(y, x, psf, shape, flux=rng.uniform(500, 5000) * (1 if k < stars else 9))
    return image.astype(np.float32)


def measured(image, lost=None, excluded=None):
    nothing = np.zeros(image.shape, bool)
    lost = nothing if lost is None else lost
    excluded = nothing if excluded is None else excluded
    sources = find_sources(image, invalid=excluded, noise=1.0)
    return measure_psf(image, lost, excluded, NOISE, sources)


@pytest.mark.parametrize("galaxies", [0, 40])
def test_the_psf_of_a_star_field_comes_back(galaxies):
    psf = measured(star_field(np.random.default_rng(3), galaxies=galaxies))
    assert psf[:, 0].sum() == pytest.approx(1.0)
    truth, found = point(32, 32), point(32, 32, psf)
    # Light within 1.5 and 4 px, and the elongation.
    yy, xx = np.mgrid[:64, :64] - 32
    for radius in (1.5, 4.0):
        inside = np.hypot(yy, xx) <= radius
        assert found[inside].sum() == pytest.approx(truth[inside].sum(), rel=0.02)
    inside = np.hypot(yy, xx) <= 4
    moments = [(xx * yy * image)[inside].sum() for image in (found, truth)]
    assert moments[0] == pytest.approx(moments[1], abs=0.03)


def test_cosmic_rays_and_bad_pixels_take_no_part():
    rng = np.random.default_rng(3)
    image = star_field(rng)
    clean = measured(image)
    lost = rng.random(image.shape) < 0.02
    excluded = np.zeros(image.shape, bool)
    excluded[:, 150] = True
    damaged = np.where(lost, np.float32(1.0), image)
    damaged[excluded] = 9e4
    found = measured(damaged, lost, excluded)
    peaks = [point(32, 32, psf).max() for psf in (clean, found)]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.03)


def test_a_pixel_beyond_all_numbers_is_no_star():
    image = star_field(np.random.default_rng(3))
    sources = find_sources(image, noise=1.0)
    image[150, 150] = 3e38
    at = SourceCatalog(**{name: np.array([150.0]) for name in vars(sources)})
    nothing = np.zeros(image.shape, bool)
    found = measure_psf(image, nothing, nothing, Scale(0.0, 0.01), joined(sources, at))
    stars = measure_psf(
        np.where(image > 1e30, np.float32(0), image),
        nothing,
        nothing,
        Scale(0.0, 0.01),
        sources,
    )
    np.testing.assert_array_equal(found, stars)
    assert stars is not None


HALO = np.array([[0.6, 1.1, 0.0, 1.1], [0.4, 8.0, 0.0, 8.0]])


def haloed(stars, ratio):
    """Return a field of stars with haloes, or of what is drawn out in any direction."""
    rng = np.random.default_rng(5)
    image = rng.normal(size=(480, 480))
    for k in range(stars):
        y, x = 30 + 60 * np.array(divmod(k, 8)) + rng.uniform(-5, 5, 2)
        turn = rng.uniform(0.0, np.pi)
        axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        (xx, xy), (_, yy) = axes @ np.diag([ratio**0.5, ratio**-0.5]) @ axes.T
        psf = np.column_stack([HALO[:, 0], HALO[:, 1:2] * [xx, xy, yy]])
        image += point(y, x, psf, image.shape, flux=rng.uniform(3000, 9000))
    return image.astype(np.float32)


def test_many_stars_may_have_haloes():
    found = point(32, 32, measured(haloed(50, 1.0)))
    truth = point(32, 32, HALO)
    yy, xx = np.mgrid[:64, :64] - 32
    inner, middle, all_of_it = (np.hypot(yy, xx) <= radius for radius in (1.5, 2.5, 4.0))
    for inside in (inner, middle):
        parts = [light[inside].sum() / light[all_of_it].sum() for light in (found, truth)]
        assert parts[0] == pytest.approx(parts[1], rel=0.03)


def test_few_stars_may_have_haloes_if_they_are_all_alike():
    found = measured(haloed(HALO_STARS - 10, 1.0))
    assert point(32, 32, found).max() == pytest.approx(point(32, 32, HALO).max(), rel=0.08)


def airy(shape, y, x, scale=1.26, fine=5):
    """Return a diffraction pattern on pixels, smeared a little; `scale` is lambda/D [px]."""
    side = (np.arange(33 * fine) - 16 * fine - fine // 2) / fine
    corner = np.array([round(y) - 16, round(x) - 16])
    dy, dx = np.meshgrid(side - y + round(y), side - x + round(x), indexing="ij")
    radius = np.pi * np.hypot(dy, dx) / scale + 1e-9
    light = ndimage.gaussian_filter((2.0 * special.j1(radius) / radius) ** 2, 0.55 * fine)
    image = np.zeros(shape)
    stamp = light.reshape(33, fine, 33, fine).sum(axis=(1, 3))
    image[corner[0] : corner[0] + 33, corner[1] : corner[1] + 33] = stamp / light.sum()
    return image


@pytest.mark.parametrize("stars", [12, 36])
def test_stars_with_diffraction_rings_are_as_wide_whatever_their_brightness(stars):
    """Profiles of the brightest, whose rings stand out, were by 30 % narrower, and no PSF."""
    rng = np.random.default_rng(4)
    shape, image = (400, 400), np.zeros((400, 400))
    for k in range(stars):
        y, x = 40 + 60 * np.array(divmod(k, 6)) + rng.uniform(-5, 5, 2)
        image += 10.0 ** rng.uniform(2.5, 4.6) * airy(shape, y, x)
    image += rng.normal(size=shape) * np.sqrt(1.0 + 0.1 * image)
    found = measured(image.astype(np.float32))
    assert found is not None
    true = airy((64, 64), 32, 32)
    assert point(32, 32, found).max() == pytest.approx(true.max(), rel=0.06)


def test_star_cores_are_not_judged_by_a_psf_with_a_halo():
    image = haloed(50, 1.0)
    sources = find_sources(image, noise=1.0)
    y, x = (round(float(v[np.argmax(sources.flux)])) for v in (sources.y, sources.x))
    image[y, x] *= 2.0
    cr_mask, nothing = (np.zeros(image.shape, bool) for _ in range(2))
    cores = check_star_cores(image, cr_mask, nothing, nothing)
    assert (cores.added, cores.freed, len(cores.psf) > 0) == (None, None, True)
    assert not cr_mask.any()


@pytest.mark.parametrize(("number", "ratio"), [(HALO_STARS - 5, 1.3), (50, 1.3)])
def test_sources_with_haloes_and_of_many_shapes_are_galaxies(number, ratio):
    image = haloed(number, ratio)
    assert len(find_sources(image, noise=1.0)) >= number
    assert measured(image) is None


@pytest.mark.parametrize("stars", [0, LEAST_STARS - 1])
def test_too_few_stars_give_no_psf(stars):
    assert measured(star_field(np.random.default_rng(0), stars=stars)) is None


def test_a_star_without_its_core_is_fitted():
    image = point(32.3, 31.8, flux=3000.0).astype(np.float32)
    lost = np.zeros(image.shape, bool)
    lost[31:34, 31:34] = True
    found, drawn = np.empty(N), np.empty_like(image)
    fit_source(np.where(lost, np.float32(0), image), lost, PSF, POINT, found, SKY)
    draw_source(found, PSF, POINT, drawn)
    assert found[:3] == pytest.approx([3000.0, -0.2, 0.3], rel=0.01, abs=0.01)
    np.testing.assert_allclose(drawn, image, atol=1.0)


@pytest.mark.parametrize(("size", "ratio"), [(1.5, 1.0), (2.5, 0.6)])
def test_a_disk_without_its_core_is_fitted(size, ratio):
    image = disk(32.2, 32.1, flux=8000.0, scale_length=size, ratio=ratio).astype(np.float32)
    lost = np.zeros(image.shape, bool)
    lost[31:34, 31:34] = True
    found, drawn = np.empty(N), np.empty_like(image)
    fit_source(np.where(lost, np.float32(0), image), lost, PSF, DISK, found, SKY)
    draw_source(found, PSF, DISK, drawn)
    # The prior wants a fifth of the light in a bulge, where this disk has none.
    assert drawn[lost].sum() == pytest.approx(image[lost].sum(), rel=0.1)


def test_disk_and_bulge_hold_the_light_of_the_profiles_they_stand_for():
    r = np.array([[0.1], [0.3], [0.5], [1.0], [2.0]])

    def held(sigmas, weights):
        return (np.array(weights) * -np.expm1(-0.5 * (r / np.array(sigmas)) ** 2)).sum(axis=1)

    disk_light = -np.expm1(-r[:, 0]) - r[:, 0] * np.exp(-r[:, 0])
    np.testing.assert_allclose(held(DISK_SIGMAS, DISK_WEIGHTS), disk_light, atol=0.01)
    # Sersic n = 4; its outer tenth is in no Gaussian, so the rest is that much brighter.
    bulge_light = special.gammainc(8.0, 7.669 * r[:, 0] ** 0.25) / 0.9
    np.testing.assert_allclose(held(BULGE_SIGMAS, BULGE_WEIGHTS), bulge_light, atol=0.04)


@pytest.mark.parametrize("kind", [POINT, DISK])
def test_slopes_follow_the_model(kind):
    """The fit of noiseless pixels from a distant start ends at the truth."""
    truth = np.array([5000.0, 0.3, -0.4, np.log(1.6), 0.3, -0.2, -1.0, 0.2])
    image = np.empty((64, 64), np.float32)
    draw_source(truth, PSF, kind, image)
    found = np.empty(N)
    cost = fit_source(
        image + np.float32(0.2), np.zeros(image.shape, bool), PSF, kind, found, SKY
    )
    assert cost - 2.0 * np.log(found[0]) < 5.0  # the other priors'
    again = np.empty_like(image)
    draw_source(found, PSF, kind, again)
    assert np.abs(again - image).max() < 0.005 * image.max()


def test_the_profile_takes_stars_for_points_and_disks_for_disks():
    lost = np.zeros((2, 64, 64), bool)
    lost[:, 31:34, 31:34] = True
    truth = np.stack(
        [point(32.2, 31.9, flux=2000.0), disk(32, 32, flux=9000.0, scale_length=2.0)]
    ).astype(np.float32)
    filled = np.where(lost, np.float32(0), truth)
    profiles = np.empty_like(filled)
    fit_profiles(filled, lost, PSF, profiles)
    for k, rel in enumerate((0.01, 0.1)):
        assert filled[k][lost[k]].sum() == pytest.approx(truth[k][lost[k]].sum(), rel=rel)
        np.testing.assert_array_equal(filled[k][~lost[k]], truth[k][~lost[k]])
