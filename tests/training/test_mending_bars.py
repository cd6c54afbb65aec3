"""Verdicts on the bars of the mending evaluation, and the policy's table."""

import numpy as np
import pytest

pytest.importorskip("torch")

from crmend_training import mending_bars, mending_policy, mending_report


def test_policy_counts_what_a_reach_leaves_to_the_median():
    kinds = np.array(["star", "galaxy"])
    first = {
        "reach": None, "cutouts": 3, "pixels": 9, "seconds": 2.0, "kind": kinds,
        "change": np.array([0.01, 0.2]), "moved": np.zeros(2), "left": np.zeros(0),
        "by_network": np.zeros(0),
    }  # fmt: skip
    second = first | {
        "reach": 2.0, "cutouts": 1, "moved": np.array([0.001, np.nan]),
        "left": np.array([3.0, -3.0]), "by_network": np.array([1.0, 1.0]),
    }  # fmt: skip
    paper, near = mending_policy.summarise_policy([first, second, first, second])
    assert (paper["cutouts"], near["cutouts"]) == (6, 2)
    assert near["star"]["median"] == pytest.approx(0.01)
    assert (near["moved"], near["left"]["rms"], near["by_network"]["rms"]) == (0.001, 3.0, 1.0)
    assert paper["left"]["n"] == 0


def test_bars_say_what_is_met():
    sigma = {"mask": "true", "filled": "any", "n": 500}
    sky = [{"method": "ours", "rms": 1.1}, {"method": "5×5 median", "rms": 1.0}]
    result = {
        "sigma": [
            sigma | {"place": "sky", "one": 68.0, "two": 95.0},
            sigma | {"place": "all sources", "one": 80.0, "two": 98.0},
        ],
        "sky": sky,
        "unchanged": [{"mask": "true", "pixels": 900, "changed": 0}],
        "speed": {"cutouts": 1000, "all": 2.0, "graph": 1.9, "per_second": 500.0, "sent": 9000},
    }
    lines = {bar.what: bar for bar in mending_bars.bars(result)}
    assert lines["sigma, sky"].verdict == "met"
    assert lines["sigma, all sources"].verdict == "**not met**"
    assert lines["sky: rms of mended pixels [noise]; 5×5 median"].verdict == "**not met**"
    assert lines["5,000 cutouts [s]"][2:] == ("10.0", "met")
    sent = "as many cutouts as the policy sends of a full frame [s]"
    assert lines[sent][2:] == ("18.0", "**not met**")
    outside = "pixels outside the mask that changed in any bit (image, error)"
    assert lines[outside][1:] == ("0", "0 of 900", "met")
    assert lines["stars, CR within 5 px: bias; best classical fill"].verdict == "not measured"
    text = mending_report.make_report({"machine": "m", "frames": 0, "missing": {"x": "why"}})
    assert "x did not run: `why`" in text


def test_ours_is_first_only_if_no_classical_fill_is_better():
    def row(method, median):
        change = {"median": median, "rms": 0.1}
        own = {"type": "star", "where": "all", "mask": "true", "method": method}
        return own | {"aperture": {"shared": change, "ratio": 1.0}, "kron": {"ratio": 1.4}}

    sources = [row("masked", 0.0), row("ours", -0.02), row("biharmonic", 0.03)]
    name = "stars hit by a frame's own CRs: bias; best classical fill"
    lines = {bar.what: bar for bar in mending_bars.bars({"sources": sources})}
    assert lines[name][1:] == ("first: ≤ 0.0300 (biharmonic)", "0.0200", "met")
    what = "scatter / CR-free, stars of S/N > 20, mask true"
    assert lines[f"{what}, circle"].verdict == "met"
    assert lines[f"{what}, Kron"].verdict == "**not met**"
    lines = mending_bars.bars({"sources": [*sources, row("5×5 median", -0.01)]})
    assert next(bar for bar in lines if bar.what == name).verdict == "**not met**"
