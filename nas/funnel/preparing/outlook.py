"""The candidates, epochs and finalists that the limits of a search allow, before it starts."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from nas.config import Config
from nas.evaluation.jobs import Job
from nas.funnel.driver import StudyParts
from nas.funnel.eta import Work
from nas.funnel.limits import DEFAULT_TRAIN, FIRST_SHARE, SEARCH_SHARE
from nas.funnel.preparing.preparation import default_workers
from nas.screening.budgets import ATTEMPTS
from nas.screening.proposals import Proposal
from nas.screening.references import feasible_references
from nas.seeds import seed
from nas.spaces.choices import at_random
from nas.workers.machines import usable_cores

TIMED_IMAGES = 2_000
"""Images of the epoch that is timed."""


def outlook(parts: StudyParts, high: float) -> str:
    """A sentence on the candidates, epochs and finalists that the limits of a search allow.

    Parameters
    ----------
    parts
        Of the study, with resolved settings.
    high
        Largest budget in MACs.

    Returns
    -------
    str
        Exact for limits in candidates and generations. For a limit in hours an estimate: an epoch of a typical network
        is timed, which takes some seconds. Empty if nothing can be said before the start: on Ray, and if trainings
        are free.
    """
    config = parts.config
    if config.free:
        return ""
    if config.hours is None:
        return _counted(config, parts.info.train_images)
    return "" if config.ray else _timed(parts, high)


def _counted(config: Config, train_images: int) -> str:
    """The sentence for limits in candidates and generations."""
    most = config.train or (DEFAULT_TRAIN if config.generations is None else math.inf)
    candidates = int(min(most, (config.generations or math.inf) * config.generation))
    generations = math.ceil(candidates / config.generation)
    work = Work(config, train_images, limit=most, generations=0)
    finalists = min(config.finalists or 0, candidates)
    work.plan_finalists(finalists)
    repeats = f", {config.seeds} times each" if config.seeds > 1 else ""
    return (
        f"It will train {_number(candidates, 'candidate')} in {_number(generations, 'generation')}, and at most "
        f"{_number(finalists, 'finalist')} for {_number(config.full_epochs, 'epoch')} on all images{repeats}: "
        f"{work.total:,.0f} passes over the training images."
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _timed(parts: StudyParts, high: float) -> str:
    """The sentence for a limit in hours."""
    config, images = parts.config, min(parts.config.partial_images, parts.info.train_images)
    typical = _typical(parts, high)
    if typical is None:
        return "How many candidates the time allows is unknown: no random proposal is feasible."
    workers, cores = config.workers or default_workers(config), config.threads or usable_cores()
    try:
        alone, together = (_seconds_per_image(parts, typical, threads) for threads in (config.least_threads, cores))
    except Exception as error:  # any exception of a plug-in
        return f"How many candidates the time allows is unknown: an epoch failed with {type(error).__name__}: {error}"
    assert config.hours is not None
    total = config.hours * 3600
    first = max(1, round(FIRST_SHARE * total / (alone * images) * workers))
    passes = min(config.most_passes, (1 - SEARCH_SHARE) * total / (together * parts.info.train_images))
    return (
        f"In {config.hours:g} hours about {first:,} candidates will be compared after an epoch, and the winner will be "
        f"trained for about {passes:.3g} passes over the training images, if all train like {typical.key[:8]} of "
        f"{typical.space} with {typical.macs[-1]:,} MACs: {1 / alone:,.0f} images per second."
    )


def _typical(parts: StudyParts, high: float) -> Proposal | None:
    """A reference of middle size, or a random proposal; None if none is feasible."""
    screener = parts.screener
    if parts.config.references is not False and (found := feasible_references(screener, high)):
        return sorted((each.proposal for each in found), key=lambda each: each.macs[-1])[len(found) // 2]
    decide = at_random(np.random.default_rng(seed(parts.config.seed, "outlook")))
    proposals = (screener.propose(decide) for _ in range(ATTEMPTS))
    return next((each for each in proposals if isinstance(each, Proposal)), None)


def _seconds_per_image(parts: StudyParts, proposal: Proposal, threads: int) -> float:
    """Seconds of training per image; the first epoch is left out, in which memory is allocated."""
    images = min(TIMED_IMAGES, parts.info.train_images)
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for until in (1, 2):
            job = Job(
                candidate=0,
                architecture=proposal.architecture.to_json(),
                seed=0,
                epochs=2,
                until=until,
                images=images,
                folder=str(Path(folder) / "timed"),
                space=proposal.space,
                measured_images=min(parts.info.validation_images, 100 + parts.info.task.num_classes),
                threads=threads,
            )
            seconds.append(parts.evaluator.evaluate(job, lambda epoch: None).seconds)
    return max(1e-9, seconds[1] - seconds[0]) / images
