"""Accuracy against cost of candidates, as a figure draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
        Columns study, candidate, space, level, the cost, accuracy, and finished: whether the candidate has reached the
        largest fidelity of its study. Of at most ``MOST`` candidates, evenly spaced in the order of proposal.
    candidates : mapping of str to int
        Space → number of candidates, those without rows included.
    points : int
        Number of operating points of all candidates.
    quantity : str
        The metric of the accuracies, in words.
    """

    cost: str
    rows: pd.DataFrame
    candidates: Mapping[str, int]
    points: int
    quantity: str = "accuracy"

    @property
    def drawn(self) -> int:
        """Number of candidates with rows."""
        return self.rows.groupby(_CANDIDATE[:2]).ngroups

    @staticmethod
    def of(
        frame: pd.DataFrame,
        cost: str = "macs",
        largest: Mapping[str, float] | None = None,
        quantity: str = "accuracy",
    ) -> Curves:
        """The curves of a DataFrame of points.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns study, candidate, space, level, fidelity, the cost and accuracy, as of `Store.points`.
        cost : str
            Measure of the horizontal axis.
        largest : mapping of str to float, optional
            Study → its largest fidelity; by default that of the rows.
        quantity : str
            The metric of the accuracies, in words.

        Returns
        -------
        Curves
        """
        reached = frame.groupby(_CANDIDATE[:2])["fidelity"].transform("max")
        top = frame.groupby("study")["fidelity"].max() if largest is None else largest
        groups = frame[frame["fidelity"] == reached].groupby([*_CANDIDATE, "level"], sort=False)
        means = groups[[cost, "accuracy", "fidelity"]].mean().reset_index()
        means["finished"] = means.pop("fidelity") >= means["study"].map(top).astype("float64")
        rows = means.dropna(subset=[cost, "accuracy"])
        number = rows.groupby(_CANDIDATE, sort=False).ngroup()
        spaces = rows.drop_duplicates(_CANDIDATE).groupby("space").size()
        shown = number.isin(evenly(np.arange(number.max() + 1 if len(rows) else 0)))
        return Curves(cost=cost, rows=rows[shown], candidates=spaces.to_dict(), points=len(rows), quantity=quantity)


def evenly(values: np.ndarray) -> np.ndarray:
    """At most ``MOST`` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= MOST:
        return values
    return values[np.linspace(0, len(values) - 1, MOST).round().astype(int)]
