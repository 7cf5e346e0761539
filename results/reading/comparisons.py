"""Studies side by side on one range of budgets, and the operating point that limits allow, as methods of stores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from results.errors import StoreError
from results.front import Score
from results.measures import joined_limits
from results.scores import score_of

if TYPE_CHECKING:
    import pandas as pd


class Comparisons:
    """The part of :class:`results.store.Store` and of several stores that says which study and network to use."""

    def compare(
        self, study: str | Sequence[str], *, cost: str = "macs", low: float | None = None, high: float | None = None
    ) -> pd.DataFrame:
        """Studies side by side, the best first: anytime accuracy on one range of budgets, and what each has cost.

        Parameters
        ----------
        study : str or sequence of str
            One study or several, of the same data.
        cost : str
            The cost of budgets: ``macs``, ``params``, ``latency_ms``, ``nonzero_macs`` or a minimised measure of the
            evaluator.
        low, high : float, optional
            Range of budgets, in the unit of ``cost``. By default the budgets that all of the studies searched: from
            the largest of their least budgets to the smallest of their largest ones.

        Returns
        -------
        pandas.DataFrame
            One row per study. Columns: ``results.columns.FRAMES["compare"]``; of several stores, a first column
            ``store``.

        Raises
        ------
        NotComparable
            If studies have different data or validation splits.
        StoreError
            If the studies have no common range of budgets.
        """
        from results.reading.comparability import check_same_data

        named = self._stores_of(study)
        check_same_data(
            {(name if store is self else f"{name} in {store.label}"): _data_of(store, name) for store, name in named}
        )
        score = _common_score([store.score(name) for store, name in named], cost, low, high)
        frame = _in_order([_row(store, name, score) for store, name in named])
        if any(store is not self for store, _ in named):
            frame.insert(0, "store", [named[place][0].label for place in frame.index])
        return frame.reset_index(drop=True)

    def best_point(
        self,
        study: str | Sequence[str],
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
        study : str or sequence of str
            One study or several.
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
        StoreError
            If there is no such point, and as :meth:`front`.
        """
        store: Any = self
        front = store.front(study, cost=cost, max_macs=max_macs, max_params=max_params, limits=limits)
        enough = front if min_accuracy is None else front[front["accuracy"] >= min_accuracy]
        if enough.empty:
            bounds = joined_limits(limits, max_macs, max_params)
            wanted = [f"{name} {bound:g}" for name, bound in bounds.items()]
            wanted += [] if min_accuracy is None else [f"accuracy {min_accuracy:g}"]
            there = "none is within the limits"
            if len(front):
                there = f"the most accurate has accuracy {front['accuracy'].max():.4f}, {cost} {front[cost].iloc[-1]:g}"
            raise StoreError(f"No operating point is within {', '.join(wanted) or 'the study'}: {there}.")
        return enough.iloc[-1 if min_accuracy is None else 0]

    def _stores_of(self, study: str | Sequence[str]) -> list[tuple[Any, str]]:
        """The studies of these names, each with its store."""
        return [(self, name) for name in dict.fromkeys([study] if isinstance(study, str) else study)]


def _data_of(store: Any, study: str) -> str:
    """A text that identifies the data of a study and their validation split."""
    from results.lookups import study_numbers
    from results.reading.comparability import data_of

    with store._reading() as connection:
        return data_of(connection, study_numbers(connection, study))[study]


def _common_score(found: Sequence[Score | None], cost: str, low: float | None, high: float | None) -> Score | None:
    """The score over the budgets that all studies searched, or the given ones; None without any score.

    Raises StoreError if the studies have no common range of budgets in this cost.
    """
    scores = [score for score in found if score is not None]
    if not scores:
        return None
    if low is None or high is None:
        if other := [score.cost for score in scores if score.cost != cost]:
            raise StoreError(f"A comparison by {cost} needs low and high, because a study counts {other[0]}.")
        low = max(score.low for score in scores) if low is None else low
        high = min(score.high for score in scores) if high is None else high
    if not 0 < low < high < math.inf:
        raise StoreError(
            f"Studies are compared on budgets that all of them allow, with 0 < low < high. Got {low=:g} and {high=:g}: "
            "give low and high."
        )
    return replace(scores[0], cost=cost, low=low, high=high, split="validation")


def _row(store: Any, study: str, score: Score | None) -> dict[str, Any]:
    """The row of a study in a comparison; unknown values are left out. score: over the range of budgets, if any."""
    summary, best, history = store.summary(study), store.best(study), store.history(study)
    row: dict[str, Any] = {
        "study": study,
        "front_points": 0,
        "trained": summary.scored,
        "evaluations": len(history),
        "worker_seconds": history["worker_seconds"].iloc[-1] if len(history) else 0.0,
        "state": store.ending(study)[0],
    }
    if score is None or best is None:
        return row
    front, points = store.front(study, cost=score.cost), store.points(study, key=best.key)
    points = points[(points["candidate"] == best.key) & (points["fidelity"] == best.fidelity)]
    trainings = points.groupby("repeat")[[score.cost, "accuracy"]]
    scores = [score_of(score, training.astype(float).to_dict("records")) for _, training in trainings]
    return row | {
        "anytime_accuracy": _anytime_accuracy(score, front),
        "test_anytime_accuracy": _anytime_accuracy(score, front, "test_accuracy"),
        "network_accuracy": float(np.mean([math.nan if one is None else one for one in scores])),
        "candidate": best.key,
        "low": score.low,
        "high": score.high,
        "front_points": len(front),
    }


def _in_order(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of a comparison, the best first; indexed by their places before."""
    import pandas as pd

    from results.columns import dtypes, names

    frame = pd.DataFrame(rows, columns=names("compare")).astype(dtypes("compare"))
    return frame.sort_values("anytime_accuracy", ascending=False, kind="stable", na_position="last")


def _anytime_accuracy(score: Score, points: pd.DataFrame, column: str = "accuracy") -> float:
    """The score of points that validation chose; NaN if a value is missing."""
    if points[[score.cost, column]].isna().any(axis=None):
        return math.nan
    return score(points[score.cost].astype(float), points[column], chosen_by=points["accuracy"])
