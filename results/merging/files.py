"""The files of a study in another store: copied beside the study's folder, then put into its place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from results.connection import Location
from results.files.places import OWNER, Place, RemotePath
from results.files.study_folder import belongs_to, claim

STAGING = ".merging"
"""Folder beside the folders of studies, in which copies are made; no study can have this name."""


def staged(folder: Path, source: Place, location: Location, study: str, identity: str) -> Path:
    """A complete copy of a study's files, which the folder of a study will be replaced by.

    Parameters
    ----------
    folder
        Of the study here.
    source
        Of the study there; it may be missing, or have a URL.
    location, study, identity
        Of the study here.

    Notes
    -----
    A copy that was interrupted is continued: files of equal size and time are kept. Files are copied, not linked,
    because a log is appended to, and plug-ins may write into their files.
    """
    copy = folder.parent / STAGING / study
    if copy.exists() and not belongs_to(copy, location, study, identity):
        shutil.rmtree(copy)
    claim(copy, location, study, identity)
    names = set(_files(source))
    for name in set(_files(copy)) - names:
        (copy / name).unlink()
    for name in sorted(names):
        if isinstance(source, RemotePath):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).fetch(copy / name)
        else:
            _copy(source / name, copy / name)
    return copy


@contextmanager
def in_place(folder: Path, copy: Path, is_final: Callable[[], bool]) -> Iterator[None]:
    """Put a staged copy into the place of a folder.

    Undone if the context is left by an exception, unless the change is final nevertheless, as is_final then says.
    """
    former = copy.with_name(f"{copy.name}.former")
    if former.exists():
        shutil.rmtree(former)
    try:
        if folder.exists():
            os.rename(folder, former)
        os.rename(copy, folder)
        yield
    except BaseException:
        if not is_final():
            if not copy.exists():
                os.rename(folder, copy)
            if former.exists():
                os.rename(former, folder)
        raise
    if former.exists():
        shutil.rmtree(former)
    if not any(copy.parent.iterdir()):
        copy.parent.rmdir()


def _files(folder: Place) -> Iterator[str]:
    """Relative names of all files below a folder, except those that name its study."""
    if isinstance(folder, RemotePath):
        names = iter(folder.names())
    else:
        walked = os.walk(folder, followlinks=True)
        names = (str(Path(place, name).relative_to(folder)) for place, _, below in walked for name in below)
    return (name for name in names if not (name == OWNER or name.startswith(f"{OWNER}.")))


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its time, unless it has been copied already."""
    there = source.stat()
    if target.exists():
        here = target.stat()
        if (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copy2(source, partial)
    os.replace(partial, target)
