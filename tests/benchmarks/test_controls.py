"""Learned operations on all paths: closed forms, a list of all paths, and the use as a proxy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings

from nas import testing
from nas.plugins import load_plugin
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..nas.supernets import TASK, learned, listed_paths, residual_stack, small_supernets
from .scripts import BENCHMARKS, script

controls = script("controls")


@given(small_supernets())
@settings(max_examples=60, deadline=None)
def test_counts_agree_with_a_list_of_all_paths(architecture):
    for level, point in enumerate(architecture.points):
        listed = listed_paths(architecture, point.operations, point.output)
        total = sum(learned(architecture, o) for path in listed for o in path)
        assert controls.log_learned_paths(architecture)[level] == pytest.approx(math.log(total))


def test_residual_stack_has_its_closed_form():
    """2⁴ equally likely paths: the body of a block, two learned operations, is on half of them."""
    assert controls.log_learned_paths(residual_stack()) == pytest.approx((math.log(16 * (2 + 4 * 2 * 0.5)),))


def test_early_exits_end_at_their_output():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    early = builder.head(x)
    last = builder.head(builder.conv(x, 8))
    architecture = builder.architecture([builder.point(0, output=early), builder.point(0, output=last)])
    assert controls.log_learned_paths(architecture) == pytest.approx((math.log(2), math.log(3)))
    assert controls.learned_paths(architecture) == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_counts_do_not_overflow():
    """102^160 > 10^321 paths, more than a float can hold."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    for _ in range(160):
        y = builder.map(8)
        for _ in range(102):
            builder.add("conv", x, y, kernel=1)
        x = y
    builder.head(x)
    assert controls.learned_paths(builder.architecture(1)) > 160 * math.log(102)


def test_a_network_without_learned_operations_scores_zero():
    builder = Builder(Task(input_shape=(10, 4, 4), num_classes=10))
    builder.add("global_avg_pool", builder.input, builder.map(10))
    assert controls.learned_paths(builder.architecture(1)) == 0.0


def test_it_is_a_proxy_that_passes_the_shipped_checks():
    spec = f"{BENCHMARKS / 'controls.py'}:learned_paths"
    assert load_plugin("nas.proxies", spec).needs == "topology"
    testing.check_proxy(spec)
