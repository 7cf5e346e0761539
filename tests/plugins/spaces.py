"""Search spaces for tests of the search: small good ones, and bad ones of every kind."""

from __future__ import annotations

import itertools
from pathlib import Path

from nas.errors import InvalidArchitecture, UserError
from nas.representation.architecture import macs
from nas.representation.builder import Builder, widths
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, replay
from nas.spaces.references import Reference


class Small:
    """A few thousand small networks."""

    def architecture(self, choose, task, *, points=4):
        slices = widths(choose("width", (16, 24, 32, 48)), [(k + 1) / points for k in range(points)], divisor=1)
        builder = Builder(task)
        x = builder.conv(builder.input, slices, kernel=3, after=("norm", "relu"))
        for block in range(choose("depth", (1, 2, 3))):
            y = builder.conv(x, slices, kernel=choose(f"kernel {block}", (1, 3, 5)), after=("norm",), activation="relu")
            if choose(f"skip {block}", (False, True)):
                builder.identity(x, y)
            if choose(f"beside {block}", (False, True)):
                builder.add("conv", x, y, kernel=1, after=("norm",))
            x = y
        builder.head(x)
        return builder.architecture(points)


class Other(Small):
    """The same under another name."""


class Six:
    """Six networks, one of them under two names."""

    def architecture(self, choose, task, *, points=4):
        width = choose("width", (16, 24, 32))
        kernel = choose("kernel", (1, 3, 3.0))
        builder = Builder(task)
        slices = widths(width, [(k + 1) / points for k in range(points)], divisor=1)
        x = builder.conv(builder.input, slices, kernel=int(kernel), after=("norm", "relu"))
        builder.head(x)
        return builder.architecture(points)


class One:
    """A single network."""

    def architecture(self, choose, task, *, points=4):
        builder = Builder(task)
        builder.head(builder.conv(builder.input, tuple(4 * (k + 1) for k in range(points))))
        return builder.architecture(points)


class Raises:
    """Always raises."""

    def architecture(self, choose, task, *, points=4):
        raise ZeroDivisionError("no network today")


class RaisesSometimes(Small):
    """Raises for one kernel."""

    def architecture(self, choose, task, *, points=4):
        if choose("kernel 0", (1, 3, 5)) == 3:
            raise KeyError("kernel 3")
        return super().architecture(choose, task, points=points)


class LosesItsFile(Small):
    """Reads a file that is not there for one kernel."""

    def architecture(self, choose, task, *, points=4):
        if choose("kernel 0", (1, 3, 5)) == 3:
            Path("/nowhere/kernels.json").read_text()
        return super().architecture(choose, task, points=points)


class Invalid:
    """Never builds a network."""

    def architecture(self, choose, task, *, points=4):
        raise InvalidArchitecture(f"No way {choose('way', (1, 2))}.")


class Refuses:
    """Serves no task."""

    def architecture(self, choose, task, *, points=4):
        raise UserError("Only sounds are served. Got images.")


class Nonsense:
    """Returns something else."""

    def architecture(self, choose, task, *, points=4):
        return {"layers": choose("layers", (1, 2, 3))}


class ChangesOptions:
    """Offers other options at every call."""

    calls = itertools.count()

    def architecture(self, choose, task, *, points=4):
        choose("width", (16, 32 + next(self.calls)))
        return Small().architecture(choose, task, points=points)


class ChangesOptionsLater(Small):
    """Offers other options once a study is under way."""

    calls = itertools.count()

    def architecture(self, choose, task, *, points=4):
        if next(self.calls) > 530:  # the range of budgets is known by then
            choose("width", (1, 2))
        return super().architecture(choose, task, points=points)


class WrongPoints(Small):
    """Always three points."""

    def architecture(self, choose, task, *, points=4):
        return super().architecture(choose, task, points=3)


class WrongTask(Small):
    """For a task of its own."""

    def architecture(self, choose, task, *, points=4):
        return super().architecture(choose, Task(input_shape=(3, 16, 16), num_classes=5), points=points)


class NoOptions:
    """Chooses among nothing."""

    def architecture(self, choose, task, *, points=4):
        return choose("width", ())


class Unmakeable:
    """Wants arguments."""

    def __init__(self, width):
        self.width = width

    def architecture(self, choose, task, *, points=4):
        raise AssertionError("never made")


class NoMethod:
    """Has no method architecture."""


class UnknownRule(Small):
    """Names a training rule that nobody has."""

    def architecture(self, choose, task, *, points=4):
        builder = Builder(task)
        builder.head(builder.conv(builder.input, tuple(4 * (k + 1) for k in range(points))))
        return builder.architecture(points, rule="hypnosis")


class Referring:
    """Chains of one or two convolutions, with two designs as references."""

    SIZES = (16, 24, 32, 48)

    def architecture(self, choose, task, *, points=4):
        width = choose("width", tuple(range(8, 49, 2)))
        kernels = [choose(f"kernel {layer}", (1, 3, 5)) for layer in range(choose("depth", (1, 2)))]
        slices = widths(width, [(k + 1) / points for k in range(points)], divisor=1)
        builder = Builder(task)
        x = builder.input
        for kernel in kernels:
            x = builder.conv(x, slices, kernel=kernel, after=("norm", "relu"))
        builder.head(x)
        return builder.architecture(points)

    def references(self, task, max_macs, *, points=4):
        designs = {"Flat": {"depth": 1, "kernel 0": 3}, "Deep": {"depth": 2, "kernel 0": 3, "kernel 1": 3}}
        return [
            Reference(design=name, size=f"width {width}", origin="a test", choices={"width": width} | choices)
            for name, choices in designs.items()
            for width in self.SIZES
            if built(self, {"width": width} | choices, task, points) <= max_macs
        ]


def built(space, choices, task, points):
    """MACs of the network of these choices."""
    return macs(space.architecture(Recorder(replay(choices), Domains()), task, points=points))[-1]
