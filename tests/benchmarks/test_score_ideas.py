"""Ideas for the score: the chosen one is the default score, and walks agree with lists of all paths."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings

from nas.proxies.dtmc import dtmc
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..nas.supernets import small_supernets
from .scripts import script

ideas = script("score_ideas")
tables = script("public_tables")


@given(small_supernets())
@settings(max_examples=25, deadline=None)
def test_the_chosen_idea_is_the_default_score(architecture):
    assert ideas.ideas(architecture)[ideas.CHOSEN] == pytest.approx(dtmc(architecture), abs=1e-9)


def test_a_plain_chain_has_one_path():
    """Its walk passes all learned operations, and its lazy walk with restarts is a cycle of n maps."""
    builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    x = builder.input
    for _ in range(4):
        x = builder.conv(x, 8, after=("norm", "relu"))
    builder.head(x)
    (level,) = ideas.levels_of(builder.architecture(1))
    assert level.path_entropy == pytest.approx(0, abs=1e-12)
    assert level.effective_depth == pytest.approx(5)
    assert level.gap == pytest.approx(1 - abs(1 + complex(math.cos(2 * math.pi / 7), math.sin(2 * math.pi / 7))) / 2)
    assert ideas.harmonic(ideas.score)([level, level]) == pytest.approx(ideas.score(level))


def test_an_identity_that_carries_an_activation_changes_nothing():
    def score(identity):
        builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
        x = builder.conv(builder.input, 8, after=("norm", "relu"))
        if identity:
            x = builder.identity(x, builder.map(8))
        builder.head(builder.conv(x, 8, after=("norm", "relu")))
        return ideas.ideas(builder.architecture(1))

    carried, chosen = "activations: act behind identities", ideas.CHOSEN
    assert score(True)[carried] == score(False)[carried] == score(False)[chosen]
    assert score(True)[chosen] != score(False)[chosen]


@pytest.mark.parametrize(
    ("build", "macs", "params"),
    [
        (lambda: tables.macro("02012100"), 47327744, 890666),
        (lambda: tables.macro("11111221"), 65012224, 2181386),
        (lambda: tables.cell("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|"
                             "nor_conv_3x3~2|", tables.CIFAR10), 220119680, 1531546),
    ],
)  # fmt: skip
def test_networks_of_public_tables_have_their_published_sizes(build, macs, params):
    architecture = build()
    assert architecture.costs == (macs,)
    assert ideas.levels_of(architecture)[0].params == params


def test_a_module_has_its_published_number_of_parameters():
    edges = [(0, 1), (0, 4), (0, 5), (1, 2), (2, 3), (2, 6), (3, 5), (4, 5), (5, 6)]
    adjacency = [[float((source, target) in edges) for target in range(7)] for source in range(7)]
    (level,) = ideas.levels_of(tables.module(adjacency, [-1, 0, 2, 0, 0, 1, -2]))
    assert level.params == 8555530


def test_a_cell_without_a_path_is_no_network():
    assert tables.cell("|none~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|", tables.CIFAR10) is None
