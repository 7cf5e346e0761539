"""A controller that throttles a network: for each input, it picks the utilization to answer it at.

It is a network of the one representation itself, whose classes are the utilizations: so its multiply-accumulates are
exact, and they count. A network without gated modules is throttled over its operating points.

A controller sees the input, as in the paper, or the answer at the smallest utilization, of which it reads how sure it
is: where that will do, it is given; where not, the input is answered anew, and both passes count.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836 (a controller
trained apart from the data path, which picks one of u = 0.1 … 1.0). Its size is ours, and so is to see an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from nas.errors import UserError, unknown_name
from nas.evaluation.controllers import SEES
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.gates import check_utilization, throttled

UTILIZATIONS = tuple(tenths / 10 for tenths in range(1, 11))
SEEN_SIZE = 8
"""Pixels in a side that a controller looks at, about."""
SEEN_CLASSES = 10
"""The most probable ones, of an answer."""


def actions(architecture: Architecture) -> tuple[float, ...]:
    """The utilizations that a controller picks from: of 0.1 … 1.0 those that differ in what is on; of a network without
    gated modules, or with norms of each point's own, one for each operating point.

    Raises UserError where there is only one.
    """
    topology, points = architecture.topology, architecture.points
    if topology.gated and architecture.norm == "shared":
        found = tuple({throttled(topology, u, points[-1]): u for u in reversed(UTILIZATIONS)}.values())[::-1]
    else:
        found = tuple((level + 0.5) / len(points) for level in range(len(points)))
    if len(found) < 2:
        raise UserError("A controller needs two operating points or more to pick from. Got a network of one.")
    return found


def controller_architecture(task: Task, choices: int, *, sees: str = "input", width: int = 8) -> Architecture:
    """What a controller of so many choices is.

    sees: "input": a pooling to about 8 pixels in a side and two 3×3 convolutions. "answer": one hidden layer over the
        logarithms of the ten largest probabilities, in descending order, whichever classes they are of.
    width: channels of the first convolution; the second has twice as many, and half the size, and so has the hidden
        layer.
    """
    if sees == "answer":
        seen = min(SEEN_CLASSES, task.num_classes)
        builder = Builder(Task(input_shape=(seen, 1, 1), num_classes=choices))
        builder.head(builder.conv(builder.input, 2 * width, kernel=1, before=("norm",), after=("norm", "relu")))
        return builder.architecture(1, norm="shared")
    builder = Builder(Task(input_shape=task.input_shape, num_classes=choices))
    size = builder.size(builder.input)
    window = tuple(max(1, side // SEEN_SIZE) for side in size)
    x = builder.map(task.input_shape[0])
    builder.add("avg_pool", builder.input, x, kernel=window, stride=window, padding=(0,) * len(size))
    x = builder.conv(x, width, after=("norm", "relu"))
    x = builder.conv(x, 2 * width, stride=2, after=("norm", "relu"))
    builder.head(x)
    return builder.architecture(1, norm="shared")


def sureness(logits: Tensor) -> Tensor:
    """What a controller sees of an answer, (N, classes) -> (N, ten at most, 1, 1): the logarithms of the largest
    probabilities, descending.
    """
    found = logits.float().log_softmax(1).topk(min(SEEN_CLASSES, logits.shape[1]), dim=1).values
    return found[:, :, None, None]


class Controller:
    """Picks a utilization for every input: ``network(x, controller=controller)`` answers at those.

    network: its logits are over the utilizations; what it takes, :func:`controller_architecture` says.
    utilizations: what there is to pick from, ascending. sees: "input" or "answer", that at the first of them.
    """

    def __init__(self, network: AnytimeNetwork, utilizations: Sequence[float], *, sees: str = "input"):
        self.network, self.utilizations, self.sees = network, tuple(utilizations), sees
        if sees not in SEES:
            raise UserError(unknown_name("thing to see", sees, SEES))
        for utilization in self.utilizations:
            check_utilization(utilization)
        if any(a >= b for a, b in pairwise(self.utilizations)):
            raise UserError(f"The utilizations that a controller picks from must ascend. Got {self.utilizations}.")
        if len(self.utilizations) != network.architecture.task.num_classes:
            raise UserError(
                "A controller's network must have a class for each utilization. "
                f"Got {network.architecture.task.num_classes} and {len(self.utilizations)}."
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a choice, without those of the answer that it sees."""
        return self.network.macs[-1]

    def costs(self, network: AnytimeNetwork) -> list[int]:
        """Multiply-accumulates of an input for which each of the utilizations is picked: of all that runs."""
        found = [network.macs_at(utilization) for utilization in self.utilizations]
        first = found[0] if self.sees == "answer" else 0
        return [self.macs + cost + (first if choice else 0) for choice, cost in enumerate(found)]

    @torch.no_grad()
    def choices(self, network: AnytimeNetwork, x: Tensor) -> Tensor:
        """The choice for each input of a network, (N,), as an index into the utilizations: the likeliest one.

        Raises UserError where the controller is none for this network.
        """
        self._check(network)
        return self._choose(x if self.sees == "input" else self._first(network, x))

    @torch.no_grad()
    def answer(self, network: AnytimeNetwork, x: Tensor) -> Tensor:
        """The network's logits (N, num_classes), each at the utilization that its input is given; inputs of equal
        utilization run together.

        Raises UserError in training mode, and where the controller is none for this network.
        """
        if network.training or self.network.training:
            raise UserError("A controller takes the stored statistics of norms: call eval() of network and controller.")
        self._check(network)
        if self.sees == "input":
            choices, out = self._choose(x), x.new_zeros(len(x), network.architecture.task.num_classes)
        else:
            out = self._first(network, x)
            choices = self._choose(out)
        for choice in choices.unique().tolist():
            if choice == 0 and self.sees == "answer":
                continue
            rows = (choices == choice).nonzero().flatten()
            out[rows] = network.answer(x[rows], network.at(self.utilizations[choice])).to(out.dtype)
        return out

    def _check(self, network: AnytimeNetwork) -> None:
        task, takes = network.architecture.task, self.network.architecture.task.input_shape
        wanted = task.input_shape if self.sees == "input" else (min(SEEN_CLASSES, task.num_classes), 1, 1)
        if takes != wanted:
            raise UserError(
                f"A controller that sees the {self.sees} of this network takes {wanted}. Got one that takes {takes}."
            )
        if any(network.architecture.labelling(point) for point in network.architecture.points):
            raise UserError("A controller's network must answer in fine labels at all points. Got coarse ones at some.")

    def _first(self, network: AnytimeNetwork, x: Tensor) -> Tensor:
        return network.answer(x, network.at(self.utilizations[0]))

    def _choose(self, seen: Tensor) -> Tensor:
        if self.sees == "answer":
            seen = sureness(seen).to(self.network.operation_layers[-1].weight)
        return self.network(seen).argmax(1)

    def save(self, folder: str | Path) -> None:
        """Write weights and utilizations to a folder, made if needed; :meth:`load` reads them back."""
        self.network.save(folder)
        described = {"utilizations": self.utilizations, "sees": self.sees}
        Path(folder, "controller.json").write_text(json.dumps(described))

    @staticmethod
    def load(folder: str | Path) -> Controller:
        """The controller that :meth:`save` wrote, in evaluation mode. Raises UserError when the folder holds none."""
        try:
            found = json.loads(Path(folder, "controller.json").read_text())
            utilizations = [float(u) for u in found["utilizations"]]
            return Controller(AnytimeNetwork.load(folder), utilizations, sees=found["sees"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder} must be a folder that controller.save wrote: {error}") from error
