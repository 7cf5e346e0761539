"""The results of a study as DataFrames, numbers and figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

import results
from nas.audit.reliance import chosen_by_proxy
from nas.config import STORE
from nas.errors import UserError
from nas.funnel.state import StudyState
from results.front import Score, hypervolume

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from results.plots.style import Drawing
    from results.reading.best import AgainstReference

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


class StudyTables:
    """The part of :class:`nas.Study` that reads its results. Parameters: name and store of the study."""

    def __init__(self, name: str, store: str = STORE) -> None:
        self.name = name
        self.store = results.open(store)
        self.url = self.store.url

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
        if front.empty:
            return "<br>".join(map(escape, lines))
        picture = b64encode(self.plot_front()._repr_png_()).decode()
        alt = f"front of {escape(self.name)}"
        image = f'<img alt="{alt}" style="max-width: 45em" src="data:image/png;base64,{picture}">'
        return "<br>".join([*map(escape, lines), image]) + table

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

    def best_point(
        self,
        *,
        cost: str = "macs",
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        min_accuracy: float | None = None,
    ) -> pd.Series:
        """The operating point to deploy: the most accurate within limits, or the cheapest that is accurate enough.

        Parameters
        ----------
        cost : str
            The cost that is minimised, as for :meth:`front`.
        max_macs, max_params, limits
            Limits, as for :meth:`front`.
        min_accuracy : float, optional
            If given, the cheapest point that has at least this accuracy on validation images.

        Returns
        -------
        pandas.Series
            A row of :meth:`front`: candidate and level name the network and its operating point.

        Raises
        ------
        results.StoreError
            If there is no such point, and as :meth:`front`.

        Examples
        --------
        >>> point = study.best_point(max_macs=1e6)  # doctest: +SKIP
        >>> study.network(point.candidate).extract(point.level)  # doctest: +SKIP
        """
        return self.store.best_point(
            self.name, cost=cost, max_macs=max_macs, max_params=max_params, limits=limits, min_accuracy=min_accuracy
        )

    def candidates(self, *, choices: bool = False) -> pd.DataFrame:
        """All proposals of the study.

        Parameters
        ----------
        choices : bool
            One column ``choice_NAME`` per choice in place of the JSON text ``choices``.

        Returns
        -------
        pandas.DataFrame
            One row per candidate, in order of proposal. Columns: ``results.columns.FRAMES["candidates"]``, and one for
            every proxy.
        """
        return self.store.candidates(self.name, choices=choices)

    def points(self) -> pd.DataFrame:
        """All measured operating points.

        Returns
        -------
        pandas.DataFrame
            One row per candidate, operating point, fidelity and repeat. Columns: ``results.columns.FRAMES["points"]``,
            then the evaluator's own measures.
        """
        return self.store.points(self.name)

    def history(self) -> pd.DataFrame:
        """The evaluations in the order of their ends, with the time spent and the best anytime accuracy so far.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["history"]``.
        """
        return self.store.history(self.name)

    def optuna(self, *, points: bool = False) -> optuna.Study:
        """The study as an Optuna study in memory, for Optuna's plots and importances.

        Parameters
        ----------
        points : bool
            Whether its trials are operating points, with MACs and accuracy as objectives, in place of candidates with
            their anytime accuracy.

        Returns
        -------
        optuna.Study
            A trial for every training that has ended: its choices, its times, and key, costs and accuracies as user
            attributes. Candidates that were stopped early are pruned trials.

        Examples
        --------
        >>> optuna.visualization.plot_pareto_front(study.optuna(points=True))  # doctest: +SKIP
        """
        from nas.strategies.optuna_copy import optuna_studies

        return optuna_studies(self.store, self.name)[points]

    def plot_front(self, path: str | PathLike[str] | None = None, *, cost: str = "macs") -> Drawing:
        """Draw the front and all trained candidates.

        Parameters
        ----------
        path : str or path, optional
            File to write: .png, .svg or .pdf.
        cost : str
            The horizontal axis, as for :meth:`front`.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it.

        Raises
        ------
        results.StoreError
            As :meth:`front`, if nothing was trained, or if the file cannot be written.
        """
        return self.store.plot_front(self.name, path, cost=cost)

    def plot_history(self, path: str | PathLike[str] | None = None, *, over: str = "evaluations") -> Drawing:
        """Draw the best anytime accuracy so far.

        Parameters
        ----------
        path : str or path, optional
            File to write: .png, .svg or .pdf.
        over : str
            The horizontal axis: ``evaluations``, ``time`` since the first start, or ``work``, the time of training
            summed over workers.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it.

        Raises
        ------
        results.StoreError
            For another axis, if nothing was trained, or if the file cannot be written.
        """
        return self.store.plot_history(self.name, path, over=over)

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

    def _untrained(self) -> UserError:
        return UserError(f"Study {self.name!r} has no trained candidate yet. Resume it.")
