"""The final search: chooses the subnetworks of a trained supernet that become its operating points.

The search considers thousands of subnetworks and measures a few hundred. A ridge regression on live operations and
widths predicts accuracy; evolution over draws (:class:`nas.representation.supernet.Draw`) approximates the front of
predicted accuracy and MACs; a part of this front and some random subnetworks are measured; then the regression is
fitted again. The operating points are the measured subnetworks that maximise the anytime accuracy exactly.

From the paper: a search for subnetworks under hardware constraints after path-sampled training. Its method is ours.
NumPy only; the caller measures. Deterministic, given the measurements.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
Lu et al., NSGANetV2: Evolutionary Multi-Objective Surrogate-Assisted NAS, ECCV 2020 (surrogate inside, few evaluations
outside). Deb et al., NSGA-II, 2002 (rank, crowding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.evaluation.operating_points import EVALUATIONS, NO_LIMITS, Limits, MeasuredSubnetwork, SubnetworkSearchResult
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs, subnetwork_params
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Subnetwork
from nas.representation.supernet import (
    ChoiceGroup,
    Draw,
    choice_groups,
    draw,
    draw_of,
    subnetwork_of,
    width_levels,
)
from nas.seeds import seed as derived_seed
from nas.strategies.surrogate import Blocks, Surrogate
from results.front import Score, crowding, non_dominated_rank

Floats = NDArray[np.float64]


MeasureSubnetworks = Callable[[list[Subnetwork]], list[tuple[float, float | None]]]
"""Accuracy of each recalibrated subnetwork, and its latency in milliseconds if latency is limited, else None."""

FIRST_SHARE = 0.25
"""Share of the evaluations before the first prediction; random subnetworks."""
ROUNDS = 8
"""Number of rounds of prediction and measurement."""
EXPLORE = 0.2
"""Share of random subnetworks in a round: the predictor also needs data away from the predicted front."""
POPULATION = 128
GENERATIONS = 12
BELOW_RANGE = 1e-6
"""Weight of budgets below the range of the score."""
TRIES = 50
"""Random draws for each new subnetwork within the limits."""


def search_subnetworks(
    architecture: Architecture,
    measure: MeasureSubnetworks,
    *,
    limits: Limits = NO_LIMITS,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> SubnetworkSearchResult:
    """Measure the most promising subnetworks of a trained supernet, including its operating points.

    Parameters
    ----------
    architecture
        The supernet with its operating points.
    measure
        Called with lists of subnetworks.
    limits
        Subnetworks over the limits are not measured; MACs and parameters are exact, latency is predicted.
    evaluations
        Number of subnetworks to measure; fewer if there are fewer within the limits.
    seed
        Seed of the search.
    report
        Called with the number of measured subnetworks and the total.

    Raises
    ------
    UserError
        If no subnetwork is within the limits on MACs and parameters.
    """
    if evaluations < 1:
        raise UserError(f"A final search must measure at least one subnetwork. Got {evaluations=}.")
    search = _Search(architecture, limits, np.random.default_rng(derived_seed(seed, "final search")))
    first = search.within([*search.of_points(), *search.smallest_draws()])
    first = list(dict.fromkeys([*first, *search.random(max(8, round(FIRST_SHARE * evaluations)) - len(first))]))
    if not first:
        raise UserError(_nothing_within(search.smallest()))
    batch = max(4, math.ceil((1 - FIRST_SHARE) * evaluations / ROUNDS))
    while first and len(search.measured) < evaluations:
        search.take(first[: evaluations - len(search.measured)], measure)
        report(len(search.measured), evaluations)
        first = search.promising(batch)
    return SubnetworkSearchResult(measured=tuple(search.measured.values()), seen=len(search.seen))


def choose_points(
    measured: Sequence[MeasuredSubnetwork], count: int, score: Score, limits: Limits = NO_LIMITS
) -> list[MeasuredSubnetwork]:
    """Choose the subnetworks within the limits that maximise the anytime accuracy, small to large.

    Parameters
    ----------
    measured
        The candidates.
    count
        Number of operating points; fewer are returned only if fewer candidates differ in MACs.
    score
        Defines the anytime accuracy. The smallest point is within its lowest budget if a candidate is. Of equally good
        choices, the one with the higher accuracy below that budget is returned.
    limits
        Limits on latency; MACs and parameters are assumed to be within the limits.

    Notes
    -----
    Exact dynamic programming over the front in order of cost, O(N² · count). If the front has fewer than ``count``
    points, dominated subnetworks of distinct cost are added, smallest loss of accuracy first.
    """
    in_time = [m for m in measured if limits.max_latency_ms is None or (m.latency_ms or 0) <= limits.max_latency_ms]
    cheapest_first = sorted(in_time, key=lambda m: (m.macs, -m.accuracy))
    distinct = [m for i, m in enumerate(cheapest_first) if not i or m.macs > cheapest_first[i - 1].macs]
    front = [m for i, m in enumerate(distinct) if m.accuracy > max((b.accuracy for b in distinct[:i]), default=-1.0)]
    if len(front) > count:
        return _best_of_front(front, count, score)
    dominated = [m for m in distinct if m not in front]

    def lost(m: MeasuredSubnetwork) -> float:
        return max(f.accuracy for f in front if f.macs <= m.macs) - m.accuracy

    added = sorted(dominated, key=lambda m: (lost(m), m.macs))[: count - len(front)]
    return sorted([*front, *added], key=lambda m: m.macs)


def _best_of_front(front: Sequence[MeasuredSubnetwork], count: int, score: Score) -> list[MeasuredSubnetwork]:
    log_cost = [_budget(min(score.high, m.macs), score.low) for m in front]
    value = [max(score.floor, m.accuracy) for m in front]  # costs above the range count as its end
    end, size = _budget(score.high, score.low), len(front)
    answering = [i for i, m in enumerate(front) if m.macs <= score.low]
    starts = answering or range(size)
    # best[i]: value, up to the cost of i, of the best choice that ends with point i; predecessors: the points before i
    best = [score.floor * (log_cost[i] - log_cost[0]) if i in starts else -math.inf for i in range(size)]
    predecessors: list[list[int]] = []
    for _ in range(count - 1):
        came = [_latest_best([best[j] + value[j] * (log_cost[i] - log_cost[j]) for j in range(i)]) for i in range(size)]
        best = [best[j] + value[j] * (log_cost[i] - log_cost[j]) if j >= 0 else -math.inf for i, j in enumerate(came)]
        predecessors.append(came)
    last = max(range(size), key=lambda i: best[i] + value[i] * (end - log_cost[i]))
    chosen = [last]
    for came in reversed(predecessors):
        chosen.append(came[chosen[-1]])
    return [front[i] for i in reversed(chosen)]


def _budget(macs: float, low: float) -> float:
    """Logarithm of a budget relative to the lowest of the score.

    Budgets below it have a tiny weight, which decides between choices that are equal in the range of the score; so the
    points of a front below the range are distributed too.
    """
    return math.log(macs / low) * (1 if macs >= low else BELOW_RANGE)


def _latest_best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], i), default=-1)


class _Search:
    """State of a final search: draws and costs of all subnetworks seen, measurements, predictors."""

    def __init__(self, architecture: Architecture, limits: Limits, rng: np.random.Generator):
        self.architecture, self.limits, self.rng = architecture, limits, rng
        topology = architecture.topology
        self.choice_groups: tuple[ChoiceGroup, ...] = choice_groups(topology)
        self.groups = coupling_groups(topology)
        self.options = (
            *(len(choice.alternatives) for choice in self.choice_groups),
            *(width_levels(topology) for _ in self.groups),
            len(architecture.points),
        )
        self.seen: dict[Subnetwork, tuple[Draw, int, int]] = {}  # with macs and params
        self.measured: dict[Subnetwork, MeasuredSubnetwork] = {}
        self._rows: dict[Subnetwork, Blocks] = {}

    def of_points(self) -> list[Subnetwork]:
        """The architecture's own points."""
        for point in self.architecture.points:
            self._know(point, draw_of(self.architecture, self.choice_groups, point))
        return list(self.architecture.points)

    def smallest_draws(self) -> list[Subnetwork]:
        """The narrowest subnetwork of every output, without optional parts."""
        picks = tuple(c.alternatives.index(None) if None in c.alternatives else 0 for c in self.choice_groups)
        levels = (0,) * len(self.groups)
        return [self._decoded(Draw(picks, levels, exit_)) for exit_ in range(len(self.architecture.points))]

    def within(self, subnetworks: Iterable[Subnetwork]) -> list[Subnetwork]:
        """The subnetworks within the limits on MACs and parameters."""
        most_macs, most_params = self.limits.max_macs or math.inf, self.limits.max_params or math.inf
        costs = ((s, *self.seen[s][1:]) for s in subnetworks)
        return [s for s, macs, params in costs if macs <= most_macs and params <= most_params]

    def random(self, count: int) -> list[Subnetwork]:
        """Up to ``count`` new random subnetworks: half with a common width, half with independent widths."""
        drawn: dict[Subnetwork, None] = {}
        for turn in range(TRIES * max(0, count)):
            if len(drawn) == count:
                break
            choice = draw(self.architecture, self.choice_groups, self.rng, widths=("common", "independent")[turn % 2])
            subnetwork = self._decoded(choice)
            if subnetwork not in self.measured and self.within([subnetwork]):
                drawn[subnetwork] = None
        return list(drawn)

    def smallest(self) -> tuple[int, int]:
        """The fewest MACs and the fewest parameters of all subnetworks seen."""
        return min(macs for _, macs, _ in self.seen.values()), min(params for *_, params in self.seen.values())

    def take(self, subnetworks: list[Subnetwork], measure: MeasureSubnetworks) -> None:
        """Measure subnetworks."""
        for subnetwork, (accuracy, latency) in zip(subnetworks, measure(subnetworks), strict=True):
            _, macs, params = self.seen[subnetwork]
            self.measured[subnetwork] = MeasuredSubnetwork(
                subnetwork=subnetwork, macs=macs, params=params, accuracy=accuracy, latency_ms=latency
            )

    def promising(self, count: int) -> list[Subnetwork]:
        """Up to ``count`` subnetworks to measure next: the predicted front, and random subnetworks."""
        explored = self.random(math.ceil(EXPLORE * count))
        if len(self.measured) < 2:
            return explored
        usable = self._evolved()
        left = [s for s in usable if s not in self.measured and s not in explored]
        if not left:
            return explored
        order = _front_first(self._predicted(left), self._log_macs(left))
        return [*(left[i] for i in order[: count - len(explored)]), *explored]

    def _evolved(self) -> list[Subnetwork]:
        """Subnetworks within the limits that an evolution under the predictor visits, and all measured ones."""
        fitted = list(self.measured.values())
        self._accuracy = Surrogate([self._row(m.subnetwork) for m in fitted], [m.accuracy for m in fitted])
        timed = [m for m in fitted if m.latency_ms]
        limit = self.limits.max_latency_ms
        self._latency = None
        if limit is not None and len(timed) > 1:
            rows, values = [self._row(m.subnetwork) for m in timed], [math.log(m.latency_ms or 1) for m in timed]
            self._latency = Surrogate(rows, values)
        population = list(self.measured)
        everyone = dict.fromkeys(population)
        for _ in range(GENERATIONS):
            parents = self._survivors(population)
            children = [self._child(parents) for _ in range(POPULATION)]
            population = list(dict.fromkeys([*parents, *self.within(children)]))
            everyone |= dict.fromkeys(population)
        return self._quick_enough(list(everyone))

    def _survivors(self, population: list[Subnetwork]) -> list[Subnetwork]:
        usable = self._quick_enough(population) or population
        order = _front_first(self._predicted(usable), self._log_macs(usable))
        return [usable[i] for i in order[:POPULATION]]

    def _quick_enough(self, subnetworks: list[Subnetwork]) -> list[Subnetwork]:
        if self._latency is None or self.limits.max_latency_ms is None or not subnetworks:
            return subnetworks
        log_latency, _ = self._latency.predict([self._row(s) for s in subnetworks])
        return [s for s, value in zip(subnetworks, log_latency) if value <= math.log(self.limits.max_latency_ms)]

    def _child(self, parents: Sequence[Subnetwork]) -> Subnetwork:
        """Uniform crossover of two parents, better ones more often; at least one gene is drawn anew."""
        rng, size = self.rng, len(self.options)
        first, second = (
            np.array(_genes(self.seen[parents[min(rng.integers(len(parents), size=2))]][0])) for _ in range(2)
        )
        genes = np.where(rng.random(size) < 0.5, first, second)
        changed = rng.random(size) < 1 / size
        changed[rng.integers(size)] = True
        genes = np.where(changed, rng.integers(self.options), genes).tolist()
        ways, groups = len(self.choice_groups), len(self.groups)
        return self._decoded(Draw(tuple(genes[:ways]), tuple(genes[ways : ways + groups]), genes[-1]))

    def _decoded(self, drawn: Draw) -> Subnetwork:
        subnetwork = subnetwork_of(self.architecture, self.choice_groups, drawn)
        self._know(subnetwork, drawn)
        return subnetwork

    def _know(self, subnetwork: Subnetwork, drawn: Draw) -> None:
        if subnetwork not in self.seen:
            topology = self.architecture.topology
            costs = subnetwork_macs(topology, subnetwork), subnetwork_params(topology, subnetwork)
            self.seen[subnetwork] = drawn, *costs

    def _log_macs(self, subnetworks: Sequence[Subnetwork]) -> Floats:
        return np.log([self.seen[s][1] for s in subnetworks])

    def _predicted(self, subnetworks: Sequence[Subnetwork]) -> Floats:
        return self._accuracy.predict([self._row(s) for s in subnetworks])[0]

    def _row(self, subnetwork: Subnetwork) -> Blocks:
        """Features of a subnetwork: size, live operations, widths, output."""
        row = self._rows.get(subnetwork)
        if row is None:
            _, macs, params = self.seen[subnetwork]
            size, topology = math.log(macs), self.architecture.topology
            widths: dict[Hashable, float] = {
                place: math.log(channels / topology.maps[index].channels) if channels else 0.0
                for place, (index, channels) in enumerate(zip(topology.declared, subnetwork.channels))
            }
            blocks: dict[str, dict[Hashable, float]] = {
                "sizes": {"log macs": size, "log macs squared": size**2, "log params": math.log(max(1, params))},
                "operations": dict.fromkeys(subnetwork.operations, 1.0),
                "widths": widths,
                "output": {subnetwork.output: 1.0},
            }
            row = self._rows[subnetwork] = blocks
        return row


def _genes(drawn: Draw) -> tuple[int, ...]:
    return (*drawn.picks, *drawn.levels, drawn.exit)


def _front_first(values: Floats, log_costs: Floats) -> list[int]:
    """Indices by non-dominated rank; within a rank, isolated costs first."""
    rank_N = non_dominated_rank(np.column_stack([values, -log_costs]))
    distance_N = np.empty(len(values))
    for rank in np.unique(rank_N):
        distance_N[rank_N == rank] = crowding(log_costs[rank_N == rank])
    return list(np.lexsort((-distance_N, rank_N)))


def _nothing_within(smallest: tuple[int, int]) -> str:
    return (
        "No drawn subnetwork is within the limits on MACs and parameters. The smallest had "
        f"{smallest[0]:,} MACs, or {smallest[1]:,} parameters: raise the limits."
    )
