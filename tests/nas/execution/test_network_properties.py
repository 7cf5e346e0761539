"""Random networks: oracle, slices, one pass for all levels and extraction agree; costs; canonical form and keys."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import nas
from nas.execution.layers import Layer, Norm
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import FeatureMap, Operation, Task, TrainingSpec
from nas.representation.liveness import UsedParts, trim_point
from nas.representation.reuse import stable_maps
from nas.representation.topology import Topology

from ..masked import masked_forward
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures

FEW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@given(architectures())
@FEW
def test_all_ways_to_run_a_network_agree(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture, dtype=torch.float64))
    x = random_images(network)
    for training in (False, True):  # evaluation first: training moves the statistics
        alone = [network.eval().extract(level).train(training) for level in range(network.levels)]
        network.train(training)
        with torch.no_grad():
            expected = [masked_forward(network, x, k, training=training)[0] for k in range(network.levels)]
            for level, everything in enumerate(network.forward_all(x)):
                _close(everything, expected[level])
                _close(network(x, level), expected[level])
                _close(alone[level](x), expected[level])


@given(architectures())
@FEW
def test_costs_are_those_of_the_extracted_network(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture)).eval()
    assert (network.macs, network.params) == (nas.macs(architecture), nas.params(architecture))
    for level in range(network.levels):
        alone = network.extract(level)
        assert sum(p.numel() for p in alone.parameters()) == network.params[level]
        with FlopCounterMode(display=False) as counter:
            alone.to("meta")(torch.empty(1, *architecture.task.input_shape, device="meta"))
        assert counter.get_total_flops() == 2 * network.macs[level]


@given(architectures())
@FEW
def test_a_level_has_gradients_for_its_weights_only(architecture: Architecture) -> None:
    network = random_network(architecture, dtype=torch.float64).train()
    x = random_images(network)
    for level, point in enumerate(architecture.points):
        network.zero_grad()
        network(x, level).square().sum().backward()
        for o, layer in enumerate(network.operation_layers):
            if o not in point.operations:
                assert all(p.grad is None for p in layer.parameters())
            elif layer.weight is not None and layer.weight.grad is None:
                assert not _has_influence(network, layer, x, level)
            elif layer.weight is not None and layer.mask is not None:
                assert torch.equal(layer.weight.grad * layer.mask, layer.weight.grad)


def _has_influence(network: AnytimeNetwork, layer: Layer, x: torch.Tensor, level: int) -> bool:
    """Whether logits depend on the weight of a live operation.

    They do not if an aligned operation behind it drops all channels that it writes, because liveness follows maps.
    """
    with torch.no_grad():
        before = network(x, level)
        layer.weight.add_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1)))
        return not torch.equal(before, network(x, level))


def test_a_weight_has_no_gradient_if_an_aligned_operation_drops_its_channels() -> None:
    builder = Builder(Task(input_shape=(3, 4, 4), num_classes=2))
    first, second = builder.conv(builder.input, 2), builder.conv(builder.input, 2)
    both = builder.concat([first, second])
    builder.head(builder.identity(both, builder.map(2)))  # the last two of four channels have no place
    network = random_network(builder.architecture(1), dtype=torch.float64).train()
    images = random_images(network)
    network(images).square().sum().backward()
    kept, dropped = network.operation_layers[:2]
    assert kept.weight.grad.any()
    assert _has_influence(network, kept, images, 0)
    assert dropped.weight.grad is None or not dropped.weight.grad.any()
    assert not _has_influence(network, dropped, images, 0)


@given(architectures())
@FEW
def test_maps_that_count_as_shared_are_shared(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture, dtype=torch.float64)).eval()
    x = random_images(network)
    with torch.no_grad():
        _, top = masked_forward(network, x, network.levels - 1, training=False)
        for level, shared in enumerate(stable_maps(architecture)):
            _, values = masked_forward(network, x, level, training=False)
            plan = network.plans.plan(architecture.points[level], x.device)
            for index in shared:
                _close(plan.channels[index].take(top[index], dim=1), plan.channels[index].take(values[index], dim=1))


@given(architectures())
@FEW
def test_json_and_points_are_stable(architecture: Architecture) -> None:
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture
    assert (again.key, again.network_key) == (architecture.key, architecture.network_key)
    other = replace(architecture, training=TrainingSpec(rule="joint"))
    assert (other.network_key, other.key != architecture.key) == (architecture.network_key, True)
    for point in architecture.points:
        assert trim_point(architecture.topology, point) is point


# The canonical form ----------------------------------------------------------------------------------------------


def transplant(network: AnytimeNetwork) -> AnytimeNetwork:
    """The network of the canonical architecture, with the corresponding weights of this network."""
    old = network.architecture
    new = old.canonical
    out = AnytimeNetwork(new).to(next(network.parameters()).dtype)
    if new is old:
        out.load_state_dict(network.state_dict())
        return out
    used = UsedParts(old.topology, old.points)
    live, maps = sorted(used.operations), sorted(used.maps)
    kept = {i: _kept_channels(old.topology, new.topology, i, maps, live) for i in maps}
    with torch.no_grad():
        for o, layer in zip(live, out.operation_layers):
            _copy(network.operation_layers[o], layer, kept)
    out.calibrated.copy_(network.calibrated)
    return out


def _kept_channels(old: Topology, new: Topology, index: int, maps: list[int], live: list[int]) -> list[int]:
    if old.maps[index].merge != "concat":
        return list(range(new.maps[maps.index(index)].channels))
    out, start = [], 0
    for o in old.incoming[index]:
        source = old.operations[o].source
        if o in live:
            out += [start + c for c in _kept_channels(old, new, source, maps, live)]
        start += old.maps[source].channels
    return out


def _copy(theirs: Layer, mine: Layer, kept: dict[int, list[int]]) -> None:
    rows, columns = kept[theirs.operation.target], kept[theirs.operation.source]
    if theirs.weight is not None and mine.weight is not None:
        weight = theirs.weight[rows]
        mine.weight.copy_(weight if theirs.operation.groups > 1 else weight[:, columns])
    if theirs.bias is not None and mine.bias is not None:
        mine.bias.copy_(theirs.bias[rows])
    for their_norm, my_norm, channels in (
        (theirs.before, mine.before, columns),
        (theirs.after, mine.after, rows),
    ):
        if isinstance(their_norm, Norm) and isinstance(my_norm, Norm):
            for name in ("weight", "bias", "mean", "var"):
                getattr(my_norm, name).copy_(getattr(their_norm, name)[:, channels])


@given(architectures())
@FEW
def test_the_canonical_form_is_the_same_network(architecture: Architecture) -> None:
    canonical = architecture.canonical
    assert canonical.canonical == canonical
    assert (canonical.key, canonical.network_key) == (architecture.key, architecture.network_key)
    assert nas.macs(canonical) == nas.macs(architecture)
    assert nas.params(canonical) == nas.params(architecture)
    network = random_statistics(random_network(architecture, dtype=torch.float64)).eval()
    trimmed, x = transplant(network).eval(), random_images(network)
    with torch.no_grad():
        for level in range(network.levels):
            _close(trimmed(x, level), network(x, level))
            _close(trimmed.train()(x, level), network.train()(x, level))
            trimmed.eval(), network.eval()


def _with_dead_branch(architecture: Architecture, after: int, place: int) -> Architecture:
    """A map that no point uses, put right after a map, and an operation into it, put at a place among the others."""
    old = architecture.topology
    moved = {i: i + (i > after) for i in range(len(old.maps))}
    source = old.maps[after]
    dead = FeatureMap(channels=source.channels, size=source.size, slices=source.slices)
    operations = [replace(o, source=moved[o.source], target=moved[o.target]) for o in old.operations]
    operations.insert(place, Operation(source=after, target=after + 1, kind="identity", after=("norm", "relu")))
    maps = (*old.maps[: after + 1], dead, *old.maps[after + 1 :])
    points = []
    for point in architecture.points:
        channels = {moved[i]: n for i, n in zip(old.declared, point.channels)} | {after + 1: 0}
        points.append(
            replace(
                point,
                channels=tuple(channels[i] for i in sorted(channels)),
                operations=tuple(o + (o >= place) for o in point.operations),
                output=moved[point.output],
            )
        )
    gated = tuple(
        replace(module, components=tuple(tuple(moved[i] for i in component) for component in module.components))
        for module in old.gated
    )
    topology = Topology(maps=maps, operations=tuple(operations), gated=gated)
    return replace(architecture, topology=topology, points=tuple(points))


@given(architectures(), st.data())
@FEW
def test_a_dead_branch_changes_no_key(architecture: Architecture, data: st.DataObject) -> None:
    canonical = architecture.canonical
    topology = canonical.topology
    after = data.draw(st.sampled_from([i for i, m in enumerate(topology.maps) if m.merge == "sum"]))
    place = data.draw(st.integers(0, len(topology.operations)))
    more = _with_dead_branch(canonical, after, place)
    assert more != canonical
    assert more.canonical == canonical
    assert (more.key, more.network_key) == (architecture.key, architecture.network_key)


@given(architectures(), st.data())
@FEW
def test_dead_channels_change_no_key(architecture: Architecture, data: st.DataObject) -> None:
    canonical = architecture.canonical
    topology = canonical.topology
    bound = {0, *(o.source for o in topology.operations if topology.maps[o.target].merge == "concat")}
    bound |= {i for module in topology.gated for component in module.components for i in component}
    for o in topology.operations:
        if o.groups > 1 or o.wiring == "causal" or topology.maps[o.source].merge == "concat":
            bound |= {o.source, o.target}
    free = [
        i
        for i, m in enumerate(topology.maps)
        if i not in bound and m.merge == "sum" and m.scale == "none" and i not in {p.output for p in canonical.points}
        if any(p.channels[topology.declared.index(i)] == m.channels for p in canonical.points)
    ]
    if free:
        index = data.draw(st.sampled_from(free))
        item = topology.maps[index]
        wider = replace(item, channels=item.channels + 3, slices=(*item.slices, item.channels + 3))
        maps = (*topology.maps[:index], wider, *topology.maps[index + 1 :])
        more = replace(canonical, topology=replace(topology, maps=maps))
        assert more.canonical == canonical
        assert (more.key, more.network_key) == (architecture.key, architecture.network_key)


@given(architectures())
@FEW
def test_a_copy_is_independent(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture)).eval()
    x = random_images(network)
    before = network(x)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(network(x), before)
