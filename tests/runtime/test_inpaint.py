"""Inpainting with the tiny pack, whose network is the 3×3 mean of the pre-filled image."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import crmend
from crmend._kernels import smooth_fill
from crmend._normalise import measure_scale, to_noise_units
from crmend.errors import InvalidInputError
from crmend.inpaint import MEDIAN, NETWORK, inpaint_into, raised_error
from crmend.models import load_model
from crmend.sources import SourceCatalog

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"


@pytest.fixture(autouse=True)
def _tiny_packs(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))


@pytest.fixture
def scene():
    """Return (image, cr_mask): noise around 100, one star at (70, 60), CRs on and off it."""
    rng = np.random.default_rng(9)
    image = rng.normal(100.0, 2.0, (220, 240)).astype(np.float32)
    yy, xx = np.indices(image.shape)
    image += (500.0 * np.exp(-((xx - 70) ** 2 + (yy - 60) ** 2) / 12.0)).astype(np.float32)
    cr_mask = np.zeros(image.shape, dtype=bool)
    cr_mask[61, 68:74] = True
    cr_mask[150:160, 180] = True
    cr_mask[0, 0] = cr_mask[219, 239] = True
    image[cr_mask] += 3000.0
    return image, cr_mask


def catalog(x, y):
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    ones = np.ones(x.size)
    return SourceCatalog(x, y, ones, ones, ones, ones, ones.astype(np.int64), ones)


def median_at(image, cr_mask, y, x, half=1):
    rows, columns = slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1)
    return np.median(image[rows, columns][~cr_mask[rows, columns]])


def smoothly_filled(image, cr_mask, y, x, reach=12):
    """Return the 3×3 around a pixel of what the network sees: medians, then smoothed."""
    window = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
    filled, mask = image[window].copy(), np.ascontiguousarray(cr_mask[window])
    for v, u in np.argwhere(mask):
        filled[v, u] = median_at(image, cr_mask, y - reach + v, x - reach + u)
    scale = measure_scale(image, cr_mask)
    stamp = to_noise_units(filled, scale)[np.newaxis]
    smooth_fill(stamp, mask[np.newaxis])
    middle = stamp[0, reach - 1 : reach + 2, reach - 1 : reach + 2]
    return scale.background + scale.noise * middle


def test_only_masked_pixels_change_bit_for_bit(scene):
    image, cr_mask = scene
    image.view(np.uint32)[30, 30] = 0x7FC00ABC
    image[31, 31] = -np.inf
    before = image.copy()
    done = crmend.inpaint(image, cr_mask, model="tiny")
    np.testing.assert_array_equal(image.view(np.uint32), before.view(np.uint32))
    kept = done.image.view(np.uint32)[~cr_mask]
    np.testing.assert_array_equal(kept, before.view(np.uint32)[~cr_mask])
    assert (done.image[cr_mask] < 700.0).all()


def test_network_on_the_source_and_median_elsewhere(scene):
    image, cr_mask = scene
    done = crmend.inpaint(image, cr_mask, model="tiny")
    expected = np.zeros(image.shape, dtype=np.uint8)
    expected[cr_mask] = MEDIAN
    expected[61, 68:74] = NETWORK
    np.testing.assert_array_equal(done.method, expected)
    assert len(done.sources) == 1
    assert done.sources.x[0] == pytest.approx(70.0, abs=0.3)
    # Of the sky: the mean of what is around and touches no CR pixel.
    window = np.s_[149:162, 174:187]
    clear = ~ndimage.binary_dilation(cr_mask, np.ones((3, 3)))[window]
    weights = clear * np.exp(-0.5 * np.add.outer(*[np.arange(-6, 7) ** 2] * 2) / 2.5**2)
    mean = (weights * image[window]).sum() / weights.sum()
    assert done.image[155, 180] == pytest.approx(mean, abs=0.05)
    for x in (70, 73):
        expected = smoothly_filled(image, cr_mask, 61, x).mean()
        assert done.image[61, x] == pytest.approx(expected, rel=1e-5)


def test_observed_values_are_limits_on_sources_unless_said_otherwise(scene):
    image, cr_mask = scene
    image[61, 68:74] -= 3000.0  # flagged for nothing: the 3×3 mean is far off at the peak
    done = crmend.inpaint(image, cr_mask, model="tiny")
    other = crmend.inpaint(image, cr_mask, model="tiny", additive=False)
    observed = image.copy()
    image[cr_mask] = np.nan
    blind = crmend.inpaint(image, cr_mask, model="tiny")
    np.testing.assert_allclose(other.image, blind.image, rtol=1e-5)
    np.testing.assert_allclose(other.error, blind.error, rtol=1e-5)
    on_source = done.method == NETWORK
    off, blindly_off = (np.abs(one.image - observed)[on_source] for one in (done, blind))
    assert (off < 0.8 * blindly_off).any()
    np.testing.assert_array_equal(done.image[~on_source], other.image[~on_source])


def test_without_sources_all_is_median(scene):
    image, cr_mask = scene
    done = crmend.inpaint(image, cr_mask, model="tiny", sources=catalog([], []))
    assert set(np.unique(done.method)) == {0, MEDIAN}


def test_a_source_far_from_every_cosmic_ray_mends_nothing(scene):
    image, cr_mask = scene
    done = crmend.inpaint(image, cr_mask, model="tiny", sources=catalog([120.0], [20.0]))
    assert NETWORK not in done.method


@pytest.mark.parametrize("lost", [np.nan, np.inf, -1e12])
def test_sources_without_a_place_are_left_out(scene, lost):
    image, cr_mask = scene
    expected = crmend.inpaint(image, cr_mask, model="tiny", sources=catalog([70.0], [60.0]))
    given = catalog([70.0, lost, 20.0], [60.0, 30.0, lost])
    given.a[1] = np.nan  # sizes that are not known are looked for at the source's place
    done = crmend.inpaint(image, cr_mask, model="tiny", sources=given)
    assert (done.sources.x.tolist(), done.sources.y.tolist()) == ([70.0], [60.0])
    np.testing.assert_array_equal(done.image, expected.image)
    assert len(given) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_result(scene, threads):
    image, cr_mask = scene
    sources = catalog([70.0, 120.0, 40.0, 90.0], [61.0, 100.0, 40.0, 150.0])
    one = crmend.inpaint(image, cr_mask, detector=8, sources=sources, threads=2)
    other = crmend.inpaint(image, cr_mask, detector=8, sources=sources, threads=threads)
    assert (one.method == NETWORK).any()
    np.testing.assert_allclose(other.image, one.image, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_and_neighbouring_sources_do_not_change_the_result(batch):
    rng = np.random.default_rng(6)
    image = rng.normal(0.0, 1.0, (200, 210)).astype(np.float32)
    cr_mask = rng.random(image.shape) < 0.03
    image[cr_mask] = 1e4
    sources = catalog(rng.uniform(0, 209, 20), rng.uniform(0, 199, 20))
    one = crmend.inpaint(image, cr_mask, model="tiny", sources=sources, batch=20)
    other = crmend.inpaint(image, cr_mask, model="tiny", sources=sources, batch=batch)
    np.testing.assert_allclose(other.image, one.image, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(other.method, one.method)
    # All cutouts see the first fill: the network's 3×3 mean of it, not of mended pixels.
    distances = [
        np.hypot(sources.x - x, sources.y - y).min() + 1e3 * (min(y, x) < 13 or max(y, x) > 186)
        for y, x in np.argwhere(one.method == NETWORK)
    ]
    for i in np.argsort(distances)[:5]:
        y, x = np.argwhere(one.method == NETWORK)[i]
        expected = smoothly_filled(image, cr_mask, y, x).mean()
        assert one.image[y, x] == pytest.approx(expected, abs=1e-3)


def test_error_is_raised_above_the_neighbours_and_only_there(scene):
    image, cr_mask = scene
    rng = np.random.default_rng(1)
    error = rng.uniform(1.9, 2.1, image.shape).astype(np.float32)
    error[10, 10] = np.inf
    error[61, 71] = np.nan
    done = crmend.inpaint(image, cr_mask, model="tiny", error=error)
    np.testing.assert_array_equal(done.error[~cr_mask], error[~cr_mask])
    for y, x in np.argwhere(cr_mask):
        assert done.error[y, x] > median_at(error, cr_mask, y, x) * 1.005
    # Noise of 2 around a fill that is itself uncertain by about 0.3.
    assert 2.01 < np.median(done.error[150:160, 180]) < 2.5


def test_without_an_error_plane_the_measured_noise_stands_in(scene):
    image, cr_mask = scene
    done = crmend.inpaint(image, cr_mask, model="tiny")
    np.testing.assert_allclose(done.error[~cr_mask], 2.0, rtol=0.05)
    assert (done.error[cr_mask] > 2.03).all()


def test_the_error_of_a_median_is_noise_its_own_error_and_structure():
    raised = raised_error(
        np.array([4.0, 4.0, 4.0, 0.0], dtype=np.float32),
        np.array([10.0, np.nan, 8.0, 0.0], dtype=np.float32),
        1.0,
    )
    # Spread 10 is 6 beyond the 8 that noise of 4 explains: 3² + 4² = 5², doubled.
    plain = np.hypot(4.0, 0.15 * 4.0)
    np.testing.assert_allclose(raised, [np.hypot(plain, 1.5 * 6.0), plain, plain, 0.15])


def test_the_error_of_a_median_does_not_depend_on_the_unit():
    neighbours = np.array([4.0, 4.0], dtype=np.float32)
    spread = np.array([10.0, 8.5], dtype=np.float32)
    unit = np.float32(1e-24)  # erg/s/cm²; its square is no float32
    tiny = raised_error(unit * neighbours, unit * spread, float(unit))
    np.testing.assert_allclose(tiny / unit, raised_error(neighbours, spread, 1.0), rtol=1e-5)


@pytest.mark.parametrize("slope", [0.0, 2.0, 4.0])
def test_a_slope_of_the_sky_is_no_error(slope):
    """In noises per pixel: what follows the slope is as near to the truth as on a flat sky."""
    rng = np.random.default_rng(4)
    clean = (rng.normal(0.0, 10.0, (256, 256)) + 10.0 * slope * np.arange(256)).astype("f4")
    cr_mask = np.zeros(clean.shape, dtype=bool)
    for y, x in rng.integers(4, 246, (100, 2)):
        cr_mask[y : y + 2, x : x + 4] = True
    done = crmend.inpaint(clean + 500 * cr_mask, cr_mask, model="tiny")
    pulls = (done.image - clean)[cr_mask] / done.error[cr_mask]
    assert 0.64 < np.mean(np.abs(pulls) < 1.0) < 0.76


def test_the_error_of_mended_sky_is_true():
    """The sky is known here, so what would have been measured without the CR is too."""
    rng = np.random.default_rng(3)
    clean = rng.normal(50.0, 2.0, (400, 400)).astype(np.float32)
    cr_mask = rng.random(clean.shape) < 0.02
    image = np.where(cr_mask, np.float32(500.0), clean)
    none = SourceCatalog(*(np.zeros(0) for _ in range(8)))
    done = crmend.inpaint(image, cr_mask, model="tiny", sources=none)
    pull = (np.abs(done.image - clean) / done.error)[cr_mask]
    assert (done.method[cr_mask] == MEDIAN).all()
    assert 0.66 < np.mean(pull < 1) < 0.70
    assert 0.94 < np.mean(pull < 2) < 0.965


def test_a_masked_nan_is_mended_and_another_stays(scene):
    image, cr_mask = scene
    image[61, 70] = image[155, 180] = np.nan
    image[155, 181] = image[60, 70] = np.nan
    done = crmend.inpaint(image, cr_mask, model="tiny")
    assert np.isfinite(done.image[cr_mask]).all()
    assert np.isnan(done.image[155, 181])
    assert np.isnan(done.image[60, 70])


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_a_masked_nan_is_mended_as_a_value_that_says_nothing(scene, nothing):
    image, cr_mask = scene
    cr_mask[56:65, 66:75] = True  # the whole core: its source shows on the mended image only
    invalid = np.zeros_like(cr_mask)
    invalid[60, 70] = invalid[150, 180] = True
    image[cr_mask & ~invalid] = 7777.0
    expected = crmend.inpaint(image, cr_mask, model="tiny", invalid=invalid, additive=False)
    assert NETWORK in expected.method
    image[cr_mask & ~invalid] = nothing
    for additive in (True, False):
        done = crmend.inpaint(image, cr_mask, model="tiny", invalid=invalid, additive=additive)
        for name in ("image", "error", "method"):
            np.testing.assert_array_equal(getattr(done, name), getattr(expected, name))
        assert done.sources.x.tolist() == expected.sources.x.tolist()


def test_invalid_and_saturated_pixels_enter_no_median(scene):
    image, cr_mask = scene
    invalid = np.zeros_like(cr_mask)
    saturated = np.zeros_like(cr_mask)
    invalid[149:162, 181] = True
    saturated[149:162, 179] = True
    image[invalid | saturated] = 60000.0
    done = crmend.inpaint(
        image, cr_mask, model="tiny", invalid=invalid, saturated=saturated,
        sources=catalog([], []),
    )  # fmt: skip
    assert (done.image[150:160, 180] < 110.0).all()
    assert (done.image[invalid | saturated] == 60000.0).all()


@pytest.mark.parametrize("dtype", ["u2", ">i4", ">f4", "f8"])
def test_other_dtypes_are_welcome(scene, dtype):
    image, cr_mask = scene
    whole = np.round(image)
    expected = crmend.inpaint(whole, cr_mask, model="tiny").image
    done = crmend.inpaint(whole.astype(dtype), cr_mask.astype(np.uint8), model="tiny")
    assert done.image.dtype == np.float32
    np.testing.assert_array_equal(done.image, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (5, 3)])
def test_tiny_and_fully_masked_images(shape):
    image = np.full(shape, 7.0, dtype=np.float32)
    none = crmend.inpaint(image, np.zeros(shape, dtype=bool), model="tiny")
    np.testing.assert_array_equal(none.image, image)
    assert not none.method.any()
    with pytest.raises(InvalidInputError, match="some good ones to mend the others from"):
        crmend.inpaint(image, np.ones(shape, dtype=bool), model="tiny")


def test_bad_and_saturated_pixels_of_the_mask_stay(scene):
    image, cr_mask = scene
    invalid, saturated = np.zeros_like(cr_mask), np.zeros_like(cr_mask)
    rows, columns = np.nonzero(cr_mask)
    invalid[rows[0], columns[0]] = saturated[rows[-1], columns[-1]] = True
    done = crmend.inpaint(image, cr_mask, model="tiny", invalid=invalid, saturated=saturated)
    kept = invalid | saturated
    np.testing.assert_array_equal(done.image[kept], image[kept])
    assert not done.method[kept].any()
    assert done.method[cr_mask & ~kept].all()


def test_an_error_below_zero_is_refused(scene):
    image, cr_mask = scene
    error = np.where(cr_mask, -2.0, 1.0)
    with pytest.raises(InvalidInputError, match=r"error is -2 somewhere, .*; expected 1-sigma"):
        crmend.inpaint(image, cr_mask, model="tiny", error=error)


def test_reach_leaves_far_pixels_to_the_median(scene):
    image, cr_mask = scene
    cr_mask[45, 70] = True
    invalid = np.zeros_like(cr_mask)
    model = load_model("tiny", kind="inpaint")
    methods = {}
    for reach in (None, 2.0):
        own, error = image.copy(), np.ones_like(image)
        sources = catalog([70.0], [60.0])
        done = inpaint_into(
            own, error, cr_mask, invalid, invalid, model, sources=sources, reach=reach
        )
        methods[reach] = (done.method[45, 70], done.method[61, 70])
    assert methods == {None: (NETWORK, NETWORK), 2.0: (MEDIAN, NETWORK)}


def test_progress_counts_cutouts(scene):
    image, cr_mask = scene
    calls = []
    sources = catalog([70.0, 180.0, 182.0], [60.0, 152.0, 158.0])
    crmend.inpaint(
        image, cr_mask, model="tiny", sources=sources, batch=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls == [(2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cr_mask": np.zeros((3, 3), bool)}, r"cr_mask has shape \(3, 3\)"),
        ({"cr_mask": np.zeros((220, 240))}, "cr_mask has dtype float64"),
        ({"cr_mask": None}, "cr_mask is None"),
        ({"image": np.zeros((2, 3, 4))}, r"image has shape \(2, 3, 4\)"),
        ({"image": np.zeros((220, 240), complex)}, "dtype complex128"),
        ({"invalid": np.zeros((2, 2), bool)}, "invalid has shape"),
        ({"error": np.zeros((2, 2))}, "error has shape"),
        ({"batch": 0}, "batch is 0"),
        ({"model": None}, "detector=8"),
    ],
)
def test_unusable_arguments(scene, changes, message):
    image, cr_mask = scene
    arguments = {"image": image, "cr_mask": cr_mask, "model": "tiny"} | changes
    with pytest.raises(InvalidInputError, match=message):
        crmend.inpaint(arguments.pop("image"), arguments.pop("cr_mask"), **arguments)


def test_output_that_is_not_finite_leaves_the_median(scene):
    image, cr_mask = scene
    # In units of a noise of 0.02 these values are beyond float32.
    image *= np.float32(0.01)
    image[58:64, 64:76] = 3.0e38
    done = crmend.inpaint(image, cr_mask, model="tiny", sources=catalog([70.0], [60.0]))
    assert np.isfinite(done.image[cr_mask]).all()
    assert (done.method[61, 68:74] == MEDIAN).all()
    assert (done.image[61, 68:74] == np.float32(3.0e38)).all()


def test_spectra_along_columns_are_mended_as_along_rows():
    rng = np.random.default_rng(12)
    traces = 5e3 * np.exp(-0.5 * ((np.arange(160) % 12 - 6) / 1.6) ** 2)
    image = rng.normal(100.0 + traces, 5.0, (150, 160)).astype(np.float32)
    cr_mask = rng.random(image.shape) < 0.01
    hit = np.where(cr_mask, image + np.float32(1e4), image)
    along, turned = (
        crmend.inpaint(one, mask, model="tiny")
        for one, mask in ((hit, cr_mask), (hit.T, cr_mask.T))
    )
    assert along.error == pytest.approx(turned.error.T, rel=0.2)
    assert np.median(along.error) == pytest.approx(5.0, rel=0.05)
    miss = np.abs(along.image - image)[cr_mask]
    assert np.median(miss) < 15.0
