"""Expected MACs of a training step, by training rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators.rules.path_sampling import UniformSampling
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture, macs
from nas.representation.cost import subnetwork_macs
from nas.representation.supernet import ChoiceGroup, sample_subnetwork
from nas.seeds import seed


def step_macs(architecture: Architecture) -> float:
    """Expected MACs of one example in the forward passes of a training step."""
    rule = load_plugin("nas.training_rules", architecture.training.rule)(**dict(architecture.training.settings))
    costs = macs(architecture)
    if architecture.training.rule == "joint":
        return sum(costs)
    if isinstance(rule, UniformSampling):
        always = {architecture.points[-1], architecture.points[0]}
        drawn = 0.0
        if rule.sampled:
            drawn = expected_macs(architecture, rule.choice_groups(architecture), widths=rule.widths)
        return sum(subnetwork_macs(architecture.topology, point) for point in always) + rule.sampled * drawn
    between = costs[1:-1]
    return costs[0] + costs[-1] + (min(rule.sampled, len(between)) * float(np.mean(between)) if between else 0.0)


def expected_macs(
    architecture: Architecture, groups: Sequence[ChoiceGroup], *, widths: str = "common", draws: int = 1000
) -> float:
    """Mean MACs of ``draws`` sampled subnetworks, with a fixed seed."""
    rng = np.random.default_rng(seed("expected macs", draws))
    topology = architecture.topology
    sampled = (sample_subnetwork(architecture, groups, rng, widths=widths) for _ in range(draws))
    return sum(subnetwork_macs(topology, point) for point in sampled) / draws
