"""Trained networks in a store: a study trains each architecture anew, so that a network is a training of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from results.errors import StoreError
from results.files.places import Place
from results.lookups import best_first, full_key, numbers_of, of_studies, study_row
from results.schema import candidates, evaluations, studies

_realised, _weights = evaluations.c.realised_key, evaluations.c.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCandidate:
    """A candidate of a study.

    Parameters
    ----------
    study : str
        Name of the study.
    candidate : str
        Full key of the candidate.
    realised : str
        Full key of the network that training made of it, which may have other points, or filters in other places: the
        key that was asked for, otherwise of the first repeat at the highest fidelity. The candidate's own key if
        training changed nothing, or did not happen.
    """

    study: str
    candidate: str
    realised: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNetwork:
    """A trained network of a study.

    Parameters
    ----------
    study : str
        Name of the study.
    candidate : str
        Full key of the candidate.
    realised : str
        Full key of the network that training made of it.
    repeat : int
        Number of the training of the candidate, from 0.
    weights : pathlib.Path or RemotePath
        File or folder of the trained weights; its text is a URL if the study was started with ``--files URL``.
    """

    study: str
    candidate: str
    realised: str
    repeat: int
    weights: Place


def find_candidate(connection: sa.Connection, prefix: str, study: str | None) -> StoredCandidate:
    """The only candidate of a key; see `results.store.Store.find_candidate`."""
    key = full_key(connection, prefix, numbers_of(connection, study))
    name = study or _only_study(_studies_of(connection, key), key)
    query = _trainings(connection, name, key)
    training = connection.execute(query).first()
    if training is None:
        return StoredCandidate(study=name, candidate=key, realised=key)
    return StoredCandidate(study=name, candidate=training.candidate, realised=training.realised_key)


def find_network(
    connection: sa.Connection, prefix: str, study: str | None, repeat: int | None
) -> tuple[StoredCandidate, int, str]:
    """The only trained network of a key, its repeat and its weights; see `results.store.Store.find_network`."""
    key = full_key(connection, prefix, numbers_of(connection, study))
    names = [study] if study else _studies_of(connection, key, kept=True) or _studies_of(connection, key)[:1]
    query = _trainings(connection, _only_study(names, key), key).where(_weights.is_not(None))
    if repeat is not None:
        query = query.where(evaluations.c.repeat == repeat)
    training = connection.execute(query).first()
    if training is None:
        which = "" if repeat is None else f", {repeat=}"
        raise StoreError(f"No weights of {key}{which} were kept. Train it again: nas train {key} FOLDER.")
    found = StoredCandidate(study=names[0], candidate=training.candidate, realised=training.realised_key)
    return found, training.repeat, training.weights


def _studies_of(connection: sa.Connection, key: str, *, kept: bool = False) -> list[str]:
    """Names of the studies with this key; kept: only those that kept weights of it."""
    proposed = sa.select(candidates.c.study_id).where(candidates.c.key == key)
    realised = sa.select(candidates.c.study_id).join_from(candidates, evaluations).where(_realised == key)
    if kept:
        proposed = proposed.join(evaluations).where(_weights.is_not(None))
        realised = realised.where(_weights.is_not(None))
    query = sa.select(studies.c.name).where(studies.c.id.in_(proposed.union(realised))).order_by(studies.c.id)
    return list(connection.scalars(query))


def _only_study(names: list[str], key: str) -> str:
    if len(names) > 1:
        raise StoreError(
            f"A key names one architecture, which each study trains anew. {key} is in several studies: "
            f"{', '.join(names)}. Name the study too."
        )
    return names[0]


def _trainings(connection: sa.Connection, study: str, key: str) -> sa.Select[Any]:
    """The trainings of the candidate that a key names in a study, in the order of preference.

    A key of a trained candidate names that candidate, also if training made the same architecture of another one.
    Raises StoreError if training made the architecture of several candidates.
    """
    query = sa.select(candidates.c.key.label("candidate"), _realised, evaluations.c.repeat, _weights)
    query = query.join_from(evaluations, candidates).where(of_studies([study_row(connection, study).id]))
    query = query.order_by(*best_first())
    if connection.execute(query.where(candidates.c.key == key).limit(1)).first():
        return query.where(candidates.c.key == key)
    made = query.where(_realised == key)
    origins = sorted({row.candidate for row in connection.execute(made)})
    if len(origins) > 1:
        raise StoreError(
            f"A key must be of one network. Training made {key} of several candidates: {', '.join(origins)}. "
            "Name one of them."
        )
    return made
