"""The supernets of TIPS have the MACs of the released code; the space varies schedules and optional parts."""

from __future__ import annotations

import numpy as np
import pytest

from nas.errors import InvalidArchitecture
from nas.plugins import load_plugin
from nas.representation.elements import Task
from nas.representation.supernet import choice_groups
from nas.spaces.choices import Domains, Recorder, at_random
from search_spaces.tips import IMAGENET, mobilenet_v2, resnet34

RESNET34 = (
    *(1_538_061_509, 2_332_347_056, 2_409_825_029, 2_490_884_804, 2_575_526_381),
    *(2_663_749_760, 2_755_554_941, 2_850_941_924, 2_949_910_709, 3_052_461_296),
    *(3_158_593_685, 3_268_307_876, 3_381_603_869, 3_498_481_664, 3_644_493_824),
)
MOBILENET_V2 = (
    *(263_756_144, 420_444_424, 430_505_888, 441_397_216, 452_271_296),
    *(463_542_080, 475_209_568, 487_783_752, 500_263_856, 513_140_664),
    *(526_414_176, 540_671_216, 554_757_344, 569_240_176, 599_345_776),
)
"""Counted by hooks in the networks of the authors' code: the smallest, the thirteen "uniform" ones, and the largest."""


@pytest.mark.parametrize(("supernet", "macs"), [(resnet34, RESNET34), (mobilenet_v2, MOBILENET_V2)])
def test_macs_are_those_of_the_released_code(supernet, macs):
    assert supernet().costs == macs
    assert supernet(points=3).costs == macs[::7]
    assert supernet(points=1).costs == macs[-1:]


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("points", [1, 4, 15])
def test_small_versions(side, points):
    task = Task(input_shape=(3, side, side), num_classes=10)
    for network in (
        resnet34(task, width=8, depths=(2, 2, 2, 2), points=points),
        mobilenet_v2(task, width=0.25, points=points),
    ):
        assert len(network.points) == points
        assert network.topology.maps[-2].size == ()
        assert network.costs[-1] < 10e6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: resnet34(width=4), "Width must be a whole number from 8 on"),
        (lambda: resnet34(width=20.5), "Width must be a whole number from 8 on"),
        (lambda: resnet34(depths=(1, 1)), "depths four"),
        (lambda: resnet34(depths=3), "depths four"),
        (lambda: resnet34(points=2.5), "up to 15 operating points"),
        (lambda: mobilenet_v2(width=float("nan")), "at least 0.25"),
        (lambda: mobilenet_v2(width=0.1), "at least 0.25"),
        (lambda: resnet34(points=16), "up to 15 operating points"),
    ],
)
def test_wrong_sizes_are_refused(build, message):
    with pytest.raises(InvalidArchitecture, match=message):
        build()


def test_small_points_predict_coarse_labels():
    task = Task(input_shape=(1, 16, 16), num_classes=4, hierarchy=((0, 0, 1, 1),))
    network = resnet34(task, width=8, depths=(1, 1, 1, 1), points=4)
    assert [network.topology.maps[point.output].channels for point in network.points] == [2, 2, 4, 4]


def test_imagenet_is_the_default():
    assert resnet34(points=1).task == IMAGENET


def test_optional_parts_are_sampled_and_schedules_change_widths():
    space = load_plugin("nas.search_spaces", "tips")()
    task, decide, domains = (
        Task(input_shape=(3, 16, 16), num_classes=10),
        at_random(np.random.default_rng(0)),
        Domains(),
    )
    seen = set()
    for _ in range(60):
        recorder = Recorder(decide, domains)
        network = space.architecture(recorder, task)
        optional, schedule = recorder.choices["optional"], recorder.choices["schedule"]
        assert network.training.rule == ("sandwich" if optional == "none" else "path_sampling")
        assert bool(choice_groups(network.topology)) == (optional != "none")
        whole = {m.channels for m in network.topology.maps if len(m.slices) > 1}
        shares = {
            tuple(round(w / m.channels, 1) for w in m.slices)
            for m in network.topology.maps
            if len(m.slices) > 1 and m.channels == max(whole)
        }
        seen.add((optional, schedule, len(shares) > 1))
    assert {optional for optional, _, _ in seen} == {"none", "bodies", "shortcuts", "both"}
    assert not any(different for _, schedule, different in seen if schedule == "uniform")
    assert any(different for _, schedule, different in seen if schedule == "path")
