"""The causal rule: one pass for all points, equal to training each on its own."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.causal import Causal
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Task
from search_spaces.slicing import i_resnext, sparse_resnext

TASK = Task(input_shape=(1, 8, 8), num_classes=3)
SMALL = {"num_blocks": 1, "width": 8, "bottleneck": 1, "cardinality": 4, "levels": 4, "task": TASK}


def _network() -> AnytimeNetwork:
    return AnytimeNetwork(sparse_resnext(**SMALL), generator=torch.Generator().manual_seed(3)).train()


def _batch() -> tuple[Tensor, Tensor]:
    return torch.randn(12, *TASK.input_shape, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def _loss(rule: Causal, network: AnytimeNetwork) -> Tensor:
    (loss,) = rule.losses(network, *_batch(), torch.Generator())
    return loss


def _gradients(network: AnytimeNetwork, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def test_the_losses_of_all_points_in_one_pass() -> None:
    network, (x, labels) = _network().double(), _batch()
    convolutions: list[int] = []
    for o, layer in enumerate(network.operation_layers):
        if layer.operation.kind == "conv":
            layer.register_forward_hook(lambda *_, o=o: convolutions.append(o))
    (loss,) = Causal().losses(network, x.double(), labels, torch.Generator())
    assert len(convolutions) == len(set(convolutions))
    alone = sum(F.cross_entropy(network(x.double(), level), labels) for level in range(4))
    torch.testing.assert_close(loss, alone, rtol=1e-12, atol=0)
    for one_pass, passes in zip(_gradients(network, loss), _gradients(network, alone)):
        torch.testing.assert_close(one_pass, passes, rtol=1e-9, atol=1e-12)


def test_weights_are_of_the_points_small_to_large() -> None:
    network, (x, labels) = _network(), _batch()
    expected = 2 * F.cross_entropy(network(x, 0), labels) + 0.5 * F.cross_entropy(network(x, 3), labels)
    torch.testing.assert_close(_loss(Causal(weights="2,0,0,.5"), network), expected)


def test_smaller_points_learn_from_the_largest_which_does_not_learn_from_them() -> None:
    network, (x, labels) = _network(), _batch()
    logits = [network(x, level) for level in range(4)]
    soft = (logits[-1].detach() / 2).softmax(1)
    expected = sum(F.cross_entropy(one, labels) for one in logits)
    for one in logits[:-1]:
        expected = expected + 3.0 * 4 * (soft * (soft.log() - (one / 2).log_softmax(1))).sum(1).mean()
    loss = _loss(Causal(distill=3.0, temperature=2.0), network)
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(_gradients(network, loss), _gradients(network, expected)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_learns() -> None:
    network = _network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimiser.zero_grad()
        _loss(Causal(), network).backward()
        optimiser.step()
    x, labels = _batch()
    assert all(F.cross_entropy(logits, labels) < 0.3 for logits in network.forward_all(x))


def test_under_autocast() -> None:
    network = _network()
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(Causal(distill=1.0), network)
    torch.testing.assert_close(loss, _loss(Causal(distill=1.0), network), rtol=0.05, atol=0.05)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_torch_compile_traces_the_pass_for_all_points() -> None:
    network, (x, _) = _network(), _batch()
    expected = network.forward_all(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own
        compiled = torch.compile(network.forward_all, backend="eager", fullgraph=True)
        for got, wanted in zip(compiled(x), expected):
            torch.testing.assert_close(got, wanted)


@pytest.mark.slow
def test_torch_compile_takes_the_rule_forward_and_backward() -> None:
    expected, network = _network(), _network()
    for each in (expected, network):
        _loss(Causal(distill=1.0), each)  # the first pass makes plans, which are nothing to trace
    _loss(Causal(distill=1.0), expected).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own
        torch._dynamo.reset()
        compiled = torch.compile(lambda: _loss(Causal(distill=1.0), network), backend="aot_eager")
        compiled().backward()
    for got, wanted in zip(network.parameters(), expected.parameters()):
        torch.testing.assert_close(got.grad, wanted.grad)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": "1,2"}, r"a number for each of the 4 points"),
        ({"weights": "a,b"}, r"weights must be numbers"),
        ({"weights": "0,0,0,0"}, r"weights must be numbers"),
        ({"distill": -1}, r"distill must be a number, at least 0"),
        ({"temperature": 0}, r"temperature must be a number"),
    ],
)
def test_refuses_bad_settings(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        _loss(Causal(**settings), _network())


def test_refuses_networks_that_need_several_passes() -> None:
    network = AnytimeNetwork(i_resnext(**SMALL)).train()
    with pytest.raises(UserError, match=r"rules like joint"):
        _loss(Causal(), network)
