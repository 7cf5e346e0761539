"""Schema 4 to 5: a study has an identity and a folder of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add the columns studies.identity and studies.folder, which the next writer of a study fills."""
    operations.add_column("studies", sa.Column("identity", sa.String(32)))
    operations.add_column("studies", sa.Column("folder", sa.Text))
