"""A user whose trainings wait for the disk is told once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from nas.evaluation.jobs import Outcome
from nas.funnel.training import SLOW_DISK, CandidateTrainer


@pytest.mark.parametrize(("shares", "times"), [((0.1, SLOW_DISK), 0), ((0.0, 0.5, 0.6), 1)])
def test_the_user_is_told_once(shares, times):
    said: list[str] = []
    trainer = SimpleNamespace(
        patience=SimpleNamespace(observe=lambda job, outcome: None),
        records=SimpleNamespace(fidelity=lambda job: 1.0, add_outcome=lambda *values, **names: None),
        display=SimpleNamespace(progress=SimpleNamespace(say=said.append)),
        _told_of_waiting=False,
    )
    for share in shares:
        outcome = Outcome(points=[], epochs=1, images=9, seconds=10.0, waiting=share)
        job = cast(Any, SimpleNamespace(folder=""))
        CandidateTrainer.record_outcome(cast(Any, trainer), cast(Any, None), 0, job, outcome)
    assert len(said) == times
    assert all("waited for the disk for 50% of its time" in line for line in said)
