"""Whether results of several studies may be compared: accuracies on other images, or other metrics, are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from results.errors import NotComparable
from results.schema import studies, to_json

DATA_SETTINGS = ("data_fingerprint", "validation")
"""Settings of a study that determine its training, validation and test images."""


def data_of(connection: sa.Connection, numbers: Iterable[int]) -> dict[str, str]:
    """The name of each study with a text that identifies its data, their validation split, and its metric."""
    query = (
        sa.select(studies.c.name, studies.c.settings, studies.c.score)
        .where(studies.c.id.in_(list(numbers)))
        .order_by(studies.c.id)
    )
    return {
        name: sha256(to_json([settings.get(each) for each in DATA_SETTINGS] + _metric(score)).encode()).hexdigest()[:12]
        for name, settings, score in connection.execute(query)
    }


def _metric(score: Mapping[str, Any] | None) -> list[str]:
    """The metric of a study with this score; none for accuracy."""
    metric = (score or {}).get("metric", "accuracy")
    return [] if metric == "accuracy" else [metric]


def check_same_data(data: Mapping[str, str]) -> None:
    """Raise NotComparable if studies have different data, splits or metrics. data: of :func:`data_of`."""
    if len(set(data.values())) < 2:
        return
    groups: dict[str, list[str]] = {}
    for study, identity in data.items():
        groups.setdefault(identity, []).append(study)
    listed = "; ".join(", ".join(group) for group in groups.values())
    raise NotComparable(
        "Studies that are read together must have the same data, validation split and metric. Different are those of "
        f"{listed}. Show their fronts separately, or allow mixed data: nas front --mixed, store.front(…, mixed=True)."
    )
