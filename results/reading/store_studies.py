"""The studies of a store, one by one: what each was started with, and what it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from results import connection as connections
from results import data_copies
from results.errors import StoreError
from results.files import study_folder
from results.files.places import Place
from results.front import Score
from results.lookups import check_name, full_key, keys_of, latest_proposals, numbers_of, study_numbers, study_row
from results.measures import BUILT_IN, Measure
from results.reading.store_reader import StoreReader
from results.reading.stored_networks import StoredCandidate, StoredNetwork, find_candidate, find_network
from results.schema import candidates, evaluations, studies


class StoreStudies(StoreReader):
    """The part of :class:`results.store.Store` that reads a single study or network."""

    def holds(self, study: str) -> bool:
        """Whether the store exists and holds a study of this name.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        bool

        Raises
        ------
        StoreError
            If the file is neither a store nor empty.
        """
        check_name(study)
        if self._location.file is not None and not self._location.file.exists():
            return False
        with connections.clear_errors(self._location):
            with connections.engine(self._location, writing=False).connect() as connection:
                if not sa.inspect(connection).get_table_names():  # a process may have died before it created them
                    return False
            with self._current() as connection:
                return connection.scalar(sa.select(studies.c.id).where(studies.c.name == study)) is not None

    def settings(self, study: str) -> dict[str, Any]:
        """The settings that the study was started with; a copy of its data is named where it is now.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        dict of str to JSON data
            Setting → value.
        """
        with self._reading() as connection:
            return data_copies.with_present_copy(self._location, study_row(connection, study).settings)

    def identity(self, study: str) -> str:
        """A text that names the study and no other: random, or the time of the first start in an older version.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        str
        """
        with self._reading() as connection:
            row = study_row(connection, study)
        return str(row.identity or row.created_at)

    def ending(self, study: str) -> tuple[str, str | None]:
        """How the last run of a study ended, as the writer recorded it.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        state : str
            One of STATES; ``running`` also after a kill.
        reason : str or None
            For people; None without one.
        """
        with self._reading() as connection:
            row = study_row(connection, study)
        return row.state, row.reason

    def activity(self, study: str) -> dict[str, Any] | None:
        """What the running process of a study did when it last wrote, every few seconds while it trains.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        dict or None
            None after the end of a run. ``at``: time of the write in seconds since 1970. ``stage``: of the search.
            ``nodes``: name → trainings that run there side by side. ``running``: one dict for each training, with key,
            node, epoch, until and seconds since its last epoch. After a kill, the last write stays until the study is
            resumed.
        """
        with self._reading() as connection:
            row = study_row(connection, study)
            activity: dict[str, Any] | None = row.activity if row.state == "running" else None
            if activity is not None:
                keys = keys_of(connection, [job["candidate"] for job in activity["running"]])
                activity["running"] = [{"key": keys.get(job["candidate"]), **job} for job in activity["running"]]
        return activity

    def score(self, study: str) -> Score | None:
        """The study's score, None before it is set.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        Score or None
        """
        with self._reading() as connection:
            score = study_row(connection, study).score
        return Score(**score) if score else None

    def measures(self, study: str | Sequence[str]) -> tuple[Measure, ...]:
        """The measures of the operating points: the built-in ones, then the evaluator's own.

        Parameters
        ----------
        study : str or sequence of str
            One study or several.

        Returns
        -------
        tuple of Measure
        """
        from results.reading import frames

        with self._reading() as connection:
            return (*BUILT_IN, *frames.own_measures_of(connection, study_numbers(connection, study)))

    def memo(self, study: str) -> dict[str, Any]:
        """The state that the driver needs to resume, such as the seconds that it has run; empty in a new study.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        dict of str to JSON data
        """
        with self._reading() as connection:
            return study_row(connection, study).memo or {}

    def proposals(self, study: str, per_space: int) -> list[dict[str, Any]]:
        """The latest proposals of each space that were chosen for training.

        Parameters
        ----------
        study : str
            Name of the study.
        per_space : int
            Their number.

        Returns
        -------
        list of dict
            Id, key, space and choices, in the order of proposal.
        """
        with self._reading() as connection:
            return latest_proposals(connection, study_row(connection, study).id, per_space)

    def trained(self, study: str) -> list[dict[str, Any]]:
        """The candidates whose partial training ended without failure, for a study that starts from them.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        list of dict
            Id, key, space, status, generation, choices, and scores: fidelity → score of the first repeat. In the order
            of proposal.
        """
        from results.reading.transferred import trained_candidates

        with self._reading() as connection:
            return trained_candidates(connection, study_row(connection, study).id)

    def key(self, prefix: str, study: str | None = None) -> str:
        """The full key, of a proposed or a realised architecture.

        Parameters
        ----------
        prefix : str
            Beginning of the key, at least four digits.
        study : str, optional
            Name of the study; by default all studies are searched.

        Returns
        -------
        str
        """
        with self._reading() as connection:
            return full_key(connection, prefix, numbers_of(connection, study))

    def find_candidate(self, key: str, study: str | None = None) -> StoredCandidate:
        """The candidate of a key, and the network that training made of it.

        Parameters
        ----------
        key : str
            Key of a candidate, or of the architecture that training made of it.
        study : str, optional
            Name of the study; needed if several studies have this key.

        Returns
        -------
        StoredCandidate

        Raises
        ------
        StoreError
            If several studies have the key, or if training made its architecture of several candidates.
        """
        with self._reading() as connection:
            return find_candidate(connection, key, study)

    def architecture(self, key: str, study: str | None = None) -> dict[str, Any]:
        """An architecture as JSON data.

        Parameters
        ----------
        key : str
            Key of a candidate, or of the architecture that training made of it.
        study : str, optional
            Name of the study; by default all studies are searched.

        Returns
        -------
        dict of str to JSON data
            For ``nas.Architecture.from_json``.

        Raises
        ------
        StoreError
            If the candidate was not chosen for training; only then its architecture is stored.
        """
        with self._reading() as connection:
            full = full_key(connection, key, numbers_of(connection, study))
            realised = evaluations.c.realised_key == full
            queries = (
                sa.select(candidates.c.architecture).where(
                    candidates.c.key == full, candidates.c.architecture.is_not(None)
                ),
                sa.select(evaluations.c.architecture).where(realised, evaluations.c.architecture.is_not(None)),
            )
            for query in queries:
                architecture: dict[str, Any] | None = connection.scalar(query.limit(1))
                if architecture is not None:
                    return architecture
        raise StoreError(f"Only candidates that were chosen for training keep their architecture. {full} was not.")

    def find_network(self, key: str, study: str | None = None, repeat: int | None = None) -> StoredNetwork:
        """A trained network: its study, its candidate, and the folder of its weights.

        Parameters
        ----------
        key : str
            Key of a candidate, or of the architecture that training made of it.
        study : str, optional
            Name of the study; needed if several studies trained this key.
        repeat : int, optional
            By default the first with weights, at the highest fidelity.

        Returns
        -------
        StoredNetwork

        Raises
        ------
        StoreError
            If several studies trained the key, if training made the architecture of several candidates, if no weights
            were kept, or if their folder is missing or belongs to another study.
        """
        with self._reading() as connection:
            found, number, weights = find_network(connection, key, study, repeat)
            row = study_row(connection, found.study)
        path = self._folder(found.study, row) / weights
        if not path.exists():
            raise StoreError(f"The weights of {found.realised} are missing: {path}. Restore them, or train it again.")
        return StoredNetwork(**asdict(found), repeat=number, weights=path)

    def files(self, study: str) -> Place:
        """Folder of a study's weights, checkpoints and log, whether or not it exists yet.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        pathlib.Path or RemotePath
            A RemotePath, whose text is a URL, if the study was started with ``--files URL``.

        Raises
        ------
        StoreError
            If it belongs to another study, or if its URL cannot be used.
        """
        row = None
        if self.holds(study):
            with self._reading() as connection:
                row = study_row(connection, study)
        return self._folder(check_name(study), row)

    def _folder(self, study: str, row: sa.Row[Any] | None) -> Place:
        """The folder of a study. Raises StoreError if it belongs to another study."""
        folder = study_folder.folder_of(self._location, study, row)
        study_folder.check_owner(
            folder, self._location, study, study_folder.new_identity() if row is None else row.identity
        )
        return folder
