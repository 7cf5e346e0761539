"""Which candidates are trained in full, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.front import Score, hypervolume


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is known of a candidate that may be trained in full.

    macs, accuracy: of its points, at the highest fidelity so far. seconds_per_image: of training, evaluation included.
    """

    candidate: int
    key: str
    macs: tuple[int, ...]
    accuracy: tuple[float, ...]
    seconds_per_image: float


def choose_finalists(curves: Sequence[Curve], score: Score, count: int) -> list[Curve]:
    """Up to ``count`` candidates, each the one whose points add most to the anytime accuracy of those before it.

    A study's result is the front over all points: two finalists that are good at different budgets are worth more than
    the two best curves. Where they add as much, by the hypervolume of the front, which also sees points below the range
    of budgets; then by their own anytime accuracy and by key.
    """

    def value(union: list[Curve]) -> tuple[float, float]:
        macs = [m for c in union for m in c.macs]
        accuracy = [a for c in union for a in c.accuracy]
        area = hypervolume(macs, accuracy, reference_cost=score.high, reference_accuracy=score.floor)
        return score(macs, accuracy), area

    chosen: list[Curve] = []
    left = sorted(curves, key=lambda c: (-score(c.macs, c.accuracy), c.key))
    while left and len(chosen) < count:
        best = max(left, key=lambda c: value([*chosen, c]))
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
    extra: float = 0.0,
) -> tuple[list[Curve], int]:
    """As many finalists, in order, and as many epochs as fit into a time; at least one finalist and one epoch.

    seconds: wall-clock time for all. images: training images in an epoch. least: epochs below which a finalist is left
    out instead. extra: what comes after training, in seconds of training on one image.
    """
    kept = list(finalists)
    while kept:
        longest_first = sorted((c.seconds_per_image for c in kept for _ in range(repeats)), reverse=True)
        loads = [0.0] * workers
        for load in longest_first:
            loads[loads.index(min(loads))] += load
        busiest = max(*loads, 1e-12, 1e-12)
        epochs = int(max(0.0, min(most, (seconds / busiest - extra) / images)))
        if epochs >= least or len(kept) == 1:
            return kept, max(1, epochs)
        kept.pop()
    return kept, most
