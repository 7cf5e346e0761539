"""The evaluator of tables: the contract, and a search by the command line in which every candidate is on the front."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import nas
import results
from evaluators.tabular import Tabular
from nas.config import Config
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.jobs import Diverged, Job
from nas.evaluation.loading import load_evaluator
from nas.representation.architecture import macs
from nas.spaces.choices import Domains, Recorder, replay
from nas.testing.evaluators import CHOICES, sample_architecture
from nas.workers.session import EvaluatorCall
from tests.nas.searching import command, environment, space
from tests.plugins.spaces import Six

from .test_table import SIX, written

DATA = "synthetic:n=120,classes=3,size=8,channels=1"
SAMPLE = [
    CHOICES | {"epochs": epochs, "level": level, "accuracy": 0.5, "test_accuracy": 0.5, "loss": 1.0}
    for epochs in (1, 2)
    for level in (0, 1)
]


def job_of(evaluator: Tabular, width: int, kernel: float, **changes) -> Job:
    """The job that trains a network of the space Six in full."""
    choices = {"width": width, "kernel": kernel}
    architecture = Six().architecture(Recorder(replay(choices), Domains()), evaluator.info().task)
    values = {"seed": 0, "epochs": 3, "until": 3, "test": True, "space": "Six", "choices": choices} | changes
    return Job(candidate=1, architecture=architecture.to_json(), images=None, folder="", **values)


def test_results_are_looked_up_by_choices_epochs_and_seed():
    evaluator, reported = Tabular(DATA, file=str(SIX)), []
    job = job_of(evaluator, 16, 3)
    outcome = evaluator.evaluate(job, reported.append)
    assert [point["accuracy"] for point in outcome.points] == [0.42, 0.52, 0.62, 0.72]
    assert [point["macs"] for point in outcome.points] == list(macs(job.parsed_architecture))
    assert (outcome.seconds, outcome.epochs, reported) == (6.5, 3, [1, 2, 3])
    second = evaluator.evaluate(job_of(evaluator, 16, 3, seed=1), reported.append)
    assert [point["accuracy"] for point in second.points] == [0.43, 0.53, 0.63, 0.73]
    early = evaluator.evaluate(job_of(evaluator, 16, 3, until=1, test=False), reported.append)
    assert early.points[0] == {k: v for k, v in early.points[0].items() if not k.startswith("test_")}
    assert early.points[0]["accuracy"] == 0.32


@pytest.mark.parametrize(
    ("width", "kernel", "changes", "error", "message"),
    [
        (24, 1, {}, Diverged, "has no row for width=24, kernel=1"),
        (32, 1, {}, Diverged, "According to the table .*: The loss became nan"),
        (16, 3, {"until": 2}, EnvironmentFault, "results after 1, 3 epochs. Got 2"),
        (16, 3, {"choices": {"width": 16, "depth": 1}}, UserError, "Got none for 'depth'; .*width, kernel"),
    ],
)
def test_jobs_without_a_result_say_why(width, kernel, changes, error, message):
    evaluator = Tabular(DATA, file=str(SIX))
    with pytest.raises(error, match=message):
        evaluator.evaluate(job_of(evaluator, width, kernel, **changes), lambda epoch: None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"macs": 123}, "level 0 of width=8 has 11,532 macs. Got 123"),
        ({"params": 5}, "level 0 of width=8 has [0-9,]+ params. Got 5"),
        ({"level": 0}, "each of the 2 operating points. Got 1 for width=8: add --points 1"),
    ],
)
def test_a_table_of_other_networks_is_noticed(tmp_path, row, message):
    rows = [row | SAMPLE[0]] if "level" in row else [SAMPLE[level] | row for level in (0, 1)]
    evaluator = Tabular(DATA, file=str(written(tmp_path, rows)))
    architecture = sample_architecture(evaluator.info().task).to_json()
    job = Job(
        candidate=1, architecture=architecture, seed=0, epochs=1, until=1, images=None, folder="", choices=CHOICES
    )
    with pytest.raises(EnvironmentFault, match=message):
        evaluator.evaluate(job, lambda epoch: None)


def test_the_table_is_a_part_of_the_data(tmp_path):
    other = written(tmp_path, [*SAMPLE[:3], SAMPLE[3] | {"accuracy": 0.6}])
    infos = [Tabular(DATA, file=str(file)).info() for file in (SIX, other)]
    assert infos[0].fingerprint != infos[1].fingerprint
    assert [name for name in infos[0].parts if infos[0].parts[name] != infos[1].parts[name]] == ["table"]


@pytest.mark.parametrize("setting", [{"batch_size": 8}, {"learning_rate": 0.1}, {"augment": "none"}, {"colour": "red"}])
def test_settings_of_trainings_have_no_meaning(setting):
    with pytest.raises(UserError, match="has no meaning with a table: its networks have been trained"):
        Tabular(DATA, file=str(SIX), **setting)


@pytest.mark.parametrize(
    ("name", "message"),
    [("tabular", "reads a file: name it, such as --evaluator tabular:"), ("training:x.csv", "reads no file. Got")],
)
def test_the_file_belongs_to_the_name(name, message):
    with pytest.raises(UserError, match=message):
        load_evaluator(name, DATA, {})


def test_every_machine_needs_the_table():
    call = EvaluatorCall(evaluator=f"tabular:{SIX}", data="npz:x.npz", settings={})
    assert call.files == ("x.npz", str(SIX))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 9}, "--epochs has no meaning .* Got 9: leave it out"),
        ({"finalists": 2}, "--finalists has no meaning"),
        ({"final_epochs": 30}, "--final-epochs has no meaning"),
        ({"images": 50}, "--images has no meaning"),
        ({"asynchronous": True, "ray": True}, "--async has no meaning"),
    ],
)
def test_settings_of_partial_training_have_no_meaning(setting, message):
    with pytest.raises(UserError, match=message):
        Config(evaluator="tabular:x.csv", **setting).resolved(1000, free_epochs=3)


def test_free_trainings_are_resolved_once():
    resolved = Config().resolved(50_000, free_epochs=3)
    assert (resolved.free, resolved.rungs(), resolved.images) == (True, (3,), 50_000)
    assert resolved.resolved(50_000, free_epochs=3) == resolved
    ordinary = Config().resolved(50_000)
    assert (ordinary.free, ordinary.finalists) == (False, 2)


def nas_in(folder: Path, *arguments: str):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), check=False, cwd=folder
    )


def searched(folder: Path, *more: str):
    """A search on the committed table, by the command line."""
    named = ["--space", space("Six"), "--evaluator", f"tabular:{SIX}", "--data", DATA, "--store", "nas.db"]
    settings = ["--strategy", "random", "--low", "9e3", "--train", "9", "--generation", "3", "--workers", "1"]
    return nas_in(folder, "search", "six", *named, *settings, *more)


def test_a_search_on_a_table_puts_every_candidate_on_the_front(tmp_path):
    ran = searched(tmp_path, "--seeds", "2")
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    study = nas.Study("six", store=str(tmp_path / "nas.db"))
    candidates = study.candidates()
    trained = candidates[candidates.status == "finished"]
    assert len(trained) == 4
    failed = candidates[candidates.status == "failed"].reason
    assert sum("has no row for width=24, kernel=1" in reason for reason in failed) == 1
    assert sum("The loss became nan" in reason for reason in failed) == 1
    points = study.points()
    assert set(points.candidate) == set(trained.key)
    assert set(points.fidelity) == {3.0}
    assert set(points.groupby("candidate").repeat.nunique()) == {2}
    assert points.test_accuracy.notna().all()
    front = study.front()
    best = points[points.level == 3].groupby("candidate").accuracy.mean().max()
    assert front.accuracy.max() == pytest.approx(best)
    evaluations = results.open(str(tmp_path / "nas.db")).evaluations("six")
    assert (evaluations.seconds == 6.5).all()

    assert "nas show" in ran.stdout
    assert "nas.load" not in ran.stdout  # a table has no weights

    shown = nas_in(tmp_path, "status", "six", "--store", "nas.db")
    assert "4 finished" in " ".join(shown.stdout.split())
    study.report(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert "finalists" not in report
    assert "nas.load" not in report


def test_a_preview_says_that_trainings_are_free(tmp_path):
    ran = searched(tmp_path, "--dry-run")
    assert "trainings are free, so each is in full, and there are no finalists" in " ".join(ran.stdout.split())


@pytest.mark.slow
def test_a_changed_table_is_noticed_on_resume(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(SIX.read_text())
    arguments = ["--space", space("Six"), "--evaluator", "tabular:table.csv", "--data", DATA, "--store", "nas.db"]
    first = nas_in(tmp_path, "search", "six", *arguments, "--low", "9e3", "--train", "2", "--workers", "1")
    assert first.returncode == 0, first.stderr
    table.write_text(SIX.read_text().replace("0.452", "0.453"))
    again = nas_in(tmp_path, "resume", "six", "--store", "nas.db", "--train", "4")
    assert again.returncode == 2
    assert "was started with other table of --data" in again.stderr
    assert "Traceback" not in again.stderr
