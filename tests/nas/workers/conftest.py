"""Jobs for the toy evaluators of tests/plugins/toy.py."""

from __future__ import annotations

import numpy as np
import pytest

from nas.evaluation.jobs import Job
from nas.plugins import load_plugin
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random

from ..searching import space


@pytest.fixture
def jobs(tmp_path):
    """Seven jobs of three epochs, on architectures of which some are chosen to misbehave and some are not."""
    small = load_plugin("nas.search_spaces", space())()
    decide, domains = at_random(np.random.default_rng(3)), Domains()
    task = Task(input_shape=(1, 8, 8), num_classes=10)
    architectures = [small.architecture(Recorder(decide, domains), task) for _ in range(7)]
    keys = [int(architecture.key[:6], 16) for architecture in architectures]
    assert 0 < sum(key % 3 == 0 for key in keys) < 7
    assert 0 < sum(key % 2 == 0 for key in keys) < 7
    return [
        Job(
            candidate=number,
            architecture=architecture.to_json(),
            seed=number,
            epochs=3,
            until=3,
            images=None,
            folder=str(tmp_path / "files" / str(number)),
            test=True,
        )
        for number, architecture in enumerate(architectures)
    ]
