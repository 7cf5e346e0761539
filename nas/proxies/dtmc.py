"""Scores by the Markov chains of an architecture: the default proxy, and a score by random walks as a control.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (training as a Markov chain over operations). Both scores are ours.
"""

from __future__ import annotations

from nas.chain.scores import log_walk_weights, training_scores
from nas.proxies.contract import proxy
from nas.representation.architecture import Architecture


@proxy("topology")
def dtmc(architecture: Architecture) -> float:
    """Score of the training chain: mean over levels of :func:`nas.chain.scores.training_scores`.

    Notes
    -----
    Prefers networks whose operations are trained evenly, see much of the image in both bands of spatial frequency, and
    are as wide as positions and classes can use. About 150 µs for a new proposal of `residual` with four levels.
    """
    levels = training_scores(architecture)
    return sum(levels) / len(levels)


@proxy("topology")
def walk_weights(architecture: Architecture) -> float:
    """Weights on a random walk: mean over levels of the log of their expected number. A control for ``dtmc``.

    Notes
    -----
    Chosen among scores of random walks on one half of a population of trained networks (benchmarks/score_selection.py).
    """
    levels = log_walk_weights(architecture)
    return sum(levels) / len(levels)
