"""The progress of a study in a few numbers, aggregated by the database."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from results.reading import frames
from results.reading.candidates import scored, trained_seconds
from results.schema import candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCount:
    """Candidates of one status.

    Parameters
    ----------
    status : str
        One of ``results.schema.STATUSES``.
    candidates : int
        Their number.
    reason : str or None
        The reason of the last one that has a reason.
    """

    status: str
    candidates: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """The progress of a study.

    Parameters
    ----------
    statuses : tuple of StatusCount
        In the order of their first candidates.
    scored : int
        Number of candidates with an anytime accuracy.
    seconds : float
        Training and evaluation of these candidates, summed over workers.
    """

    statuses: tuple[StatusCount, ...]
    scored: int
    seconds: float


def summary_of(connection: sa.Connection, number: int) -> StudySummary:
    """The progress of a study, by its number."""
    ids = frames.ids_of([number])
    results, seconds = scored(ids), trained_seconds(ids)
    totals = connection.execute(
        sa.select(sa.func.count(), sa.func.sum(seconds.c.seconds)).select_from(
            sa.join(results, seconds, results.c.candidate_id == seconds.c.candidate_id)
        )
    ).one()
    return StudySummary(
        statuses=_statuses(connection, number),
        scored=totals[0],
        seconds=totals[1] or 0.0,
    )


def _statuses(connection: sa.Connection, number: int) -> tuple[StatusCount, ...]:
    row = candidates.c
    counts = (
        sa.select(row.status, sa.func.count())
        .where(row.study_id == number)
        .group_by(row.status)
        .order_by(sa.func.min(row.id))
    )

    def last_reason(status: str) -> str | None:
        mine = (row.study_id == number, row.status == status, row.reason.is_not(None))
        return connection.scalar(sa.select(row.reason).where(*mine).order_by(row.id.desc()).limit(1))

    listed = connection.execute(counts).all()
    return tuple(StatusCount(status=status, candidates=n, reason=last_reason(status)) for status, n in listed)
