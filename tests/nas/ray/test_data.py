"""Data on a cluster: each node has one copy of arrays, which all its workers read, or files of its own."""

from __future__ import annotations

import json
import math
import platform
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators.data import from_arrays
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.data_identity import DataIdentity
from nas.ray.data import check_files, placed
from nas.ray.nodes import Node, Request, living_nodes
from nas.ray.runner import RayRunner
from nas.workers.runner import Failure
from nas.workers.session import EvaluatorCall

from ..searching import PLUGINS, toy

sys.path.insert(0, str(PLUGINS))  # the toy evaluators import each other
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (4000, 16, 16, 3), np.uint8)
"""Above the size up to which Ray copies objects into messages."""


def call(**changes):
    settings = {"device": "cpu", "threads": 1, "layout": "NHWC"}
    spec = toy().replace("toy.py:Toy", "sharing.py:Sharing")
    return replace(EvaluatorCall(evaluator=spec, data="digits", settings=settings), **changes)


def run(runner, jobs):
    ended = {}
    runner.run(jobs, lambda job, outcome: ended.update({job.folder: outcome}), lambda *_: None, lambda job: math.inf)
    runner.close()
    assert not [each for each in ended.values() if isinstance(each, Failure)], ended
    return [json.loads(Path(job.folder, "facts.json").read_text()) for job in jobs]


@pytest.mark.usefixtures("joined")
def test_workers_share_the_memory_of_their_node(jobs):
    data = from_arrays(IMAGES, np.arange(4000) % 10, layout="NHWC")
    identity = DataIdentity(fingerprint=data.fingerprint)
    runner = RayRunner(call(identity=identity), data=data, request=Request(), workers=4)
    facts = run(runner, jobs)
    assert all(each["given"] and not each["writeable"] for each in facts)
    assert {tuple(each["strides"]) for each in facts} == {data.x_train.strides}
    places = {(each["node"], *each["memory"]) for each in facts}
    assert len(places) == len({each["node"] for each in facts}), "each node has one copy"
    assert all("plasma" in path for _, path, _ in places), places


@pytest.mark.usefixtures("joined")
def test_the_activity_has_nodes_and_running_jobs(jobs):
    seen = []
    runner = RayRunner(call(evaluator=toy(), data="nothing", settings={"device": "cpu"}), request=Request(), workers=2)
    runner.run(
        jobs, lambda job, outcome: None, lambda job, epoch: seen.append((job, runner.activity())), lambda job: math.inf
    )
    assert runner.activity().running == ()
    runner.close()
    node = living_nodes()[0].name
    for job, present in seen:
        assert present.nodes == {node: 4}, "both nodes are on one host"
        [mine] = [each for each in present.running if each.candidate == job.candidate]
        assert (mine.node, mine.until) == (platform.node(), job.until)
        assert 1 <= mine.epoch <= job.until
        assert len(present.running) <= 2


@pytest.mark.usefixtures("joined")
def test_other_data_are_noticed(jobs):
    data = from_arrays(IMAGES, np.arange(4000) % 10, layout="NHWC")
    runner = RayRunner(call(identity=DataIdentity(fingerprint="other")), data=data, request=Request())
    with pytest.raises(EnvironmentFault, match="The data of a study must stay the same"):
        run(runner, jobs)


@pytest.mark.usefixtures("joined")
def test_a_missing_file_is_one_error_that_names_the_node(tmp_path):
    nodes = living_nodes()
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.mkdir()
    check_files([str(there)], nodes)
    check_files([], [Node(id="no such node", name="none", resources={})])
    with pytest.raises(UserError) as caught:
        check_files([str(there), str(missing)], nodes)
    message = str(caught.value)
    assert f"Got no {missing} on {nodes[0].name}" in message
    assert "Copy them there" in message


def test_a_worker_on_a_node_without_the_file_names_the_node(tmp_path):
    wanted = call(data=f"npy:{tmp_path / 'missing'}", settings={"hierarchy": str(tmp_path / "h.json")})
    with pytest.raises(EnvironmentFault, match=r"Got no .*missing and no .*h.json on "):
        placed(wanted, None, None).load()
