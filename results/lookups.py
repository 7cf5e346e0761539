"""Finding a study by its name, and an architecture by the beginning of its key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from results.errors import StoreError
from results.schema import candidates, evaluations, studies

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MIN_PREFIX = 4
_IDS = 1_000  # of one query


def check_name(study: str) -> str:
    """Return a study's name. Raises StoreError if it cannot name a folder."""
    if not isinstance(study, str) or not _NAME.fullmatch(study):
        raise StoreError(
            "A study's name must be 1 to 100 letters, digits, dots, underscores and hyphens, beginning with a letter, "
            f"digit or underscore. Got {study!r}."
        )
    return study


def study_row(connection: sa.Connection, study: str) -> sa.Row[Any]:
    """The row of a study. Raises StoreError with the names of the studies in the store."""
    row = connection.execute(sa.select(studies).where(studies.c.name == study)).first()
    if row is None:
        there = connection.scalars(sa.select(studies.c.name).order_by(studies.c.name)).all()
        listed = f"Studies there: {', '.join(there)}." if there else "There are no studies in it."
        raise StoreError(f"A study must be in the store. Got {study!r}. {listed}")
    return row


def study_numbers(connection: sa.Connection, study: str | Sequence[str]) -> list[int]:
    """Ids of one study or several."""
    names = [study] if isinstance(study, str) else list(study)
    return [study_row(connection, name).id for name in names]


def latest_proposals(connection: sa.Connection, study: int, per_space: int) -> list[dict[str, Any]]:
    """Id, key, space and choices of the latest proposals of each space that were chosen for training, in order."""
    row = candidates.c
    place = sa.func.row_number().over(partition_by=row.space, order_by=row.id.desc()).label("place")
    chosen = (
        sa.select(row.id, row.key, row.space, row.choices, place)
        .where(row.study_id == study, row.position.is_not(None))
        .subquery()
    )
    query = sa.select(chosen).where(chosen.c.place <= per_space).order_by(chosen.c.id)
    names = ("id", "key", "space", "choices")
    return [{name: each[name] for name in names} for each in connection.execute(query).mappings()]


def keys_of(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, str | None]:
    """Id → key of candidates."""
    keys: dict[int, str | None] = {}
    for start in range(0, len(numbers), _IDS):
        query = sa.select(candidates.c.id, candidates.c.key)
        rows = connection.execute(query.where(candidates.c.id.in_(numbers[start : start + _IDS])))
        keys |= {row.id: row.key for row in rows}
    return keys


def best_first() -> tuple[sa.ColumnElement[Any], ...]:
    """The order in which trainings of one candidate are preferred: fidelity, latest proposal, first repeat."""
    row = evaluations.c
    return row.fidelity.desc(), row.candidate_id.desc(), row.repeat


def of_studies(numbers: Sequence[int]) -> sa.ColumnElement[bool]:
    """Whether a candidate is of these studies; for queries that find few candidates by another index.

    The sum keeps SQLite from searching all candidates of a study instead.
    """
    return (candidates.c.study_id + 0).in_(numbers)


def full_key(connection: sa.Connection, prefix: str, numbers: Sequence[int] | None = None) -> str:
    """The key that begins with `prefix`, proposed or realised, in studies. numbers: of the studies; None: all.

    Raises StoreError if there is none or more than one.
    """
    prefix = prefix.strip().lower()
    if len(prefix) < _MIN_PREFIX or not re.fullmatch("[0-9a-f]+", prefix):
        raise StoreError(f"A key is given by at least {_MIN_PREFIX} of its first hexadecimal digits. Got {prefix!r}.")
    keys: set[str] = set()
    in_studies = sa.true() if numbers is None else of_studies(numbers)
    for column, rows in ((candidates.c.key, candidates), (evaluations.c.realised_key, evaluations.join(candidates))):
        within = sa.and_(column >= prefix, column < prefix + "g")  # a range of hex strings uses the index
        query = sa.select(column).select_from(rows).where(within).where(in_studies)
        keys.update(connection.scalars(query.distinct().limit(4)))
    if prefix in keys:
        return prefix
    if not keys:
        place = "the store" if numbers is None else "the study"
        raise StoreError(f"A key must be of a candidate in {place}. Got {prefix!r}, and none begins so.")
    if len(keys) > 1:
        listed = ", ".join(sorted(keys)[:4])
        raise StoreError(f"A key must be given by enough digits to be one. Got {prefix!r}, which begins {listed}, ….")
    return keys.pop()


def numbers_of(connection: sa.Connection, study: str | None) -> list[int] | None:
    """The numbers of the studies in which a key is looked up: of one study, or None for all."""
    return None if study is None else study_numbers(connection, study)
