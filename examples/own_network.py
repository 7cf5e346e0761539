"""A network of your own: nas train examples/own_network.py:build trained --data digits

Four operating points that share weights: width prefixes of a small residual network.
"""

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task


def build(task: Task) -> Architecture:
    widths = (8, 16, 24, 32)  # of the operating points
    builder = Builder(task)
    x = builder.conv(builder.input, widths, kernel=3, after=("norm", "relu"))
    for stride in (1, 2):
        y = builder.conv(x, widths, kernel=3, stride=stride, after=("norm", "relu"))
        y = builder.conv(y, widths, kernel=3, after=("norm",), activation="relu")
        if stride == 1:
            builder.identity(x, y)
        x = y
    builder.head(x)
    return builder.architecture(points=4)
