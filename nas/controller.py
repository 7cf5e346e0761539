"""A controller that throttles a network: it looks at each input and picks the utilization to answer it at.

It is a network of the one representation itself, whose classes are the utilizations: so its multiply-accumulates are
exact, and they count. A network without gated modules is throttled over its operating points.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836 (a controller
trained apart from the data path, which picks one of u = 0.1 … 1.0). Its size is ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.builder import Builder
from nas.errors import UserError
from nas.gates import check_utilization, throttled
from nas.network import AnytimeNetwork
from nas.topology import Architecture, Task

UTILIZATIONS = tuple(tenths / 10 for tenths in range(1, 11))
SEEN_SIZE = 8
"""Pixels in a side that a controller looks at, about."""


def actions(architecture: Architecture) -> tuple[float, ...]:
    """The utilizations that a controller picks from: of 0.1 … 1.0 those that differ in what is on; of a network without
    gated modules, one for each operating point. Raises UserError where there is only one.
    """
    topology, largest = architecture.topology, architecture.points[-1]
    if topology.gated:
        found = tuple({throttled(topology, u, largest): u for u in reversed(UTILIZATIONS)}.values())[::-1]
    else:
        found = tuple((level + 0.5) / len(architecture.points) for level in range(len(architecture.points)))
    if len(found) < 2:
        raise UserError("A controller needs two operating points or more to pick from. Got a network of one.")
    return found


def controller_architecture(task: Task, choices: int, *, width: int = 8) -> Architecture:
    """What a controller of so many choices is: a pooling to about 8 pixels in a side and two 3×3 convolutions.

    width: channels of the first convolution; the second has twice as many, and half the size.
    """
    builder = Builder(Task(input_shape=task.input_shape, num_classes=choices))
    size = builder.size(builder.input)
    window = tuple(max(1, side // SEEN_SIZE) for side in size)
    x = builder.map(task.input_shape[0])
    builder.add("avg_pool", builder.input, x, kernel=window, stride=window, padding=(0,) * len(size))
    x = builder.conv(x, width, after=("norm", "relu"))
    x = builder.conv(x, 2 * width, stride=2, after=("norm", "relu"))
    builder.head(x)
    return builder.architecture(1, norm="shared")


class Controller:
    """Picks a utilization for every input: ``network(x, controller=controller)`` answers at those.

    network: takes what the throttled network takes, preprocessed images; its logits are over the utilizations.
    utilizations: what there is to pick from, ascending.
    """

    def __init__(self, network: AnytimeNetwork, utilizations: Sequence[float]):
        self.network, self.utilizations = network, tuple(utilizations)
        for utilization in self.utilizations:
            check_utilization(utilization)
        if len(self.utilizations) != network.architecture.task.num_classes:
            raise UserError(
                "A controller's network must have a class for each utilization. "
                f"Got {network.architecture.task.num_classes} and {len(self.utilizations)}."
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a choice."""
        return self.network.macs[-1]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """The choice for each input, (N,), as an index into the utilizations: the likeliest one."""
        return self.network(x).argmax(1)

    @torch.no_grad()
    def answer(self, network: AnytimeNetwork, x: Tensor) -> Tensor:
        """The network's logits (N, num_classes), each at the utilization that its input is given; inputs of equal
        utilization run together. Raises UserError in training mode.
        """
        if network.training or self.network.training:
            raise UserError("A controller takes the stored statistics of norms: call eval() of network and controller.")
        choices = self(x)
        out = x.new_zeros(len(x), network.architecture.task.num_classes)
        for choice in choices.unique().tolist():
            rows = (choices == choice).nonzero().flatten()
            out[rows] = network.answer(x[rows], network.at(self.utilizations[choice])).to(out.dtype)
        return out

    def save(self, folder: str | Path) -> None:
        """Write weights and utilizations to a folder, made if needed; :meth:`load` reads them back."""
        self.network.save(folder)
        Path(folder, "controller.json").write_text(json.dumps({"utilizations": self.utilizations}))

    @staticmethod
    def load(folder: str | Path) -> Controller:
        """The controller that :meth:`save` wrote, in evaluation mode. Raises UserError when the folder holds none."""
        try:
            utilizations = json.loads(Path(folder, "controller.json").read_text())["utilizations"]
            return Controller(AnytimeNetwork.load(folder), [float(u) for u in utilizations])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder} must be a folder that controller.save wrote: {error}") from error
