"""The contact sheet: which sources it takes, and what it shows."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from astropy.table import Table
from PIL import Image

from crmend_training import mending_sheet
from crmend_training.mending_frames import HitFrame, Mended


@pytest.fixture
def frame(rng):
    clean = rng.normal(0.0, 0.5, (96, 96)).astype(np.float32)
    clean[48, 48] += 200.0
    none = np.zeros(clean.shape, bool)
    truth = np.zeros_like(clean)
    truth[48, 49] = 900.0
    return HitFrame(
        detector="8", image=clean + truth, clean=clean, truth=truth, error=None, invalid=none,
        saturated=none, background=np.full_like(clean, 0.25), noise=0.5, electrons=4.0,
        zero_point=25.0, catalog=Table(),
    )  # fmt: skip


def row_of(kind, mag, change, *, inside=True, x=48.0):
    found = {"CR-free": 0.1, "true: ours": 0.1 + change, "true: 5×5 median": 0.3}
    place = {"x": x, "y": 48.0, "inside": inside, "detector": "8"}
    return {"type": kind, "mag": mag, "snr": 50.0, "aperture": found} | place


def mended(frame):
    images = {"contaminated": frame.image, "ours": frame.clean, "5×5 median": frame.clean + 2.0}
    mask = frame.true_mask
    return Mended(mask, images, np.zeros_like(frame.clean), mask.astype(np.uint8), mask)


def test_the_worst_and_some_of_every_magnitude_are_taken(frame, rng):
    gallery = mending_sheet.Gallery(rng, typical=1, worst=2)
    rows = [
        row_of("star", 17.0, 0.3),
        row_of("star", 17.1, np.nan),  # lost: worse than any number
        row_of("star", 19.0, -0.2),
        row_of("star", 19.5, 0.01, inside=False),
        row_of("star", 19.6, 0.01),
        row_of("star", 23.0, 0.001),
        row_of("galaxy", 21.0, 0.0),
    ]
    gallery.add(frame, mended(frame), "true", rows)
    typical, worst = gallery.examples("star")
    assert [one.row["mag"] for one in worst] == [17.1, 17.0]
    assert len(typical) == 2
    assert {19.0, 19.6} & {typical[0].row["mag"]}  # never the one that is hit outside
    assert typical[1].row["mag"] == 23.0
    typical, worst = gallery.examples("galaxy")
    assert [one.row["mag"] for one in worst] == [21.0]
    assert typical == []


def test_stamps_are_in_units_of_the_noise(frame, rng):
    gallery = mending_sheet.Gallery(rng)
    gallery.add(frame, mended(frame), "true", [row_of("star", 18.5, 0.1, x=92.0)])
    (one,) = gallery.candidates
    assert one.images["ours"].shape == (36, 36)  # though 4 px off the edge of the frame
    gallery.add(frame, mended(frame), "true", [row_of("star", 18.5, 0.1)])
    one = gallery.candidates[-1]
    centre = float(frame.clean[48, 48])
    assert one.images["ours"][18, 18] == pytest.approx((centre - 0.25) / 0.5, rel=1e-5)
    # Photons: 4 e- per unit make a variance of flux / 4.
    expected = np.hypot(0.5, np.sqrt((centre - 0.25) / 4.0)) / 0.5
    assert one.noise[18, 18] == pytest.approx(expected, rel=1e-5)
    assert one.mask.sum() == 1
    assert one.mask[18, 19]
    assert one.change == pytest.approx({"ours": 0.1, "5×5 median": 0.2})


def test_the_sheet_is_1600_px_wide_and_shows_residuals_in_colour(frame, rng, tmp_path):
    gallery = mending_sheet.Gallery(rng)
    gallery.add(frame, mended(frame), "true", [row_of("star", 18.5, 0.1)])
    mending_sheet.draw_sheet(tmp_path / "sheet.png", gallery)
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert abs(pixels.shape[1] - 1600) < 20
    # The median's residual, +4 sigma of background, is red; ours is none.
    side, gap, label, head = 108, 4, 124, 70
    middle = head + side - 1 - (18 * 3 + 1)

    def colour(column):
        return pixels[middle, label + column * (side + gap) + 19 * 3 + 1]

    assert colour(4)[0] > colour(4)[2] + 10
    assert np.ptp(colour(5)) < 12
