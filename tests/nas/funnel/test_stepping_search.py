"""A study of SteppingNets, from proposals to the realised network of a finalist."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nas
from evaluators.data.loading import load
from nas.representation.architecture import Architecture, macs

from ..searching import TINY

DATA = "synthetic:n=300,classes=3,size=8,channels=1"


@pytest.mark.parametrize("rule", [None, "stepping:rounds=5,beta=1"])
def test_a_finalist_is_the_realised_network_with_the_accuracies_that_are_stored(tmp_path, in_process, rule):
    store = f"sqlite:///{tmp_path / 'nas.db'}"
    study = nas.search(
        DATA,
        space="stepping",
        rule=rule,
        max_macs=3e6,
        store=store,
        **(TINY | {"epochs": 3, "final_epochs": 4}),
    )
    best, data = study.best(), load(DATA)
    rows = study.points()
    rows = rows[(rows.candidate == best.key) & (rows.fidelity == rows.fidelity.max())].sort_values("level")
    network = nas.load(best.key, store=store)
    proposal = Architecture.from_json(study.store.architecture(best.key))
    assert set(rows.realised_key) == {network.architecture.key} != {proposal.key}
    assert list(rows.macs) == list(network.macs)
    assert all(cost <= budget for cost, budget in zip(network.macs, macs(proposal)))
    assert proposal.training.rule == "stepping"
    assert set(dict(proposal.training.settings)) >= {"original", "expansion"} | ({"beta"} if rule else set())
    x = network.preprocess(torch.from_numpy(data.x_test))
    for level, accuracy in zip(rows.level, rows.test_accuracy):
        assert np.mean(network(x, level).argmax(1).numpy() == data.y_test) == pytest.approx(accuracy)
    assert nas.load(network.architecture.key[:8], store=store).architecture == network.architecture
