"""The false-positive zoo: what its labels say is true, and its asset is what is drawn now."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

pytest.importorskip("galsim")

from crmend import detect, read_exposure
from crmend.errors import InvalidInputError
from crmend_training.evaluate_lookalikes import excluded_pixels
from crmend_training.simulate.detector import BAD, HOT, SATURATED, WARM
from crmend_training.zoo import (
    CLASSES,
    ERROR_STEP,
    IMAGE_STEP,
    SHAPE,
    make_zoo,
    read_zoo,
    write_asset,
    write_zoo,
)

ASSET = Path(__file__).parents[1] / "data" / "zoo"


@pytest.fixture(scope="module")
def zoo():
    return make_zoo()


def test_it_has_no_cosmic_ray(zoo):
    assert not zoo.exposure.cr_truth.any()
    assert zoo.exposure.cr_events.size == 0
    assert np.array_equal(zoo.exposure.image, zoo.exposure.image_without_cr)


@pytest.mark.parametrize("detector", [9, 12, 6])
def test_every_class_has_pixels(detector):
    zoo = make_zoo(detector)
    counts = np.bincount(zoo.labels.ravel(), minlength=len(CLASSES))
    assert counts.size == len(CLASSES)
    assert counts[1:].min() >= 20, dict(zip(CLASSES, counts, strict=True))
    assert counts[0] > 0.5 * zoo.labels.size


def test_stars_are_local_maxima_where_they_should_be(zoo):
    image, cores = zoo.exposure.image, zoo.mask("star core")
    stars = zoo.exposure.catalog[:128]
    assert (stars["type"] == "star").all()
    whole = 0
    for star in stars:
        x, y = int(np.floor(star["x"] + 0.5)), int(np.floor(star["y"] + 0.5))
        box = slice(y - 1, y + 2), slice(x - 1, x + 2)
        around = image[y - 4 : y + 5, x - 4 : x + 5].copy()
        around[3:6, 3:6] = -np.inf
        assert image[box].max() > around.max()
        whole += cores[box].all()
    # A streak may not take a core's label; a hot pixel or a bad column might.
    assert whole >= 126
    assert cores.sum() <= 9 * len(stars)


def test_stars_show_all_phases_and_stay_below_saturation(zoo):
    stars = zoo.exposure.catalog[:128]
    phases = {(x, y) for x, y in zip(stars["x"] % 1.0, stars["y"] % 1.0, strict=True)}
    assert len(phases) == 16
    assert not (zoo.exposure.flag[zoo.mask("star core")] & SATURATED).any()
    ceiling = zoo.exposure.camera.ceiling / zoo.exposure.exposure_time
    assert 0.7 * ceiling < zoo.exposure.image[zoo.mask("star core")].max() < ceiling


def test_flags_agree_with_labels(zoo):
    flag = zoo.exposure.flag
    assert (flag[zoo.mask("hot pixel")] & HOT).all()
    assert (flag[zoo.mask("warm pixel")] & WARM).all()
    assert not flag[zoo.mask("new hot pixel")].any()
    assert (flag[zoo.mask("bad column")] & BAD).all()
    assert zoo.mask("saturated star")[(flag & SATURATED > 0) & ~zoo.mask("bleed end")].all()


def test_plain_sky_is_plain(zoo):
    sky = zoo.mask("sky")
    values = zoo.exposure.image[sky] - np.median(zoo.exposure.image[sky])
    noise = np.median(zoo.exposure.error[sky])
    # Steps between channels and faint wings add to the noise, but little.
    assert values.std() == pytest.approx(noise, rel=0.25)
    # Gaussian: one in 30 million beyond 5.4 sigma, of 0.3 million.
    assert np.abs(values).max() < 7.0 * noise


def test_look_alikes_stand_out(zoo):
    image, noise = zoo.exposure.image, np.median(zoo.exposure.error)
    sky = np.median(image[zoo.mask("sky")])
    # Peaks were asked for at 30, 200 and 12 or 40 sigma.
    for name, least in {
        "moving object": 10.0,
        "close pair": 50.0,
        "satellite trail": 8.0,
    }.items():
        assert np.percentile(image[zoo.mask(name)], 90.0) - sky > least * noise
    for name in ("row streak", "column streak", "ghost"):
        assert np.mean(image[zoo.mask(name)]) - sky > 0.3 * noise
    assert (image[zoo.mask("new hot pixel")] - sky > 3.0 * noise).mean() > 0.8


def test_channels_meet_in_a_step(zoo):
    ny, nx = SHAPE
    sky, image = zoo.mask("sky"), zoo.exposure.image
    quarters = [
        (slice(0, ny // 2), slice(0, nx // 2)),
        (slice(0, ny // 2), slice(nx // 2, nx)),
        (slice(ny // 2, ny), slice(0, nx // 2)),
        (slice(ny // 2, ny), slice(nx // 2, nx)),
    ]
    levels = [np.mean(image[part][sky[part]]) for part in quarters]
    error = np.median(zoo.exposure.error) / np.sqrt(sky.sum() / 4)
    assert np.ptp(levels) > 20.0 * error


def test_bleeding_goes_along_columns(zoo):
    groups, n = label(zoo.mask("bleed end"))
    assert n >= 4
    rows = max(np.ptp(np.nonzero(groups == k + 1)[0]) for k in range(n))
    columns = np.nonzero(zoo.mask("bleed end"))[1]
    stars = {400, 470, 540, 440}
    assert all(min(abs(column - x) for x in stars) <= 4 for column in columns)
    assert rows >= 5


def test_unknown_class_is_named(zoo):
    with pytest.raises(InvalidInputError, match="comet"):
        zoo.mask("comet")


def test_asset_is_what_is_drawn_now(zoo):
    asset = read_zoo(ASSET)
    assert asset.classes == zoo.classes
    # Rounding apart the planes are equal; another machine's last bits may carry a few
    # pixels over an edge of the converter, one ADU away.
    one_adu = 2.0 * zoo.exposure.camera.gain / zoo.exposure.exposure_time
    for name, step in (("image", IMAGE_STEP), ("error", ERROR_STEP)):
        have, want = getattr(asset.exposure, name), getattr(zoo.exposure, name)
        off = np.abs(have - want)
        assert np.mean(off > 0.5 * step + 1e-6 * np.abs(want)) < 1e-3
        assert off.max() < one_adu
    assert np.mean(asset.labels != zoo.labels) < 1e-4
    assert np.mean(asset.exposure.flag != zoo.exposure.flag) < 1e-4
    assert asset.exposure.catalog.dtype == zoo.exposure.catalog.dtype
    assert np.array_equal(asset.exposure.catalog["type"], zoo.exposure.catalog["type"])
    assert np.allclose(asset.exposure.catalog["x"], zoo.exposure.catalog["x"], atol=1e-9)


def test_asset_is_small():
    assert sum(path.stat().st_size for path in ASSET.iterdir()) <= 1.5e6


def test_the_runtime_reads_both_kinds_of_files(zoo, tmp_path):
    for path in (write_zoo(zoo, tmp_path / "full"), write_asset(zoo, tmp_path / "asset")):
        exposure = read_exposure(path)
        assert exposure.detector == "9"
        assert np.allclose(exposure.image, zoo.exposure.image, atol=IMAGE_STEP)
        assert np.array_equal(exposure.flag, zoo.exposure.flag)


def test_another_seed_gives_another_zoo(zoo):
    other = make_zoo(seed=1)
    assert not np.array_equal(other.exposure.image, zoo.exposure.image)
    assert np.array_equal(other.mask("star core"), zoo.mask("star core"))


def test_the_end_of_a_streak_is_not_flagged():
    zoo = make_zoo(12, 6)
    invalid, saturated = excluded_pixels(zoo)
    image = zoo.exposure.image
    found = detect(image, detector=12, invalid=invalid, saturated=saturated)
    assert np.count_nonzero(found.cr_mask & zoo.mask("row streak")) == 0
