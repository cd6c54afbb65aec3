"""The measurements of the paper's reproduction, against values worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import sep

pytest.importorskip("torch")
pytest.importorskip("galsim")

from astropy.table import Table

from crmend_training import paper_bars, paper_frames, paper_science, paper_values
from crmend_training import paper_photometry as photometry
from crmend_training import paper_summary as summary
from crmend_training.evaluate_detection import INTENSITIES
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
    # 18 mag takes the first (0.8 px), 22 mag the second; 3.1 px would be too far for the third.
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
            raise Exception("object deblending overflow: limit of 65536 reached")  # noqa: TRY002
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
    assert found["direct"]["near"] == 1  # the one on the sky
    assert found["direct"]["spurious"] == found["CR-free"]["spurious"] + 1
    assert sources["ssim mended"][0] == pytest.approx(1.0)
    assert sources["ssim direct"][0] < 0.9
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
        assert source.clean.shape == (64, 64)
        # The light above the sky within 8 px is what the magnitude says, to a fifth.
        rows, columns = np.indices(source.clean.shape)
        near = np.hypot(columns - source.stamp_x, rows - source.stamp_y) < 8.0
        light = (source.clean - source.background)[near].sum()
        expected = 10.0 ** (0.4 * (source.zero_point - source.magnitude))
        if source.kind == "star":
            assert light == pytest.approx(expected, rel=0.2)
        else:
            assert 0.3 * expected < light < 1.2 * expected


def test_planted_sources_stand_alone(rng):
    config = SimulationConfig(8, (320, 320), seed=4, field="dense", cr_rate=0.0)
    catalog = paper_science.planted_catalog(rng, config)
    for row in catalog[:4]:
        apart = np.hypot(catalog["x"] - row["x"], catalog["y"] - row["y"])
        assert np.sort(apart)[1] > 20.0


# --- tables ---------------------------------------------------------------------------------


def frame_of(detector, hits, bright, correct, flagged, **more):
    zeros = [0.0] * (len(INTENSITIES) - 1)
    detection = {"hits": hits, "bright": bright, "correct": correct, "flagged": flagged}
    return {
        "detector": detector,
        "detection": detection | {"total": zeros, "found": zeros},
    } | more


def test_quartiles_of_recall_and_precision_per_detector():
    shares = (90, 92, 94, 96, 98)
    frames = [frame_of(8, share, 100, 99, 100) for share in shares]
    frames.append(frame_of(6, 50, 100, 30, 40))
    frames.append(frame_of(6, 0, 0, 0, 0))  # without any CR: takes no part
    six, eight = summary.recall_precision(frames)
    assert (six["detector"], six["frames"], six["recall"], six["precision"]) == (6, 2, 50, 75)
    assert (eight["recall_25"], eight["recall"], eight["recall_75"]) == (92, 94, 96)
    together = summary.over_detectors([six, eight], frames)
    assert together["recall"] == 72.0
    assert together["recall_sd"] == 22.0
    assert together["pooled_recall"] == pytest.approx(100 * (470 + 50) / 600)


def test_recall_by_charge_leaves_out_frames_with_few_pixels():
    frames = []
    for total, found in ((100, 80), (100, 90), (10, 0)):
        frame = frame_of(8, 0, 0, 0, 0)
        for name, value in (("total", total), ("found", found)):
            frame["detection"][name] = [0.0] * (len(INTENSITIES) - 1)
            frame["detection"][name][6] = value
        frames.append(frame)
    (row,) = summary.recall_by_charge(frames)
    assert (row["from"], row["to"], row["frames"]) == (INTENSITIES[6], INTENSITIES[7], 2)
    assert row["recall"] == pytest.approx(85.0)
    assert row["pooled"] == pytest.approx(100 * 170 / 210)


def sources_of(**columns):
    return {name: np.array(values) for name, values in columns.items()}


@pytest.fixture
def matches():
    """Six affected sources, one beyond the radius; NaN = not found."""
    nan = math.nan
    return sources_of(
        type=["star", "star", "star", "galaxy", "galaxy", "galaxy", "galaxy"],
        distance=[0.0, 1.0, 2.0, 0.5, 1.5, 2.0, 4.0],
        mag=[20.0, 20.0, 22.0, 21.0, 23.0, 24.0, 20.0],
        limit=[25.0] * 7,
        direct=[18.0, 19.5, 21.0, 20.0, nan, 21.0, 20.0],
        masked=[20.4, nan, nan, 21.2, 23.1, nan, 20.0],
        mended=[20.1, 20.0, nan, 21.0, 23.2, 26.0, 20.0],
        **{"CR-free": [20.1, 20.0, 22.1, 21.0, 23.1, 24.1, 20.0]},
    )


def test_table_1_of_a_hand_made_list(matches):
    star, galaxy, total = summary.detected_sources(matches)
    assert [star[m] for m in paper_frames.METHODS] == [3, 1, 2, 3]
    assert [galaxy[m] for m in paper_frames.METHODS] == [2, 2, 3, 3]
    assert total["sources"] == 6
    assert total["gain %"] == pytest.approx(100 * (5 / 3 - 1))
    # Found, but 2 mag too faint: no gain among those that agree.
    assert galaxy["mended agree"] == 2
    assert galaxy["gain agree %"] == 0.0
    assert total["direct agree"] == 3
    wider = summary.detected_sources(matches, radius=5.0)[2]
    assert (wider["sources"], wider["masked"]) == (7, 4)


def test_the_papers_own_table_gives_its_gain():
    total = paper_values.TABLE_1["total"]
    assert round(100 * (total["mended"] / total["masked"] - 1), 1) == paper_values.GAIN


def test_contaminated_shares(matches):
    frames = [{"usable": {"star": 100, "galaxy": 50}}]
    rows = summary.contaminated(frames, matches)
    by = {(row["type"], row["radius"]): row for row in rows}
    assert by["star", 1.0]["hit"] == 2
    assert by["star", 2.0]["%"] == 3.0
    assert by["galaxy", 5.0]["%"] == 8.0


def test_percentiles_and_ratios_of_known_errors(rng):
    n = 4000
    clean = rng.normal(0.05, 0.1, n)
    sources = sources_of(
        type=["star"] * n, distance=np.zeros(n), mag=np.full(n, 20.5), limit=np.full(n, 25.0),
        direct=np.full(n, np.nan), masked=np.full(n, np.nan),
        mended=20.5 + 1.2 * (clean - 0.05) + 0.07, **{"CR-free": 20.5 + clean},
    )  # fmt: skip
    row = next(
        r
        for r in summary.magnitude_errors(sources)
        if (r["type"], r["method"], r["from"]) == ("star", "CR-free", 20.0)
    )
    # 1.645 sigma each way.
    assert row["p95"] - row["p5"] == pytest.approx(0.329, abs=0.012)
    (ratio,) = summary.range_ratios(sources)
    assert ratio["ratio"] == pytest.approx(1.2, abs=1e-6)
    assert ratio["shift"] == pytest.approx(0.02, abs=0.002)
    # The same sources on both sides: the ratio is known far better than either range.
    assert ratio["ratio_error"] < 1e-6
    faint = sources | {"limit": np.full(n, 20.0)}
    assert summary.range_ratios(faint) == []


def test_number_counts_are_shares_of_what_was_found(matches):
    counts = summary.number_counts(matches)
    for kind in summary.KINDS:
        own = [row for row in counts if row["type"] == kind]
        for name in ("true", *paper_frames.METHODS):
            assert sum(row[name] for row in own) == pytest.approx(1.0)
    at_20 = next(r for r in counts if (r["type"], r["from"]) == ("star", 20.0))
    assert at_20["true"] == pytest.approx(2 / 3)
    assert at_20["masked"] == 0.0  # 20.4 lies one bin on
    rows = summary.similarities(matches, counts)
    ssim = {(row["type"], row["method"]): row["SSIM"] for row in rows}
    assert ssim["star", "CR-free"] > ssim["star", "direct"]


def test_science_table_by_hand():
    cases = [
        {"type": "star", "mag": 23.2, "method": method, "distance": d, "energy": 1e3, "kron": v}
        for method, values in (
            ("mended", (0.1, 0.3, -0.4)),
            ("contaminated", (-1, -1, math.nan)),
        )
        for d, v in zip((0.5, 1.5, 9.0), values, strict=True)
    ]
    rows = {(r["method"], r["CRs"]): r for r in summary.science_table(cases)}
    assert rows["mended", "0–2 px"]["mean"] == pytest.approx(0.2)
    assert rows["mended", "0–2 px"]["SD"] == pytest.approx(0.1)
    assert rows["mended", "0–15 px"]["mean"] == pytest.approx(0.0)
    assert rows["contaminated", "0–15 px"]["lost"] == 1


# --- bars -----------------------------------------------------------------------------------


def tables_of(recall, ratio, mended, near):
    rows = [
        {"type": kind, "method": "mended", "SSIM": 0.95, "n": 500} for kind in summary.KINDS
    ]
    star = {"from": 20.0, "n": 50, "ratio_error": 0.1, "shift_error": 0.01, "judged": True}
    return {
        "frames": 3, "science": 4, "figure5": [], "figure7_ssim": rows,
        "over_detectors": {
            "recall": recall, "recall_sd": 0.1, "precision": 98.9, "precision_sd": 0.1,
        },
        "pooled_recall": np.linspace(0.5, 1.0, len(INTENSITIES) - 1),
        "figure6_bars": [
            star | {"type": kind, "to": 21.0, "ratio": ratio, "shift": -0.004}
            for kind in summary.KINDS
        ],
        "table1": [
            {
                "type": "total", "sources": 200, "masked": 100, "mended": mended,
                "gain %": mended - 100.0,
            }
        ],
        "spurious": [
            {"method": "masked", "spurious": 10, "near": 5},
            {"method": "mended", "spurious": 10, "near": near},
        ],
    }  # fmt: skip


def verdicts(tables):
    return {(bar.place, bar.what): bar.verdict for bar in paper_bars.judge(tables)}


def test_bars_that_hold_and_bars_that_do_not():
    good, bad = verdicts(tables_of(97.95, 1.1, 114, 5)), verdicts(tables_of(97.85, 1.2, 113, 6))
    expected = {
        ("Figure 2", "recall"),
        ("Figure 6", "5–95 % range, mended over CR-free, stars"),
        ("Figure 6", "5–95 % range, mended over CR-free, galaxies"),
        ("Table 1", "affected sources detected, mended over masked"),
        ("Table 1", "spurious detections at a CR, mended"),
    }
    assert {key for key in good if good[key] != bad[key]} == expected
    assert {good[key] for key in expected} == {paper_bars.MET}
    assert {bad[key] for key in expected} == {paper_bars.MISSED}


def test_the_first_paragraph_names_every_shortfall_and_what_is_open():
    bars = paper_bars.judge(tables_of(97.85, 1.1, 114, 5))
    text = paper_bars.shortfalls(bars)
    assert text.startswith(
        f"Where we fall short, 1 of {len(bars)} bars: Figure 2, recall: 97.85"
    )
    assert "Not judged" in text  # Figure 5 was not measured
    assert "Figure 5" in text.split("Not judged")[1]
