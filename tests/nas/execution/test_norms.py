"""Whose statistics and scales norms use, in training, in evaluation and after calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import InvalidArchitecture, UserError
from nas.execution.layers import BATCH_NORM_EPS, Norm
from nas.execution.network import AnytimeNetwork
from nas.execution.passes import MOMENTUM
from nas.execution.plan_cache import PlanCache
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Subnetwork

from ..hand_built import ALL, NR, TASK, gated_dense, residual
from ..masked import masked_forward
from ..networks import random_images, random_network, random_statistics


def _norms(network: AnytimeNetwork) -> list[Norm]:
    return [m for m in network.modules() if isinstance(m, Norm)]


def _statistics(network: AnytimeNetwork) -> list[Tensor]:
    return [t.clone() for norm in _norms(network) for t in (norm.mean, norm.var)]


def _policy(make: Callable[[], Architecture], norm: str, **rest) -> AnytimeNetwork:
    """Points share their norms in a causal network; else it is as it is made."""
    made = make()
    if norm == "shared":
        *hidden, classifier = made.topology.operations
        operations = (*(replace(operation, wiring="causal") for operation in hidden), classifier)
        made = replace(made, topology=replace(made.topology, operations=operations))
    return random_network(replace(made, norm=norm), **rest)


# Training --------------------------------------------------------------------------------------------------------


def test_norms_per_point_are_separate() -> None:
    network = _policy(residual, "per_point").train()
    before = _statistics(network)
    network(random_images(network), 0).square().sum().backward()
    for old, new in zip(before, _statistics(network)):
        assert not torch.equal(old[0], new[0])
        assert torch.equal(old[1:], new[1:])
    for norm in _norms(network):
        assert norm.weight.shape[0] == 3
        assert norm.weight.grad[0].any()
        assert norm.bias.grad[0].any()
        assert not norm.weight.grad[1:].any()
        assert not norm.bias.grad[1:].any()


@pytest.mark.parametrize(("norm", "level"), [("shared", 0), ("shared", 2), ("per_point", 1)])
def test_training_moves_running_statistics_by_the_momentum(norm: str, level: int) -> None:
    network = random_statistics(_policy(residual, norm, dtype=torch.float64)).train()
    first, x = network.operation_layers[0], random_images(network)
    row, width = (level if norm == "per_point" else 0), (4, 8, 12)[level]
    old_mean, old_var = first.after.mean[row].clone(), first.after.var[row].clone()
    network(x, level)
    y = F.conv2d(x, first.weight[:width], padding=1).detach()
    mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=True)
    torch.testing.assert_close(first.after.mean[row, :width], (1 - MOMENTUM) * old_mean[:width] + MOMENTUM * mean)
    torch.testing.assert_close(first.after.var[row, :width], (1 - MOMENTUM) * old_var[:width] + MOMENTUM * var)
    assert torch.equal(first.after.mean[row, width:], old_mean[width:])
    assert torch.equal(first.after.var[row, width:], old_var[width:])


def test_recalibrated_norms_keep_no_statistics_in_training() -> None:
    network = _policy(residual, "recalibrated").train()
    before = _statistics(network)
    network(random_images(network), 1)
    network.forward_all(random_images(network))
    assert all(torch.equal(old, new) for old, new in zip(before, _statistics(network)))


def test_evaluation_moves_nothing() -> None:
    for norm in ("shared", "per_point", "recalibrated"):
        network = random_statistics(_policy(residual, norm)).eval()
        before = {name: t.clone() for name, t in network.state_dict().items()}
        network.forward_all(random_images(network))
        assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_norm_over_a_concat_with_a_hole_updates_active_channels_only() -> None:
    network = random_statistics(random_network(gated_dense(), dtype=torch.float64)).train()
    topology = network.architecture.topology
    concat = max(i for i, m in enumerate(topology.maps) if m.merge == "concat")
    reader = next(o for o, op in enumerate(topology.operations) if op.source == concat)
    norm, x = network.operation_layers[reader].before, random_images(network)
    old_mean, old_var = norm.mean[0].clone(), norm.var[0].clone()
    network(x, 1)  # without the layer in the middle: channels 10 to 13 of 18 are absent
    _, values = masked_forward(network, x, 1, training=True)
    mean, var = values[concat].mean((0, 2, 3)), values[concat].var((0, 2, 3), unbiased=True)
    there = torch.tensor([*range(10), *range(14, 18)])
    torch.testing.assert_close(norm.mean[0, there], ((1 - MOMENTUM) * old_mean + MOMENTUM * mean)[there])
    torch.testing.assert_close(norm.var[0, there], ((1 - MOMENTUM) * old_var + MOMENTUM * var)[there])
    assert torch.equal(norm.mean[0, 10:14], old_mean[10:14])
    assert torch.equal(norm.var[0, 10:14], old_var[10:14])


# Calibration -----------------------------------------------------------------------------------------------------


def _expected_statistics(
    network: AnytimeNetwork, batches: list[Tensor], level: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """By layer of the last norm-before of a network: mean over batches of its mean and unbiased variance."""
    topology, point = network.architecture.topology, network.architecture.points[level]
    out = {}
    for o in point.operations:
        if "norm" in topology.operations[o].before[:1]:
            source, found = topology.operations[o].source, []
            for x in batches:
                values = masked_forward(network, x, level, training=True)[1][source]
                dims = [0, *range(2, values.dim())]
                found.append((values.mean(dims) * len(x), values.var(dims, unbiased=True) * len(x)))
            mean, var = (torch.stack([pair[i] for pair in found]).sum(0) / sum(map(len, batches)) for i in (0, 1))
            out[o] = mean, var
    return out


@pytest.mark.parametrize("name", ["i_resnext", "gated_dense", "causal", "cell"])
@pytest.mark.parametrize("norm", ["per_point", "recalibrated"])
def test_calibration_is_the_mean_over_batches(name: str, norm: str) -> None:
    network = _policy(ALL[name], norm, dtype=torch.float64).eval()
    batches = [random_images(network, n, seed=n) for n in (6, 4, 5)]
    network.calibrate(batches)
    for level in range(network.levels):
        for o, (mean, var) in _expected_statistics(network, batches, level).items():
            layer = network.operation_layers[o]
            channels = network.plans.plan(network.architecture.points[level], batches[0].device).channels[
                layer.operation.source
            ]
            row = layer.before.mean[level], layer.before.var[level]
            torch.testing.assert_close(channels.take(row[0]), channels.take(mean))
            torch.testing.assert_close(channels.take(row[1]), channels.take(var))


def test_an_answer_is_refused_before_calibration_and_again_after_training() -> None:
    network = _policy(residual, "recalibrated").eval()
    x = random_images(network)
    for attempt in (network, network.forward_all, network.at_budget(10**9), lambda _: network.extract(0)):
        with pytest.raises(UserError, match=r"recalibrated before it answers: call network\.calibrate"):
            attempt(x)
    network.calibrate([x])
    network(x), network.forward_all(x), network.extract(0)
    network.train()
    with torch.no_grad():
        network(x)
    network.eval()(x)  # only looked at in training mode
    network.train()(x).sum().backward()
    with pytest.raises(UserError, match="recalibrated before"):
        network.eval()(x)
    network.calibrate([x])
    network(x)


@pytest.mark.parametrize("norm", ["shared", "per_point"])
def test_other_policies_answer_at_once(norm: str) -> None:
    network = _policy(residual, norm).eval()
    assert network(random_images(network)).shape == (6, 5)


def test_calibration_changes_no_weights_gradients_or_mode() -> None:
    network = _policy(residual, "recalibrated").train()
    x = random_images(network)
    network(x).square().sum().backward()
    weights = [p.detach().clone() for p in network.parameters()]
    gradients = [p.grad.clone() for p in network.parameters()]
    for training in (True, False):
        network.train(training)
        network.calibrate(x for _ in range(2))
        assert network.training is training
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters()))
    assert all(torch.equal(a, b.grad) for a, b in zip(gradients, network.parameters()))
    assert all(p.requires_grad for p in network.parameters())
    assert not any(t.requires_grad for t in _statistics(network))


def test_calibration_depends_on_nothing_before_it() -> None:
    network, again = (_policy(residual, "recalibrated") for _ in range(2))
    x = random_images(network)
    for norm in _norms(again):
        norm.mean.fill_(float("nan"))
        norm.var.fill_(float("inf"))
    again.calibrate([random_images(again, seed=1)])
    network.calibrate([x])
    again.calibrate([x])
    assert all(torch.equal(a, b) for a, b in zip(_statistics(network), _statistics(again)))


@pytest.mark.parametrize("batches", [[], iter(())])
def test_calibration_needs_images(batches: Iterable[Tensor]) -> None:
    network = _policy(residual, "recalibrated").eval()
    with pytest.raises(UserError, match="at least one batch of training images"):
        network.calibrate(batches)
    with pytest.raises(UserError, match="recalibrated before"):
        network(random_images(network))


def test_a_batch_counts_in_proportion_to_its_images() -> None:
    network, other = (_policy(residual, "recalibrated", dtype=torch.float64) for _ in range(2))
    x = random_images(network, 7)
    network.calibrate([x, x, x[:1]])
    other.calibrate([x[:1], x, x])
    first = _expected_statistics(network, [x, x, x[:1]], 0)
    for o, (mean, _) in first.items():
        layer = network.operation_layers[o]
        plan = network.plans.plan(network.architecture.points[0], x.device)
        torch.testing.assert_close(plan.channels[layer.operation.source].take(layer.before.mean[0]), mean)
    for a, b in zip(_statistics(network), _statistics(other)):
        torch.testing.assert_close(a, b)


def test_pairs_of_a_data_loader_calibrate() -> None:
    network, other = (_policy(residual, "recalibrated") for _ in range(2))
    x = random_images(network, 10)
    pairs = torch.utils.data.TensorDataset(x, torch.zeros(10))
    network.calibrate(torch.utils.data.DataLoader(pairs, batch_size=4))
    other.calibrate(x.split(4))
    assert all(torch.equal(a, b) for a, b in zip(_statistics(network), _statistics(other)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[..., 1:], r"shape \(N, 3, 8, 8\). Got \(6, 3, 8, 7\)"),
        (lambda x: x[:, :1], r"Got \(6, 1, 8, 8\)"),
        (lambda x: x.where(x < x.max(), torch.nan), "finite numbers. Got NaN"),
        (lambda x: x / 0, "finite numbers. Got NaN or infinity"),
        (lambda x: x[:0], "finite numbers. Got no image"),
        (lambda x: x.to(torch.uint8), r"call network\.preprocess\(images\). Got torch.uint8"),
    ],
    ids=["size", "channels", "NaN", "infinity", "empty", "raw"],
)
def test_unusable_images_leave_a_network_uncalibrated(change: Callable[[Tensor], Tensor], message: str) -> None:
    network = _policy(residual, "recalibrated").eval()
    x = random_images(network)
    network.calibrate([x])
    with pytest.raises(UserError, match=message):
        network.calibrate([x, change(x)])
    with pytest.raises(UserError, match="recalibrated before"):
        network(x)


def test_a_map_of_one_element_needs_two_images() -> None:
    b = Builder(TASK)
    b.head(b.conv(b.conv(b.input, (4, 8), stride=4, after=NR), (4, 8), kernel=1, stride=2, padding=0, after=NR))
    network = random_network(b.architecture(2, norm="recalibrated"))
    network.calibrate([random_images(network, 2)])
    with pytest.raises(UserError, match=r"at least two images. Got 1: pass drop_last=True"):
        network.calibrate([random_images(network, 1)])


def test_shared_norms_are_not_calibrated() -> None:
    network = _policy(residual, "shared")
    with pytest.raises(UserError, match="need no calibration"):
        network.calibrate([random_images(network)])


def test_calibrated_is_part_of_the_state() -> None:
    trained, fresh = (_policy(residual, "recalibrated").eval() for _ in range(2))
    x = random_images(trained)
    trained.calibrate([x])
    with pytest.raises(UserError, match="recalibrated"):
        fresh(x)
    untrained = {name: t.clone() for name, t in fresh.state_dict().items()}
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))
    fresh.load_state_dict(untrained)
    with pytest.raises(UserError, match="recalibrated"):
        fresh(x)


# Any subnetwork --------------------------------------------------------------------------------------------------


def _mixed() -> Subnetwork:
    """A subnetwork of the residual network that is no operating point: mixed widths, one operation dropped."""
    return replace(residual().points[0], channels=(3, 4, 12, 4, 20, 20, 5), operations=(0, 1, 2, 3, 5, 6, 7, 8))


@pytest.mark.parametrize("norm", ["recalibrated", "shared"])
def test_any_subnetwork_runs_in_training(norm: str) -> None:
    network = _policy(residual, norm, dtype=torch.float64).train()
    x = random_images(network)
    expected, _ = masked_forward(network, x, _mixed(), training=True)
    torch.testing.assert_close(network(x, _mixed()), expected)


def test_any_subnetwork_runs_in_evaluation_if_norms_are_shared() -> None:
    network = random_statistics(_policy(residual, "shared", dtype=torch.float64)).eval()
    x = random_images(network)
    expected, _ = masked_forward(network, x, _mixed(), training=False)
    torch.testing.assert_close(network(x, _mixed()), expected)


@pytest.mark.parametrize("norm", ["shared", "per_point", "recalibrated"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_an_operating_point_given_as_such_is_its_level(norm: str, training: bool) -> None:
    network = random_statistics(_policy(residual, norm)).train(training)
    x = random_images(network)
    for level, point in enumerate(network.architecture.points):
        assert torch.equal(network(x, replace(point)), network(x, level))


@pytest.mark.parametrize(("norm", "training"), [("recalibrated", False), ("per_point", False), ("per_point", True)])
def test_a_subnetwork_without_norms_of_its_own_is_refused(norm: str, training: bool) -> None:
    network = random_statistics(_policy(residual, norm)).train(training)
    with pytest.raises(UserError, match="only operating points have norms"):
        network(random_images(network), _mixed())


def test_subnetworks_of_another_topology_are_rejected() -> None:
    network = _policy(residual, "shared").train()
    x = random_images(network)
    for wrong in (
        replace(_mixed(), channels=(3, 5, 12, 4, 20, 20, 5)),
        replace(_mixed(), operations=(0, 1)),
        replace(_mixed(), channels=(3,)),
    ):
        with pytest.raises(InvalidArchitecture):
            network(x, wrong)


def test_plans_of_sampled_subnetworks_do_not_accumulate() -> None:
    cache, device = PlanCache(residual(), max_plans=8), torch.device("cpu")
    sampled = [replace(_mixed(), channels=(3, a, b, a, c, c, 5)) for a in (4, 8, 12) for b in (4, 8) for c in (8, 16)]
    plans = [cache.plan(point, device) for point in sampled]
    assert all(cache.plan(point, device) is plan for point, plan in zip(sampled[-8:], plans[-8:]))
    assert not any(cache.plan(point, device) is plan for point, plan in zip(sampled[:-8], plans[:-8]))


# Statistics themselves -------------------------------------------------------------------------------------------


def test_evaluation_uses_the_statistics_of_its_level() -> None:
    network = random_statistics(_policy(residual, "recalibrated", dtype=torch.float64)).eval()
    x = random_images(network)
    for level in range(3):
        expected, _ = masked_forward(network, x, level, training=False)
        torch.testing.assert_close(network(x, level), expected)
        others = [masked_forward(network, x, k, training=False)[0] for k in range(3) if k != level]
        assert not any(torch.allclose(expected, other) for other in others)


def test_one_row_of_scales_or_one_a_level() -> None:
    shapes = {}
    for norm in ("shared", "per_point", "recalibrated"):
        first = _policy(residual, norm).operation_layers[0].after
        shapes[norm] = (len(first.weight), len(first.mean))
    assert shapes == {"shared": (1, 1), "per_point": (3, 3), "recalibrated": (1, 3)}


def test_a_norm_of_vectors() -> None:
    builder = Builder(TASK)
    pooled = builder.add("global_avg_pool", builder.conv(builder.input, (4, 8)), builder.map((4, 8)), after=NR)
    builder.add("linear", pooled, builder.map(5), bias=True)
    network = random_network(builder.architecture(2), dtype=torch.float64).train()
    x = random_images(network)
    torch.testing.assert_close(network(x, 0), masked_forward(network, x, 0, training=True)[0])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(x[:1], 0)
    network.calibrate([x])
    assert network.eval()(x[:1], 0).shape == (1, 5)


def test_epsilon_is_torchs() -> None:
    assert torch.nn.BatchNorm1d(1).eps == BATCH_NORM_EPS
    assert torch.nn.BatchNorm1d(1).momentum == MOMENTUM
