"""Permuted networks against the unpermuted ones with masked weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evaluators.rules.permutation import Permuted
from nas.execution.layers import activate
from nas.execution.network import AnytimeNetwork

from .steppings import construction, proposal, train


def masked(network: AnytimeNetwork, owners: dict[int, np.ndarray], x: torch.Tensor, level: int) -> torch.Tensor:
    """The network unpermuted: every weight between two filters masked by their new owners, at full width."""
    topology, values = network.architecture.topology, {0: x}
    for index, feature_map in enumerate(topology.maps[1:], start=1):
        total: Any = 0
        for o in topology.incoming[index]:
            operation, layer = topology.operations[o], network.operation_layers[o]
            value, weight = values[operation.source], layer.weight
            reads = torch.from_numpy(owners.get(operation.source, np.zeros(value.shape[1])))
            writes = torch.from_numpy(owners.get(operation.target, np.full(feature_map.channels, network.levels)))
            for step in operation.before:
                value = _normed(layer.before, value) if step == "norm" else activate(value, step)
            value = value * (reads <= level).reshape(1, -1, *(1 for _ in value.shape[2:]))
            if weight is not None:
                live = reads[None, :] <= writes[:, None]
                weight = weight * live.reshape(*live.shape, *(1 for _ in weight.shape[2:]))
            value = layer.kind.apply(operation, value, weight, layer.bias, 1)
            for step in operation.after:
                value = _normed(layer.after, value) if step == "norm" else activate(value, step)
            total = total + value
        values[index] = activate(total, feature_map.activation)
    return values[network.architecture.points[0].output].flatten(1)


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, norm.mean[0], norm.var[0], norm.weight[0], norm.bias[0], False, 0.0, 1e-5)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_permuted_network_is_the_unpermuted_one(norm, seed):
    made, rng = construction(proposal(norm=norm)), np.random.default_rng(seed)
    train(made, range(6))
    network = made.network.double().eval()
    network.augmented = 0.25
    moved = [np.minimum(owner + rng.integers(0, 3, len(owner)), 3) for owner in made.owners()]
    for owner in moved:
        owner[rng.choice(len(owner), 3, replace=False)] = range(3)
    permuted = Permuted(network, made.groups, _never_back(made.owners(), moved))
    owners = {i: o for maps, o in zip(made.groups, _never_back(made.owners(), moved)) for i in maps}
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    permuted.network.eval()
    assert permuted.network.augmented == 0.25
    with torch.no_grad():
        for level in range(3):
            expected = masked(network, owners, x, level)
            torch.testing.assert_close(permuted.network(x, level), expected, rtol=1e-12, atol=1e-12)


def _never_back(before: list[np.ndarray], after: list[np.ndarray]) -> list[np.ndarray]:
    """Owners that do not decrease, each subnet with a filter: the last three filters are those of the three."""
    return [np.concatenate([np.maximum(a, b)[:-3], [0, 1, 2]]) for a, b in zip(before, after)]


def test_opened_and_closed_weights_are_zero_and_others_stay():
    made = construction()
    train(made, range(5))
    network, owners = made.network, made.owners()
    moved = [owner.copy() for owner in owners]
    moved[0][0] = 1  # closes what the first layer's filter feeds in the smallest subnet
    moved[1][0] = 2  # opens what the second layer's filter may read now
    permuted = Permuted(network, made.groups, moved)
    index = 1  # from the first group to the second
    old, new = network.operation_layers[index].weight, permuted.network.operation_layers[index].weight
    rows, columns = (np.argsort(moved[g], kind="stable") for g in (1, 0))
    pairs = [(moved[0][i] <= moved[1][o], owners[0][i] <= owners[1][o]) for o in rows for i in columns]
    assert (True, False) in pairs
    assert (False, True) in pairs
    live = torch.tensor([now and before for now, before in pairs]).reshape(len(rows), len(columns), 1, 1)
    assert torch.equal(new, old.detach()[rows][:, columns] * live)
    assert torch.equal(permuted.carry("layers.1.weight", torch.ones_like(old)), live.float().expand_as(old))
