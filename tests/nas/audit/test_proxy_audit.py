"""Whether a search relies on its proxy, by the audit on its trained candidates, and searches that do not."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

import results
from nas import launch
from nas.audit.audit import FEW
from nas.audit.proxy_audit import audit_proxies, decide
from nas.audit.reference import ReferenceScores
from nas.audit.reliance import Reliance, relied_on
from nas.funnel import generation
from nas.launch import resume, run
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.elements import Task
from nas.strategies.guided import Guided

from ..searching import InProcess, assert_same, config, content, search, space, toy

TASK = Task(input_shape=(1, 8, 8), num_classes=10)
LONG = {"evaluator": toy("Known"), "train": 36, "generation": 6, "pool": 60, "finalists": 1}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference scores of a study of one space."""
    spaces = {"Small": load_plugin("nas.search_spaces", space())()}
    return ReferenceScores(tmp_path_factory.mktemp("reference"), config(), TASK, spaces)


def decided(reference, name, count, accuracy):
    """The decision on a proxy after the first networks of the reference sample have been trained."""
    keys = list(dict.fromkeys(reference.sample(200)))[:count]
    values = [accuracy(reference.architecture(key)) for key in keys]
    return decide(reference, (name, load_proxy(name)), keys, reference.architecture, values, rng_seed=0)


def test_few_candidates_decide_nothing(reference):
    decision = decided(reference, toy("misleads"), FEW - 1, load_proxy(toy("knows")))
    assert (decision.relied, decision.trained) == (True, FEW - 1)
    assert "fewer than 20" in decision.reason


@pytest.mark.parametrize(("proxy", "relied"), [("knows", True), ("misleads", False)])
def test_a_good_proxy_is_relied_on_and_a_bad_one_is_not(reference, proxy, relied):
    decision = decided(reference, toy(proxy), 40, load_proxy(toy("knows")))
    assert decision.relied is relied
    assert decision.reason.endswith("n = 40")


@pytest.mark.parametrize("size", ["macs", "depth"])
def test_a_size_is_no_proxy(reference, size):
    decision = decided(reference, size, 40, load_proxy("macs"))
    assert not decision.relied
    assert "size removed undefined" in decision.reason


def test_a_proxy_that_always_fails_cannot_be_audited(reference):
    decision = decided(reference, space("").replace("spaces.py:", "parts.py:raises"), 30, load_proxy("macs"))
    assert (decision.relied, decision.reason) == (True, "it cannot be audited")


def test_rows_do_not_depend_on_the_other_proxies(reference):
    keys = list(dict.fromkeys(reference.sample(200)))[:40]
    names = (toy("knows"), "macs", "dtmc", space("").replace("spaces.py:", "parts.py:raises_sometimes"))
    accuracy = [load_proxy(names[0])(reference.architecture(key)) for key in keys]

    def rows(*asked):
        proxies = {name: load_proxy(name) for name in asked}
        audited = audit_proxies(
            reference, proxies, keys, reference.architecture, accuracy, references=lambda _: 100, rng_seed=3
        )
        return {row.proxy: str(asdict(row)) for row in audited}

    together = rows(*names)
    assert list(together) == list(names)
    for name in names:
        assert rows(name) == {name: together[name]}


def test_proxies_missing_in_the_memo_were_relied_on():
    decisions = {g: Reliance(relied=relied, trained=20, reason="") for g, relied in ((3, False), (4, True))}
    assert [relied_on(decisions, generation) for generation in (0, 3, 4, 5)] == [True, False, True, True]


# In a search ---------------------------------------------------------------------------------------------------------


def decisions_of(store):
    return results.open(str(store)).memo("toy")["reliance"]


def test_a_search_continues_to_rely_on_an_informative_proxy(store, in_process):
    study = search(store, **LONG, proxy=toy("knows"))
    assert [decision["relied"] for decision in decisions_of(store).values()] == [True] * 6
    assert study.first_rung().ranked.sum() == 33
    assert len(study.audit_lines().splitlines()) == 2
    assert study.proxy_audit().comparison()[1].controls == 3


@pytest.mark.parametrize("proxy", ["misleads", "macs"])
@pytest.mark.parametrize("strategy", ["random", "nsga2"])
def test_a_search_stops_relying_on_a_proxy_that_does_not(store, in_process, strategy, proxy):
    proxy = proxy if proxy == "macs" else toy(proxy)
    study = search(store, **LONG, proxy=proxy, strategy=strategy)
    relied = [decision["relied"] for decision in decisions_of(store).values()]
    first = relied.index(False)
    assert first >= 4
    assert not any(relied[first:])
    candidates = study.candidates()
    outranked = candidates[candidates.status == "outranked"].groupby("generation").size()
    assert outranked.get(0, 0) > 20
    assert outranked.get(first, 0) <= 1  # no screening for no order: a control took a place
    trained = candidates[candidates.position.notna()]
    assert len(trained) == 36
    assert trained.control.sum() == 3  # controls go on
    assert set(study.first_rung().query("ranked").generation) == set(range(first))
    assert f"From generation {first + 1} on, the order was the strategy's own" in study.audit_lines()
    log = (study.store.files("toy") / "log.txt").read_text()
    assert log.count("From generation") == 1


def test_the_order_without_a_proxy_is_that_of_the_proposals(store, in_process, monkeypatch):
    """The first feasible, new proposals, as they were asked for."""
    monkeypatch.setattr(generation, "decide", lambda *_, **__: Reliance(relied=False, trained=0, reason="a test"))
    proposed = []
    propose = load_plugin("nas.search_spaces", space()).architecture

    def recorded(self, choose, task, *, points):
        architecture = propose(self, choose, task, points=points)
        proposed.append(architecture.key)
        return architecture

    monkeypatch.setattr(load_plugin("nas.search_spaces", space()), "architecture", recorded)
    study = search(store, train=6, generation=6)
    trained = study.candidates().dropna(subset="position").sort_values("position")
    rank = {key: place for place, key in reversed(list(enumerate(proposed)))}
    assert trained.key.map(rank).is_monotonic_increasing
    assert not (study.candidates().status == "outranked").any()


def test_the_strategy_does_not_hear_of_a_proxy_that_is_not_relied_on(store, in_process, monkeypatch):
    heard, score = [], Guided.score

    def recorded(strategy, architecture, proxy):
        heard.append((len(strategy.history), proxy, {trial.proxy is None for trial in strategy.history}))
        return score(strategy, architecture, proxy)

    monkeypatch.setattr(Guided, "score", recorded)
    search(store, **LONG, proxy=toy("misleads"), strategy="guided")
    for trained, proxy, nones in heard:
        assert (proxy is None) == (trained >= FEW)
        assert nones == ({trained >= FEW} if trained else set())
    full = [trained for trained, _, _ in heard]
    assert full.count(30) > 3 * 6  # it screens a pool for an order of its own


def test_the_decision_may_be_taken_back(store, in_process, monkeypatch):
    said = []

    def scripted(reference, proxy, keys, *_, **__):
        return Reliance(relied=len(keys) != 8, trained=len(keys), reason=f"{len(keys)} trained")

    class Heard:
        say = staticmethod(said.append)
        show = staticmethod(lambda state: None)

    monkeypatch.setattr(generation, "decide", scripted)
    study = run(config(train=16), store=str(store), progress=Heard())
    assert [decision["relied"] for decision in decisions_of(store).values()] == [True, True, False, True]
    assert [line.partition(",")[0] for line in said] == ["From generation 3 on", "From generation 4 on"]
    assert set(study.first_rung().query("ranked").generation) == {0, 1, 3}
    assert "again (12 trained). This changed 2 times." in study.audit_lines()


@pytest.mark.parametrize("strategy", ["random", "guided"])
def test_a_resumed_study_decides_the_same(tmp_path, in_process, monkeypatch, strategy):
    settings = LONG | {"proxy": toy("misleads"), "strategy": strategy}
    search(tmp_path / "whole.db", **settings)
    parts = tmp_path / "parts.db"
    search(parts, **settings | {"train": 6})
    for train in (18, 24, 30, 36):
        for scores in parts.with_name("parts.db.files").rglob("scores.json"):
            scores.unlink()  # it only saves time
        monkeypatch.setattr(launch, "LocalRunner", InProcess)
        resume("toy", store=str(parts), train=train)
    assert decisions_of(tmp_path / "whole.db") == decisions_of(parts)
    assert any(not decision["relied"] for decision in decisions_of(parts).values())
    candidates = [content(path)["candidates"] for path in (tmp_path / "whole.db", parts)]
    assert_same({"candidates": candidates[0]}, {"candidates": candidates[1]})


def test_numbers_of_the_memo_are_plain(store, in_process):
    search(store, **LONG, proxy="macs")
    for decision in decisions_of(store).values():
        assert set(decision) == {"relied", "trained", "reason"}
        assert math.isfinite(decision["trained"])
