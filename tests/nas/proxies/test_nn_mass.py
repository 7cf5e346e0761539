"""NN-Mass: the paper's formula on one cell, the authors' values for residual blocks, cells found by brute force."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from nas import testing
from nas.errors import UserError
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.proxies.nn_mass import NNMass, cells, nn_mass
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random

from ..hand_built import ALL

TASK = Task(input_shape=(3, 8, 8), num_classes=5)


def by_formula(depth, width, candidates):
    """The paper's density and mass of one cell."""
    links = sum(min(width * (i - 1), candidates) for i in range(2, depth))
    density = 2 * links / (width * (depth - 1) * (depth - 2))
    return density, density * width * depth


def concat_cell(depth, width, sources) -> Architecture:
    """DenseNet-type: every layer reads the one before it and, beside it, the first ``sources`` earlier ones."""
    builder = Builder(TASK)
    layers = [builder.conv(builder.input, width)]
    for i in range(1, depth):
        beside = layers[: min(i - 1, sources)]
        read = builder.concat([layers[-1], *beside]) if beside else layers[-1]
        layers.append(builder.conv(read, width))
    builder.head(layers[-1])
    return builder.architecture(1)


def chain(widths, skips, *, kind="identity") -> Architecture:
    """Convolutions with sums; skips are pairs of places in the chain."""
    builder = Builder(TASK)
    maps = [builder.conv(builder.input, widths[0])]
    for width in widths[1:]:
        maps.append(builder.conv(maps[-1], width))
    for source, target in skips:
        builder.add(kind, maps[source], maps[target], **({"kernel": 1} if kind == "conv" else {}))
    builder.head(maps[-1])
    return builder.architecture(1)


def mass(architecture, level=-1):
    return nn_mass(architecture.topology, architecture.points[level])


@pytest.mark.parametrize(("depth", "sources"), [(d, t) for d in (3, 4, 5, 8) for t in (1, 2, 3, 6)])
def test_the_papers_formula_for_skips_that_concatenate(depth, sources):
    architecture = concat_cell(depth, 4, sources)
    density, expected = by_formula(depth, 4, 4 * sources)
    all_cells = cells(architecture.topology, architecture.points[0])
    assert [cell.density for cell in all_cells] == pytest.approx(
        [0, density, 0, 0]
    )  # input, the cell, pooling, classifier
    assert mass(architecture) == pytest.approx(expected)


@pytest.mark.parametrize("depth", [3, 5, 7])
def test_the_papers_formula_for_skips_that_add(depth):
    skips = [(s, t) for t in range(depth) for s in range(t - 1)]
    assert mass(chain([6] * depth, skips)) == pytest.approx(by_formula(depth, 6, 10**6)[1])  # density 1
    assert mass(chain([6] * depth, [(0, depth - 1)])) == pytest.approx(6 * depth * 2 / ((depth - 1) * (depth - 2)))


def test_basic_blocks_as_the_authors_count_them():
    """Channels read plus planes, for every block; the end of the last block is counted here, there it is not."""
    builder, expected = Builder(TASK), 0
    x = builder.conv(builder.input, 8)
    for before, planes, stride in ((8, 8, 1), (8, 16, 2), (16, 16, 1)):
        y = builder.conv(builder.conv(x, planes, stride=stride), planes)
        if stride > 1:
            builder.add("conv", x, y, kernel=1, stride=stride)
        else:
            builder.identity(x, y)
        x, expected = y, expected + before + planes
    builder.head(x)
    assert mass(builder.architecture(1)) == expected + 16


def test_inverted_residuals_as_the_authors_count_them():
    """(n + 2h) n / (2n + h) for n channels expanded to h, which is a density of n / (2n + h)."""
    builder, n, h = Builder(TASK), 8, 24
    x = builder.conv(builder.input, n)
    for _ in range(3):
        y = builder.conv(builder.depthwise(builder.conv(x, h, kernel=1)), n, kernel=1)
        builder.identity(x, y)
        x = y
    builder.head(x)
    assert mass(builder.architecture(1)) == pytest.approx((3 * (n + 2 * h) + n) * n / (2 * n + h))


def test_a_small_chain_by_hand():
    """Widths 4, 8, 6, 10 and a skip from the first to the third: the cell is the first three, the fourth is outside."""
    architecture = chain([4, 8, 6, 10], [(0, 2)], kind="conv")
    all_cells = cells(architecture.topology, architecture.points[0])
    assert [cell.maps for cell in all_cells] == [(0, 1), (1, 2, 3), (3, 4), (4, 5), (5, 6)]
    assert [cell.density for cell in all_cells] == [0, 1, 0, 0, 0]
    assert mass(architecture) == 4 + 8 + 6
    # and one from the second to the fourth: possible 4 + 4 + 8 channels, existing 4 + 8, width 28
    assert mass(chain([4, 8, 6, 10], [(0, 2), (1, 3)], kind="conv")) == pytest.approx(28 * 12 / 16)


def test_a_skip_beside_a_single_layer():
    assert mass(chain([6, 6, 6], [(0, 1), (1, 2)])) == 18
    assert mass(chain([6, 6, 6], [(1, 2)])) == 12


def test_parallel_links_are_one():
    assert mass(chain([6] * 3, [(0, 2), (0, 2)])) == mass(chain([6] * 3, [(0, 2)]))


def test_joining_two_blocks_by_a_skip_can_lower_the_mass():
    """As the module says: five maps of width 6, of 6 possible links 3 exist."""
    assert mass(chain([6] * 5, [(0, 2), (2, 4)])) == 30
    assert mass(chain([6] * 5, [(0, 2), (2, 4), (0, 4)])) == pytest.approx(30 * 3 / 6)


def test_no_skips_no_mass():
    assert mass(chain([6, 8, 4], [])) == 0
    builder = Builder(TASK)
    x = builder.conv(builder.input, 4)
    left, right = builder.conv(x, 4), builder.conv(x, 6)  # two branches of two layers each
    builder.head(builder.add("conv", right, builder.conv(left, 4), kernel=1))
    assert mass(builder.architecture(1)) == 0


def test_more_width_is_more_mass_in_proportion():
    skips = [(0, 2), (1, 4), (2, 4)]
    assert mass(chain([12] * 5, skips)) == pytest.approx(3 * mass(chain([4] * 5, skips)))


def test_more_skips_within_a_cell_are_more_mass():
    skips = [(0, 5), (0, 2), (1, 3), (0, 4), (2, 5)]
    masses = [mass(chain([4] * 6, skips[:count])) for count in range(1, 6)]
    assert masses == sorted(set(masses))


def test_levels():
    architecture = ALL["residual"]()
    masses = [mass(architecture, level) for level in range(3)]
    assert len(set(masses)) == 3
    assert NNMass()(architecture) == masses[-1]
    assert NNMass(levels="mean")(architecture) == pytest.approx(np.mean(masses))
    with pytest.raises(UserError, match="'largest' or 'mean'"):
        NNMass(levels="all")


def test_an_operation_that_is_off_is_no_link():
    architecture = ALL["gated_dense"]()
    masses = [mass(architecture, level) for level in range(3)]
    assert masses[0] < masses[2]


def random_architectures():
    rng, task = np.random.default_rng(2), Task(input_shape=(1, 28, 28), num_classes=10)
    for space in ("residual", "mobile", "slimmable"):
        proposing = load_plugin("nas.search_spaces", space)()
        yield from (proposing.architecture(Recorder(at_random(rng), Domains()), task, points=2) for _ in range(15))


def without_concats(topology, point) -> nx.DiGraph:
    """The live graph, in which the readers of a concat read its sources."""
    graph = nx.DiGraph((topology.operations[o].source, topology.operations[o].target) for o in point.operations)
    for node in sorted(graph):
        if topology.maps[node].merge == "concat":
            graph.add_edges_from((s, t) for s in list(graph.predecessors(node)) for t in list(graph.successors(node)))
            graph.remove_node(node)
    return graph


def test_cells_end_at_maps_on_all_paths():
    """A second algorithm: a map lies on every path iff input and output come apart without it."""
    for architecture in [*random_architectures(), *(make() for make in ALL.values())]:
        topology = architecture.topology
        for point in architecture.points:
            graph, output = without_concats(topology, point), point.output
            between = set(graph) - {0, output}
            cuts = {m for m in between if not nx.has_path(nx.restricted_view(graph, [m], []), 0, output)}
            all_cells = cells(topology, point)
            assert [cell.maps[0] for cell in all_cells] + [output] == sorted(cuts | {0, output})
            assert [m for cell in all_cells for m in cell.maps[:-1]] + [output] == sorted(graph)
            assert all(0 <= cell.density <= 1 for cell in all_cells)
            assert 0 <= nn_mass(topology, point) <= sum(topology.active(point))


def test_installed_and_passing_the_shipped_checks():
    assert load_proxy("nn_mass").needs == "topology"
    testing.check_proxy("nn_mass")
