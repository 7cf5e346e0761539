"""Forecasts of the accuracy after more training, from the results of partial training.

The error falls with the images seen as a power: error(n) = error(n₀) (n / n₀)^-s. An image that was seen before counts
less each time, see :func:`distinct_images`: without this, a forecast over many passes would favour the network that
sees most images in the time, the smallest one. The exponent s of a candidate is estimated from its last two results and
shrunk to the typical one of the study, because both results are noisy; the typical one is shrunk to SLOPE in the same
way.

Candidates of a search with a time limit are compared by forecasts: in an equal time a small network sees more images
than a large one, and one that learns slowly at first may be the better one at the end.

References
----------
Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017 (power laws of the error).
Muennighoff et al., Scaling Data-Constrained Language Models, NeurIPS 2023 (repeated data; its constant is ours).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

SLOPE, SLOPE_SD = 0.3, 0.07
"""Exponent before any result, and the standard deviation of the exponents of candidates."""
REPEATS = 6.0
"""Passes after the first until a repeated image counts 1/e of a new one; fits one to nine passes of Fashion-MNIST."""
TRAINING_SD, TRAINING_IMAGES = 0.09, 2_500
"""Standard deviation between seeds of the logarithm of an error after so many images. It falls with their square root:
for references on Fashion-MNIST it was 0.10, 0.04 and 0.02 after 2,500, 10,000 and 30,000 images. On CIFAR-10, where
errors are large, it was less, 0.015 after 5,000 (``benchmarks/seed_spread.py``)."""
LEAST_ERROR = 1e-4
INTEGRATED, INTEGRATION_STEP = 6.0, 0.05
"""Standard deviations above the mean, and of a step, in the integral of an expected gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """Results of one candidate.

    results: images seen → anytime accuracy, in order. seconds_per_image: of its last stretch of training; NaN if
    unknown. noise: standard error of an accuracy near 0.5, of the measured images. train_images: all that there are.
    """

    results: Mapping[int, float]
    seconds_per_image: float
    noise: float
    train_images: float = math.inf

    @property
    def images(self) -> int:
        """Images seen at the last result."""
        return max(self.results)

    @property
    def accuracy(self) -> float:
        """The last result."""
        return self.results[self.images]


def distinct_images(images: float, train_images: float) -> float:
    """The number of new images that are worth as much as ``images`` seen, some of them repeatedly.

    Examples
    --------
    >>> [round(distinct_images(passes * 100, 100)) for passes in (0.5, 1, 2, 7, 1000)]
    [50, 100, 192, 479, 700]
    """
    if images <= train_images:
        return images
    return train_images * (1 + REPEATS * -math.expm1((1 - images / train_images) / REPEATS))


def typical_slope(curves: Iterable[LearningCurve]) -> float:
    """The exponent of a study: precision-weighted mean of those of its candidates, and of SLOPE.

    Examples
    --------
    >>> halving = LearningCurve(results={10**6: 0.2, 4 * 10**6: 0.6}, seconds_per_image=1.0, noise=1e-9)
    >>> round(typical_slope([]), 2), round(typical_slope([halving] * 1000), 2)
    (0.3, 0.5)
    """
    weights, total = 1.0, SLOPE
    for curve in curves:
        if (own := _own_slope(curve)) is not None:
            slope, variance = own
            weight = SLOPE_SD**2 / (variance + SLOPE_SD**2)
            weights, total = weights + weight, total + weight * slope
    return total / weights


def slope_of(curve: LearningCurve, typical: float) -> float:
    """The exponent of a candidate, shrunk to the typical one; never negative."""
    if (own := _own_slope(curve)) is None:
        return typical
    slope, variance = own
    weight = SLOPE_SD**2 / (variance + SLOPE_SD**2)
    return max(0.0, weight * slope + (1 - weight) * typical)


def factor(curve: LearningCurve, images: float, typical: float) -> float:
    """Factor of the error when the candidate has seen ``images`` more images."""
    return float(_ratio(curve, curve.images + images, curve.images) ** -slope_of(curve, typical))


def forecast(curve: LearningCurve, images: float, typical: float) -> float:
    """The anytime accuracy when the candidate has seen ``images`` more images.

    Examples
    --------
    >>> curve = LearningCurve(results={100: 0.6}, seconds_per_image=1.0, noise=0.01)
    >>> round(forecast(curve, 300, 0.5), 2)
    0.8
    """
    return 1 - (1 - curve.accuracy) * factor(curve, images, typical)


def expected_gain(best: float, others: Sequence[float], draws: int) -> float:
    """How much the best of several draws of a normal distribution is expected to exceed a value.

    Parameters
    ----------
    best
        The value.
    others
        Sample from which mean and spread of the distribution are estimated, at least one.
    draws
        Number of draws.

    Returns
    -------
    float
        The mean of max(0, best of the draws - best), by numerical integration; at least 0.

    Examples
    --------
    >>> round(expected_gain(1.0, [0.0, 2.0], 1), 2), round(expected_gain(1.0, [0.0, 2.0], 9), 1)
    (0.56, 2.1)
    """
    mean = sum(others) / len(others)
    spread = math.sqrt(sum((value - mean) ** 2 for value in others) / max(1, len(others) - 1))
    if spread == 0:
        return max(0.0, mean - best)
    normal, step = NormalDist(mean, spread), spread * INTEGRATION_STEP
    top = max(best, mean) + INTEGRATED * spread
    points = (best + (place + 0.5) * step for place in range(math.ceil((top - best) / step)))
    return step * sum(1 - normal.cdf(point) ** draws for point in points)


def _own_slope(curve: LearningCurve) -> tuple[float, float] | None:
    """The exponent between the last two results, and its variance; None for a single result."""
    if len(curve.results) < 2:
        return None
    (before, first), (after, last) = sorted(curve.results.items())[-2:]
    errors = {before: max(LEAST_ERROR, 1 - first), after: max(LEAST_ERROR, 1 - last)}
    distance = math.log(_ratio(curve, after, before))
    slope = math.log(errors[before] / errors[after]) / distance
    # measured on a share p of n images: p (1 - p) / n, where noise² = 1 / 4n; and trained on other images
    variance = sum(
        4 * curve.noise**2 * (1 - error) / error + TRAINING_SD**2 * TRAINING_IMAGES / max(1, images)
        for images, error in errors.items()
    )
    return slope, variance / distance**2


def _ratio(curve: LearningCurve, after: float, before: float) -> float:
    """How many times as many images, as if all were new."""
    return distinct_images(after, curve.train_images) / distinct_images(before, curve.train_images)
