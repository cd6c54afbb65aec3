"""deepCR's preprocessing: of arrays, on cards, and through a pack whose graph is known."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from crmend import _deepcr_input as deepcr
from crmend._tiling import make_grid
from crmend.detect import detect
from crmend.errors import InvalidInputError, ModelError
from crmend.models import load_card
from crmend.pipeline import clean

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TINY = Path(__file__).resolve().parents[1] / "data" / "packs" / "tiny"


def parameters(scale=1.0, standardise=False, electrons=True):
    return deepcr.parameters(scale, standardise=standardise, electrons=electrons)


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    return rng.normal(7.0, 2.0, (37, 44)).astype(np.float32)


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """Return a writer of ``deepcr/x``: the tiny graphs with deepCR's preprocessing."""
    monkeypatch.setenv("CRMEND_MODELS", str(tmp_path))

    def write(**options) -> str:
        folder = tmp_path / "deepcr" / "x"
        shutil.copytree(TINY, folder)
        card = json.loads((folder / "card.json").read_text())
        card |= {"instrument": "deepcr", "detector": "x"}
        card["detect"]["normalisation"] = {
            "name": deepcr.NAME, "parameters": parameters(**options),
        }  # fmt: skip
        for kind in ("detect", "inpaint"):
            model = onnx.load(folder / f"{kind}.onnx")
            known = {p.key: p.value for p in model.metadata_props}
            known |= {"crmend.instrument": "deepcr", "crmend.detector": "x"}
            known["crmend.normalisation"] = card[kind]["normalisation"]["name"]
            onnx.helper.set_model_props(model, known)
            content = model.SerializeToString()
            (folder / f"{kind}.onnx").write_bytes(content)
            card[kind]["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "card.json").write_text(json.dumps(card))
        return "deepcr/x"

    return write


def tiny_twin(x: np.ndarray) -> np.ndarray:
    """Compute the tiny detection graph with its own zero padding, (ny, nx) both even."""
    x = x.astype(np.float64)
    p = np.pad(x, 1)
    around = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
    ny, nx = x.shape
    block = x.reshape(ny // 2, 2, nx // 2, 2).max(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
    return 1 / (1 + np.exp(1 + around + 0.25 * block - 4 * x))


def found_input(image, invalid=None, electrons_per_unit=1.0, **options):
    invalid = np.zeros(image.shape, bool) if invalid is None else invalid
    scale = deepcr.measure(image, invalid, parameters(**options), electrons_per_unit)
    return deepcr.network_input(image, scale)


def test_the_image_in_electrons_goes_in_as_it_is(image):
    assert np.array_equal(found_input(image), image)
    assert found_input(image, electrons_per_unit=4.0) == pytest.approx(image * 4, rel=1e-6)
    scaled = found_input(image, electrons_per_unit=4.0, scale=100.0)
    assert scaled == pytest.approx(image / 25, rel=1e-6)


def test_counts_are_not_converted(image):
    found = found_input(image, electrons_per_unit=4.0, electrons=False)
    assert np.array_equal(found, image)


def test_standardised_input_has_mean_0_and_deviation_1_in_any_unit(image):
    invalid = np.zeros(image.shape, bool)
    invalid[3, 4] = True
    image[3, 4] = 1e7
    for unit, factor in ((1.0, 1.0), (1e-3, 150.0), (1e3, None)):
        values = found_input(image * np.float32(unit), invalid, factor, standardise=True)
        assert values[~invalid].mean(dtype=float) == pytest.approx(0.0, abs=1e-5)
        assert values[~invalid].std(dtype=float) == pytest.approx(1.0, abs=1e-5)


def test_a_constant_image_gives_zeros():
    assert not found_input(np.full((5, 6), 3.0, np.float32), standardise=True).any()


def test_unknown_electrons_are_refused(image):
    with pytest.raises(InvalidInputError, match="wants the image in electrons"):
        found_input(image, electrons_per_unit=None)
    assert np.array_equal(found_input(image, electrons_per_unit=None, electrons=False), image)


def test_absurd_pixels_are_clipped_and_stay_finite():
    image = np.full((4, 4), 3e38, np.float32)
    assert np.array_equal(found_input(image, electrons_per_unit=100.0), np.full((4, 4), 1e8))


@pytest.mark.parametrize("tile", [8, 20, 512])
def test_a_pack_sees_electrons_and_nothing_beyond_the_frame(pack, image, tile):
    """Every tiling gives what one run over the whole frame gives, borders included."""
    part = image[:36]
    found = detect(
        part, model=pack(scale=10.0), electrons_per_unit=2.0, device="cpu", tile=tile
    )
    assert found.cr_probability == pytest.approx(tiny_twin(part / 5), abs=1e-5)
    assert found.cr_probability.std() > 0.1


def test_odd_frames_are_completed_by_reflection(pack, image):
    wide = np.vstack([image, image[-2:-1]])
    found = detect(image, model=pack(), device="cpu", tile=16)
    assert found.cr_probability == pytest.approx(tiny_twin(wide)[:37], abs=1e-5)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "2", True])
def test_electrons_per_unit_out_of_range(pack, image, value):
    with pytest.raises(InvalidInputError, match=r"electrons_per_unit is .*above 0"):
        detect(image, model=pack(), electrons_per_unit=value)


def test_the_inside_of_a_tile():
    grid = make_grid((37, 40), 16, 4, 2)
    assert grid.size == (14, 14)
    assert grid.inside((0, 14)) == (slice(4, 22), slice(0, 22))
    # Rows 28 to 41 of a frame of 37, completed to 38: 10 are inside, after the margin.
    assert grid.inside((28, 28)) == (slice(0, 14), slice(0, 16))


# --- from a file -----------------------------------------------------------------------


def test_files_are_taken_to_electrons(pack, image, tmp_path, crmend_cli, monkeypatch):
    """A file in counts with gain 4 is found in like one in electrons, with no warning."""
    name = pack()
    monkeypatch.setenv("CRMEND_MODELS", str(tmp_path))
    image[20, 20] += 500.0
    header = {"INSTRUME": "ACS", "DETECTOR": "WFC", "CCDGAIN": 4.0, "EXPTIME": 10.0}
    flags = []
    for unit, values in (("COUNTS", image / 4), ("ELECTRONS", image)):
        primary = fits.PrimaryHDU()
        primary.header.update(header)
        plane = fits.ImageHDU(values, name="SCI")
        plane.header["BUNIT"] = unit
        path = tmp_path / f"{unit}.fits"
        dq = fits.ImageHDU(np.zeros(values.shape, np.int16), name="DQ")
        fits.HDUList([primary, plane, dq]).writeto(path)
        done = crmend_cli("detect", path, "--model", name, "--json")
        assert done.code == 0, done.err
        assert done.json["warnings"] == []
        flags.append(fits.getdata(tmp_path / f"{unit}_flag.fits", "FLAG"))
    assert np.array_equal(*flags)
    assert flags[0][20, 20] == 4096
    expected = detect(image, model=name, device="cpu").cr_mask
    assert np.array_equal(flags[1] == 4096, expected)


def test_clean_mends_what_the_pack_finds(pack, image):
    image[20, 20] += 500.0
    result = clean(image, model=pack(), device="cpu")
    expected = detect(image, model="deepcr/x", device="cpu").cr_mask
    assert expected[20, 20]
    assert np.array_equal(result.cr_mask, expected)
    assert result.image[20, 20] < 20.0
    assert np.array_equal(result.image[~expected], image[~expected])


# --- cards -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"scale": 0.0}, {"scale": -1.0}, {"electrons": 0.5}, {"standardise": 2.0}, {"more": 1.0}],
)
def test_unusable_parameters_are_refused(pack, tmp_path, change):
    pack()
    path = tmp_path / "deepcr" / "x" / "card.json"
    card = json.loads(path.read_text())
    card["detect"]["normalisation"]["parameters"] |= change
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"detect\.normalisation.*and for detection deepcr-v1"):
        load_card("deepcr", "x")


def test_inpainting_graphs_know_one_preprocessing(pack, tmp_path):
    pack()
    path = tmp_path / "deepcr" / "x" / "card.json"
    card = json.loads(path.read_text())
    card["inpaint"]["normalisation"] = card["detect"]["normalisation"]
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"inpaint\.normalisation"):
        load_card("deepcr", "x")
