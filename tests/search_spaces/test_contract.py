"""Every installed search space keeps the contract, and its proposals run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.errors import InvalidArchitecture, UserError
from nas.plugins import installed, load_plugin
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task
from nas.representation.supernet import choice_groups, draw_of, subnetwork_of
from nas.spaces.choices import Domains, Recorder, at_random
from nas.testing import search_space_checks

SPACES = sorted(installed("nas.search_spaces"))
SHAPES = (
    (1, 28, 28),
    (3, 32, 32),
    (1, 8, 8),
    (1, 4, 4),
    (1, 1, 1),
    (1, 1, 64),
    (3, 64, 64),
    (3, 224, 224),
    (1, 16, 48),
)


VIDEO = {"throttleable"}
"""Spaces that serve videos too."""


def _random(space: str, shape: tuple[int, ...], count: int, points: int = 4) -> list[Architecture]:
    task, decide, domains = Task(input_shape=shape, num_classes=10), at_random(np.random.default_rng(0)), Domains()
    instance = load_plugin("nas.search_spaces", space)()
    architectures = []
    for _ in range(count):
        try:
            architectures.append(instance.architecture(Recorder(decide, domains), task, points=points))
        except InvalidArchitecture:
            continue
    return architectures


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=f"{space}-{name}") for space in SPACES for name, check in search_space_checks(space)],
)
def test_contract(check):
    check()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_takes_every_image(space, shape):
    assert len(_random(space, shape, 10)) >= 9


@pytest.mark.parametrize("space", sorted(VIDEO))
@pytest.mark.parametrize("shape", [(3, 8, 16, 16), (1, 1, 1, 1), (3, 16, 112, 112)], ids=str)
def test_takes_every_video(space, shape):
    assert len(_random(space, shape, 10)) >= 9


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("points", range(1, 9))
def test_takes_one_to_eight_points(space, points):
    architectures = _random(space, (1, 28, 28), 40, points)
    assert len(architectures) >= 30
    assert {len(architecture.points) for architecture in architectures} == {points}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("shape", "points", "message"), [((3, 8, 16, 16), 4, "Video"), ((3, 16), 4, "images"), ((1, 8, 8), 0, "points=0")]
)
def test_tasks_that_a_space_cannot_serve_are_refused(space, shape, points, message):
    if message == "Video" and space in VIDEO:
        return
    with pytest.raises(UserError, match=message) as caught:
        _random(space, shape, 1, points)
    assert not isinstance(caught.value, InvalidArchitecture)


@pytest.mark.parametrize("space", [space for space in SPACES if space != "tips"])
def test_optional_operations_leave_a_network(space):
    for architecture in _random(space, (3, 32, 32), 20):
        operations = architecture.topology.operations
        remaining = tuple(o for o in architecture.points[0].operations if not operations[o].optional)
        point = architecture.points[0]
        bare = architecture.with_points(
            [type(point)(channels=point.channels, operations=remaining, output=point.output)]
        )
        assert 0 < macs(bare)[0] <= macs(architecture)[0]


def test_of_a_block_whose_parts_are_all_optional_one_is_put_back():
    for architecture in _random("tips", (3, 32, 32), 20):
        groups = choice_groups(architecture.topology)
        drawn = draw_of(architecture, groups, architecture.points[0])
        absent = [group.alternatives.index(None) if None in group.alternatives else 0 for group in groups]
        bare = architecture.with_points([subnetwork_of(architecture, groups, replace(drawn, picks=tuple(absent)))])
        assert 0 < macs(bare)[0] <= macs(architecture)[0]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 18)], ids=str)
def test_proposals_run_at_every_level(space, shape):
    torch = pytest.importorskip("torch")
    from nas.execution.network import AnytimeNetwork

    generator = torch.Generator().manual_seed(0)
    for architecture in _random(space, shape, 5):
        network = AnytimeNetwork(architecture, generator=generator)
        x = torch.randn(2, *shape, generator=generator)
        assert [tuple(logits.shape) for logits in network.forward_all(x)] == [(2, 10)] * 4
