"""Schema 3 to 4: evaluators declare measures of their own, which studies name and points hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add the column studies.measures and the table point_measures."""
    identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    operations.add_column("studies", sa.Column("measures", sa.Text))
    operations.create_table(
        "point_measures",
        sa.Column("candidate_id", identity, sa.ForeignKey("candidates.id"), primary_key=True, autoincrement=False),
        sa.Column("fidelity", sa.Double, primary_key=True),
        sa.Column("repeat", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("level", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(60), primary_key=True),
        sa.Column("value", sa.Double),
    )
