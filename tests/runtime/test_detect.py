"""Detection against a numpy twin of the tiny graph, and on awkward input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crmend import models
from crmend._limits import Limits
from crmend._normalise import measure_scale
from crmend.detect import Detection, detect, detect_into
from crmend.errors import InvalidInputError, ModelError

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"
TINY_HALO = 2


@pytest.fixture(autouse=True)
def packs(monkeypatch):
    """Make the tiny packs available beside those that come with crmend."""
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))


@pytest.fixture
def sky() -> np.ndarray:
    """Return noise of 5 around 100 with some bright pixels, float32."""
    rng = np.random.default_rng(5)
    image = rng.normal(100.0, 5.0, (61, 83))
    image[rng.random(image.shape) < 0.02] += 400.0
    return image.astype(np.float32)


def tiny(image, **options) -> Detection:
    return detect(image, model="tiny", device="cpu", threads=1, **options)


def twin(image: np.ndarray) -> np.ndarray:
    """Compute what the pack ``tiny`` should give for a frame without invalid pixels.

    p = sigmoid(4·x − Σ(4 neighbours) − ¼·max of the pixel's 2×2 block − 1), x the
    normalised image; beyond the frame's borders lies nothing (0), blocks count from its corner,
    and a mirrored row or column completes the last ones.
    """
    scale = measure_scale(image, np.zeros(image.shape, bool))
    x = np.arcsinh((image.astype(np.float64) - scale.background) / (3 * scale.noise))
    p = np.pad(x, [(0, n % 2) for n in x.shape], mode="reflect")
    block = p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).max(axis=(1, 3))
    wide = np.pad(p, 1)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    logit = 4 * p - around - 0.25 * block.repeat(2, 0).repeat(2, 1) - 1
    full = 1 / (1 + np.exp(-logit))
    return full[: image.shape[0], : image.shape[1]]


# --- what comes out -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2), (5, 18), (33, 6), (64, 64), (61, 83), (253, 254)])
@pytest.mark.parametrize("tile", [16, 50, None])
def test_any_size_and_tiling_gives_what_numpy_gives(shape, tile):
    image = np.random.default_rng(6).normal(100.0, 5.0, shape).astype(np.float32)
    found = tiny(image, tile=tile)
    assert found.cr_probability == pytest.approx(twin(image), abs=1e-5)
    assert np.array_equal(found.cr_mask, found.cr_probability >= 0.5)
    assert found.cr_mask.dtype == bool
    assert found.cr_probability.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 17), (3, 1), (61, 83)])
def test_tiled_equals_whole_frame(shape):
    image = np.random.default_rng(7).normal(100.0, 5.0, shape).astype(np.float32)
    whole = tiny(image, tile=4096)
    for tile in (1, 8, 30):
        tiled = tiny(image, tile=tile)
        assert np.abs(tiled.cr_probability - whole.cr_probability).max() <= 1e-6
        assert np.array_equal(tiled.cr_mask, whole.cr_mask)


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f8", ">i2", "u2", "i4", "u1", "f2"])
def test_any_dtype_gives_the_same(sky, dtype):
    counts = np.clip(np.round(sky), 0, 255).astype(np.float32)
    expected = tiny(counts)
    given = counts.astype(dtype)
    before = given.copy()
    found = tiny(given)
    assert np.array_equal(found.cr_probability, expected.cr_probability)
    assert np.array_equal(given, before)
    assert given.dtype == dtype


def test_any_memory_layout_gives_the_same(sky):
    expected = tiny(sky).cr_probability
    wide = np.zeros((sky.shape[0] * 2, sky.shape[1] * 3), np.float32)
    wide[::2, ::3] = sky
    locked = sky.copy()
    locked.flags.writeable = False
    for given in (np.asfortranarray(sky), wide[::2, ::3], locked, sky.tolist()):
        assert np.array_equal(tiny(given).cr_probability, expected)


def test_the_unit_does_not_matter(sky):
    # A power of ten, since the scale is rounded to decimal digits.
    found, expected = tiny(sky * np.float32(0.1)), tiny(sky)
    assert found.cr_probability == pytest.approx(expected.cr_probability, abs=1e-4)


def test_a_threshold_of_ones_own(sky):
    found = tiny(sky, threshold=0.9)
    assert np.array_equal(found.cr_mask, found.cr_probability >= 0.9)
    assert 0 < found.cr_mask.sum() < tiny(sky).cr_mask.sum()


def grown(candidates: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Grow seeds over the candidates that touch them, corners included, until none does."""
    found = candidates & seeds
    while True:
        padded = np.pad(found, 1)
        ny, nx = found.shape
        near = np.any([padded[y : y + ny, x : x + nx] for y in range(3) for x in range(3)], 0)
        if np.array_equal(near & candidates, found):
            return found
        found = near & candidates


def test_groups_stay_where_one_pixel_is_probable_enough(sky):
    every = tiny(sky, threshold=0.3)
    p = every.cr_probability
    found = tiny(sky, threshold=0.3, seed_threshold=0.9)
    assert np.array_equal(found.cr_probability, p)
    assert np.array_equal(found.cr_mask, grown(p >= 0.3, p >= 0.9))
    assert (p >= 0.9).sum() < found.cr_mask.sum() < every.cr_mask.sum()
    same = tiny(sky, threshold=0.3, seed_threshold=0.3)
    assert np.array_equal(same.cr_mask, every.cr_mask)


def test_groups_of_any_form():
    """Percolating noise: large winding groups, single pixels, groups at the borders."""
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 50), (50, 1), (150, 170)):
        p = rng.random(shape, np.float32)
        for threshold, seed in ((0.6, 0.999), (0.6, 0.62), (0.3, 0.9999), (0.9, 0.95)):
            expected = grown(p >= np.float32(threshold), p >= np.float32(seed))
            assert np.array_equal(Limits(threshold, seed).mask(p), expected)


def test_the_cards_seed_threshold_is_for_the_cards_threshold(sky):
    model = models.load_model("tiny", device="cpu")
    seeded = replace(
        model, card=replace(model.card, detect=replace(model.graph, seed_threshold=0.8))
    )
    p = tiny(sky).cr_probability
    for options, expected in (
        ({}, grown(p >= 0.5, p >= 0.8)),
        ({"threshold": 0.5}, p >= 0.5),
        ({"target_precision": 0.8}, p >= 0.5),
        ({"seed_threshold": 0.95}, grown(p >= 0.5, p >= 0.95)),
        ({"target_precision": 0.85, "seed_threshold": 0.95}, grown(p >= 0.7, p >= 0.95)),
    ):
        found = detect(sky, model=seeded, **options)
        assert np.array_equal(found.cr_mask, expected), options


def test_progress_counts_tiles(sky):
    steps = []
    tiny(sky, tile=32, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 6) for n in range(1, 7)]


def test_a_detector_of_a_pack(sky):
    one = detect(sky, model="tiny_chips", detector=1, device="cpu")
    assert np.array_equal(one.cr_probability, tiny(sky).cr_probability)


def test_quality_chooses_the_graph(sky):
    """tiny_chips/02 has a fast graph, its default; its log-odds are lower by one."""
    reference, fast, default = (
        detect(sky, model="tiny_chips/02", quality=quality, device="cpu").cr_probability
        for quality in ("reference", "fast", None)
    )
    assert np.array_equal(reference, tiny(sky).cr_probability)
    assert np.array_equal(fast, default)
    clear = (reference > 1e-3) & (reference < 1 - 1e-3)
    odds = fast[clear] / (1 - fast[clear]) / (reference[clear] / (1 - reference[clear]))
    assert odds == pytest.approx(np.exp(-1.0), rel=1e-2)


def test_a_quality_that_the_pack_lacks(sky):
    with pytest.raises(ModelError, match="tiny has no detect_fast graph; use quality"):
        tiny(sky, quality="fast")


def test_target_precision_takes_the_threshold_from_the_curve(sky):
    """The tiny packs' curve: precision 0.6 at 0.2, 0.8 at 0.5, 0.9 at 0.9."""
    found = tiny(sky, target_precision=0.85)
    assert np.array_equal(found.cr_mask, found.cr_probability >= 0.7)
    assert np.array_equal(tiny(sky, target_precision=0.6).cr_mask, found.cr_probability >= 0.2)


# --- invalid and saturated pixels -----------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (30, 40), (60, 82)])
def test_one_nan_changes_nothing_beyond_the_halo(sky, value, at):
    before = tiny(sky)
    broken = sky.copy()
    broken[at] = value
    after = tiny(broken)
    y, x = np.indices(sky.shape)
    far = np.maximum(np.abs(y - at[0]), np.abs(x - at[1])) > TINY_HALO
    assert np.array_equal(after.cr_mask[far], before.cr_mask[far])
    assert not after.cr_mask[at]
    assert after.cr_probability[at] == 0
    assert np.isfinite(after.cr_probability).all()
    assert np.array_equal(broken[at], np.float32(value), equal_nan=True)


def test_an_invalid_pixel_counts_as_its_neighbours_median(sky):
    """A hot pixel that is flagged leaves no trace: the median stands in its place."""
    hot = sky.copy()
    hot[20, 20] = 1e6
    invalid = np.zeros(sky.shape, np.uint16)
    invalid[20, 20] = 4
    mended = sky.copy()
    window = np.delete(sky[18:23, 18:23].ravel(), 12)
    mended[20, 20] = np.median(window)
    found, expected = tiny(hot, invalid=invalid), tiny(mended)
    near = np.s_[17:24, 17:24]
    difference = np.abs(found.cr_probability - expected.cr_probability)[near]
    difference[3, 3] = 0
    assert difference.max() < 1e-3
    assert not found.cr_mask[20, 20]


def test_large_invalid_areas_are_filled_alike_by_any_tiling(sky):
    sky[10:40, 15:50] = np.nan
    sky[:, 70] = np.inf
    whole, tiled = tiny(sky, tile=999), tiny(sky, tile=10)
    assert np.array_equal(whole.cr_probability, tiled.cr_probability)
    assert np.isfinite(whole.cr_probability).all()
    assert not whole.cr_mask[~np.isfinite(sky)].any()


def test_masked_arrays_keep_their_mask(sky):
    mask = np.zeros(sky.shape, bool)
    mask[5:9, 5:9] = True
    by_nan = np.where(mask, np.nan, sky)
    given = np.ma.MaskedArray(sky, mask)
    assert np.array_equal(tiny(given).cr_probability, tiny(by_nan).cr_probability)


def test_saturated_pixels_are_seen_but_never_cosmic_rays(sky):
    sky[30, 30] = 60000.0
    saturated = np.zeros(sky.shape, bool)
    saturated[30, 30] = True
    plain, found = tiny(sky), tiny(sky, saturated=saturated)
    assert plain.cr_mask[30, 30]
    assert not found.cr_mask[30, 30]
    # Its neighbours still see a bright pixel: they look like before, not like filled sky.
    assert found.cr_probability[30, 31] == pytest.approx(plain.cr_probability[30, 31], abs=1e-3)


def test_the_largest_values_stay_harmless(sky):
    sky[20, 20] = np.finfo(np.float32).max
    sky[40, 40] = -np.finfo(np.float32).max
    as_double = sky.astype(np.float64)
    as_double[10, 10] = 1e300
    for given in (sky, as_double, sky * np.float32(1e-3)):
        found = tiny(given)
        assert np.isfinite(found.cr_probability).all()
        assert found.cr_mask[20, 20]
    assert not tiny(as_double).cr_mask[10, 10]


def test_a_constant_frame_has_no_cosmic_rays():
    assert not tiny(np.full((20, 20), 7.0)).cr_mask.any()


# --- what is refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(5), r"shape \(5,\); expected \(ny, nx\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.float32(3), "one number"),
        (np.zeros((3, 3), complex), "dtype complex128"),
        (np.zeros((3, 3), bool), "dtype bool"),
        (np.full((3, 3), "a"), "dtype <U1"),
        (np.full((3, 3), None), "dtype object"),
        (Path("frame.fits"), r"image is a \w*Path; expected an array .*crmend\.read_exposure"),
        (np.full((3, 3), np.nan), "no pixel of the image is valid: all 9"),
        (np.full((3, 3), np.inf), "no pixel of the image is valid"),
    ],
)
def test_images_that_cannot_be_used(image, message):
    with pytest.raises(InvalidInputError, match=message):
        tiny(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"invalid": np.zeros((3, 3), bool)}, r"invalid has shape \(3, 3\) and the image"),
        ({"saturated": np.zeros(7, bool)}, r"saturated has shape \(7,\)"),
        (
            {"invalid": np.zeros((61, 83))},
            r"invalid has dtype float64; expected bool.*\.astype\(bool\)",
        ),
        ({"saturated": np.ones((61, 83), bool)}, "no pixel of the image is valid"),
        ({"threshold": 0.0}, r"threshold is 0\.0"),
        ({"threshold": 1.0}, r"threshold is 1\.0"),
        ({"threshold": np.nan}, "threshold is nan"),
        ({"threshold": "0.5"}, r"threshold is '0\.5'"),
        (
            {"seed_threshold": 1.0},
            r"seed_threshold is 1\.0; expected .* from the threshold, 0\.5",
        ),
        ({"seed_threshold": "0.9"}, r"seed_threshold is '0\.9'"),
        (
            {"threshold": 0.7, "seed_threshold": 0.6},
            r"seed_threshold is 0\.6; .*threshold, 0\.7",
        ),
        ({"target_precision": 0.95}, r"target_precision is 0\.95; expected 0\.6000 to 0\.9"),
        ({"target_precision": np.nan}, "target_precision is nan"),
        ({"threshold": 0.5, "target_precision": 0.8}, "expected one"),
        ({"quality": "best"}, "quality is 'best'; expected one of reference, fast"),
        ({"tile": 0}, "tile is 0; expected a whole number >= 1"),
        ({"tile": 2.5}, r"tile is 2\.5"),
    ],
)
def test_arguments_that_cannot_be_used(sky, options, message):
    with pytest.raises(InvalidInputError, match=message):
        tiny(sky, **options)


def test_neither_detector_nor_model(sky):
    with pytest.raises(InvalidInputError, match=r"detector=8 .*model=\"generic\""):
        detect(sky)


def test_the_core_refuses_an_inpainting_graph(sky):
    none = np.zeros(sky.shape, bool)
    with pytest.raises(InvalidInputError, match="expected a detect graph"):
        detect_into(sky, none, none, models.load_model("tiny", kind="inpaint", device="cpu"))


# --- the networks that come with crmend -----------------------------------------------


@pytest.fixture
def generic() -> models.Model:
    """Return the trained generic network, or skip."""
    if "generic" not in models.available_packs():
        pytest.skip("this checkout has no exported models")
    return models.load_model("generic", device="cpu")


@pytest.mark.parametrize("quality", ["reference", "fast"])
def test_the_real_network_does_not_see_the_tiling(generic, quality):
    generic = models.choose_model(None, "generic", "detect", "cpu", quality=quality)
    rng = np.random.default_rng(8)
    image = rng.normal(100.0, 5.0, (253, 255))
    image[rng.random(image.shape) < 0.01] += 300.0
    image[100:104, 60] = np.nan
    whole = detect(image, model=generic, tile=4096)
    tiled = detect(image, model=generic, tile=90)
    assert np.abs(whole.cr_probability - tiled.cr_probability).max() <= 1e-6
    assert np.array_equal(whole.cr_mask, tiled.cr_mask)


def test_the_real_network_keeps_a_nan_within_its_halo(generic):
    rng = np.random.default_rng(9)
    image = rng.normal(100.0, 5.0, (96, 97))
    image[rng.random(image.shape) < 0.02] += 300.0
    before = detect(image, model=generic)
    for at in ((48, 48), (48, 49), (49, 48), (0, 96)):
        broken = image.copy()
        broken[at] = np.nan
        after = detect(broken, model=generic)
        y, x = np.indices(image.shape)
        far = np.maximum(np.abs(y - at[0]), np.abs(x - at[1])) > generic.graph.halo
        assert np.array_equal(after.cr_mask[far], before.cr_mask[far])
        assert not after.cr_mask[at]
