"""Sampling: probabilities in closed form and in frequency, every draw a network, importance by hand and in general."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import chisquare

from nas.builder import Builder
from nas.choices import Domains, Recorder, at_random
from nas.cost import subnetwork_macs
from nas.errors import InvalidArchitecture, UserError
from nas.importance import graph_of
from nas.kinds import kind
from nas.liveness import check_point, live_operations
from nas.markov import WALKS
from nas.plugins import load_plugin
from nas.sampling import (
    WIDTHS,
    Choice,
    chain_importance,
    choices,
    coupling_groups,
    degree_importance,
    expected_macs,
    favour,
    favoured_path,
    important_alternatives,
    random_alternatives,
    sample_subnetwork,
    sampled_graph,
)
from nas.topology import Architecture, Task

from .hand_built import ALL

TASK = Task(input_shape=(3, 8, 8), num_classes=10)


@cache
def proposals(space: str, count: int) -> tuple[Architecture, ...]:
    """Random architectures of a shipped space that leave something to choose."""
    decide, domains = at_random(np.random.default_rng(0)), Domains()
    made, found = load_plugin("nas.search_spaces", space)(), []
    while len(found) < count:
        try:
            architecture = made.architecture(Recorder(decide, domains), Task(input_shape=(3, 32, 32), num_classes=10))
        except InvalidArchitecture:
            continue
        if choices(architecture.topology):
            found.append(architecture)
    return tuple(found)


def two_blocks():
    """0 stem; block 1: body 1, 2, identity 3 ∥ optional conv 4; block 2: body 5, 6, identity 7; skip 8 over both."""
    b, widths = Builder(TASK), (4, 8, 12)
    x = b.conv(b.input, widths)
    y = b.conv(b.conv(x, widths), widths)
    b.identity(x, y)
    b.add("conv", x, y, kernel=1, optional=True)
    z = b.conv(b.conv(y, widths), widths)
    b.identity(y, z)
    b.add("avg_pool", x, z, kernel=3, optional=True)
    b.head(z)
    return b.architecture(3)


def all_optional():
    """Conv 1 then conv 2, or the identity 3 around both, or conv 4 for the second: each may go, so all may."""
    b, widths = Builder(TASK), (4, 8)
    x = b.conv(b.input, widths)
    y = b.conv(x, widths, optional=True)
    z = b.conv(y, widths, optional=True)
    b.identity(x, z, optional=True)
    b.add("conv", y, z, kernel=1, optional=True)
    b.head(z)
    return b.architecture(2)


def test_choices_are_what_a_draw_decides():
    assert [c.alternatives for c in choices(two_blocks().topology)] == [(4, None), (8, None)]
    assert [c.alternatives for c in choices(all_optional().topology)] == [(1, None), (2, 4), (3, None)]
    assert choices(ALL["mobile"]().topology) == ()


@pytest.mark.parametrize(("beta", "first"), [(0, (1 / 2, 1 / 3)), (0.5, (3 / 5, 3 / 7)), (2, (3 / 4, 3 / 5))])
def test_probabilities_in_closed_form(beta, first):
    even = [Choice(alternatives=tuple(range(n)), probabilities=(1 / n,) * n) for n in (2, 3)]
    favoured = favour(even, [0, 0], beta)
    assert [c.probabilities[0] for c in favoured] == pytest.approx(first)
    assert [sum(c.probabilities) for c in favoured] == pytest.approx([1, 1])
    assert len(set(favoured[1].probabilities[1:])) == 1


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_a_wrong_beta_is_refused(beta):
    with pytest.raises(UserError, match="beta="):
        favour([], [], beta)


def test_frequencies_are_the_probabilities():
    architecture = max(proposals("residual", 30), key=lambda a: len(choices(a.topology)))
    made = choices(architecture.topology)
    made = favour(made, random_alternatives(architecture, np.random.default_rng(1)), 0.5)
    assert len(made) >= 8
    rng, count = np.random.default_rng(2), 4000
    drawn = [sample_subnetwork(architecture, made, rng) for _ in range(count)]
    for choice in made:
        runs = [[o in point.operations for o in choice.alternatives if o is not None] for point in drawn]
        assert max(map(sum, runs)) <= 1
        counts = np.sum(runs, axis=0).tolist()
        counts += [count - sum(counts)] * (len(choice.alternatives) - len(counts))
        assert chisquare(counts, np.array(choice.probabilities) * count).pvalue > 1e-3
    widths = np.unique([point.channels[1] for point in drawn], return_counts=True)[1]
    assert len(widths) == 4
    assert chisquare(widths).pvalue > 1e-3


def every_architecture():
    built = [make() for make in ALL.values()]
    return [*built, two_blocks(), all_optional(), *proposals("residual", 30), *proposals("mobile", 30)]


@pytest.mark.parametrize("widths", WIDTHS)
def test_every_draw_is_a_network(widths):
    rng = np.random.default_rng(3)
    for architecture in every_architecture():
        topology, outputs = architecture.topology, {point.output for point in architecture.points}
        made = choices(topology)
        for beta in (0.0, 3.0):
            made = favour(made, random_alternatives(architecture, rng), beta)
            for _ in range(8):
                point = sample_subnetwork(architecture, made, rng, widths=widths)
                check_point(topology, architecture.task, point)
                assert live_operations(topology, point.operations, point.output) == point.operations
                assert point.output in outputs
                mandatory = {o for o, op in enumerate(topology.operations) if not op.optional}
                reached = live_operations(topology, [*mandatory, *point.operations], point.output)
                assert mandatory.intersection(reached) <= set(point.operations)


def test_what_is_cut_off_gets_the_path_with_the_fewest_operations_back():
    architecture = all_optional()
    never = [Choice(alternatives=c.alternatives, probabilities=(0.0, 1.0)) for c in choices(architecture.topology)]
    drawn = {sample_subnetwork(architecture, never, np.random.default_rng(s)).operations for s in range(9)}
    # Drawn: neither 1 nor 3, of 2 and 4 the latter. Putting 1 or 3 back costs one operation each; 3 is written first.
    assert drawn == {(0, 3, 5, 6)}


def test_common_widths_are_one_level_and_independent_ones_agree_within_coupling_groups():
    architecture = proposals("mobile", 1)[0]
    topology, made = architecture.topology, choices(architecture.topology)
    rng, seen = np.random.default_rng(4), set()
    for _ in range(50):
        common, independent = (sample_subnetwork(architecture, made, rng, widths=w) for w in ("common", "independent"))
        levels = [
            {m: topology.maps[m].slices.index(n) for m, n in zip(topology.declared, p.channels) if n}
            for p in (common, independent)
        ]
        elastic = [m for m in levels[0] if len(topology.maps[m].slices) > 1]
        assert len({levels[0][m] for m in elastic}) == 1
        for group in coupling_groups(topology):
            assert len({levels[1][m] for m in group if m in levels[1] and m in elastic}) <= 1
        seen.add(len({levels[1][m] for m in elastic}))
    assert max(seen) > 1


def test_beta_zero_is_uniform():
    for architecture in proposals("residual", 5):
        made = choices(architecture.topology)
        zero = favour(made, random_alternatives(architecture, np.random.default_rng(5)), 0.0)
        assert [c.probabilities for c in zero] == [pytest.approx(c.probabilities) for c in made]
        streams = (np.random.default_rng(6), np.random.default_rng(6))
        for _ in range(20):
            assert sample_subnetwork(architecture, made, streams[0]) == sample_subnetwork(
                architecture, zero, streams[1]
            )


def test_chain_importance_by_hand():
    """Paths from the stem's map: 2 or 3 through block 1, times 2 through block 2, and the skip's one where it is."""
    architecture = two_blocks()
    assert len(sampled_graph(architecture).live) == 4
    by_paths = chain_importance(architecture, "paths")
    assert by_paths[4] == pytest.approx((2 / 6 + 2 / 7) / 2)
    assert by_paths[8] == pytest.approx((1 / 5 + 1 / 7) / 2)
    assert by_paths[[0, 9, 10]] == pytest.approx(1)
    by_flow = chain_importance(architecture, "flow")
    assert by_flow[[4, 8]] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert important_alternatives(architecture, by_paths) == (0, 1)
    assert important_alternatives(architecture, by_flow) == (0, 0)  # a tie: present


def test_undirected_importance_is_degree_where_everything_is_always_live():
    b = Builder(TASK)
    x = b.conv(b.input, (4, 8))
    y = b.conv(x, (4, 8))
    b.identity(x, y)
    b.head(y)
    architecture = b.architecture(1)
    view = graph_of(architecture)
    total = 2 * len(view.graph.edges)
    assert chain_importance(architecture, "undirected") * total * 2 == pytest.approx(degree_importance(architecture))


@pytest.mark.parametrize("walk", ["paths", "flow"])
def test_operations_between_the_same_maps_are_alike_to_a_walk(walk):
    """Why shares are compared across the supernet and not within a group of parallel operations."""
    for architecture in proposals("residual", 10):
        operations = architecture.topology.operations
        shares_TO = WALKS[walk](sampled_graph(architecture, subnetworks=64)).visits_TN[
            :, list(graph_of(architecture).operation_nodes)
        ]
        for i, one in enumerate(operations):
            for j, other in enumerate(operations[:i]):
                if (one.source, one.target) == (other.source, other.target):
                    both = (shares_TO[:, i] > 0) & (shares_TO[:, j] > 0)
                    assert shares_TO[both, i] == pytest.approx(shares_TO[both, j])


def test_large_chains_are_sampled_by_a_seed_of_the_network():
    architecture = max(proposals("residual", 30), key=lambda a: len(choices(a.topology)))
    once, again = (sampled_graph(architecture, subnetworks=100) for _ in range(2))
    assert once == again
    assert len(once.live) == 100
    exact, sampled = (chain_importance(architecture, subnetworks=n) for n in (5000, 500))
    assert sampled == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("space", ["residual", "mobile"])
@pytest.mark.parametrize("walk", WALKS)
def test_important_path_is_neither_the_trunk_nor_skips_alone(space, walk):
    """Never the trunk: the most important optional operation is never below the average. Rarely skips alone, where what
    is important leaves no body to pass. With a single choice it must be one or the other: that is left out.
    """
    skips_alone = []
    for architecture in proposals(space, 30)[:20]:
        operations = architecture.topology.operations
        if len(choices(architecture.topology)) < 2:
            continue
        best = important_alternatives(architecture, chain_importance(architecture, walk, subnetworks=256))
        made = favour(choices(architecture.topology), best)
        path = favoured_path(architecture, made, walk, subnetworks=256)
        important = {c.alternatives[c.important] for c in made} - {None}
        assert important.intersection(path)
        assert {o for o in path if operations[o].optional} <= important
        trunk = [o for o in path if kind(operations[o].kind).learned and not operations[o].optional]
        skips_alone.append(len(trunk) <= 2)  # stem and classifier
    assert np.mean(skips_alone) <= (0.1 if walk == "paths" else 0.2)


def test_a_random_path_favours_one_alternative_of_every_choice_as_the_chain_does():
    for architecture in proposals("residual", 5):
        made = choices(architecture.topology)
        chain = favour(made, important_alternatives(architecture, chain_importance(architecture, subnetworks=64)))
        drawn = [random_alternatives(architecture, np.random.default_rng(s)) for s in (7, 7, 8, 9, 10, 11)]
        assert drawn[0] == drawn[1]
        assert len(made) == 1 or len(set(drawn)) > 1
        random = favour(made, drawn[0])
        assert [sorted(c.probabilities) for c in random] == [pytest.approx(sorted(c.probabilities)) for c in chain]


def test_expected_macs_agree_with_the_exact_mean():
    architecture = two_blocks()
    topology = architecture.topology
    made = favour(choices(topology), (0, 1), 0.5)
    mean = 0.0
    for level in range(3):
        full = architecture.points[level]
        for branch, p in ((True, 0.6), (False, 0.4)):  # the skip costs nothing
            point = type(full)(
                channels=full.channels,
                operations=tuple(o for o in full.operations if o != 4 or branch),
                output=full.output,
            )
            mean += p / 3 * subnetwork_macs(topology, point)
    assert expected_macs(architecture, made, draws=4000) == pytest.approx(mean, rel=0.03)
    assert expected_macs(architecture, made) == expected_macs(architecture, made)


def test_names_are_checked():
    architecture = two_blocks()
    with pytest.raises(UserError, match="flow, paths, undirected"):
        chain_importance(architecture, "drunk")
    with pytest.raises(UserError, match="common"):
        sample_subnetwork(architecture, choices(architecture.topology), np.random.default_rng(0), widths="any")
    with pytest.raises(UserError, match="subnetworks=0"):
        sampled_graph(architecture, subnetworks=0)
