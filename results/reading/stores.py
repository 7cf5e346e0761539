"""Several stores that are read as one: their studies, points and fronts, each row with its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pandas as pd
import sqlalchemy as sa

from results.curves import Curves
from results.errors import StoreError
from results.lookups import check_name, study_numbers
from results.measures import BUILT_IN, Measure, check_cost, joined_limits
from results.reading import frames
from results.reading.comparisons import Comparisons
from results.reading.curves import curves_of
from results.reading.figures import Figures
from results.reading.fronts import Source, front_of
from results.reading.store_frames import StoreFrames
from results.schema import studies

_Found = list[tuple[StoreFrames, list[str]]]


class Stores(Comparisons, Figures):
    """Several results stores that are read as one; see :func:`results.open`.

    A name means the studies of this name in all stores; rows have a first column ``store``, the path or URL of theirs.
    A study that several stores hold, such as after a merge, is read from the store in which it was changed last.

    Parameters
    ----------
    stores : sequence of Store
        With different locations.

    Attributes
    ----------
    stores : tuple of Store
        In order.

    Raises
    ------
    StoreError
        By every method: as by those of :class:`results.store.Store`, and if no store holds a study of a name.
    """

    def __init__(self, stores: Sequence[StoreFrames]) -> None:
        self.stores = tuple(stores)
        labels = [store.label for store in self.stores]
        if len(set(labels)) < len(labels):
            raise StoreError(f"Stores that are read as one must be different. Got {', '.join(labels)}.")

    def __repr__(self) -> str:
        return f"results.open({', '.join(repr(store.label) for store in self.stores)})"

    def studies(self) -> pd.DataFrame:
        """One row per study of each store.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then ``results.columns.FRAMES["studies"]``.
        """
        return _stacked([(store, store.studies()) for store in self.stores])

    def points(self, study: str | Sequence[str]) -> pd.DataFrame:
        """The points of studies.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then as of :meth:`results.store.Store.points`.
        """
        return self._frames(study, lambda store, names: store.points(names))

    def evaluations(self, study: str | Sequence[str]) -> pd.DataFrame:
        """The trainings of studies.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then as of :meth:`results.store.Store.evaluations`.
        """
        return self._frames(study, lambda store, names: store.evaluations(names))

    def history(self, study: str | Sequence[str]) -> pd.DataFrame:
        """The evaluations of studies in the order of their ends.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then as of :meth:`results.store.Store.history`.
        """
        return self._frames(study, lambda store, names: store.history(names))

    def policies(self, study: str | Sequence[str]) -> pd.DataFrame:
        """The results of controllers of studies.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then as of :meth:`results.store.Store.policies`.
        """
        return self._frames(study, lambda store, names: store.policies(names))

    def measures(self, study: str | Sequence[str]) -> tuple[Measure, ...]:
        """The measures of operating points: the built-in ones, then those of evaluators.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.

        Returns
        -------
        tuple of Measure
        """
        found = self._found(study)
        declared = ((name, measure) for store, names in found for name, measure in _own_measures(store, names))
        return (*BUILT_IN, *frames.joined_measures(declared))

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
        """Pareto-optimal operating points of studies in several stores.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.
        cost, max_macs, max_params, limits, fidelity, mixed
            As for :meth:`results.store.Store.front`.

        Returns
        -------
        pandas.DataFrame
            Columns: ``store``, then as of :meth:`results.store.Store.front`.

        Raises
        ------
        StoreError, NotComparable
            As by :meth:`results.store.Store.front`.
        """
        bounds = joined_limits(limits, max_macs, max_params)
        found = self._found(study)
        with ExitStack() as stack:
            sources = []
            for store, names in found:
                connection = stack.enter_context(store._reading())
                numbers = study_numbers(connection, names)
                sources.append(Source(connection=connection, numbers=numbers, store=store.label))
            return front_of(sources, cost=cost, limits=bounds, fidelity=fidelity, mixed=mixed)

    def curves(self, study: str | Sequence[str], *, cost: str = "macs") -> Curves:
        """The curves of accuracy against cost for a figure.

        Parameters
        ----------
        study : str or sequence of str
            One name or several.
        cost : str
            As for :meth:`results.store.Store.curves`.

        Returns
        -------
        Curves
            At most 500 candidates of each store have rows. Studies are named with their files or databases.
        """
        check_cost(cost, self.measures(study))
        parts = []
        for store, names in self._found(study):
            with store._reading() as connection:
                part = curves_of(connection, study_numbers(connection, names), cost)
            parts.append(replace(part, rows=self._as_drawn(part.rows.assign(store=store.label)).drop(columns="store")))
        spaces = dict.fromkeys(space for part in parts for space in part.candidates)
        return Curves(
            cost=cost,
            rows=pd.concat([part.rows for part in parts], ignore_index=True),
            candidates={space: sum(part.candidates.get(space, 0) for part in parts) for space in spaces},
            points=sum(part.points for part in parts),
            quantity=" or ".join(dict.fromkeys(part.quantity for part in parts)),
        )

    def _stores_of(self, study: str | Sequence[str]) -> list[tuple[Any, str]]:
        return [(store, name) for store, names in self._found(study) for name in names]

    def _as_drawn(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(study=frame["study"] + " in " + frame["store"].map(self._short_names()))

    def _drawn_score(self, study: str | Sequence[str]) -> None:
        return None

    def _short_names(self) -> dict[str, str]:
        """Label → name of the file or the database, numbered if stores have equal ones."""
        names: dict[str, str] = {}
        for store in self.stores:
            name = store.label.partition("?")[0].rpartition("/")[2]
            count = sum(each.partition(" ")[0] == name for each in names.values())
            names[store.label] = f"{name} ({count + 1})" if count else name
        return names

    def _frames(
        self, study: str | Sequence[str], read: Callable[[StoreFrames, list[str]], pd.DataFrame]
    ) -> pd.DataFrame:
        return _stacked([(store, read(store, names)) for store, names in self._found(study)])

    def _found(self, study: str | Sequence[str]) -> _Found:
        """The stores that hold studies of these names, with those that are read from them."""
        wanted = [check_name(name) for name in ([study] if isinstance(study, str) else study)]
        latest: dict[str, tuple[str, int, str]] = {}  # identity → time of the last change, place of the store, name
        present: list[str] = []
        for place, store in enumerate(self.stores):
            for row in _rows(store):
                present.append(row.name)
                identity = row.identity or f"{row.created_at} {row.name}"
                if row.name in wanted and (row.updated_at, place) > latest.get(identity, ("", -1, ""))[:2]:
                    latest[identity] = row.updated_at, place, row.name
        for name in wanted:
            if name not in present:
                there = ", ".join(sorted(set(present))) or "none"
                labels = ", ".join(store.label for store in self.stores)
                raise StoreError(f"A study must be in one of {labels}. Got {name!r}. Studies there: {there}.")
        chosen = {(place, name) for _, place, name in latest.values()}
        found = [
            (store, [name for name in dict.fromkeys(wanted) if (place, name) in chosen])
            for place, store in enumerate(self.stores)
        ]
        return [(store, names) for store, names in found if names]


def _rows(store: StoreFrames) -> list[Any]:
    """Name, identity and times of all studies of a store."""
    row = studies.c
    with store._reading() as connection:
        return list(connection.execute(sa.select(row.name, row.identity, row.created_at, row.updated_at)))


def _own_measures(store: StoreFrames, names: list[str]) -> list[tuple[str, Measure]]:
    with store._reading() as connection:
        return list(frames.declared(connection, study_numbers(connection, names)))


def _stacked(parts: Sequence[tuple[StoreFrames, pd.DataFrame]]) -> pd.DataFrame:
    """Rows of several stores with a first column ``store``."""
    stored = []
    for store, frame in parts:
        frame.insert(0, "store", store.label)
        stored.append(frame)
    filled = [frame for frame in stored if len(frame)]
    return pd.concat(filled or stored[:1], ignore_index=True)
