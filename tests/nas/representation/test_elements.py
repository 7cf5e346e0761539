"""The parts of a network: refused values with their messages, and comparison by value."""

from __future__ import annotations

import copy
import math
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from nas.representation import elements
from nas.representation.elements import Task, TrainingSpec

from ..hand_built import TASK
from ..messages import untested
from .small import (
    CONV,
    GOOD,
    HIDDEN,
    LARGE,
    NET,
    SMALL,
    refusal,
)
from .test_gates import INVALID as INVALID_GATES

INVALID = {
    "input_shape must be a tuple of positive ints": lambda: Task(input_shape=(3,), num_classes=2),
    "at least one spatial size. Got (3, 0)": lambda: Task(input_shape=(3, 0), num_classes=2),
    "spatial size. Got [3, 8, 8]": lambda: Task(input_shape=[3, 8, 8], num_classes=2),  # type: ignore[arg-type]
    "spatial size. Got (3, 8.0, 8)": lambda: Task(input_shape=(3, 8.0, 8), num_classes=2),  # type: ignore[arg-type]
    "A task must have at least two classes. Got self.num_classes=1": lambda: replace(TASK, num_classes=1),
    "at least two classes. Got self.num_classes=2.5": lambda: replace(TASK, num_classes=2.5),
    "hierarchy must be a tuple of tuples of int labels. Got [": lambda: replace(TASK, hierarchy=[(0, 0, 1, 1, 1)]),
    "of tuples of int labels. Got ((0, 0, 1, 1, 1.0),)": lambda: replace(TASK, hierarchy=((0, 0, 1, 1, 1.0),)),
    "Each level of the hierarchy must give each of the 5 fine labels": lambda: replace(TASK, hierarchy=((0, 1),)),
    "a coarse label 0..n-1, and use all n. Got (0, 0, 2, 2, 2)": lambda: replace(TASK, hierarchy=((0, 0, 2, 2, 2),)),
    "fewer labels than the one before it, and at least two. Got 5, 1 labels": lambda: replace(
        TASK, hierarchy=((0, 0, 0, 0, 0),)
    ),
    "and at least two. Got 5, 2, 3 labels, finest first.": lambda: replace(
        TASK, hierarchy=((0, 0, 0, 0, 1), (0, 0, 1, 1, 2))
    ),
    "and at least two. Got 5, 5 labels": lambda: replace(
        TASK, hierarchy=((0, 1, 2, 3, 4),)
    ),
    "must join whole labels of the one before it. Got (0, 1, 1, 1, 1)": lambda: replace(
        TASK, hierarchy=((0, 0, 1, 1, 2), (0, 1, 1, 1, 1))
    ),
    "Only labels of a finer labelling can be joined. Got finer=1, coarser=0": lambda: replace(
        TASK, hierarchy=((0, 0, 1, 1, 1),)
    ).joined(1, 0),
    "Got finer=0, coarser=1": lambda: TASK.joined(0, 1),
    "metric must be a name. Got None": lambda: replace(TASK, metric=None),
    "channels must be an int, size and slices tuples of int": lambda: replace(HIDDEN, channels=4.0, slices=(2, 4.0)),
    "tuples of int. Got self.channels=4, size=(8, 8), slices=[2, 4]": lambda: replace(HIDDEN, slices=[2, 4]),
    "size=(8, True), slices=(2, 4)": lambda: replace(HIDDEN, size=(8, True)),
    "size=(8, 8), slices=(2, nan)": lambda: replace(HIDDEN, slices=(2, math.nan)),
    "slices=(2, np.int64(4))": lambda: replace(HIDDEN, slices=(2, np.int64(4))),
    "self.channels='4'": lambda: replace(HIDDEN, channels="4"),
    "A feature map must have channels. Got self.channels=0": lambda: replace(HIDDEN, channels=0, slices=(0,)),
    "slices must ascend from at least 1 and end at channels=4. Got slices=()": lambda: replace(HIDDEN, slices=()),
    "end at channels=4. Got slices=(2, 3)": lambda: replace(HIDDEN, slices=(2, 3)),
    "end at channels=4. Got slices=(2, 2, 4)": lambda: replace(HIDDEN, slices=(2, 2, 4)),
    "end at channels=4. Got slices=(0, 4)": lambda: replace(HIDDEN, slices=(0, 4)),
    "merge must be 'sum' or 'concat'. Got 'mean'": lambda: replace(HIDDEN, merge="mean"),
    "A concat must have one slice: its sources determine the rest. Got": lambda: replace(HIDDEN, merge="concat"),
    "activation must be one of ('none', 'relu'": lambda: replace(HIDDEN, activation="norm"),
    "scale must be one of": lambda: replace(HIDDEN, scale="sum"),
    "kernel, stride, padding, before and after must be tuples. Got": lambda: replace(CONV, kernel=[3, 3]),
    "self.before='norm'": lambda: replace(CONV, before="norm"),
    "source, target, groups, kernel, stride and padding must be ints": lambda: replace(CONV, groups=2.0),
    "kernel=(3, 3.0)": lambda: replace(CONV, kernel=(3, 3.0)),
    "kind must be a name, wiring and the steps in before and after must be str. Got 7": lambda: replace(CONV, kind=7),
    "after must be str. Got np.str_('conv')": lambda: replace(CONV, kind=np.str_("conv")),
    "self.after=(np.str_('relu'),)": lambda: replace(CONV, after=(np.str_("relu"),)),
    "bias and optional must be bool. Got 1, False": lambda: replace(CONV, bias=1),
    "merge, activation and scale must be str. Got 'sum', np.str_('relu'), 'none'": lambda: replace(
        HIDDEN, activation=np.str_("relu")
    ),
    "An operation must lead to a later map. Got 1 -> 1": lambda: replace(CONV, source=1),
    "to a later map. Got -1 -> 1": lambda: replace(CONV, source=-1),
    "groups must be at least 1. Got self.groups=0": lambda: replace(CONV, groups=0),
    "wiring must be 'dense' or 'causal'. Got 'sparse'": lambda: replace(CONV, wiring="sparse"),
    "Steps before and after an operation must be among ('norm', 'relu'": lambda: replace(CONV, after=("none",)),
    "at most one norm before and one after it. Got": lambda: replace(CONV, before=("norm", "relu", "norm")),
    "channels and operations must be tuples of int, output an int": lambda: replace(SMALL, channels=[3, 2, 2, 5]),
    "operations=(0, 1, 2.0)": lambda: replace(SMALL, operations=(0, 1, 2.0)),
    "self.output=None": lambda: replace(SMALL, output=None),
    "A training rule must be a name. Got None": lambda: TrainingSpec(rule=None),  # type: ignore[arg-type]
    "Settings must be pairs of a name and a str, finite number": lambda: TrainingSpec(settings=(("a", math.inf),)),
    "bool or None. Got (('a', [1]),)": lambda: TrainingSpec(settings=(("a", [1]),)),  # type: ignore[arg-type]
    "bool or None. Got ((1, 1),)": lambda: TrainingSpec(settings=((1, 1),)),  # type: ignore[arg-type]
    "bool or None. Got {}": lambda: TrainingSpec(settings={}),  # type: ignore[arg-type]
    "Settings must be sorted by name, each once. Got ['b', 'a']": lambda: TrainingSpec(settings=(("b", 1), ("a", 1))),
    "each once. Got ['a', 'a']": lambda: TrainingSpec(settings=(("a", 1), ("a", 2))),
}  # fmt: skip


@pytest.mark.parametrize("message", INVALID)
def test_invalid_data_are_refused(message: str) -> None:
    assert message in refusal(INVALID[message])


def test_every_message_is_tested() -> None:
    assert not untested(elements, [*map(refusal, INVALID.values()), *INVALID_GATES])


def test_data_are_frozen_and_compare_by_value() -> None:
    for item in (TASK, HIDDEN, CONV, SMALL, NET, GOOD, TrainingSpec()):
        assert copy.deepcopy(item) == item
        with pytest.raises(FrozenInstanceError):
            setattr(item, fields(item)[0].name, None)
    assert len({HIDDEN, copy.deepcopy(HIDDEN), replace(HIDDEN, activation="relu")}) == 2
    assert len({SMALL, copy.deepcopy(SMALL), LARGE}) == 2
