"""A results store: its frames, the settings and networks of its studies, and writing and deleting studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from results import connection as connections
from results import data_copies
from results.files import study_folder
from results.files.places import place, remove_all
from results.lock import acquire_advisory, study_lock
from results.lookups import check_name, study_row
from results.measures import Measure
from results.pruning import Prunable, forget_weights, prunable, remove
from results.reading.comparisons import Comparisons
from results.reading.figures import Figures
from results.reading.store_frames import StoreFrames
from results.reading.store_studies import StoreStudies
from results.schema import studies

if TYPE_CHECKING:
    from results.merging.merge import MergedStudy
    from results.writer import StudyWriter


_log = logging.getLogger("results")


class Store(StoreStudies, StoreFrames, Comparisons, Figures):
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

    def prunable(self, study: str) -> Prunable:
        """The files that :meth:`prune` would delete.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        results.pruning.Prunable
        """
        with self._reading() as connection:
            row = study_row(connection, study)
        folder, best = study_folder.folder_of(self._location, study, row), self.best(study)
        needed = {*self.front(study).candidate, *([best.key] if best else [])}
        return prunable(folder, needed)

    def prune(self, study: str) -> Prunable:
        """Delete the trained networks and the checkpoints of candidates that are neither on the front nor the best.

        Their results stay. A study that is resumed trains the candidates again that it needs.

        Parameters
        ----------
        study : str
            Name of the study.

        Returns
        -------
        results.pruning.Prunable
            The deleted files.

        Raises
        ------
        StoreError
            If the study is unknown or being written, or its folder belongs to another study.
        """
        with self._reading() as connection:
            row = study_row(connection, study)
        folder = study_folder.folder_of(self._location, study, row)
        study_folder.check_owner(folder, self._location, study, row.identity)
        with connections.clear_errors(self._location), self._alone(study) as connection:
            found = self.prunable(study)
            with connection.begin():
                forget_weights(connection, row.id, found.keys)
            remove(folder, found.keys)
        return found

    @contextmanager
    def _alone(self, study: str) -> Iterator[sa.Connection]:
        """A connection for writing, while no other process writes the study. Raises StoreError if one does."""
        with (
            study_lock(self._location, study),
            connections.engine(self._location, writing=True).connect() as connection,
        ):
            if self._location.file is None:
                acquire_advisory(connection, study)
                connection.commit()
            yield connection

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
        with connections.clear_errors(self._location), self._alone(study) as connection, connection.begin():
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
