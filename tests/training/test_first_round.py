"""The scores of tools/evaluate_first_round.py on frames small enough to know them."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

pytest.importorskip("torch")
pytest.importorskip("galsim")

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
