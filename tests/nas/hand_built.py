"""Small hand-built architectures of every style that the representation must express."""

from __future__ import annotations

from dataclasses import replace

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task

TASK = Task(input_shape=(3, 8, 8), num_classes=5)
NR = ("norm", "relu")


def residual() -> Architecture:
    """Dense width prefixes with channel-aligned skips, a strided stage and parallel alternatives."""
    b = Builder(TASK)
    x = b.conv(b.input, (4, 8, 12), after=NR)
    h = b.conv(x, (4, 8, 12), after=NR)
    y = b.conv(h, (4, 8, 12), after=("norm",), activation="relu")
    b.identity(x, y)
    b.add("conv", x, y, kernel=1, after=("norm",))
    z = b.conv(y, (8, 16, 20), stride=2, after=NR)
    b.add("avg_pool", y, z, kernel=2, stride=2, padding=0)
    b.head(z)
    return b.architecture(3)


def mobile() -> Architecture:
    """An inverted residual with a depthwise convolution."""
    b = Builder(TASK)
    x = b.conv(b.input, (4, 8), after=NR)
    e = b.conv(x, (12, 24), kernel=1, after=("norm", "relu6"))
    d = b.depthwise(e, kernel=5, after=("norm", "hardswish"))
    y = b.conv(d, (4, 8), kernel=1, after=("norm",))
    b.identity(x, y)
    b.head(y)
    return b.architecture(2)


def causal() -> Architecture:
    """A block-triangular residual block, grouped 3×3 inside slices, a transition that pads inside each slice."""
    b = Builder(TASK)
    x = b.conv(b.input, (4, 8, 12), wiring="causal")
    h = b.conv(x, (4, 8, 12), kernel=1, before=NR, wiring="causal")
    g = b.conv(h, (4, 8, 12), before=NR, groups=6, wiring="causal")
    y = b.conv(g, (4, 8, 12), kernel=1, before=NR, wiring="causal")
    b.identity(x, y, wiring="causal")
    z = b.conv(y, (6, 12, 18), stride=2, before=NR, wiring="causal")
    b.add("avg_pool", y, z, kernel=2, stride=2, padding=0, wiring="causal")
    b.head(z, before=NR)
    return b.architecture(3, norm="shared")


def i_resnext() -> Architecture:
    """A block whose branch count grows with the level while the residual stream stays whole: reuse must be refused."""
    b = Builder(TASK)
    x = b.conv(b.input, 8)
    h1 = b.conv(x, (4, 8, 12, 16), kernel=1, before=NR)
    h2 = b.conv(h1, (4, 8, 12, 16), groups=8, before=NR)
    y = b.conv(h2, 8, kernel=1, before=NR)
    b.identity(x, y)
    z = b.map(16)
    b.add("avg_pool", y, z, kernel=2, stride=2, padding=0)
    b.head(z, before=NR)
    return b.architecture(4, norm="per_point")


def gated_concat() -> Architecture:
    """TNN: components side by side, normalised by how many are on; norms inside the components."""
    b = Builder(TASK)
    x = b.conv(b.input, 8, after=NR)
    g = b.map((4, 8, 12, 16), scale="mean")
    b.add("conv", x, g, kernel=3, after=NR)
    out = b.head(g)
    b.gate([(g, out - 1)] * 4, always=1)
    return b.architecture(4, norm="shared")


def gated_sum() -> Architecture:
    """TNN: paths of a ResNeXt block, their sum scaled up by n / c."""
    b = Builder(TASK)
    x = b.conv(b.input, 8, after=NR)
    h = b.conv(x, (4, 8, 12), kernel=1, after=NR)
    g = b.map((4, 8, 12), scale="full")
    b.add("conv", h, g, kernel=3, groups=3, after=NR)
    y = b.conv(g, 8, kernel=1)
    b.identity(x, y)
    b.head(y)
    b.gate([(h, g)] * 3)
    return b.architecture(3, norm="shared")


def gated_dense() -> Architecture:
    """TNN: a dense block whose later layers may be off; a norm reads the concat, so its holes must be absent."""
    b = Builder(TASK)
    x = b.conv(b.input, 6)
    layers = [x]
    for _ in range(3):
        read = b.concat(layers) if len(layers) > 1 else x
        layers.append(b.conv(read, 4, before=NR))
    whole = b.concat(layers)
    z = b.conv(whole, 8, kernel=1, before=NR)
    b.head(z)
    b.gate([(layer,) for layer in layers[1:]])
    top = b.topology()
    # any layer but the first may be off, so that the concat has a hole in the middle
    into = {layer: [i for i, o in enumerate(top.operations) if layer in (o.source, o.target)] for layer in layers}
    points = [b.point(0, without=into[layers[2]] + into[layers[3]]), b.point(0, without=into[layers[2]]), b.point(0)]
    return b.architecture(points, norm="shared")


def gated_residual() -> Architecture:
    """TNN: depth; whole residual branches dropped, the last ones first."""
    b = Builder(TASK)
    x = b.conv(b.input, 8, after=NR)
    branches, inner = [], []
    for _ in range(3):
        h = b.conv(x, 8, after=NR, optional=True)
        y = b.conv(h, 8, after=("norm",), activation="relu", optional=True)
        b.identity(x, y)
        operations = b.topology().operations
        branches.append([i for i, o in enumerate(operations) if o.target in (h, y) and o.kind == "conv"])
        inner.append(h)
        x = y
    b.head(x)
    b.gate([(h,) for h in inner])
    points = [b.point(0, without=[o for branch in branches[k:] for o in branch]) for k in range(4)]
    return b.architecture(points, norm="per_point")


def multi_exit() -> Architecture:
    """A chain with a classifier at three depths."""
    b = Builder(TASK)
    x = b.conv(b.input, 6, after=NR)
    outputs = []
    for width in (8, 12, 16):
        x = b.conv(x, width, stride=2 if width > 8 else 1, after=NR)
        outputs.append(b.head(x))
    points = [b.point(0, output=out) for out in outputs]
    return b.architecture(points, norm="shared")


def cell() -> Architecture:
    """A NAS-Bench-201-like cell: four nodes, every edge another operation, one edge absent; widths vary too."""
    b = Builder(TASK)
    widths = (4, 8)
    n0 = b.conv(b.input, widths, after=("norm",))
    n1 = b.map(widths)
    b.add("conv", n0, n1, kernel=3, before=("relu",), after=("norm",))
    n2 = b.map(widths)
    b.add("avg_pool", n0, n2, kernel=3)
    b.add("conv", n1, n2, kernel=1, before=("relu",), after=("norm",))
    n3 = b.map(widths)
    b.identity(n0, n3)
    b.add("max_pool", n1, n3, kernel=3)
    b.add("conv", n2, n3, kernel=3, before=("relu",), after=("norm",))
    b.head(n3, before=NR)
    return b.architecture(2)


def video() -> Architecture:
    """Three spatial dimensions."""
    b = Builder(Task(input_shape=(1, 4, 6, 6), num_classes=3))
    x = b.conv(b.input, (4, 8), after=NR)
    x = b.conv(x, (4, 8), kernel=(1, 3, 3), stride=(1, 2, 2), after=NR)
    b.head(x)
    return b.architecture(2)


def lenet() -> Architecture:
    """No padding, a convolution over the whole map instead of flattening: SteppingNet's LeNet as a causal network."""
    b = Builder(TASK)
    x = b.conv(b.input, (2, 5, 6), padding=0, wiring="causal", after=("relu",), bias=True)
    x = b.conv(x, (3, 4, 8), padding=0, wiring="causal", after=("relu",), bias=True)
    x = b.conv(x, (4, 6, 8), kernel=4, padding=0, wiring="causal", after=("relu",), bias=True)
    b.add("linear", x, b.map(5), bias=True)
    return b.architecture(3, norm="shared")


def gated_sources() -> Architecture:
    """TNN: whole sources of a concat are on or off, scaled up by n / c; an identity finds their channels by place."""
    b = Builder(TASK)
    parts = [b.conv(b.input, width, after=NR) for width in (2, 3, 4)]
    whole = b.concat(parts, scale="full")
    y = b.conv(b.input, 9, kernel=1)
    b.identity(whole, y)
    b.head(y)
    b.gate([(parts[i],) for i in (2, 0, 1)])
    operations = b.topology().operations
    into = [[i for i, o in enumerate(operations) if part in (o.source, o.target)] for part in parts]
    points = [b.point(0, without=into[0] + into[1]), b.point(0, without=into[1]), b.point(0)]
    return b.architecture(points, norm="shared")


def causal_concat() -> Architecture:
    """Two causal branches side by side, read slice by slice: the channels that a slice reads are not together."""
    b = Builder(TASK)
    x = b.conv(b.input, (2, 4, 6), wiring="causal", after=NR)
    branches = [b.conv(x, (1, 3, 4), kernel=k, wiring="causal", after=NR) for k in (1, 3)]
    both = b.concat([branches[0], x, branches[1]])
    y = b.conv(both, (2, 5, 6), before=NR, wiring="causal", bias=True)
    b.identity(both, y, wiring="causal")
    b.head(y)
    return b.architecture(3, norm="shared")


def without_norms(architecture: Architecture) -> Architecture:
    """The same network without norms, so that all operating points may share them."""

    def bare(steps: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(step for step in steps if step != "norm")

    old = architecture.topology
    operations = tuple(replace(o, before=bare(o.before), after=bare(o.after)) for o in old.operations)
    return replace(architecture, topology=replace(old, operations=operations), norm="shared")


ALL = {f.__name__: f for f in (
    residual, mobile, causal, i_resnext, gated_concat, gated_sum, gated_dense, gated_residual, multi_exit, cell, video,
    lenet, gated_sources, causal_concat,
)}  # fmt: skip
REUSABLE = {"causal", "multi_exit", "lenet", "causal_concat"}
