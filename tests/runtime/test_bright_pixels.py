"""Cosmic rays brighter than any that networks learnt from are found as those are."""

from __future__ import annotations

import numpy as np
import pytest

import crmend
from crmend._deepcr_input import network_input
from crmend._normalise import BRIGHTEST, Scale, to_detect_input


def test_no_pixel_is_seen_farther_from_the_background_than_the_brightest() -> None:
    scale = Scale(background=10.0, noise=2.0)
    image = np.array([[-1e30, 10.0, 12.0, 5e4, 6.1e4, 1e30]], np.float32)
    seen, plain = network_input(image, scale), to_detect_input(image, scale)
    assert np.array_equal(seen[0, 1:4], plain[0, 1:4])
    most = np.arcsinh(BRIGHTEST / 3.0)
    assert seen[0, [0, 4, 5]] == pytest.approx([-most, most, most], rel=1e-6)


@pytest.mark.parametrize("which", [{"model": "generic"}, {"detector": 8}])
def test_a_bright_track_is_found_whatever_its_charge(which: dict) -> None:
    sky = np.random.default_rng(5).normal(100.0, 3.0, (128, 128))
    track = np.zeros(sky.shape, bool)
    track[60, 40:75] = True
    track[20:50, 100] = True
    found = [
        crmend.detect(sky + charge * track, **which).cr_mask for charge in (1e5, 1e6, 1e8, 1e10)
    ]
    assert found[0][track].mean() > 0.9
    for mask in found[1:]:
        assert np.array_equal(mask, found[0])
