"""The rows of a study in another store: comparing them with the rows here, and copying them under new ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from results.schema import Json, candidates, evaluations, meta, metadata, policies, studies
from results.writing.ids import new_ids

BATCH = 1_000
"""Rows that one statement writes."""
PLAN, IDS = "finals", "candidates"
"""The memo of a study may have an entry PLAN, whose entry IDS is a list of ids of candidates."""
FIRST_ID = "_built_from"
"""The setting with the id of the first candidate that the present spaces have built."""


def trainings_of(connection: sa.Connection, number: int) -> set[tuple[str, ...]]:
    """The trainings of a study and the results of its controllers; two runs do not take the same seconds by chance."""
    training, policy = evaluations.c, policies.c
    trained = (training.fidelity, training.repeat, training.realised_key, training.epochs, training.seconds)
    throttled = (policy.learner, policy.sees, policy.penalty, policy.utilization, policy.macs, policy.accuracy)
    found: set[tuple[str, ...]] = set()
    for table, columns in ((evaluations, trained), (policies, throttled)):
        query = sa.select(candidates.c.key, *columns).join_from(table, candidates)
        rows = connection.execute(query.where(candidates.c.study_id == number))
        found |= {(table.name, *map(repr, row)) for row in rows}
    return found


def copy_rows(there: sa.Connection, here: sa.Connection, old: int, new: int) -> dict[int, int]:
    """Copy the rows of a study except its own. old, new: its numbers. Returns ids of candidates there → here."""
    ids: dict[int, int] = {}
    renumbered = {candidates.c.id: ids, studies.c.id: {old: new}}
    for table in metadata.sorted_tables:
        if table in (meta, studies):
            continue
        columns = {c.name: renumbered[target] for c in table.c if (target := _target(c)) in renumbered}
        if table is candidates:
            columns["id"] = ids
        for batch in _batches(there, table, old):
            rows = [dict(row) for row in batch]
            if table is candidates:
                ids |= zip([row["id"] for row in rows], new_ids(here, len(rows)))
            for row in rows:
                row |= {name: known.get(row[name]) for name, known in columns.items()}
            here.execute(sa.insert(_plain(table)), rows)
    return ids


def delete_rows(connection: sa.Connection, number: int) -> None:
    """Delete a study and all its rows."""
    for table in reversed(metadata.sorted_tables):
        if table is studies:
            connection.execute(sa.delete(studies).where(studies.c.id == number))
        elif table is not meta:
            connection.execute(sa.delete(table).where(_is_of(table.c, table, number)))


def with_new_ids(settings: Mapping[str, Any], memo: Any, ids: Mapping[int, int]) -> tuple[dict[str, Any], Any]:
    """Settings and memo of a study, with ids of candidates here. ids: there → here."""
    changed = dict(settings)
    if FIRST_ID in changed:
        changed[FIRST_ID] = max((new for old, new in ids.items() if old < changed[FIRST_ID]), default=-1) + 1
    plan = (memo or {}).get(PLAN)
    if plan is not None:
        memo = {**memo, PLAN: {**plan, IDS: [ids[number] for number in plan[IDS]]}}
    return changed, memo


def networks_of(connection: sa.Connection, number: int) -> int:
    """The number of trained networks of a study."""
    kept = sa.select(sa.func.count()).select_from(evaluations.join(candidates))
    return connection.scalar(kept.where(candidates.c.study_id == number, evaluations.c.weights.is_not(None))) or 0


def _batches(connection: sa.Connection, table: sa.Table, number: int) -> Iterator[Any]:
    plain = _plain(table)
    order = [plain.c[column.name] for column in table.primary_key]
    query = sa.select(plain).where(_is_of(plain.c, table, number)).order_by(*order)
    yield from connection.execute(query.execution_options(yield_per=BATCH)).mappings().partitions()


def _is_of(columns: Any, table: sa.Table, number: int) -> sa.ColumnElement[bool]:
    """Whether a row of a table belongs to a study. columns: of the table, or of its plain form."""
    owners: dict[Any, sa.ColumnElement[Any]] = {_target(column): columns[column.name] for column in table.c}
    if studies.c.id in owners:
        return owners[studies.c.id] == number
    of_study = sa.select(candidates.c.id).where(candidates.c.study_id == number)
    return owners[candidates.c.id].in_(of_study)


def _target(column: sa.Column[Any]) -> sa.Column[Any] | None:
    """The column that a foreign key refers to; None for another column."""
    return next((key.column for key in column.foreign_keys), None)


def _plain(table: sa.Table) -> sa.TableClause:
    """A table whose JSON is text, so that it is copied as it is."""
    return sa.table(
        table.name, *(sa.column(c.name, sa.Text() if isinstance(c.type, Json) else c.type) for c in table.c)
    )
