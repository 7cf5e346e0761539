"""The score of the Markov chain."""

from __future__ import annotations

from nas.chain.scores import log_walk_weights
from nas.proxies.contract import proxy
from nas.representation.architecture import Architecture


@proxy("topology")
def dtmc(architecture: Architecture) -> float:
    """How much there is to learn where walks pass: mean over levels of the log of the weights on a walk of the chain.

    Chosen among scores of the chain on one half of a population of trained networks; what it is worth on the other:
    benchmarks/ranking.py.

    Notes
    -----
    About 40 µs for a proposal of `residual` with four levels, seen for the first time; see benchmarks/ranking.py.
    """
    levels = log_walk_weights(architecture)
    return sum(levels) / len(levels)
