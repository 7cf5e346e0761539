"""References of a space: the sizes of designs within a limit, and every breach of the contract with its message."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from nas.errors import PluginError, UserError
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.references import RATIO, SIZES, Design, Reference, built_references, sizes_within

TASK = Task(input_shape=(1, 8, 8), num_classes=3)
WIDTHS = (4, 5, 8, 12, 16, 32, 64, 128)


class Space:
    """One or two convolutions."""

    def architecture(self, choose, task, *, points=4):
        builder, x = Builder(task), 0
        for block in range(choose("depth", (1, 2))):
            kernel, width = choose(f"{block} kernel", (1, 3)), choose("width", WIDTHS)
            x = builder.conv(x, tuple(width * (k + 1) // points for k in range(points)), kernel=kernel)
        builder.head(x)
        return builder.architecture(points)


def design(**answers):
    sizes = [{"width": width} for width in WIDTHS]
    given = {"depth": 2, "kernel": 3, **answers}
    return Design(name="chain", origin="this test", answers=given, size="width {width}", sizes=sizes)


def referring(*references):
    class Referring(Space):
        def references(self, task, max_macs, *, points=4):
            return list(references)

    return Referring()


def reference(**choices):
    return Reference(design="chain", size="small", origin="this test", choices=choices)


def costs(references):
    return [Space().architecture(lambda n, _, r=r: r.choices[n], TASK).costs[-1] for r in references]


def test_a_space_without_references_has_none():
    assert built_references(Space(), TASK) == []


@pytest.mark.parametrize("limit", [2e4, 1e5, 1e6, math.inf])
def test_the_largest_sizes_within_a_limit_are_offered_small_to_large(limit):
    macs = costs(found := sizes_within(Space(), [design()], TASK, limit))
    possible = costs([r for w in WIDTHS for r in sizes_within(Space(), [_one(w)], TASK, limit)])
    assert max(macs) == max(possible) <= limit
    assert len(macs) <= SIZES
    assert all(b >= RATIO * a for a, b in pairwise(macs))
    skipped = set(possible) - set(macs)
    assert all(any(m / RATIO < s < m for m in macs) or s < min(macs) for s in skipped)
    assert all(r.name == f"chain, width {r.choices['width']}" for r in found)


def _one(width):
    one = design()
    return Design(name=one.name, origin=one.origin, answers=one.answers, size=one.size, sizes=[{"width": width}])


def test_no_size_fits_a_tiny_limit():
    assert sizes_within(Space(), [design()], TASK, 10.0) == []


def test_an_answer_for_the_whole_name_precedes_one_without_the_first_word():
    (smallest, *_) = sizes_within(Space(), [design(**{"1 kernel": 1})], TASK, math.inf)
    assert (smallest.choices["0 kernel"], smallest.choices["1 kernel"]) == (3, 1)


def test_sizes_with_too_few_channels_are_left_out():
    found = sizes_within(Space(), [design()], TASK, 1e5, points=8)
    assert {r.choices["width"] for r in found} <= {8, 12, 16, 32, 64, 128}


def test_answers_that_are_no_options_leave_the_size_out():
    assert sizes_within(Space(), [design(kernel=5)], TASK, math.inf) == []


def test_a_network_of_two_designs_is_offered_once():
    macs = costs(sizes_within(Space(), [design(), design()], TASK, math.inf))
    assert len(macs) > SIZES
    assert len(set(macs)) == len(macs)


def test_a_design_must_answer_every_choice():
    incomplete = Design(name="chain", origin="", answers={"kernel": 3}, size="", sizes=[{}])
    with pytest.raises(PluginError, match=r"'chain' must answer every choice\. Got no answer for 'depth'"):
        sizes_within(Space(), [incomplete], TASK, math.inf)


COMPLETE = {"depth": 1, "0 kernel": 3, "width": 8}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("chain", "must return objects of class nas.Reference. Got 'chain'"),
        (reference(depth=1, width=8), "must build a network. 'chain, small': .*'0 kernel'"),
        (reference(**COMPLETE | {"width": 7}), "must build a network. 'chain, small': .*7"),
        (reference(**COMPLETE | {"height": 7}), r"no choices that its network does not need. Got \['height'\]"),
        (reference(**COMPLETE | {"width": 128}), "at most max_macs=10,000 MACs. Got"),
    ],
    ids=["no reference", "incomplete", "no option", "unused", "too large"],
)
def test_references_that_break_the_contract_are_refused(wrong, message):
    with pytest.raises(PluginError, match=message):
        built_references(referring(wrong), TASK, 1e4)


def test_a_task_that_the_space_refuses_is_the_users_error():
    class Refusing(Space):
        def references(self, task, max_macs, *, points=4):
            raise UserError("Only on Sundays.")

    with pytest.raises(UserError, match="Only on Sundays"):
        built_references(Refusing(), TASK)
