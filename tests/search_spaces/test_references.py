"""References of the shipped spaces: which designs they are, and that they exist for usual limits of MACs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.plugins import installed, load_plugin
from nas.representation.elements import Task, TrainingSpec
from nas.representation.heads import own_heads
from nas.spaces.references import built_references
from search_spaces.slicing import i_resnext, sparse_resnext

FASHION = Task(input_shape=(1, 28, 28), num_classes=10)
CIFAR = Task(input_shape=(3, 32, 32), num_classes=10)
DIGITS = Task(input_shape=(1, 8, 8), num_classes=10)
VIDEO = Task(input_shape=(3, 8, 16, 16), num_classes=10)


def _references(space, task, max_macs=float("inf")):
    return built_references(load_plugin("nas.search_spaces", space)(), task, max_macs)


@pytest.mark.parametrize("space", sorted(installed("nas.search_spaces")))
@pytest.mark.parametrize(("task", "most"), [(FASHION, 3e6), (CIFAR, 4.5e6), (DIGITS, 1e6)], ids=str)
def test_every_space_has_references_for_usual_limits(space, task, most):
    references = _references(space, task, most)
    assert 1 <= len(references) <= 12
    assert max(one.architecture.costs[-1] for one in references) > most / 4


def test_videos_have_references():
    assert {one.reference.design for one in _references("throttleable", VIDEO)} == {"throttleable C3D"}


def test_slicing_has_the_block_triangular_network_with_distillation():
    by_size = {one.reference.name: one.architecture for one in _references("slicing", FASHION, 3e6)}
    plain = sparse_resnext(1, (12, 20, 28, 36), 2, (4, 16, 28, 40), stride=2, task=FASHION)
    distilled = TrainingSpec(rule="causal", settings=(("distill", 1.0),))
    expected = replace(own_heads(plain), training=distilled)
    assert by_size["block-triangular ResNeXt, width 36, 40 branches"].key == expected.key


def test_slicing_has_i_resnext_in_the_released_proportions():
    by_size = {one.reference.name: one.architecture for one in _references("slicing", CIFAR)}
    expected = i_resnext(4, 64, 4, 8, 4, stride=2, task=CIFAR)
    assert by_size["I-ResNeXt, width 64, 4 blocks per stage"].key == expected.key


def test_residual_and_slimmable_agree_on_a_resnet_8():
    residual = {one.reference.name: one.architecture for one in _references("residual", FASHION, 3e6)}
    slimmable = {one.reference.name: one.architecture for one in _references("slimmable", FASHION, 3e6)}
    assert residual["ResNet-8, width 16"].key == slimmable["US-Net of a ResNet-8, width 16"].key


def test_a_mobilenet_expands_all_but_its_first_block():
    for one in _references("mobile", CIFAR):
        choices = one.reference.choices
        wide = {value for name, value in choices.items() if name.endswith(" expansion") and name != "0.0 expansion"}
        assert choices["0.0 expansion"] == 1
        assert wide in ({3}, {6})
