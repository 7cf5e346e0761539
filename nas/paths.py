"""Paths that users name: "~" is their home folder, and every other text is taken as it is."""

from __future__ import annotations

import os
from pathlib import Path

from nas.errors import UserError


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
