"""How long a training may be silent: by the slowest epoch of the study, or as the user says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.evaluation.jobs import Job, Outcome
from nas.funnel.patience import LEAST_SECONDS, TIMES_SLOWEST, TrialPatience
from nas.funnel.state import StudyState
from nas.representation.architecture import macs
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..searching import config


class Keeper:
    """A state that is not stored."""

    def __init__(self):
        self.state = StudyState()

    def note_epoch(self, seconds):
        self.state = replace(self.state, slowest_epoch=max(self.state.slowest_epoch, seconds))


def job(width=8, images=100):
    """A job on a network of one convolution."""
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=3))
    builder.head(builder.conv(builder.input, (4, width)))
    architecture = builder.architecture(2)
    return Job(candidate=1, architecture=architecture.to_json(), seed=0, epochs=9, until=3, images=images, folder="x")


def outcome(seconds, epochs=3, images=100):
    """An outcome after some time."""
    return Outcome(points=[], epochs=epochs, images=images, seconds=seconds)


def patience(**settings):
    """The patience of a new study with 1,000 training images."""
    return TrialPatience(config(**settings), Keeper(), train_images=1000)


def test_the_slowest_epoch_is_scaled_to_the_job():
    limit = patience()
    limit.observe(job(), outcome(seconds=1500))  # 500 s an epoch
    limit.observe(job(), outcome(seconds=3))
    assert limit(job()) == pytest.approx(TIMES_SLOWEST * 500)
    assert limit(job(images=None)) == pytest.approx(TIMES_SLOWEST * 5000)
    wide = job(width=16)
    ratio = max(macs(wide.parsed_architecture)) / max(macs(job().parsed_architecture))
    assert ratio > 1.5
    assert limit(wide) == pytest.approx(ratio * TIMES_SLOWEST * 500)


def test_ten_minutes_are_the_least():
    limit = patience()
    limit.observe(job(), outcome(seconds=0.01))
    assert limit(job()) == LEAST_SECONDS == 600


def test_before_the_first_result_an_hour_is_the_least():
    assert patience()(job(images=100)) == 3600
    assert patience()(job(images=50_000)) == 5 * 3600


def test_a_final_search_does_not_count_as_an_epoch():
    limit = patience()
    limit.observe(replace(job(), selection={"evaluations": 192}), outcome(seconds=1e6))
    assert limit(job()) == 3600


def test_the_setting_replaces_the_estimate():
    limit = patience(trial_timeout=7)
    limit.observe(job(), outcome(seconds=1e6))
    assert limit(job()) == 7


def test_the_slowest_epoch_outlives_its_driver():
    state = StudyState(slowest_epoch=1e-9)
    assert StudyState.from_json(state.to_json()) == state
