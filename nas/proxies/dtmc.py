"""The default proxy: a score by the Markov chain of TIPS.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023 (the
    chain). The score is ours.
"""

from __future__ import annotations

from nas.chain.scores import log_walk_weights
from nas.proxies.contract import proxy
from nas.representation.architecture import Architecture


@proxy("topology")
def dtmc(architecture: Architecture) -> float:
    """Weights on a random walk: mean over levels of the log of their expected number.

    Notes
    -----
    Chosen among scores of the chain on one half of a population of trained networks (benchmarks/score_selection.py) and
    evaluated on the other half (benchmarks/ranking.py). About 40 µs for a new proposal of `residual` with four levels.
    """
    levels = log_walk_weights(architecture)
    return sum(levels) / len(levels)
