"""Schema 7 to 8: the time at which each evaluation ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add the column evaluations.evaluated_at; it is NULL in an older store."""
    operations.add_column("evaluations", sa.Column("evaluated_at", sa.String(40)))
