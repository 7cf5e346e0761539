"""The final search on a trained supernet: measures subnetworks and makes the best of them the operating points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from evaluators.data.batches import Batches, channels_last
from evaluators.data.source import ImageSource
from evaluators.data.splitting import subset
from evaluators.training.accuracy import AccuracyCounter, constant_accuracy
from evaluators.training.latency import latency_ms
from evaluators.training.measurement import calibrate
from nas.deploy.subnetwork_search import choose_points, search_subnetworks
from nas.evaluation.jobs import Diverged
from nas.evaluation.operating_points import MeasuredSubnetwork, SelectionSettings, SubnetworkSearchResult
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Subnetwork, Task
from results.front import Score, non_dominated_rank

QUICK_CALIBRATION = 512
"""Training images for the norms of a subnetwork during the search."""
QUICK_VALIDATION = 2_000
"""Validation images during the search."""
LATENCY_TOLERANCE = 1.1
"""Subnetworks up to this factor over the latency limit are measured again."""
SHORTLIST = 6
"""Subnetworks that are measured again on all validation images, per operating point."""


def select_points(
    source: ImageSource,
    network: AnytimeNetwork,
    selection: SelectionSettings,
    *,
    images: int | None,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[AnytimeNetwork, list[MeasuredSubnetwork], SubnetworkSearchResult]:
    """Search operating points for a trained network.

    Parameters
    ----------
    source
        Images for the calibration of norms and for validation.
    network
        The trained supernet.
    selection
        Settings of the search.
    images
        Number of training images of the network's training, for calibration; None: all.
    seed
        Of the search and the calibration images.
    report
        See :func:`nas.deploy.subnetwork_search.search_subnetworks`.

    Returns
    -------
    network
        The network with the selected operating points, not yet calibrated.
    measured
        The selected subnetworks with their costs and measures.
    search
        All measured subnetworks.

    Raises
    ------
    Diverged
        Fewer subnetworks than ``selection.points`` are within the limits.
    UserError
        Every operating point has its own norms, or no subnetwork is within the limits on MACs and parameters.

    Notes
    -----
    Every subnetwork is recalibrated before its measurement. The search measures on a part of the validation images.
    Its Pareto-optimal subnetworks and the network's present points are then measured on all of them, and the operating
    points are selected by these values.
    """
    count = selection.points or network.levels
    quick, exact = _measures(source, network, selection, images, seed)
    search = search_subnetworks(
        network.architecture,
        quick,
        limits=selection,
        evaluations=selection.evaluations,
        seed=seed,
        report=report,
    )
    limit = selection.max_latency_ms or math.inf
    near = [m for m in search.measured if (m.latency_ms or 0.0) <= LATENCY_TOLERANCE * limit]
    candidates = shortlist(near, network.architecture.points, SHORTLIST * count, limit)
    measured = [
        MeasuredSubnetwork(subnetwork=m.subnetwork, macs=m.macs, params=m.params, accuracy=accuracy, latency_ms=latency)
        for m, (accuracy, latency) in zip(candidates, exact([m.subnetwork for m in candidates]))
    ]
    costs = [m.macs for m in measured] or [1]
    low = min(costs) if selection.low is None else selection.low
    high = 1.01 * max(low, *costs) if selection.high is None else selection.high
    floor = constant_accuracy(source.task, source.validation_labels)
    selected = choose_points(measured, count, Score(low=low, high=high, floor=floor), selection)
    if len(selected) < count:
        raise Diverged(
            f"The final search must find {count} operating points within the limits. Of {len(search.measured)} "
            f"measured subnetworks, {len(near)} were near the limits and {len(selected)} within: raise the limits, "
            "or request fewer points."
        )
    return network.with_points([m.subnetwork for m in selected]), selected, search


def _measures(
    source: ImageSource, network: AnytimeNetwork, selection: SelectionSettings, images: int | None, seed: int
) -> tuple[_SubnetworkMeasure, _SubnetworkMeasure]:
    """The quick measure of the search, and the measure on all validation images."""
    timed = selection.max_latency_ms is not None
    rows, validation = source.training_subset(images), source.validation_rows
    part = subset(source.validation_labels, size=min(QUICK_VALIDATION, len(validation)), seed=0)
    share = network.augmented
    calibration = source.calibration(rows, seed, share=share, images=QUICK_CALIBRATION)
    return (
        _SubnetworkMeasure(calibration, source.validation(validation[part]), network, source.task, timed),
        _SubnetworkMeasure(
            source.calibration(rows, seed, share=share), source.validation(), network, source.task, timed
        ),
    )


class _SubnetworkMeasure:
    """Measures subnetworks one by one, each with recalibrated norms."""

    def __init__(self, calibration: Batches, validation: Batches, network: AnytimeNetwork, task: Task, timed: bool):
        self.calibration, self.validation, self.network = calibration, validation, network
        self.task, self.timed = task, timed

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
        counter = AccuracyCounter(self.task)
        for x, y in self.validation.evaluate():
            counter.add(network.forward_unfolded(x), y)
        return counter.accuracies()["accuracy"], latency_ms(network.extract(0), shape) if self.timed else None


def shortlist(
    measured: list[MeasuredSubnetwork], points: tuple[Subnetwork, ...], count: int, limit: float
) -> list[MeasuredSubnetwork]:
    """The subnetworks to measure again, at most ``count``.

    Order: within the latency limit before over it; the network's present ``points`` before other subnetworks; then by
    Pareto rank in accuracy and MACs.
    """
    if not measured:
        return []
    rank = non_dominated_rank([(m.accuracy, -m.macs) for m in measured])
    over = [(m.latency_ms or 0.0) > limit for m in measured]
    order = sorted(range(len(measured)), key=lambda i: (over[i], measured[i].subnetwork not in points, rank[i]))
    return [measured[i] for i in order[:count]]
