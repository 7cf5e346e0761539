"""All checks of a study's writer without writing anything: for a preview of a search."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import sqlalchemy as sa

from results import connection as connections
from results import migrations, schema
from results.connection import Location
from results.files import study_folder
from results.files.places import Place, RemotePath
from results.lock import check_free
from results.measures import Measure, own_measures
from results.writing.session import check_continues


def check_writable(file: Path) -> None:
    """Raise OSError unless a file can be written, or created, and other files in its folder."""
    if file.exists() and not os.access(file, os.W_OK):
        raise PermissionError(f"Permission denied: {file}")
    with TemporaryFile(dir=file.parent):
        pass


def check_writable_below(folder: Path) -> None:
    """Raise OSError unless a folder can be made, if it does not exist, and written."""
    present = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not present.is_dir():
        raise NotADirectoryError(f"Not a directory: {present}")
    with TemporaryFile(dir=present):
        pass


def check_writer(
    location: Location,
    study: str,
    settings: Mapping[str, Any],
    measures: Iterable[Measure],
    files: Place | None = None,
) -> None:
    """Check that a writer of a study can be opened.

    A store of an older version is upgraded by the writer; its study is not compared.

    Parameters
    ----------
    location
        Of the store.
    study, settings, measures, files
        As for :class:`results.writer.StudyWriter`.

    Raises
    ------
    StoreError
        As the writer would.
    """
    declared = {measure.name: measure for measure in own_measures(measures)}
    folder = study_folder.folder_of(location, study, None, files)
    if location.file is not None:
        connections.check_folder(location.file.parent)
        _check_rights(location, folder)
        if not location.file.exists():
            study_folder.check_owner(folder, location, study, study_folder.new_identity())
            return
    with connections.clear_errors(location), connections.engine(location, writing=False).connect() as connection:
        check_free(connection, location, study)
        if not migrations.holds_tables(connection, location):
            return
        if migrations.stored_version(connection, location) != migrations.VERSION:
            return
        stored = connection.execute(sa.select(schema.studies).where(schema.studies.c.name == study)).first()
        _check_rights(location, study_folder.checked_folder(connection, location, study, stored, files))
    if stored is not None:
        check_continues(location, study, stored, settings, declared)


def older_version(location: Location) -> int | None:
    """The version of a store's schema if the next reader will upgrade it; None otherwise."""
    if location.file is not None and not location.file.exists():
        return None
    with connections.clear_errors(location), connections.engine(location, writing=False).connect() as connection:
        if not migrations.holds_tables(connection, location):
            return None
        version = migrations.stored_version(connection, location)
    return None if version == migrations.VERSION else version


def _check_rights(location: Location, folder: Place) -> None:
    """Raise StoreError unless the database and the folder of the study can be made or written."""
    try:
        if location.file is not None:
            check_writable(location.file)
        if isinstance(folder, RemotePath):
            folder.check_writable()
        else:
            check_writable_below(folder)
    except OSError as error:
        raise connections.explain(location, error) from error
