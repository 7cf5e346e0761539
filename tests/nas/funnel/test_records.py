"""A search reads its candidates once; later generations read only their own."""

import math
from dataclasses import replace

import pytest

import results
from nas.config import Config
from nas.evaluation.evaluator import DataInfo
from nas.funnel import records as module
from nas.funnel.generation import GenerationProposer
from nas.funnel.ledger import Ledger
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper
from nas.representation.elements import Task
from nas.screening.proposals import Proposal
from nas.screening.screener import screener_of
from nas.spaces.loading import load_spaces
from nas.strategies.guided import Guided
from nas.strategies.random import Random
from results.front import Score

TASK = Task(input_shape=(1, 8, 8), num_classes=10)
INFO = DataInfo(
    name="none", task=TASK, floor=0.1, train_images=1_000, validation_images=10, test_images=10, fingerprint="none"
)
CONFIG = Config(spaces=("residual",), pool=30, generation=10, epochs=9, proxy="macs", points=2)
SCORE = Score(low=1e3, high=1e7, floor=0.1)


@pytest.fixture
def writer(tmp_path):
    with results.open(tmp_path / "nas.db").writer("s", {}) as opened:
        opened.set_score(SCORE)
        yield opened
        opened.finish()


class Search:
    """A search without training: every candidate has an accuracy by its number."""

    def __init__(self, writer, strategy):
        self.writer, self.generation = writer, 0
        self.records, keeper = Records(CONFIG, writer, INFO, SCORE), StateKeeper(writer)
        screener = screener_of(CONFIG, TASK, load_spaces(CONFIG.spaces, {}))
        screener.domains = keeper.domains
        self.proposer = GenerationProposer(CONFIG, self.records, keeper, screener, strategy)

    def go_on(self):
        """One generation, proposed, trained and decided."""
        assert self.proposer.propose(self.generation, math.inf)
        proposed = self.records.candidates(self.generation)
        for candidate in proposed:
            points = [
                {"level": level, "macs": macs, "params": 10, "accuracy": 0.3 + candidate.id / 1e4, "loss": 1.0}
                for level, macs in enumerate((10_000, 20_000))
            ]
            for epochs in CONFIG.rungs():
                place = {"fidelity": self.records.rung(epochs), "repeat": 0, "realised_key": candidate.key}
                self.writer.record(candidate.id, **place, points=points)
                accuracy = SCORE([10_000, 20_000], [0.3 + candidate.id / 1e4] * 2)
                self.records.ledger.set_accuracy(candidate.id, place["fidelity"], accuracy)
        self.records.set_statuses({candidate.id: ("finished", "All.") for candidate in proposed})
        self.generation += 1
        return [candidate.id for candidate in proposed]


def test_the_noise_of_a_curve_is_that_of_the_metric(writer):
    search = Search(writer, Random)
    (first, *_) = search.go_on()
    plain = search.records.learning_curve(first).noise
    assert plain == pytest.approx(0.5 / math.sqrt(INFO.validation_images))
    uncertain = replace(INFO, certainty=0.25)
    records = Records(CONFIG, writer, uncertain, SCORE)
    assert records.learning_curve(first).noise == pytest.approx(2 * plain)


@pytest.mark.parametrize("strategy", [Random, Guided])
def test_a_generation_rereads_no_older_candidates(writer, strategy, monkeypatch):
    search = Search(writer, strategy)
    for _ in range(4):  # the first audit of the proxy scores all candidates, once
        known = set(search.go_on())
    read = set()
    rows = type(writer).rows

    def counted(self, *arguments, **named):
        found = rows(self, *arguments, **named)
        read.update(named["ids"] if "ids" in named else (row["id"] for row in found))
        return found

    monkeypatch.setattr(type(writer), "rows", counted)
    for _ in range(3):
        new = set(search.go_on())
        assert read <= known | new
        known, read = new, set()


def test_a_new_search_has_the_ledger_of_the_one_that_went_on(writer):
    search = Search(writer, Random)
    for _ in range(3):
        search.go_on()
    search.records.add_failure(
        search.records.candidates(2)[4], module.Failure(reason="It broke.", traceback="…", attempts=2), ends=True
    )
    old, new = search.records.ledger, Ledger(writer)
    for method in ("chosen", "trained", "failed", "failed_in_a_row", "best", "ended", "unfinished_generations"):
        assert getattr(new, method)() == getattr(old, method)(), method
    assert new.keys == old.keys
    assert [new[number] for number in new.ended()] == [old[number] for number in old.ended()]
    domains = search.proposer.screener.domains
    trials = search.records.history(domains, with_architecture=True)
    assert Records(CONFIG, writer, INFO, SCORE).history(domains, with_architecture=True) == trials
    search.records.drop_generation(2)
    assert search.records.ledger.failed() == []
    assert len(search.records.ledger) == len(Ledger(writer)) == 20


def test_references_are_marked_in_the_store_and_in_the_ledger(writer):
    search = Search(writer, Random)
    first = search.go_on()[0]
    (known,) = search.records.proposed([first]).values()
    proposal = Proposal(
        space=known.space,
        choices=known.choices,
        architecture=search.records.architecture(first),
        key="abcd",
        macs=(10_000, 20_000),
        score=1.0,
    )
    reference = module.Queued(proposal=proposal, control=False, proxies={}, reference="a design, width 3")
    search.records.add_queued([reference], 1)
    (number,) = search.records.ledger.of_generation(1)
    assert [row["id"] for row in writer.rows() if row["reference"] == "a design, width 3"] == [number]
    for ledger in (search.records.ledger, Ledger(writer)):
        assert (ledger[first].reference, ledger[number].reference) == (None, "a design, width 3")


def test_candidates_for_which_there_was_no_time_are_not_in_the_history(writer):
    search = Search(writer, Random)
    trained = search.go_on()
    ledger = search.records.ledger
    ledger.add(10_000, "late", 0, "stopped")
    ledger.add(10_001, "broken", 0, "failed")
    assert {10_000, 10_001} <= set(ledger.ended())
    assert ledger.judged() == [*trained, 10_001] == ledger.representative(100)


def test_a_long_history_is_its_newest_half_and_the_best_of_the_rest(writer, monkeypatch):
    search = Search(writer, Random)
    ids = [number for _ in range(3) for number in search.go_on()]
    best = ids[:3]
    for number in best:
        search.records.ledger.set_accuracy(number, search.records.rung(CONFIG.epochs), 0.9)
    assert search.records.ledger.representative(6) == [*best, *ids[-3:]]
    assert search.records.ledger.representative(100) == ids
    monkeypatch.setattr(module, "HISTORY", 6)
    trials = search.records.history(search.proposer.screener.domains, with_architecture=False)
    assert [trial.generation for trial in trials] == [0, 0, 0, 2, 2, 2]
    assert all(trial.architecture is None for trial in trials)
