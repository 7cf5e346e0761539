"""The stages of a training in steps: images, batch size and learning rate of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.data.batches import training_sizes
from evaluators.training.schedule import default_batch_size, default_learning_rate
from nas.config.recipes import Recipe
from nas.evaluation.jobs import Stage, images_seen
from nas.representation.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInSteps:
    """A stage of one training.

    stage: as in the job. recipe: with its schedule. begin: its first epoch, counted from 0. images, steps: of an epoch.
    learning_rate: its peak. before: steps of all earlier stages. passes: over all training images, of the training at
    the end of the stage.
    """

    stage: Stage
    recipe: Recipe
    begin: int
    images: int
    batch_size: int
    learning_rate: float
    steps: int
    before: int
    passes: float

    @property
    def after(self) -> int:
        """Steps of the training at the end of the stage."""
        return self.before + (self.stage.end - self.begin) * self.steps

    def first_step(self, epoch: int) -> int:
        """The number of the first step of one of its epochs."""
        return self.before + (epoch - self.begin) * self.steps

    def rate(self, step: int) -> float:
        """The learning rate at one of its steps."""
        passed = (step - self.before) / (self.after - self.before)
        start, stop = self.stage.start, self.stage.stop
        return self.learning_rate * self.recipe.factor(start + (stop - start) * passed)


def in_steps(
    stages: Sequence[Stage], recipe: Recipe, architecture: Architecture, train_images: int
) -> tuple[StageInSteps, ...]:
    """The stages of a training of an architecture. train_images: number of all training images."""
    planned: list[StageInSteps] = []
    begin = before = 0
    for stage in stages:
        images = train_images if stage.images is None else min(stage.images, train_images)
        batch_size = recipe.batch_size or default_batch_size(images)
        planned.append(
            StageInSteps(
                stage=stage,
                recipe=recipe,
                begin=begin,
                images=images,
                batch_size=batch_size,
                learning_rate=recipe.learning_rate or default_learning_rate(batch_size, architecture, recipe.optimiser),
                steps=len(training_sizes(images, batch_size)),
                before=before,
                passes=images_seen(stages, stage.end, train_images) / train_images,
            )
        )
        begin, before = stage.end, planned[-1].after
    return tuple(planned)
