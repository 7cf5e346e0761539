"""The threads of a training and the images of a measurement."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from nas.config import Config
from nas.evaluation.jobs import Stage
from nas.funnel.rungs import measured_images, partial_stages, threads_for
from nas.workers import machines


@pytest.mark.parametrize(("trainings", "expected"), [(1, 8), (2, 4), (3, 2), (8, 1), (50, 1)])
def test_trainings_side_by_side_occupy_the_cores(monkeypatch, trainings, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert threads_for(Config(), trainings) == expected
    assert threads_for(Config(workers=5), trainings) == expected  # results do not depend on workers
    assert threads_for(replace(Config(), ray=True), trainings) is None


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_a_number_of_threads_that_the_user_names_is_kept(threads):
    config = Config(threads=threads)
    assert threads_for(config, 1) is None
    assert config.evaluator_settings()["threads"] == threads
    assert Config().evaluator_settings()["threads"] == 1


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(machines.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machines.os, "cpu_count", lambda: None)
    assert threads_for(Config(), 1) == 1


@pytest.mark.parametrize(
    ("images", "epochs", "classes", "expected"),
    [(500, 1, 10, 1000), (10_000, 1, 10, 3000), (10_000, 2, 10, 4000), (10_000, 9, 5000, 5000), (500, 3, 1200, 1200)],
)
def test_measured_images_are_a_share_of_the_training_images_within_limits(images, epochs, classes, expected):
    assert measured_images(images, epochs, classes) == expected


def test_the_schedule_restarts_after_each_rung():
    assert partial_stages(Config(epochs=9, images=700)) == (Stage(1, 700), Stage(3, 700), Stage(9, 700))
