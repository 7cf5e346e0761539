"""Importance of the operations of a supernet, its important alternatives, and its important path.

Training rules, drawings and reports share this definition. It comes from a chain over subnetworks G_1..G_T that are
sampled from the choice groups (:func:`nas.chain.graph.sampled_operations`): one of the walks, or the training chain. A
chain over the operating points could not distinguish alternatives if all operations are live at every point. TAS sums
to 1 over all nodes, so the path with the highest summed TPS passes every map (the trunk of a residual network), and the
path with the highest mean TPS takes every skip. Therefore alternatives are compared by the importance of their
operations, and the structure of the chains determines how:

- Operations between the same two maps carry the same share of walks, for every walk. They differ only in how often they
  are live, so shares are averaged over the subnetworks in which an operation is live, and learned operations win ties.
- A skip always carries a smaller share of the *paths* walk than the operations that it bypasses, and at most an equal
  share of the *flow*, so a direct comparison would always drop it. An optional operation is therefore compared with the
  *average optional operation of the supernet*: it is important if its share is larger, otherwise its absence is. So at
  least one optional operation is important, and all are only if all shares are equal.
- In the *training* chain the gradient takes the place of the walk: it goes back from the output, and the norm that
  reaches an operation takes the place of the share of walks. A skip receives as much as the body that ends beside it;
  average poolings receive less, because they damp the high band.
- The *undirected* walk spends the same time at the node of every operation, so the importance of an operation is the
  mean TAS of its two maps. This is their degree, weighted by how often they are live: expect results like degree.
- An operation with *exactly* the average share, such as the only optional one, counts as present, but the important
  path does not leave the body that it bypasses for it.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (nodes, TAS, TPS, the chain over sampled subnetworks). The walks, the choice groups and the comparison with the
    average are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.chain.graph import SUBNETWORKS, edges_of, graph_of, sampled_graph, sampled_operations
from nas.chain.training import training_flow
from nas.chain.walks import WALKS, Graph, best_path
from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.supernet import ChoiceGroup, choice_groups
from nas.representation.topology import Topology

Floats = NDArray[np.float64]

TRAINING = "training"
"""The name of the training chain among the chains that define importance."""
CHAINS = (TRAINING, *WALKS)
"""The names of these chains: the training chain, and the walks."""
TRAINED_SUBNETWORKS = 512
"""Largest number of subnetworks for the training chain by default, which takes longer for each than a walk."""

_DECIMALS = 9  # importances that differ only beyond these decimals are equal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainScores:
    """Scores of an architecture by the chain over sampled subnetworks.

    Attributes
    ----------
    maps : ndarray, shape (num_maps,)
        TAS of every map. For the training chain: its share in the norms of the gradients at all maps and outputs,
        summed over subnetworks.
    outputs : ndarray, shape (num_operations,)
        TAS of every operation's output. ``maps`` and ``outputs`` together sum to 1.
    importance : ndarray, shape (num_operations,)
        The share of walks through an operation, averaged over the subnetworks in which it is live; 0 if it never is.
        For the undirected walks: the mean TAS of its source and its target map. For the training chain: the norm of the
        gradient at its output, averaged likewise, relative to the sum of these means over learned operations; without
        alternatives, this is the training importance of a learned operation.
    """

    maps: Floats
    outputs: Floats
    importance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path from input to output.

    Attributes
    ----------
    operations : tuple of int
        In order from the input.
    maps : tuple of int
        From the input to the output, one more than there are operations.
    total, mean : float
        Sum and mean of the TAS of its maps and operations (TPS).
    """

    operations: tuple[int, ...]
    maps: tuple[int, ...]
    total: float
    mean: float


def chain_scores(architecture: Architecture, walk: str = "paths", *, subnetworks: int | None = None) -> ChainScores:
    """Scores of all maps and operations by a chain over sampled subnetworks.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    walk : str
        A name in :data:`CHAINS`: a walk, or "training" for the gradient of the training chain.
    subnetworks : int, optional
        Largest number T of subnetworks, see :func:`nas.chain.graph.sampled_operations`. Default: 4,096 for a walk, 512
        for the training chain.

    Returns
    -------
    ChainScores
        The argument of the other functions of this module.

    Raises
    ------
    UserError
        If there is no chain with this name.

    Notes
    -----
    O(T (V + E)): some 0.2 s for 40 operations. The functions below take much less time.
    """
    if walk not in CHAINS:
        raise UserError(unknown_name("walk", walk, CHAINS))
    if walk == TRAINING:
        return _training_scores(architecture, TRAINED_SUBNETWORKS if subnetworks is None else subnetworks)
    view = graph_of(architecture)
    scores = WALKS[walk](sampled_graph(architecture, subnetworks=SUBNETWORKS if subnetworks is None else subnetworks))
    maps, outputs = (scores.nodes_N[list(nodes)] for nodes in (view.map_nodes, view.operation_nodes))
    if walk in ("undirected", "tips"):
        importance = np.array([(maps[o.source] + maps[o.target]) / 2 for o in architecture.topology.operations])
    else:
        shares_TO = scores.visits_TN[:, list(view.operation_nodes)]
        importance = shares_TO.sum(axis=0) / np.maximum(1, (shares_TO > 0).sum(axis=0))
    return ChainScores(maps=maps, outputs=outputs, importance=importance)


def _training_scores(architecture: Architecture, subnetworks: int) -> ChainScores:
    """The scores by the training chain over sampled subnetworks at full width.

    Norms are averaged before they become shares: an alternative with weights enlarges the gradient of everything before
    it, so that it would have a smaller share than a pooling in its place.
    """
    topology = architecture.topology
    maps, outputs, live = np.zeros(len(topology.maps)), *np.zeros((2, len(topology.operations)))
    for operations, output in sampled_operations(architecture, subnetworks=subnetworks):
        flow = training_flow(topology, _at_full_width(topology, operations, output))
        maps[[trained.map for trained in flow.maps]] += np.sqrt([trained.gradient for trained in flow.maps])
        outputs[list(flow.norms)] += list(flow.norms.values())
        live[list(flow.norms)] += 1
    means = outputs / np.maximum(1, live)
    learned = sum(mean for mean, o in zip(means, topology.operations) if kind(o.kind).learned)
    total = maps.sum() + outputs.sum()
    return ChainScores(maps=maps / total, outputs=outputs / total, importance=means / (learned or 1.0))


def _at_full_width(topology: Topology, operations: tuple[int, ...], output: int) -> Subnetwork:
    """The subnetwork with these live operations; its maps are whole."""
    used = {0, *(topology.operations[o].target for o in operations)}
    channels = tuple(topology.maps[m].channels if m in used else 0 for m in topology.declared)
    return Subnetwork(channels=channels, operations=operations, output=output)


def degree_importance(architecture: Architecture) -> Floats:
    """Importance without a chain: sum of the degrees of the two maps of an operation.

    Returns
    -------
    ndarray, shape (num_operations,)
        The degree of a map is the number of operations that read or write it.
    """
    operations = architecture.topology.operations
    degree = np.bincount([m for o in operations for m in (o.source, o.target)]).astype(float)
    return np.array([degree[o.source] + degree[o.target] for o in operations])


def important_alternatives(architecture: Architecture, importance: Floats) -> tuple[int, ...]:
    """The most important alternative of every choice group.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    importance : ndarray, shape (num_operations,)
        Of every operation. The absence of an operation has the importance of the average optional operation. Between
        equal importances, presence wins over absence, then learned over unlearned, then the first alternative.

    Returns
    -------
    tuple of int
        An index into ``alternatives`` for each of :func:`nas.representation.supernet.choice_groups`.
    """
    groups, operations = choice_groups(architecture.topology), architecture.topology.operations
    average = _average(groups, importance)

    def value(o: int | None) -> tuple[float, bool, bool]:
        if o is None:
            return average, False, False
        return round(float(importance[o]), _DECIMALS), True, kind(operations[o].kind).learned

    best = []
    for group in groups:
        values = [value(o) for o in group.alternatives]
        best.append(values.index(max(values)))
    return tuple(best)


def random_alternatives(architecture: Architecture, rng: np.random.Generator) -> tuple[int, ...]:
    """An alternative of every choice group, drawn uniformly, as its index: the control for important alternatives."""
    return tuple(int(rng.integers(len(group.alternatives))) for group in choice_groups(architecture.topology))


def important_operations(architecture: Architecture, importance: Floats) -> tuple[int, ...]:
    """The operations among the :func:`important_alternatives`, sorted.

    importance: shape (num_operations,). A choice group whose important alternative is absence has no operation here.
    """
    best = important_alternatives(architecture, importance)
    operations = (group.alternatives[i] for group, i in zip(choice_groups(architecture.topology), best))
    return tuple(sorted(o for o in operations if o is not None))


def walk_of(architecture: Architecture) -> str:
    """The chain that the architecture's training rule uses: its setting ``walk``, by default "paths".

    For rules other than path sampling: the training chain.
    """
    training = architecture.training
    walk = dict(training.settings).get("walk", "paths" if training.rule == "path_sampling" else TRAINING)
    return walk if isinstance(walk, str) and walk in CHAINS else TRAINING


def important_path(architecture: Architecture, scores: ChainScores) -> Path:
    """The path from the input to the largest point's output through the important operations.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    scores : ChainScores
        From :func:`chain_scores`.

    Returns
    -------
    Path
        Paths are compared by the number of optional operations that are not important (fewer is better), then by the
        number of operations with more than the average importance (more is better), then by summed TPS.

    Notes
    -----
    Dynamic programming in topological order, O(E), without a list of paths. The path may combine operations that no
    sampled subnetwork has together: it is a path of the supernet.
    """
    view, groups, topology = graph_of(architecture), choice_groups(architecture.topology), architecture.topology
    important, average = important_operations(architecture, scores.importance), _average(groups, scores.importance)
    output = architecture.points[-1].output
    live = topology.live(tuple(range(len(topology.operations))), output)
    nodes_N = np.zeros(view.graph.num_nodes)
    nodes_N[list(view.map_nodes)], nodes_N[list(view.operation_nodes)] = scores.maps, scores.outputs
    nodes = best_path(
        Graph(
            num_nodes=view.graph.num_nodes,
            edges=view.graph.edges,
            live=(edges_of(live),),
            sinks=(view.map_nodes[output],),
            source=view.graph.source,
        ),
        nodes_N,
        sink=view.map_nodes[output],
        avoid={view.operation_nodes[o] for o in _optional(groups).difference(important)},
        prefer={view.operation_nodes[o] for o in important if round(float(scores.importance[o]), _DECIMALS) > average},
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
    """TPS of a path: the sum, or the mean, of the TAS of its maps and operations.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    operations : iterable of int
        The operations of the path, in order from the input.
    scores : ChainScores
        From :func:`chain_scores`.
    mean : bool
        Return the mean instead of the sum.

    Raises
    ------
    UserError
        If the operations do not follow one another from the input.
    """
    parts, at = [float(scores.maps[0])], 0
    for o in operations:
        operation = architecture.topology.operations[o]
        if operation.source != at:
            raise UserError(
                f"A path's operations must follow one another. Operation {o} reads map {operation.source}, not {at}."
            )
        at = operation.target
        parts += [float(scores.outputs[o]), float(scores.maps[at])]
    return sum(parts) / len(parts) if mean else sum(parts)


def _optional(groups: Sequence[ChoiceGroup]) -> set[int]:
    """The operations of all choice groups."""
    return {o for group in groups for o in group.alternatives if o is not None}


def _average(groups: Sequence[ChoiceGroup], importance: Floats) -> float:
    """Importance of the average optional operation, rounded; 0 without choice groups."""
    optional = sorted(_optional(groups))
    return round(float(importance[optional].mean()), _DECIMALS) if optional else 0.0
