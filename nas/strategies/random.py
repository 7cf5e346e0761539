"""Random search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.spaces.choices import Decide, at_random
from nas.strategies.contract import Strategy, Trial


class Random(Strategy):
    """Random search: every option with equal probability, independent of the history.

    Notes
    -----
    About 0.2 µs per choice; no limit.
    """

    reads_architectures = False

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        super().__init__(seed=seed, history=history)
        self._decide = at_random(np.random.default_rng(seed))

    def ask(self) -> Decide:
        return self._decide
