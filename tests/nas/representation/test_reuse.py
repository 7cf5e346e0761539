"""Reuse of results between operating points: derived from the wiring, and exact."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings

from nas.errors import InvalidArchitecture
from nas.execution.layers import Norm
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.reuse import stable_maps
from nas.representation.topology import Topology

from ..hand_built import ALL, NR, REUSABLE, TASK, causal, i_resnext, without_norms
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures


def _live(architecture: Architecture, level: int) -> set[int]:
    return {0} | {architecture.topology.operations[o].target for o in architecture.points[level].operations}


@pytest.mark.parametrize("name", sorted(REUSABLE))
def test_all_maps_but_the_logits_are_shared_if_reuse_is_exact(name: str) -> None:
    architecture = ALL[name]()
    for level, shared in enumerate(stable_maps(architecture)):
        classifier = {architecture.points[level].output}
        whole = name == "multi_exit" or level == len(architecture.points) - 1
        if not whole:
            assert shared == _live(architecture, level) - classifier
        elif name != "multi_exit":
            assert shared == _live(architecture, level)


def test_earlier_exits_share_the_trunk_and_nothing_of_a_later_head() -> None:
    architecture = ALL["multi_exit"]()
    outputs = [point.output for point in architecture.points]
    for level, shared in enumerate(stable_maps(architecture)[:-1]):
        trunk = _live(architecture, level) & _live(architecture, -1)
        assert trunk <= shared
        assert outputs[-1] not in shared


@pytest.mark.parametrize("norm", ["per_point", "none", "recalibrated"])
def test_a_residual_stream_that_depends_on_the_level_is_not_shared(norm: str) -> None:
    architecture = without_norms(i_resnext()) if norm == "none" else replace(i_resnext(), norm=norm)
    stem, h1, h2, y, z, pooled, classes = range(1, 8)
    branch = {h1, h2} if norm == "none" else set()
    for shared in stable_maps(architecture)[:-1]:
        assert shared == {0, stem} | branch
        assert not shared & {y, z, pooled, classes}


@pytest.mark.parametrize("name", ["residual", "mobile", "cell"])
def test_dense_widths_share_only_the_image(name: str) -> None:
    for shared in stable_maps(without_norms(ALL[name]()))[:-1]:
        assert shared <= {0, 1}  # the stem reads the whole image: its channels are the same at every width


def test_norms_of_ones_own_end_the_sharing() -> None:
    shared = stable_maps(replace(causal(), norm="per_point"))
    assert shared[0] == {0, 1}


def _causal_of_level(architecture: Architecture, index: int, level: int) -> int:
    """Channels of a map that belong to the slices up to a level."""
    slices = architecture.topology.maps[index].slices
    return slices[min(level, len(slices) - 1)]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ["causal", "lenet"])
def test_a_later_slice_changes_no_earlier_answer(name: str, training: bool) -> None:
    architecture = ALL[name]()
    network = random_statistics(random_network(architecture)).train(training)
    x = random_images(network)
    for late in range(1, network.levels):
        before = [network(x, k).detach() for k in range(network.levels)]
        _disturb(network, late)
        after = [network(x, k).detach() for k in range(network.levels)]
        for level in range(network.levels):
            assert torch.equal(before[level], after[level]) == (level < late)


@torch.no_grad()
def _disturb(network: AnytimeNetwork, level: int) -> None:
    """Change every weight and norm of the slices from a level on."""
    architecture = network.architecture
    for layer in network.operation_layers:
        start = {
            i: _causal_of_level(architecture, i, level - 1) for i in (layer.operation.source, layer.operation.target)
        }
        outputs = layer.operation.target in {p.output for p in architecture.points}
        rows, columns = start[layer.operation.target], start[layer.operation.source]
        if layer.weight is not None:
            part = layer.weight[:, columns:] if outputs else layer.weight[rows:]
            part.add_(0.1 * torch.randn(part.shape, generator=torch.Generator().manual_seed(0)))
        for norm, first in ((layer.before, columns), (layer.after, rows)):
            if isinstance(norm, Norm):
                norm.weight[:, first:] += 0.3
                norm.mean[:, first:] += 0.3


@pytest.mark.parametrize("name", ["causal", "lenet"])
def test_the_loss_of_a_level_has_no_gradient_on_later_slices(name: str) -> None:
    architecture = ALL[name]()
    network = random_network(architecture).train()
    x = random_images(network)
    for level in range(network.levels):
        network.zero_grad()
        network(x, level).square().sum().backward()
        for layer in network.operation_layers:
            operation = layer.operation
            rows, columns = (_causal_of_level(architecture, i, level) for i in (operation.target, operation.source))
            if layer.weight is not None:
                assert layer.weight.grad[:rows].any()
                assert not layer.weight.grad[rows:].any()
                if operation.groups == 1:
                    assert not layer.weight.grad[:, columns:].any()
            for norm, width in ((layer.before, columns), (layer.after, rows)):
                if isinstance(norm, Norm):
                    assert norm.weight.grad[:, :width].any()
                    assert not norm.weight.grad[:, width:].any()


@pytest.mark.parametrize("name", ["causal", "lenet"])
def test_weights_that_no_connection_uses_stay_zero(name: str) -> None:
    network = random_network(ALL[name]()).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        sum(logits.square().mean() for logits in network.forward_all(random_images(network))).backward()
        optimiser.step()
    for layer in network.operation_layers:
        if layer.mask is not None:
            assert not (layer.weight * (1 - layer.mask)).any()


def _points(builder: Builder, *channels: tuple[int, ...], norm: str = "shared") -> Architecture:
    point = builder.point(9)
    return builder.architecture([replace(point, channels=c) for c in channels], norm=norm)


def test_a_map_that_is_wider_at_the_smaller_level_is_not_shared() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4), kernel=1)
    y = builder.conv(x, (2, 4, 16), kernel=3)
    builder.head(y)
    architecture = _points(builder, (3, 4, 2, 2, 5), (3, 2, 16, 16, 5))
    assert stable_maps(architecture)[0] == {0}
    _same_in_one_pass(architecture)


def test_operations_that_only_the_larger_level_runs_end_the_sharing() -> None:
    def build(**rest) -> tuple[frozenset[int], Architecture]:
        builder = Builder(TASK)
        x = builder.conv(builder.input, (2, 4))
        y = builder.conv(x, (2, 4), wiring="causal")
        builder.add("conv", x, y, kernel=1, wiring="causal", **rest)
        builder.head(y)
        small, large = builder.point(0, without=(2,)), builder.point(1)
        architecture = builder.architecture([small, large], norm="shared")
        _same_in_one_pass(architecture)
        return stable_maps(architecture)[0], architecture

    assert build()[0] == {0, 1}
    assert build(bias=True)[0] == {0, 1}


def test_an_operation_into_later_slices_only_does_not_end_the_sharing() -> None:
    def build(**rest) -> frozenset[int]:
        builder = Builder(TASK)
        first = builder.conv(builder.input, 2)
        late = builder.conv(builder.input, 2)
        x = builder.concat([first, late])
        y = builder.conv(first, (2, 4))
        builder.identity(x, y, **rest)  # channels 2 and 3 of the concat reach channels 2 and 3 of y
        builder.head(y)
        top = builder.topology()
        into = [i for i, o in enumerate(top.operations) if o.source == late or o.target == late]
        small = builder.point(0, without=into)
        architecture = builder.architecture([small, builder.point(1)], norm="shared")
        _same_in_one_pass(architecture)
        return stable_maps(architecture)[0]

    assert {0, 1, 3, 4} <= build()
    assert 4 in build(after=("relu",))


@pytest.mark.parametrize(("after", "shared"), [((), True), (("relu",), True), (("norm",), False)], ids=str)
def test_an_absent_operation_with_a_norm_shifts_channels_it_does_not_reach(
    after: tuple[str, ...], shared: bool
) -> None:
    """A norm shifts also the channels that receive nothing."""
    builder = Builder(TASK)
    never, late = (builder.conv(builder.input, 2) for _ in range(2))
    both = builder.concat([never, late])
    y = builder.conv(builder.input, (2, 4), wiring="causal")
    builder.identity(both, y, after=after)
    builder.head(y)
    operations = builder.topology().operations
    off = [[i for i, o in enumerate(operations) if index in (o.source, o.target)] for index in (never, late)]
    points = [builder.point(0, without=off[0] + off[1]), builder.point(1, without=off[0])]
    architecture = builder.architecture(points, norm="shared")
    assert (y in stable_maps(architecture)[0]) == shared
    _same_in_one_pass(architecture)


def test_gated_maps_are_shared_between_equal_numbers_of_components() -> None:
    architecture = ALL["gated_concat"]()
    gated = next(i for i, m in enumerate(architecture.topology.maps) if m.scale != "none")
    assert all(gated not in shared for shared in stable_maps(architecture)[:-1])
    assert gated in stable_maps(architecture)[-1]


def _same_in_one_pass(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture, dtype=torch.float64)).eval()
    x = random_images(network)
    with torch.no_grad():
        for level, logits in enumerate(network.forward_all(x)):
            torch.testing.assert_close(logits, network(x, level))


def test_one_pass_computes_each_shared_map_once() -> None:
    """One pass for all levels runs as many convolutions as the largest level."""
    for name in sorted(REUSABLE):
        network = random_network(ALL[name]()).train()
        ran: list[int] = []
        for o, layer in enumerate(network.operation_layers):
            layer.register_forward_hook(lambda *_, o=o, ran=ran: ran.append(o))
        network.forward_all(random_images(network))
        top: Topology = network.architecture.topology
        convolutions = [o for o in ran if top.operations[o].kind == "conv"]
        assert len(convolutions) == len(set(convolutions))


def test_the_causal_examples_are_causal() -> None:
    for name in ("causal", "lenet"):
        topology = ALL[name]().topology
        assert len(topology.causal) >= 2


def test_sharing_ends_with_norms_before_a_causal_block_of_another_policy() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4), after=NR)
    builder.head(builder.conv(x, (2, 4), wiring="causal"))
    for norm, shared in (("shared", {0, 1, 2, 3}), ("per_point", {0}), ("recalibrated", {0})):
        assert stable_maps(builder.architecture(2, norm=norm))[0] == shared


# Norms that points share ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["causal", "causal_concat", "lenet", "multi_exit", "gated_residual"])
def test_equal_values_at_all_points_may_share_a_norm(name: str) -> None:
    replace(ALL[name](), norm="shared")


@pytest.mark.parametrize("name", ["gated_concat", "gated_sum", "gated_dense", "gated_sources"])
def test_gated_modules_may_share_a_norm(name: str) -> None:
    assert ALL[name]().norm == "shared"


WIDER = (
    r"operation 1 \(conv 1 -> 2\) has different values at level 1 than at level 0: operation 1 .* reads \d+ channels"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("residual", WIDER),
        ("mobile", WIDER),
        (
            "i_resnext",
            r"\(global_avg_pool 5 -> 6\) has different values .*: the input of operation 5 \(avg_pool 4 -> 5\) changes",
        ),
        ("cell", WIDER),
    ],
)
def test_wider_maps_must_not_share_a_norm(name: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        replace(ALL[name](), norm="shared")


def _after_a_module(scale: str, *, gated: bool) -> Architecture:
    builder = Builder(TASK)
    x = builder.conv(builder.input, 4)
    module = builder.add("conv", x, builder.map((4, 8), scale=scale), kernel=3)
    if gated:
        builder.gate([[module], [module]], always=1)
    builder.head(builder.conv(module, 6, after=("norm",)))
    return builder.architecture(2, norm="shared")


def test_a_map_that_is_narrower_at_the_larger_point_changes_its_readers() -> None:
    builder = Builder(TASK)
    y = builder.conv(builder.conv(builder.input, (2, 4)), (2, 4, 16), kernel=3, after=("norm",))
    builder.head(y)
    with pytest.raises(InvalidArchitecture, match="reads 4 channels at the smaller, 2 at the larger, and its wiring"):
        _points(builder, (3, 4, 2, 2, 5), (3, 2, 16, 16, 5))


def test_a_norm_after_gated_components_may_be_shared_and_after_a_width_may_not() -> None:
    for scale in ("mean", "none"):
        assert _after_a_module(scale, gated=True).norm == "shared"
        with pytest.raises(InvalidArchitecture, match="Wire it causally, or set norm to 'recalibrated' or 'per_point'"):
            _after_a_module(scale, gated=False)


@settings(max_examples=60, deadline=None)
@given(architectures())
def test_norms_that_are_shared_see_the_same_values(architecture: Architecture) -> None:
    """The oracle: what every norm is given, at each level, by statistics of the batch."""
    if architecture.topology.gated:
        return
    try:
        replace(architecture, norm="shared")
    except InvalidArchitecture:
        return
    network = AnytimeNetwork(replace(architecture, norm="recalibrated")).double().train()
    x = torch.randn(3, *architecture.task.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: list[dict[str, dict[int, torch.Tensor]]] = []
    for name, module in network.named_modules():
        if isinstance(module, Norm):
            module.register_forward_pre_hook(
                lambda _, given, name=name: seen[-1].__setitem__(
                    name, dict(zip(given[1].positions, given[0].unbind(1)))
                )
            )
    points = architecture.points
    for level in range(len(points)):
        seen.append({})
        network(x, level)
    for level, (before, after) in enumerate(pairwise(seen)):
        if points[level].operations == points[level + 1].operations:  # else gates may have switched
            for name, channels in before.items():
                for channel in channels.keys() & after[name].keys():
                    torch.testing.assert_close(after[name][channel], channels[channel])
