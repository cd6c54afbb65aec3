"""The frames that the peers' benchmark simulates itself."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("galsim")

from crmend_training import peers_frames as frames
from crmend_training import simulate


def test_its_own_frames_begin_with_the_papers_law_and_are_of_every_law(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(frames.simulate, "simulate_exposure", asked.append)
    monkeypatch.setattr(frames.simulate, "write_pair", lambda *_, **__: None)
    monkeypatch.setattr(frames.datasets, "find_pairs", lambda _: [])
    frames.simulate_frames(tmp_path, "test", 3, 64)
    assert [config.law for config in asked] == ["paper", "physical", "paper-subpixel"]


def test_frames_of_another_law_or_size_are_not_taken_for_its_own(tmp_path):
    config = simulate.SimulationConfig(8, (64, 64), frames.SEEDS["test"], "low", law="physical")
    simulate.write_pair(simulate.simulate_exposure(config), tmp_path, without_cr=True)
    with pytest.raises(ValueError, match=r"'physical', .64, 64..*expected .'paper', .64, 64"):
        frames.simulate_frames(tmp_path, "test", 1, 64)
