"""Merging the studies of other stores into one: names are checked first, then one study after the other is copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from results import connection as connections
from results import data_copies, migrations
from results.connection import Location
from results.errors import StoreError
from results.files import study_folder
from results.files.places import Place, RemotePath
from results.lock import acquire_advisory, check_free, creation_lock, study_lock
from results.merging import files, plan, rows
from results.schema import studies


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedStudy:
    """What became of a study of another store.

    Parameters
    ----------
    study : str
        Its name here.
    origin : str
        Its name there.
    store : str
        The other store.
    outcome : str
        ``new``; ``continued``: it was here, with fewer results; ``present``: it was here, with all results.
    candidates, networks : int
        Rows of candidates, and trained networks, that were copied.
    """

    study: str
    origin: str
    store: str
    outcome: str
    candidates: int = 0
    networks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A store. reading: opens a snapshot of it."""

    location: Location
    reading: Callable[[], AbstractContextManager[sa.Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """A study that is copied. name, identity: here. row: of the study there. present: its row here, if any."""

    name: str
    identity: str
    row: sa.Row[Any]
    present: sa.Row[Any] | None


class Merger:
    """Merges studies into a store, which is created if it does not exist.

    here: the store. named: returns the file names of the copies of data that its studies name.
    """

    def __init__(self, here: Source, named: Callable[[], Collection[str]]) -> None:
        self._location, self._reading, self._named = here.location, here.reading, named

    def merge(
        self, sources: Sequence[Source], names: list[str] | None, rename: Mapping[str, str]
    ) -> Iterator[MergedStudy]:
        """Merge studies. names: of the studies; None: all. rename: name there → name here."""
        self._check(sources, names, rename)
        for source in sources:
            with source.reading() as there:
                chosen = [row.name for row in plan.chosen_rows(there, source.location, names)]
            for name in chosen:
                yield self._merge_study(source, name, rename)

    def _check(self, sources: Sequence[Source], names: list[str] | None, rename: Mapping[str, str]) -> None:
        """Raise StoreError for any conflict of names that can be seen before anything is copied."""
        if len(set(rename.values())) < len(rename):
            raise StoreError(f"Studies are renamed to different names. Got {dict(rename)}.")
        present = self._present()
        taken: dict[str, tuple[str, Location]] = {}
        renamed: set[str] = set()
        for source in sources:
            if _same(source.location, self._location):
                raise StoreError(f"A store is merged into another one. Got {source.location.label} for both.")
            with source.reading() as there:
                for row in plan.chosen_rows(there, source.location, names):
                    name, identity = plan.name_here(present, row, source.location, rename)
                    first, _ = taken.setdefault(name, (identity, source.location))
                    if first != identity:
                        raise StoreError(
                            f"A store holds one study of each name. {name!r} is another study in "
                            f"{source.location.label} than in {taken[name][1].label}. "
                            f"{plan.renaming(source.location, row.name)}"
                        )
                    renamed.add(row.name)
        if unknown := set(rename) - renamed:
            raise StoreError(f"A study that is renamed must be merged. Got {', '.join(sorted(unknown))}.")

    def _merge_study(self, source: Source, origin: str, rename: Mapping[str, str]) -> MergedStudy:
        with source.reading() as there:
            (row,) = plan.chosen_rows(there, source.location, [origin])
            with suppress(OSError):  # a folder that is read-only: nobody writes there
                check_free(there, source.location, origin)
            name, identity = plan.name_here(self._present(), row, source.location, rename)
            merged = MergedStudy(study=name, origin=origin, store=source.location.label, outcome="present")
            with connections.clear_errors(self._location), self._locked(name) as here:
                present = here.execute(sa.select(studies).where(studies.c.name == name)).first()
                further = present is None or plan.is_further(there, row, here, present, source.location)
                here.rollback()
                if not further:
                    return merged
                study = _Study(name=name, identity=identity, row=row, present=present)
                candidates, networks = self._copy(source, there, here, study)
        outcome = "new" if present is None else "continued"
        return replace(merged, outcome=outcome, candidates=candidates, networks=networks)

    def _copy(self, source: Source, there: sa.Connection, here: sa.Connection, study: _Study) -> tuple[int, int]:
        """Copy the files and then the rows of a study; both appear at once.

        Returns the numbers of candidates and of trained networks.
        """
        location, row, present = self._location, study.row, study.present
        folder = study_folder.folder_of(location, study.name, present)
        study_folder.check_owner(folder, location, study.name, present.identity if present else study.identity)
        origin = study_folder.checked_folder(there, source.location, row.name, row)
        if folder == origin and present is None:
            raise StoreError(
                f"A study has a folder of its own. {row.name!r} would have its files in {folder} in both stores. "
                f"{plan.renaming(source.location, row.name)} Or merge in another working directory."
            )
        with ExitStack() as stack:
            settings = self._with_data(stack, source.location, row.settings)
            if folder != origin:
                copy = files.staged(_local(folder, study.name), origin, location, study.name, study.identity)
            _check_unchanged(source, row)

            def is_final() -> bool:
                try:
                    stored = self._present().get(study.name)
                except StoreError:  # not known: with the new files, the next merge mends it
                    return True
                return stored is not None and stored.updated_at == row.updated_at

            with here.begin():
                if present is not None:
                    rows.delete_rows(here, present.id)
                values = dict(row._mapping) | {"name": study.name, "identity": study.identity}
                values |= {
                    "id": present.id if present else None,
                    "folder": study_folder.stored_text(folder, location, study.name),
                    "activity": None,
                }
                number = _inserted(here, values)
                ids = rows.copy_rows(there, here, row.id, number)
                settings, memo = rows.with_new_ids(settings, row.memo, ids)
                mine = studies.c.id == number
                here.execute(sa.update(studies).where(mine).values(settings=settings, memo=memo))
                counts = len(ids), rows.networks_of(here, number)
                if folder != origin:
                    stack.enter_context(files.in_place(_local(folder, study.name), copy, is_final))
        return counts

    def _with_data(self, stack: ExitStack, other: Location, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a study; a copy of its data is copied, and kept until the stack is closed."""
        present = data_copies.with_present_copy(other, settings)
        name, path = data_copies.copy_named(present), Path(str(present.get("data")).partition(":")[2])
        if name is None or data_copies.FOLDER not in path.parts[-3:-1] or not path.exists():
            return dict(settings)

        def write(partial: Path) -> None:
            shutil.copyfile(path, partial)

        stem = name.removesuffix(".npz")
        copy = stack.enter_context(data_copies.kept_copy(self._location, stem, write, self._named))
        return {**settings, "data": f"npz:{copy}"}

    def _present(self) -> dict[str, sa.Row[Any]]:
        """The studies of the store by name; none if it does not exist."""
        location = self._location
        if location.file is not None and not location.file.exists():
            return {}
        with connections.clear_errors(location), connections.engine(location, writing=False).connect() as connection:
            if not migrations.holds_tables(connection, location):
                return {}
        with self._reading() as connection:
            return {row.name: row for row in connection.execute(sa.select(studies))}

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A connection to the store, with its tables."""
        location = self._location
        if location.file is not None:
            connections.check_folder(location.file.parent)
        with connections.clear_errors(location), creation_lock(location):
            engine = connections.engine(location, writing=True)
            with engine.begin() as connection:
                migrations.create_or_upgrade(connection, location)
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def _locked(self, study: str) -> Iterator[sa.Connection]:
        """A connection of the only writer of a study."""
        with study_lock(self._location, study), self._writing() as connection:
            if self._location.file is None:
                acquire_advisory(connection, study)
                connection.commit()
            yield connection


def _local(folder: Place, study: str) -> Path:
    """The folder of a study here. Raises StoreError if it has a URL, because it could not be replaced at once."""
    if isinstance(folder, RemotePath):
        raise StoreError(
            f"A study is merged into a folder of this machine. The files of {study!r} are in {folder}: merge it into "
            "another store, or under another name."
        )
    return folder


def _inserted(connection: sa.Connection, values: dict[str, Any]) -> int:
    """Insert a study, with a new number if it has none; returns its number."""
    given = {name: value for name, value in values.items() if name != "id" or value is not None}
    inserted = connection.execute(sa.insert(studies).values(given))
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def _check_unchanged(source: Source, row: sa.Row[Any]) -> None:
    """Raise StoreError if a study has changed since its rows were read: its files would not fit."""
    with source.reading() as there:
        changed = there.scalar(sa.select(studies.c.updated_at).where(studies.c.name == row.name))
    if changed != row.updated_at:
        raise StoreError(
            f"A study must not change while it is merged. {row.name!r} of {source.location.label} has been continued: "
            "merge it when its search has ended."
        )


def _same(one: Location, other: Location) -> bool:
    """Whether two names are of one store."""
    if one.file is not None and other.file is not None:
        return one.file == other.file or (one.file.exists() and other.file.exists() and one.file.samefile(other.file))
    return one.url is not None and one.url == other.url
