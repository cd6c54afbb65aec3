"""Bad input, end to end: one clear error, the right exit code, nothing half-written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import crmend
from crmend.errors import (
    CrmendError,
    FileFormatError,
    InvalidInputError,
    MissingFileError,
    UnknownDetectorError,
    UnknownInstrumentError,
)

CR_BIT = 1 << 20
TINY = ("--model", "tiny", "--threshold", "0.99")
PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"


def snapshot(folder):
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def data_of(path, name):
    with fits.open(path) as hdus:
        return np.array(hdus[name].data)


@pytest.fixture
def fails(crmend_cli, tmp_path):
    """Return a check: the command fails with this code, in one line, and changes nothing."""

    def check(code, match, *words):
        before = snapshot(tmp_path)
        done = crmend_cli(*words)
        assert done.code == code, done.err
        assert done.err.startswith("crmend: ")
        assert done.err.count("\n") == 1
        assert match in done.err
        assert done.out == ""
        assert snapshot(tmp_path) == before

    return check


# --- the file -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_missing_file(fails, command, tmp_path):
    fails(3, "does not exist", command, tmp_path / "none.fits")
    with pytest.raises(MissingFileError, match="does not exist"):
        crmend.read_exposure(tmp_path / "none.fits")


def test_folder_instead_of_file(fails, tmp_path):
    (tmp_path / "night").mkdir()
    fails(3, "is a folder", "clean", tmp_path / "night", "-o", tmp_path / "out.fits")
    for name in ("", ".", "/"):
        fails(3, "is a folder", "clean", name)


@pytest.mark.parametrize("left", [0.1, 0.5, 0.9, 0.95])
def test_truncated_file(fails, noisy, left):
    frame = noisy()
    content = frame.read_bytes()
    frame.write_bytes(content[: int(left * len(content))])
    fails(3, "frame_L1.fits", "clean", frame, *TINY)
    fails(3, "frame_L1.fits", "clean", frame, "--update-flags", *TINY)


def test_no_fits_file(fails, tmp_path):
    (tmp_path / "a.fits").write_text("once upon a time\n" * 1000)
    fails(3, "cannot be read as FITS", "clean", tmp_path / "a.fits")


def test_no_image_plane(fails, level1):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.zeros(3))])
    frame = level1([])
    with fits.open(frame, mode="append") as hdus:
        hdus.append(table)
    fails(3, "image", "clean", frame, *TINY)


@pytest.mark.parametrize("shape", [(9,), (2, 8, 8)])
def test_image_of_one_or_three_axes(fails, level1, shape):
    frame = level1([("SCI", np.ones(shape, np.float32))])
    fails(3, "SCI", "clean", frame, *TINY)
    with pytest.raises(FileFormatError):
        crmend.read_exposure(frame)


def test_flag_plane_of_another_shape(fails, level1, noisy):
    image = data_of(noisy(), "SCI")
    frame = level1([("SCI", image), ("FLAG", np.zeros((72, 89), np.int16))], name="bad.fits")
    fails(3, "(72, 89)", "clean", frame, *TINY)


def test_flag_plane_of_floats(fails, level1, noisy):
    image = data_of(noisy(), "SCI")
    frame = level1([("SCI", image), ("FLAG", np.full((72, 90), 0.5))], name="bad.fits")
    fails(3, "bad.fits", "clean", frame, *TINY)


# --- what is in it ------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_finite_pixel(fails, level1, value):
    frame = level1([("SCI", np.full((40, 40), value, np.float32))])
    fails(3, "finite", "clean", frame, *TINY)
    with pytest.raises(InvalidInputError, match="no pixel"):
        crmend.clean(np.full((40, 40), value), model="tiny")


def test_every_pixel_flagged_bad(fails, level1, noisy):
    image = data_of(noisy(), "SCI")
    frame = level1([("SCI", image), ("FLAG", np.ones((72, 90), np.int16))], name="bad.fits")
    fails(3, "no pixel of the image is valid", "clean", frame, *TINY)


def test_weights_that_are_all_zero_are_named(crmend_cli, level1):
    sky = np.random.default_rng(5).normal(100.0, 3.0, (64, 64)).astype(np.float32)
    frame = level1([("SCI", sky), ("WHT", np.zeros_like(sky))])
    words = ("clean", frame, "--instrument", "generic", *TINY)
    done = crmend_cli(*words)
    assert done.code == 3
    assert "or of infinite error (weight 0)" in done.err
    assert "weight=none" in done.err
    assert crmend_cli(*words, "--plane", "weight=none").code == 0


def test_patches_of_nan_and_infinity_stay_and_are_no_cosmic_rays(crmend_cli, noisy, tmp_path):
    frame = noisy()
    with fits.open(frame, mode="update") as hdus:
        hdus["SCI"].data[10:20, 60:75] = np.nan
        hdus["SCI"].data[22:25, 60:63] = np.inf
        hdus["SCI"].data[26:28, 60:63] = -np.inf
    assert crmend_cli("clean", frame, *TINY).code == 0
    before, after = data_of(frame, "SCI"), data_of(tmp_path / "frame_L1_crmend.fits", "SCI")
    flag = data_of(tmp_path / "frame_L1_crmend.fits", "FLAG")
    bad = ~np.isfinite(before)
    np.testing.assert_array_equal(after[bad], before[bad])
    assert not np.any(flag[bad] & CR_BIT)
    assert np.isfinite(after[~bad]).all()
    assert flag[60, 11] & CR_BIT


@pytest.mark.parametrize("seconds", [0.0, -150.0, "long"])
def test_exposure_time_of_no_use(fails, noisy, seconds):
    fails(3, "EXPTIME", "clean", noisy(keywords={"EXPTIME": seconds}), *TINY)


def test_adu_without_gain(fails, crmend_cli, noisy, tmp_path):
    frame = noisy(bunit="ADU")
    fails(3, "gain", "clean", frame, *TINY)
    assert crmend_cli("clean", frame, "--gain", "1.1", *TINY).code == 0


# --- names --------------------------------------------------------------------------


def test_unknown_instrument(fails, noisy):
    fails(4, "available:", "clean", noisy(), "--instrument", "hubble", *TINY)
    frame = noisy(keywords={"INSTRUME": "WFPC9"})
    fails(4, "WFPC9", "clean", frame, *TINY)
    with pytest.raises(UnknownInstrumentError, match="WFPC9"):
        crmend.read_exposure(frame)


def test_unknown_detector(fails, noisy):
    fails(4, "10", "clean", noisy(), "--detector", "10", *TINY)
    fails(4, "99", "clean", noisy(keywords={"DETECTOR": "CHIP99"}), *TINY)
    with pytest.raises(UnknownDetectorError):
        crmend.read_exposure(noisy(), detector=10)


def test_unknown_model(fails, noisy):
    fails(4, "no model pack 'best'", "clean", noisy(), "--model", "best")
    fails(4, "01, 02", "clean", noisy(), "--model", "tiny_chips/7")


def test_missing_catalogue(fails, noisy, tmp_path):
    fails(3, "cat.fits", "clean", noisy(), "--catalog", tmp_path / "cat.fits", *TINY)
    (tmp_path / "cat.fits").write_text("x y\n")
    fails(3, "cat.fits", "clean", noisy(), "--catalog", tmp_path / "cat.fits", *TINY)


@pytest.mark.parametrize("word", ["--catalog", "--instrument"])
def test_what_may_not_be_looked_at_is_named(fails, noisy, tmp_path, word):
    # As in a folder without the right to search it, which root may.
    name = tmp_path / ("x" * 300 + ".toml")
    fails(3, str(name), "clean", noisy(), word, name, "-o", tmp_path / "o.fits", *TINY)


# --- arrays -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(9),
        np.zeros((2, 8, 8)),
        np.zeros((0, 8)),
        np.zeros((8, 8), complex),
        np.full((8, 8), "a"),
    ],
)
@pytest.mark.parametrize("call", [crmend.clean, crmend.detect])
def test_arrays_that_are_no_images(monkeypatch, image, call):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    with pytest.raises(InvalidInputError, match="expected"):
        call(image, model="tiny")


def test_an_array_needs_an_origin():
    with pytest.raises(InvalidInputError, match="detector=8"):
        crmend.clean(np.zeros((8, 8)))


def test_masks_of_another_shape(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    image = np.random.default_rng(1).normal(size=(40, 40))
    with pytest.raises(InvalidInputError, match=r"\(40, 39\)"):
        crmend.inpaint(image, np.zeros((40, 39), bool), model="tiny")
    with pytest.raises(InvalidInputError, match=r"\(40, 39\)"):
        crmend.detect(image, model="tiny", invalid=np.zeros((40, 39), bool))


# --- the output ---------------------------------------------------------------------


def test_output_is_the_input(fails, noisy, tmp_path):
    frame = noisy()
    fails(5, "is the input", "clean", frame, "-o", frame, "--overwrite", *TINY)
    fails(5, "is the input", "detect", frame, "-o", frame, "--overwrite", *TINY)
    (tmp_path / "link.fits").symlink_to(frame)
    fails(5, "is the input", "clean", tmp_path / "link.fits", "-o", frame, "--overwrite", *TINY)
    os.link(frame, tmp_path / "hard.fits")
    fails(5, "is the input", "clean", frame, "-o", tmp_path / "hard.fits", "--overwrite", *TINY)


def test_output_in_no_folder(fails, noisy, tmp_path):
    fails(5, "folder", "clean", noisy(), "-o", tmp_path / "none" / "out.fits", *TINY)


def test_output_of_a_name_too_long(fails, noisy, tmp_path):
    fails(5, "File name too long", "clean", noisy(), "-o", tmp_path / ("x" * 300), *TINY)


@pytest.mark.parametrize("command", ["clean", "detect"])
def test_read_only_folder(crmend_cli, noisy, read_only_folder, command):
    done = crmend_cli(command, noisy(), "-o", read_only_folder / "out.fits", *TINY)
    assert done.code == 5
    assert done.err.count("\n") == 1
    assert "cannot be written" in done.err
    assert list(read_only_folder.iterdir()) == []


def test_input_in_a_read_only_folder(crmend_cli, noisy, read_only_folder):
    done = crmend_cli("demo", "--out", read_only_folder / "demo")
    assert done.code == 5
    assert "cannot be made" in done.err


def test_full_disk(crmend_cli, level1, small_disk):
    image = np.random.default_rng(2).normal(10.0, 1.0, (400, 400)).astype(np.float32)
    frame = level1([("SCI", image), ("ERR", image), ("FLAG", np.zeros((400, 400), np.int16))])
    content = frame.read_bytes()
    done = crmend_cli("clean", frame, "-o", small_disk / "out.fits", *TINY)
    assert done.code == 5
    assert "No space left" in done.err
    assert list(small_disk.iterdir()) == []
    assert frame.read_bytes() == content


def test_full_disk_while_the_input_is_flagged(crmend_cli, level1, small_disk):
    image = np.random.default_rng(2).normal(10.0, 1.0, (300, 300)).astype(np.float32)
    image[40, 50] = 5000.0
    made = level1([("SCI", image), ("FLAG", np.zeros((300, 300), np.int16))])
    frame = shutil.copy(made, small_disk / "frame.fits")
    before = snapshot(small_disk)
    done = crmend_cli("detect", frame, "--update-flags", *TINY)
    assert done.code == 5
    assert snapshot(small_disk) == before


# --- models and onnxruntime ---------------------------------------------------------


@pytest.fixture
def own_packs(crmend_cli, monkeypatch, tmp_path_factory):
    """Return a copy of the tiny packs that may be damaged."""
    folder = tmp_path_factory.mktemp("models") / "packs"
    shutil.copytree(PACKS, folder)
    monkeypatch.setenv("CRMEND_MODELS", str(folder))
    return folder


@pytest.mark.parametrize("kind", ["detect", "inpaint"])
def test_damaged_graph(fails, crmend_cli, noisy, own_packs, kind):
    graph = own_packs / "tiny" / f"{kind}.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    fails(4, "sha256", "clean", noisy(), *TINY)
    done = crmend_cli("models", "verify", "tiny", "--json")
    assert done.code == 4
    assert [each["name"] for each in done.json["failed"]] == ["tiny"]


def test_swapped_graphs(fails, noisy, own_packs):
    one, other = own_packs / "tiny" / "detect.onnx", own_packs / "tiny" / "inpaint.onnx"
    keep = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(keep)
    fails(4, "sha256", "clean", noisy(), *TINY)


def test_graph_of_another_detector(fails, noisy, own_packs):
    shutil.copy(
        own_packs / "tiny_chips/02/detect.onnx", own_packs / "tiny_chips/01/detect.onnx"
    )
    fails(4, "sha256", "clean", noisy(), "--model", "tiny_chips/1")
    shutil.copy(own_packs / "tiny_chips/02/card.json", own_packs / "tiny_chips/01/card.json")
    fails(4, "tiny_chips", "clean", noisy(), "--model", "tiny_chips/1")


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "not json"])
def test_damaged_card(fails, noisy, own_packs, content):
    (own_packs / "tiny" / "card.json").write_text(content)
    fails(4, "card.json", "clean", noisy(), *TINY)


def test_missing_graph(fails, noisy, own_packs):
    (own_packs / "tiny" / "inpaint.onnx").unlink()
    fails(4, "inpaint.onnx", "clean", noisy(), *TINY)


def test_device_that_is_not_there(fails, noisy):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime offers CUDA")
    fails(6, "'cuda' was asked for", "clean", noisy(), "--device", "cuda", *TINY)


def test_missing_onnxruntime(noisy, tmp_path_factory, tmp_path):
    block = tmp_path_factory.mktemp("block")
    (block / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    frame = noisy()
    before = snapshot(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "crmend.cli", "clean", str(frame), *TINY],
        env=os.environ | {"PYTHONPATH": str(block), "CRMEND_MODELS": str(PACKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install onnxruntime (CPU)" in done.stderr
    assert "pip install onnxruntime-gpu" in done.stderr
    assert snapshot(tmp_path) == before


def test_every_error_has_an_exit_code():
    from crmend.cli import EXIT_CODES

    assert set(CrmendError.__subclasses__()) == set(EXIT_CODES)
