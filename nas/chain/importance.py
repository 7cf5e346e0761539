"""What matters in a supernet: scores of its maps, operations and paths, and the alternatives and the path that they
single out. One notion for training rules, drawings and reports.

It is read off the chain whose subnetworks G_1..G_T are draws of the choices
(:func:`nas.chain.graph.sampled_graph`), not the operating points: where all operations are live at every
point, the chain over points cannot tell alternatives apart. TAS sums to 1 over all nodes, so by summed TPS a path
through every map, the trunk of a residual network, wins always, and by the mean that of skips alone. So what matters is
told by operations that are alternatives, and four things follow from the structure of the walks:

- Operations between the same two maps carry the same share of walks, whatever the walk. Which of them is important is a
  matter of how often they are live, so shares are taken over the subnetworks that an operation is live in, and ties go
  to learned operations.
- A skip always carries less of the *paths* walk than the operations that it bypasses, and never more of the *flow*:
  against them, absence would win everywhere. So an optional operation is held against the *average optional operation
  of the supernet*: those that walks use more are important, of the others the absence is. At least one is then always
  important, and all only where walks tell none apart.
- Under the *undirected* walk every operation spends the same time at its own node; what it has is the TAS of the maps
  that it joins. That is their degree, but for how often they are live: expect what the degree says.
- An operation that is *exactly* average, such as the only optional one, counts as present but is no reason for a path
  to leave the body that it bypasses.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
    Nodes, TAS, TPS and the chain over sampled subnetworks are the paper's; the walks, the choices and the comparison
    with the average are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.chain.graph import SUBNETWORKS, graph_of, sampled_graph
from nas.chain.walks import WALKS, Graph, best_path
from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.supernet import ChoiceGroup, choice_groups

Floats = NDArray[np.float64]

_TIE = 9  # decimals in which two importances must differ to differ at all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainScores:
    """What the chain over drawn subnetworks says of an architecture.

    maps: TAS of every map, shape (num_maps,); outputs: of every operation's output, shape (num_operations,). Both
        together sum to 1.
    importance: of every operation, shape (num_operations,): the share of walks through it, over the subnetworks that it
        is live in, 0 where it never is; for the undirected walk the mean TAS of its source and its target map.
    """

    maps: Floats
    outputs: Floats
    importance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path from input to output. operations: in order; maps: one more; total, mean: its TPS, operations included."""

    operations: tuple[int, ...]
    maps: tuple[int, ...]
    total: float
    mean: float


def chain_scores(architecture: Architecture, walk: str = "paths", *, subnetworks: int = SUBNETWORKS) -> ChainScores:
    """The scores of all maps and operations by the chain over so many drawn subnetworks.

    walk: a name in :data:`nas.chain.walks.WALKS`. subnetworks: see :func:`nas.chain.graph.sampled_graph`.

    Raises UserError when there is no walk of this name.

    Notes
    -----
    O(T (V + E)): 0.2 s for 4,096 subnetworks of 40 operations. What is derived of it below costs next to nothing.
    """
    if walk not in WALKS:
        raise UserError(unknown_name("walk", walk, WALKS))
    view = graph_of(architecture)
    scores = WALKS[walk](sampled_graph(architecture, subnetworks=subnetworks))
    maps, outputs = (scores.nodes_N[list(nodes)] for nodes in (view.map_nodes, view.operation_nodes))
    if walk == "undirected":
        importance = np.array([(maps[o.source] + maps[o.target]) / 2 for o in architecture.topology.operations])
    else:
        shares_TO = scores.visits_TN[:, list(view.operation_nodes)]
        importance = shares_TO.sum(axis=0) / np.maximum(1, (shares_TO > 0).sum(axis=0))
    return ChainScores(maps=maps, outputs=outputs, importance=importance)


def degree_importance(architecture: Architecture) -> Floats:
    """Importance without a chain: how many operations of the supernet end at either map of an operation.

    Shape (num_operations,).
    """
    operations = architecture.topology.operations
    degree = np.bincount([m for o in operations for m in (o.source, o.target)]).astype(float)
    return np.array([degree[o.source] + degree[o.target] for o in operations])


def important_alternatives(architecture: Architecture, importance: Floats) -> tuple[int, ...]:
    """The most important alternative of every choice, as its index; absence counts as the average optional operation.

    importance: shape (num_operations,). Where it tells alternatives apart no more, presence goes before absence,
    learned before unlearned, first before later.
    """
    made, operations = choice_groups(architecture.topology), architecture.topology.operations
    typical = _average(made, importance)

    def value(o: int | None) -> tuple[float, bool, bool]:
        if o is None:
            return typical, False, False
        return round(float(importance[o]), _TIE), True, kind(operations[o].kind).learned

    best = []
    for choice in made:
        values = [value(o) for o in choice.alternatives]
        best.append(values.index(max(values)))
    return tuple(best)


def random_alternatives(architecture: Architecture, rng: np.random.Generator) -> tuple[int, ...]:
    """An alternative of every choice, drawn uniformly, as its index: what importance must beat."""
    return tuple(int(rng.integers(len(choice.alternatives))) for choice in choice_groups(architecture.topology))


def important_operations(architecture: Architecture, importance: Floats) -> tuple[int, ...]:
    """The operations among the :func:`important_alternatives`, sorted: none for a choice whose absence is one."""
    best = important_alternatives(architecture, importance)
    chosen = (choice.alternatives[i] for choice, i in zip(choice_groups(architecture.topology), best))
    return tuple(sorted(o for o in chosen if o is not None))


def walk_of(architecture: Architecture) -> str:
    """The walk by which the training rule of an architecture samples paths, "paths" where it names none."""
    named = dict(architecture.training.settings).get("walk")
    return named if isinstance(named, str) and named in WALKS else "paths"


def important_path(architecture: Architecture, scores: ChainScores) -> Path:
    """The path from the input to the largest point's output that runs through the important operations.

    Of the paths with the fewest optional operations that are not important, and of these those with the most that are
    more important than the average, the one with the highest summed TPS.

    scores: from :func:`chain_scores`.

    Notes
    -----
    Dynamic programming in topological order, O(E). No path is ever listed. The path may combine operations that no
    single draw has together: it is one of the supernet.
    """
    view, made, topology = graph_of(architecture), choice_groups(architecture.topology), architecture.topology
    important, average = important_operations(architecture, scores.importance), _average(made, scores.importance)
    offered = {o for choice in made for o in choice.alternatives if o is not None}
    output = architecture.points[-1].output
    live = topology.live(tuple(range(len(topology.operations))), output)
    nodes_N = np.zeros(view.graph.num_nodes)
    nodes_N[list(view.map_nodes)], nodes_N[list(view.operation_nodes)] = scores.maps, scores.outputs
    nodes = best_path(
        Graph(
            num_nodes=view.graph.num_nodes,
            edges=view.graph.edges,
            live=(tuple(e for o in live for e in (2 * o, 2 * o + 1)),),
            sinks=(view.map_nodes[output],),
            source=view.graph.source,
        ),
        nodes_N,
        sink=view.map_nodes[output],
        avoid={view.operation_nodes[o] for o in offered.difference(important)},
        prefer={view.operation_nodes[o] for o in important if round(float(scores.importance[o]), _TIE) > average},
    )
    operation_of = {node: o for o, node in enumerate(view.operation_nodes)}
    operations = tuple(operation_of[node] for node in nodes[1::2])
    return Path(
        operations=operations,
        maps=(0, *(topology.operations[o].target for o in operations)),
        total=path_score(architecture, operations, scores),
        mean=path_score(architecture, operations, scores, mean=True),
    )


def path_score(
    architecture: Architecture, operations: Iterable[int], scores: ChainScores, *, mean: bool = False
) -> float:
    """TPS of a path: the sum of the TAS of its maps and operations, or their mean.

    operations: of the path, in order from the input. scores: from :func:`chain_scores`.

    Raises UserError when the operations do not follow one another from the input.
    """
    parts, at = [float(scores.maps[0])], 0
    for o in operations:
        operation = architecture.topology.operations[o]
        if not (operation.source == at):
            raise UserError(
                f"A path's operations must follow one another. Operation {o} reads map {operation.source}, not {at}."
            )
        at = operation.target
        parts += [float(scores.outputs[o]), float(scores.maps[at])]
    return sum(parts) / len(parts) if mean else sum(parts)


def _average(made: Sequence[ChoiceGroup], importance: Floats) -> float:
    """Importance of the average optional operation, to the decimals that count."""
    offered = sorted({o for choice in made for o in choice.alternatives if o is not None})
    return round(float(importance[offered].mean()), _TIE) if offered else 0.0
