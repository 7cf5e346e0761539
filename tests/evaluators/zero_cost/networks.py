"""Small networks with known scores, and random ones."""

from __future__ import annotations

import numpy as np
import torch

from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random


def set_weight(network, operation: int, weight) -> None:
    layer = network.operation_layers[operation]
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight, dtype=torch.float32).reshape(layer.weight.shape))


def one_by_one(widths, classes=2, **conv) -> Architecture:
    """A chain of 1×1 convolutions on one pixel, then the classifier: a multilayer perceptron."""
    builder = Builder(Task(input_shape=(widths[0], 1, 1), num_classes=classes))
    x = builder.input
    for width in widths[1:]:
        x = builder.conv(x, width, kernel=1, **conv)
    builder.head(x)
    return builder.architecture(1)


def unlearned() -> Architecture:
    builder = Builder(Task(input_shape=(3, 2, 2), num_classes=3))
    builder.add("global_avg_pool", builder.input, builder.map(3))
    return builder.architecture(1)


def random_architectures(space: str, count: int, shape=(1, 8, 8)) -> list[Architecture]:
    rng, proposing = np.random.default_rng(5), load_plugin("nas.search_spaces", space)()
    task = Task(input_shape=shape, num_classes=10)
    return [proposing.architecture(Recorder(at_random(rng), Domains()), task, points=2) for _ in range(count)]
