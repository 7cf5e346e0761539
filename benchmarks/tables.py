"""Tables of trained candidates, and searches on them: the code of the product, without store and training.

A simulated search is the product's proposer with its pools, strategies and decisions on the share of the proxy. Only
three parts are replaced: the screener looks a proposal up in the table, the records are in memory, and a training is
the value in the table. No training is stopped early.

A table may be a sample of a space, such as the free candidates of population.py in the report half. Then a proposal
stands for the most similar candidate that is left. Similarity is the number of the candidate's choices with equal
answers, in standard deviations above the mean of random answers. (The share of equal choices would favour candidates
with few choices, which are small.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import digits_cells
import numpy as np
import pandas as pd
import population
from public_tables import CIFAR10, cell

from nas.audit.reliance import Reliance
from nas.config import Config
from nas.funnel.generation import GenerationProposer
from nas.funnel.records import Queued, Records
from nas.funnel.state import StateKeeper
from nas.representation.architecture import Architecture
from nas.screening.proposals import Proposal, Rejected
from nas.spaces.choices import Domains, Recorder, index_of
from nas.strategies.contract import Strategy, Trial
from results.front import anytime_accuracy, hypervolume

ROWS = Path(__file__).parent / "rows"
POOL, SAMPLE_POOL = 500, 36
"""Proposals per generation: the default, and fewer for a sample, of which 500 would be the whole."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Trained candidates.

    choices: of every candidate, in the order of the space. values: anytime accuracies, shape (N,), with budgets from
    ``low`` on. points: MACs and accuracies of every candidate. build: makes the architectures. sample: whether
    proposals stand for the most similar candidate. equal: further choices that lead to the network of a candidate, with
    its index.
    """

    name: str
    choices: Sequence[dict[str, Any]]
    values: np.ndarray
    low: float
    points: Sequence[tuple[np.ndarray, np.ndarray]]
    build: Sequence[Callable[[], Architecture]]
    sample: bool = False
    equal: Sequence[tuple[dict[str, Any], int]] = ()
    domains: dict[str, tuple[Any, ...]] = field(init=False)
    _architectures: dict[int, Architecture] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, list[Any]] = {}
        for choices in (*self.choices, *(other for other, _ in self.equal)):
            for name, value in choices.items():
                if index_of(tuple(seen.setdefault(name, [])), value) < 0:
                    seen[name].append(value)
        domains = {name: tuple(sorted(options, key=lambda o: (repr(type(o)), o))) for name, options in seen.items()}
        object.__setattr__(self, "domains", domains)

    def __len__(self) -> int:
        return len(self.values)

    def architecture(self, index: int) -> Architecture:
        """The architecture of a candidate, built once."""
        if index not in self._architectures:
            self._architectures[index] = self.build[index]()
        return self._architectures[index]


def read_population(path: str | Path = ROWS / "population.csv") -> Table:
    """The free candidates of the report half; candidates with matched MACs are no random sample of a space."""
    frame = population.read(path)
    frame = frame[(frame.group == "free") & (frame.number % 2 == 1)]
    first = frame.drop_duplicates("key")
    rows = dict(list(frame.groupby("key")))
    return Table(
        name="population",
        choices=[
            {"space": space} | {f"{space}/{name}": value for name, value in choices.items()}
            for space, choices in zip(first.space, first.choices)
        ],
        values=np.array([rows[key].anytime_accuracy.mean() for key in first.key]),
        low=population.LOW,
        points=[(costs, np.mean(list(rows[key].accuracy), axis=0)) for key, costs in zip(first.key, first.macs)],
        build=[partial(_itself, architecture) for architecture in first.architecture],
        sample=True,
    )


def read_cells(path: str | Path = digits_cells.ROWS) -> Table:
    """The trained networks of `cells`, after the last epoch, by the means of their seeds."""
    frame = pd.read_csv(path)
    frame = frame[frame.failed.isna() & (frame.epochs == digits_cells.EPOCHS[-1])]
    points = {
        choices: of_choices.groupby("level")[["macs", "accuracy"]].mean()
        for choices, of_choices in frame.groupby(list(digits_cells.OPTIONS))
    }
    networks, _ = digits_cells.enumerated(digits_cells.TASK)
    networks = [network for network in networks if tuple(network.choices[0].values()) in points]
    found = [points[tuple(network.choices[0].values())] for network in networks]
    low = float(np.median([each.macs.min() for each in found]))
    high = float(max(each.macs.max() for each in found))
    return Table(
        name="cells",
        choices=[network.choices[0] for network in networks],
        values=np.array([anytime_accuracy(each.macs, each.accuracy, low=low, high=high, floor=0.1) for each in found]),
        low=low,
        points=[(each.macs.to_numpy(), each.accuracy.to_numpy()) for each in found],
        build=[partial(_itself, network.architecture) for network in networks],
        equal=[(other, index) for index, network in enumerate(networks) for other in network.choices[1:]],
    )


def read_nats(path: str | Path) -> Table:
    """The 15,284 connected cells of NATS-Bench (topology) on CIFAR-10 (public_tables.py), by their test accuracy."""
    frame = pd.read_csv(path, keep_default_na=False)
    cells = {}
    for text, accuracy in zip(frame.ArchitectureString, frame.CIFAR10TestAccuracy200Epochs):
        if (architecture := cell(text, CIFAR10)) is not None:
            cells[text] = architecture.costs, float(accuracy) / 100
    return Table(
        name="nats",
        choices=[
            {
                f"{source} to {target}": kind
                for target, node in enumerate(text.strip("|").split("|+|"), start=1)
                for kind, _, source in (entry.partition("~") for entry in node.split("|"))
            }
            for text in cells
        ],
        values=np.array([accuracy for _, accuracy in cells.values()]),
        low=min(costs[0] for costs, _ in cells.values()),
        points=[(np.array(costs), np.array([accuracy])) for costs, accuracy in cells.values()],
        build=[partial(cell, text, CIFAR10) for text in cells],
    )


def _itself(architecture: Architecture) -> Architecture:
    return architecture


class Hypervolumes:
    """Hypervolume of the front of all points of trained candidates.

    Log MACs from the table's ``low`` to 1 % above the most expensive point, the budgets of the anytime accuracy. As
    there, points below ``low`` count as points at ``low``.
    """

    def __init__(self, table: Table):
        self.costs = [np.maximum(table.low, costs) for costs, _ in table.points]
        self.accuracies = [np.asarray(accuracies) for _, accuracies in table.points]
        self.corner = {
            "reference_cost": 1.01 * max(map(np.max, self.costs)),
            "reference_accuracy": min(map(np.min, self.accuracies)),
        }

    def of(self, trained: Sequence[int]) -> float:
        """The hypervolume of these candidates."""
        costs, accuracies = (np.concatenate([of[i] for i in trained]) for of in (self.costs, self.accuracies))
        return hypervolume(costs, accuracies, **self.corner)


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """An order of training in a simulation. share: fixed share of the proxy; None for the product's decisions.

    controls: whether every tenth candidate is a random control.
    """

    share: float | None
    controls: bool


NO_ORDER = Order(share=0.0, controls=False)
"""A search that knows no proxy."""
PRODUCT = Order(share=None, controls=True)
ALWAYS = Order(share=1.0, controls=True)


def search(
    table: Table,
    strategy: type[Strategy],
    scores: np.ndarray,
    order: Order,
    *,
    seed: int,
    limit: int,
) -> Iterator[list[int]]:
    """A simulated search: yields the candidates trained so far, in order, after each generation.

    scores: of the candidates by the proxy.
    """
    config = Config(seed=seed, pool=SAMPLE_POOL if table.sample else POOL, epochs=9, images=10_000)
    records = _Records(config, table, scores)
    keeper = StateKeeper(records.writer)
    screener = _Screener(table, scores, keeper.domains, records.trained, strategy.reads_architectures)
    proposer = _Proposer(config, records, keeper, screener, strategy, order)
    limit, generation = min(limit, len(table)), 0
    while len(records.trained) < limit and proposer.propose(generation, limit):
        records.train(generation, strategy.reads_architectures)
        generation += 1
        yield records.trained


class _Proposer(GenerationProposer):
    """The product's proposer with a fixed share, or without controls."""

    def __init__(self, config: Any, records: Any, keeper: Any, screener: Any, strategy: Any, order: Order):
        super().__init__(config, records, keeper, screener, strategy)
        self.order = order

    def _queued(self, pick: Any) -> Queued:
        return Queued(proposal=pick.proposal, control=pick.by == "chance", proxies={})

    def _reliance(self, generation: int) -> Reliance:
        if self.order.share is None:
            return super()._reliance(generation)
        return Reliance(share=self.order.share, trained=0, reason="fixed")

    def _controls(self, generation: int, count: int, *rest: Any) -> Any:
        return super()._controls(generation, count if self.order.controls else 0, *rest)


class _Screener:
    """Looks proposals up in a table."""

    def __init__(self, table: Table, scores: np.ndarray, domains: Domains, trained: list[int], build: bool):
        self.table, self.scores, self.domains, self.trained, self.build = table, scores, domains, trained, build
        self.proxy = None
        self._tree: dict[Any, Any] = {}
        for choices, index in (*zip(table.choices, range(len(table))), *table.equal):
            node = self._tree
            for name, value in choices.items():
                node = node.setdefault("name", name) and node.setdefault((type(value), value), {})
            node["index"] = index
        names = list(table.domains)
        self._codes = np.array(
            [[index_of(table.domains[n], c[n]) if n in c else -1 for n in names] for c in table.choices]
        )
        self._index = {
            name: {(type(o), o): i for i, o in enumerate(options)} for name, options in table.domains.items()
        }
        self._chance = 1 / np.array([len(options) for options in table.domains.values()])
        self._left: tuple[int, Any] = (-1, None)

    def propose(self, decide: Any) -> Proposal | Rejected:
        """See :meth:`nas.screening.screener.Screener.propose`."""
        recorder = Recorder(decide, self.domains)
        if self.table.sample:
            return self._proposal(self._most_similar(recorder), recorder)
        node = self._tree
        while "name" in node:
            value = recorder(node["name"], self.table.domains[node["name"]])
            if (type(value), value) not in node:
                return Rejected(space="table", choices=recorder.choices, status="invalid", reason="Not in the table.")
            node = node[type(value), value]
        return self._proposal(node["index"], recorder)

    def _most_similar(self, recorder: Recorder) -> int:
        values = {name: recorder(name, options) for name, options in self.table.domains.items()}
        answers = np.array([self._index[name][type(value), value] for name, value in values.items()])
        if self._left[0] != len(self.trained):
            left = np.setdiff1d(np.arange(len(self.table)), self.trained)
            asked = self._codes[left] >= 0
            deviation = np.sqrt(np.maximum(1e-12, asked @ (self._chance * (1 - self._chance))))
            self._left = len(self.trained), (left, self._codes[left], asked @ self._chance, deviation)
        left, codes, expected, deviation = self._left[1]
        return int(left[np.argmax(((codes == answers).sum(axis=1) - expected) / deviation)])

    def _proposal(self, index: int, recorder: Recorder) -> Proposal:
        return Proposal(
            space="table",
            choices=recorder.choices,
            architecture=self.table.architecture(index) if self.build else _Index(index),
            key=f"{index:08x}",
            macs=tuple(int(cost) for cost in self.table.points[index][0]),
            score=float(self.scores[index]),
        )


@dataclass(frozen=True)
class _Index:
    """In place of an architecture, for strategies that read none."""

    index: int

    def to_json(self) -> dict[str, Any]:
        return {}


class _Records(Records):
    """Records in memory, whose trainings are looked up in a table. trained: indices in the table, in order."""

    def __init__(self, config: Config, table: Table, scores: np.ndarray):
        self.writer = _Writer()
        score = SimpleNamespace(low=1.0, floor=float(table.values.min()))
        super().__init__(config, self.writer, SimpleNamespace(train_images=config.images), score)
        self.table, self.scores = table, scores
        self.trained: list[int] = []
        self._history: list[Trial] = []

    def history(self, domains: Domains, *, with_architecture: bool) -> list[Trial]:
        return list(self._history)

    def log(self, *texts: str) -> None:
        pass

    def train(self, generation: int, with_architecture: bool) -> None:
        """Look up the values of a generation."""
        for number in self.ledger.of_generation(generation):
            index = int(self.ledger[number].key, 16)
            choices, value = self.table.choices[index], float(self.table.values[index])
            self.ledger.set_accuracy(number, self.rung(self.config.rungs()[0]), value)
            self.ledger.set_status(number, "finished")
            self.trained.append(index)
            self._history.append(
                Trial(
                    choices=choices,
                    domains={name: self.table.domains[name] for name in choices},
                    value=value,
                    generation=generation,
                    architecture=self.table.architecture(index) if with_architecture else None,
                    proxy=float(self.scores[index]),
                )
            )


class _Writer:
    """In place of the writer of a store: keeps nothing but the number of rows."""

    files = Path()

    def __init__(self) -> None:
        self.count = 0

    def memo(self) -> dict[str, Any]:
        return {}

    def rows(self, *_: Any, **__: Any) -> list[Any]:
        return []

    scores = transferred = rows

    def set_memo(self, _: Any) -> None:
        pass

    drop_generation = set_memo

    def transaction(self) -> Any:
        return nullcontext()

    def add_candidates(self, rows: Any) -> list[int]:
        first = self.count
        self.count += len(list(rows))
        return list(range(first, self.count))
