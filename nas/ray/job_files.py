"""The files of a job on their way between the driver and a worker that shares no file system with it.

The driver keeps the folder of a job. A worker has a working folder of its own, and sends its files: the checkpoint from
time to time, and everything at the end.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from nas.files import MANIFEST

Files = dict[str, np.ndarray]
"""Contents by relative path, as bytes in arrays, which Ray does not copy on a node."""
PREFIX = "anytime-nas-"


def read_files(folder: str | Path, *, only: str | None = None) -> Files:
    """The files of a folder, without temporary ones; nothing if it does not exist. only: the name of one file."""
    root = Path(folder)
    paths = [root / only] if only else sorted(root.rglob("*"))
    return {
        str(path.relative_to(root)): np.fromfile(path, np.uint8)
        for path in paths
        if path.is_file() and not path.name.endswith(".tmp")
    }


def write_files(folder: str | Path, files: Mapping[str, np.ndarray]) -> None:
    """Write files into a folder, each at once; the manifest last, so that a network is whole when it has one."""
    for name in sorted(files, key=lambda name: (Path(name).name == MANIFEST, name)):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(files[name].data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def working_folder() -> str:
    """A new folder of this process. Those of processes of this node that were killed are removed."""
    root = Path(tempfile.gettempdir())
    prefix = f"{PREFIX}{platform.node()}-"  # nodes may share the folder of temporary files
    for folder in root.glob(f"{prefix}*"):
        process = folder.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-")


def _runs(process: int) -> bool:
    with suppress(PermissionError):  # of another user
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
