"""ZiCo against gradients and sums worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluators.zero_cost.scoring import draw_batches, fresh_network
from evaluators.zero_cost.zico import ZiCo, gradients, log_steadiness
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ...nas.hand_built import ALL
from .networks import unlearned


def test_one_linear_layer_by_hand():
    """The gradient of the cross-entropy of Wx is (softmax(Wx) − onehot(y)) xᵀ, mean over the batch."""
    builder = Builder(Task(input_shape=(4, 1, 1), num_classes=3))
    builder.add("linear", builder.input, builder.map(3))
    architecture = builder.architecture(1)
    network = fresh_network(architecture)
    weight = network.operation_layers[0].weight.detach().double().numpy()
    drawn = draw_batches(architecture, 3, 8)
    by_hand = []
    for x, labels in drawn:
        x_NC, y_N = x.double().flatten(1).numpy(), labels.numpy()
        exp_NK = np.exp(x_NC @ weight.T)
        error_NK = exp_NK / exp_NK.sum(1, keepdims=True) - np.eye(3)[y_N]
        by_hand.append((error_NK.T @ x_NC / 8).ravel())
    (gradient_BP,) = gradients(network, drawn, 0)
    np.testing.assert_allclose(gradient_BP.numpy(), by_hand, rtol=1e-4, atol=1e-6)
    by_hand = np.array(by_hand)
    expected = np.log((np.abs(by_hand).mean(0) / by_hand.std(0)).sum())
    assert ZiCo(batches=3, batch_size=8)(architecture) == pytest.approx(expected, rel=1e-3)


def test_steadiness_by_hand():
    first = torch.tensor([[1.0, 2.0, 5.0], [3.0, -2.0, 5.0]])  # 2/1 + 2/2; the third does not vary
    second = torch.tensor([[1.0], [-1.0]])  # 1/1
    assert log_steadiness([first]) == pytest.approx(math.log(3))
    assert log_steadiness([first, second]) == pytest.approx(math.log(3) + math.log(1))
    assert log_steadiness([first, 1000 * first]) == pytest.approx(2 * math.log(3))


def test_constant_and_overflowing_gradients_are_left_out():
    assert log_steadiness([]) == 0.0
    assert log_steadiness([torch.tensor([[0.1]] * 3)]) == 0.0
    assert log_steadiness([torch.tensor([[1.0, math.inf, math.nan], [3.0, 1.0, 1.0]])]) == pytest.approx(math.log(2))
    network = fresh_network(ALL["residual"]())
    (batch,) = draw_batches(network.architecture, 1, 8)
    assert log_steadiness(gradients(network, [batch, batch], 2)) == 0.0
    assert ZiCo(batch_size=4)(unlearned()) == 0.0


def test_gradients_are_of_live_operations_and_leave_no_state_behind():
    architecture = ALL["gated_residual"]()
    network = fresh_network(architecture)
    drawn = draw_batches(architecture, 2, 4)
    for level, point in enumerate(architecture.points):
        learned = [o for o in point.operations if network.operation_layers[o].weight is not None]
        assert len(gradients(network, drawn, level)) == len(learned)
    assert all(p.grad is None for p in network.parameters())
