"""Figures of the studies of a store, or of several stores, as methods."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from results.plots.style import Drawing


class Figures:
    """The part of :class:`results.store.Store` and of several stores that draws; a notebook shows the figures."""

    _stores_of: Any
    """Of :class:`results.reading.comparisons.Comparisons`."""

    def plot_front(
        self, study: str | Sequence[str], path: str | PathLike[str] | None = None, *, cost: str = "macs", **limits: Any
    ) -> Drawing:
        """Draw the front and all trained candidates of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several; several have a colour and a marker each.
        path : str or path, optional
            File to write: .png, .svg or .pdf.
        cost : str
            The horizontal axis, as for ``front``.
        **limits
            Further arguments of ``front``, such as ``max_macs``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StoreError
            As by ``front``, if nothing was trained, or if the file cannot be written.
        """
        from results.plots.front import front_figure
        from results.plots.style import check_ending, write

        target = None if path is None else check_ending(path)
        store: Any = self
        front = store.front(study, cost=cost, **limits)
        figure = front_figure(
            store.curves(study, cost=cost),
            self._as_drawn(front),
            score=self._drawn_score(study),
            policies=store.policies(study),
            measures=store.measures(study),
        )
        if target is not None:
            write(figure, target)
        return figure

    def plot_history(
        self, study: str | Sequence[str], path: str | PathLike[str] | None = None, *, over: str = "evaluations"
    ) -> Drawing:
        """Draw the best anytime accuracy so far of one study or several.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.
        path : str or path, optional
            File to write: .png, .svg or .pdf.
        over : str
            The horizontal axis: ``evaluations``, ``time`` since the first start, or ``work``, the time of training
            summed over workers.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StoreError
            For another axis, if nothing was trained, or if the file cannot be written.
        """
        from results.plots.history import history_figure
        from results.plots.style import check_ending, write

        target = None if path is None else check_ending(path)
        store: Any = self
        figure = history_figure(self._as_drawn(store.history(study)), over=over, quantity=self._quantity(study))
        if target is not None:
            write(figure, target)
        return figure

    def _as_drawn(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame whose studies have the names of a figure."""
        return frame

    def _quantity(self, study: str | Sequence[str]) -> str:
        """The metric of the first study, in words."""
        first, name = self._stores_of(study)[0]
        score = first.score(name)
        return "accuracy" if score is None else str(score.quantity)

    def _drawn_score(self, study: str | Sequence[str]) -> Any:
        """The score of the only study of a figure, None for several."""
        names = [study] if isinstance(study, str) else list(dict.fromkeys(study))
        store: Any = self
        return store.score(names[0]) if len(names) == 1 else None
