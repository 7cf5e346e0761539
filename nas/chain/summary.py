"""The training chain of a network in tables of its stages, maps and operations, and the stage that is trained least.

Drawings, reports and ``nas show`` print these numbers. Every number is a mean over the operating points at which a part
is live.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from nas.chain.training import TrainedMap, TrainedOperation, training_chain, training_flow
from nas.representation.architecture import Architecture
from nas.representation.elements import Size, size_text
from nas.representation.kinds import kind


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTraining:
    """The learned operations that write maps of one spatial size.

    Attributes
    ----------
    stage : int
        From 1, in the order of their first operations.
    size : tuple of int
        Spatial size; () for vectors, as in the classifier.
    operations : int
        Number of learned operations that are live at some operating point.
    gradient : float
        Share of the gradient: the sum of their training importances. 1 over all stages.
    high_signal, high_gradient : float
        Shares of the high band in the signal that they read and the gradient at their output, weighted by training
        importance; NaN for vectors, which have no bands.
    """

    stage: int
    size: Size
    operations: int
    gradient: float
    high_signal: float
    high_gradient: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationTraining:
    """An operation in the training chain.

    Attributes
    ----------
    operation : int
        Index in the topology.
    kind : str
    source, target : int
        Its maps.
    learned : bool
    importance : float
        Training importance: its share in the norms of the gradients of all learned operations. For an operation without
        weights: the norm of the gradient that it passes back, relative to the same sum.
    """

    operation: int
    kind: str
    source: int
    target: int
    learned: bool
    importance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """The training chain of a network.

    Parameters
    ----------
    stages : tuple of StageTraining
        In the order of their first operations.
    maps : tuple of TrainedMap
        Live maps, in topological order.
    operations : tuple of OperationTraining
        Live operations, in the order of the topology.
    learned : float
        Number of learned operations at an operating point.
    effective : float
        The number of equally important operations with the same entropy of training importances: at most ``learned``.

    Examples
    --------
    >>> from nas import Builder, Task
    >>> builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    >>> steps = ("norm", "relu")
    >>> x = builder.conv(builder.conv(builder.input, 8, after=steps), 8, stride=2, after=steps)
    >>> _ = builder.head(x)
    >>> summary = training_summary(builder.architecture(1))
    >>> [(stage.size, stage.operations, round(stage.gradient, 2)) for stage in summary.stages]
    [((8, 8), 1, 0.38), ((4, 4), 1, 0.31), ((), 1, 0.31)]
    >>> print(summary.sentence)
    Least trained: stage 2 (4×4), 31 % of the gradient for 1 of 3 learned operations.
    """

    stages: tuple[StageTraining, ...]
    maps: tuple[TrainedMap, ...]
    operations: tuple[OperationTraining, ...]
    learned: float
    effective: float

    @property
    def least_trained(self) -> StageTraining | None:
        """The stage with the smallest share of the gradient for each of its operations.

        None with less than two stages, or if no stage is at least 1 % below the average of all learned operations.
        Vectors do not count: the classifier is behind everything that could enlarge its gradient.
        """
        spatial = [stage for stage in self.stages if stage.size]
        if len(spatial) < 2:
            return None
        least = min(spatial, key=lambda stage: (stage.gradient / stage.operations, stage.stage))
        count = sum(stage.operations for stage in self.stages)
        return least if least.gradient * count < 0.99 * least.operations else None

    @property
    def sentence(self) -> str:
        """The stage that training reaches least, in words; empty without one."""
        stage = self.least_trained
        if stage is None:
            return ""
        count = sum(each.operations for each in self.stages)
        share = f"{100 * stage.gradient:.0f} %" if stage.gradient >= 0.01 else "less than 1 %"
        return (
            f"Least trained: stage {stage.stage} ({size_text(stage.size)}), {share} of the gradient for "
            f"{stage.operations} of {count} learned operations."
        )

    def to_json(self) -> dict[str, Any]:
        """All numbers as JSON-serialisable data.

        Returns
        -------
        dict
            The fields of the summary, each part as a list of dicts, and the sentence as ``least_trained``. NaN is None.
        """
        parts = {
            "stages": [asdict(stage) for stage in self.stages],
            "maps": [trained._asdict() for trained in self.maps],
            "operations": [asdict(operation) for operation in self.operations],
        }
        for rows in parts.values():
            for row in rows:
                row |= {name: None for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
        return {"learned": self.learned, "effective": self.effective, "least_trained": self.sentence, **parts}


PARTS = ("stages", "maps", "operations")
"""The tables of a summary."""


def training_summary(architecture: Architecture) -> TrainingSummary:
    """The training chain of a network in numbers.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.

    Returns
    -------
    TrainingSummary

    Notes
    -----
    O(V + E) per level. ``pandas.DataFrame(summary.stages)`` is a table, and so are the maps and the operations;
    :meth:`nas.Study.training_chain` returns them for a candidate of a study.
    """
    topology, points = architecture.topology, architecture.points
    maps: dict[int, list[TrainedMap]] = defaultdict(list)
    importances: dict[int, list[float]] = defaultdict(list)
    chains: list[tuple[TrainedOperation, ...]] = []
    for point in points:
        chain, flow = training_chain(topology, point), training_flow(topology, point)
        chains.append(chain)
        total = sum(flow.norms[trained.operation] for trained in chain)
        for o, norm in flow.norms.items():
            importances[o].append(norm / total if total else 0.0)
        for trained_map in flow.maps:
            maps[trained_map.map].append(trained_map)
    operations = tuple(
        OperationTraining(
            operation=o,
            kind=topology.operations[o].kind,
            source=topology.operations[o].source,
            target=topology.operations[o].target,
            learned=kind(topology.operations[o].kind).learned,
            importance=fmean(importances[o]),
        )
        for o in sorted(importances)
    )
    return TrainingSummary(
        stages=_stages(architecture, chains),
        maps=tuple(TrainedMap(m, *map(fmean, zip(*(trained[1:] for trained in maps[m])))) for m in sorted(maps)),
        operations=operations,
        learned=fmean(map(len, chains)),
        effective=fmean(math.exp(_entropy(trained.importance for trained in chain)) for chain in chains),
    )


def _stages(architecture: Architecture, chains: list[tuple[TrainedOperation, ...]]) -> tuple[StageTraining, ...]:
    """Learned operations by the size of the map that they write."""
    topology = architecture.topology
    by_size: dict[Size, list[TrainedOperation]] = {}
    for chain in chains:
        for trained in chain:
            size = topology.maps[topology.operations[trained.operation].target].size
            by_size.setdefault(size, []).append(trained)
    first = {size: min(topology.operations[t.operation].target for t in group) for size, group in by_size.items()}
    stages = []
    for number, size in enumerate(sorted(by_size, key=first.__getitem__), 1):
        group = by_size[size]
        total = sum(trained.importance for trained in group)
        high_signal = sum(trained.importance * trained.high_signal for trained in group) / total
        high_gradient = sum(trained.importance * trained.high_gradient for trained in group) / total
        stages.append(
            StageTraining(
                stage=number,
                size=size,
                operations=len({trained.operation for trained in group}),
                gradient=total / len(chains),
                high_signal=high_signal if size else math.nan,
                high_gradient=high_gradient if size else math.nan,
            )
        )
    return tuple(stages)


def _entropy(shares: Iterable[float]) -> float:
    """Entropy of shares that sum to 1, in nats."""
    return -sum(share * math.log(share) for share in shares if share > 0)
