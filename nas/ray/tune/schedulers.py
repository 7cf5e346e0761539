"""The schedulers of Tune that stop candidates of an asynchronous search at their rungs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, HyperBandScheduler, MedianStoppingRule, TrialScheduler

from nas.ray.tune.stretches import EPOCH, ETA, METRIC, RESOURCE

_SHARED: dict[str, Any] = {"time_attr": RESOURCE, "metric": METRIC, "mode": "max"}


def _asha(most: int) -> TrialScheduler:
    return AsyncHyperBandScheduler(grace_period=1, max_t=most, reduction_factor=ETA, **_SHARED)


def _median(most: int) -> TrialScheduler:
    never: Any = math.inf  # a rule that yields would pause the first trials
    return MedianStoppingRule(grace_period=1, min_samples_required=3, min_time_slice=never, **_SHARED)


def _hyperband(most: int) -> TrialScheduler:
    return HyperBandScheduler(max_t=most, reduction_factor=ETA, **_SHARED)


_SCHEDULERS: dict[str, Callable[[int], TrialScheduler]] = {"asha": _asha, "median": _median, "hyperband": _hyperband}


def band_size(rungs: Sequence[int]) -> int:
    """Candidates that fill the brackets of Hyperband, which compares the members of a bracket; others need one."""
    count = len(rungs)
    return sum(math.ceil(count / (s + 1) * ETA**s) for s in range(count))


class _Earlier:
    """Stands for a trial of an earlier run."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def scheduler_of(name: str, rungs: Sequence[int], earlier: Mapping[int, Mapping[int, float]]) -> TrialScheduler:
    """A scheduler that knows the results of earlier runs.

    Parameters
    ----------
    name
        "asha", "median" or "hyperband"; the last compares candidates of its brackets only, so it ignores earlier ones.
    rungs
        Epochs.
    earlier
        Results by candidate, then by epochs.
    """
    scheduler = _SCHEDULERS[name](ETA ** (len(rungs) - 1))
    if name != "hyperband":
        for number, reached in earlier.items():
            _inform(scheduler, _Earlier(f"candidate {number}"), rungs, reached)
    return scheduler


def _inform(scheduler: Any, trial: Any, rungs: Sequence[int], reached: Mapping[int, float]) -> None:
    results = [
        {METRIC: reached[epochs], EPOCH: epochs, RESOURCE: ETA**place}
        for place, epochs in enumerate(rungs)
        if epochs in reached
    ]
    if results:
        scheduler.on_trial_add(None, trial)
        for result in results:
            scheduler.on_trial_result(None, trial, result)
        scheduler.on_trial_complete(None, trial, results[-1])
