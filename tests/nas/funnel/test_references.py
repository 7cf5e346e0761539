"""The references of the spaces in a search: the first generation, other sizes of the leading design, the time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from nas.config import Config
from nas.funnel.forecast import LearningCurve, expected_gain, forecast
from nas.funnel.ledger import Entry
from nas.funnel.limits import FIRST_SHARE, OTHERS_SHARE, Limits
from nas.plugins import load_plugin

from ..killing import SimulatedTime
from ..searching import assert_same, content, search, space, toy

REFERRING = {"spaces": (space("Referring"),), "pool": 12, "proxy": "macs", "low": 1e5, "max_macs": 2e6}
ORDER = [
    f"{design}, width {width}" for widths in ((24,), (32, 16), (48,)) for design in ("Deep", "Flat") for width in widths
]
"""The middle size of each design, then its neighbours; of equal rank, by the proxy."""


def trained(study):
    """The candidates that were chosen for training, in order."""
    return study.candidates().dropna(subset="position").sort_values(["generation", "position"])


def test_the_first_generation_begins_with_references_of_every_design(store, in_process):
    first = trained(search(store, **REFERRING, generation=5, train=5))
    assert list(first.reference) == ORDER[:5]
    assert not first.control.any()


def test_later_generations_have_other_sizes_of_the_leading_design(store, in_process, monkeypatch):
    """A third of them; the design that leads after the longest training."""
    known = load_plugin("nas.evaluators", toy("Known"))
    monkeypatch.setattr(known, "points", _prefers_flat(known.points))
    rows = trained(search(store, **REFERRING, evaluator=toy("Known"), generation=6, train=24))
    of_generation = {number: list(group.reference.dropna()) for number, group in rows.groupby("generation")}
    assert of_generation == {0: ORDER[:6], 1: ORDER[7:], 2: [], 3: []}  # Flat, width 48
    others = rows[rows.reference.isna()]
    assert len(others) == 17
    assert not rows[rows.reference.notna()].control.any()


def _prefers_flat(points, times=1):
    def better(toy, job, state):
        depth = sum(operation.kind == "conv" for operation in job.parsed_architecture.topology.operations)
        return [point | {"accuracy": 0.6 - times * 0.1 * depth} for point in points(toy, job, state)]

    return better


@pytest.mark.parametrize("changes", [{"references": False}, {"spaces": (space("Small"),)}])
def test_no_references_are_trained_if_there_are_none_or_none_are_wanted(store, in_process, changes):
    assert trained(search(store, **REFERRING | {"generation": 4, "train": 8} | changes)).reference.isna().all()


def test_a_single_candidate_is_the_first_reference(store, in_process):
    assert list(trained(search(store, **REFERRING, train=1)).reference) == ORDER[:1]


def test_references_with_more_than_the_budget_are_left_out(store, in_process):
    rows = trained(search(store, **REFERRING | {"generation": 4, "train": 4, "low": 2e4, "max_macs": 4e4}))
    assert set(rows.reference.dropna()) < set(ORDER)
    assert rows.macs_max.max() <= 4e4


def test_with_a_time_limit_as_many_references_are_trained_as_there_is_time_for(store, in_process, monkeypatch):
    SimulatedTime(monkeypatch)
    seconds = 0.0585  # an epoch takes 0.001
    rows = trained(search(store, **REFERRING, generation=3, train=None, hours=seconds / 3600, final_epochs=None))
    first = rows[rows.generation == 0]
    assert list(first.reference) == ORDER
    reached = first[first.anytime_accuracy.notna()]
    assert len(reached) == math.ceil(FIRST_SHARE * seconds / 0.001)
    late = first[first.anytime_accuracy.isna()]
    assert set(late.status) == {"stopped"}
    assert set(late.reason) == {"The search's time was over before epoch 1."}


@pytest.mark.parametrize("leader", ["Flat", "Deep"])
def test_with_a_time_limit_sizes_of_the_leading_design_follow_one_of_each_design(
    store, in_process, monkeypatch, leader
):
    SimulatedTime(monkeypatch)
    kind = load_plugin("nas.evaluators", toy())
    monkeypatch.setattr(kind, "points", _prefers_flat(kind.points, -1 if leader == "Deep" else 1))
    rows = trained(search(store, **REFERRING, generation=3, train=None, hours=0.0585 / 3600, final_epochs=None))
    reached = rows[(rows.generation == 0) & rows.anytime_accuracy.notna()]
    sizes = [name for name in ORDER if name.startswith(leader)]
    assert set(reached.reference) == {ORDER[0], ORDER[1], *sizes[1:4]}


def test_searches_with_references_are_reproducible(tmp_path, in_process):
    for name in ("a.db", "b.db"):
        search(tmp_path / name, **REFERRING, generation=4, train=12)
    assert_same(content(tmp_path / "a.db"), content(tmp_path / "b.db"))


# When proposals end ---------------------------------------------------------------------------------------------------

HOURS = 100 / 3600


class FilledRecords:
    """Records with candidates by hand. results: last accuracy and seconds of each; references come first."""

    def __init__(self, references, others, *, generation=4):
        entries = {}
        for number, (accuracy, seconds) in enumerate([*references, *others]):
            later = max(0, number - len(references)) // generation
            entries[number] = Entry(
                key=f"{number:016x}",
                generation=later if number < len(references) else 1 + later,
                status="finished",
                reference="Flat, width 8" if number < len(references) else None,
                accuracy={4.5: accuracy},
                seconds={4.5: seconds},
            )
        self.ledger = _Ledger(entries)
        self.info = SimpleNamespace(train_images=1000)

    def reached(self, number):
        return {9: self.ledger[number].accuracy[4.5]}

    def rung(self, epochs):
        return epochs / 2

    def learning_curve(self, number):
        entry = self.ledger[number]
        return LearningCurve(
            results={4500: entry.accuracy[4.5]}, seconds_per_image=entry.seconds[4.5] / 4500, noise=0.01
        )

    def typical_slope(self):
        return 0.3


class _Ledger(dict):
    def ended(self):
        return list(self)


def limits(references, others, *, elapsed, hours=HOURS, **settings):
    keeper = SimpleNamespace(clock=SimpleNamespace(elapsed=lambda: elapsed), state=SimpleNamespace(generations=10))
    config = Config(**{"generation": 4, "epochs": 9, "finalists": 1, "hours": hours} | settings)
    return Limits(config, FilledRecords(references, others), keeper, slots=1)


def test_proposals_end_while_a_reference_leads_after_a_share_of_the_time():
    worse = [(0.5, 6.0)] * 5
    assert OTHERS_SHARE * 100 < 5 * 6.0
    reason = limits([(0.8, 6.0)], worse, elapsed=40).proposals_end()
    assert reason == "no proposal was better than the leading reference in 30 seconds"


def test_proposals_end_when_they_promise_less_than_more_training():
    alike = [(0.6 + 0.001 * n, 1.0) for n in range(8)]
    reason = limits([(0.5, 1.0)], alike, elapsed=80).proposals_end()
    assert "of anytime accuracy, and more training of the leader" in reason
    gain, loss = (float(part.split()[0]) for part in (reason.split("promised ")[1], reason.split("the leader ")[1]))
    assert gain < loss
    values = [forecast(_curve(a, s), 20 / s * 4500, 0.3) for a, s in alike]
    assert gain == pytest.approx(100 * expected_gain(max(values), values, 4), abs=0.005)
    less = forecast(_curve(*alike[-1]), (20 - 8 / 2) * 4500, 0.3)
    assert loss == pytest.approx(100 * (max(values) - less), abs=0.005)


def _curve(accuracy, seconds):
    return LearningCurve(results={4500: accuracy}, seconds_per_image=seconds / 4500, noise=0.01)


def test_slow_generations_of_proposals_do_not_begin():
    reason = limits([(0.8, 1.0)], [], elapsed=60).proposals_end()  # ten generations in 60 of 100 seconds
    assert reason == "a generation of proposals would take 6 seconds, which the leader needs more"


@pytest.mark.parametrize(
    ("references", "others", "settings"),
    [
        ([(0.5, 1.0)], [(0.4 + 0.05 * n, 0.1) for n in range(8)], {}),  # proposals differ much, and cost little
        ([(0.8, 1.0)], [(0.5, 6.0)] * 3, {}),  # a reference leads, and there is time
        ([], [(0.6, 6.0)] * 8, {}),  # no references to compare with
        ([(0.8, 6.0)], [(0.5, 6.0)] * 5, {"hours": None}),
        ([(0.8, math.nan)], [(0.5, math.nan)] * 5, {}),  # unknown durations
    ],
)
def test_proposals_go_on_otherwise(references, others, settings):
    assert limits(references, others, elapsed=30, **settings).proposals_end() is None


def test_full_training_does_not_count_as_time_for_proposals():
    """A study that is resumed with more hours has finalists."""
    resumed = limits([(0.8, 1.0)], [(0.5, 1.0)] * 5, elapsed=45)
    entry = resumed.records.ledger[1]
    entry.accuracy[60.0], entry.seconds[60.0] = 0.7, 50.0
    assert resumed.proposals_end() is None or "leading reference" not in resumed.proposals_end()


def test_a_rung_must_end_within_its_share_of_the_time():
    early = limits([(0.5, 1.0)], [], elapsed=100 * FIRST_SHARE - 1, final_epochs=10_000)
    late = limits([(0.5, 1.0)], [], elapsed=100 * FIRST_SHARE + 1, final_epochs=10_000)
    assert early.time_for_rung(0, first=True)
    assert not late.time_for_rung(0, first=True)
    assert late.time_for_rung(20, first=False)
    assert not late.time_for_rung(40, first=False)  # 9 + 40 > 45
    assert late.time_for_rung(math.nan, first=False)
    assert limits([(0.5, 1.0)], [], elapsed=1e9, hours=None).time_for_rung(1e9, first=True)


def test_the_search_has_more_time_if_full_training_needs_little():
    """100 s less twice two passes over 1,000 images of a second for 4,500: 99 s."""
    little = limits([(0.5, 1.0)], [], elapsed=95, final_epochs=2)
    assert little.time_for_rung(3, first=False)
    assert not little.time_for_rung(5, first=False)
