"""A PostgreSQL server of the tests' own, from the package pgserver: no service, no port, no rights are needed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

NOBODY = 65534  # PostgreSQL refuses to run as root
OPTIONS = ("fsync=off", "shared_buffers=16MB", "max_connections=30", "listen_addresses=")


class Server:
    """A server that listens on a socket in a folder of its own. `stop` ends it and removes the folder."""

    def __init__(self) -> None:
        installed = _programs()
        self.folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir="/tmp"))  # a short path: sockets allow 100 characters
        self._identity = {}
        if os.getuid() == 0:  # the programs may lie in a folder that only root can enter
            shutil.copytree(installed.parents[1] / "pgserver.libs", self.folder / "pgserver.libs")
            self._programs = shutil.copytree(installed, self.folder / "pgserver" / "pginstall") / "bin"
            os.chown(self.folder, NOBODY, NOBODY)
            self._identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        else:
            self._programs = installed / "bin"
        self._data = self.folder / "data"
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=nas", "--auth=trust", "--encoding=UTF8", "--no-sync"
        )
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self.folder, capture_output=True, text=True, **self._identity
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the server, also after `kill`; return when it accepts connections."""
        settings = (word for option in OPTIONS for word in ("-c", option))
        command = [self._programs / "postgres", "-D", self._data, "-k", self.folder, *settings]
        while not self._answers():
            if self._process is None or self._process.poll() is not None:  # old backends may still hold the data
                with open(self.folder / "log.txt", "ab") as log:
                    self._process = subprocess.Popen(command, cwd=self.folder, stderr=log, **self._identity)
            time.sleep(0.05)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(host=str(self.folder), user="nas", dbname="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Kill the server, as the system does if memory runs out."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End the server and remove its files."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of a database of its own, empty."""
        self._databases += 1
        name = f"nas{self._databases}"
        self._run("createdb", "--host", str(self.folder), "--username=nas", name)
        return f"postgresql://nas@/{name}?host={self.folder}"


def _programs() -> Path:
    """The folder of the server's programs. Skips the test without the packages; in CI they must be there."""
    missing = [name for name in ("pgserver", "psycopg") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"The tests of PostgreSQL need the package {' and '.join(missing)}: pip install -e '.[dev]'."
        if os.environ.get("CI") and sys.version_info < (3, 13):  # pgserver has no newer wheels
            pytest.fail(message)
        pytest.skip(message)
    found = importlib.util.find_spec("pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall"
