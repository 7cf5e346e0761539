"""Whether results of several studies may be compared: accuracies on other images are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import sqlalchemy as sa

from results.errors import NotComparable
from results.schema import studies, to_json

DATA_SETTINGS = ("data_fingerprint", "validation")
"""Settings of a study that determine its training, validation and test images."""


def data_of(connection: sa.Connection, numbers: Iterable[int]) -> dict[str, str]:
    """The name of each study with a text that identifies its data and their validation split."""
    query = sa.select(studies.c.name, studies.c.settings).where(studies.c.id.in_(list(numbers))).order_by(studies.c.id)
    return {
        name: sha256(to_json([settings.get(each) for each in DATA_SETTINGS]).encode()).hexdigest()[:12]
        for name, settings in connection.execute(query)
    }


def check_same_data(data: Mapping[str, str]) -> None:
    """Raise NotComparable if studies have different data or validation splits. data: of :func:`data_of`."""
    if len(set(data.values())) < 2:
        return
    groups: dict[str, list[str]] = {}
    for study, identity in data.items():
        groups.setdefault(identity, []).append(study)
    listed = "; ".join(", ".join(group) for group in groups.values())
    raise NotComparable(
        "Studies that are read together must have the same data and validation split. Different are those of "
        f"{listed}. Show their fronts separately, or allow mixed data: nas front --mixed, store.front(…, mixed=True)."
    )
