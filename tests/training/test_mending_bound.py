"""The bound on what neighbours can say, against least squares done by hand."""

import numpy as np
import pytest

pytest.importorskip("galsim")

from crmend_training.mending_bound import _renderer, hole_bound
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.psf import Psf


@pytest.fixture
def source():
    row = np.zeros(1, SOURCE_DTYPE)
    row["type"], row["x"], row["y"], row["flux"] = "galaxy", 30.2, 29.7, 1000.0
    row["r_half"], row["r_bulge"], row["axis_ratio"] = 2.5, 1.0, 0.7
    row["bulge_fraction"] = 0.3
    return row[0]


@pytest.fixture
def psf():
    return Psf(airy=1.6, jitter=0.6)


def setting():
    mask = np.zeros((60, 60), bool)
    mask[29:32, 28:33] = True
    return mask, np.full(mask.shape, 2.0, np.float32)


def test_a_known_shape_is_one_number_fitted_to_the_other_pixels(source, psf):
    mask, error = setting()
    light = _renderer(source, psf)()
    whole = np.zeros(mask.shape)
    row, column = round(source["y"]), round(source["x"])
    whole[row - 20 : row + 21, column - 20 : column + 21] = light
    seen = ~mask & (whole != 0)
    amplitude = 2.0 / np.sqrt((whole[seen] ** 2).sum())
    expected = amplitude * whole[mask].sum()
    assert hole_bound(source, psf, mask, error, ("flux",)) == pytest.approx(expected, rel=1e-3)


def test_it_grows_with_what_has_to_be_found_and_with_the_noise(source, psf):
    mask, error = setting()
    bounds = [
        hole_bound(source, psf, mask, error, free)
        for free in (("flux",), ("flux", "x", "y"), ("flux", "x", "y", "size", "g1", "g2"))
    ]
    assert 0 < bounds[0] < bounds[1] < bounds[2]
    twice = hole_bound(source, psf, mask, 2 * error, ("flux",))
    assert twice == pytest.approx(2 * bounds[0])
    assert hole_bound(source, psf, np.zeros_like(mask), error) == 0.0


def test_a_star_has_neither_size_nor_shape(source, psf):
    mask, error = setting()
    star = source.copy()
    star["type"] = "star"
    known = ("flux", "x", "y", "background")
    assert hole_bound(star, psf, mask, error) == hole_bound(star, psf, mask, error, known)
    assert hole_bound(source, psf, mask, error) > hole_bound(source, psf, mask, error, known)
