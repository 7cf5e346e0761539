"""Files and folders that are a local path or a URL of fsspec, such as ``s3://bucket/folder``.

fsspec and the package of a protocol are imported only for URLs. A local folder, also as ``file://``, is a path.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from results.errors import StoreError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LOCAL = ("file", "local")
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "ocilake", "tos", "b2")
"""Protocols without folders, which show a file only when it is complete; others need a folder and a renaming."""
_EXTRAS = {"s3": "anytime-nas[s3]", "s3a": "anytime-nas[s3]"}
_PART = re.compile(r"\.[0-9a-f]{32}\.part$")
OWNER = "study.json"
"""The file in a study's folder that names the study."""


class FilesUnreachable(StoreError):
    """The place of a study's files does not answer; it may do so later."""


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file or folder with a URL; its methods are those of :class:`pathlib.Path`.

    Parameters
    ----------
    url : str
        Without a final slash.

    Raises
    ------
    StoreError
        By every method, for any error of the connection, in one line; FilesUnreachable, if it may pass.
        FileNotFoundError by methods that read.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    def resolve(self) -> RemotePath:
        """The same: a URL is absolute."""
        return self

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self._kind() is not None

    def is_dir(self) -> bool:
        """Whether there is a folder; in an object store, any file below it."""
        return self._kind() == "directory"

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder. An object store has none: its buckets are not created."""
        fs, path = self._system()
        if self._has_folders:
            with self._clear_errors(writing=True):
                fs.makedirs(path, exist_ok=exist_ok)

    def iterdir(self) -> Iterator[RemotePath]:
        """Files and folders in the folder."""
        return iter([self / name for name in dict.fromkeys(name.partition("/")[0] for name in self.names())])

    def names(self) -> list[str]:
        """Relative names of all files below the folder, sorted; empty without a folder."""
        fs, path = self._system()
        with self._clear_errors():
            try:
                found = fs.find(path)
            except FileNotFoundError:
                return []
        below = (str(each).removeprefix(f"{path}/") for each in found if str(each).startswith(f"{path}/"))
        return sorted(name for name in below if not name.endswith("/") and not _PART.search(name))

    def size(self) -> int:
        """Bytes of all files below the folder."""
        fs, path = self._system()
        with self._clear_errors():
            return int(fs.du(path, total=True))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The text of a file."""
        fs, path = self._system()
        with self._clear_errors():
            return bytes(fs.cat_file(path)).decode(encoding)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Replace a file; readers see the old text or the new one."""
        self._replace(lambda fs, path: fs.pipe_file(path, text.encode(encoding)))

    def create_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write a file unless it exists; of several processes, one writes it if the protocol supports that."""
        fs, path = self._system()
        if self.exists():
            return
        with self._clear_errors(writing=True):
            try:
                fs.pipe_file(path, text.encode(encoding), mode="create")
            except FileExistsError:
                return
            except (TypeError, NotImplementedError):  # an old package, or a server that cannot
                fs.pipe_file(path, text.encode(encoding))

    def fetch(self, target: Path) -> None:
        """Copy the file to a local path."""
        fs, path = self._system()
        with self._clear_errors():
            fs.get_file(path, str(target))

    def send(self, source: Path) -> None:
        """Replace the file by a copy of a local one; readers see the old file or the new one."""
        self._replace(lambda fs, path: fs.put_file(str(source), path))

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete a file."""
        fs, path = self._system()
        with self._clear_errors():
            try:
                fs.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_all(self) -> None:
        """Delete a folder with all files in it; does nothing if there is none."""
        fs, path = self._system()
        with self._clear_errors():
            try:
                fs.rm(path, recursive=True)
            except FileNotFoundError:
                return

    def check_writable(self) -> None:
        """Raise StoreError unless files can be written, read and deleted here: a small one is."""
        if self._has_folders and not self.exists() and "/" in self.url.partition("://")[2]:
            RemotePath(self.url.rpartition("/")[0]).check_writable()  # nothing is left behind
            return
        fs, path = self._system()
        probe = f"{path}/{OWNER}.{uuid.uuid4().hex}"
        with self._clear_errors(writing=True):
            fs.pipe_file(probe, b"probe")
            fs.cat_file(probe)
            fs.rm_file(probe)

    @property
    def _has_folders(self) -> bool:
        return self.url.partition("://")[0] not in _OBJECT_STORES

    def _system(self) -> tuple[Any, str]:
        """The file system, without listings from before, and the path in it."""
        system, path = _file_system(self.url)
        system.invalidate_cache()
        return system, path

    def _kind(self) -> str | None:
        """'file', 'directory', or None if there is neither."""
        fs, path = self._system()
        with self._clear_errors():
            try:
                return str(fs.info(path)["type"])
            except FileNotFoundError:
                return None

    def _replace(self, write: Callable[[Any, str], object]) -> None:
        """Write a file with a function of a file system and a path."""
        fs, path = self._system()
        with self._clear_errors(writing=True):
            if not self._has_folders:
                write(fs, path)
                return
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            part = f"{path}.{uuid.uuid4().hex}.part"
            write(fs, part)
            try:
                fs.mv(part, path)
            except FileExistsError:  # a protocol that renames only to a new name
                fs.rm_file(path)
                fs.mv(part, path)

    @contextmanager
    def _clear_errors(self, *, writing: bool = False) -> Iterator[None]:
        """Turn any error into a StoreError. writing: also a missing file, which can only be the bucket."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # any error of any protocol
            if isinstance(error, FileNotFoundError) and not writing:
                raise
            raise _explained(self.url, error) from error


Place = Path | RemotePath
"""A local path or a URL."""


def is_url(text: object) -> bool:
    """Whether a text names a place by URL."""
    return isinstance(text, str) and _URL.match(text) is not None


def place(text: str | os.PathLike[str] | RemotePath) -> Place:
    """The place with a name: an absolute path or a URL. Nothing is read.

    Parameters
    ----------
    text : str or path
        A path, which may begin with "~", or a URL.

    Returns
    -------
    pathlib.Path or RemotePath

    Raises
    ------
    StoreError
        For an unknown protocol, a protocol whose package is missing, and a URL that names no folder.

    Examples
    --------
    >>> place("file:///work/runs")
    PosixPath('/work/runs')
    >>> str(place("memory://runs/"))
    'memory://runs'
    """
    if isinstance(text, RemotePath):
        return text
    name = os.fspath(text)
    if not is_url(name):
        if "://" in name or "\0" in name:
            raise StoreError(f"A place of files must be a path or a URL such as s3://bucket/folder. Got {name!r}.")
        return Path(os.path.abspath(os.path.expanduser(name)))
    _check_url(name)
    path = _file_system(name)[1]
    if name.partition("://")[0] in _LOCAL:
        return Path(os.path.abspath(path))
    return RemotePath(name.rstrip("/"))


def replace_text(file: Place, text: str) -> None:
    """Write a file, so that readers see the old text or the new one. Raises OSError or StoreError."""
    if isinstance(file, RemotePath):
        file.write_text(text)
        return
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def remove_all(folder: Place) -> None:
    """Delete a folder with all files in it."""
    if isinstance(folder, RemotePath):
        folder.remove_all()
    else:
        shutil.rmtree(folder)


def _check_url(url: str) -> None:
    """Raise StoreError for a URL that names no folder, or that holds a password, which the store would keep."""
    parts = urlsplit(url)
    if parts.password is not None:
        shown = url.replace(f":{parts.password}@", ":***@")
        raise StoreError(
            f"A URL of files must not hold a password, because the store keeps the URL. Got {shown}: put the password "
            "into the environment, or into the configuration of fsspec."
        )
    if not url.partition("://")[2].strip("/"):
        raise StoreError(f"A URL of files must name a folder, such as s3://bucket/folder. Got {url}.")
    if set("*?[]#\0") & set(url) or ".." in url.split("/"):
        raise StoreError(f"A URL of files must not have wildcards, '#' or '..'. Got {url!r}.")


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises StoreError for an unknown protocol or a missing package."""
    from fsspec.core import url_to_fs
    from fsspec.registry import available_protocols, known_implementations

    protocol = url.partition("://")[0]
    if protocol not in available_protocols():
        raise StoreError(
            f"A URL of files needs a protocol that fsspec knows. Got {url}, with {protocol!r}. "
            "Examples: s3://bucket/folder, gs://bucket/folder, sftp://host/folder."
        )
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        reason = known_implementations.get(protocol, {}).get("err", str(error)).rstrip(".")
        remedy = f"pip install '{_EXTRAS[protocol]}'" if protocol in _EXTRAS else reason
        raise StoreError(f"The package of the protocol {protocol!r} is missing. Got {url}: {remedy}.") from error
    except Exception as error:  # any error of any protocol, such as a host that does not answer
        raise _explained(url, error) from error
    return system, str(path)


# names of the exception's classes or message, without paths → class, requirement and remedy
_EXPLANATIONS: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "quota|no space left|storage ?full|insufficient storage|disk is full",
        StoreError,
        "need space: free some, or raise the quota, and resume.",
    ),
    (
        "permission|credential|access ?denied|forbidden|authori[sz]|authenticat|anonymous|token|signature|\\b40[13]\\b",
        StoreError,
        "need credentials that may read, write and delete there. Set them on every machine, such as AWS_PROFILE or "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, and resume.",
    ),
    (
        "FileNotFound|NoSuchBucket|bucket does not exist|bucket is not valid",
        StoreError,
        "need an existing bucket or folder: create it, or correct the URL.",
    ),
    (
        "connect|time(d )?out|unreachable|resolve|endpoint|temporar|slow ?down|reset by peer|broken pipe|gaierror",
        FilesUnreachable,
        "cannot be reached: check the network and the endpoint, and resume.",
    ),
    ("NotImplemented|read-?only|not supported", StoreError, "need a protocol that writes, such as s3."),
)


def _explained(url: str, error: BaseException) -> StoreError:
    """An error of a file system as one clear line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    bases = [base.__name__ for base in type(error).__mro__[1:-3]]  # up to Exception
    words = " ".join([*bases, *(word for word in text.split() if "/" not in word)])
    for pattern, kind, meaning in _EXPLANATIONS:
        if re.search(pattern, words, re.IGNORECASE):
            return kind(f"The files in {url} {meaning} ({text:.300})")
    return StoreError(f"The files in {url} cannot be used: {text:.300}")
