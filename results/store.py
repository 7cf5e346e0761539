"""A results store: its frames, the settings and networks of its studies, and writing and deleting studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from results import connection as connections
from results import data_copies
from results.errors import StoreError
from results.files import study_folder
from results.files.places import Place, place, remove_all
from results.front import Score
from results.lock import acquire_advisory, study_lock
from results.lookups import check_name, full_key, keys_of, latest_proposals, numbers_of, study_numbers, study_row
from results.measures import BUILT_IN, Measure
from results.reading.store_frames import StoreFrames
from results.reading.stored_networks import StoredCandidate, StoredNetwork, find_candidate, find_network
from results.schema import candidates, evaluations, studies

if TYPE_CHECKING:
    from results.merging.merge import MergedStudy
    from results.writer import StudyWriter


_log = logging.getLogger("results")


class Store(StoreFrames):
    """A results store, named by its URL.

    It holds no connection, so that it may be pickled and shared between threads. Every reading call takes one snapshot,
    also of a read-only file or folder, and while studies are written. A store of an older schema is upgraded by the
    first call that opens it. A key may be given by any unambiguous prefix of at least four characters.

    Parameters
    ----------
    url : str or path
        See :func:`results.open`. A relative path is resolved here, so that the store stays the same after a change of
        the working directory.

    Attributes
    ----------
    url : str
        The absolute path of the file, or the URL of the PostgreSQL database.

    Raises
    ------
    StoreError
        By every method: if there is no store (reading creates none), if the database is no store or of another schema
        that cannot be upgraded, if the study is unknown (with the names of the studies there), or if a key is unknown,
        ambiguous or too short.
    """

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

    def data_copy(self, name: str, write: Callable[[Path], None]) -> AbstractContextManager[Path]:
        """A copy of data beside the store, shared by all studies that name it.

        Parameters
        ----------
        name : str
            Name of the copy, "data-" and 16 digits of the hash of its content.
        write : callable
            Called if there is no copy yet; writes the content to the path that it receives.

        Returns
        -------
        context manager of pathlib.Path
            The file. Inside the context it is not removed; afterwards, if no study names it as "npz:FILE" in the
            setting ``data``.

        Raises
        ------
        StoreError
            If the folder of the store does not exist or cannot be written.
        """
        return data_copies.kept_copy(self._location, name, write, self._named_copies)

    def _named_copies(self) -> set[str]:
        """File names of the copies of data that studies name."""
        if self._location.file is not None and not self._location.file.exists():
            return set()
        with self._reading() as connection:
            settings = connection.scalars(sa.select(studies.c.settings))
            return {name for each in settings if (name := data_copies.copy_named(each)) is not None}

    def writer(
        self,
        study: str,
        settings: Mapping[str, Any],
        measures: Iterable[Measure] = (),
        files: str | PathLike[str] | None = None,
    ) -> StudyWriter:
        """Begin or continue a study; creates store, study and its folder of files as needed.

        Parameters
        ----------
        study : str
            Name: 1 to 100 letters, digits, dots, underscores and hyphens.
        settings : mapping
            Plain JSON data. Names that begin with ``_`` may differ when a study is continued; the newest are kept.
        measures : iterable of Measure
            Measures that the evaluator declares; its own are stored with the study.
        files : str or path, optional
            Path or URL of fsspec: the study's files are in the folder STUDY there. By default, they stay where they
            are, or are beside the store. A study that is continued has its files there already.

        Returns
        -------
        StudyWriter
            The only writer of the study; use it as a context manager.

        Raises
        ------
        SettingsDiffer
            If the study has other settings.
        StoreError
            If another process writes the study, if the store's folder is missing, or if the store or the files cannot
            be written.
        """
        from results.writer import StudyWriter

        named = None if files is None else place(files)
        return StudyWriter(self._location, check_name(study), settings, measures, named)

    def check_writer(
        self,
        study: str,
        settings: Mapping[str, Any],
        measures: Iterable[Measure] = (),
        files: str | PathLike[str] | None = None,
    ) -> None:
        """Make all checks of :meth:`writer`. Nothing is written or upgraded.

        Parameters
        ----------
        study, settings, measures, files
            As for :meth:`writer`.

        Raises
        ------
        SettingsDiffer, StoreError
            As :meth:`writer`.
        """
        from results.preflight import check_writer

        check_writer(self._location, check_name(study), settings, measures, None if files is None else place(files))

    def older_version(self) -> int | None:
        """The version of the store's schema, if the next reader will upgrade it.

        Returns
        -------
        int or None
            None if the schema is of the present version, or if there is no store.
        """
        from results.preflight import older_version

        return older_version(self._location)

    def merge(
        self,
        *others: str | PathLike[str] | Store,
        study: str | Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        done: Callable[[MergedStudy], object] | None = None,
    ) -> list[MergedStudy]:
        """Copy the studies of other stores into this one: rows, trained networks, checkpoints and data in memory.

        Keys stay the same, so that a network is loaded by study and key; a study can be resumed here. This store is
        created if it does not exist. The others are not changed, except that one of an older schema is upgraded, as by
        every reader.

        Parameters
        ----------
        *others : str, path or Store
            The other stores, on SQLite or PostgreSQL.
        study : str or sequence of str, optional
            Only studies of these names, which every other store must have. By default all.
        rename : mapping of str to str, optional
            Name in the other store → name here.
        done : callable, optional
            Called after every study.

        Returns
        -------
        list of MergedStudy
            What became of each study.

        Raises
        ------
        StoreError
            If this store has another study of a name, or a copy of a study that was continued in both stores; both are
            merged under a new name by `rename`. If a study is being written in either store, or its files are not on
            this machine. Studies that were merged before stay merged.

        Notes
        -----
        A study is recognised by its identity, not by its name. If it is here already with all results of the other
        store, nothing is done; if it was continued there, it is replaced here. A study appears here completely or not
        at all; after an interruption, the same call continues, and does not copy again what it has copied.
        """
        from results.merging.merge import Merger, Source

        opened = [each if isinstance(each, Store) else Store(each) for each in others]
        here, *sources = (Source(location=each._location, reading=each._reading) for each in (self, *opened))
        names = [study] if isinstance(study, str) else None if study is None else list(study)
        merged = []
        for each in Merger(here, self._named_copies).merge(sources, names, dict(rename or {})):
            merged.append(each)
            if done is not None:
                done(each)
        return merged

    def delete(self, study: str) -> None:
        """Delete a study's rows, then its files, unless its folder may belong to another study.

        Parameters
        ----------
        study : str
            Name of the study.

        Raises
        ------
        StoreError
            If the study is unknown or being written.
        """
        from results.merging.rows import delete_rows

        with self._reading() as connection:
            row = study_row(connection, study)
        number, folder = row.id, study_folder.folder_of(self._location, study, row)
        kept = study_folder.why_kept(folder, self._location, study, row)
        with (
            connections.clear_errors(self._location),
            study_lock(self._location, study),
            connections.engine(self._location, writing=True).begin() as connection,
        ):
            if self._location.file is None:
                acquire_advisory(connection, study)
            delete_rows(connection, number)
        if kept:
            _log.warning("%s", kept)
        elif folder.exists():
            with connections.clear_errors(self._location):
                remove_all(folder)
        data_copies.remove_unnamed(self._location, self._named_copies)


def open_store(url: str | PathLike[str]) -> Store:
    """Name a results store; nothing is read or created until it is used. The same as ``results.open``.

    Parameters
    ----------
    url : str or path
        Path of a file, ``sqlite:///nas.db`` or ``postgresql://user@host/database``.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        If the URL is neither SQLite in a file nor PostgreSQL.

    Examples
    --------
    >>> open_store("sqlite:////work/nas.db")
    results.open('/work/nas.db')
    """
    return Store(url)
