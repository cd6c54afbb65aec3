"""The scientific test set, mended by every method on a mosaic of its stamps."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from crmend_training import mending_bars
from crmend_training import mending_science as science
from crmend_training.datasets.science_files import (
    IndexRow,
    ScienceCase,
    ScienceSource,
    read_science,
    write_index,
    write_science,
)


def science_cases(count):
    rows, columns = np.indices((64, 64))
    light = np.exp(-0.25 * ((rows - 32.0) ** 2 + (columns - 32.0) ** 2))  # 1000 in all
    clean = (10.0 + 1000.0 / (4.0 * np.pi) * light).astype(np.float32)
    source = ScienceSource(
        clean=clean, ignore=np.zeros((64, 64), bool), detector=8, band="g", file="",
        kind="star", x=100.0, y=200.0, magnitude=21.2, wanted=21.0, zero_point=25.0,
        noise=0.5, background=10.0, unit="e-/s",
    )  # fmt: skip
    cases = []
    for number in range(count):
        mask = np.zeros((64, 64), bool)
        mask[32, 33 + number % 12] = True
        hit = np.where(mask, clean + 500.0, clean).astype(np.float32)
        cases.append(ScienceCase(source, hit, mask, 500.0, 1.0 + number % 12, 0.0))
    return cases


def perfect(image, mask, **_):
    # What the CR added is known here.
    return SimpleNamespace(image=np.where(mask, image - 500.0, image).astype(np.float32))


def missing_one_pixel(image, **_):
    """Find what is 400 above the source, but for the first stamp's; and a pixel of sky."""
    found = image > 400.0
    assert found[64, 65]
    found[64, 65] = False
    found[0, 0] = True
    return SimpleNamespace(cr_mask=found)


def test_mosaic_hands_every_stamp_back():
    cases = science_cases(13)
    stamps = science.mend_mosaic(cases, science.Runtime(perfect, None))[science.OURS]
    for case, stamp in zip(cases, stamps, strict=True):
        np.testing.assert_allclose(stamp, case.source.clean, atol=1e-4)


def test_cosmic_rays_lie_between_the_stamps_as_on_an_exposure():
    cases = science_cases(13)
    seen = []

    def seeing(image, mask, **known):
        seen.append((image, mask))
        return perfect(image, mask)

    science.mend_mosaic(cases, science.Runtime(seeing, None))
    image, mask = seen[0]
    stamps = np.zeros(image.shape, bool)
    for number in range(13):
        y, x = (128 * k + 32 for k in divmod(number, 10))
        stamps[y : y + 64, x : x + 64] = True
    # Twelve CRs of one pixel in each 64 × 64; those of 500 may fall on each other.
    assert mask[~stamps].sum() == pytest.approx(12 * 3 * 13, rel=0.05)
    assert (image[mask & ~stamps] > 10.0 + 500.0 - 5.0).all()
    assert (image[~mask & ~stamps] < 10.0 + 5.0).all()


def test_the_psf_of_a_source_is_its_exposures():
    """Its copies in the mosaic would tell, too; told that it is not known, it is not."""
    cases = science_cases(13)
    flat = np.array([[1.0, 2.0, 0.0, 2.0]])
    known, unknown = (
        [replace(case, source=replace(case.source, psf=psf)) for case in cases]
        for psf in (flat, np.empty((0, 4)))
    )
    runtime = science.Runtime(detect=None)
    told, untold = (science.mend_mosaic(one, runtime)[science.OURS] for one in (known, unknown))
    own, other = (
        [
            float((stamp - c.source.clean)[c.mask].sum())
            for stamp, c in zip(all_, cases, strict=True)
        ]
        for all_ in (told, untold)
    )
    assert np.abs(own).max() < 60.0  # of 998
    assert not np.allclose(own, other, atol=1e-3)


def test_masks_that_detection_draws_are_used_as_they_are():
    cases = science_cases(13)
    mended = science.mend_mosaic(cases, science.Runtime(perfect, missing_one_pixel))
    drawn = mended[science.DRAWN]
    np.testing.assert_array_equal(drawn[0], cases[0].hit)
    np.testing.assert_allclose(drawn[1], cases[1].source.clean, atol=1e-4)
    # Grown by a pixel, `perfect` takes 500 off nine pixels.
    grown = mended[science.DRAWN_GROWN][1]
    assert (cases[1].hit - grown).sum() == pytest.approx(4500.0, rel=1e-5)


def test_science_rows_and_summary(tmp_path):
    cases = science_cases(24)
    write_science(tmp_path / "set" / "one.fits", cases)
    assert next(read_science(tmp_path / "set" / "one.fits")).source.psf.shape == (0, 4)
    rows = [
        IndexRow(8, "g", "star", 21.0, "one.fits", 21.2, 24),
        IndexRow(8, "g", "star", 17.0),
    ]
    write_index(tmp_path / "set", rows)
    rows = science.score_science(tmp_path, {}, science.Runtime(perfect, None))
    ours = science.select(rows, "aperture", method="ours")
    np.testing.assert_allclose(ours, 0.0, atol=1e-4)
    # 500 more in a circle that holds 998.
    worst = science.select(rows, "aperture", method="contaminated", distance=1.0)
    np.testing.assert_allclose(worst, -2.5 * np.log10(1498.1 / 998.1), atol=2e-3)
    tables = science.summarise(rows)
    touched = next(row for row in tables["touched"] if row["method"] == "ours")
    assert touched["aperture"]["n"] == 10  # distances 1 to 5, twice
    assert next(r for r in tables["cells"] if r["method"] == "ours")["aperture"]["n"] == 24
    lines = {bar.what: bar for bar in mending_bars.bars({"science": tables})}
    assert lines["bias, stars of mag 21, CR at 0–15 px, circle"].verdict == "met"
    assert lines["bias, galaxies of mag 21, CR at 0–15 px, circle"].verdict == "not measured"
