"""Death at any instant of a search in this process, and a clock that only training advances."""

from __future__ import annotations

import math
from contextlib import contextmanager

from nas.funnel import activity, eta
from nas.plugins import load_plugin
from results.writer import StudyWriter

from .searching import toy


class Killed(BaseException):
    """Stands for kill -9."""


class Fate:
    """Kills at the n-th event: before and after every commit and every checkpoint. Nothing is written after that."""

    def __init__(self, monkeypatch):
        self.events, self.deadly = 0, math.inf
        for name in ("EVERY", "EVERY_STAGE"):  # writes by the clock would change the number of events
            monkeypatch.setattr(activity, name, math.inf)
        transaction, evaluator = StudyWriter.transaction, load_plugin("nas.evaluators", toy())
        write = evaluator.write

        @contextmanager
        def doomed_transaction(writer):
            self.tick()
            with transaction(writer):
                yield
                self.tick()
            self.tick()

        def doomed_write(toy, path, known):
            self.tick()
            write(toy, path, known)
            self.tick()

        monkeypatch.setattr(StudyWriter, "transaction", doomed_transaction)
        monkeypatch.setattr(evaluator, "write", doomed_write)

    def tick(self):
        self.events += 1
        if self.events >= self.deadly:
            raise Killed

    def after(self, events):
        """Start over."""
        self.events, self.deadly = 0, events


class SimulatedTime:
    """A clock that only training advances. seconds: of an epoch over all images, as the toy evaluator reports it."""

    def __init__(self, monkeypatch, seconds=0.002):
        self.now, self.seconds = 0.0, seconds
        monkeypatch.setattr(eta, "monotonic", lambda: self.now)
        monkeypatch.setattr(load_plugin("nas.evaluators", toy()), "epoch", self.advance)

    def advance(self, job, epoch):
        stage = next(stage for stage in job.all_stages if epoch < stage.end)
        self.now += self.seconds * min(stage.images or 1000, 1000) / 1000
