"""A search whose store marks references: every display shows them, and compares the search with the best one."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

import nas
from nas.funnel.full import finals
from nas.reporting.console import summary
from nas.reporting.formats import reference_text

from ..searching import arguments
from .test_html_report import parsed

REFERENCE = "ResNet-8, width 16"


@pytest.fixture
def searched(cli, in_process, monkeypatch):
    """A finished study of eight candidates, two finalists in two repeats each."""
    monkeypatch.setattr(finals, "LEAST_GAIN", -1.0)  # the second need not add to the front
    assert cli(*arguments("nas.db", seeds=2, final_epochs=20))[0] == 0
    return nas.Study("toy", store="nas.db")


def mark(study, key):
    """Mark a candidate as a reference."""
    with study.store.writer(study.name, study.store.settings(study.name)) as writer:
        (number,) = (row["id"] for row in writer.rows() if row["key"] == key and row["position"] is not None)
        writer.update_candidates({number: {"reference": REFERENCE}})
        writer.finish()


def test_every_display_compares_the_search_with_its_reference(searched, cli):
    best, candidates = searched.best(), searched.candidates()
    (other,) = candidates[(candidates.fidelity == 20) & (candidates.key != best.key)].key  # the other finalist
    mark(searched, other)
    comparison = searched.against_reference()
    assert (comparison.best.key, comparison.reference.key) == (best.key, other)
    assert (comparison.fidelity, comparison.repeats) == (20, 2)
    trainings = searched.store.evaluations("toy").query("fidelity == 20").groupby("candidate").score.mean()
    assert comparison.difference == pytest.approx(trainings[best.key] - trainings[other])
    sentence = reference_text(comparison)
    assert "mean of 2 repeats" in sentence
    assert "on test images" in sentence
    _, status, _ = cli("status", "toy")
    assert sentence in status.splitlines()
    assert f"Best anytime accuracy {best.anytime_accuracy:.4f}: {best.key}" in status
    assert sentence in summary(searched).splitlines()
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    assert sentence in parsed("toy.html").body()


def test_every_display_marks_references(searched, cli):
    best, front = searched.best(), searched.front()
    mark(searched, best.key)
    assert cli("front", "toy")[1].count(REFERENCE) == (front.candidate == best.key).sum() > 0
    other = next(key for key in searched.first_rung().key if key != best.key)
    assert f"space {best.space}, reference {REFERENCE}, generation" in cli("show", best.key, "--study", "toy")[1]
    assert "reference" not in cli("show", other, "--study", "toy")[1]
    assert cli("report", "toy", "--proxy", "macs")[0] == 0
    page = parsed("toy.html")
    assert f"Space {best.space}, reference {REFERENCE}, anytime accuracy" in page.body()
    assert page.texts("td").count(f"{best.space}, reference {REFERENCE}") == (front.candidate == best.key).sum()
    rung = searched.first_rung().set_index("key")
    assert rung.reference.dropna().to_dict() == {best.key: REFERENCE}
    assert not rung.ranked[best.key]
    status = cli("status", "toy")[1]
    assert f"({best.space}, reference {REFERENCE})" in status
    assert f"The best network is the reference {REFERENCE}." in status.splitlines()


def test_without_references_nothing_is_compared(searched, cli):
    assert searched.against_reference() is None
    assert "reference" not in cli("status", "toy")[1]
    assert "reference" not in cli("front", "toy")[1]


def test_a_summary_names_the_best_network(searched):
    best = searched.best()
    text = summary(searched)
    assert f"nas show {best.key[:8]} --study toy" in text
    assert f'nas.load("{best.key[:8]}"' in text.replace("\\", "")
    with closing(sqlite3.connect("nas.db")) as opened, opened:
        opened.execute("UPDATE evaluations SET weights = NULL")
    assert "nas.load" not in summary(searched)
