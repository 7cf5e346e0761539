"""A proxy of your own: nas search --proxy examples/own_proxy.py:activations

A proxy scores an architecture without training it; higher is better. `nas report` audits it beside the installed
proxies: its rank correlation with the anytime accuracy, raw and with size removed. Check yours with
`nas.testing.check_proxy("examples/own_proxy.py:activations")`.
"""

from math import log, prod
from statistics import fmean

from nas import Architecture
from nas.proxies.contract import proxy


@proxy("topology")  # the topology is enough; "weights" and "batch" proxies also need initial weights or images
def activations(architecture: Architecture) -> float:
    """Logarithm of the number of activations, mean over the operating points."""
    maps = [feature_map for feature_map in architecture.topology.maps if feature_map.merge != "concat"]
    counts = [
        sum(channels * prod(feature_map.size) for channels, feature_map in zip(point.channels, maps))
        for point in architecture.points
    ]
    return fmean(map(log, counts))
