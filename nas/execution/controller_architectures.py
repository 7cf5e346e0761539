"""Architectures of controllers and gate policies, and the utilizations that they choose from.

Controllers are small networks of the same representation as the networks that they control, so that their
multiply-accumulates are exact and can be added to the cost of an answer.
"""

from __future__ import annotations

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.gates import throttled

SEES = ("answer", "input")
"""Input of a controller: the logits of the controlled network at the smallest utilization, or the input itself."""
UTILIZATIONS = tuple(tenths / 10 for tenths in range(1, 11))
POOLED_SIZE = 8
"""Approximate side, in pixels, of the pooled images that a controller sees."""
SEEN_CLASSES = 10
"""Number of largest log-probabilities that a controller sees."""


def actions(architecture: Architecture) -> tuple[float, ...]:
    """Utilizations that a controller of a network chooses from, ascending.

    With gated modules and shared norms: of 0.1, 0.2, …, 1.0, one for each distinct subnetwork. Otherwise one for each
    operating point.

    Raises UserError if there is only one.
    """
    topology, points = architecture.topology, architecture.points
    if topology.gated and architecture.norm == "shared":
        smallest = {throttled(topology, u, points[-1]): u for u in reversed(UTILIZATIONS)}
        utilizations = tuple(smallest.values())[::-1]
    else:
        utilizations = tuple((level + 0.5) / len(points) for level in range(len(points)))
    if len(utilizations) < 2:
        raise UserError("A controller needs a network with at least two operating points. Got one.")
    return utilizations


def controller_architecture(task: Task, num_utilizations: int, *, sees: str = "input", width: int = 8) -> Architecture:
    """Architecture of a controller.

    Parameters
    ----------
    task
        Of the controlled network.
    num_utilizations
        Number of utilizations to choose from: the classes of the controller.
    sees
        ``"input"``: pooling to about 8 pixels a side and two 3×3 convolutions. ``"answer"``: one hidden layer on the
        ten largest log-probabilities, in descending order.
    width
        Channels of the first convolution. The second convolution, with stride 2, and the hidden layer have twice as
        many.
    """
    if sees == "answer":
        classes = min(SEEN_CLASSES, task.num_classes)
        builder = Builder(Task(input_shape=(classes, 1, 1), num_classes=num_utilizations))
        builder.head(builder.conv(builder.input, 2 * width, kernel=1, before=("norm",), after=("norm", "relu")))
        return builder.architecture(1, norm="shared")
    builder = Builder(Task(input_shape=task.input_shape, num_classes=num_utilizations))
    size = builder.size(builder.input)
    window = tuple(max(1, side // POOLED_SIZE) for side in size)
    x = builder.map(task.input_shape[0])
    builder.add("avg_pool", builder.input, x, kernel=window, stride=window, padding=(0,) * len(size))
    x = builder.conv(x, width, after=("norm", "relu"))
    x = builder.conv(x, 2 * width, stride=2, after=("norm", "relu"))
    builder.head(x)
    return builder.architecture(1, norm="shared")


def gate_policy_architecture(architecture: Architecture, *, width: int = 8) -> Architecture:
    """Architecture of a gate policy for a throttleable network: one logit for each component that can be off.

    Raises UserError for a network without gated modules, or if the operating points do not share their norms.
    """
    switched = sum(len(module.components) - module.always for module in architecture.topology.gated)
    if not switched:
        raise UserError("A gate policy needs a network with gated modules, as of the space 'throttleable'. Got none.")
    if architecture.norm != "shared":
        raise UserError(
            "A gate policy needs norms that all utilizations share, because it switches modules independently. "
            f"Got {architecture.norm!r}: use a controller for this network."
        )
    channels, *size = architecture.task.input_shape
    task = Task(input_shape=(channels + 1, *size), num_classes=max(2, switched))
    return controller_architecture(task, task.num_classes, width=width)
