"""Training of one network: from new weights or from given ones, interrupted and continued, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import nas
import results
from evaluators.data import load_data
from evaluators.training.evaluator import Training
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.jobs import Job
from nas.progress import Silent
from nas.representation.elements import TrainingSpec
from nas.spaces.references import built_references
from search_spaces.slicing import sparse_resnext
from search_spaces.slimmable import Slimmable
from search_spaces.stepping import lenet_3c1l

from ..searching import TINY, toy

DATA = "synthetic:n=400,classes=3,size=8,channels=1"
TASK = nas.Task(input_shape=(1, 8, 8), num_classes=3)
SMALL = built_references(Slimmable(), TASK, 1e6)[0].architecture


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished search."""
    store = str(tmp_path_factory.mktemp("train") / "nas.db")
    return nas.search(DATA, study="s", space="slimmable", store=store, max_macs=1e6, rule="joint", **TINY)


def correct(network, images, labels, level):
    with torch.no_grad():
        return float((network(network.preprocess(torch.from_numpy(images)), level).argmax(1).numpy() == labels).mean())


def test_an_architecture_on_arrays(tmp_path):
    data = load_data(DATA)
    arrays = (data.x_train, data.y_train, data.x_test, data.y_test)
    result = nas.train(SMALL, arrays, folder=tmp_path / "net", epochs=4, threads=1)
    assert result.points.level.tolist() == list(range(len(SMALL.points)))
    assert result.points.accuracy.iloc[-1] > 0.5
    loaded = nas.load(tmp_path / "net")
    for level, accuracy in enumerate(result.points.test_accuracy):
        assert correct(loaded, data.x_test, data.y_test, level) == pytest.approx(accuracy)
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        *("manifest.json", "network.json", "weights.safetensors")
    ]
    again = nas.train(lambda task: SMALL if task == TASK else None, arrays, epochs=4, threads=1)
    pd.testing.assert_frame_equal(again.points, result.points)


def test_a_candidate_is_trained_with_the_settings_of_its_study(study, tmp_path):
    partial = study.candidates().query("fidelity < 3").key.iloc[0]
    result = nas.train(partial, study="s", store=study.url, epochs=2, folder=tmp_path / "net")
    architecture = result.network.architecture
    assert architecture.training.rule == "joint"
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=nas.seeds.seed("train", 0),
        epochs=2,
        until=2,
        images=None,
        folder=str(tmp_path / "job"),
        test=True,
    )
    expected = Training(DATA, threads=1).evaluate(job, lambda epoch: None)
    assert result.outcome.points == expected.points
    other = nas.train(partial[:8], store=study.url, epochs=1, rule="sandwich:sampled=1", seed=1)
    assert other.network.architecture.training == TrainingSpec(rule="sandwich", settings=(("sampled", 1),))


def test_training_on_starts_from_the_weights(tmp_path, study):
    first = nas.train(SMALL, DATA, epochs=2, folder=tmp_path / "first")
    for start in (first.network, tmp_path / "first"):
        same = nas.train(start, DATA, epochs=1, learning_rate=1e-12)
        for name, tensor in first.network.named_parameters():
            torch.testing.assert_close(same.network.get_parameter(name), tensor)
    named = nas.train(SMALL, DATA, epochs=1, learning_rate=1e-12, weights=first.network)
    assert named.points.accuracy.tolist() == same.points.accuracy.tolist()
    fresh = nas.train(SMALL, DATA, epochs=1, learning_rate=1e-12)
    assert fresh.points.accuracy.iloc[-1] < same.points.accuracy.iloc[-1]
    with pytest.raises(UserError, match="must have the shapes of the network's weights"):
        nas.train(
            sparse_resnext(2, 8, cardinality=2, levels=2, task=TASK),
            DATA,
            epochs=1,
            weights=study.best().key,
            store=study.url,
        )


class StopsAfter(Silent):
    """Presses Ctrl-C after some epochs."""

    def __init__(self, epochs):
        self._epochs = epochs

    def show(self, state):
        if state.stage == "training" and state.done == self._epochs:
            raise KeyboardInterrupt


@pytest.mark.parametrize("weights", [False, True])
def test_an_interrupted_training_continues(tmp_path, weights):
    start = nas.train(SMALL, DATA, epochs=1, threads=1).network if weights else SMALL
    whole = nas.train(start, DATA, folder=tmp_path / "whole", epochs=3, threads=1)
    with pytest.raises(KeyboardInterrupt):
        nas.train(start, DATA, folder=tmp_path / "net", epochs=3, threads=1, progress=StopsAfter(2))
    seen = []

    class Notes(Silent):
        def show(self, state):
            seen.append((state.stage, state.done))

    continued = nas.train(start, DATA, folder=tmp_path / "net", epochs=3, threads=1, progress=Notes())
    assert ("training", 1) not in seen
    assert ("training", 3) in seen
    assert continued.points.equals(whole.points)
    assert len(list((tmp_path / "net").iterdir())) == 3


def test_one_training_writes_to_a_folder_at_a_time(tmp_path):
    class TrainsToo(Silent):
        def show(self, state):
            if state.done == 1:
                nas.train(SMALL, DATA, folder=tmp_path / "net", epochs=2)

    with pytest.raises(
        UserError, match=r"One training writes to a folder at a time. Got .*net, .* name another folder"
    ):
        nas.train(SMALL, DATA, folder=tmp_path / "net", epochs=2, progress=TrainsToo())
    nas.train(SMALL, DATA, folder=tmp_path / "net", epochs=2)


def test_the_moving_average_is_saved(tmp_path):
    nas.train(SMALL, DATA, folder=tmp_path / "net", epochs=2, rule="sandwich:ema=0.9")
    average, last = (nas.load(tmp_path / "net", average=each) for each in (True, False))
    assert not torch.equal(next(average.parameters()), next(last.parameters()))


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (SMALL, {}, "has no data: name them, with --data"),
        (SMALL, {"data": "digits"}, "data must be of the network's task"),
        (SMALL, {"data": DATA, "epochs": 0}, "epochs must be a whole number of at least 1. Got 0"),
        (SMALL, {"data": DATA, "study": "s"}, "Only a key has a study"),
        (SMALL, {"data": DATA, "recipee": "tips"}, "Unknown setting 'recipee'. Did you mean 'recipe'"),
        (SMALL, {"data": DATA, "learning_rate": -1.0}, "learning_rate must be positive|--learning-rate must be"),
        (SMALL, {"data": DATA, "rule": "causal", "epochs": 1}, "Results cannot be reused: .* rules like joint"),
        (SMALL, {"data": DATA, "learning_rate": 1e30, "epochs": 2}, "The loss became .* Use a smaller learning rate"),
        (lambda task: 3, {"data": DATA}, "a function of the task that builds one. Got 3"),
        (lambda: SMALL, {"data": DATA}, "must accept a task. It raised TypeError: .* takes 0 positional"),
        (SMALL, {"data": DATA, "weights": 3}, "weights must be a key, a folder or a network. Got 3"),
        (3, {"data": DATA}, "must be a key, a folder, a network, an architecture, .* Got 3"),
    ],
)
def test_what_is_refused(network, settings, message):
    with pytest.raises(UserError, match=message):
        nas.train(network, **settings)


def test_constructed_networks_do_not_start_from_weights():
    task = nas.Task(input_shape=(1, 16, 16), num_classes=3)
    network = nas.AnytimeNetwork(SMALL)
    with pytest.raises(UserError, match=r"does not construct the network. .* rule 'stepping'"):
        nas.train(lenet_3c1l(16, task=task), DATA.replace("size=8", "size=16"), epochs=1, weights=network)


def test_changed_data_of_a_study_are_refused_with_other_validation_images(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 8, 8), dtype=np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels)
    study = nas.search(
        f"npz:{tmp_path}/x.npz", study="x", space="slimmable", store=f"{tmp_path}/nas.db", max_macs=1e6, **TINY
    )
    key = study.best().key
    assert nas.train(key, store=study.url, epochs=1, validation=0.4).outcome.epochs == 1
    np.savez(tmp_path / "x.npz", x_train=255 - images, y_train=labels)
    for settings in ({}, {"validation": 0.4}):
        with pytest.raises(EnvironmentFault, match="The data of a study must stay the same"):
            nas.train(key, store=study.url, epochs=1, **settings)
    assert nas.train(key, f"npz:{tmp_path}/x.npz", store=study.url, epochs=1).outcome.epochs == 1


def test_weights_of_a_key_in_several_studies(study):
    key = study.best().key
    nas.search(DATA, study="again", space="slimmable", store=study.url, max_macs=1e6, rule="joint", **TINY)
    with pytest.raises(results.StoreError, match="Name the study"):
        nas.train(SMALL, DATA, store=study.url, epochs=1, weights=key)
    named = nas.train(key, study="s", store=study.url, epochs=1, weights=key, learning_rate=1e-12)
    assert named.points.accuracy.iloc[-1] == pytest.approx(study.front().accuracy.max(), abs=0.05)


def test_an_evaluator_without_weights(tmp_path, monkeypatch, in_process):
    study = nas.search(
        "nothing", study="t", store=f"{tmp_path}/nas.db", evaluator=toy(), space="slimmable", **TINY | {"device": "cpu"}
    )
    key = study.candidates().dropna(subset="fidelity").key.iloc[0]
    network = nas.AnytimeNetwork(nas.Architecture.from_json(study.store.architecture(key)))
    with pytest.raises(UserError, match="A training starts from weights if the evaluator allows it"):
        nas.train(key, store=study.url, weights=network, epochs=1)


def test_an_evaluator_that_saves_no_networks(monkeypatch):
    evaluate = Training.evaluate
    monkeypatch.setattr(Training, "evaluate", lambda *arguments: replace(evaluate(*arguments), saved=False))
    with pytest.raises(UserError, match=r"The evaluator 'training' saves no networks"):
        nas.train(SMALL, DATA, epochs=1)


def test_an_evaluator_that_looks_results_up(tmp_path, in_process):
    settings = {"epochs": None, "final_epochs": None, "finalists": None}
    study = nas.search(
        "nothing", study="t", store=f"{tmp_path}/nas.db", evaluator=toy("Free"), space="slimmable", **TINY | settings
    )
    key = study.candidates().dropna(subset="fidelity").key.iloc[0]
    with pytest.raises(UserError, match="looks results up and trains no networks"):
        nas.train(key, store=study.url, epochs=1)


def test_the_command(cli, tmp_path, study):
    (tmp_path / "own.py").write_text(
        "from nas.spaces.references import built_references\n"
        "from search_spaces.slimmable import Slimmable\n"
        "def build(task):\n"
        "    return built_references(Slimmable(), task, 1e6)[0].architecture\n"
    )
    status, out, err = cli("train", "own.py:build", "net", "--data", DATA, "--epochs", 2, "--csv", "p.csv", "--quiet")
    assert (status, err) == (0, "")
    assert "Trained for 2 epochs of " in out
    table = pd.read_csv(tmp_path / "p.csv")
    assert np.isfinite(table[["macs", "accuracy", "test_accuracy"]].to_numpy()).all()
    status, out, err = cli("train", "net", "on", "--data", DATA, "--epochs", 1, "--plot", "p.png", "--quiet")
    assert (status, err) == (0, "")
    assert (tmp_path / "p.png").stat().st_size > 1000
    key = study.best().key
    assert cli("train", key, "key", "--study", "s", "--store", study.url, "--epochs", 1, "-q")[0] == 0
    assert nas.load(tmp_path / "key").macs == nas.load(key, study="s", store=study.url).macs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("own.py:nothing", "net", "--data", DATA), "own.py"),
        (("abcd1234", "net"), "no results store"),
        (("net", "net", "--data", DATA), "which is no folder"),
    ],
)
def test_mistakes_on_the_command_line(mistake, arguments, message):
    assert message in mistake("train", *arguments)
