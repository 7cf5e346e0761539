"""The final search: which subnetworks of a trained supernet become its operating points.

Thousands of subnetworks are looked at, a few hundred are measured. A ridge on what is live at which width predicts the
accuracy of the others; evolution over draws (:class:`nas.representation.supernet.Draw`) finds the front of predicted
accuracy and MACs; the most promising of it, and some at random, are measured; the ridge is fitted again. Then the
operating points are those measured subnetworks that together have the best anytime accuracy, exactly.

From the paper: after path-sampled training, a search finds the subnetworks for given hardware constraints. Ours: how.
numpy only; measuring is the caller's. Deterministic, given the measurements.

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
from nas.evaluation.operating_points import EVALUATIONS, NO_LIMITS, Found, Limits, Measured
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
"""Accuracy of each subnetwork as recalibrated, and its latency in milliseconds where that is limited, else None."""


FIRST_SHARE = 0.25  # of the evaluations: at random, before there is anything to predict from


ROUNDS = 8


EXPLORE = 0.2  # of a round's measurements are random draws: they keep the predictor honest


POPULATION = 128


GENERATIONS = 12


_BELOW = 1e-6  # weight of budgets below the lowest of the score


TRIES = 50  # random draws for one that is new and within the limits


def search_subnetworks(
    architecture: Architecture,
    measure: MeasureSubnetworks,
    *,
    limits: Limits = NO_LIMITS,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Measure up to so many subnetworks of a trained supernet, those that promise most; its own points are among them.

    What the limits forbid is not measured: MACs and parameters are exact, latency is predicted. Where a space has fewer
    subnetworks, all of them are measured. report: is told how many are measured, of how many.

    Raises UserError when no subnetwork keeps the limits on MACs and parameters.
    """
    if evaluations < 1:
        raise UserError(f"A final search must measure at least one subnetwork. Got {evaluations=}.")
    search = _Search(architecture, limits, np.random.default_rng(derived_seed(seed, "final search")))
    first = search.within([*search.of_points(), *search.smallest_draws()])
    first = list(dict.fromkeys([*first, *search.random(max(8, round(FIRST_SHARE * evaluations)) - len(first))]))
    if not first:
        raise UserError(_nothing_within(architecture, search.smallest()))
    batch = max(4, math.ceil((1 - FIRST_SHARE) * evaluations / ROUNDS))
    while first and len(search.measured) < evaluations:
        search.take(first[: evaluations - len(search.measured)], measure)
        report(len(search.measured), evaluations)
        first = search.promising(batch)
    return Found(measured=tuple(search.measured.values()), seen=len(search.seen))


def choose_points(measured: Sequence[Measured], count: int, score: Score, limits: Limits = NO_LIMITS) -> list[Measured]:
    """The subnetworks within the limits that have the best anytime accuracy as operating points, small to large.

    As many as asked for, fewer only where not so many differ in MACs. Their smallest answers at the lowest budget of
    the score where any does. Between sets that are equally good, the one that is better below that budget is chosen.

    Notes
    -----
    Dynamic programming over the front in order of cost, O(N² · count): exact. Where the front has fewer than ``count``,
    the dominated ones that cost least in accuracy are added, at costs of their own.
    """
    kept = [m for m in measured if limits.max_latency_ms is None or (m.latency_ms or 0) <= limits.max_latency_ms]
    cheapest_first = sorted(kept, key=lambda m: (m.macs, -m.accuracy))
    distinct = [m for i, m in enumerate(cheapest_first) if not i or m.macs > cheapest_first[i - 1].macs]
    front = [m for i, m in enumerate(distinct) if m.accuracy > max((b.accuracy for b in distinct[:i]), default=-1.0)]
    if len(front) > count:
        return _best_of_front(front, count, score)
    others = [m for m in distinct if m not in front]

    def lost(m: Measured) -> float:
        return max(f.accuracy for f in front if f.macs <= m.macs) - m.accuracy

    added = sorted(others, key=lambda m: (lost(m), m.macs))[: count - len(front)]
    return sorted([*front, *added], key=lambda m: m.macs)


def _best_of_front(front: Sequence[Measured], count: int, score: Score) -> list[Measured]:
    log_cost = [_budget(min(score.high, m.macs), score.low) for m in front]
    value = [max(score.floor, m.accuracy) for m in front]  # those above high end where the range does
    end, size = _budget(score.high, score.low), len(front)
    answering = [i for i, m in enumerate(front) if m.macs <= score.low]
    starts = answering or range(size)
    # best[i]: value of the best choice of so many points that ends with i, up to the cost of i; and the one before.
    best = [score.floor * (log_cost[i] - log_cost[0]) if i in starts else -math.inf for i in range(size)]
    before: list[list[int]] = []
    for _ in range(count - 1):
        came = [_latest_best([best[j] + value[j] * (log_cost[i] - log_cost[j]) for j in range(i)]) for i in range(size)]
        best = [best[j] + value[j] * (log_cost[i] - log_cost[j]) if j >= 0 else -math.inf for i, j in enumerate(came)]
        before.append(came)
    last = max(range(size), key=lambda i: best[i] + value[i] * (end - log_cost[i]))
    chosen = [last]
    for came in reversed(before):
        chosen.append(came[chosen[-1]])
    return [front[i] for i in reversed(chosen)]


def _budget(macs: float, low: float) -> float:
    """Logarithm of a budget, from the lowest of the score on. Those below hardly count: they decide between sets of
    points that are equally good above, so that a front below the range of the score has its points spread, too.
    """
    return math.log(macs / low) * (1 if macs >= low else _BELOW)


def _latest_best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: (values[i], i), default=-1)


class _Search:
    """What is known in a final search: draws and costs of all subnetworks seen, measurements, the predictor."""

    def __init__(self, architecture: Architecture, limits: Limits, rng: np.random.Generator):
        self.architecture, self.limits, self.rng = architecture, limits, rng
        topology = architecture.topology
        self.made: tuple[ChoiceGroup, ...] = choice_groups(topology)
        self.groups = coupling_groups(topology)
        self.options = (
            *(len(choice.alternatives) for choice in self.made),
            *(width_levels(topology) for _ in self.groups),
            len(architecture.points),
        )
        self.seen: dict[Subnetwork, tuple[Draw, int, int]] = {}  # with macs and params
        self.measured: dict[Subnetwork, Measured] = {}
        self._rows: dict[Subnetwork, Blocks] = {}

    def of_points(self) -> list[Subnetwork]:
        """The architecture's own points."""
        for point in self.architecture.points:
            self._know(point, draw_of(self.architecture, self.made, point))
        return list(self.architecture.points)

    def smallest_draws(self) -> list[Subnetwork]:
        """The narrowest subnetwork of every output, with nothing optional that can be left out."""
        picks = tuple(c.alternatives.index(None) if None in c.alternatives else 0 for c in self.made)
        levels = (0,) * len(self.groups)
        return [self._decoded(Draw(picks, levels, exit_)) for exit_ in range(len(self.architecture.points))]

    def within(self, subnetworks: Iterable[Subnetwork]) -> list[Subnetwork]:
        """Those that keep the limits on MACs and parameters."""
        most_macs, most_params = self.limits.max_macs or math.inf, self.limits.max_params or math.inf
        costs = ((s, *self.seen[s][1:]) for s in subnetworks)
        return [s for s, macs, params in costs if macs <= most_macs and params <= most_params]

    def random(self, count: int) -> list[Subnetwork]:
        """Up to so many new subnetworks at random: half with one width for all, half with independent widths."""
        found: dict[Subnetwork, None] = {}
        for turn in range(TRIES * max(0, count)):
            if len(found) == count:
                break
            drawn = draw(self.architecture, self.made, self.rng, widths=("common", "independent")[turn % 2])
            subnetwork = self._decoded(drawn)
            if subnetwork not in self.measured and self.within([subnetwork]):
                found[subnetwork] = None
        return list(found)

    def smallest(self) -> tuple[int, int]:
        """The fewest MACs and the fewest parameters of anything seen."""
        return min(macs for _, macs, _ in self.seen.values()), min(params for *_, params in self.seen.values())

    def take(self, subnetworks: list[Subnetwork], measure: MeasureSubnetworks) -> None:
        """Measure them."""
        for subnetwork, (accuracy, latency) in zip(subnetworks, measure(subnetworks), strict=True):
            _, macs, params = self.seen[subnetwork]
            self.measured[subnetwork] = Measured(
                subnetwork=subnetwork, macs=macs, params=params, accuracy=accuracy, latency_ms=latency
            )

    def promising(self, count: int) -> list[Subnetwork]:
        """Up to so many to be measured next: the front of predicted accuracy and MACs, and random ones."""
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
        """Subnetworks within the limits that evolution over the predictor came by, the measured ones included."""
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
        """Of two parents, the better ones more often: each gene of either, one or more drawn anew."""
        rng, size = self.rng, len(self.options)
        first, second = (
            np.array(_genes(self.seen[parents[min(rng.integers(len(parents), size=2))]][0])) for _ in range(2)
        )
        genes = np.where(rng.random(size) < 0.5, first, second)
        changed = rng.random(size) < 1 / size
        changed[rng.integers(size)] = True
        genes = np.where(changed, rng.integers(self.options), genes).tolist()
        ways, groups = len(self.made), len(self.groups)
        return self._decoded(Draw(tuple(genes[:ways]), tuple(genes[ways : ways + groups]), genes[-1]))

    def _decoded(self, drawn: Draw) -> Subnetwork:
        subnetwork = subnetwork_of(self.architecture, self.made, drawn)
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
        """What the predictor knows of a subnetwork: its size, what is live, how wide."""
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
    """Indices by non-dominated rank, within a rank those that stand alone in cost first."""
    rank_N = non_dominated_rank(np.column_stack([values, -log_costs]))
    alone_N = np.empty(len(values))
    for rank in np.unique(rank_N):
        alone_N[rank_N == rank] = crowding(log_costs[rank_N == rank])
    return list(np.lexsort((-alone_N, rank_N)))


def _nothing_within(architecture: Architecture, smallest: tuple[int, int]) -> str:
    return (
        "Some subnetwork must keep the limits on MACs and parameters, and none that was drawn does. The smallest had "
        f"{smallest[0]:,} MACs, or {smallest[1]:,} parameters: raise the limits."
    )
