"""Supernets with alternatives: small, random and shipped ones; and all their paths, by networkx."""

from __future__ import annotations

from functools import cache

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from nas.errors import InvalidArchitecture
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.kinds import kind
from nas.representation.supernet import choice_groups
from nas.spaces.choices import Domains, Recorder, at_random

TASK = Task(input_shape=(3, 8, 8), num_classes=10)


def points(builder, *dropped):
    """One operating point a set of dropped operations, each a slice wider than the one before."""
    return [builder.point(level, without=without) for level, without in enumerate(dropped)]


def supernet():
    """Stem, three residual blocks whose skips are conv 1×1 ∥ identity, head; smaller points drop some of them.

    Operations: 0 stem; block b: 1+4b, 2+4b body, 3+4b conv 1×1 skip, 4+4b identity skip; 13, 14 head.
    """
    builder, widths = Builder(TASK), (4, 8, 16)
    x = builder.conv(builder.input, widths)
    for _ in range(3):
        inner = builder.conv(x, widths)
        out = builder.conv(inner, widths)
        builder.add("conv", x, out, kernel=1, optional=True)
        builder.identity(x, out, optional=True)
        x = out
    builder.head(x)
    return builder.architecture(points(builder, (3, 8), (8,), ()))


def residual_stack(blocks=4):
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    for _ in range(blocks):
        out = builder.conv(builder.conv(x, 8), 8)
        x = builder.identity(x, out)
    builder.head(x)
    return builder.architecture(points=1)


def two_blocks():
    """0 stem; block 1: body 1, 2, identity 3 ∥ optional conv 4; block 2: body 5, 6, identity 7; skip 8 over both."""
    b, widths = Builder(TASK), (4, 8, 12)
    x = b.conv(b.input, widths)
    y = b.conv(b.conv(x, widths), widths)
    b.identity(x, y)
    b.add("conv", x, y, kernel=1, optional=True)
    z = b.conv(b.conv(y, widths), widths)
    b.identity(y, z)
    b.add("avg_pool", x, z, kernel=3, optional=True)
    b.head(z)
    return b.architecture(3)


def all_optional():
    """Conv 1 then conv 2, or the identity 3 around both, or conv 4 for the second: each may go, so all may."""
    b, widths = Builder(TASK), (4, 8)
    x = b.conv(b.input, widths)
    y = b.conv(x, widths, optional=True)
    z = b.conv(y, widths, optional=True)
    b.identity(x, z, optional=True)
    b.add("conv", y, z, kernel=1, optional=True)
    b.head(z)
    return b.architecture(2)


@cache
def proposals(space: str, count: int) -> tuple[Architecture, ...]:
    """Random architectures of a shipped space that leave something to choose."""
    decide, domains = at_random(np.random.default_rng(0)), Domains()
    instance, architectures = load_plugin("nas.search_spaces", space)(), []
    while len(architectures) < count:
        try:
            architecture = instance.architecture(
                Recorder(decide, domains), Task(input_shape=(3, 32, 32), num_classes=10)
            )
        except InvalidArchitecture:
            continue
        if choice_groups(architecture.topology):
            architectures.append(architecture)
    return tuple(architectures)


@st.composite
def small_supernets(draw):
    """Random topologies of 8×8 maps with parallel convolutions and identities, and two points."""
    builder = Builder(TASK)
    maps = [builder.conv(builder.input, (4, 8))]
    for _ in range(draw(st.integers(1, 5))):
        target = builder.map((4, 8))
        for source in draw(st.sets(st.sampled_from(maps), min_size=1)):
            for what in draw(st.sets(st.sampled_from(["conv", "identity", "max_pool"]), min_size=1)):
                window = {} if what == "identity" else {"kernel": 3}
                builder.add(what, source, target, optional=draw(st.booleans()), **window)
        maps.append(target)
    builder.head(maps[-1])
    count = len(builder.topology().operations)
    out = [o for o in range(1, count - 2) if draw(st.integers(0, 5)) == 0]
    whole = builder.point(1)
    try:
        return builder.architecture([builder.point(0, without=out), whole])
    except ValueError:
        return builder.architecture([builder.point(0), whole])


def listed_paths(architecture, live, output):
    """Every path as a list of operations, by networkx."""
    multi = nx.MultiDiGraph()
    for o in live:
        operation = architecture.topology.operations[o]
        multi.add_edge(operation.source, operation.target, key=o)
    return [[o for _, _, o in path] for path in nx.all_simple_edge_paths(multi, 0, output)]


def learned(architecture, o):
    return kind(architecture.topology.operations[o].kind).learned
