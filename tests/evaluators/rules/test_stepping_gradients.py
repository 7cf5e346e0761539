"""Gradients and losses of SteppingNet: suppression, importance, pruning and distillation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from evaluators.rules.stepping import SteppingConstruction
from nas.representation.architecture import macs
from nas.representation.ownership import with_slices

from .steppings import construction, proposal, train


def gradients(made: SteppingConstruction, level: int) -> dict[str, torch.Tensor]:
    """The gradients of a level's loss as they are."""
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 3
    made.network.zero_grad()
    F.cross_entropy(made.network(x, level), y).backward()
    found = {n: p.grad.clone() for n, p in made.network.named_parameters() if p.grad is not None}
    made.network.zero_grad()
    return found


def test_the_loss_of_a_subnet_has_no_gradient_on_larger_ones():
    made = construction()
    train(made, range(30))
    for level in range(3):
        for name, gradient in gradients(made, level).items():
            axis, group = made.owned[name]
            if group is not None:
                later = made.owners()[group] > level
                assert not gradient.movedim(axis, 0)[torch.from_numpy(later)].any()


@pytest.mark.parametrize("step", [0, 25])
def test_a_suppressed_gradient_is_the_raw_one_times_a_power_of_beta(step):
    made = construction(gamma=1.0, beta=0.7, prune=0.0)
    train(made, range(step))
    raw = [gradients(made, level) for level in range(3)]
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(6) % 3
    for loss in made.losses(step, x, y, torch.Generator()):
        loss.backward()
    for name, parameter in made.network.named_parameters():
        axis, group = made.owned[name]
        owner = torch.zeros(1) if group is None else torch.from_numpy(made.owners()[group])
        expected = 0
        for level in range(3):
            factor = 0.7 ** (level - owner).clamp(min=0)
            gradient = raw[level].get(name, torch.zeros_like(parameter))
            expected = expected + (gradient.movedim(axis, -1) * factor).movedim(-1, axis)
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("group", "writers"), [(0, (0, 2)), (1, (1,)), (2, (5,))])
def test_importance_is_the_gradient_of_a_gate(norm, group, writers):
    """Against autograd through one gate on the outputs of all the layers that write a group."""
    made = construction(proposal(norm=norm), gamma=1.0)
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for loss in made.losses(0, x, y, torch.Generator()):
        loss.backward()
    known = made.get_buffer(f"importance_{group}")
    gate = torch.ones(known.shape[1], requires_grad=True)
    for index in writers:
        layer = made.network.operation_layers[index]
        layer.forward = _gated(layer.forward, gate)
    for level in range(3):
        (gradient,) = torch.autograd.grad(F.cross_entropy(made.network(x, level), y), gate)
        torch.testing.assert_close(known[level], gradient.abs(), rtol=1e-3, atol=1e-6)


def _gated(forward, gate):
    return lambda value, route, mode: forward(value, route, mode) * gate[: route.target.count, None, None]


def test_pruned_weights_stay_zero_through_momentum_and_decay():
    made = construction(prune=0.02)
    train(made, range(10))
    pruned = made.pruned()
    assert sum(int(mask.sum()) for mask in pruned.values()) > 10
    before = {name: mask.clone() for name, mask in pruned.items()}
    train(made, range(10, 30), rate=0.1, decay=0.1)
    parameters = dict(made.network.named_parameters())
    for name, mask in before.items():
        assert torch.equal(made.pruned()[name], mask)
        assert not parameters[name][mask].any()
        assert parameters[name][~mask].any()


def test_momentum_of_pruned_weights_is_forgotten():
    made = construction(prune=0.05)
    train(made, range(9))
    old = {name: torch.ones_like(parameter) for name, parameter in made.named_parameters()}
    carry = made.advance(9, torch.Generator())
    assert carry is not None
    for name, parameter in made.named_parameters():
        carried = carry(name, old[name])
        assert carried.shape == parameter.shape
        mask = made.pruned().get(name.removeprefix("network."))
        if mask is not None and name.startswith("network."):
            assert mask.any()
            assert not carried[mask].any()


def test_subnets_learn_from_the_labels_and_the_original_network():
    made = construction(gamma=0.3, original="5-4-6")
    assert macs(made.teacher.architecture) == macs(with_slices(proposal(), [(5,), (4,), (6,)]))
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    for step, share in ((0, 1.0), (29, 0.3)):
        losses = []
        for loss in made.losses(step, x, y, torch.Generator()):
            losses.append(loss.detach())
            loss.backward()
        answers = made.teacher(x).softmax(1)
        torch.testing.assert_close(losses[0], F.cross_entropy(made.teacher(x), y))
        for loss, level in zip(losses[1:], (2, 1, 0)):
            logits = made.network(x, level)
            divergence = (answers * (answers.log() - logits.log_softmax(1))).sum(1).mean()
            torch.testing.assert_close(loss, share * F.cross_entropy(logits, y) + (1 - share) * divergence)


def test_labels_alone_need_no_original_network():
    made = construction(gamma=1)
    assert made.teacher is None
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    assert len(list(made.losses(29, x, y, torch.Generator()))) == 3
