"""The user's code reaches nodes that have no file of it, also if a job is the first to need it."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import nas
from nas.ray.environment import plugins_of_job, plugins_of_worker
from nas.ray.nodes import Request
from nas.ray.runner import RayRunner
from nas.workers.runner import Failure
from nas.workers.session import EvaluatorCall

from ..searching import PLUGINS

EVALUATOR = """
from pathlib import Path
import toy
from beside import NAME
from nas.plugins import load_plugin

class Mine(toy.Toy):
    '''Writes the file that it comes from, and what the job's rule says, to the folder of the job.'''

    def epoch(self, job, epoch):
        rule = load_plugin("nas.training_rules", job.architecture["training"]["rule"])
        self.write(Path(job.folder, NAME), [__file__, rule() if rule.__name__ == "say" else ""])
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of the user's on sys.path, with an evaluator that imports a module beside it."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.syspath_prepend(str(folder))
    (folder / "mine.py").write_text(EVALUATOR)
    (folder / "beside.py").write_text("NAME = 'origin.json'")
    (folder / "rules.py").write_text("import words\n\ndef say():\n    return words.WORD\n")
    (folder / "words.py").write_text("WORD = 'said'")
    nas.trust(folder / "mine.py", folder / "rules.py")
    yield folder
    for name in ("beside", "words", "toy"):
        sys.modules.pop(name, None)


def run(runner, jobs):
    ended = {}
    runner.run(jobs, lambda job, outcome: ended.update({job.folder: outcome}), lambda *_: None, lambda job: math.inf)
    assert not [each for each in ended.values() if isinstance(each, Failure)], ended
    return [Path(job.folder, "origin.json").read_text() for job in jobs]


@pytest.mark.usefixtures("joined")
def test_plugins_run_where_their_files_are_not(project, jobs):
    call = EvaluatorCall(evaluator=f"{project / 'mine.py'}:Mine", data="nothing", settings={"device": "cpu"})
    runner = RayRunner(call, request=Request(), workers=1)
    (project / "beside.py").unlink()
    (project / "mine.py").unlink()
    [origin] = run(runner, jobs[:1])
    assert "nas-code-" in origin
    training = {"rule": f"{project / 'rules.py'}:say", "settings": {}}
    later = [replace(job, architecture=job.architecture | {"training": training}) for job in jobs[1:3]]
    runner._code.reference(plugins_of_job(later[0].architecture))
    shutil.rmtree(project)
    assert all("said" in text for text in run(runner, later)), "the worker is the same"
    runner.close()


def test_workers_need_evaluator_and_data_and_jobs_their_rule_and_kinds(jobs):
    call = EvaluatorCall(evaluator="training", data="/data.py:make", settings={})
    assert plugins_of_worker(call, None) == {("nas.evaluators", "training"), ("nas.data", "/data.py:make")}
    assert plugins_of_worker(replace(call, data="digits"), None) == {
        ("nas.evaluators", "training"),
        ("nas.data", "digits"),
    }
    assert plugins_of_worker(replace(call, data="npz:/data.npz"), None) == {("nas.evaluators", "training")}
    assert plugins_of_worker(call, object()) == {("nas.evaluators", "training")}
    plugins = plugins_of_job(jobs[0].architecture)
    assert {group for group, _ in plugins} == {"nas.kinds", "nas.training_rules"}
    assert ("nas.kinds", "conv") in plugins
