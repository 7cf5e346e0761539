"""The parts for a user's own tuner of Ray Tune: searcher, configurations and trainable, and tuners that use them."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ray import cloudpickle, tune
from ray.tune.search.basic_variant import BasicVariantGenerator

import nas
from nas.errors import UserError
from nas.screening import budgets

from ..searching import space, toy

SETTINGS = {"space": space(), "evaluator": toy(), "device": "cpu", "epochs": 3, "images": 500, "low": 1.5e5}
PROPOSING = {"strategy": "random", "pool": 60, "generation": 4}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The range of budgets is measured on few networks."""
    monkeypatch.setattr(budgets, "SAMPLE", 16)
    monkeypatch.setattr(budgets, "ATTEMPTS", 200)


def searcher(data="nothing", **changes):
    return nas.tune.Searcher(data, **{**SETTINGS, **PROPOSING, **changes})


def param_space(**changes):
    return nas.tune.param_space("nothing", **{**SETTINGS, **changes})


def result(epoch, accuracy):
    return {"epoch": epoch, "anytime_accuracy": accuracy, "training_iteration": epoch}


# Searcher and configurations ---------------------------------------------------------------------------------------


def test_networks_are_proposed_once_and_within_the_limits():
    ours = searcher(max_macs=600_000)
    proposed = [ours.suggest(str(n)) for n in range(10)]
    assert len({json.dumps(each["choices"]) for each in proposed}) == 10
    assert all(each["settings"] == proposed[0]["settings"] for each in proposed)
    json.dumps([each["settings"] | each["choices"] for each in proposed])
    assert str(proposed[0]["code"]) == "SentCode(files=2)"  # loggers show it
    assert proposed[0]["settings"]["high"] == 600_000


def test_a_space_without_further_networks_ends_the_search():
    one = searcher(space=space("One"), low=None, max_macs=None)
    assert one.suggest("a")["choices"] == {}
    assert one.suggest("b") is None
    one.on_trial_complete("a", result(3, 0.5))
    assert one.suggest("b") == tune.search.Searcher.FINISHED


def test_the_strategy_learns_from_results_as_they_were():
    ours = searcher()
    for number in range(5):
        ours.suggest(str(number))
    ours.on_trial_result("0", result(1, 0.3))
    ours.on_trial_complete("0", result(3, 0.5) | {"done": True})
    ours.on_trial_complete("1", result(1, 0.2) | {"done": True})  # stopped by a scheduler: Tune says done too
    ours.on_trial_result("2", result(1, 0.25))
    ours.on_trial_complete("2")  # stopped while it paused
    ours.on_trial_result("3", result(1, 0.9))
    ours.on_trial_complete("3", error=True)
    trials = [ours._trial(network) for network in ours._networks.values() if network.ended]
    assert [(trial.complete, trial.value) for trial in trials] == [
        (True, 0.5),
        (False, 0.2),
        (False, 0.25),
        (True, 0.1),
    ]
    assert trials[0].intermediate == {1: 0.3, 3: 0.5}
    assert [trial.generation for trial in trials] == [0, 0, 0, 0]


@pytest.mark.parametrize("strategy", ["tpe", "guided"])
def test_a_restored_searcher_continues_equally(tmp_path, strategy):
    first = searcher(strategy=strategy)
    fresh = cloudpickle.loads(cloudpickle.dumps(first))
    for number in range(14):
        first.suggest(str(number))
        first.on_trial_complete(str(number), result(3, 0.3 + 0.01 * number))
    first.save(tmp_path / "state")
    fresh.restore(tmp_path / "state")
    assert [fresh.suggest(f"next {n}") for n in range(6)] == [first.suggest(f"next {n}") for n in range(6)]


def test_the_searcher_is_pickled_without_plug_ins():
    ours = searcher()
    ours.suggest("a")
    assert pickle.loads(pickle.dumps(ours)).suggest("b") == ours.suggest("b")


def test_tune_draws_random_networks():
    configurations = param_space(max_macs=600_000)
    domain = configurations["choices"]
    drawn = [domain.sample(random_state=7) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert copy.deepcopy(domain).sample(random_state=7) == drawn[0]
    assert len(domain.sample(size=3)) == 3
    json.dumps(configurations["settings"])


def test_searcher_and_configurations_must_agree():
    ours = searcher()
    assert ours.set_search_properties("loss", "min", param_space())
    with pytest.raises(UserError, match=r"same settings\. Got epochs 3 and 2"):
        ours.set_search_properties(None, None, param_space(epochs=2))
    assert not ours.set_search_properties(None, None, param_space() | {"rate": tune.uniform(0, 1)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_mac": 1}, "Unknown setting 'max_mac'. Did you mean 'max_macs'?"),
        ({"train": 3}, "train is not a setting of nas: .* tune.TuneConfig"),
        ({"epochs": 0}, "--epochs must be a whole number"),
        ({"max_macs": 10.0, "low": None}, "must have networks within the constraints"),
        ({"evaluator": "tranining"}, "Did you mean 'training'"),
    ],
)
def test_mistakes_are_found_before_tune_starts(settings, message):
    for make in (searcher, param_space):
        with pytest.raises(UserError, match=message):
            make(**settings)


def test_settings_of_proposals_are_the_searchers():
    with pytest.raises(UserError, match="strategy"):
        param_space(strategy="tpe")


def test_data_must_be_a_specification():
    with pytest.raises(UserError, match="must be a specification"):
        nas.tune.Searcher(([0], [1]))


def test_without_ray_one_line_says_so():
    code = (
        "import sys, nas\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'ray':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "try:\n"
        "    nas.tune\n"
        "except nas.UserError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "nas.tune needs the package ray: pip install 'ray[tune]'. Got No module named 'ray'.\n"


class Ladder:
    """A space that is no plug-in."""

    def architecture(self, choose, task, *, points=4):
        builder = nas.Builder(task)
        width = choose("width", tuple(range(4, 24)))
        builder.head(builder.conv(builder.input, tuple(width * (k + 1) for k in range(points))))
        return builder.architecture(points)


# Tuners --------------------------------------------------------------------------------------------------------------


class Seen(tune.Callback):
    """A user's callback: notes the results."""

    def __init__(self):
        self.results = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.results.append((trial.trial_id, result["epoch"], result["pid"]))


def run_config(folder, **more):
    return tune.RunConfig(storage_path=str(folder), name="run", verbose=0, **more)


def tune_config(**more):
    settings = {"metric": "anytime_accuracy", "mode": "max", "reuse_actors": True, "max_concurrent_trials": 2}
    return tune.TuneConfig(**settings | more)


def test_a_tuner_with_scheduler_and_callbacks(joined, tmp_path):
    seen = Seen()
    scheduler = tune.schedulers.ASHAScheduler(max_t=3, grace_period=1, reduction_factor=3)
    results = tune.Tuner(
        nas.tune.Trainable,
        tune_config=tune_config(search_alg=searcher(), scheduler=scheduler, num_samples=6),
        run_config=run_config(tmp_path, callbacks=[seen]),
    ).fit()
    assert len(results) == 6
    assert not results.errors
    frame = results.get_dataframe()
    assert set(frame.epoch) == {1, 3}  # some were stopped
    best = results.get_best_result()
    assert best.metrics["epoch"] == best.metrics["training_iteration"] == 3
    assert best.metrics["accuracy"].keys() == best.metrics["macs"].keys() == {f"level_{k}" for k in range(4)}
    with best.checkpoint.as_directory() as folder:
        assert json.loads(Path(folder, "progress.json").read_text()) == {"epoch": 3}
    assert len(seen.results) == sum(frame.epoch)
    assert len({pid for _, _, pid in seen.results}) <= 2  # workers are reused


@pytest.mark.slow
def test_a_tuner_that_draws_networks_itself(joined, tmp_path):
    results = tune.Tuner(
        nas.tune.Trainable,
        param_space=param_space(epochs=2),
        tune_config=tune_config(
            search_alg=BasicVariantGenerator(random_state=3), num_samples=2, max_concurrent_trials=None
        ),
        run_config=run_config(tmp_path),
    ).fit()
    assert [each.metrics["epoch"] for each in results] == [2, 2]
    assert results[0].config["choices"] != results[1].config["choices"]


@pytest.mark.slow
def test_a_failed_trial_continues_from_its_checkpoint(joined, tmp_path):
    died = str(tmp_path / "died")
    results = tune.Tuner(
        nas.tune.Trainable,
        tune_config=tune_config(search_alg=searcher(died, evaluator=toy("DiesOnceInAll")), num_samples=1),
        run_config=run_config(
            tmp_path,
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    ).fit()
    assert not results.errors
    assert Path(died).exists()
    assert results[0].metrics["epoch"] == 3
    assert list(results[0].metrics_dataframe.epoch) == [1, 2, 3]


@pytest.mark.slow
def test_a_tuner_with_searcher_and_configurations(joined, tmp_path):
    results = tune.Tuner(
        nas.tune.Trainable,
        param_space=param_space(space=Ladder, epochs=2, low=None),
        tune_config=tune_config(search_alg=searcher(space=Ladder, epochs=2, low=None), num_samples=2),
        run_config=run_config(tmp_path),
    ).fit()
    assert [each.metrics["epoch"] for each in results] == [2, 2]


@pytest.mark.slow
def test_trials_that_raise_are_errors_of_the_result_grid(joined, tmp_path):
    results = tune.Tuner(
        nas.tune.Trainable,
        tune_config=tune_config(search_alg=searcher(evaluator=toy("RaisesAlways")), num_samples=2),
        run_config=run_config(tmp_path),
    ).fit()
    assert results.num_errors == 2
    assert "out of luck" in str(results.errors[0])


class Interrupts(tune.Callback):
    """Presses Ctrl-C once, after some results. A file remembers it, because Tune restores callbacks too."""

    def __init__(self, results, file):
        self.left, self.file = results, file

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.left -= 1
        if self.left == 0 and not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_a_tuner_is_restored(joined, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # an interrupted tuner leaves their files open
    tuner = tune.Tuner(
        nas.tune.Trainable,
        tune_config=tune_config(search_alg=searcher(strategy="tpe"), num_samples=4, max_concurrent_trials=1),
        run_config=run_config(tmp_path, callbacks=[Interrupts(5, tmp_path / "interrupted")]),
    )
    assert len(tuner.fit()) < 4
    results = tune.Tuner.restore(str(tmp_path / "run"), trainable=nas.tune.Trainable).fit()
    assert [each.metrics["epoch"] for each in results] == [3] * 4
    assert len({each.metrics["key"] for each in results}) == 4
