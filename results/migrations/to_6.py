"""Schema 5 to 6: a running study shows its activity; a study may start from candidates of an earlier study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add columns and tables."""
    operations.add_column("studies", sa.Column("activity", sa.Text))
    identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    operations.create_table(
        "transferred",
        sa.Column("study_id", identity, sa.ForeignKey("studies.id"), primary_key=True, autoincrement=False),
        sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("origin", sa.String(100), nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("anytime_accuracy", sa.Double),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("rungs", "proxies", "choices", "architecture")),
    )
