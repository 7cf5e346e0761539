"""Tests share two cores: one torch thread each, or the threads wait for one another."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from nas.plugins import trust

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="nas-tests-")  # consent to plug-ins, apart from the developer's
for folder in ("tests/plugins", "tests/golden", "examples", "benchmarks"):
    trust(*Path(__file__).parents[1].joinpath(folder).glob("*.py"))

settings.register_profile("developer", deadline=None)  # the clock decides nothing on a busy machine
settings.register_profile("ci", settings.get_profile("developer"), derandomize=True)
# CI uses equal examples in every run; developers search with new examples.
settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture(scope="session")
def postgresql():
    """A running server, see tests/postgresql.py; a test that kills it starts it again."""
    from .postgresql import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server():
    """A running S3 server, see tests/s3.py; a test that stops it starts it again."""
    from .s3 import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The S3 server, which the environment names."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


def pytest_collection_modifyitems(items):
    """A slow test may take half an hour until it counts as hanging."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1800))


collect_ignore = ["plugins"]
"""Plug-ins that tests load by path; some of them fail at import, on purpose."""
