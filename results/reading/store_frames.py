"""The tables of a results store as DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from results.lookups import full_key, study_numbers, study_row
from results.measures import BUILT_IN, check_cost, joined_limits
from results.reading.store_reader import StoreReader

if TYPE_CHECKING:
    import pandas as pd

    from results.curves import Curves
    from results.reading.best import AgainstReference, BestCandidate
    from results.reading.summary import StudySummary


class StoreFrames(StoreReader):
    """A store and the frames that can be read from it; see :class:`results.store.Store`."""

    def studies(self) -> pd.DataFrame:
        """One row per study, in the order of their first start.

        A study whose process was killed stays in state ``running`` until it is resumed.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["studies"]``.
        """
        from results.reading import frames

        with self._reading() as connection:
            return frames.of_studies(connection)

    def candidates(
        self, study: str, *, key: str | None = None, columns: Sequence[str] | None = None, choices: bool = False
    ) -> pd.DataFrame:
        """One row per candidate, in the order of proposal.

        Parameters
        ----------
        study : str
            Name of the study.
        key : str, optional
            Only candidates whose proposed or realised architecture has this key.
        columns : sequence of str, optional
            Only these columns, in this order, which takes less time: names of ``FRAMES["candidates"]``, ``proxy_NAME``
            and ``choice_NAME``.
        choices : bool
            One column ``choice_NAME`` per choice in place of the JSON text ``choices``. A column has one type; it is
            JSON text if options are of several types, such as ``"16"`` and ``16``. Missing if a candidate has no such
            choice, or if its option is None in a column of one type.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["candidates"]``. Fidelity, anytime accuracy, costs and seconds are missing
            for candidates without results; there is one column ``proxy_NAME`` per proxy.

        Raises
        ------
        StoreError
            If a column is unknown.
        """
        from results.reading import candidates as candidate_frames

        with self._reading() as connection:
            numbers = study_numbers(connection, study)
            ids = self._ids(connection, numbers, key)
            return candidate_frames.of_candidates(connection, ids, columns=columns, choices=choices)

    def points(self, study: str | Sequence[str], *, key: str | None = None) -> pd.DataFrame:
        """One row per candidate, fidelity, repeat and operating point, of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.
        key : str, optional
            Only points of candidates whose proposed or realised architecture has this key.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["points"]``, with the evaluator's own measures after the built-in ones. If
            labels have a hierarchy, accuracy is the mean over the labellings; a labelling that a point does not answer
            in counts as wrong.
        """
        from results.reading import frames

        with self._reading() as connection:
            numbers = study_numbers(connection, study)
            ids = self._ids(connection, numbers, key)
            return frames.of_points(connection, numbers, ids).drop(columns="candidate_id")

    @staticmethod
    def _ids(connection: sa.Connection, numbers: Sequence[int], key: str | None) -> sa.Select[Any]:
        """Ids of the candidates of studies; if given, only of those with a key or its beginning."""
        from results.reading import frames

        if key is None:
            return frames.ids_of(numbers)
        return frames.ids_with_key(connection, numbers, full_key(connection, key, numbers))

    def curves(self, study: str | Sequence[str], *, cost: str = "macs") -> Curves:
        """The curves of accuracy against cost for a figure, of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.
        cost : str
            ``macs``, ``params``, ``latency_ms``, ``nonzero_macs`` or a minimised measure of the evaluator.

        Returns
        -------
        Curves
            For :func:`results.plots.plot_front`; at most 500 candidates have rows, whatever the size of the study.
        """
        from results.reading import curves, frames

        with self._reading() as connection:
            numbers = study_numbers(connection, study)
            check_cost(cost, (*BUILT_IN, *frames.own_measures_of(connection, numbers, compared={cost})))
            return curves.curves_of(connection, numbers, cost)

    def summary(self, study: str) -> StudySummary:
        """The progress of a study: candidates by status, the time of training.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        StudySummary
            Aggregated by the database.
        """
        from results.reading import summary

        with self._reading() as connection:
            return summary.summary_of(connection, study_row(connection, study).id)

    def best(self, study: str) -> BestCandidate | None:
        """The best candidate of a study, each judged at the largest fidelity that it reached itself.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        BestCandidate or None
            None if no candidate has an anytime accuracy.
        """
        from results.reading.best import best_candidate

        with self._reading() as connection:
            return best_candidate(connection, study_row(connection, study).id)

    def against_reference(self, study: str) -> AgainstReference | None:
        """The best candidate of a study against its best reference architecture, after trainings of equal length.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        AgainstReference or None
            None without a trained reference, or if no training of it is as long as one of the best candidate.
        """
        from results.reading.best import against_reference

        with self._reading() as connection:
            return against_reference(connection, study_row(connection, study).id)

    def evaluations(self, study: str | Sequence[str]) -> pd.DataFrame:
        """One row per candidate, fidelity and repeat, of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["evaluations"]``.
        """
        from results.reading import frames

        with self._reading() as connection:
            return frames.of_evaluations(connection, study_numbers(connection, study))

    def history(self, study: str | Sequence[str]) -> pd.DataFrame:
        """The evaluations of studies in the order of their ends, with the best result so far.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.

        Returns
        -------
        pandas.DataFrame
            One row per evaluation, study by study. Columns: ``results.columns.FRAMES["history"]``. Times are missing
            for evaluations that an older version made; these come first.
        """
        from results.reading.history import history_of

        with self._reading() as connection:
            return history_of(connection, study_numbers(connection, study))

    def transferred(self, study: str) -> pd.DataFrame:
        """The candidates that a study started from: trained by another study, and never counted in this one.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["transferred"]``; empty for a study without warm start.
        """
        from results.reading.transferred import of_transferred

        with self._reading() as connection:
            return of_transferred(connection, study_row(connection, study).id)

    def transferred_count(self, study: str) -> int:
        """The number of candidates that a study started from.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        int
        """
        from results.reading.transferred import count_of

        with self._reading() as connection:
            return count_of(connection, study_row(connection, study).id)

    def policies(self, study: str | Sequence[str]) -> pd.DataFrame:
        """One row per controller that throttles a trained candidate, of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``results.columns.FRAMES["policies"]``.

        Notes
        -----
        Controllers do not count for an anytime accuracy: they keep a budget on average, not for every example.
        """
        from results.reading import frames

        with self._reading() as connection:
            return frames.of_policies(connection, study_numbers(connection, study))

    def front(
        self,
        study: str | Sequence[str],
        *,
        cost: str = "macs",
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        fidelity: float | None = None,
        mixed: bool = False,
    ) -> pd.DataFrame:
        """Pareto-optimal operating points of one study or several: cost minimised, validation accuracy maximised.

        Values are means over repeats of the same network. Repeats that chose operating points of their own are separate
        rows, each under its realised_key.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.
        cost : str
            ``macs``, ``params``, ``latency_ms``, ``nonzero_macs`` or a minimised measure of the evaluator.
        max_macs, max_params : float, optional
            Only points with at most this cost.
        limits : mapping of str to float, optional
            Measure → bound, such as ``{"energy_mj": 5.0, "accuracy": 0.9}``: an upper bound for measures that are
            minimised, a lower bound for measures that are maximised. Points without a value are left out.
        fidelity : float, optional
            By default the largest of each study, so that shortened trainings are not compared with full ones.
        mixed : bool
            Allow studies with different data or validation splits. The front then has a last column ``data``, which is
            equal for studies of the same data and split.

        Returns
        -------
        pandas.DataFrame
            In the order of cost; empty if nothing was trained. Columns: ``results.columns.FRAMES["front"]``, then the
            evaluator's own measures. A row is of a training: its study, candidate and repeat.

        Raises
        ------
        StoreError
            If a measure is unknown or was not measured, or if no point has the fidelity.
        NotComparable
            If studies have different data or validation splits, labels with and without a hierarchy, or a measure in
            different units.

        Examples
        --------
        >>> open_store("nas.db").front("digits", cost="latency_ms", limits={"params": 1e6})  # doctest: +SKIP
        """
        from results.reading.fronts import Source, front_of

        bounds = joined_limits(limits, max_macs, max_params)
        with self._reading() as connection:
            sources = [Source(connection=connection, numbers=study_numbers(connection, study))]
            return front_of(sources, cost=cost, limits=bounds, fidelity=fidelity, mixed=mixed)
