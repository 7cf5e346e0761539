"""Copies of plug-ins' files from another machine: in this process, they take the place of the files that are named."""

from __future__ import annotations

from pathlib import Path

_copies: dict[str, Path] = {}


def use_copy(path: str, copy: Path) -> None:
    """Read a copy in place of a file.

    Parameters
    ----------
    path
        Absolute path of the file on the machine that it comes from, as in ``path:Name``.
    copy
        The copy on this machine.
    """
    _copies[path] = copy


def is_copied(path: str) -> bool:
    """Whether a copy takes the place of a file."""
    return path in _copies


def present_file(path: Path) -> Path:
    """The file to read: the copy, if there is one."""
    return _copies.get(str(path), path)
