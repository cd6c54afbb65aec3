"""Batches drawn where the network is: what they hold, against the set on disk."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crmend import _normalise  # noqa: E402
from crmend_training import _training, augmentation, datasets, train_detect  # noqa: E402
from crmend_training.datasets import compact  # noqa: E402
from crmend_training.datasets.frames import Frame  # noqa: E402
from crmend_training.resident import HALO, ResidentBatches  # noqa: E402

SIZE, CROP, BATCH = 64, 24, 64
CONFIG = {"architecture": "folded", "width": 4, "depth": 1}


def frame(number):
    """Return a frame whose every pixel tells where it is, by a value of its own."""
    place = np.arange(SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    image = compact.decode((100 + place).astype(np.int16))
    cr = np.where(place % 7 == number, 50.0, 0.0).astype(np.float32)
    saturated = place % 11 == 0
    invalid = np.zeros((SIZE, SIZE), bool)
    name = f"{datasets.DRAWN[0]}{number}" if number == 3 else f"frame {number}"
    return Frame(image, cr, invalid, saturated, name)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resident")
    datasets.build_detection_set([frame(k) for k in range(4)], folder, stamp=SIZE)
    return folder


def make(folder, frames=(0, 1, 2, 3), **options):
    plain = {"noise_range": (1.0, 1.0), "offset": 0.0, "border": 0.0}
    options = plain | {"crop": CROP, "batch": BATCH} | options
    recipe = train_detect.DetectRecipe(CONFIG, **options)
    return ResidentBatches(folder, list(frames), recipe, "cpu")


def places(image):
    """Return (row, column) in its stamp of every pixel, from the value it has."""
    value = _normalise.SOFTENING * np.sinh(image.numpy()[:, 0].astype(np.float64))
    code = np.rint(np.arcsinh(value / _normalise.SOFTENING) / compact.STEP).astype(int) - 100
    return np.stack(np.divmod(code, SIZE), axis=-1)


def test_crops_are_turned_windows_with_their_own_masks(data_set):
    batches = make(data_set)
    image, mask, ignore = batches.draw(np.random.default_rng(1))
    assert image.shape == mask.shape == ignore.shape == (BATCH, 1, CROP, CROP)
    where = places(image)
    turns = set()
    for crop, stamp, marked, left_out in zip(where, batches.drawn, mask, ignore, strict=True):
        down, right = crop[1, 0] - crop[0, 0], crop[0, 1] - crop[0, 0]
        assert sorted(np.abs([*down, *right])) == [0, 0, 1, 1]
        y, x = np.mgrid[:CROP, :CROP]
        expected = crop[0, 0] + y[..., None] * down + x[..., None] * right
        assert (crop == expected).all()
        place = crop[..., 0] * SIZE + crop[..., 1]
        assert (marked[0].numpy() == (place % 7 == int(stamp))).all()
        assert (left_out[0].numpy() == (place % 11 == 0)).all()
        turns.add((*down, *right))
    assert len(turns) == 8
    assert len(set(batches.drawn.tolist())) == 4


def test_noise_and_offset_scale_as_on_disk(data_set):
    batches = make(data_set, noise_range=(0.5, 2.0), offset=0.3)
    plain = make(data_set)
    got = batches.draw(np.random.default_rng(2))[0]
    same = plain.draw(np.random.default_rng(2))[0]
    value, first = (
        _normalise.SOFTENING * torch.sinh(part[:, 0].double()) for part in (got, same)
    )
    for scaled, true in zip(value, first, strict=True):
        slope, shift = np.polyfit(true.numpy().ravel(), scaled.numpy().ravel(), 1)
        assert 0.5 <= 1.0 / slope <= 2.0
        assert abs(shift / slope) <= 0.3001
        assert torch.allclose(scaled, slope * true + shift, rtol=1e-5, atol=1e-5)


def test_beyond_a_border_the_inside_is_mirrored_and_ignored(data_set):
    batches = make(data_set, border=1.0)
    image, _, ignore = batches.draw(np.random.default_rng(3))
    for crop, left_out in zip(places(image), ignore, strict=True):
        saturated = (crop[..., 0] * SIZE + crop[..., 1]) % 11 == 0
        extra = (left_out[0].numpy() > 0) & ~saturated
        along = np.unique(crop[..., 0])
        beyond = CROP - len(along)
        assert 1 <= beyond <= HALO
        counts = [(crop[..., 0] == row).sum() for row in along]
        # Each mirrored row is there twice, but for the border row itself.
        assert counts[0] == CROP
        assert sum(counts) == CROP * CROP
        assert extra.sum() <= beyond * CROP
        assert (extra | saturated).sum() >= beyond * CROP


def test_hard_stamps_and_shares(data_set):
    batches = make(data_set, hard=1.0, batch=256)
    batches.draw(np.random.default_rng(4))
    batches.learn_losses((batches.drawn == 2).float())
    batches.draw(np.random.default_rng(5))
    assert (batches.drawn == 2).float().mean() > 0.8
    batches = make(data_set, simulated=0.9, batch=256)
    batches.draw(np.random.default_rng(6))
    assert 0.8 < (batches.drawn == 3).float().mean() < 0.97
    batches = make(data_set, frames=(1, 2), simulated=0.9)
    batches.draw(np.random.default_rng(6))
    assert set(batches.drawn.tolist()) == {0, 1}


def test_the_same_generator_draws_the_same_batch(data_set):
    batches = make(data_set, border=0.5, noise_range=(0.8, 1.2))
    first = batches.draw(np.random.default_rng(7))
    batches.draw(np.random.default_rng(8))
    again = batches.draw(np.random.default_rng(7))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_training_on_a_resident_set(data_set, tmp_path):
    recipe = train_detect.DetectRecipe(CONFIG, crop=32, batch=16, hard=0.25, resident=True)
    schedule = _training.Schedule(steps=60, budget=120.0, rate=1e-2)
    run = train_detect.train(_training.Paths(data_set, tmp_path / "run"), recipe, schedule)
    assert run.step == 60
    assert run.history[-1]["held_out_loss"] < 0.5
    state = torch.load(tmp_path / "run" / "final.pt", weights_only=False)
    assert state["config"] == CONFIG


def flat_set(folder, value, cr):
    """Build a set of one frame without noise, all pixels `value`, all or none of them CRs."""
    shape = (SIZE, SIZE)
    nothing = np.zeros(shape, bool)
    image = np.full(shape, value, np.float32)
    plain = Frame(image, np.full(shape, cr, np.float32), nothing, nothing, "flat")
    datasets.build_detection_set([plain], folder, stamp=SIZE)
    return folder


def in_noise_units(image):
    return train_detect.noise_units(image[:, 0]).numpy()


@pytest.mark.parametrize("kind", ["sharp", "straight", "wide"])
def test_cosmic_rays_are_added_as_on_disk(tmp_path, kind):
    folder = flat_set(tmp_path / "set", 0.0, 0.0)
    options = {kind: 1.0, "sharp_label": (2.0, 2.0), "batch": 4096}
    batches = make(folder, frames=[0], **options)
    image, mask, _ = batches.draw(np.random.default_rng(1))
    added = in_noise_units(image)
    marked = mask[:, 0].numpy() > 0
    assert (marked == (added > 2.0)).all()
    assert 0.0 <= added.min() < 0.01
    recipe = train_detect.DetectRecipe(CONFIG, **{
        "crop": CROP, "noise_range": (1.0, 1.0), "offset": 0.0, "border": 0.0, **options
    })  # fmt: skip
    on_disk = train_detect.DetectBatches(folder, [0], recipe).draw(np.random.default_rng(2))
    expected = on_disk[1][:, 0].numpy() > 0
    # As many crops are hit, by as many pixels of as much charge.
    hit = [part.any(axis=(1, 2)).mean() for part in (marked, expected)]
    assert hit[0] == pytest.approx(hit[1], abs=0.03)
    assert marked.mean() == pytest.approx(expected.mean(), rel=0.4)
    charge = [np.median(part) for part in (added[marked], in_noise_units(on_disk[0])[expected])]
    assert np.log(charge[0] / charge[1]) == pytest.approx(0.0, abs=1.5)
    # Other crops, other events; a share of crops gets none.
    assert len(np.unique(marked.reshape(4096, -1), axis=0)) > 100
    assert not make(folder, frames=[0], **{kind: 1e-9}).draw(np.random.default_rng(1))[1].any()


@pytest.mark.parametrize("cr", [0.0, 50.0])
def test_lines_run_straight_to_an_end(tmp_path, cr):
    value = 30.0 if cr else 0.0
    batches = make(flat_set(tmp_path / "set", value, cr), frames=[0], lines=1.0, batch=256)
    image, mask, _ = batches.draw(np.random.default_rng(3))
    added = in_noise_units(image) - value
    directions, hidden, lines = set(), 0, 0
    for crop, marked in zip(added, mask[:, 0].numpy() > 0, strict=True):
        line = crop > 0.01
        if not cr:
            assert not marked.any()
        for turned in (line, line.T):
            along, across = (np.flatnonzero(turned.any(axis=k)) for k in (1, 0))
            if len(across) <= max(augmentation.LINE_WIDTHS) < len(along):
                assert turned.sum() == len(across) * len(along)
                assert along[0] == 0 or along[-1] == CROP - 1
                directions.add(turned is line)
                lines += 1
        # A bad column adds to a cosmic ray, bleeding hides it.
        if line.any() and cr:
            hides = not marked[line].any()
            assert hides or marked.all()
            assert not hides or (marked == ~line).all()
            hidden += hides
    assert len(directions) == 2
    assert lines > 150
    assert (hidden > 50) == bool(cr)
    levels = added.max(axis=(1, 2))
    assert augmentation.LINE_LEVEL[0] - value < levels[levels > 0.01].min()
    assert levels.max() < augmentation.LINE_LEVEL[1] * 1.001


@pytest.mark.parametrize("resident", [True, False])
def test_hot_pixels_are_single_and_no_cosmic_rays(tmp_path, resident):
    folder = flat_set(tmp_path / "set", 0.0, 0.0)
    batches = make(folder, frames=[0], hot=0.5, batch=1024)
    if not resident:
        batches = train_detect.DetectBatches(folder, [0], batches.recipe)
    image, mask, _ = batches.draw(np.random.default_rng(1))
    assert not mask.any()
    added = in_noise_units(image)
    hot = added > 0.1
    assert added[~hot].max() < 0.01
    low, high = augmentation.HOT_LEVEL
    assert low * 0.99 < added[hot].min() < 2 * low
    assert high / 2 < added[hot].max() < high * 1.01
    # The density is log-uniform: half of the crops that may have any have one.
    fewest, most = augmentation.HOT_DENSITY
    mean = 0.5 * (most - fewest) / np.log(most / fewest)
    assert hot.mean() == pytest.approx(mean, rel=0.25)
    assert hot.any(axis=(1, 2)).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("cr", [0.0, 50.0])
def test_hot_pixels_that_stay_away_from_cosmic_rays(tmp_path, resident, cr):
    folder = flat_set(tmp_path / "set", cr, cr)
    batches = make(folder, frames=[0], hot=1.0, hot_alone=True, batch=64)
    if not resident:
        batches = train_detect.DetectBatches(folder, [0], batches.recipe)
    image, mask, _ = batches.draw(np.random.default_rng(1))
    assert bool(mask.any()) == bool(cr)
    added = in_noise_units(image) - cr
    assert (added > 0.1).any() == (not cr)
