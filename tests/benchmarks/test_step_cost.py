"""Expected MACs of a training step."""

from dataclasses import replace

import pytest

from nas.representation.cost import subnetwork_macs
from nas.representation.elements import TrainingSpec
from nas.representation.supernet import choice_groups, favour

from ..nas.supernets import two_blocks
from .scripts import script

step_cost = script("step_cost")


def trained_by(rule, **settings):
    return replace(two_blocks(), training=TrainingSpec(rule=rule, settings=tuple(settings.items())))


def test_expected_macs_agree_with_the_exact_mean():
    architecture = two_blocks()
    topology = architecture.topology
    groups = favour(choice_groups(topology), (0, 1), 0.5)
    mean = 0.0
    for level in range(3):
        full = architecture.points[level]
        for branch, p in ((True, 0.6), (False, 0.4)):  # the skip costs nothing
            point = type(full)(
                channels=full.channels,
                operations=tuple(o for o in full.operations if o != 4 or branch),
                output=full.output,
            )
            mean += p / 3 * subnetwork_macs(topology, point)
    assert step_cost.expected_macs(architecture, groups, draws=4000) == pytest.approx(mean, rel=0.03)
    assert step_cost.expected_macs(architecture, groups) == step_cost.expected_macs(architecture, groups)


def test_step_of_sampled_subnetworks():
    """The smallest and the largest point, and the mean of sampled subnetworks times their number."""
    costs = two_blocks().costs
    none, one, two = (step_cost.step_macs(trained_by("path_sampling", sampled=n)) for n in (0, 1, 2))
    assert none == costs[0] + costs[-1]
    assert two - one == pytest.approx(one - none)
    assert costs[0] * 0.9 < one - none < costs[-1]


def test_step_of_joint_and_sandwich_training():
    costs = two_blocks().costs
    assert step_cost.step_macs(trained_by("joint")) == sum(costs)
    assert step_cost.step_macs(trained_by("sandwich", sampled=1)) == sum(costs)
