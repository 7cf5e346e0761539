"""Who chooses the candidates of a search: the proxy by its share, which must be earned, the strategy, and chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

import results
from nas import launch
from nas.audit.reliance import WINS, Reliance
from nas.funnel import generation
from nas.launch import resume
from nas.plugins import load_plugin
from nas.strategies.guided import Guided

from ..searching import InProcess, assert_same, content, search, space, toy

LONG = {"evaluator": toy("Known"), "train": 36, "generation": 6, "pool": 60, "finalists": 1}


def decisions_of(store):
    return list(results.open(str(store)).memo("toy")["reliance"].values())


def fixed(monkeypatch, share):
    """Give the proxy a fixed share."""
    monkeypatch.setattr(
        generation, "decide", lambda _, trained: Reliance(share=share, trained=trained, reason="a test")
    )


def test_the_proxy_chooses_a_part_of_the_first_generation(store, in_process):
    search(store, train=5, generation=5)
    (decision,) = decisions_of(store)
    assert decision["share"] == 1 - WINS
    assert decision["reason"] == "no comparison yet"
    assert sorted(decision["ordered"] + decision["own"]) == [0, 1, 2, 3, 4]
    assert len(decision["ordered"]) == 2


@pytest.mark.parametrize("strategy", ["random", "nsga2"])
def test_an_informative_proxy_earns_its_share(store, in_process, strategy):
    study = search(store, **LONG, strategy=strategy, proxy=toy("knows"))
    shares = [decision["share"] for decision in decisions_of(store)]
    assert shares[0] == 1 - WINS < np.mean(shares[2:])
    trained = study.first_rung()
    assert trained.control.sum() == 3
    assert trained.ranked.sum() == sum(len(decision["ordered"]) for decision in decisions_of(store))
    assert not (trained.ranked & trained.control).any()
    assert len(study.audit_lines().splitlines()) == 3


@pytest.mark.parametrize("strategy", ["random", "nsga2"])
def test_a_misleading_proxy_loses_its_share(store, in_process, strategy):
    study = search(store, **LONG, proxy=toy("misleads"), strategy=strategy)
    decisions = decisions_of(store)
    shares = [decision["share"] for decision in decisions]
    assert shares[0] == 1 - WINS > 0.2 > max(shares[2:])
    assert sum(len(decision["ordered"]) for decision in decisions) <= 10
    candidates = study.candidates()
    trained = candidates[candidates.position.notna()]
    assert len(trained) == 36
    assert trained.control.sum() == 3  # controls go on
    unordered = next(g for g, decision in enumerate(decisions) if not decision["ordered"])
    outranked = candidates[candidates.status == "outranked"].groupby("generation").size()
    assert outranked.get(0, 0) > 20
    assert outranked.get(unordered, 0) <= 1  # no screening for no order: a control took a place
    log = (study.store.files("toy") / "log.txt").read_text()
    assert log.count("misleads chose") == 6
    assert "of generation 6: its candidates won" in study.audit_lines()


def test_without_a_share_the_order_is_that_of_the_proposals(store, in_process, monkeypatch):
    """The first feasible, new proposals, as they were asked for."""
    fixed(monkeypatch, 0.0)
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


def test_with_the_whole_share_all_but_the_controls_are_ordered(store, in_process, monkeypatch):
    fixed(monkeypatch, 1.0)
    study = search(store, train=20, generation=5, pool=40)
    assert all(not decision["own"] for decision in decisions_of(store))
    trained = study.first_rung()
    assert (trained.ranked | trained.control).all()


def test_a_generation_of_one_may_be_a_control(store, in_process):
    study = search(store, train=12, generation=1, pool=4)
    trained = study.first_rung()
    assert len(trained) == 12
    assert trained.control.tolist() == [False] * 9 + [True] + [False] * 2


def test_a_share_is_kept_in_the_mean_of_many_generations(store, in_process, monkeypatch):
    fixed(monkeypatch, 0.3)
    search(store, train=60, generation=3, pool=12)
    counts = [len(decision["ordered"]) for decision in decisions_of(store)]
    assert set(counts) <= {0, 1, 2}
    assert 0.15 < np.mean(counts) / 2.7 < 0.45


def test_the_strategy_chooses_its_own_candidates_without_the_proxy(store, in_process, monkeypatch):
    heard, score = [], Guided.score

    def recorded(strategy, architecture, proxy):
        heard.append((len(strategy.history), proxy))
        return score(strategy, architecture, proxy)

    monkeypatch.setattr(Guided, "score", recorded)
    fixed(monkeypatch, 0.0)
    search(store, **LONG, strategy="guided")
    assert heard
    assert {proxy for _, proxy in heard} == {None}
    assert [trained for trained, _ in heard].count(30) > 3 * 6  # it screens a pool for an order of its own


@pytest.mark.parametrize("strategy", ["random", "guided"])
def test_a_resumed_study_decides_the_same(tmp_path, in_process, monkeypatch, strategy):
    settings = LONG | {"proxy": toy("misleads"), "strategy": strategy}
    search(tmp_path / "whole.db", **settings)
    parts = tmp_path / "parts.db"
    search(parts, **settings | {"train": 6})
    for train in (18, 24, 30, 36):
        monkeypatch.setattr(launch, "LocalRunner", InProcess)
        resume("toy", store=str(parts), train=train)
    assert decisions_of(tmp_path / "whole.db") == decisions_of(parts)
    candidates = [content(path)["candidates"] for path in (tmp_path / "whole.db", parts)]
    assert_same({"candidates": candidates[0]}, {"candidates": candidates[1]})


def test_failed_candidates_lose_their_comparisons(store, in_process, monkeypatch):
    """A proxy that prefers networks that cannot be trained loses its share."""
    compared = []

    def noted(generations, trained):
        compared.append(generations)
        return Reliance(share=0.5, trained=trained, reason="a test")

    monkeypatch.setattr(generation, "decide", noted)
    study = search(store, train=8, evaluator=toy("Raises"), generation=4)
    floor = study.score().floor
    failed = study.candidates().query("status == 'failed'")
    assert len(failed)
    assert any(floor in group for groups in compared[-1] for group in groups)


def test_numbers_of_the_memo_are_plain(store, in_process):
    search(store, **LONG, proxy="macs")
    for decision in decisions_of(store):
        assert set(decision) == {"share", "trained", "reason", "ordered", "own"}
        assert math.isfinite(decision["trained"])
