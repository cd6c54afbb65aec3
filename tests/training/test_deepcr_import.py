"""deepCR's networks as packs: against deepCR's own `clean`, and without torch afterwards."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("deepCR")

import crmend
from crmend.models import load_card, verify
from crmend_training import cli, deepcr_import, validate

SMALL = "ACS-WFC-F606W-2-4"


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Return a folder with the smallest of deepCR's networks as a pack."""
    out = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepcr_import, "_SIZES", ((1, 1), (61, 65)))
        deepcr_import.import_network(SMALL, out)
    return out


@pytest.fixture
def frame():
    image = validate.example_frame((96, 120), np.random.default_rng(8))
    return np.nan_to_num(image, nan=100.0)


def test_names_are_those_of_the_installed_package(capsys):
    assert cli.main(["import-deepcr"]) == 0
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {"ACS-WFC", "WFC3-UVIS", "decam", SMALL} <= set(lines)
    assert lines["ACS-WFC-F606W"] == "deepcr/acs_wfc_f606w"


@pytest.mark.parametrize("patch", [32, 200])
def test_the_pack_gives_what_clean_gives(packs, frame, monkeypatch, patch):
    """On the whole frame, edges included, whatever the tiles; `clean` in patches has seams."""
    monkeypatch.setenv("CRMEND_MODELS", str(packs))
    ours = crmend.detect(frame, model="deepcr/acs_wfc_f606w_2_4", device="cpu", tile=patch)
    model = deepcr_import.load_published(SMALL).model
    theirs = model.clean(frame, binary=False, segment=False)
    assert np.abs(ours.cr_probability - theirs).max() <= 1e-5
    assert np.array_equal(ours.cr_mask, model.clean(frame, segment=False) > 0)
    assert 0 < ours.cr_mask.mean() < 0.5
    seams = np.abs(model.clean(frame, binary=False, segment=True, patch=32) - theirs)
    assert seams.max() > 0.01


def test_the_card_says_where_the_network_comes_from(packs, monkeypatch):
    monkeypatch.setenv("CRMEND_MODELS", str(packs))
    card = load_card("deepcr", "acs_wfc_f606w_2_4")
    assert card.detect.normalisation.parameters["scale"] == 100.0
    assert card.detect.inputs[0].unit == "electrons / 100"
    assert card.detect.training.seed is None
    assert card.inpaint.training.base == "generic"
    assert card.detect.threshold == 0.5
    assert verify("deepcr", "acs_wfc_f606w_2_4", device="cpu").detect_difference <= 1e-5


def test_it_runs_without_torch_and_deepcr(packs, frame, tmp_path):
    np.save(tmp_path / "frame.npy", frame)
    code = (
        "import sys; sys.modules.update(torch=None, deepCR=None, onnx=None)\n"
        "import numpy as np, crmend\n"
        f"frame = np.load({str(tmp_path / 'frame.npy')!r})\n"
        "result = crmend.detect(frame, model='deepcr/acs_wfc_f606w_2_4', device='cpu')\n"
        "print(int(result.cr_mask.sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"CRMEND_MODELS": str(packs)},
    )  # fmt: skip
    assert int(done.stdout) > 0


@pytest.mark.parametrize(
    ("name", "unit", "standardise", "electrons"),
    [
        ("ACS-WFC", "electrons", 0.0, 1.0),
        ("acs_wfc_f814w", "electrons", 0.0, 1.0),
        ("WFC3-UVIS", "(image - mean of the image) / (its standard deviation)", 1.0, 1.0),
        ("decam", "counts", 0.0, 0.0),
    ],
)
def test_preprocessing_is_that_of_the_package(name, unit, standardise, electrons):
    from learned_models import mask_dict

    known = set(mask_dict)
    published = deepcr_import.load_published(name)
    assert set(mask_dict) == known
    assert published.unit == unit
    found = published.parameters
    assert (found["standardise"], found["electrons"]) == (standardise, electrons)


def test_standardised_input_is_that_of_clean(frame):
    """WFC3-UVIS sees the image at mean 0 and deviation 1; through torch, without an export."""
    published = deepcr_import.load_published("WFC3-UVIS")
    run, field = validate.network_runner(published.network), (10, 2)
    found = validate.tiled_probability(frame, run, field, 64, published.measure)
    theirs = published.model.clean(frame, binary=False, segment=False).astype(np.float32)
    assert np.abs(found - theirs).max() <= 1e-5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], r"no network 'nothing'; expected one of ACS-WFC"),
        ([SMALL, "--threshold", "1.5"], r"threshold is 1.5; expected"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, capsys, words, message):
    out = tmp_path / "packs"
    assert cli.main(["import-deepcr", *words, "--out", str(out)]) == 3
    error = capsys.readouterr().err
    assert message.replace("\\", "") in error
    assert not out.exists()


def test_without_a_folder(monkeypatch, capsys):
    monkeypatch.delenv("CRMEND_MODELS", raising=False)
    assert cli.main(["import-deepcr", SMALL]) == 3
    assert "pass --out FOLDER" in capsys.readouterr().err
