"""How long a training may take without completing an epoch before it counts as hung: `--trial-timeout`."""

from __future__ import annotations

from nas.config import Config
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.state import StateKeeper
from nas.representation.architecture import macs

TIMES_SLOWEST = 20
LEAST_SECONDS = 600.0
UNMEASURED_SECONDS, UNMEASURED_IMAGES = 3600.0, 10_000
"""An hour for every so many images, at least an hour, while no training of the study has ended."""


class TrialPatience:
    """The limit of each job, from the slowest epoch of the study.

    keeper: holds seconds per image and MAC of the slowest epoch. train_images: in an epoch over all images.
    """

    def __init__(self, config: Config, keeper: StateKeeper, *, train_images: int) -> None:
        self._timeout, self._keeper, self._train_images = config.trial_timeout, keeper, train_images

    def observe(self, job: Job, outcome: Outcome) -> None:
        """Take the duration of a training, measurements included, into account."""
        work = outcome.epochs * outcome.images * _largest_macs(job)
        if work and not job.selection:
            self._keeper.note_epoch(outcome.seconds / work)

    def __call__(self, job: Job) -> float:
        """Seconds that a job may take until its next event."""
        if self._timeout is not None:
            return self._timeout
        images = job.images or self._train_images
        slowest = self._keeper.state.slowest_epoch
        if not slowest:
            return UNMEASURED_SECONDS * max(1.0, images / UNMEASURED_IMAGES)
        return max(LEAST_SECONDS, TIMES_SLOWEST * slowest * images * _largest_macs(job))


def _largest_macs(job: Job) -> int:
    return max(macs(job.parsed_architecture))
