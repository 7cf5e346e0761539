"""Fixtures of searches; see searching.py."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from nas import launch
from nas.audit import study_audit
from nas.cli import main
from nas.cli.stopping import STOPS
from nas.evaluation.jobs import Job
from nas.plugins import load_plugin
from nas.representation.elements import Task
from nas.screening import budgets
from nas.spaces.choices import Domains, Recorder, at_random

from .searching import InProcess, space


@pytest.fixture
def store(tmp_path):
    """The path of a store that does not exist yet, in a folder of its own."""
    return tmp_path / "nas.db"


@pytest.fixture
def in_process(monkeypatch):
    """Searches train in this process: a tenth of a second each."""
    monkeypatch.setattr(launch, "LocalRunner", InProcess)
    monkeypatch.setattr(budgets, "SAMPLE", 16)


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Runs the program ``nas`` in this process, in an empty folder: arguments → (exit status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_STORE", raising=False)
    monkeypatch.setattr(study_audit, "REFERENCE_SAMPLE", 50)  # of the audit: a second
    monkeypatch.setattr(study_audit, "EXPENSIVE_SAMPLE", 25)
    handlers = {number: signal.getsignal(number) for number in STOPS}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def mistake(cli):
    """Runs the program ``nas`` with a user's mistake: one line of message, nothing written; returns the line."""

    def run(*arguments, writes=False):
        before = _files()
        status, out, err = cli(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("nas: "), err
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        assert len(err) > 20
        if not writes:
            assert _files() == before
        return err

    return run


def _files():
    """All files below the working directory, with their content."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in Path.cwd().rglob("*")}


@pytest.fixture
def jobs(tmp_path):
    """Seven jobs of three epochs, on architectures of which some are chosen to misbehave and some are not."""
    small = load_plugin("nas.search_spaces", space())()
    decide, domains = at_random(np.random.default_rng(3)), Domains()
    task = Task(input_shape=(1, 8, 8), num_classes=10)
    architectures = [small.architecture(Recorder(decide, domains), task) for _ in range(7)]
    keys = [int(architecture.key[:6], 16) for architecture in architectures]
    assert 0 < sum(key % 3 == 0 for key in keys) < 7
    assert 0 < sum(key % 2 == 0 for key in keys) < 7
    return [
        Job(
            candidate=number,
            architecture=architecture.to_json(),
            seed=number,
            epochs=3,
            until=3,
            images=None,
            folder=str(tmp_path / "files" / str(number)),
            test=True,
        )
        for number, architecture in enumerate(architectures)
    ]
