"""The summary of the training chain against the chain itself, and its sentence."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from hypothesis import given, settings

from nas.chain.summary import PARTS, training_summary
from nas.chain.training import GROWTH, training_chain
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..random_networks import architectures

TASK = Task(input_shape=(3, 8, 8), num_classes=10)


def staged(first: int, second: int) -> Architecture:
    """Convolutions at 8×8, then at 4×4."""
    b = Builder(TASK)
    x = b.input
    for n in range(first + second):
        x = b.conv(x, 8, stride=2 if n == first else 1, after=("norm", "relu"))
    b.head(x)
    return b.architecture(1)


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_means_over_operating_points(architecture: Architecture) -> None:
    summary = training_summary(architecture)
    chains = [training_chain(architecture.topology, point) for point in architecture.points]
    assert sum(stage.gradient for stage in summary.stages) == pytest.approx(sum(map(bool, chains)) / len(chains))
    for each in summary.operations:
        at = [t.importance for chain in chains for t in chain if t.operation == each.operation]
        assert each.learned == bool(at)
        if at:
            assert each.importance == pytest.approx(sum(at) / len(at))
    assert 0 <= summary.effective <= summary.learned + 1e-9
    assert {each.operation for each in summary.operations} == {o for p in architecture.points for o in p.operations}


def test_a_stage_sums_its_operations() -> None:
    summary = training_summary(staged(2, 1))
    roots = [math.sqrt(g) for g in (GROWTH**2, GROWTH, 1, 1)]
    shares = [stage.gradient for stage in summary.stages]
    assert shares == pytest.approx([(roots[0] + roots[1]) / sum(roots), 1 / sum(roots), 1 / sum(roots)])
    assert [(s.stage, s.size, s.operations) for s in summary.stages] == [(1, (8, 8), 2), (2, (4, 4), 1), (3, (), 1)]
    assert math.isnan(summary.stages[-1].high_signal)
    assert summary.stages[0].high_signal == summary.stages[0].high_gradient == 0.5


def test_the_least_trained_stage_counts_its_operations() -> None:
    """The last stage receives most of the gradient if it has most of the operations, and still least for each."""
    summary = training_summary(staged(2, 6))
    assert summary.stages[1].gradient > summary.stages[0].gradient
    assert summary.least_trained is summary.stages[1]
    assert summary.sentence == (
        f"Least trained: stage 2 (4×4), {100 * summary.stages[1].gradient:.0f} % of the gradient for 6 of 9 learned "
        "operations."
    )
    assert training_summary(staged(40, 4)).sentence.startswith("Least trained: stage 2 (4×4), less than 1 % of ")


def test_one_stage_has_no_least_trained() -> None:
    summary = training_summary(staged(3, 0))
    assert summary.least_trained is None
    assert summary.sentence == ""


def test_even_training_has_no_least_trained() -> None:
    """Without activations every learned operation has the same gradient."""
    b = Builder(TASK)
    x = b.conv(b.conv(b.input, 8), 8, stride=2)
    b.head(x)
    summary = training_summary(b.architecture(1))
    assert len([stage for stage in summary.stages if stage.size]) == 2
    assert summary.least_trained is None


def test_json_and_tables() -> None:
    summary = training_summary(staged(1, 1))
    data = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert set(PARTS) < set(data)
    assert data["stages"][-1]["high_signal"] is None
    assert data["least_trained"] == summary.sentence
    for part in PARTS:
        frame = pd.DataFrame(list(getattr(summary, part)))
        assert len(frame) == len(data[part])
        assert list(frame.columns) == list(data[part][0])
