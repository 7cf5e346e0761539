"""Where a store is, and snapshots of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath

import sqlalchemy as sa

from results import connection as connections
from results import migrations
from results.errors import StoreError


class StoreReader:
    """The part of :class:`results.store.Store` that opens the database for reading."""

    def __init__(self, url: str | PathLike[str]) -> None:
        self._location = connections.locate(fspath(url))
        self.url = fspath(url) if self._location.file is None else str(self._location.file)

    @property
    def label(self) -> str:
        """The absolute path of the file, or the URL of the database without its password."""
        return self._location.label

    def __repr__(self) -> str:
        return f"results.open({self.label!r})"

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A snapshot of the store. Raises StoreError if there is none."""
        file = self._location.file
        if file is not None and not file.is_file():
            raise StoreError(f"There is no results store at {file}. Check the path.")
        with connections.clear_errors(self._location), self._current() as connection:
            yield connection

    @contextmanager
    def _current(self) -> Iterator[sa.Connection]:
        """A connection to the store, after an upgrade if its schema is of an older version."""
        engine = connections.engine(self._location, writing=False)
        with engine.connect() as connection:
            current = migrations.stored_version(connection, self._location) == migrations.VERSION
            if current:
                yield connection
        if not current:
            migrations.upgrade_in_place(self._location)
            with engine.connect() as connection:
                yield connection
