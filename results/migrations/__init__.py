"""Versions of the store's schema: recognising them, creating the tables, upgrading older stores.

The version is a row of the table `meta`. Each module here upgrades a store by one version with Alembic's operations;
together they run in one transaction, so that an upgrade that fails changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from results import connection as connections
from results import schema
from results.connection import Location
from results.errors import StoreError
from results.migrations import to_4, to_5, to_6, to_7, to_8

if TYPE_CHECKING:
    from alembic.operations import Operations

VERSION = 8
"""The version of the schema that this software reads and writes."""
UPGRADES: dict[int, Callable[[Operations], None]] = {
    4: to_4.upgrade,
    5: to_5.upgrade,
    6: to_6.upgrade,
    7: to_7.upgrade,
    8: to_8.upgrade,
}
"""Version → the step that leads to it from the version before."""
OLDEST = min(UPGRADES) - 1
"""The oldest version that can be upgraded."""

_LOCK = 0x616E7974696D65  # "anytime": PostgreSQL's advisory lock for creating and upgrading tables
_log = logging.getLogger("results")


def stored_version(connection: sa.Connection, location: Location) -> int:
    """The version of a store's schema, from OLDEST to VERSION.

    Raises StoreError if the database is no store, or a store of a version that this software cannot read.
    """
    if not sa.inspect(connection).has_table("meta"):
        raise StoreError(f"{location.label} must be a results store. It is another database, or empty.")
    stored = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema_version"))
    if stored is None:
        raise StoreError(f"{location.label} must be a results store. Its table 'meta' has no schema version.")
    version = int(stored)
    if version < OLDEST:
        raise StoreError(
            f"The store {location.label} was written by an older version of this software: schema {version}; "
            f"this version reads {OLDEST} to {VERSION}. Read it with the older version, or name another store."
        )
    if version > VERSION:
        raise StoreError(
            f"The store {location.label} was written by a newer version of this software: schema {version}; "
            f"this version reads {OLDEST} to {VERSION}. Update anytime-nas."
        )
    return version


def create_or_upgrade(connection: sa.Connection, location: Location) -> None:
    """Create the tables of a new store or upgrade an older store, inside the caller's transaction.

    Raises StoreError if the database holds other tables of the same names.
    """
    if location.file is None:  # one process at a time; SQLite is locked as a whole
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if holds_tables(connection, location):
        _upgrade(connection, location)
        return
    schema.metadata.create_all(connection)
    connection.execute(sa.insert(schema.meta).values(key="schema_version", value=str(VERSION)))


def holds_tables(connection: sa.Connection, location: Location) -> bool:
    """Whether a database holds the tables of a store. Raises StoreError if it has other tables of the same names."""
    present = set(sa.inspect(connection).get_table_names())
    if "meta" in present:
        return True
    foreign = sorted(present & set(schema.metadata.tables))
    if foreign:
        raise StoreError(
            f"{location.label} must be a results store or a new database. It has tables of another program: "
            f"{', '.join(foreign)}. Name another database."
        )
    return False


def upgrade_in_place(location: Location) -> None:
    """Upgrade an older store for a reader. Raises StoreError if the store cannot be written."""
    try:
        with connections.engine(location, writing=True).begin() as connection:
            create_or_upgrade(connection, location)
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"A store of an older version must be upgraded to schema {VERSION} before it is read, which needs write "
            f"access. {connections.explain(location, error)}"
        ) from error


def _upgrade(connection: sa.Connection, location: Location) -> None:
    version = stored_version(connection, location)
    if version == VERSION:
        return
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    operations = Operations(MigrationContext.configure(connection))
    for target in range(version + 1, VERSION + 1):
        UPGRADES[target](operations)
    row = schema.meta.c.key == "schema_version"
    connection.execute(sa.update(schema.meta).where(row).values(value=str(VERSION)))
    _log.warning("The store %s is upgraded from schema %d to %d.", location.label, version, VERSION)
