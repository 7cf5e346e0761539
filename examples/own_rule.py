"""A training rule of your own: every operating point learns from smoothed labels.

A search space names it, with its settings, for the networks that it proposes::

    builder.architecture(points, rule="examples/own_rule.py:Smoothed", smoothing=0.05)

Check yours with `nas.testing.check_training_rule(Smoothed)`.
"""

from torch.nn import functional as F

from nas import UserError


class Smoothed:
    """All operating points in every step, largest first, with label smoothing."""

    def __init__(self, *, smoothing=0.1):
        if not 0 <= smoothing < 1:
            raise UserError(f"smoothing must be from 0 to below 1. Got {smoothing}.")
        self.smoothing = smoothing

    def losses(self, network, x, labels, generator):
        for level in reversed(range(network.levels)):
            targets = network.labels(labels, level)  # at the labelling of this operating point
            yield F.cross_entropy(network(x, level), targets, label_smoothing=self.smoothing)
