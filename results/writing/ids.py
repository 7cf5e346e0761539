"""Ids of new candidates, known before they are inserted."""

from __future__ import annotations

import sqlalchemy as sa

from results.connection import Statements
from results.schema import candidates

_NEXT = sa.text("SELECT nextval(pg_get_serial_sequence('candidates', 'id')) FROM generate_series(1, :count)")


def new_ids(connection: Statements, count: int) -> list[int]:
    """Ids for new candidates, ascending: thousands are inserted by one statement and need not be read back."""
    if connection.dialect.name == "postgresql":
        return list(connection.execute(_NEXT, {"count": count}).scalars())
    last = connection.execute(sa.select(sa.func.max(candidates.c.id))).scalar() or 0  # SQLite has one writer: us
    return list(range(last + 1, last + 1 + count))


def pass_id(connection: Statements, last: int) -> None:
    """Do not let a PostgreSQL server that has crashed give out ids again that a repeated transaction uses."""
    while new_ids(connection, 1)[0] <= last:
        pass
