"""Controllers for a network of the store, of a folder, or at hand: trained, recorded, saved, drawn."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import torch

import nas
import results.plots
from evaluators.training.evaluator import Training
from nas.config import description_of, settings_of
from nas.errors import UserError
from nas.evaluation.controllers import ControllerSettings
from nas.evaluation.jobs import Job
from nas.evaluation.operating_points import SelectionSettings
from nas.execution.network import AnytimeNetwork
from nas.reporting import html_report
from nas.reporting.console import study_status
from results import preflight
from search_spaces.slicing import sparse_resnext
from search_spaces.stepping import lenet_3c1l
from search_spaces.throttleable import c3d

from ..searching import TINY

DATA = "synthetic:n=400,classes=3,size=8,channels=1"
FEW = {"penalties": (0.1, 3.0), "epochs": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished search of throttleable candidates; more policies may be recorded."""
    return nas.search(
        DATA,
        study="s",
        space="throttleable",
        store=str(tmp_path_factory.mktemp("throttling") / "nas.db"),
        max_macs=1e6,
        proxy="walk_weights",  # the best candidate shares its norms, as gate policies need
        **TINY,
    )


def test_the_command_trains_records_and_saves(study, cli, tmp_path):
    key, before = str(study.best().key), study.store.studies().iloc[0]
    out = tmp_path / "out"
    status, printed, err = cli(
        *("throttle", key[:8], str(out), "--store", study.url, "--penalty", "3", "--penalty", "0.1", "--epochs", "2"),
        *("--csv", str(tmp_path / "p.csv"), "--plot", str(tmp_path / "p.png"), "--quiet"),
    )
    assert (status, err) == (0, "")
    recorded = study.store.policies("s")
    assert recorded[["candidate", "learner", "sees", "penalty"]].values.tolist() == [
        [key, "expected", "answer", 0.1],
        [key, "expected", "answer", 3.0],
    ]
    assert f"{recorded.test_accuracy[0]:.4f}" in printed
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3
    assert (tmp_path / "p.png").stat().st_size > 5000
    after = study.store.studies().iloc[0]
    assert (after.state, after.reason) == (before.state, before.reason)
    network, controller = nas.load(out), nas.Controller.load(out / "controllers" / "0.1")
    assert controller.macs == recorded.controller_macs[0]
    assert nas.ControlledNetwork(network, controller)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    weights = nas.load(key, store=study.url).state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert cli("front", "s", "--store", study.url, "--plot", str(tmp_path / "f.png"))[0] == 0


def test_the_state_of_a_study_without_a_reason_stays(study):
    """Beside a study that has a reason, a missing one is NaN in a DataFrame."""
    with study.store.writer("other", {}) as writer:
        writer.finish("finished", "done")
    with study.store.writer("s", study.store.settings("s")) as writer:
        writer.finish("interrupted")
    nas.throttle(str(study.best().key), store=study.url, penalties=(0.1,), epochs=1)
    assert study.store.ending("s") == ("interrupted", None)
    assert study_status(study).startswith("Study 's': interrupted.\n")


def test_a_study_that_cannot_be_written_is_refused_before_training(study, monkeypatch):
    key = str(study.best().key)
    monkeypatch.setattr(Training, "train_controllers", None)
    with study.store.writer("s", study.store.settings("s")) as writer:
        with pytest.raises(results.StoreError, match="one writer at a time"):
            nas.throttle(key, store=study.url, **FEW)
        writer.finish()

    def read_only(file):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight, "check_writable", read_only)
    with pytest.raises(results.StoreError, match="must be writable"):
        nas.throttle(key, store=study.url, **FEW)


@pytest.mark.parametrize("command", ["throttle", "select"])
def test_users_files_are_not_replaced(study, cli, tmp_path, command):
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "mine").write_text("mine")
    status, printed, err = cli(command, str(study.best().key), str(tmp_path), "--store", study.url, "--quiet")
    assert (status, printed, err.count("\n")) == (2, "", 1)
    assert f"Got {tmp_path} with 'controllers': name another folder" in err
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["controllers", "controllers/mine"]
    with pytest.raises(UserError, match="new or empty folder"):
        nas.throttle(str(study.best().key), store=study.url, folder=tmp_path)


def test_points_with_coarse_labels_are_rejected(tmp_path):
    fine, rng = np.arange(60) % 3, np.random.default_rng(0)
    images = rng.integers(256, size=(60, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=fine, y_train_coarse=fine // 2)
    task = nas.Task(input_shape=(1, 8, 8), num_classes=3, hierarchy=((0, 0, 1),))
    network = AnytimeNetwork(sparse_resnext(1, 8, 1, 8, levels=4, task=task)).eval()
    with pytest.raises(UserError, match="all points must answer in the same labels"):
        nas.throttle(network, data=f"npz:{tmp_path / 'd.npz'}")


def test_fine_answers_to_labels_with_a_hierarchy_are_throttled(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz", x_train=rng.integers(256, size=(60, 1, 32, 32), dtype=np.uint8), y_train=np.arange(60) % 3
    )
    (tmp_path / "h.json").write_text('{"0": "even", "1": "odd", "2": "even"}')
    task = nas.Task(input_shape=(1, 32, 32), num_classes=3, hierarchy=((0, 1, 0),))
    network = AnytimeNetwork(lenet_3c1l(task=task)).eval()
    made = nas.throttle(network, data=f"npz:{tmp_path / 'd.npz'}", hierarchy=str(tmp_path / "h.json"), **FEW)
    assert made.points.macs.tolist() == list(network.macs)


def test_repeated_settings_replace_and_new_settings_are_added(study):
    key = str(study.best().key)
    for learner, sees in (
        ("expected", "answer"),
        ("expected", "input"),
        ("reinforce", "input"),
        ("reinforce", "input"),
    ):
        made = nas.throttle(key, store=study.url, learner=learner, sees=sees, seed=1, **FEW)
    found = study.store.policies("s").set_index(["learner", "sees", "penalty"])
    assert not found.index.has_duplicates
    assert len(found) == 3 * len(FEW["penalties"])
    assert found.loc["reinforce", "input"].accuracy.tolist() == made.policies.accuracy.tolist()
    assert made.points.macs.is_monotonic_increasing


def test_saving_deletes_earlier_controllers(study, tmp_path):
    key = str(study.best().key)
    nas.throttle(key, store=study.url, folder=tmp_path, sees="input", **FEW)
    nas.throttle(key, store=study.url, folder=tmp_path, penalties=(0.1234567, 0.1234568), epochs=1)
    assert sorted(path.name for path in (tmp_path / "controllers").iterdir()) == ["0.1234567", "0.1234568"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--power", "2"), "add --learner gates"),
        (("--penalty", "-1"), "Each --penalty must be a number, at least 0"),
        (("--sees", "foo"), "Unknown --sees 'foo'"),
        (("--plot", "p.csv"), "--plot must end in .png, .svg, .pdf. Got 'p.csv'"),
        (("--csv", "p.png"), "--csv must end in .csv. Got 'p.png'"),
    ],
)
def test_wrong_options_are_refused_before_any_work(study, cli, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = cli("throttle", str(study.best().key), str(tmp_path / "o"), "--store", study.url, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_command_and_function_have_the_same_settings():
    for function, definition in ((nas.throttle, ControllerSettings), (nas.select, SelectionSettings)):
        parameters = inspect.signature(function).parameters
        for each in settings_of(definition):
            assert parameters[each.name].default == each.default
            assert description_of(each).help.endswith(".")


@pytest.mark.slow
def test_reports_draw_controllers(study, tmp_path, monkeypatch):
    nas.throttle(str(study.best().key), store=study.url, **FEW)
    drawn, draw = [], html_report.front_figure
    monkeypatch.setattr(
        html_report, "front_figure", lambda *frames, **rest: drawn.append(rest["policies"]) or draw(*frames, **rest)
    )
    study.report(tmp_path / "r.html")
    pd.testing.assert_frame_equal(drawn[0], study.store.policies("s"))


def test_a_network_at_hand_needs_data_and_records_nothing(study, tmp_path):
    network = study.network()
    with pytest.raises(UserError, match="has no data: name them"):
        nas.throttle(network)
    before = study.store.policies("s")
    made = nas.throttle(network, data=DATA, store=study.url, **FEW)
    assert made.network is network
    assert made.plot(tmp_path / "x.svg").exists()
    nas.throttle(str(study.best().key), data=DATA, store=study.url, **FEW)
    assert len(study.store.policies("s")) == len(before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"penalties": ()}, "--penalty must be"),
        ({"learner": "best"}, "--learner"),
        ({"colour": "red"}, "Unknown setting 'colour'"),
        ({"epochs": 0}, "--epochs must be"),
        ({"data": "synthetic:n=400,classes=4,size=8,channels=1"}, "must be of the network's task"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_mistakes_raise_messages(study, wrong, message):
    with pytest.raises(UserError, match=message):
        nas.throttle(study.network(), **({"data": DATA} | wrong))


def test_unknown_keys_are_rejected(study):
    with pytest.raises(results.StoreError, match="none begins so"):
        nas.throttle("0123abcd", store=study.url)


def test_an_evaluator_without_controllers_refuses(study):
    from nas.plugins import load_plugin

    from ..searching import toy

    with pytest.raises(UserError, match="trains no controllers"):
        load_plugin("nas.evaluators", toy())("nothing").train_controllers(study.network(), ControllerSettings())


def test_gate_policies_are_recorded_by_utilization(study, tmp_path):
    evaluations = study.store.evaluations("s")
    saved = evaluations.candidate[evaluations.weights.notna()].unique()
    key = next(key for key in saved if study.network(key).architecture.norm == "shared")
    made = nas.throttle(key, store=study.url, learner="gates", penalties=(3.0,), epochs=2, shape="distance", power=2)
    found = study.store.policies("s")
    found = found[found.learner == "gates"]
    assert found.utilization.tolist() == made.points.utilization.tolist() == made.policies.utilization.tolist()
    assert found.test_macs.tolist() == made.policies.test_macs.tolist()
    made.save(tmp_path)
    policy = nas.GatePolicy.load(tmp_path / "controllers" / "3").with_utilization(0.5)
    assert nas.ControlledNetwork(made.network, policy)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_videos_of_moving_digits_from_end_to_end(tmp_path):
    """C3D learns digits and their motion at random utilizations, and controllers then throttle it."""
    data = "moving_digits:n=600,digits=2,frames=4,size=12"
    trainer = Training(data, device="cpu")
    network = c3d(8, (1, 1), 4, task=trainer.dataset.task)
    job = Job(
        candidate=0,
        architecture=network.to_json(),
        seed=0,
        epochs=8,
        until=8,
        images=None,
        folder=str(tmp_path / "n"),
        test=True,
    )
    points = trainer.evaluate(job, lambda epoch: None).points
    assert points[-1]["test_accuracy"] > 0.8  # without motion, at most half
    made = nas.throttle(tmp_path / "n", data=data, device="cpu", penalties=(0.01, 10.0), epochs=20, width=2)
    found, cheapest = made.policies.set_index("penalty"), made.points.macs.min()
    assert found.test_macs[10.0] == cheapest + found.controller_macs[10.0] < found.test_macs[0.01]
    x = made.network.preprocess(torch.from_numpy(trainer.dataset.x_test))
    for controller, reached in zip(made.controllers, found.test_accuracy):
        right = nas.ControlledNetwork(made.network, controller)(x).argmax(1).numpy() == trainer.dataset.y_test
        assert right.mean() == pytest.approx(reached)
