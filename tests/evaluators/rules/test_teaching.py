"""Teachers, soft targets and initialisation of rules that train several subnetworks in a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.causal import Causal
from evaluators.rules.path_sampling import PathSampling, UniformSampling
from evaluators.rules.sandwich import Sandwich
from evaluators.rules.teaching import branch_ends, targets
from nas.errors import UserError
from nas.evaluation.averaging import MovingAverage
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Subnetwork, Task
from search_spaces.slicing import sparse_resnext
from search_spaces.tips import mobilenet_v2, resnet34

TASK = Task(input_shape=(1, 6, 6), num_classes=4)
NR = ("norm", "relu")


def _residual(**settings: Any) -> Architecture:
    builder, widths = Builder(TASK), (2, 4, 6)
    x = builder.conv(builder.input, widths, after=NR)
    y = builder.conv(builder.conv(x, widths, after=NR), widths, after=("norm",), activation="relu")
    builder.identity(x, y, optional=True)
    builder.head(y)
    return builder.architecture(3, **settings)


def _network(architecture: Architecture, seed: int = 0) -> AnytimeNetwork:
    return AnytimeNetwork(architecture, generator=torch.Generator().manual_seed(seed)).train()


def _batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, *TASK.input_shape, generator=generator), torch.arange(8) % 4


def _losses(rule: Any, network: AnytimeNetwork) -> list[Tensor]:
    return list(rule.losses(network, *_batch(), torch.Generator().manual_seed(1)))


TIPS = {"soft": True, "ema": 0.997, "ensemble": True, "smoothing": 0.1}


def test_a_step_of_tips_in_the_slow_obvious_way() -> None:
    """Smoothed labels for the largest, the average's answer for the next, the mean of its answers for the smallest."""
    architecture = _residual()
    network, averaged, (x, labels) = _network(architecture), _network(architecture, seed=7), _batch()
    rule = Sandwich(sampled=2, **TIPS)
    rule.averaged = averaged
    losses = _losses(rule, network)
    with torch.no_grad():
        teacher = [averaged(x, level).softmax(1) for level in range(3)]
        one_hot = F.one_hot(labels, 4).float()
        smooth = 0.9 * one_hot + 0.1 / 4

        def cross_entropy(level: int, target: Tensor) -> Tensor:
            return -(target * network(x, level).log_softmax(1)).sum(1).mean()

        expected = [cross_entropy(2, smooth), cross_entropy(1, teacher[2])]
        expected.append(cross_entropy(0, (teacher[2] + teacher[1]) / 2))
    torch.testing.assert_close(torch.stack(losses).detach(), torch.stack(expected))
    sum(losses).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(p.grad is None for p in averaged.parameters())


def test_sampled_subnetworks_of_the_average_teach_the_smallest() -> None:
    architecture = _residual()
    network, averaged, (x, _) = _network(architecture), _network(architecture, seed=7), _batch()
    ran: list[Any] = []
    forward = network.forward
    network.forward = lambda x, level=None: (ran.append(level), forward(x, level))[1]  # type: ignore[method-assign]
    rule = PathSampling(sampled=2, **TIPS)
    rule.averaged = averaged
    losses = _losses(rule, network)
    assert [ran[0], ran[-1]] == [2, 0]
    assert all(type(point) is Subnetwork for point in ran[1:3])
    with torch.no_grad():
        mean = torch.stack([averaged(x, point).softmax(1) for point in (2, *ran[1:3])]).mean(0)
        torch.testing.assert_close(losses[-1].detach(), F.cross_entropy(forward(x, 0), mean))


def test_a_causal_network_learns_from_the_average() -> None:
    architecture = sparse_resnext(1, 8, 1, 4, 4, task=TASK)
    network, averaged, (x, labels) = _network(architecture), _network(architecture, seed=7), _batch()
    averaged.eval()
    rule = Causal(distill=0.5, ema=0.99, ensemble=True, smoothing=0.2, temperature=2.0)
    rule.averaged = averaged
    (loss,) = _losses(rule, network)
    with torch.no_grad():
        levels = network.forward_all(x)
        answers = [(logits / 2).softmax(1) for logits in averaged.forward_all(x)]
        expected = sum(F.cross_entropy(logits, labels, label_smoothing=0.2) for logits in levels)
        for level, logits in enumerate(levels[:-1]):
            target = torch.stack(answers[1:]).mean(0) if level == 0 else answers[-1]
            divergence = (target * (target.log() - (logits / 2).log_softmax(1))).sum(1).mean()
            expected = expected + 0.5 * 4 * divergence
    torch.testing.assert_close(loss.detach(), expected)


def test_only_sampled_subnetworks_learn_without_the_ends() -> None:
    network = _network(_residual())
    ran: list[Any] = []
    forward = network.forward
    network.forward = lambda x, level=None: (ran.append(level), forward(x, level))[1]  # type: ignore[method-assign]
    losses = _losses(UniformSampling(sampled=6, ends=False), network)
    assert len(losses) == len(ran) == 6
    assert all(type(point) is Subnetwork for point in ran)
    soft = UniformSampling(sampled=3, ends=False, soft=True, ema=0.9)
    assert len(_losses(soft, network)) == 3


def test_a_large_beta_drops_what_is_not_important() -> None:
    architecture = _residual()
    rule = PathSampling(beta=1e9)
    (group,) = rule.choice_groups(architecture)
    network, ran = _network(architecture), []
    forward = network.forward
    network.forward = lambda x, level=None: (ran.append(level), forward(x, level))[1]  # type: ignore[method-assign]
    _losses(PathSampling(beta=1e9, sampled=100), network)
    important = group.alternatives[group.important]
    assert all((important in point.operations) == (important is not None) for point in ran[2:])


def test_singular_values_follow_the_weights() -> None:
    """A skip against a 1x1 convolution whose weights grow: with few of them the skip is important, then the other."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4), after=NR)
    y = builder.map((2, 4))
    builder.add("identity", x, y, optional=True)
    builder.add("conv", x, y, kernel=1, stride=1, optional=True)
    builder.head(y)
    network = _network(builder.architecture(2))
    rule = PathSampling(walk="singular_values", beta=3.0)
    layer = network.operation_layers[2]
    for scale, favoured in ((0.01, 1), (100.0, 2)):
        with torch.no_grad():
            layer.weight.copy_(scale * torch.eye(4)[:, :, None, None])
        (group,) = rule.present_groups(network)
        assert group.alternatives[group.important] == favoured
        assert max(group.probabilities) == pytest.approx(0.8)


@pytest.mark.parametrize(("make", "width"), [(resnet34, {"width": 8}), (mobilenet_v2, {"width": 0.25})])
def test_last_norms_of_residual_branches_start_at_zero(make: Any, width: dict[str, Any]) -> None:
    """Then every block with a skip is its skip, as in the released code, whose blocks without skip are unchanged."""
    architecture = make(TASK, points=2, **width)
    topology, network = architecture.topology, _network(architecture)
    ends = branch_ends(topology)
    skips = [o for o in topology.operations if o.kind == "identity"]
    assert [topology.operations[o].target for o in ends] == [o.target for o in skips]
    Sandwich(zero_init=True).initialise(network)
    for o, layer in enumerate(network.operation_layers):
        if layer.after is not None:
            assert bool((layer.after.weight == 0).all()) == (o in ends)
    plain = _network(architecture)
    Sandwich().initialise(plain)
    assert all(bool((layer.after.weight == 1).all()) for layer in plain.operation_layers if layer.after is not None)


def test_the_average_follows_the_weights() -> None:
    network = _network(_residual(norm="per_point"))
    average, start = MovingAverage(network, 0.9), [p.detach().clone() for p in network.parameters()]
    assert not average.network.training  # it answers with averaged statistics
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    expected = start
    for _ in range(3):
        network(_batch()[0], 1).square().sum().backward()
        optimiser.step()
        average.update(network)
        expected = [0.9 * old + 0.1 * new.detach() for old, new in zip(expected, network.parameters())]
    torch.testing.assert_close([p.detach() for p in average.network.parameters()], expected)
    layer, own = average.network.operation_layers[0], network.operation_layers[0]
    assert 0 < float(layer.after.mean[1].abs().sum()) < float(own.after.mean[1].abs().sum())
    assert MovingAverage(_network(_residual()), 0.9).network.training  # its norms have no statistics during training


def test_a_causal_network_in_double_precision_has_losses_of_that_precision() -> None:
    network = _network(sparse_resnext(1, 8, 1, 4, 4, task=TASK)).double()
    x, labels = _batch()
    (loss,) = Causal(distill=1.0).losses(network, x.double(), labels, torch.Generator())
    with torch.no_grad():
        levels = network.forward_all(x.double())
        expected = sum(F.cross_entropy(logits, labels) for logits in levels)
        target = levels[-1].softmax(1)
        for logits in levels[:-1]:
            expected = expected + (target * (target.log() - logits.log_softmax(1))).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-13)


def test_teachers_in_double_precision_stay_so() -> None:
    network = _network(_residual()).double()
    logits = torch.randn(8, 4, dtype=torch.float64)
    assert targets(network, 0, _batch()[1], logits).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (Sandwich, {"ema": 1.0}, "ema must be a number from 0 to below 1. Got 1.0"),
        (Sandwich, {"ema": True}, "ema must be a number"),
        (Sandwich, {"smoothing": -0.1}, "smoothing must be a number from 0"),
        (Sandwich, {"zero_init": "yes"}, "zero_init must be true or false"),
        (Sandwich, {"ensemble": True, "ema": 0.9}, "set soft=true and ema"),
        (Sandwich, {"ensemble": True, "soft": True}, "Got ema=0: set ema"),
        (Causal, {"ensemble": True, "ema": 0.9}, "set distill and ema"),
        (UniformSampling, {"ends": False, "sampled": 0}, "Got sampled=0"),
        (UniformSampling, {"ends": 3}, "ends must be true or false"),
        (UniformSampling, {"ends": False, "ensemble": True, "soft": True, "ema": 0.9}, "ends=false leaves out"),
        (UniformSampling, {"ends": False, "soft": True}, "a moving average must teach"),
    ],
)
def test_settings_that_make_no_sense(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_zero_init_without_effect_is_refused() -> None:
    builder = Builder(TASK)
    builder.head(builder.conv(builder.input, (2, 4), after=NR))
    with pytest.raises(UserError, match="zero_init needs residual branches"):
        Sandwich(zero_init=True).check(builder.architecture(2))
    Sandwich(zero_init=True).check(_residual())
