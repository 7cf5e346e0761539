"""A public benchmark as a search space and a table: the 15,625 cells of NAS-Bench-201 (NATS-Bench, topology).

Writes the table from a CSV file with the columns architecture, seed, valid_accuracy, test_accuracy (in %), in which
architectures have their published form, such as
|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|.

    python nasbench201.py published.csv cells.csv
    nas search --space nasbench201.py:NASBench201 --evaluator tabular:cells.csv --points 1 --low 2.5e8 --max-macs 3e8 \\
        --data synthetic:n=1000,classes=10,size=32,channels=3

Dong & Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
"""

import re
import sys

import pandas as pd

import nas

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((target, source) for target in (1, 2, 3) for source in range(target))
CELLS, WIDTHS = 5, (16, 32, 64)


class NASBench201:
    """NAS-Bench-201: one cell of four nodes and six edges, repeated in three stages."""

    def architecture(self, choose, task, *, points=4):
        if points != 1:
            raise nas.UserError(f"These networks have one operating point. Got {points=}: add --points 1.")
        cell = {edge: choose(f"{edge[1]} to {edge[0]}", OPERATIONS) for edge in EDGES}
        builder = nas.Builder(task)
        x = builder.conv(builder.input, WIDTHS[0], after=("norm",))
        for width in WIDTHS:
            if width > WIDTHS[0]:
                x = reduction(builder, x, width)
            for _ in range(CELLS):
                x = add_cell(builder, x, width, cell)
        builder.head(x, before=("norm", "relu"))
        return builder.architecture(points=1)


def add_cell(builder, x, width, cell):
    """The output node of a cell that reads map x."""
    nodes = {0: x}
    for target in (1, 2, 3):
        edges = [(s, cell[target, s]) for s in range(target) if s in nodes and cell[target, s] != "none"]
        if not edges:
            continue  # nothing leads to this node
        nodes[target] = builder.map(width)
        for source, kind in edges:
            if kind == "skip_connect":
                builder.identity(nodes[source], nodes[target])
            elif kind == "avg_pool_3x3":
                builder.add("avg_pool", nodes[source], nodes[target], kernel=3)
            else:
                kernel = int(kind[-1])
                builder.add("conv", nodes[source], nodes[target], kernel=kernel, before=("relu",), after=("norm",))
    if 3 not in nodes:
        raise nas.InvalidArchitecture("A cell must lead from its input to its output.")
    return nodes[3]


def reduction(builder, x, width):
    """A residual block of stride 2 between stages."""
    pooled = builder.add("avg_pool", x, builder.map(builder.slices(x)), kernel=2, stride=2, padding=0)
    inner = builder.conv(x, width, stride=2, before=("relu",), after=("norm",))
    out = builder.conv(inner, width, before=("relu",), after=("norm",))
    return builder.add("conv", pooled, out, kernel=1)


def choices_of(architecture):
    """The choices of an architecture in its published form."""
    edges = re.findall(r"([a-z_0-9]+)~(\d)", architecture)
    return {f"{source} to {target}": kind for (target, _), (kind, source) in zip(EDGES, edges, strict=True)}


def table(published):
    """The table for the evaluator, from a DataFrame of published results."""
    measures = {"seed": published.seed}
    for ours, theirs in (("accuracy", "valid_accuracy"), ("test_accuracy", "test_accuracy")):
        measures[ours] = published[theirs] / 100
    return pd.DataFrame(published.architecture.map(choices_of).tolist()).assign(epochs=200, **measures)


if __name__ == "__main__":
    table(pd.read_csv(sys.argv[1])).to_csv(sys.argv[2], index=False)
