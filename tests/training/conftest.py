"""Fixtures of the training tests; all of them need the extra ``train``."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(12345)
