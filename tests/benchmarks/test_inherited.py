"""Inherited weights: growing networks keep their function, and operations are aligned."""

import pytest
import torch

from nas.execution.network import AnytimeNetwork
from nas.representation.builder import Builder
from nas.representation.elements import Task

from .scripts import script

inherited = script("inherited")
NR = ("norm", "relu")


def network(width, blocks, seed):
    """A residual network in evaluation mode, with random statistics of its norms."""
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=3))
    x = builder.conv(builder.input, (width // 2, width), after=NR)
    for _ in range(blocks):
        y = builder.conv(builder.conv(x, (width // 2, width), after=NR), (width // 2, width), after=("norm",))
        builder.identity(x, y)
        x = y
    builder.head(x)
    made = AnytimeNetwork(builder.architecture(2, norm="per_point"), generator=torch.Generator().manual_seed(seed))
    made.train()
    with torch.no_grad():
        made(torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))
    return made.eval()


@pytest.mark.parametrize(("width", "blocks"), [(4, 1), (8, 1), (4, 2), (8, 2)])
def test_growing_keeps_the_function_of_the_largest_point(width, blocks):
    parent, child = network(4, 1, seed=0), network(width, blocks, seed=1)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, before = parent(x), child(x)
        share = inherited.inherit(child, parent)
        torch.testing.assert_close(child.eval()(x), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert share == 1 if (width, blocks) == (4, 1) else 0 < share < 1


def test_operations_are_aligned_in_order_by_what_they_do():
    parent, child = network(4, 1, seed=0), network(4, 2, seed=1)
    operations = [each.architecture.topology.operations for each in (parent, child)]
    pairs = inherited.aligned(*operations)
    assert len(pairs) == len(operations[0])
    assert pairs == sorted(pairs)
    for before, after in pairs:
        assert operations[0][before].kind == operations[1][after].kind
