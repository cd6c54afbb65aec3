"""Packs, cards and sessions, on graphs of a few hundred bytes in tests/data/packs."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from crmend import _sessions, models
from crmend._cards import parse_card
from crmend.errors import (
    DeviceError,
    InvalidInputError,
    MissingRuntimeError,
    ModelError,
    UnknownDetectorError,
)

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"


@pytest.fixture
def packs(monkeypatch, tmp_path) -> Path:
    """Copy the tiny packs to where they may be damaged, and make them available."""
    folder = tmp_path / "packs"
    shutil.copytree(PACKS, folder)
    monkeypatch.setenv("CRMEND_MODELS", os.fspath(folder))
    return folder


@pytest.fixture
def no_sessions(monkeypatch):
    """Start with an empty cache of sessions."""
    monkeypatch.setattr(_sessions, "_sessions", OrderedDict())


def edit_card(folder: Path, edit) -> None:
    path = folder / "card.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def fix_hash(folder: Path) -> None:
    digest = hashlib.sha256((folder / "detect.onnx").read_bytes()).hexdigest()
    edit_card(folder, lambda card: card["detect"].update(sha256=digest))


# --- finding ------------------------------------------------------------------------


def test_packs_and_detectors_are_listed(packs):
    assert {"tiny", "tiny_chips"} <= set(models.available_packs())
    assert models.available_detectors("tiny_chips") == ("01", "02")
    assert models.available_detectors("tiny") == ()


@pytest.mark.parametrize("detector", [2, "2", "02", np.int16(2)])
def test_a_detector_may_be_written_in_any_way(packs, detector):
    card = models.load_card("tiny_chips", detector)
    assert (card.detector, card.band, card.name) == ("02", "r", "tiny_chips/02")


@pytest.mark.parametrize("detector", [3, "", "x", 1.0, True, -1])
def test_an_unknown_detector_names_the_known_ones(packs, detector):
    with pytest.raises(UnknownDetectorError, match=r"no detector .*available: 01, 02"):
        models.load_card("tiny_chips", detector)


def test_a_pack_of_several_detectors_needs_one(packs):
    with pytest.raises(UnknownDetectorError, match="needs a detector; available: 01, 02"):
        models.load_card("tiny_chips")


@pytest.mark.parametrize("name", ["absent", "", "../packs/tiny", ".", 3, None])
def test_an_unknown_pack_names_the_known_ones(packs, name):
    with pytest.raises(ModelError, match=r"no model pack .*tiny"):
        models.load_card(name)


def test_a_wrong_environment_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CRMEND_MODELS", str(tmp_path / "absent"))
    with pytest.raises(ModelError, match=r"CRMEND_MODELS names .*absent"):
        models.available_packs()


def test_packs_that_cannot_be_read_are_named(packs, monkeypatch):
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(
        ModelError, match=r"CRMEND_MODELS names .*not a folder that can be read"
    ):
        models.available_packs()


@pytest.mark.parametrize(
    ("detector", "model", "name"),
    [(None, "tiny", "tiny/detect"), (1, "tiny_chips", "tiny_chips/01/detect"),
     (None, "tiny_chips/2", "tiny_chips/02/detect_fast")],
)  # fmt: skip
def test_a_model_is_chosen_by_name(packs, detector, model, name):
    chosen = models.choose_model(detector, model, "detect", "cpu", 1)
    assert chosen.name == name
    assert models.choose_model(None, chosen, "detect") is chosen


def test_choosing_needs_exactly_one_origin(packs):
    with pytest.raises(InvalidInputError, match=r"detector=8.*model=\"generic\""):
        models.choose_model(None, None, "detect")
    with pytest.raises(InvalidInputError, match="expected one of them"):
        models.choose_model(1, "tiny_chips/01", "detect")
    loaded = models.load_model("tiny", device="cpu")
    with pytest.raises(InvalidInputError, match="expected a graph of kind inpaint"):
        models.choose_model(None, loaded, "inpaint")


# --- running ------------------------------------------------------------------------


def test_the_graph_computes_what_it_says(packs):
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 1, 1] = 2.0
    model = models.load_model("tiny", device="cpu")
    (probability,) = model.run(image)
    assert model.provider == "CPUExecutionProvider"
    # Logits: 4·2 − ¼·2 − 1 at the pixel, −2 − 0 − 1 to its right, −1 far away.
    logits = [probability[0, 0, 1, 1], probability[0, 0, 1, 2], probability[0, 0, 3, 3]]
    assert np.log(np.array(logits) / (1 - np.array(logits))) == pytest.approx(
        [6.5, -3.0, -1.0], abs=1e-4
    )


def test_wrong_shapes_are_one_clear_error(packs):
    model = models.load_model("tiny", kind="inpaint", device="cpu")
    image = np.zeros((1, 1, 60, 64), np.float32)
    with pytest.raises(ModelError, match=r"CPUExecutionProvider.*\(1, 1, 60, 64\)"):
        model.run(image, image)


def test_sessions_are_shared_and_few(packs, no_sessions, monkeypatch):
    monkeypatch.setattr(_sessions, "_usable_cpus", lambda: 9)
    first = models.load_model("tiny", device="cpu", threads=1)
    assert models.load_model("tiny", device="cpu", threads=1)._session is first._session
    for threads in range(2, 9):
        models.load_model("tiny", device="cpu", threads=threads)
    assert len(_sessions._sessions) <= 4


def test_there_are_no_more_threads_than_cpus(packs, monkeypatch):
    monkeypatch.setattr(_sessions, "_usable_cpus", lambda: 3)
    found = [
        models.load_model("tiny", device="cpu", threads=n).threads for n in (2, 1024, None)
    ]
    assert found == [2, 3, 3]


def test_onnxruntime_says_nothing_without_a_home(packs):
    program = "from crmend import models; models.load_model('tiny', device='cpu').threads"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("pack", ["tiny", "tiny_chips/01", "tiny_chips/02"])
def test_a_sound_pack_verifies(packs, pack):
    name, _, detector = pack.partition("/")
    found = models.verify(name, detector or None, device="cpu")
    assert found.name == pack
    assert found.detect_difference < 1e-6
    assert found.inpaint_difference < 1e-6


def test_every_pack_that_comes_with_crmend_verifies():
    names = models.available_packs()
    if not names:
        pytest.skip("this checkout has no exported models")
    for pack in names:
        for detector in models.available_detectors(pack) or (None,):
            models.verify(pack, detector, device="cpu")


@pytest.mark.parametrize(
    ("argument", "value"),
    [("device", "gpu"), ("threads", 0), ("threads", 1.5), ("threads", True), ("kind", "both")],
)
def test_arguments_out_of_range(packs, argument, value):
    with pytest.raises(InvalidInputError, match=f"{argument} is {value!r}; expected"):
        models.load_model("tiny", **{argument: value})


# --- devices ------------------------------------------------------------------------


def test_cuda_without_a_gpu_build_is_an_error(packs, no_sessions):
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(DeviceError, match=r"offers only .*pip install onnxruntime-gpu"):
        models.load_model("tiny", device="cuda")
    assert models.load_model("tiny", device="auto").provider == "CPUExecutionProvider"


def test_cuda_that_is_offered_and_not_granted_is_an_error(packs, no_sessions, monkeypatch):
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    # A GPU build without its libraries lists CUDA and then runs on the CPU.
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    with pytest.raises(DeviceError, match="not granted"):
        models.load_model("tiny", device="cuda")
    assert models.load_model("tiny", device="auto").provider == "CPUExecutionProvider"


def test_cuda_from_pip_is_looked_for_silently(packs, no_sessions, monkeypatch, capsys):
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    calls = []

    def preload_dlls():
        calls.append(1)
        sys.stdout.write("Failed to load libcudart.so")
        raise OSError("libcudart.so")

    monkeypatch.setattr(ort, "preload_dlls", preload_dlls, raising=False)
    models.load_model("tiny", device="auto")
    assert not calls  # nothing to look for in a CPU build
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    _sessions._sessions.clear()
    assert models.load_model("tiny", device="auto").provider == "CPUExecutionProvider"
    assert calls
    assert capsys.readouterr().out == ""


def test_a_missing_onnxruntime_names_both_builds(packs, no_sessions, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingRuntimeError, match=r"onnxruntime \(CPU\).*onnxruntime-gpu"):
        models.load_model("tiny")


def test_importing_loads_neither_onnxruntime_nor_torch():
    code = (
        "import sys, crmend.detect; print({'onnxruntime', 'torch', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# --- damage -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_damaged_graph_is_refused(packs, content):
    path = packs / "tiny" / "detect.onnx"
    sound = bytearray(path.read_bytes())
    sound[100] ^= 1
    path.write_bytes(bytes(sound) if content is None else content)
    with pytest.raises(ModelError, match=r"detect\.onnx.*damaged or was replaced.*sha256"):
        models.load_model("tiny")


def test_bytes_that_are_no_graph_are_refused_even_with_their_hash(packs):
    (packs / "tiny" / "detect.onnx").write_bytes(b"not a graph")
    fix_hash(packs / "tiny")
    with pytest.raises(ModelError, match=r"detect\.onnx: onnxruntime cannot load"):
        models.load_model("tiny")


def test_a_swapped_graph_is_refused_even_with_its_hash(packs):
    one, two = packs / "tiny_chips" / "01", packs / "tiny_chips" / "02"
    shutil.copy(two / "detect.onnx", one / "detect.onnx")
    fix_hash(one)
    with pytest.raises(ModelError, match=r"swapped.*detector = '02'.*'01'"):
        models.load_model("tiny_chips", 1)


def test_detect_and_inpaint_exchanged_are_refused(packs):
    folder = packs / "tiny"
    shutil.copy(folder / "inpaint.onnx", folder / "detect.onnx")
    fix_hash(folder)
    with pytest.raises(ModelError, match=r"swapped.*kind = 'inpaint'"):
        models.load_model("tiny")


def test_a_moved_pack_is_refused(packs):
    shutil.rmtree(packs / "tiny_chips" / "01")
    shutil.copytree(packs / "tiny_chips" / "02", packs / "tiny_chips" / "01")
    with pytest.raises(ModelError, match=r"moved or swapped.*tiny_chips/02"):
        models.load_card("tiny_chips", 1)


@pytest.mark.parametrize("name", ["detect.onnx", "inpaint.onnx", "reference.npz"])
def test_a_missing_file_is_named(packs, name):
    (packs / "tiny" / name).unlink()
    with pytest.raises(ModelError, match=name):
        models.verify("tiny", device="cpu")


def test_a_truncated_reference_is_refused(packs):
    path = packs / "tiny" / "reference.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"reference\.npz"):
        models.verify("tiny", device="cpu")


@pytest.mark.parametrize(
    ("name", "kind"), [("detect_cr_probability", "detect"), ("inpaint_inpainted", "inpaint")]
)
def test_outputs_that_are_not_reproduced_are_an_error(packs, name, kind):
    path = packs / "tiny" / "reference.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    # Pixel (31, 30) is one that the stored mask marks.
    y, x = (3, 4) if kind == "detect" else (31, 30)
    arrays[name][0, 0, y, x] *= 1.02
    np.savez(path, **arrays)
    with pytest.raises(ModelError, match=f"the {kind} graph .* differs from the stored output"):
        models.verify("tiny", device="cpu")


# --- cards --------------------------------------------------------------------------


def test_a_card_survives_writing_and_reading():
    path = PACKS / "tiny_chips" / "01" / "card.json"
    card = parse_card(path.read_text(), path)
    assert parse_card(card.to_json(), path) == card
    assert card.detect.inputs[0].shape == ("n", 1, "h", "w")
    assert json.loads(card.to_json()) == json.loads(path.read_text())


def test_a_card_from_before_there_were_views_means_one():
    path = PACKS / "tiny_chips" / "01" / "card.json"
    content = json.loads(path.read_text())
    del content["detect"]["views"]
    assert parse_card(json.dumps(content), path).detect.views == 1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(colour="red"), "unknown card key 'colour'"),
        (lambda c: c["detect"].update(gain=1), r"unknown card key 'detect\.gain'"),
        (
            lambda c: c["inpaint"]["training"].pop("seed"),
            r"'inpaint\.training\.seed' is missing",
        ),
        (
            lambda c: c["detect"]["inputs"][0].pop("unit"),
            r"'detect\.inputs\[0\]\.unit' is missing",
        ),
        (lambda c: c["detect"].update(halo="10"), r"'detect\.halo' is '10'; expected int"),
        (lambda c: c["detect"].update(halo=True), r"'detect\.halo' is True; expected int"),
        (lambda c: c["detect"].update(halo=-1), r"halo >= 0"),
        (lambda c: c["detect"].update(threshold=1.5), r"'detect\.threshold' is 1\.5"),
        (lambda c: c["detect"].update(seed_threshold=0.2), r"'detect\.seed_threshold' is 0\.2"),
        (lambda c: c["detect"].update(views=3), r"'detect\.views' is 3; expected one of 1, 2"),
        (lambda c: c["detect"].update(threshold=None), r"'detect\.threshold' is None"),
        (lambda c: c["detect"].update(file="../x.onnx"), "plain file name"),
        (lambda c: c.update(detect=None), "'detect' is None"),
        (lambda c: c.update(format=2), "'format' is 2; this crmend reads format 1"),
        (lambda c: c.pop("format"), "'format' is None"),
        (lambda c: c["detect"]["normalisation"].update(name="log"), r"'detect\.normalisation'"),
        (
            lambda c: c["inpaint"]["normalisation"]["parameters"].update(softening=4.0),
            r"'inpaint\.normalisation'",
        ),
    ],
)
def test_a_card_is_parsed_strictly(packs, edit, message):
    edit_card(packs / "tiny", edit)
    with pytest.raises(ModelError, match=rf"card\.json: .*{message}"):
        models.load_card("tiny")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff"])
def test_a_card_that_is_no_card(packs, text):
    (packs / "tiny" / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=r"card\.json"):
        models.load_card("tiny")
