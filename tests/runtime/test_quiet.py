"""Astropy's warnings are dropped without a trace in the caller's filters, threads or not."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from astropy.utils.exceptions import AstropyUserWarning, AstropyWarning

import crmend
from crmend._fits import open_fits
from crmend._fits_write import atomic_output
from crmend._quiet import without_astropy_warnings


def test_dropped_inside_and_shown_again_afterwards():
    with without_astropy_warnings(), without_astropy_warnings():
        warnings.warn("no", AstropyUserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="other"):
            warnings.warn("other", UserWarning, stacklevel=1)
    with pytest.warns(AstropyWarning, match="yes"):
        warnings.warn("yes", AstropyUserWarning, stacklevel=1)


def test_what_was_dropped_once_is_shown_later():
    def warn():
        warnings.warn("same", AstropyUserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        with without_astropy_warnings():
            warn()
        warn()
    assert [str(warning.message) for warning in shown] == ["same"]


def overlapping(first, second):
    """Enter two blocks, and leave the one first that was entered first, in two threads."""
    entered, left = threading.Event(), threading.Event()

    def hold():
        with first:
            entered.set()
            assert left.wait(10)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert entered.wait(10)
        with second:
            left.set()
            held.result()


@contextmanager
def writing(path):
    with atomic_output(path, overwrite=True) as temporary:
        temporary.touch()
        yield


def test_overlapping_blocks_leave_the_filters_as_they_were(level1, tmp_path):
    path = level1()
    before, filters = warnings.filters, list(warnings.filters)
    overlapping(open_fits(path), open_fits(path))
    overlapping(without_astropy_warnings(), writing(tmp_path / "a"))
    assert warnings.filters is before
    assert list(before) == filters


def test_filters_of_the_caller_survive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        filters = list(warnings.filters)
        overlapping(without_astropy_warnings(), without_astropy_warnings())
        assert list(warnings.filters) == filters
        with without_astropy_warnings():
            warnings.resetwarnings()
        assert list(warnings.filters) == []


def test_reading_and_writing_in_threads(level1, tmp_path):
    paths = [level1(name=f"{number}.fits") for number in range(8)]
    before, filters = warnings.filters, list(warnings.filters)

    def copy(path):
        exposure = crmend.read_exposure(path)
        crmend.write_exposure(tmp_path / f"{path.stem}_out.fits", exposure)
        return exposure.image

    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(copy, paths * 3))
    assert all(np.array_equal(image, images[0]) for image in images)
    assert warnings.filters is before
    assert list(before) == filters
