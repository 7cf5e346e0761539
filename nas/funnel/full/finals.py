"""The finalists: which candidates are trained in full, on how many images, with which final search.

A finalist continues its partial training: the learning rate restarts, and falls to zero over the rest. With a time
limit, the schedule has two halves, and the second is fitted to the time that the first has left. The network is
measured and saved several times, so that an interrupted search leaves one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.config import Config
from nas.evaluation.jobs import Stage
from nas.evaluation.operating_points import EVALUATIONS
from nas.funnel.forecast import factor
from nas.funnel.full.plan import LEAST_IMAGES, FinalsPlan, halves, images_within, second_half, whole
from nas.funnel.records import Candidate, Curve, Records
from nas.funnel.rungs import MEASURED_IMAGES, partial_stages, threads_for
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer, Stretch
from nas.representation.architecture import Architecture
from nas.workers.job_folder import discard, hand_over
from results.front import Score, hypervolume

RESERVE = 0.97  # share of the time left that is planned for
ANSWER = 0.35  # cost of measuring an image at all points, relative to training on it
SELECTION_SHARE = 0.1  # cost of measuring a subnetwork on an image, relative to training on an image
SELECTION_IMAGES = 2_000  # most images of one kind that a final search measures a subnetwork on
LEAST_GAIN = 0.005
"""Anytime accuracy that another finalist must add to the front; 0 if the time is limited, because it then costs time
that is weighed against its gain."""


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
            self.records.log(plan.reason)
        self.trainer.display.plan_finalists(len(plan.candidates))
        by_id = {candidate.id: candidate for candidate in self.records.numbered(plan.candidates)}
        finalists = [self._finalist(by_id[number], plan) for number in plan.candidates]
        self._train_to(plan.stages[0].end, plan, finalists)
        if not plan.fitted:
            plan = self._fitted(plan, finalists)
            self.keeper.update(finals=plan)
        for mark in plan.marks()[1:]:
            self._train_to(mark, plan, finalists)
        return self._ended(plan, finalists)

    def _train_to(self, mark: int, plan: FinalsPlan, finalists: Sequence[_Finalist]) -> None:
        """Train all finalists up to an epoch of full training, and measure them."""
        last = mark == plan.epochs
        groups = [[one] for one in finalists] if self.config.max_latency_ms is not None else _alike(finalists)
        for group in groups:
            partial = group[0].partial
            if partial is None and not last:  # its evaluator trains in one go
                continue
            repeats = [(one.candidate, repeat) for repeat in range(self.config.seeds) for one in group]
            stretch = self._stretch(plan, partial, mark, last=last, trainings=len(repeats))
            self.trainer.train(
                [each for each in repeats if not self._is_done(each, stretch)],
                stretch,
                label=f"{len(plan.candidates)} {'finalist' if len(plan.candidates) == 1 else 'finalists'}: epoch "
                f"{mark} of {plan.epochs}",
                selection=self._selection if last else lambda architecture: None,
            )

    def _stretch(
        self, plan: FinalsPlan, partial: tuple[Stage, ...] | None, mark: int, *, last: bool, trainings: int
    ) -> Stretch:
        """The stretch up to an epoch of full training."""
        stages = plan.after(partial or ())
        begin = stages[-1].end - plan.epochs
        return Stretch(
            part="full",
            epochs=begin + plan.epochs,
            until=begin + mark,
            images=next(stage.images for stage in stages if begin + mark <= stage.end),
            stages=() if partial is None else stages,
            test=last,
            save=True,
            measured_images=None if last else MEASURED_IMAGES,
            threads=threads_for(self.config, trainings),
        )

    def _finalist(self, candidate: Candidate, plan: FinalsPlan) -> _Finalist:
        """A finalist with its partial training, which it continues in the folder of full training.

        Repeats must not begin with the same weights, so all of several repeats are trained anew.
        """
        evaluator = self.trainer.evaluator
        if not (plan.continues and evaluator.continues(self.records.architecture(candidate.id))):
            return _Finalist(candidate=candidate, partial=None)
        if self.config.seeds > 1:
            return _Finalist(candidate=candidate, partial=())
        source, target = (self.records.folder(candidate.key, part, 0) for part in ("search", "full"))
        hand_over(evaluator.checkpoint, source, target)
        reached = max(self.records.reached(candidate.id))
        stages = tuple(stage for stage in partial_stages(self.config) if stage.end <= reached)
        return _Finalist(candidate=candidate, partial=stages)

    def _is_done(self, training: tuple[Candidate, int], stretch: Stretch) -> bool:
        """Whether the store has the results of a stretch."""
        candidate, repeat = training
        stages = stretch.stages or (Stage(stretch.epochs, stretch.images),)
        fidelity = self.records.passes(stages, stretch.until)
        return self.records.is_measured(candidate, fidelity, repeat, test=stretch.test)

    def _ended(self, plan: FinalsPlan, finalists: Sequence[_Finalist]) -> str:
        """Remove the checkpoints. Returns a note on the finalists that failed, or ""."""
        failed = []
        for one in finalists:
            stretch = self._stretch(plan, one.partial, plan.epochs, last=True, trainings=1)
            for repeat in range(self.config.seeds):
                if self._is_done((one.candidate, repeat), stretch):  # a failed training restarts from its checkpoint
                    discard(self.trainer.evaluator, self.records.folder(one.candidate.key, "full", repeat))
                else:
                    failed.append(one.candidate.id)
        if not failed:
            return ""
        (last,) = self.records.numbered(failed[-1:])
        count = f"{len(set(failed))} of {len(plan.candidates)}"
        return f"; {count} finalists failed in full training, the last: {last.reason}"

    # The plan --------------------------------------------------------------------------------------------------------

    def _plan(self, generations: int) -> FinalsPlan:
        """Choose the finalists, and the images that fit into the time left."""
        config, count = self.config, self.records.info.train_images
        assert config.finalists is not None, "resolve the settings first"
        curves = self.records.curves("finished")
        if config.hours is not None or not curves:
            curves += self.records.curves("stopped")

        def images(number: int, chosen: Sequence[Curve]) -> float:
            return self._images(chosen[:number])

        if config.hours is not None:  # the front is of the highest fidelity, so a new training must exceed the partial
            curves = [c for c in curves if images(1, [c]) > (0.0 if self._continues(c) else c.images)]
        finalists = self._chosen(curves, images)
        seen = images(len(finalists), finalists) if finalists else 0.0
        names = ", ".join(curve.key[:8] for curve in finalists) or "none, because no time is left"
        reason = f"Finalists: {names}; each is trained on {seen / count:.3g} × all training images."
        return FinalsPlan(
            generations=generations,
            candidates=tuple(curve.candidate for curve in finalists),
            stages=whole(config.full_epochs) if config.hours is None else halves(seen, count, least=self._least),
            fitted=config.hours is None,
            reason=reason,
        )

    def _chosen(self, curves: list[Curve], images: Callable[[int, Sequence[Curve]], float]) -> list[Curve]:
        """The finalists: another one joins only if the front of all is then better at the end of full training.

        images: of each training, for the first so many candidates of a list.
        """
        score, most = self.records.score, self.config.finalists
        assert most is not None
        if not curves:
            return []
        slope = self.records.typical_slope()
        ahead = {c.candidate: self._forecast(c, images(1, [c]), slope) for c in curves}
        order = [c.candidate for c in choose_finalists(list(ahead.values()), score, most)]
        by_id = {curve.candidate: curve for curve in curves}
        least, best, chosen = LEAST_GAIN if self.config.hours is None else 0.0, -math.inf, 0
        for number in range(1, len(order) + 1):
            first = [by_id[each] for each in order[:number]]
            seen = images(number, first)
            value = _value([self._forecast(curve, seen, slope) for curve in first], score)
            if value <= best + (least if chosen else 0.0):
                break
            best, chosen = value, number
        return [by_id[each] for each in order[:chosen]]

    def _forecast(self, curve: Curve, images: float, slope: float) -> Curve:
        """The curve after so many more images."""
        times = factor(self.records.learning_curve(curve.candidate), images, slope)
        return replace(curve, accuracy=tuple(1 - (1 - accuracy) * times for accuracy in curve.accuracy))

    def _images(self, curves: Sequence[Curve]) -> float:
        """Images that each of these finalists sees in full training."""
        config, count = self.config, self.records.info.train_images
        if config.hours is None:
            return config.full_epochs * count
        paces = {c.candidate: self.records.learning_curve(c.candidate).seconds_per_image for c in curves}
        affordable = self._within(paces)
        return min(config.most_passes * count, affordable) if math.isfinite(affordable) else config.full_epochs * count

    def _continues(self, curve: Curve) -> bool:
        evaluator = self.trainer.evaluator
        return self.config.seeds == 1 and evaluator.continues(self.records.architecture(curve.candidate))

    def _within(self, paces: Mapping[int, float]) -> float:
        """Images that each finalist can see in the time left. paces: seconds per image by id of the candidate."""
        info = self.records.info
        measured = ANSWER * (info.validation_images + info.test_images)
        extra = measured + max(map(self._selection_work, paces))
        return images_within(
            list(paces.values()),
            seconds=self._seconds_left(),
            workers=self.trainer.runner.slots,
            repeats=self.config.seeds,
            extra=extra,
        )

    def _seconds_left(self) -> float:
        assert self.config.hours is not None
        return RESERVE * max(0.0, self.config.hours * 3600 - self.keeper.clock.elapsed())

    def _fitted(self, plan: FinalsPlan, finalists: Sequence[_Finalist]) -> FinalsPlan:
        """The plan, whose second half takes the time that is left."""
        first, second = plan.stages
        paces = {one.candidate.id: self._pace(one, plan) for one in finalists if one.partial is not None}
        if paces:
            count = self.records.info.train_images
            seen = min(self._within(paces), self.config.most_passes * count / 2)
            second = second_half(first, seen, count, least=self._least)
        return replace(plan, stages=(first, second), fitted=True)

    def _pace(self, one: _Finalist, plan: FinalsPlan) -> float:
        """Seconds per image in the first half of full training, which may run on more threads than partial training."""
        records, partial = self.records, one.partial or ()
        *_, first, _ = plan.after(partial)
        before = records.passes(partial, partial[-1].end) if partial else 0.0
        after = records.passes((*partial, first), first.end)
        seconds = records.ledger[one.candidate.id].seconds
        if after not in seconds:  # it failed
            return records.learning_curve(one.candidate.id).seconds_per_image
        return (seconds[after] - seconds.get(before, 0.0)) / ((after - before) * records.info.train_images)

    @property
    def _least(self) -> int:
        """Least images of an epoch: enough for one of each class."""
        return max(LEAST_IMAGES, self.records.info.task.num_classes)

    def _selection_work(self, number: int) -> float:
        """Estimated time of a finalist's final search, in training images."""
        selection = self._selection(self.records.architecture(number))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finalist:
    """A finalist. partial: the stages before full training; None if its evaluator follows no stages."""

    candidate: Candidate
    partial: tuple[Stage, ...] | None


def _alike(finalists: Sequence[_Finalist]) -> list[list[_Finalist]]:
    """The finalists, grouped by their partial training."""
    groups: dict[tuple[Stage, ...] | None, list[_Finalist]] = {}
    for one in finalists:
        groups.setdefault(one.partial, []).append(one)
    return list(groups.values())


def _value(curves: Sequence[Curve], score: Score) -> float:
    """The anytime accuracy of the union of curves."""
    return score([m for curve in curves for m in curve.macs], [a for curve in curves for a in curve.accuracy])


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
