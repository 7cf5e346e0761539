"""Screeners over the spaces of tests/plugins/spaces.py, and pools of random proposals."""

from __future__ import annotations

from collections import Counter

import numpy as np

from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.elements import Task
from nas.screening.pool import pool
from nas.screening.proposals import Rejected
from nas.screening.screener import Screener
from nas.strategies.random import Random

from ..searching import space

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


def space_class(name):
    """A class of tests/plugins/spaces.py."""
    return load_plugin("nas.search_spaces", space(name))


def screener_over(*names, proxy="count", **settings):
    """A screener over spaces of tests/plugins/spaces.py."""
    spaces = {name: space_class(name)() for name in names}
    return Screener(spaces, TASK, proxy=(proxy, load_proxy(proxy)), **settings)


def drawn(screener, size, *, known=frozenset(), history=(), seed=0):
    """A pool of random proposals."""
    rng = np.random.default_rng(seed)
    return list(pool(screener, Random(seed=seed), size, known=set(known), history=history, rng=rng))


def statuses(proposals):
    """How many proposals have each status."""
    return Counter(p.status if isinstance(p, Rejected) else "feasible" for p in proposals)
