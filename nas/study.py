"""The results of a study: the front, the candidates, the audit, the best network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import results
from nas.audit.reference import ReferenceScores
from nas.audit.reliance import chosen_by_proxy
from nas.audit.study_audit import StudyAudit
from nas.chain.summary import PARTS, training_summary
from nas.config import STORE, Config
from nas.errors import UserError, unknown_name
from nas.funnel.preparing.plugin_changes import changed_plugins
from nas.funnel.state import StudyState
from nas.plugins import trust_named
from nas.progress import Progress
from nas.representation.architecture import Architecture
from nas.spaces.loading import load_spaces
from results.front import Score, hypervolume

if TYPE_CHECKING:
    import pandas as pd

    from nas.execution.network import AnytimeNetwork
    from results.reading.best import AgainstReference
    from results.store import Store


def stored_architecture(store: Store, key: str) -> Architecture:
    """The architecture with this full key in a store. Raises results.StoreError if it has none."""
    return Architecture.from_json(store.architecture(key))


_IN_NOTEBOOKS = (
    "macs",
    "params",
    "accuracy",
    "test_accuracy",
    "latency_ms",
    "candidate",
    "level",
    "space",
    "reference",
)
"""Columns of a front in a notebook, if they have values."""


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
    url : str
        The absolute path or the URL of the store.

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
        self.name = name
        self._spaces = dict(spaces or {})
        self.store = results.open(store)
        self.url = self.store.url
        self.config = Config.from_stored(name, self.store.settings(name))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, store={self.store.label!r})"

    def _repr_html_(self) -> str:
        """For notebooks: how the study ended, its best candidate, and its front."""
        ended, reason = self.store.ending(self.name)
        lines = [f"Study {self.name!r}: {ended}. {reason or ''}".rstrip()]
        if (best := self.store.best(self.name)) is not None:
            lines.append(f"Best anytime accuracy {best.anytime_accuracy:.4f}: {best.key} ({best.space})")
        front = self.front()
        front = front[[name for name in _IN_NOTEBOOKS if name in front and front[name].notna().any()]]
        formats = {"macs": "{:,.0f}".format, "params": "{:,.0f}".format}
        table = front.to_html(index=False, border=0, max_rows=20, formatters=formats, float_format="{:.4f}".format)
        return "<br>".join(map(escape, lines)) + ("" if front.empty else table)

    def front(
        self,
        *,
        cost: str = "macs",
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        fidelity: float | None = None,
    ) -> pd.DataFrame:
        """The Pareto-optimal operating points, one row each.

        Parameters
        ----------
        cost : str
            The cost that is minimised: ``macs``, ``params``, ``latency_ms``, ``nonzero_macs`` or a minimised measure of
            the evaluator.
        max_macs, max_params : float, optional
            Only points with at most this cost.
        limits : mapping of str to float, optional
            Measure → bound: an upper bound for measures that are minimised, a lower bound for measures that are
            maximised.
        fidelity : float, optional
            Fidelity of the points, in passes over the training images. By default the largest of the study.

        Returns
        -------
        pandas.DataFrame
            Sorted by cost; empty if no candidate has been trained.

        Raises
        ------
        results.StoreError
            If a measure is unknown or was not measured, or if no point has the fidelity.

        See Also
        --------
        results.store.Store.front : The front of several studies.
        """
        return self.store.front(
            self.name, cost=cost, max_macs=max_macs, max_params=max_params, limits=limits, fidelity=fidelity
        )

    def candidates(self) -> pd.DataFrame:
        """All proposals of the study.

        Returns
        -------
        pandas.DataFrame
            One row per candidate, in order of proposal. Columns: ``results.columns.FRAMES["candidates"]``, and one for
            every proxy.
        """
        return self.store.candidates(self.name)

    def points(self) -> pd.DataFrame:
        """All measured operating points.

        Returns
        -------
        pandas.DataFrame
            One row per candidate, operating point, fidelity and repeat. Columns: ``results.columns.FRAMES["points"]``,
            then the evaluator's own measures.
        """
        return self.store.points(self.name)

    def score(self) -> Score:
        """The objective of the study: anytime accuracy with its range of budgets and its floor.

        Returns
        -------
        results.Score

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
        """The best candidate: a saved network if there is one, with the largest anytime accuracy.

        Each candidate counts at the largest fidelity that it reached itself, so that interrupted training of a finalist
        does not hide better ones. Among equals, the larger fidelity is better.

        Returns
        -------
        pandas.Series
            A row of :meth:`candidates`.

        Raises
        ------
        UserError
            If no candidate has been trained.

        See Also
        --------
        results.store.Store.best : The same candidate in a few numbers.
        """
        best = self.store.best(self.name)
        if best is None:
            raise self._untrained()
        rows = self.store.candidates(self.name, key=best.key)
        return rows[(rows.key == best.key) & rows.anytime_accuracy.notna()].iloc[0]

    def against_reference(self) -> AgainstReference | None:
        """The best candidate against the best reference architecture of the study, after trainings of equal length.

        Returns
        -------
        AgainstReference or None
            None without a trained reference, or if no training of it is as long as one of the best candidate.
        """
        return self.store.against_reference(self.name)

    def network(self, key: str | None = None, *, repeat: int | None = None) -> AnytimeNetwork:
        """A trained network of the study.

        Parameters
        ----------
        key
            Of a candidate of this study, or of the architecture that training made of it, or its first digits; None:
            the best candidate.
        repeat
            Which training of the candidate, counted from 0; None: see :func:`nas.load`.

        Returns
        -------
        AnytimeNetwork
            With its trained weights; ``preprocess`` converts raw images to its input.

        Raises
        ------
        UserError
            If no candidate has been trained.
        results.StoreError
            If the study has no such network.
        """
        from nas.execution.network import AnytimeNetwork

        return AnytimeNetwork.load(self.store.find_network(key or str(self.best().key), self.name, repeat).weights)

    def training_chain(self, key: str | None = None, *, part: str = "stages") -> pd.DataFrame:
        """The training chain of a candidate as a table: the numbers of its drawing.

        Parameters
        ----------
        key
            Of a candidate of this study, or its first digits; None: the best candidate.
        part
            "stages", "maps" or "operations": the rows.

        Returns
        -------
        pandas.DataFrame
            The fields of :class:`nas.chain.summary.StageTraining`, :class:`nas.chain.training.TrainedMap` or
            :class:`nas.chain.summary.OperationTraining`, as means over operating points.

        Raises
        ------
        UserError
            If the part is unknown, or no candidate has been trained.
        results.StoreError
            If the study has no such candidate.
        """
        import pandas as pd

        if part not in PARTS:
            raise UserError(unknown_name("part", part, PARTS))
        found = self.store.find_candidate(key or str(self.best().key), self.name)
        return pd.DataFrame(list(getattr(training_summary(self._architecture(found.realised)), part)))

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

        Returns
        -------
        float
            Expected accuracy under a log-uniform budget, in [0, 1]; the floor if no candidate has been trained.

        Raises
        ------
        results.StoreError
            If the cost is unknown or was not measured.
        """
        front = self.front(cost=cost)
        costs = front[cost].to_numpy(dtype=float)
        if front.empty:
            return self.score().floor
        whole = (self.score().low, self.score().high) if cost == self.score().cost else (costs.min(), costs.max())
        score = replace(
            self.score(), cost=cost, low=whole[0] if low is None else low, high=whole[1] if high is None else high
        )
        column = "accuracy" if split == "validation" else "test_accuracy"
        return score(costs, front[column].to_numpy(), chosen_by=front.accuracy.to_numpy())

    def hypervolume(self) -> float:
        """Area under the front in log MACs, up to the largest budget, above the floor.

        Returns
        -------
        float
            See :func:`results.front.hypervolume`.

        Raises
        ------
        UserError
            If the study was interrupted before its range of budgets was known.
        """
        front, score = self.front(), self.score()
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
            In order of training. Columns: key, generation, position, reference (its name, if it is a reference
            architecture), control (random, to audit the order), ranked (chosen by the proxy), accuracy (anytime
            accuracy at this fidelity).

        Raises
        ------
        UserError
            If no candidate has been trained.
        """
        trainings = self.store.evaluations(self.name)
        if trainings.empty:
            raise self._untrained()
        lowest = trainings[(trainings.repeat == 0) & (trainings.fidelity == trainings.fidelity.min())]
        accuracy = lowest.set_index("candidate").score
        columns = ["key", "generation", "position", "reference"]
        candidates = self.store.candidates(self.name, columns=[*columns, "control"])
        trained = candidates[candidates.position.notna() & candidates.key.isin(accuracy.index)].drop_duplicates("key")
        trained = trained.sort_values(["generation", "position"], ignore_index=True)
        control, decisions = trained.control.to_numpy(dtype=bool), self.state.reliance
        places = zip(trained.generation.astype(int), trained.position.astype(int))
        ranked = np.array([chosen_by_proxy(decisions, *place) for place in places], dtype=bool)
        return trained[columns].assign(
            control=control,
            ranked=ranked & ~control & trained.reference.isna(),
            accuracy=accuracy.loc[trained.key].to_numpy(),
        )

    @property
    def state(self) -> StudyState:
        """The progress of the search: generations, seconds, and by generation the share that the proxy chose."""
        return StudyState.from_json(self.store.memo(self.name))

    @property
    def plugin_changes(self) -> list[str]:
        """A sentence for each plug-in that has changed since the last run of the study; audits use the present ones."""
        return changed_plugins(self.store.settings(self.name))

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
        trust_named(*proxies)
        return self.proxy_audit().result(*proxies, progress=progress).frame()

    def proxy_audit(self) -> StudyAudit:
        """The audits on the trained candidates, as objects.

        Returns
        -------
        StudyAudit
            Audits proxies, and compares ranked candidates with random controls.

        Raises
        ------
        UserError
            If no candidate has been trained, or a space of the study cannot be loaded.
        """
        trained = self.first_rung()
        task = self._architecture(str(self.best().key)).task
        config = replace(self.config, low=self.score().low)
        spaces = load_spaces(config.spaces, self._spaces)
        return StudyAudit(
            config=self.config,
            trained=trained,
            reference=ReferenceScores(self.store.files(self.name), config, task, spaces),
            architecture_of=self._architecture,
            reliance=self.state.reliance,
        )

    def audit_lines(self) -> str:
        """The audit as text: two lines on the proxy, and a third on its share of the newest generation.

        Returns
        -------
        str
            The verdict on the proxy; ranked candidates against random controls; the share that the proxy chose.

        Raises
        ------
        UserError
            If no candidate has been trained, or a space of the study cannot be loaded.
        """
        return self.proxy_audit().lines()

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
