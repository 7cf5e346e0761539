"""The curves of a figure: of a bounded number of candidates, whatever the size of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results.reading import frames
from results.reading.candidates import top_fidelity
from results.reading.fetching import fetch
from results.schema import candidates, point_measures, points

MOST = 500
"""Candidates with a curve of their own in a figure."""
_CANDIDATE = ["study", "candidate", "space"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Accuracy against cost of candidates, each at the largest fidelity that it reached, as mean over repeats.

    Parameters
    ----------
    cost : str
        Measure of the horizontal axis.
    rows : pandas.DataFrame
        Columns study, candidate, space, level, the cost and accuracy. Of at most ``MOST`` candidates, evenly spaced in
        the order of proposal.
    candidates : mapping of str to int
        Space → number of candidates, those without rows included.
    points : int
        Number of operating points of all candidates.
    """

    cost: str
    rows: pd.DataFrame
    candidates: Mapping[str, int]
    points: int

    @property
    def drawn(self) -> int:
        """Number of candidates with rows."""
        return self.rows.groupby(_CANDIDATE[:2]).ngroups

    @staticmethod
    def of(frame: pd.DataFrame, cost: str = "macs") -> Curves:
        """The curves of a DataFrame of points.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns study, candidate, space, level, fidelity, the cost and accuracy, as of `Store.points`.
        cost : str
            Measure of the horizontal axis.

        Returns
        -------
        Curves
        """
        reached = frame.groupby(_CANDIDATE[:2])["fidelity"].transform("max")
        groups = frame[frame["fidelity"] == reached].groupby([*_CANDIDATE, "level"], sort=False)
        rows = groups[[cost, "accuracy"]].mean().reset_index().dropna(subset=[cost, "accuracy"])
        number = rows.groupby(_CANDIDATE, sort=False).ngroup()
        spaces = rows.drop_duplicates(_CANDIDATE).groupby("space").size()
        shown = number.isin(evenly(np.arange(number.max() + 1 if len(rows) else 0)))
        return Curves(cost=cost, rows=rows[shown], candidates=spaces.to_dict(), points=len(rows))


def curves_of(connection: sa.Connection, numbers: Sequence[int], cost: str) -> Curves:
    """The curves of studies; reads the points only of the candidates that are drawn."""
    ids, row = frames.ids_of(numbers), points.c
    top = top_fidelity(ids)
    source: sa.FromClause = points.join(
        top, sa.and_(row.candidate_id == top.c.candidate_id, row.fidelity == top.c.fidelity)
    )
    measured = row.get(cost, point_measures.c.value)
    if cost not in row:
        same = [point_measures.c[name] == row[name] for name in ("candidate_id", "fidelity", "repeat", "level")]
        source = source.join(point_measures, sa.and_(*same, point_measures.c.name == cost))
    known = (measured.is_not(None), row.accuracy.is_not(None))
    levels = sa.func.count(row.level.distinct()).label("points")
    per = sa.select(row.candidate_id, levels).select_from(source).where(*known).group_by(row.candidate_id).subquery()
    with_space = sa.select(per.c.candidate_id, per.c.points.label("level"), candidates.c.space)
    joined = with_space.join_from(per, candidates, candidates.c.id == per.c.candidate_id)
    counts = fetch(connection, joined.order_by(per.c.candidate_id), "points").rename(columns={"level": "points"})
    drawn = evenly(counts["candidate_id"].to_numpy())
    chosen = sa.select(candidates.c.id).where(candidates.c.id.in_(drawn.tolist()))
    shown = Curves.of(frames.of_points(connection, numbers, chosen), cost)
    return Curves(
        cost=cost,
        rows=shown.rows,
        candidates=counts.groupby("space").size().to_dict(),
        points=int(counts["points"].sum()),
    )


def evenly(values: np.ndarray) -> np.ndarray:
    """At most ``MOST`` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= MOST:
        return values
    return values[np.linspace(0, len(values) - 1, MOST).round().astype(int)]
