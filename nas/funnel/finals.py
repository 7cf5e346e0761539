"""The finalists: which candidates are trained in full, for how many epochs, with which final search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nas.config import Config
from nas.evaluation.operating_points import EVALUATIONS
from nas.funnel.records import Candidate, Curve, Records
from nas.funnel.state import FinalsPlan, StateKeeper
from nas.funnel.training import CandidateTrainer
from nas.representation.architecture import Architecture
from nas.workers.job_folder import discard
from results.front import Score, hypervolume

RESERVE = 0.9  # share of the time left that is planned for
LEAST_EPOCHS = 3
SELECTION_SHARE = 0.1  # cost of measuring a subnetwork on an image, relative to training on an image
SELECTION_IMAGES = 2_000  # most images of one kind that a final search measures a subnetwork on


class Finals:
    """Full training of the finalists on all training images, measured on the test images."""

    def __init__(self, config: Config, records: Records, keeper: StateKeeper, trainer: CandidateTrainer):
        self.config, self.records, self.keeper, self.trainer = config, records, keeper, trainer

    def run(self, generations: int) -> str:
        """Train the finalists. Returns a note on those that failed, or "". generations: trained so far.

        The finalists train one after the other if latency is limited, so that no training disturbs the measurement.
        There are none if trainings are free.
        """
        if self.config.free:
            return ""
        plan = self.keeper.state.finals
        if plan is None or plan.generations != generations:
            plan = self._plan(generations)
            self.keeper.update(finals=plan)
        by_id = {candidate.id: candidate for candidate in self.records.numbered(plan.candidates)}
        repeats = [(by_id[number], repeat) for repeat in range(self.config.seeds) for number in plan.candidates]
        missing = self._missing(repeats, plan)
        for together in [missing] if self.config.max_latency_ms is None else [[one] for one in missing]:
            self.trainer.train(
                together,
                label=f"{len(plan.candidates)} finalists: {plan.epochs} epochs",
                stage="full",
                epochs=plan.epochs,
                until=plan.epochs,
                images=None,
                test=True,
                selection=self._selection,
            )
        failed = [candidate.id for candidate, _ in self._missing(repeats, plan)]
        for candidate, repeat in repeats:
            if candidate.id not in failed:  # a failed training restarts from its checkpoint
                discard(self.trainer.evaluator, self.records.folder(candidate.key, "full", repeat))
        if not failed:
            return ""
        (last,) = self.records.numbered(failed[-1:])
        count = f"{len(set(failed))} of {len(plan.candidates)}"
        return f"; {count} finalists failed in full training, the last: {last.reason}"

    def _missing(self, repeats: Sequence[tuple[Candidate, int]], plan: FinalsPlan) -> list[tuple[Candidate, int]]:
        """The candidates and repeats without test accuracies."""
        fidelity = self.records.fidelity(plan.epochs, None)
        return [(c, repeat) for c, repeat in repeats if not self.records.is_tested(c, fidelity, repeat)]

    def _plan(self, generations: int) -> FinalsPlan:
        """Choose the finalists, and the epochs that fit into the time left."""
        config = self.config
        assert config.finalists is not None, "resolve the settings first"
        curves = self.records.curves("finished") or self.records.curves("stopped")
        finalists, epochs = choose_finalists(curves, self.records.score, config.finalists), config.full_epochs
        if config.hours is not None:
            # The front is of the highest fidelity, so full training must exceed partial training.
            least = min(epochs, max(LEAST_EPOCHS, 1 + math.floor(self.records.rung(config.rungs()[-1]))))
            finalists, epochs = epochs_within(
                finalists,
                seconds=RESERVE * max(0.0, config.hours * 3600 - self.keeper.clock.elapsed()),
                images=self.records.info.train_images,
                workers=self.trainer.runner.slots,
                repeats=config.seeds,
                most=epochs,
                least=least,
                extra_images=max(map(self._selection_work, finalists), default=0.0),
            )
            finalists = finalists if epochs >= least else []
        return FinalsPlan(
            generations=generations, epochs=epochs, candidates=tuple(curve.candidate for curve in finalists)
        )

    def _selection_work(self, curve: Curve) -> float:
        """Estimated time of a finalist's final search, in training images."""
        selection = self._selection(self.records.architecture(curve.candidate))
        images = SELECTION_IMAGES + min(SELECTION_IMAGES, self.records.info.validation_images)
        return SELECTION_SHARE * images * selection["evaluations"] if selection else 0.0

    def _selection(self, architecture: Architecture) -> dict[str, Any] | None:
        """The settings of a finalist's final search; None for none.

        By default, there is one if the training rule samples subnetworks, or if latency is limited.
        """
        config, score = self.config, self.records.score
        if architecture.norm == "per_point":  # other subnetworks have no norms
            return None
        evaluations = config.final_search
        if evaluations is None:
            useful = config.max_latency_ms is not None or self.trainer.evaluator.samples_subnetworks(architecture)
            evaluations = EVALUATIONS if useful else 0
        if not evaluations:
            return None
        limits = {name: getattr(config, name) for name in ("max_macs", "max_params", "max_latency_ms")}
        return {"evaluations": evaluations, "low": score.low, "high": score.high, **limits}


def choose_finalists(curves: Sequence[Curve], score: Score, count: int) -> list[Curve]:
    """Choose finalists greedily: each adds the most anytime accuracy to the union of those before it.

    Parameters
    ----------
    curves
        Results of the candidates.
    score
        The anytime accuracy of the study.
    count
        Most finalists.

    Returns
    -------
    list of Curve
        In order of choice.

    Notes
    -----
    The result of a study is the front over all points, so two finalists that are good at different budgets are worth
    more than the two best curves. Ties are broken by the hypervolume of the front, which includes points below the
    range of budgets; then by the anytime accuracy of the curve, and by key.
    """

    def value(union: list[Curve]) -> tuple[float, float]:
        macs = [m for curve in union for m in curve.macs]
        accuracy = [a for curve in union for a in curve.accuracy]
        area = hypervolume(macs, accuracy, reference_cost=score.high, reference_accuracy=score.floor)
        return score(macs, accuracy), area

    chosen: list[Curve] = []
    left = sorted(curves, key=lambda c: (-score(c.macs, c.accuracy), c.key))
    while left and len(chosen) < count:
        best = max(left, key=lambda curve: value([*chosen, curve]))
        left.remove(best)
        chosen.append(best)
    return chosen


def epochs_within(
    finalists: Sequence[Curve],
    *,
    seconds: float,
    images: int,
    workers: int,
    repeats: int,
    most: int,
    least: int,
    extra_images: float = 0.0,
) -> tuple[list[Curve], int]:
    """The finalists, first ones first, and the epochs of full training that fit into a time limit.

    Parameters
    ----------
    finalists
        In order of choice; the last ones are left out if the time is short.
    seconds
        Wall-clock time for all.
    images
        Training images of an epoch.
    workers, repeats
        Trainings side by side, and trainings of each finalist.
    most, least
        Epochs. Below ``least``, a finalist is left out instead.
    extra_images
        Time after training, in seconds of training on one image.

    Returns
    -------
    tuple of finalists and epochs
        At least one of each, unless there are no finalists.
    """
    remaining = list(finalists)
    while remaining:
        longest_first = sorted((curve.seconds_per_image for curve in remaining for _ in range(repeats)), reverse=True)
        loads = [0.0] * workers
        for load in longest_first:
            loads[loads.index(min(loads))] += load
        busiest = max(*loads, 1e-12)
        epochs = int(max(0.0, min(most, (seconds / busiest - extra_images) / images)))
        if epochs >= least or len(remaining) == 1:
            return remaining, max(1, epochs)
        remaining.pop()
    return remaining, most
