"""The curves of a figure: of a bounded number of candidates, whatever the size of the study."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from results.curves import Curves, evenly
from results.front import Score
from results.reading import frames
from results.reading.candidates import top_fidelity
from results.reading.fetching import fetch
from results.schema import candidates, evaluations, point_measures, points, studies


def curves_of(connection: sa.Connection, numbers: Sequence[int], cost: str) -> Curves:
    """The curves of studies; reads the points only of the candidates that are drawn."""
    ids, row = frames.ids_of(numbers), points.c
    top = top_fidelity(ids)
    source: sa.FromClause = points.join(
        top, sa.and_(row.candidate_id == top.c.candidate_id, row.fidelity == top.c.fidelity)
    )
    measured = row.get(cost, point_measures.c.value)
    if cost not in row:
        same = [point_measures.c[name] == row[name] for name in ("candidate_id", "fidelity", "repeat", "level")]
        source = source.join(point_measures, sa.and_(*same, point_measures.c.name == cost))
    known = (measured.is_not(None), row.accuracy.is_not(None))
    levels = sa.func.count(row.level.distinct()).label("points")
    per = sa.select(row.candidate_id, levels).select_from(source).where(*known).group_by(row.candidate_id).subquery()
    with_space = sa.select(per.c.candidate_id, per.c.points.label("level"), candidates.c.space)
    joined = with_space.join_from(per, candidates, candidates.c.id == per.c.candidate_id)
    counts = fetch(connection, joined.order_by(per.c.candidate_id), "points").rename(columns={"level": "points"})
    drawn = evenly(counts["candidate_id"].to_numpy())
    chosen = sa.select(candidates.c.id).where(candidates.c.id.in_(drawn.tolist()))
    shown = Curves.of(frames.of_points(connection, numbers, chosen), cost, _largest(connection, numbers))
    return Curves(
        cost=cost,
        rows=shown.rows,
        candidates=counts.groupby("space").size().to_dict(),
        points=int(counts["points"].sum()),
        quantity=_quantity(connection, numbers),
    )


def _quantity(connection: sa.Connection, numbers: Sequence[int]) -> str:
    """The metrics of studies, in words; they differ only in fronts that are mixed on request."""
    query = sa.select(studies.c.score).where(studies.c.id.in_(list(numbers))).order_by(studies.c.id)
    found = dict.fromkeys(Score(**score).quantity for score in connection.scalars(query) if score)
    return " or ".join(found) or "accuracy"


def _largest(connection: sa.Connection, numbers: Sequence[int]) -> dict[str, float]:
    """Names of studies with the largest fidelity of their evaluations."""
    row = evaluations.c
    query = sa.select(studies.c.name, sa.func.max(row.fidelity)).join_from(evaluations, candidates).join(studies)
    found = connection.execute(query.where(studies.c.id.in_(list(numbers))).group_by(studies.c.name))
    return {name: fidelity for name, fidelity in found}  # noqa: C416 - dict() would not type-check
