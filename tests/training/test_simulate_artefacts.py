"""Ghosts, satellite trails, moving objects and slit frames against analytic values."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("galsim")

from crmend_training.simulate._light import add_line
from crmend_training.simulate.artefacts import (
    GHOST,
    TRAIL,
    Artefacts,
    add_artefacts,
    ghost_paths,
    trail_profile,
)
from crmend_training.simulate.catalog import SOURCE_DTYPE
from crmend_training.simulate.psf import Psf
from crmend_training.simulate.scene import Optics
from crmend_training.simulate.slit import Slit, add_longslit

NOTHING = Artefacts(ghosts=0, trails=0.0, moving_objects=0.0)


@pytest.fixture(scope="module")
def optics():
    return Optics.from_psfs([Psf(jitter=0.8)])


def star(x, y, flux):
    row = np.zeros(1, SOURCE_DTYPE)
    row["type"], row["x"], row["y"], row["flux"] = "star", x, y, flux
    return row


def test_switched_off_does_nothing(optics, rng):
    scene = np.zeros((64, 64), np.float32)
    flag, rows = add_artefacts(rng, scene, star(30, 30, 1e7), optics, NOTHING)
    assert flag is None
    assert rows.size == 0
    assert rows.dtype == SOURCE_DTYPE
    assert not scene.any()


@pytest.mark.parametrize("hole", [0.0, 0.4])
def test_ghosts_hold_their_share_of_the_star(optics, rng, hole):
    settings = replace(NOTHING, ghosts=2, detector=9, ghost_hole=hole)
    scene = np.zeros((601, 601), np.float32)
    flag, _ = add_artefacts(rng, scene, star(330.0, 280.0, 2e6), optics, settings)
    paths = ghost_paths(settings)
    assert scene.sum() == pytest.approx(2e6 * paths[:, 0].sum(), rel=0.01)
    # The first one is mirrored through the centre.
    share, radius, scale, off_x, off_y = paths[0, :5]
    x, y = 300.0 + scale * 30.0 + off_x, 300.0 - scale * 20.0 + off_y
    rows, columns = np.indices(scene.shape)
    distance = np.hypot(columns - x, rows - y)
    level = 2e6 * share / (np.pi * radius**2 * (1.0 - hole**2))
    middle = distance < 0.9 * radius
    middle &= distance > (hole + 0.1) * radius
    assert scene[middle].mean() == pytest.approx(level, rel=0.03)
    np.testing.assert_array_equal(flag > 0, scene > 0.5 * settings.noise)
    assert set(np.unique(flag)) <= {0, GHOST}


def test_ghosts_of_faint_stars_are_left_out(optics, rng):
    scene = np.zeros((64, 64), np.float32)
    settings = replace(NOTHING, ghosts=2, detector=9)
    flag, _ = add_artefacts(rng, scene, star(30, 30, 1e3), optics, settings)
    assert not scene.any()
    assert not flag.any()


def test_ghost_paths_belong_to_the_chip():
    nine = Artefacts(detector=9)
    np.testing.assert_array_equal(ghost_paths(nine), ghost_paths(nine))
    assert not np.array_equal(ghost_paths(nine), ghost_paths(Artefacts(detector=22)))
    paths = ghost_paths(replace(nine, ghosts=50))
    assert np.all((paths[:, 0] >= 1e-5) & (paths[:, 0] <= 1e-4))


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, 1.2, np.pi / 2, 2.5])
def test_trail_holds_its_flux_per_length(rng, angle):
    image, mark = np.zeros((400, 400), np.float32), np.zeros((400, 400), np.int32)
    across = trail_profile(rng, 2.0, 0.074)
    assert 0.25 * (2.0 * across.sum() - across[0]) == pytest.approx(1.0, rel=1e-9)
    direction = np.array([np.cos(angle), np.sin(angle)])
    start = np.array([200.3, 199.6]) - 50.0 * direction
    # 3 e-/s per pixel of length over 100 px.
    add_line(image, mark, start, direction, np.full(102, 3.0), across, 0.25, 0.01, TRAIL)
    assert image.sum() == pytest.approx(3.0 * 101.0, rel=0.015)
    np.testing.assert_array_equal(mark == TRAIL, image > 0.01)


def test_trail_is_as_wide_as_the_defocused_pupil():
    # The narrowest and widest: 2 m at 3000 and 200 km, 1.9 to 28 px.
    widths = []
    for seed in range(200):
        across = trail_profile(np.random.default_rng(seed), 1.5, 0.074)
        widths.append(0.5 * np.count_nonzero(across > 0.5 * across[0]))
    assert 1.5 < min(widths) < 4.0
    assert 20.0 < max(widths) < 45.0


def test_trails_cross_the_frame_and_are_flagged(optics):
    settings = replace(NOTHING, trails=40.0, trail_peak=(5.0, 20.0), flashes=0.0)
    n_trails = []
    for seed in range(30):
        scene = np.zeros((300, 300), np.float32)
        rng = np.random.default_rng(seed)
        flag, rows = add_artefacts(rng, scene, star(0, 0, 1.0), optics, settings)
        n_trails.append(rows.size)
        assert set(rows["type"]) <= {"trail"}
        if rows.size:
            # The catalogue says how much light fell on the frame, but for clipped edges.
            assert scene.sum() == pytest.approx(rows["flux"].sum(), rel=0.25)
            assert (flag == TRAIL).any()
            edge = np.concatenate([flag[0], flag[-1], flag[:, 0], flag[:, -1]])
            assert (edge == TRAIL).any()
    # 40 per full frame, by perimeter.
    assert np.mean(n_trails) == pytest.approx(40.0 * 600 / 18448, rel=0.4)


def test_moving_objects_keep_their_flux_and_length(optics):
    settings = replace(
        NOTHING, moving_objects=1.5 * 9232 * 9216 / 200**2, motion=(50.0, 60.0), faintest=20.0
    )
    seen = 0
    for seed in range(12):
        scene = np.zeros((200, 200), np.float32)
        rng = np.random.default_rng(seed)
        flag, rows = add_artefacts(rng, scene, star(0, 0, 1.0), optics, settings)
        assert flag is None
        x, y = rows["x"], rows["y"]
        if rows.size != 1 or min(x[0], y[0], 199 - x[0], 199 - y[0]) < 30:
            continue
        seen += 1
        row = rows[0]
        assert row["type"] == "moving"
        assert scene.sum() == pytest.approx(row["flux"], rel=0.01)
        # 50–60 arcsec/h in 150 s at 0.074 arcsec per pixel.
        assert 28.0 <= 2.0 * row["r_half"] <= 34.0
        j, k = np.indices(scene.shape)
        angle = row["position_angle"]
        along = (k - row["x"]) * np.cos(angle) + (j - row["y"]) * np.sin(angle)
        across = (j - row["y"]) * np.cos(angle) - (k - row["x"]) * np.sin(angle)
        total = scene.sum(dtype=float)
        # An even streak has a variance of length² / 12; PSF and pixel add theirs.
        psf = 0.8**2 + 1.0 / 12.0
        expected = (2.0 * row["r_half"]) ** 2 / 12.0 + psf
        assert (scene * along**2).sum() / total == pytest.approx(expected, rel=0.02)
        assert (scene * across**2).sum() / total == pytest.approx(psf, rel=0.06)
    assert seen >= 2


def test_switching_one_effect_leaves_the_others(optics):
    every = Artefacts(trails=60.0, moving_objects=30000.0)
    light = []
    for settings in (every, replace(every, trails=0.0), replace(every, moving_objects=0.0)):
        scene = np.zeros((128, 128), np.float32)
        rng = np.random.default_rng(4)
        light.append(add_artefacts(rng, scene, star(0, 0, 1.0), optics, settings)[1])
    both, movers, trails = light
    np.testing.assert_array_equal(both[both["type"] == "moving"], movers)
    np.testing.assert_array_equal(both[both["type"] == "trail"], trails)
    assert movers.size
    assert trails.size


def test_slit_trace_runs_along_the_dispersion_and_lines_across():
    slit = Slit(noise=1.0, traces=0.0, continuum=0.0, slit_ends=0.0, along_rows=True)
    lines = add_longslit(np.random.default_rng(3), np.zeros((200, 300), np.float32), slit)
    # Lines differ along x and hardly along y.
    assert np.std(lines.mean(axis=0)) > 20.0 * np.std(lines.mean(axis=1))
    slit = replace(slit, lines=0.0, traces=3.0)
    trace = add_longslit(np.random.default_rng(3), np.zeros((200, 300), np.float32), slit)
    assert np.std(trace.mean(axis=1)) > np.std(trace.mean(axis=0))
    other = replace(slit, along_rows=False)
    turned = add_longslit(np.random.default_rng(3), np.zeros((300, 200), np.float32), other)
    np.testing.assert_array_equal(turned.T, trace)


def test_slit_switched_off_is_dark():
    scene = np.zeros((64, 64), np.float32)
    add_longslit(np.random.default_rng(0), scene, Slit(1.0, traces=0, lines=0, continuum=0))
    assert not scene.any()


def test_sky_lines_are_as_wide_as_the_instrument():
    slit = Slit(noise=1.0, fwhm=4.0, traces=0.0, continuum=0.0, slit_ends=0.0, along_rows=True)
    widths = []
    for seed in range(15):
        scene = add_longslit(
            np.random.default_rng(seed), np.zeros((20, 1000), np.float32), slit
        )
        row = scene[10].astype(float)
        peak = int(np.clip(row.argmax(), 20, 979))
        fine = np.arange(peak - 20, peak + 20, 0.01)
        above = np.interp(fine, np.arange(row.size), row) > 0.5 * row.max()
        widths.append(0.01 * above.sum())
    # Some of the brightest lines are blends.
    assert np.median(widths) == pytest.approx(4.0, rel=0.1)
