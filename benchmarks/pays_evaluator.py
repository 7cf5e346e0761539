"""The evaluator of the searches of `pays.py`: the default one, whose seconds are CPU time.

A search plans the training of its finalists with the seconds of earlier trainings, so that they must be in the unit of
its clock.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import evaluators.training.evaluator as default
from nas.representation.architecture import Architecture

default.time = SimpleNamespace(monotonic=time.process_time)


class TrainingInCpuTime(default.Training):
    """Trains in torch, partially or completely; seconds are CPU time of this process."""


class TrainingAnew(TrainingInCpuTime):
    """Starts each training from new weights: no training continues another one."""

    def continues(self, architecture: Architecture) -> bool:
        return False
