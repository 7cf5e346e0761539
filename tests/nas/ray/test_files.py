"""Jobs on a cluster whose folders have a URL, or are shared by all nodes: the driver forwards no files."""

from __future__ import annotations

import pytest

import nas
from nas.evaluation.jobs import Job, Outcome
from nas.ray.nodes import Request
from nas.ray.runner import RayRunner
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.workers.session import EvaluatorCall
from results.files.places import place

from ..searching import search, statuses, toy

BUILDER = Builder(Task(input_shape=(1, 8, 8), num_classes=10))
BUILDER.head(BUILDER.conv(BUILDER.input, (4, 8)))
ARCHITECTURE = BUILDER.architecture(2).to_json()


@pytest.fixture
def train(joined, s3):
    """Train two jobs below a place, as with `--files`; returns their results by candidate."""
    call = EvaluatorCall(evaluator=toy(), data="nothing", settings={"device": "cpu", "threads": 1})
    runner = RayRunner(call, request=Request(), environment={"env_vars": s3.environment}, shared_files=True)

    def run(folder):
        jobs = [
            Job(
                candidate=number,
                architecture=ARCHITECTURE,
                seed=number,
                epochs=2,
                until=2,
                images=None,
                folder=f"{folder}/candidates/{number}/full-0",
            )
            for number in range(2)
        ]
        outcomes = {}
        runner.run(
            jobs, lambda job, outcome: outcomes.__setitem__(job.candidate, outcome), lambda *_: None, lambda _: 60
        )
        return outcomes

    yield run
    runner.close()


FILES = [f"candidates/{number}/full-0/{name}" for number in range(2) for name in ("checkpoint.json", "network.json")]


def test_workers_write_into_an_object_store(train, s3):
    url = f"{s3.bucket()}/toy"
    assert all(isinstance(outcome, Outcome) and outcome.saved for outcome in train(url).values())
    assert place(url).names() == FILES


def test_a_shared_folder_must_be_on_the_nodes(train, tmp_path):
    (tmp_path / "study.json").write_text("{}")
    assert len(train(tmp_path)) == 2
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")) == [*FILES, "study.json"]
    with pytest.raises(nas.UserError, match=r"--files must be a URL or a folder that all nodes share. .* is not on"):
        train(tmp_path.parent / f"{tmp_path.name}-absent")


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [None, True])
def test_a_search_on_ray_with_its_files_at_a_url(store, s3, asynchronous):
    url = f"{s3.bucket()}/runs"
    study = search(store, ray=True, files=url, asynchronous=asynchronous, train=4, finalists=1)
    assert statuses(study)["finished"] >= 1
    written = place(f"{url}/toy").names()
    assert any(name.endswith("/full-0/network.json") for name in written)
    assert not any(name.endswith("/search-0/checkpoint.json") for name in written)
    assert not store.with_name("nas.db.files").joinpath("toy").exists()
