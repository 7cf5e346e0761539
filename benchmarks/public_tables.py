"""Public tables of trained networks, built in our representation: data for scores of topologies that nobody here made.

The tables are not part of this repository. Each is one file or folder of a public repository:

==========  ===========================================================  =============================================
name        networks                                                     file, and repository on GitHub
==========  ===========================================================  =============================================
cells       15,625 cells of NATS-Bench (topology), three data sets       nats_bench.csv, v-tao/nats-bench-landscape
macro       6,561 chains of inverted residuals, CIFAR-10                 data/nas-bench-macro_cifar10.json,
                                                                         xiusu/NAS-Bench-Macro
mnasnet     5,138 mobile networks of Accel-NASBench, ImageNet            anb_dataset/anb_dataset_jsons.tar.gz
                                                                         (unpacked), afzalxo/Accel-NASBench
modules     1,000 modules of NAS-Bench-101, CIFAR-10                     static/data/data-1k.json at commit a6f5839,
                                                                         tiga1231/nasbench-vis
==========  ===========================================================  =============================================

Squeeze-and-excitation is not part of our representation: networks of `mnasnet` are built without it, and only networks
with equal modules are compared (``group``).

References
----------
Dong, Liu, Musial & Gabrys, NATS-Bench, TPAMI 2021. Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree
Search, CVPR 2021 (NAS-Bench-Macro). Ahmad et al., Accel-NASBench, DAC 2024. Ying et al., NAS-Bench-101, ICML 2019.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pandas as pd

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task

CIFAR10 = Task(input_shape=(3, 32, 32), num_classes=10)
IMAGENET = Task(input_shape=(3, 224, 224), num_classes=1000)
CELL_TASKS = {
    "CIFAR10TestAccuracy200Epochs": ("cells, CIFAR-10", CIFAR10),
    "CIFAR100TestAccuracy200Epochs": ("cells, CIFAR-100", Task(input_shape=(3, 32, 32), num_classes=100)),
    "ImageNetTestAccuracy200Epochs": ("cells, ImageNet-16", Task(input_shape=(3, 16, 16), num_classes=120)),
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network of a public table.

    table: name of the table and its data set. identity: equal for isomorphic networks. group: networks are compared
    with others of their group. build: makes the network; None if it has no path.
    """

    table: str
    identity: str
    group: str = ""
    accuracy: float
    build: Callable[[], Architecture | None]

    @property
    def half(self) -> str:
        """The half of the table that the network belongs to."""
        return ("tuning", "report")[sha256(self.identity.encode()).digest()[-1] % 2]


def cell(text: str, task: Task) -> Architecture | None:
    """A network of NATS-Bench (topology) from the text of its cell; None if no path leads through the cell."""
    links = [
        (int(source), target, kind)
        for target, node in enumerate(text.strip("|").split("|+|"), start=1)
        for kind, _, source in (entry.partition("~") for entry in node.split("|"))
        if kind != "none"
    ]
    reached = {0}
    for source, target, _ in links:
        if source in reached:
            reached.add(target)
    if 3 not in reached:
        return None
    links = [link for link in links if link[0] in reached]
    builder = Builder(task)
    x = builder.conv(builder.input, 16, after=("norm",))
    for width in (16, 32, 64):
        if width > 16:
            x = _reduction(builder, x, width)
        for _ in range(5):
            nodes = {node: x if node == 0 else builder.map(width) for node in sorted(reached)}
            for source, target, kind in links:
                _cell_link(builder, nodes[source], nodes[target], kind)
            x = nodes[3]
    builder.head(x, before=("norm", "relu"))
    return builder.architecture(1)


def _cell_link(builder: Builder, source: int, target: int, kind: str) -> None:
    if kind == "skip_connect":
        builder.identity(source, target)
    elif kind == "avg_pool_3x3":
        builder.add("avg_pool", source, target, kernel=3)
    else:
        kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[kind]
        builder.add("conv", source, target, kernel=kernel, before=("relu",), after=("norm",))


def _reduction(builder: Builder, x: int, width: int) -> int:
    """The residual block of stride 2 between two stages of cells."""
    pooled = builder.add("avg_pool", x, builder.map(builder.slices(x)), kernel=2, stride=2, padding=0)
    inner = builder.conv(x, width, stride=2, before=("relu",), after=("norm",))
    out = builder.conv(inner, width, before=("relu",), after=("norm",))
    return builder.add("conv", pooled, out, kernel=1)


def _inverted_residual(
    builder: Builder, x: int, width: int, *, expansion: int, kernel: int, stride: int, activation: str
) -> int:
    before, inner = builder.slices(x)[-1], x
    if expansion > 1:
        inner = builder.conv(x, expansion * before, kernel=1, after=("norm", activation))
    inner = builder.depthwise(inner, kernel=kernel, stride=stride, after=("norm", activation))
    out = builder.conv(inner, width, kernel=1, after=("norm",))
    if stride == 1 and before == width:
        builder.identity(x, out)
    return out


def macro(text: str) -> Architecture:
    """A network of NAS-Bench-Macro from its eight digits: 0 is an identity, 1 and 2 are inverted residuals."""
    builder = Builder(CIFAR10)
    width = 32
    x = builder.conv(builder.input, width, after=("norm", "relu"))
    for position, digit in enumerate(text):
        stride = 2 if position in (0, 2, 5) else 1
        width *= stride
        if digit != "0":
            expansion, kernel = {"1": (3, 3), "2": (6, 5)}[digit]
            x = _inverted_residual(
                builder, x, width, expansion=expansion, kernel=kernel, stride=stride, activation="relu"
            )
        elif stride == 2:
            x = builder.conv(x, width, kernel=1, stride=2, after=("norm",))
    builder.head(builder.conv(x, 1280, kernel=1, after=("norm", "relu")))
    return builder.architecture(1)


def mnasnet(choices: dict[str, int]) -> Architecture:
    """A network of Accel-NASBench from its choices, without squeeze-and-excitation."""
    builder = Builder(IMAGENET)
    x = builder.conv(builder.input, 32, stride=2, after=("norm", "relu"))
    for block, (width, stride) in enumerate(zip((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 2, 1, 2, 1))):
        expansion, kernel = choices[f"block{block}_e"], choices[f"block{block}_k"]
        for layer in range(choices[f"block{block}_l"]):
            x = _inverted_residual(
                builder,
                x,
                width,
                expansion=expansion,
                kernel=kernel,
                stride=1 if layer else stride,
                activation="relu",
            )
    builder.head(builder.conv(x, 1280, kernel=1, after=("norm", "relu")))
    return builder.architecture(1)


def module(adjacency: list[list[float]], operations: list[int]) -> Architecture:
    """A network of NAS-Bench-101 from a module without unused vertices: edges, and the operation of each vertex."""
    builder = Builder(CIFAR10)
    x = builder.conv(builder.input, 128, after=("norm", "relu"))
    for width in (128, 256, 512):
        if width > 128:
            x = builder.add("max_pool", x, builder.map(builder.slices(x)), kernel=2, stride=2, padding=0)
        for _ in range(3):
            x = _module(builder, x, width, adjacency, operations)
    builder.head(x)
    return builder.architecture(1)


def _module(builder: Builder, x: int, width: int, adjacency: list[list[float]], operations: list[int]) -> int:
    last = len(operations) - 1
    widths = _vertex_widths(adjacency, width)
    vertices, after = {0: x}, ("norm", "relu")
    for vertex in range(1, last):
        sources = [s for s in range(vertex) if adjacency[s][vertex]]
        read = builder.map(widths[vertex])
        for source in sources:
            if source == 0:
                builder.add("conv", x, read, kernel=1, after=after)
            else:
                builder.identity(vertices[source], read)
        if operations[vertex] == 2:
            vertices[vertex] = builder.add("max_pool", read, builder.map(widths[vertex]), kernel=3)
        else:
            kernel = (3, 1)[operations[vertex]]
            vertices[vertex] = builder.conv(read, widths[vertex], kernel=kernel, after=after)
    joined = [vertices[v] for v in range(1, last) if adjacency[v][last]]
    if not joined:
        return builder.conv(x, width, kernel=1, after=after)
    out = builder.concat(joined) if len(joined) > 1 else joined[0]
    if not adjacency[0][last]:
        return out
    total = builder.map(width)
    builder.identity(out, total)
    return builder.add("conv", x, total, kernel=1, after=after)


def _vertex_widths(adjacency: list[list[float]], width: int) -> list[int]:
    """Channels of every vertex: the output is divided among its sources; others have as many as their widest reader."""
    last = len(adjacency) - 1
    joined = [v for v in range(1, last) if adjacency[v][last]]
    widths = [0] * last + [width]
    for position, vertex in enumerate(joined):
        widths[vertex] = width // len(joined) + (position < width % len(joined))
    for vertex in reversed(range(1, last)):
        if not adjacency[vertex][last]:
            widths[vertex] = max(widths[reader] for reader in range(vertex + 1, last) if adjacency[vertex][reader])
    return widths


def _read_cells(path: Path) -> Iterator[Trained]:
    for row in pd.read_csv(path, keep_default_na=False).to_dict("records"):
        for column, (table, task) in CELL_TASKS.items():
            build = partial(cell, row["ArchitectureString"], task)
            yield Trained(table=table, identity=row["UniqueString"], accuracy=float(row[column]), build=build)


def _read_macro(path: Path) -> Iterator[Trained]:
    for text, row in json.loads(path.read_text()).items():
        yield Trained(table="macro, CIFAR-10", identity=text, accuracy=row["mean_acc"], build=partial(macro, text))


def _read_mnasnet(path: Path) -> Iterator[Trained]:
    for file in sorted(path.glob("*.json")):
        row = json.loads(file.read_text())
        choices = row["architecture"]
        yield Trained(
            table="mnasnet, ImageNet",
            identity=json.dumps(choices, sort_keys=True),
            group="".join(str(int(choices[f"block{b}_se"])) for b in range(7)),
            accuracy=row["metrics"]["val_top1"],
            build=partial(mnasnet, choices),
        )


def _read_modules(path: Path) -> Iterator[Trained]:
    columns = json.loads(path.read_text())
    for key, adjacency, operations, accuracy in zip(
        *(columns[name] for name in ("key", "adjacency", "operations", "108_final_validation_accuracy"))
    ):
        size = operations.index(-2) + 1  # the output is the last vertex; smaller modules are padded
        build = partial(module, [row[:size] for row in adjacency[:size]], operations[:size])
        yield Trained(table="modules, CIFAR-10", identity=key, accuracy=accuracy, build=build)


READERS = {"cells": _read_cells, "macro": _read_macro, "mnasnet": _read_mnasnet, "modules": _read_modules}
"""Name of a table → its trained networks in a file or folder."""
