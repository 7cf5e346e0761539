"""Random architectures with a formula in place of training, and proposals of strategies.

Without relative imports: tests import this file in other processes too.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np

from nas.chain.graph import graph_of
from nas.chain.walks import path_counts
from nas.errors import InvalidArchitecture
from nas.plugins import load_plugin
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import macs
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random
from nas.strategies.contract import Trial

TASK = Task(input_shape=(3, 32, 32), num_classes=10)


def sampled(space, count, seed=0):
    """Random architectures of a space, with their choices."""
    decide, domains, pairs = at_random(np.random.default_rng(seed)), Domains(), []
    proposing = load_plugin("nas.search_spaces", space)()
    while len(pairs) < count:
        recorder = Recorder(decide, domains)
        try:
            pairs.append((proposing.architecture(recorder, TASK, points=4).canonical, recorder.choices))
        except InvalidArchitecture:
            continue
    return pairs, domains


def worth(architecture):
    """A formula for accuracy that saturates in paths and MACs, and is lower for depthwise convolutions."""
    depthwise = sum(o.groups > 1 for o in architecture.topology.operations)
    graph = graph_of(architecture).graph
    paths = [math.log(path_counts(graph, level)[graph.source]) for level in range(len(graph.live))]
    quality = np.mean(paths) + 0.5 * math.log(macs(architecture)[-1]) - 0.3 * depthwise
    return 0.95 - 0.8 * math.exp(-quality / 6)


def trials_of(population, count, **more):
    """The first random architectures as trained candidates."""
    pairs, domains = population
    return [
        Trial(
            choices=choices,
            domains=domains.of(choices),
            value=worth(architecture),
            architecture=architecture,
            proxy=dtmc(architecture),
            generation=i // 9,
            **more,
        )
        for i, (architecture, choices) in enumerate(pairs[:count])
    ]


def asked(strategy, count=6):
    """The choices of a strategy's next proposals."""
    space, proposals = load_plugin("nas.search_spaces", "residual")(), []
    for _ in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        with contextlib.suppress(InvalidArchitecture):
            space.architecture(recorder, TASK, points=4)
        proposals.append(recorder.choices)
    return proposals
