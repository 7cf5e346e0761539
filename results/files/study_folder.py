"""The folder of a study's files: its place, and a file in it that names the study to which it belongs."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from results.connection import Location
from results.errors import StoreError
from results.files.places import OWNER, Place, RemotePath, place
from results.schema import candidates, evaluations


def new_identity() -> str:
    """A random text that no other study has."""
    return uuid.uuid4().hex


def folder_of(location: Location, study: str, row: sa.Row[Any] | None, files: Place | None = None) -> Place:
    """The folder of a study: where it was created; beside the database if it is a file, so that both may be moved.

    row: of the study, None if it is not in the store. files: the place of the studies' folders that the user names,
    None for the present one.
    """
    if files is not None:
        return files / study
    return place(row.folder) if row is not None and row.folder else location.files / study


def stored_text(folder: Place, location: Location, study: str) -> str | None:
    """The folder of a study as the store keeps it: None beside a database that is a file."""
    beside = location.file is not None and folder == location.files / study
    return None if beside else str(folder)


def belongs_to(folder: Place, location: Location, study: str, identity: str | None) -> bool:
    """Whether a study owns the folder. identity: None for a study of an older version."""
    owner = _owner(folder)
    if owner is None:
        partial = f"{OWNER}."
        return identity is None or not folder.is_dir() or all(p.name.startswith(partial) for p in folder.iterdir())
    if identity is None:  # killed when the folder named it, and the store did not yet
        return (owner.get("study"), owner.get("store")) == (study, location.label)
    return owner.get("identity") == identity


def why_kept(folder: Place, location: Location, study: str, row: sa.Row[Any]) -> str:
    """Why the folder of a deleted study is kept; empty if it is the study's own."""
    if not belongs_to(folder, location, study, row.identity):
        return f"The folder {folder} belongs to another study. It is kept."
    if location.file is None and not row.folder:
        return (
            f"Study {study!r} of an older version does not say where its folder is. It is kept: delete "
            f"nas.files/{study} in the working directory of its search."
        )
    return ""


def check_owner(folder: Place, location: Location, study: str, identity: str | None) -> None:
    """Raise StoreError if the folder belongs to another study. identity: new for a new study."""
    if not belongs_to(folder, location, study, identity):
        raise StoreError(
            f"A study has a folder of its own. {folder} belongs to {_described(_owner(folder) or {})}, not to "
            f"{study!r} of this store. Move or delete the folder, or choose another name."
        )


def checked_folder(
    connection: sa.Connection, location: Location, study: str, row: sa.Row[Any] | None, files: Place | None = None
) -> Place:
    """The folder of a study that is begun or continued. row: of the study, None if it is begun.

    files: as for :func:`folder_of`. Raises StoreError if the folder belongs to another study, if the study has trained
    networks and it is missing, or if the study's files are in another place than the user names.
    """
    folder, present = folder_of(location, study, row, files), folder_of(location, study, row)
    if row is not None and folder != present:
        owner = _owner(folder)
        if owner is None or owner.get("identity") != row.identity:
            raise StoreError(
                f"The files of study {study!r} are in {present}. Got --files with {folder}, where they are not: copy "
                "them there first, or leave out --files."
            )
    check_owner(folder, location, study, new_identity() if row is None else row.identity)
    if row is None or folder.is_dir():
        return folder
    kept = sa.select(evaluations.c.weights).join_from(evaluations, candidates)
    kept = kept.where(candidates.c.study_id == row.id, evaluations.c.weights.is_not(None))
    if connection.execute(kept.limit(1)).first():
        remedy = "restore it"
        if not isinstance(folder, RemotePath):
            remedy = "continue where it is, restore it, or make an empty folder to continue without these networks"
        raise StoreError(f"Study {study!r} needs its folder of trained networks. {folder} is missing: {remedy}.")
    return folder


def claim(folder: Place, location: Location, study: str, identity: str | None) -> str:
    """Make the folder, and write the study's identity into it, unless it holds it; returns the identity.

    identity: None for a study of an older version, which gets a new one. Raises StoreError if another process has
    claimed the folder first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / OWNER
    if not path.exists():
        owner = {"identity": identity or new_identity(), "study": study, "store": location.label}
        if isinstance(path, RemotePath):
            path.create_text(json.dumps(owner))
        else:
            _create(path, json.dumps(owner), owner["identity"])
    check_owner(folder, location, study, identity)
    return identity or str((_owner(folder) or {})["identity"])


def _create(path: Path, text: str, mark: str) -> None:
    """Write a file unless it exists. mark: what no other process has."""
    partial = path.with_name(f"{path.name}.{mark}")
    partial.write_text(text, encoding="utf-8")
    try:
        os.link(partial, path)  # fails if the file exists, which a renaming would replace
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(partial, path)
    partial.unlink(missing_ok=True)


def _owner(folder: Place) -> dict[str, Any] | None:
    """The study that a folder names; None if it names none. Raises StoreError if the file cannot be read."""
    path = folder / OWNER
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreError:
        raise
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} must name the study of its folder. It cannot be read: {error}.") from error
    return owner if isinstance(owner, dict) else {}


def _described(owner: dict[str, Any]) -> str:
    return f"study {owner.get('study')!r} of {owner.get('store')}" if owner.get("study") else "an unknown study"
