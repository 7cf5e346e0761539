"""Recipes: presets of the papers, settings as text, and the learning rate over time."""

from __future__ import annotations

import pytest

from nas.config import Config
from nas.config.recipes import RECIPES, Recipe, parse_recipe
from nas.errors import UserError
from nas.evaluation.rule import parse_rule
from nas.evaluation.training_rules import load_rule


def test_the_factor_of_each_schedule() -> None:
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    factors = {
        "cosine": [1.0, 0.8536, 0.5, 0.1464, 0.0],
        "linear": [1.0, 0.75, 0.5, 0.25, 0.0],
        "step": [1.0, 1.0, 0.1, 0.01, 0.01],
        "constant": [1.0] * 5,
    }
    for schedule, expected in factors.items():
        recipe = Recipe(schedule=schedule, warm_up=0.0)
        assert [recipe.factor(share) for share in shares] == pytest.approx(expected, abs=1e-4)
    assert Recipe(warm_up=0.2, schedule="constant").factor(0.1) == pytest.approx(0.5)


@pytest.mark.parametrize("name", RECIPES)
def test_the_rule_of_a_recipe_can_be_loaded_and_replaced(name: str) -> None:
    rule = parse_recipe(name).rule
    assert Config(recipe=name).training_rule == rule
    assert Config(recipe=name, rule="joint").training_rule == "joint"
    if name == "default":
        assert rule is None
    else:
        load_rule(parse_rule(rule))


def test_settings_replace_those_of_the_preset() -> None:
    recipe = parse_recipe("us_net:schedule=cosine,learning_rate=0.01,batch_size=32,best=true")
    assert (recipe.schedule, recipe.learning_rate, recipe.batch_size, recipe.best) == ("cosine", 0.01, 32, True)
    assert recipe.weight_decay == RECIPES["us_net"].weight_decay


def test_another_optimiser_has_a_rate_of_its_own() -> None:
    assert parse_recipe("tips:optimiser=adamw").learning_rate is None
    assert parse_recipe("tips:optimiser=adamw,learning_rate=0.02").learning_rate == 0.02
    assert parse_recipe("tips:optimiser=sgd").learning_rate == 0.04


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tip", "Unknown recipe 'tip'. Did you mean 'tips'"),
        ("tips:moment=0.9", "Unknown setting of a recipe 'moment'. Did you mean 'momentum'"),
        ("tips:rule=joint", "Unknown setting of a recipe 'rule'"),
        ("default:schedule=cosin", "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        ("default:optimiser=adam", "Unknown optimiser 'adam'. Did you mean 'adamw'"),
        ("default:momentum=1", "momentum must be from 0 to below 1. Got 1"),
        ("default:momentum=high", "momentum must be from 0 to below 1. Got 'high'"),
        ("default:momentum=0", "nesterov=true needs momentum"),
        ("default:optimiser=adamw,nesterov=true", "nesterov is a setting of SGD"),
        ("default:warm_up=-0.1", "warm_up must be from 0"),
        ("default:clip=-1", "clip must be at least 0"),
        ("default:best=1", "best must be true or false. Got 1"),
        ("default:batch_size=1", "batch_size must be at least 2"),
        ("default:learning_rate=0", "learning_rate must be positive"),
        ("default:momentum", "Unknown recipe 'default:momentum'"),
        ("default:=3", "Settings of a recipe must be like"),
        ("default:clip=1,clip=2", "clip twice"),
    ],
)
def test_recipes_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(recipe=text)
