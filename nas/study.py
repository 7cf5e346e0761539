"""A study as its user reads it: the front, the candidates, the audit, the best network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import results
from nas.audit.audit import AuditRow
from nas.audit.reference import ReferenceScores
from nas.audit.reliance import audit_proxies, relied_on
from nas.audit.savings import Comparison, Savings, candidates_saved, control_comparison
from nas.audit.wording import audit_summary, reliance_line
from nas.config import STORE, Config
from nas.errors import UserError
from nas.plugins import canonical_spec, installed
from nas.progress import Progress, Silent, State
from nas.proxies.contract import load_proxy
from nas.proxies.sizes import SIZE_PROXIES
from nas.representation.architecture import Architecture
from nas.seeds import seed
from nas.spaces.loading import load_spaces
from results.front import Score, hypervolume

if TYPE_CHECKING:
    import pandas as pd

    from nas.execution.network import AnytimeNetwork

REFERENCE_SAMPLE = 1_000  # random architectures that size is fitted on
DEAR_SAMPLE = 100  # of them, for proxies that need weights


class Study:
    """What a store holds of one study, as DataFrames, pictures and networks.

    spaces: the classes or objects among its spaces, by name; the audit alone needs them.
    Raises results.StoreError when there is no such study.
    """

    def __init__(self, name: str, *, store: str = STORE, spaces: Mapping[str, Any] | None = None):
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

    def network(self, key: str | None = None, *, repeat: int | None = None) -> AnytimeNetwork:
        """A trained network of the study, the best by default."""
        from nas.execution.loading import load

        return load(key or str(self.best().key), store=self.url, repeat=repeat)

    def anytime_accuracy(
        self, split: str = "validation", *, cost: str = "macs", low: float | None = None, high: float | None = None
    ) -> float:
        """Anytime accuracy of the whole front: at each budget, of its best point that the budget allows.

        Parameters
        ----------
        split : str
            ``"validation"``, or ``"test"`` for the test accuracies of the points that validation chose.
        cost : str
            The cost that budgets are in: macs, params, latency_ms, nonzero_macs or a measure of the evaluator that is
            minimised.
        low, high : float, optional
            Range of budgets, in the unit of ``cost``. By default the study's for its own cost, otherwise the least and
            the largest cost on the front.

        Raises
        ------
        results.StoreError
            If the cost is unknown or was not measured.
        """
        front = self.front(cost=cost)
        costs = front[cost].to_numpy(dtype=float)
        if front.empty:
            return self.score.floor
        whole = (self.score.low, self.score.high) if cost == self.score.cost else (costs.min(), costs.max())
        score = replace(
            self.score, cost=cost, low=whole[0] if low is None else low, high=whole[1] if high is None else high
        )
        column = "accuracy" if split == "validation" else "test_accuracy"
        return score(costs, front[column].to_numpy(), chosen_by=front.accuracy.to_numpy())

    def hypervolume(self) -> float:
        """Area under the front in log MACs, up to the largest budget, above the floor: see ``results.front``."""
        front, score = self.front(), self.score
        return hypervolume(
            front.macs.to_numpy(),
            front.accuracy.to_numpy(),
            reference_cost=score.high,
            reference_accuracy=score.floor,
        )

    def first_rung(self) -> pd.DataFrame:
        """The candidates that were trained, compared where all of them have been: at the lowest fidelity of the study.

        Columns: key, generation, position, control (random, to audit the order), ranked (ordered by the proxy, while
        the search relied on it), accuracy (anytime accuracy at that fidelity). In the order of training.

        Raises UserError when none was trained yet.
        """
        points, score = self.points(), self.score
        if points.empty:
            raise UserError(f"Study {self.name!r} has no trained candidate yet. Resume it.")
        lowest = points[(points.repeat == 0) & (points.fidelity == points.fidelity.min())]
        accuracy = {
            str(key): score(curve.macs.to_numpy(), curve.accuracy.to_numpy())
            for key, curve in lowest.groupby("candidate")
        }
        found = self.candidates()
        found = found[found.position.notna() & found.key.isin(list(accuracy))].drop_duplicates("key")
        found = found.sort_values(["generation", "position"], ignore_index=True)
        decisions = self.reliance()
        relied = np.array([relied_on(decisions, int(generation)) for generation in found.generation], dtype=bool)
        return found[["key", "generation", "position"]].assign(
            control=found.control.to_numpy(dtype=bool),
            ranked=relied & ~found.control.to_numpy(dtype=bool),
            accuracy=[accuracy[key] for key in found.key],
        )

    def reliance(self) -> dict[str, Any]:
        """By generation, counted from 0: whether its order was by the proxy (relied), from how many trained, reason."""
        decisions: dict[str, Any] = self.store.memo(self.name).get("reliance", {})
        return decisions

    def audit(self, *proxies: str, progress: Progress | None = None) -> pd.DataFrame:
        """Whether proxies earned it: a row for the study's own, for the sizes, and for each that is asked for.

        proxies: names, ``file.py:Name``, or "all" that are installed. Those that need weights are scored on fewer
        random architectures: about a tenth of a second each, once, then they are kept beside the study's files.
        progress: see :mod:`nas.progress`.

        Columns: those of :class:`nas.audit.audit.AuditRow`, then problem: why a proxy could not score a candidate,
        or None. Accuracy is the anytime accuracy at the first rung, which all candidates have reached.

        Raises UserError for an unknown proxy, and when nothing was trained yet.
        """
        import pandas as pd

        rows, problems = self.audited(*proxies, progress=progress)
        names = [f.name for f in fields(AuditRow)]
        found = pd.DataFrame([asdict(row) for row in rows], columns=names)
        failed = pd.DataFrame({"proxy": [name for name in problems if name not in set(found.proxy)]})
        found = found if failed.empty else pd.concat([found, failed.assign(n=0, references=0)], ignore_index=True)
        return found.assign(problem=[problems.get(name) for name in found.proxy])

    def audited(self, *proxies: str, progress: Progress | None = None) -> tuple[list[AuditRow], dict[str, str]]:
        """The rows of :meth:`audit`, and by name the problems of proxies that failed on some candidate."""
        asked = (name for p in proxies for name in (installed("nas.proxies") if p == "all" else [p]))
        names = dict.fromkeys((self.config.proxy, *SIZE_PROXIES, *(canonical_spec("nas.proxies", n) for n in asked)))
        loaded = {name: load_proxy(name) for name in names}
        trained, reference = self.first_rung(), self._reference_scores()
        rows = audit_proxies(
            reference,
            loaded,
            list(trained.key),
            self._architecture,
            trained.accuracy,
            references=lambda proxy: REFERENCE_SAMPLE if proxy.needs == "topology" else DEAR_SAMPLE,
            rng_seed=seed(self.config.seed, "audit"),
            on_progress=_AuditProgress(progress or Silent(), len(trained), float(trained.accuracy.max())),
        )
        return rows, reference.problems

    def compared(self) -> tuple[Comparison, Savings]:
        """Ranked candidates against random controls: their mean accuracy, and how many candidates ranking has saved.

        At the first rung. The ranked ones owe to the strategy that proposed them as well.
        """
        trained = self.first_rung()
        ranked, controls = trained.accuracy[trained.ranked], trained.accuracy[trained.control]
        return control_comparison(ranked, controls), candidates_saved(ranked, controls)

    def audit_lines(self) -> str:
        """The audit in two lines of text, and a third where the search stopped relying on its proxy."""
        rows, _ = self.audited()
        lines = [audit_summary(rows, *self.compared(), proxy=self.config.proxy)]
        return "\n".join(filter(None, [*lines, reliance_line(self.config.proxy, self.reliance())]))

    def report(self, path: str | PathLike[str], *proxies: str, progress: Progress | None = None) -> Path:
        """Write all of this as one HTML file that needs nothing beside it: see
        :func:`nas.reporting.html_report.write_report`.

        proxies: audited beside the study's own and the sizes; all that are installed by default.
        """
        from nas.reporting.html_report import write_report

        return write_report([self], path, proxies=proxies or ("all",), progress=progress)

    def _architecture(self, key: str) -> Architecture:
        return Architecture.from_json(self.store.architecture(key))

    def _reference_scores(self) -> ReferenceScores:
        task = self._architecture(str(self.best().key)).task
        config = replace(self.config, low=self.score.low)
        return ReferenceScores(self.store.files(self.name), config, task, load_spaces(config.spaces, self._spaces))


class _AuditProgress:
    """Shows the progress of the scoring of proxies."""

    def __init__(self, progress: Progress, trained: int, best: float) -> None:
        self.progress, self.trained, self.best = progress, trained, best
        self._name, self._started = "", 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self._name:
            self._name, self._started = name, time.monotonic()
        left = (time.monotonic() - self._started) / done * (total - done)
        stage = f"audit: {name.rpartition(':')[2]}"
        state = State(stage=stage, done=done, total=total, trained=self.trained, best=self.best, seconds_left=left)
        self.progress.show(state)
