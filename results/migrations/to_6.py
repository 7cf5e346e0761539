"""Schema 5 to 6: a running study shows its activity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add columns."""
    operations.add_column("studies", sa.Column("activity", sa.Text))
