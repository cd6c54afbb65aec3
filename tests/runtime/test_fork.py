"""Sessions in forked processes, as `multiprocessing` makes them on Linux."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

POOL = """
import multiprocessing
import numpy as np
import crmend

image = np.random.default_rng(0).normal(100.0, 5.0, (90, 90))
image[40, 20:30] += 400.0

def count(detector):
    return int(crmend.detect(image, detector=detector, threads=2).cr_mask.sum())

expected = [count(detector) for detector in range(6, 10)]  # more graphs than are kept
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(count, range(6, 10)).get(timeout=90)
assert found == expected and min(found) >= 10, (found, expected)
"""

PASSED_ON = """
import multiprocessing
import numpy as np
import crmend
from crmend import models

image = np.random.default_rng(0).normal(100.0, 5.0, (90, 90))
model = models.load_model("generic", threads=2)
crmend.detect(image, model=model)

def count(_):
    return int(crmend.detect(image, model=model).cr_mask.sum())

with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.map_async(count, [0]).get(timeout=90)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=180
    )


def test_children_load_graphs_of_their_own():
    done = run(POOL)
    assert done.returncode == 0, done.stderr


def test_a_model_of_the_parent_is_one_clear_error_in_the_child():
    done = run(PASSED_ON)
    assert done.returncode != 0
    assert "expected one loaded after the fork" in done.stderr.splitlines()[-1]
