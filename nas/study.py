"""A study as its user reads it: the front, the candidates, the audit, the best network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import results
from nas.audit import AuditRow, Comparison, audit, control_comparison, sample_of, two_lines
from nas.config import Config
from nas.errors import UserError
from nas.proxies import load_proxy
from nas.seeds import seed
from nas.topology import Architecture
from results.front import Score, hypervolume

if TYPE_CHECKING:
    import pandas as pd

    from nas.network import AnytimeNetwork

REFERENCE_SAMPLE = 1_000


class Study:
    """What a store holds of one study, as DataFrames, pictures and networks.

    spaces: the classes or objects among its spaces, by name; the audit alone needs them.
    Raises results.StoreError when there is no such study.
    """

    def __init__(self, name: str, *, store: str = "sqlite:///nas.db", spaces: Mapping[str, Any] | None = None):
        self.name, self.url = name, store
        self._spaces = dict(spaces or {})
        self.store = results.open(store)
        settings = self.store.settings(name)
        self.config = Config.from_stored(name, settings)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, store={self.url!r})"

    def front(self, **limits: Any) -> pd.DataFrame:
        """The non-dominated points; limits and cost as in ``results.Store.front``."""
        return self.store.front(self.name, **limits)

    def candidates(self) -> pd.DataFrame:
        """One row per candidate."""
        return self.store.candidates(self.name)

    def points(self) -> pd.DataFrame:
        """One row per candidate, operating point, fidelity and repeat."""
        return self.store.points(self.name)

    @property
    def score(self) -> Score:
        """The anytime accuracy that the study maximises: range of budgets, floor."""
        score = self.store.score(self.name)
        if score is None:
            raise UserError(f"Study {self.name!r} has not come to its range of budgets yet. Resume it.")
        return score

    def best(self) -> pd.Series:
        """The candidate with the best anytime accuracy at the highest fidelity of the study."""
        found = self.candidates()
        found = found[found.anytime_accuracy.notna()]
        if found.empty:
            raise UserError(f"Study {self.name!r} has no trained candidate yet. Resume it.")
        top = found[found.fidelity == found.fidelity.max()]
        return top.loc[top.anytime_accuracy.idxmax()]

    def network(self, key: str | None = None, *, repeat: int = 0) -> AnytimeNetwork:
        """A trained network of the study, the best by default."""
        from nas.loading import load

        return load(key or str(self.best().key), store=self.url, repeat=repeat)

    def anytime_accuracy(self, split: str = "validation") -> float:
        """Anytime accuracy of the whole front: of always taking the best of its points that the budget allows.

        split "test" takes the test accuracies of the points that validation chose.
        """
        front = self.front()
        column = "accuracy" if split == "validation" else "test_accuracy"
        chosen_by = front.accuracy.to_numpy()
        return self.score(front.macs.to_numpy(), front[column].to_numpy(), chosen_by=chosen_by)

    def hypervolume(self) -> float:
        """Area under the front in log MACs, up to the largest budget, above the floor: see ``results.front``."""
        front, score = self.front(), self.score
        return hypervolume(
            front.macs.to_numpy(),
            front.accuracy.to_numpy(),
            reference_cost=score.high,
            reference_accuracy=score.floor,
        )

    def audit(self) -> tuple[list[AuditRow], Comparison]:
        """Whether the proxy that ordered the training earned it: see :mod:`nas.audit`.

        Accuracy is the anytime accuracy at the first rung of partial training, which all candidates have reached.
        """
        rows = self._first_rung()
        names = tuple(dict.fromkeys((self.config.proxy, "macs", "params", "depth", "count")))
        proxies = {name: load_proxy(name) for name in names}
        trained = sample_of((Architecture.from_json(row["architecture"]) for row in rows), proxies)
        reference = sample_of(self._reference(), proxies)
        accuracy = np.array([row["accuracy"] for row in rows])
        control = np.array([row["control"] for row in rows], dtype=bool)
        rng = np.random.default_rng(seed(self.config.seed, "audit"))
        return audit(trained, accuracy, reference, rng=rng), control_comparison(accuracy[~control], accuracy[control])

    def audit_lines(self) -> str:
        """The audit in two lines of text."""
        rows, comparison = self.audit()
        return two_lines(rows, comparison, proxy=self.config.proxy)

    def _first_rung(self) -> list[dict[str, Any]]:
        """Architecture, control flag and anytime accuracy at the lowest fidelity of every candidate that was
        trained.
        """
        points = self.points()
        lowest = points[(points.repeat == 0) & (points.fidelity == points.fidelity.min())]
        controls = self.candidates().dropna(subset=["key"]).groupby("key").control.any()
        return [
            {
                "architecture": self.store.architecture(str(key)),
                "control": bool(controls[key]),
                "accuracy": self.score(curve.macs.to_numpy(), curve.accuracy.to_numpy()),
            }
            for key, curve in lowest.groupby("candidate")
        ]

    def _reference(self) -> list[Architecture]:
        """Random feasible architectures of the study's spaces, the same at every call."""
        from nas.choices import at_random
        from nas.funnel import Proposal, funnel_of
        from nas.launch import load_spaces

        task = Architecture.from_json(self.store.architecture(str(self.best().key))).task
        config = replace(self.config, low=self.score.low)
        funnel = funnel_of(config, task, load_spaces(config.spaces, self._spaces))
        decide = at_random(np.random.default_rng(seed(config.seed, "reference")))
        found = []
        for _ in range(12 * REFERENCE_SAMPLE):
            proposal = funnel.propose(decide)
            if isinstance(proposal, Proposal):
                found.append(proposal.architecture)
            if len(found) == REFERENCE_SAMPLE:
                break
        return found
