"""The command ``crmend models``."""


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
