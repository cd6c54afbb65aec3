import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from crmend._views import TURNS, VIEWS, in_views  # noqa: E402
from crmend_training import (  # noqa: E402
    _training,
    datasets,
    networks,
    recipe,
    train_detect,
    train_inpaint,
    validate,
    widening,
)


def test_detection_learns_easy_cosmic_rays_and_resumes(sets):
    settings = train_detect.DetectRecipe(
        {"architecture": "deepcr", "hidden": 8}, crop=64, batch=4
    )
    out = sets / "run"
    place = _training.Paths(sets / "detect", out)
    untrained = train_detect.train(place, settings, _training.Schedule(steps=0, budget=3600.0))
    schedule = _training.Schedule(steps=40, budget=3600.0, rate=5e-3)
    run = train_detect.train(place, settings, schedule)
    before, after = (r.history[-1]["held_out_loss"] for r in (untrained, run))
    assert after < 0.5 * before
    longer = _training.Schedule(steps=60, budget=3600.0, rate=5e-3)
    resumed = train_detect.train(dataclasses.replace(place, resume=True), settings, longer)
    assert resumed.step == 60
    assert len(resumed.history) == len(run.history) + 1
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    checked = [row["step"] for row in rows if "held_out_loss" in row]
    assert checked == [0, 40, 60]
    final = torch.load(out / "final.pt", weights_only=True)
    assert final["config"] == {"architecture": "deepcr", "hidden": 8}


def test_a_fresh_run_starts_from_the_weights_of_another(sets):
    settings = train_detect.DetectRecipe({"architecture": "deepcr", "hidden": 8}, crop=64)
    place = _training.Paths(sets / "detect", sets / "base")
    base = train_detect.train(place, settings, _training.Schedule(steps=30, budget=3600.0))
    tuned = _training.Paths(sets / "detect", sets / "tuned", initial=sets / "base" / "final.pt")
    run = train_detect.train(tuned, settings, _training.Schedule(steps=0, budget=3600.0))
    assert run.step == 0
    # Final weights are rounded to half precision.
    before = base.history[-1]["held_out_loss"]
    assert run.history[-1]["held_out_loss"] == pytest.approx(before, rel=1e-3)
    assert run.info["initial"]["steps"] == 30


def test_final_weights_may_be_a_mean_with_the_first_ones(sets):
    config = {"architecture": "deepcr", "hidden": 8}
    settings = train_detect.DetectRecipe(config, crop=64, initial_share=0.25, on_sources=3.0)
    place = _training.Paths(sets / "detect", sets / "base")
    schedule = _training.Schedule(steps=3, budget=3600.0, rate=5e-3)
    with pytest.raises(ValueError, match=r"initial_share is 0\.25 and .* None; expected"):
        train_detect.train(place, settings, schedule)
    outside = dataclasses.replace(settings, initial_share=1.5)
    with pytest.raises(ValueError, match=r"initial_share is 1\.5 and .*between 0 and 1"):
        train_detect.train(dataclasses.replace(place, initial=place.out), outside, schedule)
    train_detect.train(place, train_detect.DetectRecipe(config, crop=64), schedule)
    tuned = _training.Paths(sets / "detect", sets / "tuned", initial=sets / "base" / "final.pt")
    run = train_detect.train(tuned, settings, schedule)
    first, last, mean = (
        torch.load(path, weights_only=False)["state_dict"]
        for path in (tuned.initial, tuned.out / "checkpoint.pt", tuned.out / "final.pt")
    )
    for name, weights in mean.items():
        expected = 0.25 * first[name].float() + 0.75 * last[name].float()
        torch.testing.assert_close(weights.float(), expected, rtol=1e-3, atol=1e-4)
        assert not torch.equal(first[name].float(), last[name].float())
    assert run.info["initial_share"] == 0.25


def test_inpainting_run_writes_a_checkpoint_with_flux_errors(sets):
    settings = train_inpaint.InpaintRecipe(
        {"architecture": "unetplusplus", "filters": [8, 8]}, batch=16
    )
    schedule = _training.Schedule(steps=100, budget=3600.0, rate=5e-3)
    run = train_inpaint.train(
        _training.Paths(sets / "inpaint", sets / "run"), settings, schedule
    )
    scores = run.info["validation"]
    # No fill knows how sharp the stars are; a little training already gains on that.
    assert scores["fill_scatter"] > 0.02
    assert scores["network_scatter"] < 0.75 * scores["fill_scatter"]
    final = torch.load(sets / "run" / "final.pt", weights_only=True)["state_dict"]
    for name, weights in run.network.state_dict().items():
        assert final[name].dtype == torch.float16
        torch.testing.assert_close(final[name].float(), weights, rtol=1e-3, atol=1e-6)


def test_an_uncertainty_is_learnt_alone_and_leaves_the_mended_pixels(sets):
    config = {"architecture": "unetplusplus", "filters": [8, 8], "sigma": True}
    place = _training.Paths(sets / "inpaint", sets / "base")
    first = train_inpaint.InpaintRecipe(config, batch=16)
    schedule = _training.Schedule(steps=40, budget=3600.0, rate=5e-3)
    train_inpaint.train(place, first, schedule)
    base = torch.load(sets / "base" / "final.pt", weights_only=True)["state_dict"]
    alone = train_inpaint.InpaintRecipe(
        config | {"sigma_filters": 4}, batch=16, only_sigma=True
    )
    place = _training.Paths(
        sets / "inpaint", sets / "alone", initial=sets / "base" / "final.pt"
    )
    run = train_inpaint.train(
        place, alone, _training.Schedule(steps=150, budget=3600.0, rate=2e-2)
    )
    for name, weights in run.network.state_dict().items():
        if not name.startswith("spread."):
            torch.testing.assert_close(weights, base[name].float(), rtol=0, atol=0)
    assert 0.6 < run.info["validation"]["within_1"] < 0.76
    wrong = train_inpaint.InpaintRecipe(config | {"sigma": False}, only_sigma=True)
    with pytest.raises(ValueError, match="only_sigma is true and sigma is not"):
        train_inpaint.train(dataclasses.replace(place, initial=None), wrong, schedule)


def test_resuming_with_another_network_is_refused(sets):
    settings = train_detect.DetectRecipe({"architecture": "deepcr", "hidden": 8}, crop=64)
    schedule = _training.Schedule(steps=1, budget=3600.0)
    place = _training.Paths(sets / "detect", sets / "run")
    train_detect.train(place, settings, schedule)
    other = train_detect.DetectRecipe({"architecture": "deepcr", "hidden": 16}, crop=64)
    with pytest.raises(ValueError, match="the recipe asks for"):
        train_detect.train(dataclasses.replace(place, resume=True), other, schedule)


def test_injected_ray_lands_where_it_is_moved():
    array = np.zeros((8, 8), bool)
    array[1, 2] = True
    assert np.argwhere(train_inpaint.moved(array, 3, -2)).tolist() == [[4, 0]]
    assert not train_inpaint.moved(array, -2, 0).any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarter", range(4))
def test_a_turned_cutout_keeps_its_centre_and_its_psf(quarter, flip):
    """An elongated star off the middle, turned as an image and as a PSF."""
    psf = np.array([[1.0, 4.0, 1.5, 2.0], [0.0, 0.0, 0.0, 0.0]])

    def draw(part):
        y, x = np.mgrid[:64, :64] - 32.0
        (_, xx, xy, yy), *_ = part
        return np.exp(-0.5 * (yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2))

    image = train_inpaint.turned_cutout(draw(psf), quarter, flip)
    expected = draw(train_inpaint.turned_psf(psf, quarter, flip))
    assert len(train_inpaint.turned_psf(psf, quarter, flip)) == 1
    np.testing.assert_allclose(image[1:, 1:], expected[1:, 1:], atol=1e-12)


def test_inpainting_sets_hold_the_psf_of_their_stars(sets):
    psf = datasets.load_column(sets / "inpaint", "inpaint/psf")
    assert psf.shape[1:] == (7, 4)
    # Stars of sigma 0.9; variances of Gaussians add up.
    np.testing.assert_allclose(psf[:, :, 0].sum(axis=1), 1.0)
    variance = (psf[:, :, 0] * psf[:, :, 1]).sum(axis=1)
    np.testing.assert_allclose(variance, 0.81, rtol=0.08)


def test_first_fill_continues_a_plane_whatever_the_cosmic_ray_left():
    # Cubic polynomials solve the biharmonic equation; a small plane is one in its asinh.
    image = (np.arange(144, dtype=np.float32).reshape(12, 12) - 70.0) * 1e-3
    mask = np.zeros(image.shape, bool)
    mask[5, 5] = mask[5, 6] = True
    damaged = np.where(mask, np.float32(1e6), image)
    filled = train_inpaint.first_fill(damaged, mask)
    np.testing.assert_allclose(filled, image, atol=1e-6)
    np.testing.assert_array_equal(filled[~mask], image[~mask])


def test_schedule_ends_by_steps_or_by_time_and_cools_down():
    schedule = _training.Schedule(steps=1000, budget=100.0, rate=1e-3)
    assert schedule.progress(500, 90.0) == pytest.approx(0.9)
    assert schedule.progress(2000, 0.0) == 1.0
    assert schedule.rate_at(500, 0.5) == pytest.approx(1e-3 * (0.01 + 0.99 * 0.5))
    assert schedule.rate_at(999, 1.0) == pytest.approx(1e-5)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("35m", 2100), ("1.5h", 5400)])
def test_times(text, seconds):
    assert recipe.parse_time(text) == seconds


def test_bundled_recipes_parse_and_a_wrong_name_lists_them():
    assert recipe.load_recipe("smoke").schedule("detect").steps > 0
    assert recipe.load_recipe("base_inpaint").settings("inpaint").alpha == 4.0
    with pytest.raises(ValueError, match="no section 'teacher'; it has inpaint"):
        recipe.load_recipe("base_inpaint").settings("teacher")
    with pytest.raises(FileNotFoundError, match=r"smoke\.toml"):
        recipe.load_recipe("no-such-recipe")
    assert recipe.load_recipe("smoke.toml") == recipe.load_recipe("smoke")
    with pytest.raises(FileNotFoundError, match=r"'nowhere/smoke\.toml' is no file \(now in"):
        recipe.load_recipe("nowhere/smoke.toml")
    with pytest.raises(ValueError, match="not a number and one of"):
        recipe.parse_time("soon")


def test_a_widened_network_does_what_the_narrow_one_did():
    torch.manual_seed(3)
    narrow = networks.UNetPlusPlus((4, 6, 10), mirror=True)
    wide = networks.UNetPlusPlus((6, 8, 12), mirror=True, sigma=True)
    with torch.no_grad():
        for head in narrow.heads:
            head.weight.normal_(std=0.1)
    widening.widen(wide, narrow.state_dict(), narrow.filters)
    image = 20.0 * torch.randn(2, 1, 40, 40)
    mask = (torch.rand(2, 1, 40, 40) < 0.1).float()
    with torch.no_grad():
        expected, (found, _) = narrow(image, mask), wide(image, mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (expected - image).abs().max() > 1.0
    with pytest.raises(ValueError, match="do not fit into"):
        widening.widen(narrow, wide.state_dict(), wide.filters)


def test_a_network_that_learns_of_profiles_starts_where_it_was():
    plain = networks.UNetPlusPlus((4, 8), mirror=True, sigma=True)
    torch.nn.init.normal_(plain.heads[0].weight, std=0.05)
    told = networks.UNetPlusPlus((4, 8), mirror=True, sigma=True, profile=True)
    widening.widen(told, plain.state_dict(), plain.filters)
    image, profile = (100 * torch.rand(2, 1, 16, 16) for _ in range(2))
    mask = (torch.rand(2, 1, 16, 16) < 0.2).float()
    with torch.no_grad():
        for one, other in zip(plain(image, mask), told(image, mask, profile), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        told.nodes["0_0"][0].weight[:, 6:] = 0.1
        assert (told(image, mask, profile)[0] - plain(image, mask)[0]).abs().max() > 1e-3


def test_network_input_goes_back_to_noise_units():
    image = np.array([[-3.0, 0.0, 1.5, 4e4]], np.float32)
    back = train_detect.noise_units(torch.from_numpy(train_detect.detect_input(image)))
    np.testing.assert_allclose(back.numpy(), image, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("views", VIEWS)
def test_a_teacher_sees_what_the_runtime_shows_it_in_several_views(views):
    torch.manual_seed(3)
    network = networks.build({"architecture": "folded", "width": 8, "depth": 2}).eval()
    crops = np.random.default_rng(4).normal(size=(1, 1, 32, 32)).astype(np.float32)
    expected = in_views(validate.network_runner(network), views)(crops, True)
    found = train_detect.mean_logits(network, torch.from_numpy(crops), TURNS[:views])
    np.testing.assert_allclose(torch.sigmoid(found).numpy(), expected, atol=1e-5)


def test_a_student_follows_the_mean_of_its_teachers_turned_at_random(sets):
    config = {"architecture": "folded", "width": 8, "depth": 2}
    teachers = [sets / f"{seed}.pt" for seed in (5, 6)]
    for seed, path in zip((5, 6), teachers, strict=True):
        run = _training.start(config, seed, {"seed": seed}, None)
        # Each says one thing of every pixel, far from what the set says.
        torch.nn.init.zeros_(run.network.head.weight)
        torch.nn.init.constant_(run.network.head.bias, float(seed - 6))
        _training.save(run, path, final=True)
    settings = train_detect.DetectRecipe(config, crop=64, distil=1.0, teacher_views=0)
    place = _training.Paths(sets / "detect", sets / "student", teachers=tuple(teachers))
    schedule = _training.Schedule(steps=60, budget=3600.0, rate=2e-2)
    run = train_detect.train(place, settings, schedule)
    assert [one["seed"] for one in run.info["teachers"]] == [5, 6]
    with torch.no_grad():
        found = torch.sigmoid(run.network.logits(torch.zeros(1, 1, 64, 64))).mean()
    # The mean of the probabilities at log-odds of -1 and 0.
    assert 0.33 < float(found) < 0.44
    drawn = {
        train_detect.teacher_turns(0, rng)[0] for rng in map(np.random.default_rng, range(99))
    }
    assert drawn == set(TURNS)


@pytest.mark.parametrize("kind", ["sharp", "straight", "wide"])
def test_batches_hold_sharp_events_where_the_recipe_says_so(sets, kind):
    def masks(share):
        bright = {"crop": 64, "sharp_charge": (1e3, 1e4), kind: share}
        recipe = train_detect.DetectRecipe(config={}, **bright)
        batches = train_detect.DetectBatches(sets / "detect", [0, 1, 2], recipe)
        image, mask, _ = batches.draw(np.random.default_rng(2))
        return float(image.max()), bool(mask.ravel()[image.argmax()])

    plain, sharp = masks(0.0), masks(1.0)
    assert sharp[0] > plain[0] + 1.0
    assert sharp[1]  # the brightest pixel is one of theirs
