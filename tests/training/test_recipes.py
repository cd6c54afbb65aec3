"""Recipes: which frames they ask for."""

import itertools
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest

pytest.importorskip("galsim")

from crmend_training import _cli_simulate, cli
from crmend_training._checkpoints import read_checkpoint
from crmend_training.recipe import DETECTORS, load_recipe

CHECKPOINTS = Path(__file__).parents[2] / "exported_models" / "checkpoints"

LOST = {"csst18"}
"""Recipes of shipped weights that are not in the repository (exported_models/README.md)."""

UNNAMED = {"fc275ddb56ec5379": "base_detect"}
"""By fingerprint of the data set: the first round's records name no recipe, its cards do."""


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
        ('budget = "240s"', "budget = 60", "section teacher: budget is 60; expected text"),
        ('budget = "240s"', 'budget = "0s"', "budget 0 s.*a time and a rate above 0"),
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
        (
            "detectors = [8, 12]",
            "detectors = [8, 8]",
            "detectors are .8, 8.; expected each once",
        ),
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


def steps_of(*arguments):
    options = cli._parser().parse_args(["all", *arguments])
    return cli._steps(cli.load_recipe(options.recipe), options, Path("work"))


def test_all_runs_what_a_recipe_trains_and_packs_it_with_what_is_given():
    steps = steps_of("--recipe", "base_detect", "--inpaint", "mender.pt", "--fast", "quick.pt")
    assert [step[0] for step in steps] == [
        "simulate", "dataset", "detect", "calibrate", "export", "validate",
    ]  # fmt: skip
    weights = ["--detect", "work/runs/detect/final.pt", "--fast", "quick.pt"]
    assert steps[3][1:5] == weights
    assert steps[5] == ["validate", "work/exported_models", *weights, "--inpaint", "mender.pt"]
    steps = steps_of("--recipe", "base_inpaint", "--detect", "finder.pt")
    assert [step[:2] for step in steps[1:3]] == [
        ["dataset", "inpaint"],
        ["inpaint", "work/sets/inpaint"],
    ]
    assert steps[3][:3] == ["calibrate", "--detect", "finder.pt"]
    assert "--fast" not in steps[3]


def test_all_gives_teachers_and_bases_to_those_that_learn_from_them():
    steps = steps_of("--recipe", "smoke")
    trained = {step[step.index("--stage") + 1]: step for step in steps if "--stage" in step}
    assert list(trained) == [
        "teacher", "detect", "fast", "fine_detect", "inpaint", "fine_inpaint",
    ]  # fmt: skip
    taught = [stage for stage, step in trained.items() if "--teacher" in step]
    assert taught == ["detect", "fast", "fine_detect"]
    begun = {
        stage: step[step.index("--from") + 1]
        for stage, step in trained.items()
        if "--from" in step
    }
    assert begun == {
        "fine_detect": "work/runs/detect/final.pt",
        "fine_inpaint": "work/runs/inpaint/final.pt",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base_detect"], "'base_detect' has no [inpaint], and packs need such weights"),
        (["base_inpaint"], "expected another recipe, or --detect with a checkpoint"),
        (["distil_detect"], "has no [detect] and no [inpaint], and packs need such weights"),
        (["distil_detect"], "or --detect and --inpaint with a checkpoint"),
        (["smoke", "--fast", "f.pt"], "--fast f.pt: recipe 'smoke' has a section [fast]"),
        (["second_inpaint", "--detect", "d.pt"], "has no section [simulate]; expected one"),
        (["paper", "--detect", "d.pt", "--inpaint", "i.pt"], "no section [dataset.generic]"),
        (["base_detect", "--inpaint", "no.pt"], "no.pt does not exist; expected a checkpoint"),
    ],
)
def test_all_tells_what_is_missing_before_it_simulates(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(cli._cli_simulate, "_simulate", lambda _: pytest.fail("simulated"))
    work = tmp_path / "work"
    assert cli.main(["all", "--recipe", *arguments, "--work", str(work)]) == 3
    assert message in capsys.readouterr().err
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
        (
            ["--detector", "8", "--shape", "9216x9232"],
            "shape is (9216, 9232), larger than a chip; expected at most (9232, 9216)",
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


@pytest.mark.parametrize(
    ("arguments", "terminal", "galaxies", "frames"),
    [
        (["--detector", "8"], True, [True], False),
        (["--detector", "8"], False, [False], False),
        (["--recipe", "smoke"], True, [False] * 4, True),
    ],
)
def test_one_frame_shows_the_bar_of_its_galaxies_instead_of_its_own(
    tmp_path, monkeypatch, capsys, arguments, terminal, galaxies, frames
):
    asked = []
    monkeypatch.setattr(_cli_simulate, "workers", ThreadPoolExecutor)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(
        _cli_simulate.simulate, "simulate_exposure", lambda _, progress: asked.append(progress)
    )
    monkeypatch.setattr(
        _cli_simulate.simulate, "write_pair", lambda *_, **__: [Path("frame.fits")]
    )
    assert cli.main(["simulate", *arguments, "--jobs", "1", "--out", str(tmp_path)]) == 0
    assert asked == galaxies
    assert ("simulate:" in capsys.readouterr().err) == frames


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


def lineage(info):
    """Yield the recipe of a checkpoint's record and of all that it comes from."""
    parts = [part["info"] for part in info.get("average_of", ())]
    if not parts:
        yield info.get("recipe") or UNNAMED[info["data_fingerprint"]]
    parents = [info["initial"]] if "initial" in info else []
    for one in (*parts, *parents, *info.get("teachers", ())):
        yield from lineage(one)


def test_a_lineage_names_parts_parents_and_teachers():
    first, second = {"recipe": "first"}, {"recipe": "second", "teachers": [{"recipe": "third"}]}
    mean = {"recipe": "0.5 …", "average_of": [{"info": first}, {"info": second}]}
    names = list(lineage({"recipe": "last", "initial": mean}))
    assert names == ["last", "first", "second", "third"]


def test_recipes_of_shipped_weights_are_in_the_repository_or_said_to_be_lost():
    folder = resources.files("crmend_training.recipes")
    known = {file.name.removesuffix(".toml") for file in folder.iterdir()}
    found = {}
    for path in sorted(CHECKPOINTS.rglob("*.pt")):
        for name in lineage(read_checkpoint(path)["info"]):
            found.setdefault(name, path)
    assert {"nineteenth_detect", "fourth_detect", "sixth_inpaint"} <= set(found)
    missing = {name: str(path) for name, path in found.items() if name not in known}
    assert set(missing) == LOST, missing
    said = (CHECKPOINTS.parent / "README.md").read_text()
    assert all(re.search(rf"`{name}`.*\blost\b", said) for name in LOST)
