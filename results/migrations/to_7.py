"""Schema 6 to 7: candidates that are reference architectures name their reference; the augmentation is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add the column candidates.reference; no study of an older store has references."""
    operations.add_column("candidates", sa.Column("reference", sa.String))
    if not operations.get_context().as_sql:
        _keep_augmentation(operations.get_bind())


def _keep_augmentation(connection: sa.Connection) -> None:
    """Write what the setting augment="auto" meant: it changed all images, whatever the length of a training."""
    studies = sa.table("studies", sa.column("id"), sa.column("settings", sa.Text))
    for study in connection.execute(sa.select(studies)).all():
        settings = json.loads(study.settings)
        words = settings.get("_augmentation")
        if settings.get("augment") == "auto" and words:
            settings["augment"] = explicit(words)
            changed = sa.update(studies).where(studies.c.id == study.id)
            connection.execute(changed.values(settings=json.dumps(settings, separators=(",", ":"))))


def explicit(words: str) -> str:
    """The name of an augmentation in words, of version 6.

    >>> explicit("shifts of at most 4×4 pixels, mirrored at random"), explicit("none")
    ('crop+flip', 'none')
    """
    parts = [name for name, word in (("crop", "shifts of"), ("flip", "mirrored at random")) if word in words]
    return "+".join(parts) or "none"
