"""The scores of tools/evaluate_first_round.py on frames small enough to know them."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

pytest.importorskip("torch")
pytest.importorskip("galsim")

from crmend_training.mending_frames import HitFrame
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.psf import Psf

TOOL = Path(__file__).parents[2] / "tools" / "evaluate_first_round.py"


@pytest.fixture(scope="module")
def tool():
    return SimpleNamespace(**runpy.run_path(str(TOOL)))


@pytest.fixture
def star():
    """Return the CR-free image of a star [e-/s] and its catalogue and PSF."""
    yy, xx = np.mgrid[:65, :65]
    clean = 10.0 + 500.0 * np.exp(-((yy - 32) ** 2 + (xx - 32) ** 2) / 3.0)
    row = np.zeros(1, SOURCE_DTYPE)
    row["type"], row["x"], row["y"], row["mag"], row["flux"] = "star", 32.0, 32.0, 20.0, 4712.0
    optics = SimpleNamespace(
        psfs=[Psf(airy=1.6, jitter=0.6)], nearest=lambda x, y, shape: np.zeros(x.size, int)
    )
    return clean.astype(np.float32), (Table(row), optics)


def test_a_star_whose_cosmic_ray_was_missed_counts_as_hit(tool, star):
    clean, sources = star
    damaged, cr, found = clean.copy(), np.zeros(clean.shape, bool), np.zeros(clean.shape, bool)
    cr[32, 33] = True
    damaged[cr] += 800.0
    error = np.ones_like(clean)
    images = (clean, damaged, damaged)
    (row,) = tool.score(images, (cr, found), error, sources, "natural")
    circle = 500.0 * 3.0 * np.pi  # e-/s in 5 px: all but 0.02 % of the star's
    expected = -2.5 * np.log10(1.0 + 800.0 / circle)
    assert (row["ours"], row["median"]) == pytest.approx((expected, expected), rel=1e-3)
    assert row["core"]
    # What is flagged for nothing makes no hit.
    assert tool.score((clean, clean, clean), (found, cr), error, sources, "natural") == []


def test_cosmic_rays_put_on_sources_bring_their_charge(tool, star):
    clean, (catalogue, _) = star
    truth, none = np.zeros_like(clean), np.zeros(clean.shape, bool)
    truth[5, 5:8] = 100.0, 700.0, 30.0
    frame = HitFrame(
        detector="8", image=clean + truth / np.float32(150.0), clean=clean, truth=truth,
        error=np.ones_like(clean), invalid=none, saturated=none,
        background=np.full_like(clean, 10.0), noise=1.0, electrons=150.0, zero_point=25.0,
        catalog=catalogue,
    )  # fmt: skip
    one = tool.injected(frame, catalogue, 60, np.random.default_rng(2))
    rows, columns = np.nonzero(one.true_mask)
    assert one.truth[rows, columns].tolist() == [100.0, 700.0, 30.0]
    assert (abs(rows - 32) <= 5).all()
    assert (np.diff(columns) == 1).all()
    assert (abs(columns - 32) <= 5).any()
    np.testing.assert_allclose(one.image - clean, one.truth / 150.0, atol=1e-4)
    np.testing.assert_array_equal(frame.truth[5, 5:8], [100.0, 700.0, 30.0])
    without = tool.injected(one, catalogue, 0, np.random.default_rng(2))
    np.testing.assert_array_equal(without.image, clean)
