"""Ids of new candidates, known before they are inserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from results.schema import candidates

if TYPE_CHECKING:
    from results.writing.lasting import LastingConnection

_NEXT = sa.text("SELECT nextval(pg_get_serial_sequence('candidates', 'id')) FROM generate_series(1, :count)")


def new_ids(connection: sa.Connection | LastingConnection, count: int) -> list[int]:
    """Ids for new candidates, ascending: thousands are inserted by one statement and need not be read back."""
    if connection.dialect.name == "postgresql":
        return list(connection.scalars(_NEXT, {"count": count}))
    last = connection.scalar(sa.select(sa.func.max(candidates.c.id))) or 0  # SQLite has one writer at a time: us
    return list(range(last + 1, last + 1 + count))


def pass_id(connection: sa.Connection, last: int) -> None:
    """Do not let a PostgreSQL server that has crashed give out ids again that a repeated transaction uses."""
    while connection.scalars(_NEXT, {"count": 1}).one() <= last:
        pass
