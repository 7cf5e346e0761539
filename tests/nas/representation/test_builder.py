"""The builder: inferred sizes, operating points, trimming, and refused mistakes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import nas.representation.builder
import nas.representation.parts
from nas.errors import InvalidArchitecture
from nas.representation.builder import Builder, widths
from nas.representation.elements import Task

from ..messages import untested

TASK = Task(input_shape=(3, 9, 7), num_classes=4)


def _twice_written(builder: Builder) -> None:
    target = builder.map(4)
    builder.add("conv", builder.input, target, kernel=3)
    builder.add("conv", builder.input, target, kernel=3, stride=2)


REFUSED: dict[str, Any] = {
    "Map 1 has no size yet: an operation must write it before": lambda b: b.conv(b.map(4), 4),
    "There are maps 0 to 1 so far. Got 3": lambda b: b.conv(3, 4),
    "There are maps 0 to 1 so far. Got -1": lambda b: b.conv(-1, 4),
    "There are maps 0 to 0 so far. Got target=9": lambda b: b.identity(b.input, 9),
    "Stride and padding need a kernel. Got stride=2, padding=None for 'identity'": lambda b: b.identity(
        b.input, b.map(3), stride=2
    ),
    "All operations into map 1 must produce its size (9, 7). Got (5, 4) from map 0": _twice_written,
    "Levels count from 0, the smallest. Got level=-1": lambda b: b.point(-1),
    "The task has 1 labellings. Got labelling=1": lambda b: b.point(0, output=b.head(b.input), labelling=1),
    "16 channels have no 4 different prefixes in steps of 8": lambda b: widths(16, (0.25, 0.5, 0.75, 1), divisor=8),
    "The kernel (11, 11) must fit the padded feature map. Got size (9, 7)": lambda b: b.conv(
        b.input, 4, kernel=11, padding=0
    ),
    "An operation must lead to a later map. Got 1 -> 0": lambda b: b.identity(b.conv(b.input, 4), b.input),
    "tuples of int. Got self.channels=np.int64(4)": lambda b: (b.conv(b.input, np.int64(4)), b.topology()),
    "tuples of int. Got self.channels=4.0": lambda b: (b.conv(b.input, 4.0), b.topology()),
    "must be ints. Got 0, 1, 1, kernel=(np.int64(3), np.int64(3))": lambda b: b.conv(b.input, 4, kernel=np.int64(3)),
    "kernel=(3.0, 3.0)": lambda b: (b.conv(b.input, 4, kernel=(3, 3)), b.conv(b.input, 4, kernel=(3.0, 3.0))),
    "slices=(2.0, 4)": lambda b: (b.conv(b.input, (2, 4)), b.topology(), b.conv(b.input, (2.0, 4)), b.topology()),
    "self.channels=()": lambda b: (b.conv(b.input, ()), b.topology()),
    "must be tuples": lambda b: b.conv(b.input, 4, after="norm"),
    "self.after=['norm']": lambda b: b.conv(b.input, 4, after=["norm"]),
    "Got 'sum', ['relu'], 'none'": lambda b: (b.conv(b.input, 4, activation=["relu"]), b.topology()),
    "Got the utilization 0.1: begin at 0.333": lambda b: (
        b.head(b.conv(b.input, (2, 4))),
        b.gate([(1,), (1,)]),
        b.throttled([0.1]),
    ),
    "kind must be a name": lambda b: b.add(["conv"], b.input, b.map(4), kernel=3),
}


def _said(message: str) -> str:
    with pytest.raises(InvalidArchitecture) as caught:
        REFUSED[message](Builder(TASK))
    return str(caught.value)


@pytest.mark.parametrize("message", REFUSED)
def test_mistakes_are_refused(message: str) -> None:
    assert message in _said(message)


def test_every_message_is_tested() -> None:
    said = [*map(_said, REFUSED)]
    assert not untested(nas.representation.builder, said)
    assert not untested(nas.representation.parts, said)


def test_networks_share_equal_parts() -> None:
    first, second = (Builder(TASK) for _ in range(2))
    for builder in (first, second):
        builder.head(builder.conv(builder.input, (2, 4), after=("norm",)))
    one, other = first.topology(), second.topology()
    assert all(map(operator.is_, one.maps, other.maps))
    assert all(map(operator.is_, one.operations, other.operations))


def test_sizes_are_inferred() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, 4)
    y = builder.conv(x, 4, stride=2)
    z = builder.add("max_pool", y, builder.map(4), kernel=(2, 1), stride=(2, 1), padding=0)
    assert [builder.size(i) for i in (builder.input, x, y, z)] == [(9, 7), (9, 7), (5, 4), (2, 4)]
    assert builder.size(builder.head(z)) == ()


def test_padding_keeps_the_size_of_odd_kernels() -> None:
    builder = Builder(TASK)
    for kernel in (1, 3, 5, (1, 3), (7, 5)):
        assert builder.size(builder.conv(builder.input, 4, kernel=kernel)) == (9, 7)


def test_lists_will_do_for_tuples() -> None:
    listed, tupled = Builder(TASK), Builder(TASK)
    listed.head(listed.conv(listed.input, [2, 4], kernel=[3, 1], stride=[2, 1]))
    tupled.head(tupled.conv(tupled.input, (2, 4), kernel=(3, 1), stride=(2, 1)))
    assert listed.architecture(2) == tupled.architecture(2)


def test_any_number_of_spatial_dimensions() -> None:
    for shape in ((3, 9), (3, 9, 7), (3, 4, 9, 7)):
        builder = Builder(Task(input_shape=shape, num_classes=4))
        x = builder.conv(builder.input, (2, 4), stride=2)
        assert builder.size(x) == tuple((n + 1) // 2 for n in shape[1:])
        builder.head(x)
        assert len(builder.architecture(2).points) == 2


def test_points_use_their_slice_or_all_of_a_map_with_fewer() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.conv(builder.input, (2, 4, 6)), (3, 5))
    builder.head(x)
    assert [builder.point(level).channels for level in (0, 1, 2, 3)] == [
        (3, 2, 3, 3, 4),
        (3, 4, 5, 5, 4),
        (3, 6, 5, 5, 4),
        (3, 6, 5, 5, 4),
    ]
    assert builder.point(0, without=(1,), output=2).operations == (0, 2, 3)


def test_concats_are_as_wide_as_their_sources_and_declare_nothing() -> None:
    builder = Builder(TASK)
    a, b = builder.conv(builder.input, (2, 4)), builder.conv(builder.input, 3)
    both = builder.concat([a, b, a])
    assert builder.slices(both) == (11,)
    assert builder.size(both) == (9, 7)
    builder.head(builder.conv(both, 4))
    assert builder.architecture(2).points[0].channels == (3, 2, 3, 4, 4, 4)


def test_a_head_on_a_vector_keeps_it() -> None:
    builder = Builder(TASK)
    pooled = builder.add("global_avg_pool", builder.input, builder.map(3))
    builder.head(builder.add("linear", pooled, builder.map(6), after=("relu",)))
    assert [m.size for m in builder.architecture(1).topology.maps] == [(9, 7), (), (), (), ()]


def test_architectures_have_no_unused_parts() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 6, 8))
    builder.conv(x, 5)
    builder.head(x)
    architecture = builder.architecture(2, norm="per_point", rule="joint", b=1, a=2)
    assert [m.channels for m in architecture.topology.maps] == [3, 4, 4, 4]
    assert architecture.canonical is architecture
    assert (architecture.norm, architecture.training.rule) == ("per_point", "joint")
    assert architecture.training.settings == (("a", 2), ("b", 1))


def test_a_builder_can_go_on_after_an_architecture() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4))
    builder.head(x)
    first = builder.architecture(2)
    builder.head(builder.conv(x, (2, 4)))
    assert builder.architecture(2) != first
    assert len(first.topology.maps) == 4


@pytest.mark.parametrize(
    ("full", "fractions", "divisor", "expected"),
    [
        (32, (0.25, 0.5, 0.75, 1), 4, (8, 16, 24, 32)),
        (30, (0.25, 1), 4, (8, 30)),
        (6, (0.01, 1), 1, (1, 6)),
        (7, (1,), 4, (7,)),
        (12, (0.25, 0.5, 1), 2, (4, 6, 12)),
    ],
)
def test_widths(full: int, fractions: tuple[float, ...], divisor: int, expected: tuple[int, ...]) -> None:
    assert widths(full, fractions, divisor=divisor) == expected
