"""Schema 4 to 5: a study has an identity and a folder and names its augmentation; trainings have a score."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa

from results.front import Score
from results.scores import rescore

if TYPE_CHECKING:
    from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    """Add columns and indices.

    The next writer of a study fills studies.identity and studies.folder. The scores of trainings are computed here, and
    the augmentation is kept.
    """
    operations.add_column("studies", sa.Column("identity", sa.String(32)))
    operations.add_column("studies", sa.Column("folder", sa.Text))
    operations.add_column("evaluations", sa.Column("score", sa.Double))
    operations.create_index("candidates_by_study", "candidates", ["study_id", "id"])
    operations.create_index("candidates_by_status", "candidates", ["study_id", "status"])
    if not operations.get_context().as_sql:
        _keep_augmentation(operations.get_bind())
        _fill_scores(operations.get_bind())


def _fill_scores(connection: sa.Connection) -> None:
    for number, score in connection.execute(sa.text("SELECT id, score FROM studies")).fetchall():
        if score:
            rescore(connection, number, Score(**json.loads(score)))


def _keep_augmentation(connection: sa.Connection) -> None:
    """Write what the setting augment="auto" meant, and the shifts along thin sides, which both changed.

    Colour images were mirrored, and images were shifted by one pixel or more along each side. A study goes on with
    mirroring; its own shifts, in the words of `evaluators.data.augmentation.Augmentation`, refuse a resume with others.
    """
    studies = sa.table("studies", sa.column("id"), sa.column("settings", sa.Text))
    candidates = sa.table("candidates", sa.column("study_id"), sa.column("architecture", sa.Text))
    for study in connection.execute(sa.select(studies)).all():
        settings = json.loads(study.settings)
        drawn = sa.select(candidates.c.architecture).where(
            candidates.c.study_id == study.id, candidates.c.architecture.is_not(None)
        )
        architecture = connection.scalar(drawn.limit(1))
        if "augment" not in settings or architecture is None:
            continue
        shape = json.loads(architecture)["task"]["input_shape"]
        if len(shape) < 3:
            continue
        if settings["augment"] == "auto":
            settings["augment"] = "crop+flip" if shape[0] >= 3 else "auto"
        settings["_augmentation"] = _in_words(settings["augment"], *shape[-2:])
        changed = sa.update(studies).where(studies.c.id == study.id)
        connection.execute(changed.values(settings=json.dumps(settings, separators=(",", ":"))))


def _in_words(augment: str, height: int, width: int) -> str:
    if augment == "none":
        return "none"
    shifts = "no shifts"
    if augment != "flip":
        shifts = f"shifts of at most {max(1, height // 8)}×{max(1, width // 8)} pixels"
    return f"{shifts}, {'mirrored at random' if 'flip' in augment else 'not mirrored'}"
