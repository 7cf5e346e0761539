"""Refinement from small to large: logits of full passes, without repeated work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import InvalidArchitecture, UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.liveness import trim_point

from ..hand_built import ALL, NR, REUSABLE, TASK, causal, causal_concat, lenet, multi_exit, without_norms
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures


def _network(architecture: Architecture) -> AnytimeNetwork:
    return random_statistics(random_network(architecture, dtype=torch.float64)).eval()


def _check(architecture: Architecture) -> AnytimeNetwork:
    """The logits of every step equal a full pass, and its flops, counted by torch, equal the plan."""
    network = _network(architecture)
    x = random_images(network)
    steps = network.refine(x)
    for level in range(network.levels):
        with FlopCounterMode(display=False) as counter:
            logits = next(steps)
        assert counter.get_total_flops() == 2 * len(x) * network.refine_macs()[level]
        with torch.no_grad():
            torch.testing.assert_close(logits, network(x, level), rtol=0, atol=1e-10)
    assert next(steps, None) is None
    return network


def _increments(network: AnytimeNetwork) -> tuple[int, ...]:
    return (network.macs[0], *(b - a for a, b in pairwise(network.macs)))


@pytest.mark.parametrize("name", sorted(REUSABLE))
def test_each_step_answers_as_a_pass_from_scratch(name: str) -> None:
    network = _check(ALL[name]())
    if name != "multi_exit":
        assert network.refine_macs() == _increments(network)
        assert sum(network.refine_macs()) == network.macs[-1]


def test_the_heads_of_earlier_exits_are_work_of_their_own() -> None:
    network = _check(multi_exit())
    topology, discarded = network.architecture.topology, 0
    for level, point in enumerate(network.architecture.points):
        assert network.refine_macs()[level] == _increments(network)[level] + discarded
        head = next(o for o in point.operations if topology.operations[o].target == point.output)
        discarded = topology.macs_per_pair[head] * topology.maps[topology.operations[head].source].channels * 5


@given(architectures())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_random_networks_are_exact_or_refused(architecture: Architecture) -> None:
    try:
        architecture = replace(architecture, norm="shared")
    except InvalidArchitecture:
        architecture = without_norms(architecture)
    network = _network(architecture)
    x = random_images(network)
    try:
        answers = list(network.refine(x))
    except UserError:
        return
    with torch.no_grad():
        for level, logits in enumerate(answers):
            torch.testing.assert_close(logits, network(x, level), rtol=1e-9, atol=1e-9)
    points = architecture.points
    if all(a.output == b.output and set(a.operations) <= set(b.operations) for a, b in pairwise(points)):
        assert network.refine_macs() == _increments(network)


def test_steps_may_skip_slices() -> None:
    whole = causal()
    network = _check(whole.with_points([whole.points[0], whole.points[2]]))
    assert network.refine_macs() == _increments(network)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_number_of_images(count: int) -> None:
    network = _network(causal())
    x = random_images(network, count)
    *_, last = network.refine(x)
    torch.testing.assert_close(last, network(x).detach(), rtol=0, atol=1e-10)


def test_runs_do_not_disturb_each_other() -> None:
    network = _network(causal())
    images = [random_images(network, 2, seed=seed) for seed in (1, 2)]
    for level, both in enumerate(zip(*(network.refine(x) for x in images))):
        for x, logits in zip(images, both):
            torch.testing.assert_close(logits, network(x, level).detach(), rtol=0, atol=1e-10)


def test_logits_do_not_change_and_need_no_gradient() -> None:
    network = _network(causal())
    steps = network.refine(random_images(network))
    first = next(steps)
    before = first.clone()
    next(steps)
    assert torch.equal(first, before)
    assert not first.requires_grad


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_changed_logits_and_images_affect_no_later_step(layout: torch.memory_format) -> None:
    network = _network(lenet())  # logits of which accumulate
    x = random_images(network).to(memory_format=layout)
    expected = [network(x, level).detach() for level in range(network.levels)]
    for logits, wanted in zip(network.refine(x), expected):
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-10)
        logits.zero_()
        x.zero_()


def test_sees_weights_as_they_are_now() -> None:
    network = _network(causal())
    x = random_images(network)
    list(network.refine(x))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    _same(network, x)
    for parameter in network.parameters():
        parameter.data.mul_(0.9)
    network.eval()
    _same(network, x)
    other = AnytimeNetwork(network.architecture, generator=torch.Generator().manual_seed(1)).to(torch.float64)
    network.load_state_dict(other.state_dict(), assign=True)
    _same(network, x)
    network.to(torch.float32)
    for level, logits in enumerate(network.refine(x.float())):
        torch.testing.assert_close(logits, network(x.float(), level).detach())


@pytest.mark.parametrize("made", [causal, causal_concat])  # norms before and after the operations
def test_sees_statistics_that_training_has_moved(made: Callable[[], Architecture]) -> None:
    network = _network(made())
    x = random_images(network)
    list(network.refine(x))
    network.train()
    network(x * 3 + 1)
    network.eval()
    _same(network, x)


def test_works_on_weights_of_inference_mode() -> None:
    with torch.inference_mode():
        network = _network(causal())
        _same(network, random_images(network))


def _same(network: AnytimeNetwork, x: torch.Tensor) -> None:
    for level, logits in enumerate(network.refine(x)):
        torch.testing.assert_close(logits, network(x, level).detach(), rtol=0, atol=1e-10)


def test_an_operation_that_a_later_level_adds() -> None:
    """It reads maps of earlier levels; its logits are added."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, 4, after=NR)
    pooled = builder.add("global_avg_pool", x, builder.map(4))
    late = builder.add("global_avg_pool", builder.conv(x, 6, before=NR), builder.map(6))
    out = builder.map(5)
    for source in (pooled, late):
        builder.add("linear", source, out, bias=True)
    small = trim_point(builder.topology(), builder.point(0, without=(4,)))
    network = _check(builder.architecture([small, builder.point(0)], norm="shared"))
    assert network.refine_macs() == _increments(network)


@pytest.mark.parametrize(
    ("name", "norm", "said"),
    [
        ("i_resnext", "none", r"map 4 .*operation 3 \(conv 3 -> 4\) reads channels that only the larger one has"),
        ("i_resnext", "per_point", r"map 2 .*norm='per_point'"),
        ("residual", "recalibrated", r"map 1 .*norm='recalibrated'"),
        ("residual", "none", r"map 2 .*its wiring is 'dense'"),
        ("gated_concat", "shared", r"map 2 .*its scale 'mean'"),
        ("gated_residual", "shared", r"adds a bias or a norm, and runs at the larger one only"),
    ],
)
def test_inexact_reuse_is_rejected_with_the_reason(name: str, norm: str, said: str) -> None:
    network = _network(without_norms(ALL[name]()) if norm == "none" else replace(ALL[name](), norm=norm))
    with pytest.raises(UserError, match=said):
        network.refine(random_images(network))


def test_training_mode_is_refused() -> None:
    network = _network(causal()).train()
    with pytest.raises(UserError, match=r"network\.eval\(\)"):
        network.refine(random_images(network))


def test_a_single_point_is_refined_in_one_step() -> None:
    whole = ALL["residual"]()
    network = _check(whole.with_points(whole.points[1:2]))
    assert network.refine_macs() == network.macs
