"""The detector of the simulator: each effect against an analytic or independent value."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("galsim")

from crmend.errors import InvalidInputError
from crmend_training.simulate.detector import Camera, Trap, channel_edges, make_chip
from crmend_training.simulate.readout import expose

TIME = 150.0
IDEAL = Camera(
    gain_spread=0.0,
    read_noise=0.0,
    read_noise_spread=0.0,
    shot_noise=False,
    dark=0.0,
    bias_spread=0.0,
    adc_max=0.0,
    full_well=0.0,
    prnu=0.0,
    defect_rate=0.0,
    pattern=0.0,
    nonlinearity=0.0,
    parallel_traps=(),
    serial_traps=(),
    gain_residual=0.0,
    bias_residual=0.0,
    bias_structure=0.0,
    dark_residual=0.0,
    flat_residual=0.0,
    flat_structure=0.0,
    master_noise=0.0,
)


def read(camera, light, rays=None, seed=5, number=0):
    """Return the read-out and the chip for light [e-/px in 150 s] and cosmic rays [e-/px]."""
    light = np.asarray(light, np.float32)
    rays = np.zeros_like(light) if rays is None else np.asarray(rays, np.float32)
    chip = make_chip(np.random.default_rng([seed, 1]), camera, light.shape)
    scene = light / np.float32(TIME)
    return expose(
        np.random.default_rng([seed, 2, number]), scene, rays, camera, chip, TIME
    ), chip


def electrons(readout):
    return readout.image.astype(np.float64) * TIME


def test_an_ideal_chip_returns_what_it_was_given():
    light = np.random.default_rng(1).uniform(0.0, 2e5, (40, 50))
    readout, chip = read(IDEAL, light)
    np.testing.assert_allclose(electrons(readout), light, rtol=1e-5)
    assert not readout.flag.any()
    assert np.all(chip.response == 1.0)


def test_photon_transfer_gives_back_the_gain_of_each_channel():
    camera = replace(IDEAL, shot_noise=True, gain_spread=0.2, adc_max=65535.0)
    means, variances = [], []
    for number, level in enumerate((200.0, 1000.0, 4000.0, 16000.0)):
        readout, chip = read(camera, np.full((400, 1600), level), number=number)
        # Back to raw numbers, channel by channel.
        raw = electrons(readout).reshape(2, 200, 8, 200) / chip.gain[:, None, :, None]
        means.append(raw.mean(axis=(1, 3)))
        variances.append(raw.var(axis=(1, 3)) - 1.0 / 12.0)
    means, variances = np.array(means), np.array(variances)
    # The slope of variance [ADU²] on mean [ADU] is 1 / gain; each level weighs the same.
    measured = 1.0 / (variances / means).mean(axis=0)
    # 40 000 pixels at four levels: the slope is good to 0.4 per cent.
    np.testing.assert_allclose(measured, chip.gain, rtol=0.015)
    assert chip.gain.std() > 0.1


def test_read_noise_is_each_channels_own():
    camera = replace(IDEAL, read_noise=5.0, read_noise_spread=0.2)
    readout, chip = read(camera, np.full((256, 1024), 100.0))
    measured = electrons(readout).reshape(2, 128, 8, 128).std(axis=(1, 3))
    np.testing.assert_allclose(measured, chip.read_noise, rtol=0.025)
    assert 0.1 < chip.read_noise.std() / 5.0 < 0.35
    # The pipeline's error is the quadratic sum of photons and mean read noise.
    assert np.median(readout.error) * TIME == pytest.approx(np.sqrt(100.0 + 25.0), rel=0.03)


def test_dark_current_has_shot_noise_and_no_response():
    camera = replace(IDEAL, shot_noise=True, dark=2.0, prnu=0.2)
    readout, chip = read(camera, np.zeros((300, 400)))
    value = electrons(readout) * chip.response
    assert value.mean() == pytest.approx(0.0, abs=5 * np.sqrt(300.0 / value.size))
    assert value.var() == pytest.approx(300.0, rel=0.02)


def test_whole_noise_is_the_quadratic_sum():
    camera = Camera(parallel_traps=(), serial_traps=(), defect_rate=0.0, pattern=0.0)
    readout, _ = read(camera, np.full((512, 512), 100.0))
    # One channel of 64 by 256: no errors of channel bias or gain.
    one = electrons(readout)[:256, :64]
    expected = 100.0 + 3.0 + 25.0 + 1.1**2 / 12 + 0.5**2
    assert one.var() == pytest.approx(expected, rel=0.1)


def test_trails_point_away_from_the_amplifiers_of_each_channel():
    traps = (Trap(0.1, 1.0),)
    light = np.zeros((64, 128))
    light[[10, 53], [20, 100]] = 5000.0
    both = replace(IDEAL, parallel_traps=traps, serial_traps=traps, full_well=9e4)
    value = electrons(read(both, light)[0])
    assert value[11, 20] > 5.0 > abs(value[9, 20])
    assert value[52, 100] > 5.0 > abs(value[54, 100])
    assert value[10, 21] > 1.0 > abs(value[10, 19])
    assert value[53, 101] > 1.0 > abs(value[53, 99])
    # The share is that of the full chip, however small the frame.
    farther = replace(both, transfers=(2 * 4616, 1152))
    more = 5000.0 - electrons(read(farther, light)[0])[53, 100]
    parallel_only = replace(both, serial_traps=(), transfers=(4616, 0))
    once = 5000.0 - electrons(read(parallel_only, light)[0])[53, 100]
    assert 1.5 * once < more


def test_nonlinearity_is_undone_but_for_its_residual():
    camera = replace(IDEAL, nonlinearity=0.03, nonlinearity_spread=0.0, full_well=1e5)
    light = np.tile(np.linspace(0.0, 1e5, 64), (64, 1))
    exact = replace(camera, nonlinearity_residual=0.0)
    np.testing.assert_allclose(electrons(read(exact, light)[0]), light, rtol=3e-6, atol=0.1)
    residual = electrons(read(replace(camera, nonlinearity_residual=0.2), light)[0]) - light
    # First order: error of the coefficient times the square of the charge, per channel.
    errors = residual[:, 8:] / light[:, 8:] ** 2 * 1e5 / 0.03
    per_channel = errors.reshape(2, 32, 7, 8).mean(axis=(1, 3))
    assert 0.08 < per_channel.std() < 0.4


def test_nonlinearity_moves_the_converters_ceiling_by_its_curve():
    camera = replace(
        IDEAL, nonlinearity=0.05, nonlinearity_spread=0.0, full_well=1e5, adc_max=65535.0
    )
    light = np.tile(np.linspace(70_000.0, 80_000.0, 1001), (64, 1))
    saturated = light[0, (read(camera, light)[0].flag[0] & 8) > 0].min()
    # The charge q whose q (1 − 0.05 q / 1e5) is 65034.5 ADU, at 1.1 e- each.
    expected = (1.0 - np.sqrt(1.0 - 4 * 5e-7 * 65034.5 * 1.1)) / (2 * 5e-7)
    assert saturated == pytest.approx(expected, abs=11.0)


def test_brighter_fatter_acts_on_light_not_on_cosmic_rays():
    camera = replace(IDEAL, brighter_fatter=4e-6, full_well=9e4)
    rays = np.zeros((64, 64))
    rays[30, 30] = 5e4
    assert electrons(read(camera, np.zeros((64, 64)), rays)[0])[30, 30] == pytest.approx(5e4)
    light = electrons(read(camera, rays)[0])
    # A quarter of the strength times the square goes to each neighbour.
    assert light[30, 31] == pytest.approx(0.25 * 4e-6 * 5e4**2, rel=1e-4)
    assert light[31, 30] == pytest.approx(0.25 * 4e-6 * 5e4**2, rel=1e-4)


def test_converter_clips_at_its_ceiling_and_flags():
    camera = replace(IDEAL, adc_max=65535.0, full_well=9e4)
    rays = np.zeros((64, 64))
    rays[30, 31], rays[12, 40] = 80_000.0, 71_000.0
    readout, _ = read(camera, np.full((64, 64), 150.0), rays)
    # (65535 − 500) ADU at 1.1 e-: 71.5 ke-, in 150 s 477 e-/s.
    assert readout.image[30, 31] == pytest.approx(65035 * 1.1 / TIME, rel=1e-6)
    assert readout.flag[30, 31] == 8
    assert (readout.flag > 0).sum() == 1
    assert camera.ceiling == pytest.approx(71_538.5)


def test_bleed_trails_at_full_well_are_flagged_below_the_converters_ceiling():
    camera = replace(IDEAL, full_well=2e4)
    light = np.zeros((64, 16))
    light[30, 5] = 2e4 * 7 + 5000.0
    readout, _ = read(camera, light)
    # One pixel and three full ones on either side; the rest of the charge beyond is less.
    assert np.array_equal(np.flatnonzero(readout.flag[:, 5] == 8), np.arange(27, 34))
    assert (readout.flag > 0).sum() == 7


def test_defects_have_their_bits_rates_and_places():
    camera = Camera(defect_rate=1e-3, bad_columns=0.0)
    chip = make_chip(np.random.default_rng(1), camera, (500, 600))
    expected = 1e-3 * 300_000
    tolerance = 5 * np.sqrt(expected)
    assert ((chip.flag & 1) > 0).sum() == pytest.approx(expected, abs=tolerance)
    assert chip.known_dark.size == pytest.approx(expected, abs=tolerance)
    y, x, level = chip.extra_dark
    hot, warm = chip.known_dark & (level > 1.0), chip.known_dark & (level <= 1.0)
    assert np.all(chip.flag[y[hot], x[hot]] & 2)
    assert np.all(chip.flag[y[warm], x[warm]] & 4)
    assert not (chip.flag & ~7).any()
    good = chip.response[chip.flag & 1 == 0]
    assert good.std() == pytest.approx(0.01, rel=0.02)


def test_bad_columns_end_where_their_channel_does():
    camera = replace(IDEAL, defect_rate=1e-12, bad_columns=200.0)
    chip = make_chip(np.random.default_rng(4), camera, (200, 900))
    bad = chip.flag & 1 > 0
    assert bad.any()
    lower, upper = bad[:100], bad[100:]
    # Read downwards the blockage hides all rows above it to the seam; upwards, below it.
    for half in (lower[:, lower.any(axis=0)], upper[::-1][:, upper.any(axis=0)]):
        assert np.all(half[-1])
        assert np.all(np.diff(half.astype(int), axis=0) >= 0)
    assert np.all(chip.response[bad] < 0.7)
    assert np.all(chip.response[~bad] == 1.0)


def test_known_hot_pixels_are_subtracted_with_an_error_and_new_ones_stay():
    camera = replace(IDEAL, defect_rate=5e-3, bad_columns=0.0, dark_residual=0.1)
    readout, chip = read(camera, np.zeros((300, 400)))
    y, x, level = chip.extra_dark
    single = np.array([((y == a) & (x == b)).sum() == 1 for a, b in zip(y, x, strict=True)])
    single &= chip.flag[y, x] & 1 == 0
    seen = readout.image[y, x] / level
    known = seen[single & chip.known_dark]
    assert known.std() == pytest.approx(0.1, rel=0.2)
    assert known.mean() == pytest.approx(0.0, abs=0.02)
    np.testing.assert_allclose(seen[single & ~chip.known_dark], 1.0, rtol=1e-4)


def test_channel_edges_split_evenly():
    assert channel_edges(9232, 2) == [0, 4616, 9232]
    assert channel_edges(9216, 8)[1] == 1152
    assert channel_edges(10, 3) == [0, 4, 7, 10]


@pytest.mark.parametrize(
    ("change", "away"),
    [
        ({"parallel_traps": (), "serial_traps": ()}, None),
        ({"defect_rate": 0.0}, "flagged"),
        ({"streaks": 0.0}, None),
        ({"bias_structure": 0.0}, None),
        ({"brighter_fatter": 0.0}, None),
        ({"flat_structure": 0.0}, None),
        ({"read_noise": 0.0}, None),
    ],
)
def test_switching_one_effect_off_leaves_the_other_draws(change, away):
    base = Camera(brighter_fatter=1e-6, adc_max=0.0, parallel_traps=(), serial_traps=())
    if "parallel_traps" in change:
        base = replace(base, parallel_traps=Camera.parallel_traps)
    if away is None:
        base = replace(base, defect_rate=0.0)
    light = np.full((96, 128), 60.0)
    full, chip = read(base, light)
    without, _ = read(replace(base, **change), light)
    difference = electrons(full) - electrons(without)
    if away == "flagged":
        y, x, _ = chip.extra_dark
        same = chip.flag == 0
        same[y, x] = False
        assert np.array_equal(full.image[same], without.image[same])
        return
    noise = np.sqrt(60.0 + 3.0 + 25.0)
    # Other draws of shot noise would differ by sqrt(2) times the shot noise.
    limit = 5.5 if "read_noise" in change else 0.25 * noise
    assert difference.std() < limit


def test_same_seed_same_bits():
    light = np.full((96, 128), 60.0)
    first, second = read(Camera(), light)[0], read(Camera(), light)[0]
    for name in ("image", "error", "flag", "image_without_cr"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert not np.array_equal(first.image, read(Camera(), light, seed=6)[0].image)


def test_cosmic_rays_change_only_their_pixels_and_trails():
    rays = np.zeros((256, 256))
    rays[40::60, 17::50] = 3000.0
    readout, chip = read(Camera(), np.full((256, 256), 60.0), rays)
    hit = rays > 0
    # Away from the amplifiers: up in the lower half, down in the upper, and to the right.
    reach = np.zeros_like(hit)
    for row, column in np.argwhere(hit):
        rows = slice(row, 128) if row < 128 else slice(128, row + 1)
        reach[rows, column : column // 32 * 32 + 32] = True
    assert np.array_equal(readout.image[~reach], readout.image_without_cr[~reach])
    added = (readout.image - readout.image_without_cr) * TIME
    usable = hit & (chip.flag == 0)
    assert np.all(added[usable] > 2700.0)
    still = replace(Camera(), parallel_traps=(), serial_traps=())
    readout, _ = read(still, np.full((256, 256), 60.0), rays)
    assert np.array_equal(readout.image[~hit], readout.image_without_cr[~hit])


def test_level_1_over_level_0_varies_as_response_and_calibration_say():
    rays = np.zeros((512, 512))
    rays[4::8, 4::8] = 20_000.0
    camera = Camera(
        parallel_traps=(), serial_traps=(), defect_rate=0.0, prnu=0.02, flat_residual=0.01
    )
    readout, chip = read(camera, np.full((512, 512), 60.0), rays)
    hit = rays > 0
    ratio = (readout.image - readout.image_without_cr)[hit] * TIME / 20_000.0
    channel = ratio.reshape(2, 32, 8, 8)
    within = np.sqrt(channel.var(axis=(1, 3)).mean())
    # The flat field divides the ray, though no pixel's response had multiplied it.
    assert within == pytest.approx(np.hypot(0.02, 0.01), rel=0.05)
    assert np.corrcoef(ratio, 1.0 / chip.response[hit])[0, 1] > 0.85
    between = channel.mean(axis=(1, 3)).std()
    # Gains to 0.2 per cent and, at 20 ke-, curves to 10 per cent of 0.4 per cent.
    assert 0.0008 < between < 0.006


def test_bias_structure_is_slow_and_of_the_stated_size():
    camera = replace(IDEAL, bias_structure=2.0)
    value = electrons(read(camera, np.zeros((512, 512)))[0]) / 1.1
    assert value.std() == pytest.approx(2.0, rel=0.35)
    steps = np.diff(value[:, :64], axis=0)
    assert np.abs(np.delete(steps, 255, axis=0)).max() < 0.3


def test_flat_structure_leaves_the_zero_point():
    camera = replace(IDEAL, flat_structure=0.02)
    value = electrons(read(camera, np.full((400, 300), 1000.0))[0]) / 1000.0
    assert value.mean() == pytest.approx(1.0, abs=1e-3)
    assert value.std() == pytest.approx(0.02, rel=0.6)


@pytest.mark.parametrize("change", [{"nonlinearity": 0.5}, {"brighter_fatter": 1e-4}])
def test_impossible_cameras_are_refused(change):
    with pytest.raises(InvalidInputError, match="expected"):
        Camera(**change)
