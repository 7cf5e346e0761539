"""The trained candidates of a study for a study that starts from it, and the copies that such a study has."""

from __future__ import annotations

from typing import Any

import pandas as pd
import sqlalchemy as sa

from results.columns import names
from results.reading.fetching import fetch
from results.schema import candidates, evaluations, transferred

_TRAINED = ("stopped", "finished")


def trained_candidates(connection: sa.Connection, number: int) -> list[dict[str, Any]]:
    """Candidates of a study whose partial training ended without failure; see `Store.trained`."""
    row, training = candidates.c, evaluations.c
    chosen = (row.study_id == number, row.status.in_(_TRAINED), row.position.is_not(None))
    columns = (row.id, row.key, row.space, row.status, row.generation, row.choices)
    query = sa.select(*columns).where(*chosen).order_by(row.id)
    found = {each["id"]: dict(each) | {"scores": {}} for each in connection.execute(query).mappings()}
    scores = (
        sa.select(training.candidate_id, training.fidelity, training.score)
        .join_from(evaluations, candidates)
        .where(*chosen, training.repeat == 0, training.score.is_not(None))
        .order_by(training.candidate_id, training.fidelity)
    )
    for candidate, fidelity, score in connection.execute(scores):
        found[candidate]["scores"][fidelity] = score
    return list(found.values())


def count_of(connection: sa.Connection, number: int) -> int:
    """Number of the candidates that a study started from."""
    query = sa.select(sa.func.count()).select_from(transferred).where(transferred.c.study_id == number)
    return connection.scalar(query) or 0


def of_transferred(connection: sa.Connection, number: int) -> pd.DataFrame:
    """One row per candidate that a study started from; see `Store.transferred`."""
    row = transferred.c
    columns = (row[name] for name in names("transferred"))
    return fetch(connection, sa.select(*columns).where(row.study_id == number).order_by(row.place), "transferred")
