"""The ETA of a search and the progress bar: training done and to come, as passes over the training images."""

from __future__ import annotations

import math
from time import monotonic

from nas.config import Config
from nas.progress import Progress, State


class Clock:
    """Wall-clock time of a study in seconds. earlier: of the runs before this one."""

    def __init__(self, *, earlier: float) -> None:
        self._earlier, self._started = earlier, monotonic()

    def elapsed(self) -> float:
        """Seconds that the study has run, earlier runs included."""
        return self._earlier + self.since_start()

    def since_start(self) -> float:
        """Seconds of this run."""
        return monotonic() - self._started


class Work:
    """Counts passes over the training images, done and to come; estimates the time left (ETA).

    limit: candidates to train. generations: those done before this start.
    """

    def __init__(self, config: Config, train_images: int, *, limit: float, generations: int):
        self.train_images = train_images
        per_generation = _passes(config, config.generation, train_images)
        self.total = 0.0
        if limit:
            candidates = min(limit, (config.generations or math.inf) * config.generation)
            whole, rest = divmod(candidates, config.generation)
            self.total = whole * per_generation + _passes(config, int(rest), train_images)
        if config.free:
            self.total *= config.seeds
        else:
            assert config.finalists is not None, "resolve the settings first"
            self._of_finalist, self._finalists = config.seeds * config.full_epochs, config.finalists
            self.total += self._finalists * self._of_finalist
        self.done = self._before = min(generations * per_generation, self.total)

    def add(self, images: int | None) -> None:
        """Count one epoch. images: training images in it; None: all."""
        self.done = min(self.total, self.done + min(1.0, (images or self.train_images) / self.train_images))

    def plan_finalists(self, count: int) -> None:
        """Expect this number of finalists."""
        self.total += (count - self._finalists) * self._of_finalist
        self._finalists = count

    def seconds_left(self, elapsed: float) -> float | None:
        """Estimated seconds to come. elapsed: seconds since this start. None before the first epoch is done."""
        done = self.done - self._before
        return elapsed * (self.total - self.done) / done if done else None


def _passes(config: Config, entrants: int, train_images: int) -> float:
    """Passes over the training images in the partial training of a generation."""
    ends, epochs = config.rungs(), 0
    for start, end in zip((0, *ends), ends):
        epochs += entrants * (end - start)
        entrants = math.ceil(entrants / 3)
    return epochs * min(1.0, config.partial_images / train_images)


class Display:
    """Shows the progress of a search: by work, or by time if the search has a time limit.

    progress: the user's display. work: None with a time limit.
    """

    def __init__(self, progress: Progress, clock: Clock, *, work: Work | None, hours: float | None) -> None:
        self.progress, self.clock, self.work = progress, clock, work
        self._limit_seconds = (hours or 0) * 3600

    def add(self, images: int | None) -> None:
        """Count one epoch. images: training images in it; None: all."""
        if self.work is not None:
            self.work.add(images)

    def plan_finalists(self, count: int) -> None:
        """Expect this number of finalists."""
        if self.work is not None:
            self.work.plan_finalists(count)

    def show(self, stage: str, *, trained: int, best: float | None) -> None:
        """Show the stage, the candidates trained, and the best anytime accuracy so far."""
        if self.work is not None:
            done, total = self.work.done, self.work.total
            left = self.work.seconds_left(self.clock.since_start())
        else:
            total = self._limit_seconds
            done = min(self.clock.elapsed(), total)
            left = total - done
        self.progress.show(State(stage=stage, done=done, total=total, trained=trained, best=best, seconds_left=left))
