"""Which study of another store becomes which study here: decided before anything is written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from results.connection import Location
from results.errors import StoreError
from results.lookups import check_name
from results.merging.rows import trainings_of
from results.schema import studies


def identity_of(row: sa.Row[Any]) -> str:
    """The identity of a study; of one of an older version that has none, a text that is always the same."""
    return str(row.identity or _derived(row.created_at, row.name))


def chosen_rows(connection: sa.Connection, location: Location, names: list[str] | None) -> list[sa.Row[Any]]:
    """The studies of a store with these names, all by default. Raises StoreError for a name that is not there."""
    rows = {row.name: row for row in connection.execute(sa.select(studies).order_by(studies.c.id))}
    for name in names or ():
        if name not in rows:
            raise StoreError(f"A study must be in {location.label}. Got {name!r}. Studies there: {', '.join(rows)}.")
    return [row for name, row in rows.items() if names is None or name in names]


def name_here(
    present: Mapping[str, sa.Row[Any]], row: sa.Row[Any], other: Location, rename: Mapping[str, str]
) -> tuple[str, str]:
    """The name and the identity that a study of another store has, or will have, here.

    present: the studies here by name. Raises StoreError if the name is of another study here.
    """
    identity, wanted = identity_of(row), rename.get(row.name)
    known = next((name for name, each in present.items() if identity_of(each) == identity), None)
    if wanted is None and known is not None:
        return known, identity
    if wanted is not None and known is not None and known != wanted:
        identity = _derived(identity, wanted)  # a copy that is independent of the study
    name = check_name(wanted or row.name)
    if name in present and identity_of(present[name]) != identity:
        raise StoreError(
            f"A store holds one study of each name. {name!r} is another study here than in {other.label}. "
            f"{renaming(other, row.name)}"
        )
    return name, identity


def is_further(
    there: sa.Connection, row: sa.Row[Any], here: sa.Connection, present: sa.Row[Any], other: Location
) -> bool:
    """Whether a study has more results in another store than here. row, present: of the study there and here.

    Raises StoreError if both have results that the other one has not.
    """
    if row.updated_at == present.updated_at:
        return False
    theirs, ours = trainings_of(there, row.id), trainings_of(here, present.id)
    if not (theirs <= ours or ours <= theirs):
        raise StoreError(
            f"A study is continued in one store. {row.name!r} of {other.label} and {present.name!r} here are copies "
            f"of one study, and each has results that the other one has not. {renaming(other, row.name)}"
        )
    return ours < theirs or (ours == theirs and present.updated_at < row.updated_at)


def renaming(other: Location, study: str) -> str:
    """How a study of another store gets a name of its own."""
    return f"Give it a name of its own here: nas merge {other.label} --study {study} --rename {study}=NEW."


def _derived(*parts: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, "/".join(parts)).hex
