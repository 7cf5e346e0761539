"""Files of users: the paths that they name, and folders that are written without harm to files of other origin.

In a path, "~" is the user's home folder, and every other text is taken as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from nas.errors import EnvironmentFault, UserError

MANIFEST = "manifest.json"
"""Lists the files of a folder that were written here: later writes may replace these files and no other files."""
_ENTRY = "files of anytime-nas"
_UNFINISHED = ".unfinished-"

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
    old = _listed(folder)
    foreign = [name for name in names if (folder / name).exists() and name not in old]
    if foreign:
        raise _occupied(folder, foreign[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
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
    if folder.is_dir() and not _listed(folder):
        foreign = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(_UNFINISHED))
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


def _listed(folder: Path) -> list[str]:
    """The files in the manifest of a folder: relative names inside of it; none without a valid manifest."""
    try:
        names = json.loads((folder / MANIFEST).read_text())[_ENTRY]
        valid = not any(PurePath(name).is_absolute() or ".." in PurePath(name).parts for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return list(names) if valid else []


def _write_manifest(folder: Path, unfinished: Path, names: list[str]) -> None:
    _write(unfinished / MANIFEST, lambda path: path.write_text(json.dumps({_ENTRY: names}, indent=1)))
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
