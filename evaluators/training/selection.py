"""The final search on a trained supernet: measures subnetworks and makes the best ones its operating points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from evaluators.data.arrays import Batches, channels_last
from evaluators.data.datasets import subset
from evaluators.training.accuracy import RightAnswers
from evaluators.training.latency import latency_ms
from nas.deploy.subnetwork_search import choose_points, search_subnetworks
from nas.evaluation.jobs import Diverged
from nas.evaluation.operating_points import Found, Measured, Selection
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Subnetwork
from results.front import Score, non_dominated_rank

if TYPE_CHECKING:
    from evaluators.training.evaluator import Training

QUICK_CALIBRATION = 512  # training images for the norms of a subnetwork in the search
QUICK_VALIDATION = 2_000  # validation images
SLACK = 1.1  # measured again, latency may be that much better
SHORTLIST = 6  # times the operating points are measured again, on all validation images


def select_points(
    trainer: Training,
    network: AnytimeNetwork,
    selection: Selection,
    *,
    images: int | None,
    seed: int,
    points: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[AnytimeNetwork, list[Measured], Found]:
    """The trained network with the operating points that a final search chose, not yet calibrated; the points as they
    were measured; and all that it saw.

    Every subnetwork is recalibrated before it counts. The search measures on a part of the validation images; what it
    finds on its front, and the network's own points, are measured again on all of them, and the operating points are
    chosen by that: as many as the network has, or ``points``.

    images: training images that the network was trained on, for calibration. report: see
    :func:`nas.deploy.subnetwork_search.search_subnetworks`.

    Raises Diverged when fewer subnetworks than that keep the limits, and UserError where points have norms of their
    own, or where no subnetwork keeps the limits on MACs and parameters.
    """
    wanted = points or network.levels
    timed = selection.limits.max_latency_ms is not None
    rows = trainer.training_rows(images)
    validation = trainer.parts[1]
    part = subset(trainer.dataset.y_train[validation], size=min(QUICK_VALIDATION, len(validation)), seed=0)
    quick = _Measure(
        trainer.calibration(rows, seed, images=QUICK_CALIBRATION),
        trainer.loader("train", validation[part], 512),
        network,
        timed,
    )
    whole = _Measure(trainer.calibration(rows, seed), trainer.loader("train", validation, 512), network, timed)
    found = search_subnetworks(
        network.architecture,
        quick,
        limits=selection.limits,
        evaluations=selection.evaluations,
        seed=seed,
        report=report,
    )
    limit = selection.limits.max_latency_ms or math.inf
    quick_enough = [m for m in found.measured if (m.latency_ms or 0.0) <= SLACK * limit]
    short = _shortlist(quick_enough, network.architecture.points, SHORTLIST * wanted, limit)
    again = [
        Measured(subnetwork=m.subnetwork, macs=m.macs, params=m.params, accuracy=accuracy, latency_ms=latency)
        for m, (accuracy, latency) in zip(short, whole([m.subnetwork for m in short]))
    ]
    costs = [m.macs for m in again] or [1]
    low = min(costs) if selection.low is None else selection.low
    high = 1.01 * max(low, *costs) if selection.high is None else selection.high
    chosen = choose_points(again, wanted, Score(low=low, high=high, floor=trainer.info().floor), selection.limits)
    if len(chosen) < wanted:
        raise Diverged(
            f"The final search must find {wanted} operating points within the limits. Of {len(found.measured)} "
            f"subnetworks measured, {len(quick_enough)} were near them and {len(chosen)} kept them: raise the limits, "
            "or ask for fewer points."
        )
    return network.with_points([m.subnetwork for m in chosen]), chosen, found


class _Measure:
    """Measures subnetworks one by one, each as a network with norms of its own."""

    def __init__(self, calibration: Batches, validation: Batches, network: AnytimeNetwork, timed: bool):
        self.calibration, self.validation, self.network, self.timed = calibration, validation, network, timed

    @torch.no_grad()
    def __call__(self, subnetworks: list[Subnetwork]) -> list[tuple[float, float | None]]:
        return [self._measured(subnetwork) for subnetwork in subnetworks]

    def _measured(self, subnetwork: Subnetwork) -> tuple[float, float | None]:
        network = self.network.with_points([subnetwork])
        shape = network.architecture.task.input_shape
        channels_last(network, shape)
        if network.architecture.norm == "recalibrated":
            calibrate(network, self.calibration)
        network.eval()
        right = RightAnswers(network.architecture.task)
        for x, y in self.validation.evaluate():
            right.add(network.forward_unfolded(x), y)
        return right.accuracies()["accuracy"], latency_ms(network.extract(0), shape) if self.timed else None


def calibrate(network: AnytimeNetwork, images: Batches) -> None:
    """Estimate the norms' statistics of every operating point; the same ones whenever it is done."""
    network.calibrate(x for x, _ in images.train(torch.Generator().manual_seed(0)))


def _shortlist(measured: list[Measured], points: tuple[Subnetwork, ...], count: int, limit: float) -> list[Measured]:
    """Those to measure again: the network's own points first, then the best by rank in accuracy and MACs; what is over
    the latency limit after all that keeps it.
    """
    if not measured:
        return []
    rank = non_dominated_rank([(m.accuracy, -m.macs) for m in measured])
    over = [(m.latency_ms or 0.0) > limit for m in measured]
    order = sorted(range(len(measured)), key=lambda i: (over[i], measured[i].subnetwork not in points, rank[i]))
    return [measured[i] for i in order[:count]]
