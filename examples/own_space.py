"""A search space of your own: nas search --space examples/own_space.py:Ladder --data digits

A space is one function from choices to a network: `choose(name, options)` picks an option. Costs, Markov chain,
training and export are derived from the network. Check yours with `nas.testing.check_search_space(Ladder)`.
"""

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder, widths
from nas.representation.elements import Task
from nas.spaces.choices import Choose


class Ladder:
    """Two rails of convolutions, fine and coarse; the connecting rungs are chosen."""

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        # Operating points are width prefixes: of 16 channels at 4 points, the first 4, 8, 12 and 16.
        shares = [(level + 1) / points for level in range(points)]
        slices = widths(choose("width", (16, 24, 32, 48)), shares, divisor=1)

        builder = Builder(task)
        fine = builder.conv(builder.input, slices, kernel=3, after=("norm", "relu"))
        coarse = builder.conv(fine, slices, kernel=3, stride=2, after=("norm", "relu"))
        for rung in range(choose("rungs", (1, 2, 3, 4))):
            # A conditional choice has its condition in its name: here, the number of the rung.
            kernel = choose(f"kernel {rung}", (3, 5))
            upper = builder.conv(fine, slices, kernel=kernel, after=("norm",), activation="relu")
            lower = builder.conv(coarse, slices, kernel=kernel, after=("norm",), activation="relu")
            if choose(f"rails are residual {rung}", (False, True)):
                builder.identity(fine, upper)
                builder.identity(coarse, lower)
            if choose(f"rung {rung}", (False, True)):
                builder.add("conv", fine, lower, kernel=1, stride=2, after=("norm",))
            fine, coarse = upper, lower
        builder.add("avg_pool", fine, coarse, kernel=3, stride=2)  # the rails end in one map
        builder.head(coarse)
        return builder.architecture(points)
