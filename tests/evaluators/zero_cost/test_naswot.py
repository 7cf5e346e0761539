"""NASWOT against closed forms, its invariances, and inputs with equal codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluators.zero_cost.naswot import NASWOT, SMALLEST_EIGENVALUE, code_kernel, log_determinant
from evaluators.zero_cost.scoring import draw_batches, fresh_network

from ...nas.hand_built import ALL
from .networks import one_by_one, set_weight, unlearned

EVERY_WORD = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T.copy()
"""All inputs of three units' signs, shape (8, 3)."""


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "hardswish"])
def test_kernel_of_known_codes(activation):
    network = fresh_network(one_by_one((3, 3), after=(activation,)))
    set_weight(network, 0, np.eye(3))
    kernel = code_kernel(network, torch.tensor(EVERY_WORD, dtype=torch.float32)[:, :, None, None], 0)
    hamming = (EVERY_WORD[:, None] != EVERY_WORD[None, :]).sum(2)
    np.testing.assert_array_equal(kernel.numpy(), 3 - hamming)


def test_units_of_all_layers_add_up():
    network = fresh_network(one_by_one((3, 5, 7), after=("norm", "relu"), activation="silu"))
    kernel = code_kernel(network, torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(0)), 0)
    assert (kernel.diagonal() == 2 * (5 + 7)).all()
    assert (kernel == kernel.T).all()


def test_determinant_of_two_inputs():
    units, distance = 50.0, 13.0
    kernel = torch.tensor([[units, units - distance], [units - distance, units]], dtype=torch.float64)
    assert log_determinant(kernel) == pytest.approx(math.log(units**2 - (units - distance) ** 2), rel=1e-12)


def test_determinant_equals_slogdet_where_codes_differ():
    network = fresh_network(ALL["residual"]())
    kernel = code_kernel(network, draw_batches(network.architecture, 1, 32)[0][0], 2).numpy()
    sign, expected = np.linalg.slogdet(kernel)
    assert sign == 1
    assert log_determinant(torch.from_numpy(kernel)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("inputs", "units"), [(2, 7), (16, 1000), (128, 300_000)])
def test_inputs_that_share_a_code_are_finite(inputs, units):
    """The kernel has one eigenvalue inputs · units, and 0 for the rest."""
    kernel = torch.full((inputs, inputs), float(units), dtype=torch.float64)
    expected = math.log(inputs * units) + (inputs - 1) * math.log(SMALLEST_EIGENVALUE)
    assert log_determinant(kernel) == pytest.approx(expected, rel=1e-9)


def test_fewer_distinct_codes_score_less():
    x = torch.tensor(EVERY_WORD, dtype=torch.float32)[:, :, None, None]
    network = fresh_network(one_by_one((3, 16), after=("relu",)))
    scores = [log_determinant(code_kernel(network, x[torch.arange(8) % distinct], 0)) for distinct in (1, 2, 4, 8)]
    assert scores == sorted(set(scores))


def test_no_units_is_the_least():
    assert NASWOT(batch_size=16)(unlearned()) == pytest.approx(16 * math.log(SMALLEST_EIGENVALUE))
    assert NASWOT(batch_size=16)(one_by_one((3, 4))) == pytest.approx(16 * math.log(SMALLEST_EIGENVALUE))


@pytest.mark.parametrize("name", ["residual", "causal", "gated_concat", "video"])
def test_order_of_the_batch_does_not_matter(name):
    network = fresh_network(ALL[name]())
    ((x, _),) = draw_batches(network.architecture, 1, 24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    plain, shuffled = (code_kernel(network, inputs, 0) for inputs in (x, x[order]))
    # statistics of the batch are summed in another order: a unit that is almost 0 may switch
    assert (plain[order][:, order] - shuffled).abs().max() <= 4
    assert log_determinant(plain) == pytest.approx(log_determinant(shuffled), rel=1e-2)
    assert log_determinant(plain) == pytest.approx(log_determinant(plain[order][:, order]), rel=1e-10)
