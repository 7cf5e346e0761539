"""Files of users: the paths that they name, and folders that are written without harm to files of other origin.

In a path, "~" is the user's home folder, and every other text is taken as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path, PurePath

from nas.errors import EnvironmentFault, UserError
from results.files.places import Place, RemotePath, is_url, place
from results.files.scratch import scratch_folder

MANIFEST = "manifest.json"
"""Lists the files of a folder that were written here: later writes may replace these files and no other files."""
_ENTRY = "files of anytime-nas"
_HASHES = "sha256"
UNFINISHED = ".unfinished-"
"""Beginning of the names of files and folders that an interruption leaves in the folder of a network."""
ATTEMPTS = 5
"""Copies of a network that is being replaced, with a second between them."""

Files = Mapping[str, Callable[[Path], object]]
"""Name of a file, relative to its folder → function that writes it to a path."""


def expanded(text: str | os.PathLike[str]) -> Path:
    """A path with "~" and "~user" replaced by home folders; unchanged for an unknown user, as in a shell.

    Raises
    ------
    UserError
        For a NUL character.

    Examples
    --------
    >>> expanded("~$d.npz")
    PosixPath('~$d.npz')
    """
    path = os.fspath(text)
    if "\0" in path:
        raise UserError(f"A path must not have a NUL character. Got {path!r}.")
    return Path(os.path.expanduser(path))


def absolute(text: str | os.PathLike[str]) -> Path:
    """The expanded path from the root, without symbolic links."""
    return Path(os.path.realpath(expanded(text)))


def write_folder(folder: str | Path, files: Files) -> None:
    """Write files to a folder, in place of all files that this function wrote to it before.

    Parameters
    ----------
    folder
        Created if needed.
    files
        Relative name → function that writes the file to a path.

    Raises
    ------
    UserError
        If a file of other origin would be replaced; nothing is changed.
    EnvironmentFault
        If the files cannot be written, as on a full disk; the files written before remain.

    Notes
    -----
    All files are complete under other names before the first one is renamed. Before, the manifest lists the old and the
    new files, so that an interruption leaves no file of other origin.
    """
    folder, names = Path(folder), [*files, MANIFEST]
    old = listed(folder)
    foreign = [name for name in names if (folder / name).exists() and name not in old]
    if foreign:
        raise _occupied(folder, foreign[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        try:
            for name, write in files.items():
                _write(unfinished / name, write)
            _write_manifest(folder, unfinished, [*dict.fromkeys([*old, *names])])
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(unfinished / name, folder / name)
            _delete(folder, set(old) - set(names))
            _write_manifest(folder, unfinished, names)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def check_folder(folder: str | Path) -> None:
    """Raise UserError unless a folder is new, is empty, or contains a network written by :func:`write_folder`.

    Raises EnvironmentFault if the folder is not writable.
    """
    folder = Path(folder)
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise UserError(f"The network needs a folder. Got {above}, which is a file.")
    if folder.is_dir() and not listed(folder):
        foreign = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(UNFINISHED))
        if foreign:
            raise _occupied(folder, foreign[0])
    from results.preflight import check_writable_below  # it needs sqlalchemy, which training does without

    try:
        check_writable_below(folder.absolute())
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"The folder of a network must be writable. Got {folder}: {error}.")


def _occupied(folder: Path, name: str) -> UserError:
    return UserError(
        "A network is written to a new or empty folder, or over a network that was written before. "
        f"Got {folder} with {name!r}: name another folder."
    )


def listed(folder: Path) -> list[str]:
    """The files in the manifest of a folder: relative names inside of it; none without a valid manifest."""
    try:
        return list(parsed_manifest((folder / MANIFEST).read_text()))
    except (OSError, ValueError):
        return []


def manifest_text(names: Iterable[str], hashes: Mapping[str, str] | None = None) -> str:
    """The content of a manifest. hashes: SHA-256 by name, by which readers at a URL notice that files are replaced."""
    return json.dumps({_ENTRY: list(names)} | ({} if hashes is None else {_HASHES: dict(hashes)}), indent=1)


def parsed_manifest(text: str) -> dict[str, str | None]:
    """The files in a manifest with their SHA-256: empty for a file that is being written, None without hashes.

    Raises ValueError if the manifest is not valid.
    """
    try:
        content = json.loads(text)
        names, hashes = content[_ENTRY], content.get(_HASHES)
        if any(PurePath(name).is_absolute() or ".." in PurePath(name).parts for name in names):
            raise ValueError("a name is outside of the folder")
        return {name: None if hashes is None else str(hashes.get(name, "")) for name in names}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no manifest: {error!r}") from error


def _write_manifest(folder: Path, unfinished: Path, names: list[str]) -> None:
    _write(unfinished / MANIFEST, lambda path: path.write_text(manifest_text(names)))
    os.replace(unfinished / MANIFEST, folder / MANIFEST)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    with open(path, "rb") as file:  # a rename must not reach the disk before the content
        os.fsync(file.fileno())


def _delete(folder: Path, names: set[str]) -> None:
    """Delete files that are no longer written, and the folders that this leaves empty."""
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        for parent in path.relative_to(folder).parents[:-1]:
            if (folder / parent).is_dir() and not any((folder / parent).iterdir()):
                (folder / parent).rmdir()


@contextmanager
def local_folder(folder: str | Place) -> Iterator[Path]:
    """The folder of a network on this machine: itself, or a copy of one with a URL, which is removed afterwards.

    A network that is replaced during the copy is copied again.

    Raises
    ------
    UserError
        If there is no complete network at the URL.
    results.StoreError
        If the URL cannot be used.
    """
    found = place(folder) if isinstance(folder, str) and is_url(folder) else folder
    if not isinstance(found, RemotePath):
        yield Path(found)
        return
    with scratch_folder() as scratch:
        for attempt in range(ATTEMPTS):
            if _copy(found, scratch):
                break
            if attempt + 1 == ATTEMPTS:
                raise UserError(
                    f"A network must be complete. {found} is being written, or was left by a killed worker: resume the "
                    "study."
                )
            time.sleep(1.0)
        yield scratch


def _copy(remote: RemotePath, folder: Path) -> bool:
    """Copy a network; whether all its files belong together."""
    try:
        files = parsed_manifest((remote / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise UserError(f"{remote} must be a folder that network.save wrote: it has no {MANIFEST}.") from error
    except ValueError as error:
        raise UserError(f"{remote} must be a folder that network.save wrote: {error}.") from error
    for name, expected in files.items():
        if name == MANIFEST:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            (remote / name).fetch(path)
        except FileNotFoundError:
            return False
        with open(path, "rb") as file:
            if expected is not None and file_digest(file, "sha256").hexdigest() != expected:
                return False
    return True
