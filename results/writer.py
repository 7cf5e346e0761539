"""The writer of a study: a search records every step, so that it can be killed and resumed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from results import schema
from results.errors import StoreError
from results.schema import STATUSES, candidates, evaluations, point_measures, points, policies, transferred
from results.scores import score_of
from results.writing.ids import new_ids, pass_id
from results.writing.lasting import now
from results.writing.rows import check_candidate, check_one_of, checked_candidate, checked_policies, split_points
from results.writing.session import StudySession

BATCH = 1_000
"""Candidates that one statement writes or looks up."""

# Statements that are executed for every result, built once: building one takes longer than executing it.
_PLACE = ("candidate_id", "fidelity", "repeat")
_DELETE_TRAINING = tuple(
    sa.delete(table).where(*(table.c[name] == sa.bindparam(name) for name in _PLACE))
    for table in (point_measures, points, evaluations)
)
_DELETE_POLICIES = sa.delete(policies).where(policies.c.candidate_id == sa.bindparam("candidate_id"))
_OF_STUDY = sa.select(candidates.c.id).where(
    candidates.c.id.in_(sa.bindparam("numbers", expanding=True)), candidates.c.study_id == sa.bindparam("study")
)


class StudyWriter(StudySession):
    """The only writer of one study until it is closed; created by `Store.writer` and used as a context manager.

    Each method is one transaction, or part of the `transaction()` around it: after it has returned, its rows survive
    kill -9; before, there is no trace of it. A context that is left without `finish` leaves the study 'interrupted',
    after an exception 'failed'. Threads of one process may share a writer; a forked child may not use it.

    Every method raises StoreError if the store cannot be written, and for unknown names.

    Attributes
    ----------
    study : str
        Name of the study.
    files : pathlib.Path or RemotePath
        The study's folder for weights, checkpoints and log, which exists.
    """

    def add_candidates(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Add candidates, in batches within one transaction.

        Parameters
        ----------
        rows : iterable of mapping
            Each needs space, generation and status (one of STATUSES), and may have key (hex), position, control,
            reference, reason, choices, architecture and proxies (JSON data), attempts, traceback.

        Returns
        -------
        list of int
            Their ids, in order.
        """
        ids: list[int] = []
        left = iter(rows)
        with self._statements() as connection:
            while batch := [checked_candidate(row) for row in itertools.islice(left, BATCH)]:
                new = new_ids(connection, len(batch))
                connection.also(partial(pass_id, last=new[-1]))
                own = ({"id": number, "study_id": self._number} for number in new)
                connection.execute(sa.insert(candidates), [row | about for row, about in zip(batch, own)])
                ids += new
        return ids

    def update_candidates(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Set columns of candidates, such as their status.

        Parameters
        ----------
        changes : mapping of int to mapping
            Id → columns, named as in :meth:`add_candidates`; the same columns of all candidates.
        """
        for columns in changes.values():
            check_candidate(columns)
        with self._statements() as connection:
            self._check_mine(changes)
            names = list(next(iter(changes.values()), ()))
            if names:
                values = {name: sa.bindparam(f"new_{name}", type_=candidates.c[name].type) for name in names}
                change = sa.update(candidates).where(candidates.c.id == sa.bindparam("number")).values(values)
                rows = [
                    {"number": number} | {f"new_{name}": columns[name] for name in names}
                    for number, columns in changes.items()
                ]
                connection.execute(change, rows)

    def drop_generation(self, generation: int) -> None:
        """Delete the candidates of a generation of which none was trained.

        Parameters
        ----------
        generation : int
            Its number, from 0.
        """
        mine = (candidates.c.study_id == self._number, candidates.c.generation == generation)
        with self._statements() as connection:
            connection.execute(sa.delete(candidates).where(*mine))

    def record(
        self,
        candidate_id: int,
        *,
        fidelity: float,
        repeat: int,
        realised_key: str,
        points: Iterable[Mapping[str, Any]],
        epochs: float | None = None,
        images: int | None = None,
        seconds: float | None = None,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
    ) -> None:
        """Record an evaluation; replaces an earlier one of the same candidate, fidelity and repeat.

        Results of the candidate's controllers are deleted, because its network has changed.

        Parameters
        ----------
        candidate_id : int
            Id from `add_candidates`.
        fidelity : float
            Passes over all training images.
        repeat : int
            Number of the training, from 0.
        realised_key : str
            Key of the architecture after training.
        points : iterable of mapping
            One per operating point: level, macs, params, accuracy and loss, further built-in measures, and measures
            that the evaluator declared; accuracy and loss may be NaN.
        epochs, images, seconds : optional
            Cumulative since the repeat began.
        architecture : mapping, optional
            JSON of the architecture after training; None if it equals the proposed one.
        weights : str, optional
            Path of the trained network below `files`.
        """
        place = {"candidate_id": int(candidate_id), "fidelity": float(fidelity), "repeat": int(repeat)}
        given = list(points)
        measured, own = split_points(given, place, self._own)
        evaluation = place | {
            "epochs": epochs,
            "images": images,
            "seconds": seconds,
            "realised_key": realised_key,
            "score": score_of(self._score, given),
            "architecture": architecture,
            "weights": weights,
            "evaluated_at": now(),
        }
        with self._statements() as connection:
            self._check_mine([candidate_id])
            for delete in (*_DELETE_TRAINING, _DELETE_POLICIES):
                connection.execute(delete, place)
            connection.execute(sa.insert(evaluations), [evaluation])
            if measured:
                connection.execute(sa.insert(schema.points), measured)
            if own:
                connection.execute(sa.insert(schema.point_measures), own)

    def add_transferred(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add trained candidates of another study, which only inform this one.

        Parameters
        ----------
        rows : iterable of mapping
            Each with the columns of the table ``transferred`` apart from study_id and place.
        """
        own = [dict(row) | {"study_id": self._number, "place": place} for place, row in enumerate(rows)]
        with self._statements() as connection:
            for start in range(0, len(own), BATCH):
                connection.execute(sa.insert(transferred), own[start : start + BATCH])

    def transferred(self) -> list[dict[str, Any]]:
        """The trained candidates of another study that inform this one.

        Returns
        -------
        list of dict
            Column → value, in the order of :meth:`add_transferred`.
        """
        query = sa.select(transferred).where(transferred.c.study_id == self._number).order_by(transferred.c.place)
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def record_policies(self, candidate: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record results of a trained candidate's controllers.

        A row replaces an earlier one of equal learner, sees, penalty and utilization.

        Parameters
        ----------
        candidate : str
            Full key of the candidate.
        rows : iterable of mapping
            Each with learner, sees, penalty, utilization, controller_macs, macs and accuracy; test_macs and
            test_accuracy are optional.
        """
        query = (
            sa.select(evaluations.c.candidate_id)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id == self._number, evaluations.c.weights.is_not(None))
            .where(candidates.c.key == candidate)
            .order_by(evaluations.c.fidelity.desc(), evaluations.c.candidate_id.desc())
        )
        added = checked_policies(rows)
        with self._statements() as connection:
            number = connection.scalar(query)
            if number is None:
                raise StoreError(f"A policy must be of a candidate of {self.study!r} with weights. Got {candidate!r}.")
            for row in added:
                row["candidate_id"] = number
                place = (policies.c[column.name] == row[column.name] for column in policies.primary_key)
                connection.execute(sa.delete(policies).where(*place))
                connection.execute(sa.insert(policies).values(row))

    def rows(
        self,
        status: str | Iterable[str] | None = None,
        generation: int | None = None,
        *,
        ids: Iterable[int] | None = None,
        columns: Iterable[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Candidates in the order of proposal.

        Parameters
        ----------
        status : str or iterable of str, optional
            Only of these statuses.
        generation : int, optional
            Only of this generation.
        ids : iterable of int, optional
            Only with these ids.
        columns : iterable of str, optional
            Names of the columns to read; by default all.

        Returns
        -------
        list of dict
            One per candidate, column → value.
        """
        names = [c.name for c in candidates.c if c.name != "study_id"] if columns is None else list(columns)
        query = sa.select(*(candidates.c[name] for name in names)).where(candidates.c.study_id == self._number)
        if status is not None:
            statuses = [status] if isinstance(status, str) else list(status)
            for name in statuses:
                check_one_of("status", name, STATUSES)
            query = query.where(candidates.c.status.in_(statuses))
        if generation is not None:
            query = query.where(candidates.c.generation == generation)
        queries = [query.order_by(candidates.c.id)]
        if ids is not None:
            sought = sorted(ids)
            queries = [queries[0].where(candidates.c.id.in_(batch)) for batch in _batches(sought)]
        with self._reading() as connection:
            return [dict(row) for each in queries for row in connection.execute(each).mappings()]

    def scores(self) -> list[tuple[int, float, float, float | None]]:
        """Scores of the first repeats of all trainings.

        Returns
        -------
        list of (int, float, float, float or None)
            Id of the candidate, fidelity, score, and seconds of the training, in the order of ids and fidelities.
        """
        training = evaluations.c
        query = (
            sa.select(training.candidate_id, training.fidelity, training.score, training.seconds)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id == self._number, training.repeat == 0, training.score.is_not(None))
            .order_by(training.candidate_id, training.fidelity)
        )
        with self._reading() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def first_points(self, status: str) -> list[dict[str, Any]]:
        """Points of the first repeats of all candidates with a status.

        Parameters
        ----------
        status : str
            One of STATUSES.

        Returns
        -------
        list of dict
            candidate_id, fidelity, level, macs, accuracy, and seconds of the training; in the order of the first three.
        """
        check_one_of("status", status, STATUSES)
        row, training = points.c, evaluations.c
        same = sa.and_(*(training[name] == row[name] for name in ("candidate_id", "fidelity", "repeat")))
        query = (
            sa.select(row.candidate_id, row.fidelity, row.level, row.macs, row.accuracy, training.seconds)
            .join_from(points, evaluations, same)
            .join(candidates, candidates.c.id == row.candidate_id)
            .where(candidates.c.study_id == self._number, candidates.c.status == status, row.repeat == 0)
            .order_by(row.candidate_id, row.fidelity, row.level)
        )
        with self._reading() as connection:
            return [dict(each) for each in connection.execute(query).mappings()]

    def points_of(self, candidate_id: int) -> list[dict[str, Any]]:
        """All points of a candidate, as recorded.

        Parameters
        ----------
        candidate_id : int
            Id from :meth:`add_candidates`.

        Returns
        -------
        list of dict
            One per fidelity, repeat and level, in this order; unmeasured values are None.
        """
        query = (
            sa.select(points)
            .where(points.c.candidate_id == candidate_id)
            .order_by(points.c.fidelity, points.c.repeat, points.c.level)
        )
        own = sa.select(point_measures).where(point_measures.c.candidate_id == candidate_id)
        with self._reading() as connection:
            self._check_mine([candidate_id])
            rows = [dict(row) for row in connection.execute(query).mappings()]
            values = {
                (row.fidelity, row.repeat, row.level, row.name): row.value
                for row in (connection.execute(own) if self._own else ())
            }
        for row in rows:
            del row["candidate_id"]
            row |= {name: values.get((row["fidelity"], row["repeat"], row["level"], name)) for name in self._own}
        return rows

    def _check_mine(self, numbers: Iterable[int]) -> None:
        for batch in _batches(list(numbers)):
            found = self._connection.scalars(_OF_STUDY, {"numbers": batch, "study": self._number})
            if missing := set(batch).difference(found):
                raise StoreError(
                    f"A candidate must be of study {self.study!r}. Got candidate_id={min(missing)}, which is not."
                )


def _batches(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]
