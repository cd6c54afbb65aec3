"""What a notebook shows of an exposure and of results: a line, not the pixels."""

import re
from pathlib import Path

import pytest

import crmend
from crmend.sources import find_sources

PACKS = Path(__file__).resolve().parents[1] / "data" / "packs"


@pytest.fixture
def exposure(noisy):
    return crmend.read_exposure(noisy())


def test_exposure(exposure):
    assert repr(exposure) == (
        "<Exposure frame_L1.fits, shape (72, 90), in e/s, detector 8, band g, error plane, "
        "flag plane>"
    )


def test_exposure_of_an_image_alone(level1):
    with pytest.warns(crmend.errors.UntrainedWarning):
        exposure = crmend.read_exposure(level1(bunit=None), instrument="generic")
    assert repr(exposure) == (
        "<Exposure frame_L1.fits, shape (3, 4), in unknown units, no error plane, no flag "
        "plane>"
    )


def test_results(exposure, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CRMEND_MODELS", str(PACKS))
    found = crmend.detect(exposure.image, model="tiny", star_cores=False)
    pixels = int(found.cr_mask.sum())
    share = f"{100 * pixels / (72 * 90):.2f}"
    counted = rf"{pixels:,} cosmic-ray pixels \({re.escape(share)} %\)"
    assert re.fullmatch(rf"<Detection shape \(72, 90\), {counted}>", repr(found))
    mended = crmend.inpaint(exposure.image, found.cr_mask, model="tiny")
    network = int((mended.method == 2).sum())
    assert repr(mended) == (
        f"<Inpainted shape (72, 90), {pixels:,} pixels mended, {network:,} of them by the "
        "network>"
    )
    result = crmend.clean(exposure, model="tiny", star_cores=False)
    text = repr(result)
    assert text.startswith("<CleanResult shape (72, 90), ")
    assert f"{result.stats.cr_events} events" in text
    assert "threshold 0." in text
    assert len(text) < 200
    assert repr(result.sources) == f"<SourceCatalog of {len(result.sources)} sources>"


def test_catalogue_of_nothing(image):
    assert repr(find_sources(image)) == "<SourceCatalog of 0 sources>"
