"""Sampling: probabilities in closed form and in frequency, every draw a network."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from nas.chain.graph import sampled_graph
from nas.chain.importance import chain_scores, important_alternatives, random_alternatives
from nas.errors import UserError
from nas.representation.builder import Builder
from nas.representation.coupling import coupling_groups
from nas.representation.liveness import check_point
from nas.representation.supernet import (
    WIDTHS,
    ChoiceGroup,
    choice_groups,
    favour,
    sample_subnetwork,
)
from nas.representation.topology import live_operations

from ..hand_built import ALL
from ..supernets import TASK, all_optional, proposals, supernet, two_blocks


def test_choice_groups_of_hand_built_networks():
    assert [c.alternatives for c in choice_groups(two_blocks().topology)] == [(4, None), (8, None)]
    assert [c.alternatives for c in choice_groups(all_optional().topology)] == [(1, None), (2, 4), (3, None)]
    assert choice_groups(ALL["mobile"]().topology) == ()


def test_choices_are_parallels_and_lone_optionals():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)  # 0
    y = builder.conv(x, 8)  # 1: a residual whose identity always runs is no choice
    builder.identity(x, y)  # 2
    z = builder.conv(y, 8, optional=True)  # 3 and 4: alternatives
    builder.identity(y, z)
    builder.add("conv", x, z, kernel=1, optional=True)  # 5: or its absence
    builder.head(z)
    assert [c.alternatives for c in choice_groups(builder.topology())] == [(3, None), (5, None)]
    assert [c.alternatives for c in choice_groups(supernet().topology)] == [(3, 4), (7, 8), (11, 12)]


@pytest.mark.parametrize(("beta", "first"), [(0, (1 / 2, 1 / 3)), (0.5, (3 / 5, 3 / 7)), (2, (3 / 4, 3 / 5))])
def test_probabilities_in_closed_form(beta, first):
    even = [ChoiceGroup(alternatives=tuple(range(n)), probabilities=(1 / n,) * n) for n in (2, 3)]
    favoured = favour(even, [0, 0], beta)
    assert [c.probabilities[0] for c in favoured] == pytest.approx(first)
    assert [sum(c.probabilities) for c in favoured] == pytest.approx([1, 1])
    assert len(set(favoured[1].probabilities[1:])) == 1


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_a_wrong_beta_is_refused(beta):
    with pytest.raises(UserError, match="beta="):
        favour([], [], beta)


def test_frequencies_are_the_probabilities():
    architecture = max(proposals("residual", 30), key=lambda a: len(choice_groups(a.topology)))
    groups = choice_groups(architecture.topology)
    groups = favour(groups, random_alternatives(architecture, np.random.default_rng(1)), 0.5)
    assert len(groups) >= 8
    rng, count = np.random.default_rng(2), 4000
    drawn = [sample_subnetwork(architecture, groups, rng) for _ in range(count)]
    for choice in groups:
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
        groups = choice_groups(topology)
        for beta in (0.0, 3.0):
            groups = favour(groups, random_alternatives(architecture, rng), beta)
            for _ in range(8):
                point = sample_subnetwork(architecture, groups, rng, widths=widths)
                check_point(topology, architecture.task, point)
                assert live_operations(topology, point.operations, point.output) == point.operations
                assert point.output in outputs
                mandatory = {o for o, op in enumerate(topology.operations) if not op.optional}
                reached = live_operations(topology, [*mandatory, *point.operations], point.output)
                assert mandatory.intersection(reached) <= set(point.operations)


def test_a_disconnected_draw_gets_the_path_with_the_fewest_operations_back():
    architecture = all_optional()
    never = [
        ChoiceGroup(alternatives=c.alternatives, probabilities=(0.0, 1.0)) for c in choice_groups(architecture.topology)
    ]
    drawn = {sample_subnetwork(architecture, never, np.random.default_rng(s)).operations for s in range(9)}
    # Drawn: neither 1 nor 3, of 2 and 4 the latter. Putting 1 or 3 back costs one operation each; 3 is written first.
    assert drawn == {(0, 3, 5, 6)}


def test_common_widths_are_one_level_and_independent_ones_agree_within_coupling_groups():
    architecture = proposals("mobile", 1)[0]
    topology, groups = architecture.topology, choice_groups(architecture.topology)
    rng, seen = np.random.default_rng(4), set()
    for _ in range(50):
        common, independent = (
            sample_subnetwork(architecture, groups, rng, widths=w) for w in ("common", "independent")
        )
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
        groups = choice_groups(architecture.topology)
        zero = favour(groups, random_alternatives(architecture, np.random.default_rng(5)), 0.0)
        assert [c.probabilities for c in zero] == [pytest.approx(c.probabilities) for c in groups]
        streams = (np.random.default_rng(6), np.random.default_rng(6))
        for _ in range(20):
            assert sample_subnetwork(architecture, groups, streams[0]) == sample_subnetwork(
                architecture, zero, streams[1]
            )


def test_a_random_path_favours_one_alternative_of_every_choice_as_the_chain_does():
    for architecture in proposals("residual", 5):
        groups = choice_groups(architecture.topology)
        importance = chain_scores(architecture, subnetworks=64).importance
        chain = favour(groups, important_alternatives(architecture, importance))
        drawn = [random_alternatives(architecture, np.random.default_rng(s)) for s in (7, 7, 8, 9, 10, 11)]
        assert drawn[0] == drawn[1]
        assert len(groups) == 1 or len(set(drawn)) > 1
        random = favour(groups, drawn[0])
        assert [sorted(c.probabilities) for c in random] == [pytest.approx(sorted(c.probabilities)) for c in chain]


def test_names_are_checked():
    architecture = two_blocks()
    with pytest.raises(UserError, match="common"):
        sample_subnetwork(architecture, choice_groups(architecture.topology), np.random.default_rng(0), widths="any")
    with pytest.raises(UserError, match="subnetworks=0"):
        sampled_graph(architecture, subnetworks=0)
