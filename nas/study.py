"""The results of a study: the front, the candidates, the audit, the best network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import results
from nas.audit.audit import AuditRow
from nas.audit.proxy_audit import audit_proxies
from nas.audit.reference import ReferenceScores
from nas.audit.reliance import relied_on
from nas.audit.savings import Comparison, Savings, candidates_saved, control_comparison
from nas.audit.wording import audit_summary, reliance_line
from nas.config import STORE, Config
from nas.errors import UserError
from nas.funnel.state import StudyState
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
    from results.store import Store

REFERENCE_SAMPLE = 1_000  # random architectures of an audit
EXPENSIVE_SAMPLE = 100  # part of them for proxies that need weights


def stored_architecture(store: Store, key: str) -> Architecture:
    """The architecture with this key in a store, proposed or realised. Raises results.StoreError if it has none."""
    return Architecture.from_json(store.architecture(key))


class Study:
    """One study of a store, as DataFrames and networks.

    Parameters
    ----------
    name
        Name of the study.
    store
        URL or path of the results store.
    spaces
        Classes and objects among the study's search spaces, by name. Only the audit needs them.

    Attributes
    ----------
    config : nas.config.Config
        The settings of the study.
    store : results.store.Store
        The store, opened for reading.

    Raises
    ------
    results.StoreError
        If the store has no such study.

    Examples
    --------
    >>> study = nas.Study("digits")  # doctest: +SKIP
    >>> study.front(max_macs=1e6)[["macs", "accuracy"]]  # doctest: +SKIP
    """

    def __init__(self, name: str, *, store: str = STORE, spaces: Mapping[str, Any] | None = None):
        self.name, self.url = name, store
        self._spaces = dict(spaces or {})
        self.store = results.open(store)
        self.config = Config.from_stored(name, self.store.settings(name))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, store={self.url!r})"

    def front(self, **limits: Any) -> pd.DataFrame:
        """The Pareto-optimal operating points, one row each.

        Parameters
        ----------
        **limits
            Cost and limits of the front, as in :meth:`results.store.Store.front`.

        Returns
        -------
        pandas.DataFrame
            Sorted by cost; empty if no candidate has been trained.
        """
        return self.store.front(self.name, **limits)

    def candidates(self) -> pd.DataFrame:
        """One row per candidate."""
        return self.store.candidates(self.name)

    def points(self) -> pd.DataFrame:
        """One row per candidate, operating point, fidelity and repeat."""
        return self.store.points(self.name)

    @property
    def score(self) -> Score:
        """The objective of the study: anytime accuracy with its range of budgets and its floor.

        Raises
        ------
        UserError
            If the study was interrupted before its range of budgets was known.
        """
        score = self.store.score(self.name)
        if score is None:
            raise UserError(f"Study {self.name!r} has no range of budgets yet. Resume it.")
        return score

    def best(self) -> pd.Series:
        """The candidate with the best anytime accuracy at the highest fidelity of the study.

        Returns
        -------
        pandas.Series
            A row of :meth:`candidates`.

        Raises
        ------
        UserError
            If no candidate has been trained.
        """
        candidates = self.candidates()
        trained = candidates[candidates.anytime_accuracy.notna()]
        if trained.empty:
            raise self._untrained()
        top = trained[trained.fidelity == trained.fidelity.max()]
        return top.loc[top.anytime_accuracy.idxmax()]

    def network(self, key: str | None = None, *, repeat: int | None = None) -> AnytimeNetwork:
        """A trained network of the study.

        Parameters
        ----------
        key
            Of a candidate or of a realised architecture, or its first digits; None: the best candidate.
        repeat
            Which training of the candidate, counted from 0; None: see :func:`nas.load`.

        Raises
        ------
        UserError
            If no candidate has been trained.
        results.StoreError
            If the store has no such network.
        """
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
        """Area under the front in log MACs, up to the largest budget, above the floor.

        See :func:`results.front.hypervolume`.
        """
        front, score = self.front(), self.score
        return hypervolume(
            front.macs.to_numpy(),
            front.accuracy.to_numpy(),
            reference_cost=score.high,
            reference_accuracy=score.floor,
        )

    def first_rung(self) -> pd.DataFrame:
        """The trained candidates at the lowest fidelity of the study, which all of them reach.

        Returns
        -------
        pandas.DataFrame
            In order of training. Columns: key, generation, position, control (random, to audit the order), ranked
            (ordered by the proxy), accuracy (anytime accuracy at this fidelity).

        Raises
        ------
        UserError
            If no candidate has been trained.
        """
        points, score = self.points(), self.score
        if points.empty:
            raise self._untrained()
        lowest = points[(points.repeat == 0) & (points.fidelity == points.fidelity.min())]
        accuracy = {
            str(key): score(curve.macs.to_numpy(), curve.accuracy.to_numpy())
            for key, curve in lowest.groupby("candidate")
        }
        candidates = self.candidates()
        trained = candidates[candidates.position.notna() & candidates.key.isin(list(accuracy))].drop_duplicates("key")
        trained = trained.sort_values(["generation", "position"], ignore_index=True)
        control, decisions = trained.control.to_numpy(dtype=bool), self.state.reliance
        relied = np.array([relied_on(decisions, int(generation)) for generation in trained.generation], dtype=bool)
        return trained[["key", "generation", "position"]].assign(
            control=control, ranked=relied & ~control, accuracy=[accuracy[key] for key in trained.key]
        )

    @property
    def state(self) -> StudyState:
        """The progress of the search: generations, seconds, and by generation whether the proxy ordered it."""
        return StudyState.from_json(self.store.memo(self.name))

    def audit(self, *proxies: str, progress: Progress | None = None) -> pd.DataFrame:
        """Audit proxies against the results of training.

        Parameters
        ----------
        *proxies
            Names, ``file.py:Name``, or "all" for all installed ones; audited besides the study's own and the sizes.
        progress
            Display, see :mod:`nas.progress`.

        Returns
        -------
        pandas.DataFrame
            One row per proxy. Columns: the fields of :class:`nas.audit.audit.AuditRow`, then problem: the reason why a
            proxy could not score a candidate, or None. Accuracies: see :meth:`first_rung`.

        Raises
        ------
        UserError
            If a proxy is unknown, or no candidate has been trained.

        Notes
        -----
        Proxies that need weights take about 0.1 s per architecture, so they are scored on a smaller random sample. The
        scores are kept with the study's files.
        """
        import pandas as pd

        rows, problems = self.audited(*proxies, progress=progress)
        names = [f.name for f in fields(AuditRow)]
        audit = pd.DataFrame([asdict(row) for row in rows], columns=names)
        failed = pd.DataFrame({"proxy": [name for name in problems if name not in set(audit.proxy)]})
        if not failed.empty:
            audit = pd.concat([audit, failed.assign(n=0, references=0)], ignore_index=True)
        return audit.assign(problem=[problems.get(name) for name in audit.proxy])

    def audited(self, *proxies: str, progress: Progress | None = None) -> tuple[list[AuditRow], dict[str, str]]:
        """The rows of :meth:`audit` as objects, and by name the problems of proxies that failed on some candidate."""
        requested = (name for p in proxies for name in (installed("nas.proxies") if p == "all" else [p]))
        specs = (canonical_spec("nas.proxies", name) for name in requested)
        loaded = {name: load_proxy(name) for name in dict.fromkeys((self.config.proxy, *SIZE_PROXIES, *specs))}
        trained, reference = self.first_rung(), self._reference_scores()
        rows = audit_proxies(
            reference,
            loaded,
            list(trained.key),
            cache(self._architecture),
            trained.accuracy,
            references=lambda proxy: REFERENCE_SAMPLE if proxy.needs == "topology" else EXPENSIVE_SAMPLE,
            rng_seed=seed(self.config.seed, "audit"),
            on_progress=_AuditProgress(progress or Silent(), len(trained), float(trained.accuracy.max())),
        )
        return rows, reference.problems

    def compared(self) -> tuple[Comparison, Savings]:
        """Compare ranked candidates with random controls at the first rung.

        Returns
        -------
        Comparison
            The difference of their mean accuracies.
        Savings
            The number of candidates that ranking has saved.

        Raises
        ------
        UserError
            If no candidate has been trained.

        Notes
        -----
        The strategy that proposed the ranked candidates contributes to the difference.
        """
        trained = self.first_rung()
        ranked, controls = trained.accuracy[trained.ranked], trained.accuracy[trained.control]
        return control_comparison(ranked, controls), candidates_saved(ranked, controls)

    def audit_lines(self) -> str:
        """The audit in two lines of text, and a third if the search stopped relying on its proxy."""
        rows, _ = self.audited()
        lines = [audit_summary(rows, *self.compared(), proxy=self.config.proxy)]
        return "\n".join(filter(None, [*lines, reliance_line(self.config.proxy, self.state.reliance)]))

    def report(self, path: str | PathLike[str], *proxies: str, progress: Progress | None = None) -> Path:
        """Write a report as one self-contained HTML file.

        Parameters
        ----------
        path
            Of the file.
        *proxies
            Audited besides the study's own and the sizes, as in :meth:`audit`; by default all installed ones.
        progress
            Display, see :mod:`nas.progress`.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        UserError
            If a proxy is unknown, or the file cannot be written.

        See Also
        --------
        nas.reporting.html_report.write_report : One report on several studies.
        """
        from nas.reporting.html_report import write_report

        return write_report([self], path, proxies=proxies or ("all",), progress=progress)

    def _untrained(self) -> UserError:
        return UserError(f"Study {self.name!r} has no trained candidate yet. Resume it.")

    def _architecture(self, key: str) -> Architecture:
        return stored_architecture(self.store, key)

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
