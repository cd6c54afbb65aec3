"""The command ``crmend models``."""

import json
import shutil
from pathlib import Path

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"


def test_models_list(crmend_cli):
    names = [model["name"] for model in crmend_cli("models", "list", "--json").json["models"]]
    assert {"tiny", "tiny_chips/01", "tiny_chips/02"} <= set(names)
    text = crmend_cli("models", "list").out
    assert all(name in text for name in names)


def test_models_info(crmend_cli):
    card = crmend_cli("models", "info", "tiny_chips/1", "--json").json
    assert (card["instrument"], card["detector"], card["band"]) == ("tiny_chips", "01", "g")
    assert card["detect"]["sha256"] in crmend_cli("models", "info", "tiny_chips/01").out
    assert crmend_cli("models", "info", "tiny_chips/9").code == 4


def test_models_verify(crmend_cli):
    done = crmend_cli("models", "verify", "tiny", "tiny_chips", "--device", "cpu", "--json")
    assert done.code == 0
    assert [each["name"] for each in done.json["passed"]] == [
        "tiny", "tiny_chips/01", "tiny_chips/02",
    ]  # fmt: skip
    assert done.json["failed"] == []


def test_models_verify_goes_on_after_a_wrong_name(crmend_cli):
    words = ("tiny_chips/9", "nope", "tiny/3", "tiny_chips/1", "tiny")
    done = crmend_cli("models", "verify", *words, "--device", "cpu", "--json")
    assert done.code == 4
    assert [each["name"] for each in done.json["passed"]] == ["tiny_chips/01", "tiny"]
    assert [each["name"] for each in done.json["failed"]] == ["tiny_chips/9", "nope", "tiny/3"]
    assert "available: 01, 02" in done.json["failed"][0]["message"]


def test_a_pack_for_any_detector_has_no_detectors(crmend_cli, noisy):
    assert crmend_cli("models", "info", "tiny/3").code == 4
    done = crmend_cli("clean", noisy(), "--model", "tiny/3")
    assert done.code == 4
    assert "expected 'tiny' alone" in done.err
    assert crmend_cli("clean", noisy(), "--model", "").code == 4


def test_the_listed_threshold_is_the_default_qualitys(crmend_cli, tmp_path, monkeypatch):
    """tiny_chips/02 has a fast graph, its default; the card gives it another threshold."""
    pack = tmp_path / "tiny_chips" / "02"
    shutil.copytree(PACKS / "tiny_chips" / "02", pack)
    card = json.loads((pack / "card.json").read_text())
    card["detect_fast"] |= {"threshold": 0.61, "seed_threshold": 0.83}
    (pack / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("CRMEND_MODELS", str(tmp_path))
    (listed,) = [
        one
        for one in crmend_cli("models", "list", "--json").json["models"]
        if one["name"] == "tiny_chips/02"
    ]
    assert (listed["threshold"], listed["seed_threshold"]) == (0.61, 0.83)


def test_the_list_goes_on_after_a_damaged_pack(crmend_cli, tmp_path, monkeypatch):
    for name in ("tiny", "tiny_chips"):
        shutil.copytree(PACKS / name, tmp_path / name)
    (tmp_path / "tiny_chips" / "01" / "card.json").write_text("{")
    monkeypatch.setenv("CRMEND_MODELS", str(tmp_path))
    done = crmend_cli("models", "list", "--json")
    assert done.code == 4
    assert {"tiny", "tiny_chips/02"} <= {one["name"] for one in done.json["models"]}
    (failed,) = done.json["failed"]
    assert failed["name"] == "tiny_chips/01"
    told = crmend_cli("models", "list")
    assert told.code == 4
    assert f"FAILED  tiny_chips/01       {failed['message']}" in told.out
    assert "tiny_chips/02" in told.out
