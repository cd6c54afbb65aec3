"""Recipes: which frames they ask for."""

import itertools

import pytest

pytest.importorskip("galsim")

from crmend_training import _cli_simulate
from crmend_training.recipe import DETECTORS, load_recipe


def test_every_detector_sees_every_field_and_every_pair_of_field_and_law_comes_up():
    recipe = load_recipe("second_detect")
    configs = _cli_simulate._recipe_configs(recipe, seed=0)
    fields, laws = recipe.simulate["fields"], recipe.simulate["laws"]
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
