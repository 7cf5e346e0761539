"""The final search on real, small networks: what it saves is what it says, interrupted or not, within the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluators.training import Training as Trainer
from evaluators.training import run
from evaluators.training.latency import latency_ms
from evaluators.training.run import TrainingRun
from evaluators.training.selection import select_points, shortlist
from nas.errors import UserError
from nas.evaluation.jobs import Diverged, Job
from nas.evaluation.operating_points import MeasuredSubnetwork, SelectionSettings
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import macs
from nas.representation.elements import Subnetwork, TrainingSpec

from ..rules.test_path_sampling import supernet


def job(folder, rule="path_sampling", **changes) -> Job:
    architecture = replace(supernet(), training=TrainingSpec(rule=rule))
    costs = macs(architecture)
    standard = {
        "candidate": 1,
        "architecture": architecture.to_json(),
        "seed": 3,
        "epochs": 2,
        "until": 2,
        "images": 400,
        "folder": str(folder),
        "test": True,
        "selection": {"evaluations": 16, "low": costs[0], "high": 1.2 * costs[-1], "max_macs": costs[-1] - 1},
    }
    return Job(**(standard | changes))


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer("digits", device="cpu")


def test_what_is_saved_is_the_realised_network_with_the_accuracies_that_are_told(trainer, tmp_path):
    wanted = job(tmp_path)
    outcome = trainer.evaluate(wanted, lambda epoch: None)
    network = AnytimeNetwork.load(tmp_path)
    assert network.architecture.to_json() == outcome.realised != wanted.architecture
    assert network.levels == 2
    assert network.macs[-1] < wanted.selection["max_macs"] + 1
    assert [p["macs"] for p in outcome.points] == list(network.macs)
    x = torch.from_numpy(trainer.dataset.x_test)
    for point in outcome.points:
        answers = network(network.preprocess(x), point["level"]).argmax(1).numpy()
        assert np.mean(answers == trainer.dataset.y_test) == pytest.approx(point["test_accuracy"])


def test_killed_in_the_search_it_searches_again_without_training(trainer, tmp_path, monkeypatch):
    whole = trainer.evaluate(job(tmp_path / "whole"), lambda epoch: None)
    with monkeypatch.context() as patched:
        patched.setattr(run, "select_points", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.evaluate(job(tmp_path / "part"), lambda epoch: None)
    monkeypatch.setattr(TrainingRun, "train_epoch", lambda *_: pytest.fail("it trained"))
    again = trainer.evaluate(job(tmp_path / "part"), lambda epoch: None)
    assert again.realised == whole.realised
    assert again.points == whole.points


def test_another_selection_is_made_anew(trainer, tmp_path):
    first = trainer.evaluate(job(tmp_path), lambda epoch: None)
    other = job(tmp_path, selection={"evaluations": 12, "max_macs": 0.8 * first.points[-1]["macs"]})
    second = trainer.evaluate(other, lambda epoch: None)
    assert second.points[-1]["macs"] <= 0.8 * first.points[-1]["macs"]


def test_without_a_selection_the_points_are_those_proposed(trainer, tmp_path):
    outcome = trainer.evaluate(job(tmp_path, selection=None), lambda epoch: None)
    assert outcome.realised is None
    assert [p["macs"] for p in outcome.points] == list(macs(supernet()))


def test_a_latency_limit_is_kept_and_measured(trainer, tmp_path):
    outcome = trainer.evaluate(job(tmp_path, selection={"evaluations": 8, "max_latency_ms": 1e4}), lambda epoch: None)
    assert all(0 < p["latency_ms"] <= 1e4 for p in outcome.points)


def test_a_latency_limit_that_nothing_keeps_is_told(trainer, tmp_path):
    with pytest.raises(Diverged, match="raise the limits"):
        trainer.evaluate(job(tmp_path, selection={"evaluations": 4, "max_latency_ms": 1e-6}), lambda epoch: None)


def test_as_many_points_as_wanted(trainer):
    network = AnytimeNetwork(supernet())
    chosen, _, found = select_points(
        trainer.source, network, SelectionSettings(evaluations=20, points=5), images=300, seed=0
    )
    assert chosen.levels == 5
    assert len(found.measured) == 20
    assert list(chosen.macs) == sorted(chosen.macs)


def test_the_same_weights_answer_at_other_points():
    network = AnytimeNetwork(supernet())
    x = torch.randn(16, 1, 8, 8)
    network.calibrate([x])
    other = network.eval().with_points(network.architecture.points[:1])
    with pytest.raises(UserError, match="recalibrated"):
        other(x)
    other.calibrate([x])
    torch.testing.assert_close(other(x), network(x, 0))
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert not torch.equal(next(other.parameters()), next(network.parameters()))


def test_points_with_norms_of_their_own_cannot_be_replaced():
    with pytest.raises(UserError, match="Other operating points need norm"):
        AnytimeNetwork(supernet(norm="per_point")).with_points(supernet().points[:1])


def test_rules_that_sample_say_so(trainer):
    for rule, samples in (("path_sampling", True), ("uniform_sampling", True), ("sandwich", False), ("joint", False)):
        assert trainer.samples_subnetworks(replace(supernet(), training=TrainingSpec(rule=rule))) is samples


def test_latency_grows_with_work():
    small, large = torch.nn.Linear(10, 10), torch.nn.Sequential(*(torch.nn.Linear(600, 600) for _ in range(20)))
    assert 0 < latency_ms(small, (10,)) < latency_ms(large, (600,))


def test_what_is_too_slow_does_not_crowd_out_what_keeps_the_limit():
    """What is just over the limit is more accurate throughout, and yet comes after all that keeps it."""

    def measured(width: int, macs: int, accuracy: float, latency_ms: float) -> MeasuredSubnetwork:
        subnetwork = Subnetwork(channels=(width,), operations=(0,), output=1)
        return MeasuredSubnetwork(subnetwork=subnetwork, macs=macs, params=1, accuracy=accuracy, latency_ms=latency_ms)

    slow = [measured(10 + i, 10 + i, 0.9, 1.05) for i in range(8)]
    quick = [measured(20 + i, 10 + i, 0.5 + 0.01 * i, 0.9) for i in range(3)]
    mine = measured(1, 50, 0.2, 0.99)
    own = mine.subnetwork
    chosen = shortlist([*slow, *quick, mine], (own,), 6, 1.0)
    assert chosen[0] == mine
    assert {m.subnetwork for m in chosen[1:4]} == {m.subnetwork for m in quick}
    assert all(m in slow for m in chosen[4:])
