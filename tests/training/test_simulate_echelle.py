"""Cross-dispersed spectra against what they were asked for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("galsim")

from crmend_training.simulate.echelle import Echelle, add_orders
from crmend_training.simulate.setups import generic_setup
from crmend_training.simulate.slit import Slit

ONE = Echelle(noise=1.0, spacing=(20.0, 20.0), peak=(100.0, 100.0), lamp=0.0, along_rows=True)


def drawn(seed, echelle, shape=(200, 300)):
    return add_orders(np.random.default_rng(seed), np.zeros(shape, np.float32), echelle)


def crests(column):
    """Return the places of all maxima of a column that are no noise [px]."""
    high = (column > np.roll(column, 1)) & (column >= np.roll(column, -1))
    return np.flatnonzero(high & (column > 0.02 * column.max()))


def test_orders_are_as_far_apart_as_asked_for():
    seen = []
    for seed in range(12):
        column = drawn(seed, ONE)[:, 150].astype(float)
        places = crests(column)
        places = places[(places > 1) & (places < 198)]
        # One to three fibres each, at the same places of every order.
        for fibres in (1, 2, 3):
            if np.abs(np.diff(places[::fibres]) - 20.0).max() <= 1.0:
                seen.append(fibres)
                break
    assert len(seen) >= 9
    assert len(set(seen)) >= 2


def test_orders_are_as_bright_as_asked_for():
    peaks = np.array([drawn(seed, ONE).max() for seed in range(24)])
    # Most have no emission lines; the brightest part of an order may lie outside.
    assert (peaks > 130.0).sum() <= 8
    assert np.median(peaks) == pytest.approx(90.0, abs=20.0)
    assert peaks.min() > 5.0


def test_dispersion_along_columns_is_the_same_turned():
    across = drawn(5, replace(ONE, along_rows=False), (300, 200))
    np.testing.assert_allclose(across.T, drawn(5, ONE), rtol=1e-5)


def test_lamp_lines_are_as_wide_as_the_instrument():
    lamp = replace(
        ONE, fwhm=4.0, lamp=1.0, peak=(1e-9, 1e-9), lines=(8.0, 8.0), line_peak=(500.0, 500.0)
    )
    widths = []
    for seed in range(10):
        scene = drawn(seed, lamp).astype(float)
        labels, count = ndimage.label(scene > 0.5 * scene.max())
        for part in ndimage.find_objects(labels)[:count]:
            rows, columns = part
            if columns.start > 12 and columns.stop < 288:
                row = scene[(rows.start + rows.stop - 1) // 2]
                middle = row[columns].argmax() + columns.start
                fine = np.arange(middle - 10, middle + 10, 0.01)
                level = np.interp(fine, np.arange(row.size), row)
                widths.append(0.01 * np.count_nonzero(level > 0.5 * row[middle]))
    # Lines that stand beside others are wider.
    assert np.percentile(widths, 25) == pytest.approx(4.0, abs=0.4)


def test_a_quarter_of_the_cameras_sees_spectra_of_both_kinds():
    kinds = [
        type(generic_setup(np.random.default_rng(seed), (64, 64)).spectrum)
        for seed in range(200)
    ]
    spectra = [kind for kind in kinds if kind is not type(None)]
    assert 30 <= len(spectra) <= 70
    assert 0.2 <= spectra.count(Echelle) / len(spectra) <= 0.6
    assert spectra.count(Slit) + spectra.count(Echelle) == len(spectra)
