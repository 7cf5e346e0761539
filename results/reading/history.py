"""The evaluations of studies in the order of their ends, with the time spent and the best result so far."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import sqlalchemy as sa

from results.columns import dtypes, names
from results.reading.fetching import fetch
from results.reading.frames import of_evaluations, of_studies
from results.schema import candidates, evaluations, studies

_TURN = ["full", "generation", "fidelity", "position"]
"""The order of evaluations whose times are unknown, because stores before version 8 did not keep them; full: at the
largest fidelity of the study, which the last trainings of a search have."""


def history_of(connection: sa.Connection, numbers: Sequence[int]) -> pd.DataFrame:
    """One row per evaluation, in the order of studies and of their ends; see `Store.history`."""
    frame = of_evaluations(connection, numbers).rename(columns={"score": "anytime_accuracy"})
    started = of_studies(connection).set_index("study")["created_at"]
    place = {name: number for number, name in enumerate(started.index)}
    training = frame.groupby(["study", "candidate", "repeat"])["seconds"]  # cumulative, in the order of fidelities
    frame["worker_seconds"] = frame["seconds"].sub(training.shift(fill_value=0.0)).fillna(0.0)
    turns = frame.merge(_turns(connection, numbers), on=["study", "candidate"], how="left")
    turns = turns.assign(full=turns["fidelity"] == turns.groupby("study")["fidelity"].transform("max"))[_TURN]
    turns = turns.where(frame["evaluated_at"].isna(), 0).add_prefix("turn_")
    placed = frame.assign(place=frame["study"].map(place)).join(turns)
    order = ["place", "evaluated_at", *turns]
    frame = placed.sort_values(order, na_position="first", kind="stable", ignore_index=True)
    by_study = frame.groupby("study", sort=False)
    frame["evaluation"] = by_study.cumcount() + 1
    frame["worker_seconds"] = by_study["worker_seconds"].cumsum()
    frame["best"] = by_study["anytime_accuracy"].cummax().groupby(frame["study"]).ffill()
    frame["elapsed_seconds"] = (frame["evaluated_at"] - frame["study"].map(started)).dt.total_seconds()
    return frame[names("history")].astype(dtypes("history"))


def _turns(connection: sa.Connection, numbers: Sequence[int]) -> pd.DataFrame:
    """Study, candidate, generation and position of candidates with evaluations."""
    row = candidates.c
    trained = sa.exists().where(evaluations.c.candidate_id == row.id)
    columns = (studies.c.name.label("study"), row.key.label("candidate"), row.generation, row.position)
    query = sa.select(*columns).join_from(candidates, studies, row.study_id == studies.c.id)
    return fetch(connection, query.where(row.study_id.in_(list(numbers)), trained), "candidates")
