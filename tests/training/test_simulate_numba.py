"""Kernels of the simulator where numba may keep nothing."""

import pytest
from numba.core import caching

pytest.importorskip("galsim")

from crmend_training.simulate._numba import njit


def _doubled(number):
    return 2 * number


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch):
    """Importing the simulator failed, and with it every command of crmend-train."""
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert njit(_doubled)(21) == 42


def test_kernels_are_kept_where_they_can_be():
    assert isinstance(njit(_doubled)._cache, caching.FunctionCache)
