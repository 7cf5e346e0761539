"""How much training a study is, in passes over all training images: for the progress bar and its estimate."""

from __future__ import annotations

import math

from nas.config import Config


class Work:
    """Counts passes over the training images, done and to come.

    limit: candidates to train. generations: those done before this start.
    """

    def __init__(self, config: Config, train_images: int, *, limit: float, generations: int):
        self.train_images = train_images
        share = min(1.0, config.images / train_images)
        ends, entrants, epochs = config.rungs(), config.generation, 0.0
        for start, end in zip((0, *ends), ends):
            epochs += entrants * (end - start)
            entrants = math.ceil(entrants / 3)
        per_generation = epochs * share
        count = (
            math.ceil(min(limit, (config.generations or math.inf) * config.generation) / config.generation)
            if limit
            else 0
        )
        self.total = count * per_generation + config.finalists * config.seeds * config.full_epochs
        self.done = self._before = min(generations * per_generation, self.total)

    def add(self, images: int | None) -> None:
        """One epoch over so many images (None: all) is done."""
        self.done = min(self.total, self.done + min(1.0, (images or self.train_images) / self.train_images))

    def seconds_left(self, elapsed: float) -> float | None:
        """Estimate from the seconds since this start; None before anything is done."""
        done = self.done - self._before
        return elapsed * (self.total - self.done) / done if done else None
