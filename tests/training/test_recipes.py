"""Recipes: which frames they ask for."""

import itertools
from importlib import resources

import pytest

pytest.importorskip("galsim")

from crmend_training import _cli_simulate, cli
from crmend_training.recipe import DETECTORS, load_recipe


def test_every_detector_sees_every_field_and_every_pair_of_field_and_law_comes_up():
    recipe = load_recipe("second_detect")
    configs = _cli_simulate._recipe_configs(recipe, seed=0)
    fields, laws = recipe.frames.fields, recipe.frames.laws
    for detector in DETECTORS:
        own = {config.field for config in configs if config.detector == detector}
        assert own == set(fields)
    pairs = {(config.field, config.law) for config in configs}
    assert pairs == set(itertools.product(fields, laws))


@pytest.mark.parametrize("name", ["base_detect", "base_inpaint", "validation", "unseen"])
def test_no_two_recipes_share_a_seed(name):
    own = {c.seed for c in _cli_simulate._recipe_configs(load_recipe(name), 0)}
    others = {c.seed for c in _cli_simulate._recipe_configs(load_recipe("second_detect"), 0)}
    assert not own & others


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "crop = 64",
            "crop = 64\nbathc = 3",
            "section teacher has unknown keys bathc; expected",
        ),
        ("steps = 150\n", "", "section detect lacks steps; expected a whole number"),
        ("steps = 150", 'steps = "150"', "section detect: steps is '150'; expected a whole"),
        ("rate = 2e-3", "rate = inf", "section teacher: rate is inf; expected a number"),
        ("batch = 4", "offset = nan", "section teacher: offset is nan; expected a number"),
        ("hidden = 32", "hidden = 0", "section detect: deepcr: hidden is 0; expected 1 or"),
        ("depth = 3", "depth = 0", "section teacher: folded: depth is 0; expected 1 or more"),
        ("filters = [16, 32, 64]", "filters = []", "filters is ..; expected 1 or more"),
        ("steps = 150", "steps = -150", "section detect: steps is -150"),
        ('budget = "60s"', "budget = 60", "section teacher: budget is 60; expected text"),
        ('budget = "60s"', 'budget = "0s"', "budget 0 s.*a time and a rate above 0"),
        ("rate = 2e-3", "rate = -2e-3", "rate -0.002"),
        ("batch = 4", "batch = 0", "batch is 0; expected at least 1"),
        ("batch = 4", "hard = 2", "hard is 2; expected a share between 0 and 1"),
        ("batch = 4", "noise_range = [1.2]", "noise_range is .1.2.; expected a list, its 2"),
        ("batch = 4", "noise_range = [1.2, 1.0]", "two numbers above 0 in their order"),
        ("batch = 4", "teacher_views = 3", "teacher_views is 3; expected one of 1, 2, 4, 8"),
        ("batch = 4", "sharp = 1.5", "sharp is 1.5; expected a share between 0 and 1"),
        (
            "hidden = 32",
            "hiden = 32",
            "section detect: config of deepcr has unknown keys hiden",
        ),
        (
            '"deepcr"',
            '"unetplusplus"',
            "section detect: architecture 'unetplusplus' is for another",
        ),
        ("stamp = 128", "stamps = 128", "section dataset.detect has unknown keys stamps"),
        ("frames = 1\nshape", "frame = 1\nshape", "dataset.generic has unknown keys frame;"),
        ('laws = ["paper", "physical"]', 'laws = "paper"', "laws is 'paper'; expected a list"),
        ("shape = [512, 512]", "shape = [512]", "shape is .512.; expected a list, its 2"),
        ("[fast]", "[fats]", "unknown sections fats; expected some of simulate, dataset"),
        ("[dataset.zoo]", "[dataset.zo]", "unknown sections dataset.zo; expected some of"),
        ("crop = 64", "crop = ", "Invalid value"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_its_name_and_section(
    tmp_path, old, new, message
):
    path = tmp_path / "mine.toml"
    text = resources.files("crmend_training.recipes").joinpath("smoke.toml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf"recipe '.*mine\.toml': .*{message}"):
        load_recipe(str(path))


def test_a_budget_that_cannot_be_is_told_before_anything_is_simulated(tmp_path, capsys):
    work = tmp_path / "work"
    assert cli.main(["all", "--recipe", "smoke", "--budget", "20", "--work", str(work)]) == 3
    assert "time '20' is not a number and one of s, m, h" in capsys.readouterr().err
    assert not work.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "fine_tune"], "recipe 'fine_tune' has no section [simulate]; expected"),
        (["--recipe", "smoke", "--law", "physical"], "--law would change what the recipe says"),
        (
            ["--detector", "8", "--shape", "512"],
            "'512' is no shape; expected such as 2048x1024",
        ),
        (["--detector", "8", "--seed", "99999999999"], "expected 0 to 99999999"),
        (["--detector", "8", "--jobs", "0"], "'0' is no whole number of at least 1"),
        (["--detector", "8", "--without", "cti, gosts"], "without names ['gosts']"),
    ],
)
def test_simulate_says_what_it_expects(tmp_path, capsys, arguments, message):
    try:
        code = cli.main(["simulate", *arguments, "--out", str(tmp_path / "frames")])
    except SystemExit as usage:
        code = usage.code
    assert code in (2, 3)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "frames").exists()


def test_simulate_resumes_frames_of_the_same_settings_only(tmp_path, capsys):
    one = ["simulate", "--detector", "8", "--jobs", "1", "--out", str(tmp_path), "--resume"]
    assert cli.main([*one, "--shape", "64x64"]) == 0
    (frame,) = tmp_path.glob("*_SCI_*")
    before = frame.stat().st_mtime_ns
    assert cli.main([*one, "--shape", "64x64"]) == 0
    assert cli.main([*one, "--shape", "64x80"]) == 3
    told = capsys.readouterr().err
    assert "((64, 64), 'mid', 'paper', '', False); now they are ((64, 80)" in told
    assert cli.main([*one, "--shape", "64x64", "--brighter-fatter"]) == 3
    assert "'paper', '', False); now they are" in capsys.readouterr().err
    assert frame.stat().st_mtime_ns == before


def test_every_bundled_recipe_can_be():
    names = [f.name for f in resources.files("crmend_training.recipes").iterdir()]
    recipes = [load_recipe(name) for name in names if name.endswith(".toml")]
    assert len(recipes) > 20
    assert all(r.simulate or r.dataset or r.trainings for r in recipes)
