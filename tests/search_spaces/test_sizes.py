"""The spaces reach from tiny to large, and hold the networks that one knows to be good."""

from __future__ import annotations

import numpy as np
import pytest

from nas.representation.architecture import macs
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random
from search_spaces.images import SPACINGS, fractions, link, prefixes, stem_strides
from search_spaces.mobile import Mobile
from search_spaces.residual import Residual
from search_spaces.slicing import Slicing
from search_spaces.slimmable import Slimmable

FASHION = Task(input_shape=(1, 28, 28), num_classes=10)
DIGITS = Task(input_shape=(1, 8, 8), num_classes=10)


def _sample(space, task, count=200):
    decide, domains, out = at_random(np.random.default_rng(0)), Domains(), []
    for _ in range(count):
        recorder = Recorder(decide, domains)
        out.append((recorder.choices, space.architecture(recorder, task)))
    return out


@pytest.mark.parametrize("space", [Residual(), Mobile(), Slicing()], ids=["residual", "mobile", "slicing"])
def test_sizes_are_broad(space):
    largest = np.array([macs(architecture)[-1] for _, architecture in _sample(space, FASHION)]) / 1e6
    low, high = np.percentile(largest, [5, 90])
    assert low < 2.5
    assert 15 < high < 60
    assert np.mean(largest < 10) > 0.3
    digits = np.array([macs(architecture) for _, architecture in _sample(space, DIGITS)]) / 1e6
    assert digits[:, 0].min() < 0.05
    assert np.median(digits[:, -1]) < 5


def test_residual_varies_in_topology_and_not_only_in_size():
    shapes = set()
    for choices, architecture in _sample(Residual(), FASHION):
        assert 20 <= len(choices) <= 60
        assert 10 <= len(architecture.topology.operations) <= 50
        shapes.add(tuple((o.source, o.target, o.kind) for o in architecture.topology.operations))
    assert len(shapes) > 190


def test_no_two_equal_operations_meet_in_a_map():
    for space in (Residual(), Mobile()):
        for _, architecture in _sample(space, FASHION):
            operations = architecture.topology.operations
            assert len(set(operations)) == len(operations)


def test_residual_holds_a_plain_resnet():
    plain = {
        "smallest fraction": 0.25,
        "spacing": "linear",
        "width": 16,
        "stem stride": 2,
        "1 growth": 2.0,
        "2 growth": 2.0,
    }
    plain |= {f"{stage} depth": 2 for stage in range(3)}

    def choose(name, options):
        ends = {"body": "basic", "kernel": 3, "branch": "none", "skip": 0, "shortcut": "project", "long skip": "none"}
        answer = plain.get(name, ends.get(name, ends.get(name.split()[-1])))
        assert answer in options
        return answer

    architecture = Residual().architecture(choose, FASHION)
    kinds = [operation.kind for operation in architecture.topology.operations]
    assert kinds.count("conv") == 1 + 12 + 2
    assert kinds.count("identity") == 4
    costs = macs(architecture)
    assert 4e6 < costs[-1] < 7e6
    assert costs[0] < costs[-1] / 12


def test_slimmable_differs_in_width_and_stride_of_the_stem_only():
    shapes = {
        tuple((o.source, o.target, o.kind, o.stride) for o in architecture.topology.operations)
        for _, architecture in _sample(Slimmable(), FASHION)
    }
    assert len(shapes) == 2
    assert len({shape[1:] for shape in shapes}) == 1


def test_slimmable_policies_come_with_their_rules():
    pairs = {(architecture.norm, architecture.training.rule) for _, architecture in _sample(Slimmable(), FASHION)}
    assert pairs == {("per_point", "joint"), ("recalibrated", "sandwich")}


@pytest.mark.parametrize("side", range(1, 40))
def test_skips_fit_at_every_size(side):
    from nas.representation.builder import Builder

    builder = Builder(Task(input_shape=(2, side, 3), num_classes=2))
    x, at = builder.input, [builder.input]
    for _ in range(3):
        x = builder.conv(x, 2, kernel=3, stride=2)
        at.append(x)
        for back, source in enumerate(reversed(at[:-1]), start=1):
            for style in ("pool", "project"):
                link(builder, source, x, style, 2**back)


@pytest.mark.parametrize("side", [1, 8, 23, 24, 64, 65, 224, 1024])
def test_the_stem_shrinks_large_images(side):
    strides = stem_strides(Task(input_shape=(3, side, side // 2 or 1), num_classes=2))
    assert -(-side // strides[0]) <= 64
    assert (len(strides) == 2) == (side >= 24)


@pytest.mark.parametrize("points", range(1, 9))
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("smallest", [0.25, 0.375, 0.5])
def test_widths_ascend_to_the_full_width(smallest, spacing, points):
    shares = fractions(smallest, spacing, points)
    for full in range(16, 100, 4):
        slices = prefixes(full, shares)
        assert len(slices) == points
        assert slices[-1] == full
        assert points == 1 or slices[0] <= full * smallest + 2
