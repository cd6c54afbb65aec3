"""The cutout batcher: who mends what, what the stamps hold, and the way back."""

import numpy as np
import pytest

from crmend._background import Surface
from crmend.cutouts import CUTOUT, plan_cutouts
from crmend.sources import SourceCatalog


def catalog(x, y, a=1.0):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    ones = np.ones(x.size)
    return SourceCatalog(x, y, ones, a * ones, ones, ones, ones.astype(np.int64), ones)


def flat(level):
    """Return a background of one level."""
    return Surface(level * np.eye(1, 6)[0])


def owners(plan, shape):
    """Return the owner of every pixel of the frame; −1 = none."""
    frame = np.full(shape, -1)
    for i, source in enumerate(plan.sources):
        frame.flat[plan.pixels[plan.starts[i] : plan.starts[i + 1]]] = source
    return frame


def owners_twin(cr_mask, sources, limit=np.inf):
    """Find the owner of every CR pixel by comparing it with every source."""
    frame = np.full(cr_mask.shape, -1)
    for y, x in zip(*np.nonzero(cr_mask), strict=True):
        best = limit**2
        for i in range(len(sources)):
            cx, cy = np.floor(sources.x[i] + 0.5), np.floor(sources.y[i] + 0.5)
            held = cx - 32 <= x < cx + 32 and cy - 32 <= y < cy + 32
            distance = (x - sources.x[i]) ** 2 + (y - sources.y[i]) ** 2
            if held and distance < best:
                best, frame[y, x] = distance, i
    return frame


def test_a_cutout_spans_64_pixels_from_32_before_its_centre():
    cr_mask = np.ones((200, 200), dtype=bool)
    plan = plan_cutouts(cr_mask, catalog([100.4], [90.6]))
    expected = np.full(cr_mask.shape, -1)
    expected[91 - 32 : 91 + 32, 100 - 32 : 100 + 32] = 0
    np.testing.assert_array_equal(owners(plan, cr_mask.shape), expected)
    assert (plan.centre_x[0], plan.centre_y[0]) == (100, 91)


def test_the_nearest_source_owns_a_pixel_that_several_cutouts_hold():
    rng = np.random.default_rng(1)
    cr_mask = rng.random((150, 190)) < 0.1
    sources = catalog(rng.uniform(-0.5, 189.4, 40), rng.uniform(-0.5, 149.4, 40))
    found = owners(plan_cutouts(cr_mask, sources), cr_mask.shape)
    np.testing.assert_array_equal(found, owners_twin(cr_mask, sources))
    assert (found >= 0).any()


def test_reach_leaves_out_what_is_far_from_the_footprint():
    cr_mask = np.ones((80, 80), dtype=bool)
    sources = catalog([40.0], [40.0], a=2.0)
    found = owners(plan_cutouts(cr_mask, sources, reach=5.0), cr_mask.shape)
    # Five pixels beyond three semi-major axes of 2 px: 11 px.
    np.testing.assert_array_equal(found, owners_twin(cr_mask, sources, limit=11.001))


def test_order_points_into_the_list_of_cosmic_ray_pixels():
    rng = np.random.default_rng(2)
    cr_mask = rng.random((100, 100)) < 0.05
    plan = plan_cutouts(cr_mask, catalog([20.0, 70.0], [20.0, 60.0]))
    np.testing.assert_array_equal(np.flatnonzero(cr_mask)[plan.order], plan.pixels)
    assert plan.starts[-1] == plan.pixels.size
    assert (np.diff(plan.starts) >= 1).all()


def test_sources_without_cosmic_rays_or_off_the_frame_have_no_cutout():
    cr_mask = np.zeros((300, 300), dtype=bool)
    cr_mask[10, 10] = True
    plan = plan_cutouts(cr_mask, catalog([12.0, 200.0, -1.0, 11.0], [12.0, 200.0, 11.0, 300.0]))
    np.testing.assert_array_equal(plan.sources, [0])


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_mend(count):
    cr_mask = np.zeros((50, 60), dtype=bool)
    plan = plan_cutouts(cr_mask, catalog([5.0] * count, [5.0] * count))
    assert len(plan) == 0
    assert (
        list(plan.batches(np.zeros((50, 60), np.float32), cr_mask, cr_mask, flat(0.0), 8)) == []
    )


def test_stamps_hold_the_image_and_the_mask():
    rng = np.random.default_rng(3)
    image = rng.normal(size=(120, 130)).astype(np.float32)
    cr_mask = rng.random(image.shape) < 0.03
    invalid = np.zeros_like(cr_mask)
    plan = plan_cutouts(cr_mask, catalog([60.0, 64.0], [50.0, 80.0]))
    (batch,) = plan.batches(image, cr_mask, invalid, flat(0.0), 32)
    np.testing.assert_array_equal(batch.image[0], image[18:82, 28:92])
    np.testing.assert_array_equal(batch.cr_mask[1], cr_mask[48:112, 32:96])
    assert batch.image.dtype == np.float32


@pytest.mark.parametrize("shape", [(70, 66), (64, 64), (40, 9), (1, 1)])
def test_stamps_mirror_the_frame_at_its_edges(shape):
    image = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    cr_mask = np.ones(shape, dtype=bool)
    (batch,) = plan_cutouts(cr_mask, catalog([0.0], [0.0])).batches(
        image, cr_mask, np.zeros(shape, dtype=bool), flat(0.0), 1
    )
    padded = np.pad(image, 64, mode="reflect" if min(shape) > 1 else "edge")
    np.testing.assert_array_equal(batch.image[0], padded[32:96, 32:96])


def test_invalid_pixels_are_filled_in_the_stamps_only():
    image = np.full((64, 64), 5.0, dtype=np.float32)
    image[30, 30] = np.nan
    image[40, 40] = 900.0
    image[0:10, 0:10] = np.inf
    before = image.copy()
    invalid = image == 900.0
    cr_mask = np.zeros_like(invalid)
    cr_mask[32, 32] = True
    (batch,) = plan_cutouts(cr_mask, catalog([32.0], [32.0])).batches(
        image, cr_mask, invalid, flat(-1.0), 4
    )
    assert batch.image[0, 30, 30] == 5.0
    assert batch.image[0, 40, 40] == 5.0
    assert batch.image[0, 0, 0] == -1.0
    np.testing.assert_array_equal(image, before)


def test_a_mended_cosmic_ray_that_was_invalid_keeps_its_first_fill():
    image = np.full((64, 64), 5.0, dtype=np.float32)
    image[32, 32] = 7.0
    cr_mask = image == 7.0
    (batch,) = plan_cutouts(cr_mask, catalog([32.0], [32.0])).batches(
        image, cr_mask, cr_mask.copy(), flat(0.0), 4
    )
    assert batch.image[0, 32, 32] == 7.0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_every_pixel_comes_back_to_its_place_for_any_batch_size(size):
    rng = np.random.default_rng(4)
    shape = (160, 170)
    image = np.arange(160 * 170, dtype=np.float32).reshape(shape)
    cr_mask = rng.random(shape) < 0.05
    sources = catalog(rng.uniform(0, 169, 15), rng.uniform(0, 159, 15))
    plan = plan_cutouts(cr_mask, sources)
    back = np.zeros(shape, dtype=np.float32)
    stamps = 0
    for batch in plan.batches(image, cr_mask, np.zeros_like(cr_mask), flat(0.0), size):
        assert batch.image.shape[1:] == (CUTOUT, CUTOUT)
        stamps += len(batch.image)
        # A network that negates its input must negate exactly the owned pixels.
        back.flat[plan.pixels[batch.pixels]] = plan.pick(-batch.image, batch, shape[1])
    assert stamps == len(plan)
    np.testing.assert_array_equal(back, np.where(owners_twin(cr_mask, sources) >= 0, -image, 0))
