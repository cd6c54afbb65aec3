"""Cosmic rays beside saturated pixels: of a star, and of their own."""

import numpy as np
import pytest

import crmend
from crmend._background import Surface
from crmend._cutout_network import BELOW, _above_any_sky, _saturated
from crmend._saturated import saturated_by_rays
from crmend.cutouts import CutoutBatch

SKY, NOISE, FULL = 60.0, 8.0, 70_000.0
SHAPE = (240, 240)
STAR, RAY = (120, 120), (80, 160)


def star(y: float, x: float, flux: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    squares = (rows - y) ** 2 + (columns - x) ** 2
    return flux / (2 * np.pi) * (0.9 * np.exp(-squares / 2) + 0.1 / 16 * np.exp(-squares / 32))


@pytest.fixture(scope="module")
def field():
    """Return light [e-] with a star that saturates, and its noisy image."""
    rng = np.random.default_rng(7)
    light = star(*STAR, 2e6)
    for y in range(20, 240, 40):
        for x in range(20, 240, 40):
            offset = rng.uniform(-3, 3, 2)
            light += star(y + offset[0], x + offset[1], rng.uniform(3e3, 6e4))
    image = rng.normal(SKY + light, np.sqrt(NOISE**2 + light))
    return light + SKY, np.minimum(image, FULL).astype(np.float32)


@pytest.mark.parametrize("pack", ["csst_msc/08", "generic"])
def test_beside_a_saturated_star_mending_stays_within_what_can_be(field, pack):
    light, image = field
    mask = np.zeros(SHAPE, bool)
    for step in range(8):
        mask[STAR[0] - 8 + step, STAR[1] - 3 + step // 2 : STAR[1] + step // 2] = True
    saturated = image >= FULL
    mask &= ~saturated
    hit = np.where(mask, image + 5_000.0, image).astype(np.float32)
    mended = crmend.inpaint(hit, mask, model=pack, saturated=saturated)
    np.testing.assert_array_equal(mended.image[~mask], hit[~mask])
    assert mended.image[mask].min() > SKY - 6 * NOISE
    assert mended.image[mask].max() < 1.5 * FULL
    bright = mask & (light > 1_000.0)
    ratio = mended.image[bright] / light[bright]
    assert np.median(np.abs(ratio - 1.0)) < 0.5
    assert (mended.error[mask] < mended.image[mask] + 10 * NOISE).all()


def ray(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image with a cosmic ray that saturates two pixels; its mask; those two."""
    y, x = RAY
    hit = image.copy()
    charge = np.zeros(SHAPE)
    charge[y - 1 : y + 2, x - 2 : x + 3] = [
        [0, 900, 5_000, 90, 0],
        [300, 19_000, 90_000, 6_000, 40],
        [60, 5_000, 95_000, 16_000, 200],
    ]
    hit += charge.astype(np.float32)
    full = hit >= FULL
    full &= charge > 0
    return np.minimum(hit, FULL), (charge > 1) & ~full, full


def test_pixels_that_a_cosmic_ray_saturates_are_no_star(field):
    _, image = field
    hit, mask, full = ray(image)
    saturated = hit >= FULL
    assert np.count_nonzero(full) == 2
    mended = crmend.inpaint(hit, mask, model="csst_msc/08", saturated=saturated)
    left = mended.image[mask] - SKY
    assert np.abs(left).max() < 6 * NOISE
    np.testing.assert_array_equal(mended.image[full], hit[full])


@pytest.mark.parametrize("at", [RAY, STAR])
def test_under_a_mask_that_hides_all_around_it_a_star_is_told_by_its_wings(field, at):
    light, image = field
    rows, columns = np.indices(SHAPE)
    distance = np.hypot(rows - at[0], columns - at[1])
    blob = np.where(distance < 6.0, 3e5 * np.exp(-0.5 * (distance / 1.6) ** 2), 0.0)
    hit = np.minimum(image + blob, FULL).astype(np.float32)
    saturated, mask = hit >= FULL, distance < 6.0
    sky, nothing = Surface(np.array([SKY, 0, 0, 0, 0, 0])), np.zeros(SHAPE, bool)
    found = saturated_by_rays(hit, mask & ~saturated, nothing, saturated, sky, NOISE)
    core = np.flatnonzero(saturated & mask)
    np.testing.assert_array_equal(found, core if at == RAY else core[:0])
    if at == RAY:
        mended = crmend.inpaint(hit, mask, model="csst_msc/08", saturated=saturated)
        left = (mended.image - light)[mask & ~saturated]
        assert np.abs(left).max() < 6 * NOISE


def test_only_saturated_pixels_without_light_around_are_of_rays(field):
    _, image = field
    hit, mask, full = ray(image)
    saturated = hit >= FULL
    near = np.zeros(SHAPE, bool)
    near[STAR[0] - 6 : STAR[0] + 7, STAR[1] - 1] = True
    sky = Surface(np.array([SKY, 0, 0, 0, 0, 0]))
    nothing = np.zeros(SHAPE, bool)
    found = saturated_by_rays(hit, mask | (near & ~saturated), nothing, saturated, sky, NOISE)
    np.testing.assert_array_equal(found, np.flatnonzero(full))
    assert saturated_by_rays(hit, mask, nothing, nothing, sky, NOISE).size == 0
    assert saturated_by_rays(hit, nothing, nothing, saturated, sky, NOISE).size == 0


def test_cores_that_are_saturated_are_told_from_pixels_beside_them():
    shape = (3, 64, 64)
    nothing, flat = np.zeros(shape, bool), np.full(shape, SKY, np.float32)
    saturated = nothing.copy()
    saturated[1, 31, 33] = saturated[2, 20, 20] = True
    stamps = CutoutBatch(flat, nothing, slice(0, 0), flat, saturated)
    np.testing.assert_array_equal(_saturated(stamps), [False, True, False])


def test_what_is_below_any_sky_is_clipped():
    shape = (2, 64, 64)
    mask = np.zeros(shape, bool)
    mask[:, 30:34, 30] = True
    filled = np.random.default_rng(1).normal(0.0, 1.0, shape).astype(np.float32)
    filled[1, 10, 10] = -30.0  # a dark lane
    mended = filled.copy()
    mended[:, 31, 30] = -20.0
    clipped = _above_any_sky(mended, filled, mask)
    assert clipped[0, 31, 30] == pytest.approx(filled[0][~mask[0]].min() - BELOW)
    assert clipped[1, 31, 30] == -20.0
    mended[0, 31, 30] = clipped[0, 31, 30]
    np.testing.assert_array_equal(clipped, mended)
