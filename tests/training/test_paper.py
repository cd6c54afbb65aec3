"""The measurements of the paper's reproduction, against values worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import sep

pytest.importorskip("torch")
pytest.importorskip("galsim")

from astropy.table import Table

from crmend_training import paper_frames, paper_science, paper_values
from crmend_training import paper_photometry as photometry
from crmend_training.mending_frames import HitFrame
from crmend_training.similarity import structural_similarity
from crmend_training.simulate import SimulationConfig


def gaussian(shape, x, y, flux, sigma=1.2):
    rows, columns = np.indices(shape)
    squared = (columns - x) ** 2 + (rows - y) ** 2
    return flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * squared / sigma**2)


# --- similarity ---------------------------------------------------------------------------


def test_similarity_of_one_window_by_the_formula(rng):
    a, b = rng.random(7), rng.random(7)
    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    covariance = np.cov(a, b)  # of samples
    expected = (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (np.trace(covariance) + c2)
    assert structural_similarity(a, b, 2.0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(40,), (23, 31)])
def test_similarity_is_that_of_scikit_image(rng, shape):
    metrics = pytest.importorskip("skimage.metrics")
    a = rng.normal(size=shape)
    b = a + rng.normal(scale=0.5, size=shape)
    expected = metrics.structural_similarity(a, b, data_range=5.0)
    assert structural_similarity(a, b, 5.0) == pytest.approx(expected, rel=1e-9)
    assert structural_similarity(a, a, 5.0) == pytest.approx(1.0)


def test_similarity_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match=r"shapes are \(6,\) and \(6,\)"):
        structural_similarity(np.zeros(6), np.zeros(6), 1.0)
    with pytest.raises(ValueError, match="data_range is 0"):
        structural_similarity(np.zeros(9), np.zeros(9), 0.0)


# --- photometry ---------------------------------------------------------------------------


def test_the_brightest_source_chooses_first_and_each_detection_serves_once():
    x, y = np.array([10.0, 12.0, 50.0, 80.0]), np.array([10.0, 10.0, 50.0, 80.0])
    mag = np.array([22.0, 18.0, 20.0, 20.0])
    found_x, found_y = np.array([11.2, 9.0, 50.0, 30.0]), np.array([10.0, 10.0, 52.9, 30.0])
    matched = photometry.match_sources(x, y, mag, found_x, found_y)
    # 18 mag takes the first (0.8 px off), so 22 mag the second; 2.9 px are near enough.
    assert matched.tolist() == [1, 0, 2, -1]
    near = photometry.match_sources(x, y, mag, found_x, found_y, reach=2.5)
    assert near.tolist() == [1, 0, -1, -1]
    nothing = photometry.match_sources(x, y, mag, np.zeros(0), np.zeros(0))
    assert nothing.tolist() == [-1] * 4


def test_distances_are_to_the_nearest_pixel():
    mask = np.zeros((20, 60), bool)
    mask[5, 10] = mask[5, 20] = True
    found = photometry.distances_to(mask, np.array([13.0, 20.0, 58.0]), np.array([9, 5, 5]))
    np.testing.assert_allclose(found, [5.0, 0.0, np.inf])
    empty = photometry.distances_to(~mask & False, np.array([1.0]), np.array([1.0]))
    assert np.isinf(empty).all()


def test_kron_magnitudes_of_stars_on_a_sky(rng):
    places = [(40.3, 40.8), (90.0, 60.2), (60.0, 100.0)]
    fluxes = [4000.0, 1000.0, 300.0]
    image = rng.normal(50.0, 0.5, (128, 128))
    for (x, y), flux in zip(places, fluxes, strict=True):
        image += gaussian(image.shape, x, y, flux)
    none = np.zeros(image.shape, bool)
    found = photometry.measure_image(image.astype(np.float32), none, 25.0)
    index = photometry.match_sources(*np.array(places).T, np.arange(3), found.x, found.y)
    assert (index >= 0).all()
    expected = 25.0 - 2.5 * np.log10(fluxes)
    # A Kron ellipse misses up to a few per cent of a Gaussian (Kron 1980).
    difference = found.mag[index] - expected
    assert np.all((difference > -0.05) & (difference < 0.08))


def test_left_out_pixels_have_no_light(rng):
    image = rng.normal(50.0, 0.5, (96, 96)) + gaussian((96, 96), 48.0, 48.0, 4000.0, 2.0)
    image = image.astype(np.float32)
    none, mask = np.zeros((2, *image.shape), bool)
    mask[48, 50] = True
    whole, less = (photometry.measure_image(image, none, 25.0, m) for m in (None, mask))
    (full,), (part,) = (
        m.mag[photometry.match_sources([48.0], [48.0], [0.0], m.x, m.y)] for m in (whole, less)
    )
    light = gaussian((96, 96), 48.0, 48.0, 4000.0, 2.0)[48, 50] / 4000.0
    assert part - full == pytest.approx(-2.5 * np.log10(1.0 - light), abs=0.005)


def test_blended_sources_are_found_as_one_where_deblending_overflows(monkeypatch):
    real, calls = sep.extract, []

    def overflowing(data, threshold, **options):
        calls.append(options["deblend_nthresh"])
        if options["deblend_nthresh"] > 1:
            raise Exception("object deblending overflow: limit of 65536 reached")
        return real(data, threshold, **options)

    monkeypatch.setattr(photometry.sep, "extract", overflowing)
    data = gaussian((40, 40), 20.0, 20.0, 500.0).astype(np.float32)
    found = photometry.find_objects(data, 1.0, np.zeros(data.shape, bool))
    assert (len(found), calls) == (1, [32, 1])


# --- one frame ------------------------------------------------------------------------------


@pytest.fixture
def hit(rng):
    """A frame of four stars; a CR pixel on the first, one 4 px from the second, one on the "
    "sky."""
    places = [(40.0, 40.0), (90.0, 40.0), (40.0, 90.0), (90.0, 90.0)]
    clean = rng.normal(10.0, 0.5, (128, 128))
    clean += sum(gaussian(clean.shape, x, y, 1000.0) for x, y in places)
    clean = clean.astype(np.float32)
    truth = np.zeros_like(clean)
    truth[40, 40] = truth[40, 94] = 1000.0
    truth[63:66, 63:66] = 1000.0
    catalog = Table(
        {
            "type": ["star", "star", "galaxy", "galaxy"], "x": [p[0] for p in places],
            "y": [p[1] for p in places], "mag": [17.5] * 4, "flux": [1000.0] * 4,
        }
    )  # fmt: skip
    none = np.zeros(clean.shape, bool)
    return HitFrame(
        detector="8", image=clean + truth, clean=clean, truth=truth, error=None, invalid=none,
        saturated=none, background=np.full_like(clean, 10.0), noise=0.5, electrons=1.0,
        zero_point=25.0, catalog=catalog,
    )  # fmt: skip


def test_sources_near_cosmic_rays_are_measured_under_every_method(hit):
    result = SimpleNamespace(image=hit.clean, cr_mask=hit.true_mask)
    measured = paper_frames.measure_sources(hit, result, limit=25.9)
    sources = {k: np.array(v) for k, v in measured["sources"].items()}
    assert sources["x"].tolist() == [40.0, 90.0]
    np.testing.assert_allclose(sources["distance"], [0.0, 4.0])
    assert measured["usable"] == {"star": 2, "galaxy": 2}
    np.testing.assert_array_equal(sources["mended"], sources["CR-free"])
    # 1000 e- more on 1000 e-, in a circle or ellipse that holds nearly all of either.
    change = sources["direct"][0] - sources["CR-free"][0]
    assert change == pytest.approx(-2.5 * math.log10(2.0), abs=0.05)
    light = gaussian((128, 128), 40.0, 40.0, 1.0)[40, 40]
    change = sources["masked"][0] - sources["CR-free"][0]
    assert change == pytest.approx(-2.5 * math.log10(1.0 - light), abs=0.03)
    found = measured["found"]
    assert found["CR-free"]["near"] == found["mended"]["near"] == 0
    # The one on the sky, and the one beside the second star.
    assert found["direct"]["near"] == 2
    assert found["direct"]["spurious"] > found["CR-free"]["spurious"]
    assert sources["ssim mended"][0] == pytest.approx(1.0)
    assert sources["ssim direct"][0] < 0.97
    assert sources["ssim mended"][1] is None  # too far from its CR to be affected


def test_charges_of_points_and_tracks():
    truth = np.zeros((40, 40), np.float32)
    truth[5, 5:15] = 12.0  # a track of ten pixels
    truth[20, 20] = 12.0
    truth[30, 30] = 1.0
    counts = paper_frames.count_charges(truth)
    every, tracks = np.array(counts["every"]), np.array(counts["tracks"])
    place = np.searchsorted(paper_frames.CHARGES, 12.0) - 1
    assert (every[place], tracks[place], every[0], tracks[0]) == (11, 10, 1, 0)
    assert every.sum() == 12
    assert counts["one_electron"] == pytest.approx(1 / 12)
    assert counts["above_0"] == pytest.approx(12 / 1600)


# --- Figure 5 -------------------------------------------------------------------------------


def test_representative_sources_have_the_papers_types_and_magnitudes(rng):
    sources = paper_science.representative_sources(rng, 9, seed=1)
    found = [(source.kind, source.magnitude) for source in sources]
    assert found == list(paper_values.REPRESENTATIVE)
    for source in sources:
        assert 0 < len(source.psf) <= 7
        assert source.clean.shape == (64, 64)
        # The light above the sky is what the magnitude says; galaxies are wide.
        rows, columns = np.indices(source.clean.shape)
        reach = 8.0 if source.kind == "star" else 30.0
        near = np.hypot(columns - source.stamp_x, rows - source.stamp_y) < reach
        light = (source.clean - source.background)[near].sum()
        expected = 10.0 ** (0.4 * (source.zero_point - source.magnitude))
        if source.kind == "star":
            assert light == pytest.approx(expected, rel=0.2)
        else:
            assert 0.4 * expected < light < 1.6 * expected


def test_planted_sources_stand_alone(rng):
    config = SimulationConfig(8, (320, 320), seed=4, field="dense", cr_rate=0.0)
    catalog = paper_science.planted_catalog(rng, config)
    for row in catalog[:4]:
        apart = np.hypot(catalog["x"] - row["x"], catalog["y"] - row["y"])
        assert np.sort(apart)[1] > 20.0
